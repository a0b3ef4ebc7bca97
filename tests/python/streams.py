"""Streams of RPC PDUs, each with a number, and their sums: what one side sent is what the other received."""

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# What Windows makes of its fragments.
FRAGMENT = 5840
# Sent at once.
FRAGMENTS = 45


@dataclass
class Sum:
    """How much, and of what."""

    count: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, data: bytes | memoryview) -> None:
        self.count += len(data)
        self.digest.update(data)

    def told(self) -> dict:
        return {"bytes": self.count, "digest": self.digest.hexdigest()}


def send(write: Callable[[memoryview], None], length: int, kind: int) -> Sum:
    """Writes so many bytes of PDUs; the last may be shorter than its header says."""
    head = struct.pack("<BBBBIHH", 5, 0, kind, 3, 0x10, FRAGMENT, 0)
    block = bytearray((head + bytes(FRAGMENT - len(head))) * FRAGMENTS)
    sum, number = Sum(), 0
    while sum.count < length:
        for index in range(FRAGMENTS):
            # The call's number, twice: as the header has it, and at the beginning of the stub.
            struct.pack_into("<I8xQ", block, index * FRAGMENT + 12, number & 0xFFFF_FFFF, number)
            number += 1
        piece = memoryview(block)[: length - sum.count]
        sum.add(piece)
        write(piece)
    return sum


def receive(came: bytes, body: Iterable[bytes]) -> Sum:
    """Reads to the end, after what `came` before."""
    sum = Sum()
    sum.add(came)
    for piece in body:
        sum.add(piece)
    return sum

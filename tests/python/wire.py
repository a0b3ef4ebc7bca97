"""HTTP/1.1 by hand over asyncio streams, as little of it as clients need that pipeline, abort and upload while they are answered.

No client of a library does these things on purpose. What a request is about, its caller decides.
"""

import asyncio
import ssl
from dataclasses import dataclass

# Heads are small here; bodies are read in pieces of at most this.
PIECE = 64 << 10


class Broken(Exception):
    """The other side closed, or said what is not HTTP/1.1."""


@dataclass
class Head:
    """A response's status and fields, names in lower case; of fields that come more than once, all values."""

    status: int
    fields: dict[str, list[str]]

    def get(self, name: str) -> str:
        """A field's first value; empty where there is none."""
        return self.fields.get(name, [""])[0]

    @property
    def closes(self) -> bool:
        return self.get("connection").lower() == "close"


class Connection:
    """A client's TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: str, port: int, name: str, trust: ssl.SSLContext) -> "Connection":
        opening = asyncio.open_connection(address, port, ssl=trust, server_hostname=name, limit=1 << 20)
        return cls(*await asyncio.wait_for(opening, 30))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """The next response's head, interim ones included."""
        try:
            text = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Broken(f"closed where a head was to come, after {len(error.partial)} bytes") from None
        first, *lines = text.decode("latin-1").split("\r\n")[:-2]
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise Broken(f"not a status line: {first!r}")
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        return Head(int(rest[:3]), fields)

    async def body(self, head: Head, at_most: int | None = None) -> bytes:
        """The response's body, or no more than about `at_most` bytes of it."""
        if head.get("transfer-encoding").lower() == "chunked":
            return await self._chunks(at_most)
        length = int(head.get("content-length") or 0)
        return await self._exactly(length if at_most is None else min(length, at_most))

    async def _chunks(self, at_most: int | None) -> bytes:
        body = b""
        while at_most is None or len(body) < at_most:
            size = int((await self._line()).split(b";")[0], 16)
            body += await self._exactly(size)
            await self._line()
            if size == 0:
                break
        return body

    async def _line(self) -> bytes:
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise Broken("closed within a chunked body")
        return line[:-2]

    async def _exactly(self, length: int) -> bytes:
        try:
            return await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise Broken(f"closed after {len(error.partial)} of {length} bytes") from None

    async def close(self) -> None:
        """Closes in the orderly way, and waits for no more than a moment."""
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), 1)
        except (OSError, asyncio.TimeoutError):
            pass

    def abort(self) -> None:
        """Is gone, as when a machine sleeps or a process is killed."""
        self.writer.transport.abort()


def trust(ca: str) -> ssl.SSLContext:
    """TLS that trusts the certificates of one file, and offers HTTP/1.1 alone."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    return context

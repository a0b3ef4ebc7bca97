"""RPC over HTTP v2, the side of the proxies and the server in one: MS-RPCH 2.1.2.1.1 to 2.1.2.1.6 (requests and responses of the
channels, and the echo), 2.2.2 (the URI), 2.2.3.6 (RTS PDUs), 2.2.4.2 (CONN/A1), 2.2.4.4 (CONN/A3), 2.2.4.5 (CONN/B1), 2.2.4.9
(CONN/C2), 2.2.4.48 (the echo's PDU), 3.2.1.5.3.1 (the order of all that). PDUs of RPC itself are C706's, chapter 12.

Flow control of the protocol's own (3.2.1.1.5) is left out on purpose: what holds back here is TCP, and so the proxy in between.

The port in the URI says what is behind the proxies:

    6001    a server that answers a bind, and calls with what they carry
    6002    a server that fills its OUT channel as fast as it goes, and reads its IN channel to the end

The IN channel's response, which comes at its end, tells what came and went, as JSON: see `Tally`.
"""

import base64
import json
import queue
import struct
import threading
import time
import uuid

import serving
import streams

# The OUT channel's body, 128 KiB to 2 GiB (2.1.2.1.4), where the client's X-Channel-Length, which is the lab's own, asks for none.
OUT_LENGTH = 1 << 30
# 2.1.2.1.5: a body of so little is none of a channel.
ECHO_LENGTH = 0x10
# A peer that never comes.
PATIENCE = 60

RTS = 20
REQUEST, RESPONSE, BIND, BIND_ACK = 0, 2, 11, 12
FLAG_NONE, FLAG_PING, FLAG_ECHO = 0, 1, 0x40
CONNECTION_TIMEOUT, COOKIE, VERSION, RECEIVE_WINDOW_SIZE = 2, 3, 6, 0


class Virtual:
    """A virtual connection: an OUT channel, an IN channel, and what goes between them."""

    def __init__(self) -> None:
        self.joined = threading.Event()
        self.answers: queue.Queue[bytes | None] = queue.Queue()
        self.sent: queue.Queue[streams.Sum] = queue.Queue()


class Server:
    """/rpc."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._virtual: dict[bytes, Virtual] = {}

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        if not self._admits(connection, request):
            return True
        length = int(request.fields.get("content-length", "0"))
        if length <= ECHO_LENGTH:
            connection.respond(200, [("Content-Type", "application/rpc")], rts(FLAG_ECHO))
            return True
        streaming = request.raw_query.endswith(":6002")
        if request.method == "RPC_OUT_DATA":
            self._out(connection, request, streaming)
        elif request.method == "RPC_IN_DATA":
            self._in(connection, streaming)
        else:
            connection.respond(405, [])
        return False

    def _admits(self, connection: serving.Connection, request: serving.Request) -> bool:
        """Whoever logs on, or says that it is nobody and means port 6002."""
        authorization = request.fields.get("authorization", "")
        challenges: list[str] = []
        if authorization.startswith("Basic "):
            connection.logon.user = base64.b64decode(authorization[6:]).decode().partition(":")[0]
        elif authorization:
            challenges = [told] if (told := connection.logon.handle(authorization)) else []
        if connection.logon.user is not None or request.raw_query.endswith(":6002"):
            return True
        fields = [("WWW-Authenticate", challenge) for challenge in challenges or ["NTLM", "Basic realm=\"lab\""]]
        connection.respond(401, fields)
        return False

    def _find(self, cookie: bytes) -> Virtual:
        with self._lock:
            return self._virtual.setdefault(cookie, Virtual())

    def _out(self, connection: serving.Connection, request: serving.Request, streaming: bool) -> None:
        connect = connection.whole_body()
        virtual = self._find(cookies(connect)[0])
        length = int(request.fields.get("x-channel-length", OUT_LENGTH))
        fields = [("Content-Type", "application/rpc"), ("Content-Length", str(length))]
        connection.begin(200, fields)
        opening = rts(FLAG_NONE, command(CONNECTION_TIMEOUT, 120_000))
        connection.data(opening)
        if not virtual.joined.wait(PATIENCE):
            raise ConnectionError("nobody opens the IN channel")
        joined = [command(VERSION, 1), command(RECEIVE_WINDOW_SIZE, 0x10000), command(CONNECTION_TIMEOUT, 120_000)]
        joined = rts(FLAG_NONE, *joined)
        connection.data(joined)
        if streaming:
            rest = length - len(opening) - len(joined)
            virtual.sent.put(streams.send(connection.data, rest, RESPONSE))
            connection.end()
        else:
            while (answer := virtual.answers.get()) is not None:
                connection.data(answer)

    def _in(self, connection: serving.Connection, streaming: bool) -> None:
        body = connection.body()
        arrived = PduReader(body)
        virtual = self._find(cookies(arrived.pdu())[0])
        virtual.joined.set()
        if streaming:
            # The sender has long filled what lies between before this one reads.
            time.sleep(2)
            received = streams.receive(arrived.rest(), body)
            sent = virtual.sent.get(timeout=600)
            tally = {"received": received.told(), "sent": sent.told()}
            connection.respond(200, [("Content-Type", "application/json")], json.dumps(tally).encode())
            return
        try:
            while pdu := arrived.pdu():
                if answer := answered(pdu):
                    virtual.answers.put(answer)
        finally:
            virtual.answers.put(None)


class PduReader:
    """A channel's PDUs, one by one."""

    def __init__(self, body) -> None:
        self._body = body
        self._buffer = b""

    def pdu(self) -> bytes:
        """The next; empty at the end."""
        if not self._fill(16):
            return b""
        length = struct.unpack_from("<H", self._buffer, 8)[0]
        if not self._fill(length):
            return b""
        pdu, self._buffer = self._buffer[:length], self._buffer[length:]
        return pdu

    def rest(self) -> bytes:
        """What came beyond the last one."""
        rest, self._buffer = self._buffer, b""
        return rest

    def _fill(self, length: int) -> bool:
        while len(self._buffer) < length:
            if not (piece := next(self._body, b"")):
                return False
            self._buffer += piece
        return True


def answered(pdu: bytes) -> bytes | None:
    """What an RPC server says to a PDU."""
    kind, call = pdu[2], pdu[12:16]
    if kind == BIND:
        secondary = b"6001\0"
        head = struct.pack("<HHIH", 5840, 5840, 0x1234, len(secondary)) + secondary
        head += bytes(-(16 + len(head)) % 4)
        # One result: accepted, with the transfer syntax that was proposed (C706 12.6.4.4).
        syntax = pdu[52:72]
        return packed(BIND_ACK, call, head + struct.pack("<BBHHH", 1, 0, 0, 0, 0) + syntax)
    if kind == REQUEST:
        stub = pdu[24:]
        return packed(RESPONSE, call, struct.pack("<IHBB", len(stub), 0, 0, 0) + stub)
    return None


def packed(kind: int, call: bytes, body: bytes) -> bytes:
    """A PDU with the header that all have (C706 12.6.3.1), first and last fragment of its call."""
    return struct.pack("<BBBBIHH4s", 5, 0, kind, 3, 0x10, 16 + len(body), 0, call) + body


def rts(flags: int, *commands: bytes) -> bytes:
    """An RTS PDU (2.2.3.6)."""
    return packed(RTS, bytes(4), struct.pack("<HH", flags, len(commands)) + b"".join(commands))


def command(kind: int, value: int) -> bytes:
    """An RTS command that has one number."""
    return struct.pack("<II", kind, value)


def cookie(value: uuid.UUID) -> bytes:
    """An RTS command of a cookie (2.2.3.5.4)."""
    return struct.pack("<I16s", COOKIE, value.bytes_le)


def cookies(pdu: bytes) -> list[bytes]:
    """Those of a CONN/A1 or CONN/B1: the virtual connection's first, then the channel's."""
    if len(pdu) < 68 or pdu[2] != RTS or struct.unpack_from("<I", pdu, 28)[0] != COOKIE:
        raise ConnectionError(f"not the beginning of a channel: {pdu[:64].hex()}")
    return [pdu[32:48], pdu[52:68]]

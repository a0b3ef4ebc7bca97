"""A server that reads HTTP/1.1 by h11 and answers each request with what it read: X-Read: METHOD TARGET BYTES-OF-CONTENT.

What h11 refuses is answered with 400, after which the connection ends. The arguments are an address and a port.
"""

import asyncio
import sys

import h11

# Above all that is sent here: h11 would refuse a longer head, though it has one reading.
LONGEST_HEAD = 256 << 10


def shown(text: bytes) -> str:
    """Visible ASCII as it is, other bytes by their number."""
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in text)


class Reader:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)

    async def run(self) -> None:
        try:
            while await self.request():
                self.http.start_next_cycle()
        except h11.RemoteProtocolError:
            self.refuse()
        except (h11.LocalProtocolError, OSError):
            pass
        self.writer.close()

    async def request(self) -> bool:
        """Reads and answers one; whether another can follow."""
        read, length = None, 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(64 << 10))
            elif isinstance(event, h11.Request):
                read = f"{shown(event.method)} {shown(event.target)}"
            elif isinstance(event, h11.Data):
                length += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.send(h11.Response(status_code=200, headers=[("X-Read", f"{read} {length}"), ("Content-Length", "0")]))
                self.send(h11.EndOfMessage())
                await self.writer.drain()
                return self.http.our_state is h11.DONE
            else:
                return False

    def refuse(self) -> None:
        if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.send(h11.Response(status_code=400, headers=[("Connection", "close"), ("Content-Length", "0")]))
            self.send(h11.EndOfMessage())

    def send(self, event: h11.Event) -> None:
        self.writer.write(self.http.send(event) or b"")


async def main() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Reader(reader, writer).run()

    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]))
    await server.serve_forever()


asyncio.run(main())

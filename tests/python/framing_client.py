"""A client that reads HTTP/1.1 by h11. Each connection brings the first request's method, a line, and then all that came back for it
and for a GET after it; what goes back is a line for each response that is whole: its status, and its bytes of content.

The arguments are an address and a port.
"""

import asyncio
import sys

import h11

# Above all that is sent here: h11 would refuse a longer head, though it has one reading.
LONGEST_HEAD = 256 << 10


def responses(methods: list[str], stream: bytes) -> list[str]:
    """The final responses of a stream that has ended, up to the first that is none."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
    if stream:
        http.receive_data(stream)
    http.receive_data(b"")
    found: list[str] = []
    try:
        for method in methods:
            http.send(h11.Request(method=method, target="/", headers=[("Host", "mail.example.test")]))
            http.send(h11.EndOfMessage())
            found.append(response(http))
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                break
            http.start_next_cycle()
    except (EOFError, h11.RemoteProtocolError):
        pass
    return found


def response(http: h11.Connection) -> str:
    """The next final response; EOFError: the stream ends before it does."""
    status, length = 0, 0
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            length += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return f"{status} {length}"
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, _, stream = (await reader.read()).partition(b"\n")
    for line in responses([method.decode(), "GET"], stream):
        writer.write(f"{line}\n".encode())
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]))
    await server.serve_forever()


asyncio.run(main())

"""MAPI over HTTP, the server's side: how a response comes, not what is in it.

MS-OXCMAPIHTTP 2.2.2.2 (common response format: chunked, and a second set of header fields within the body), 2.2.3.3.1
(X-RequestType), 2.2.3.3.5 (X-PendingPeriod), 2.2.7 (the meta-tags PROCESSING, PENDING and DONE), 3.2.5.2 (when each is sent).

What is special here: neither side sends on before the other has confirmed, over a channel that no proxy sees, that all so far has
arrived. Both sides know that channel as a Unix socket: the store's `mapi.sock`. The server writes the count of the request's bytes
to it, a line each time that some came, and reads from it the count of the response's bytes that the client has.
"""

import socket

import mailbox
import serving

# What a response says before it is done, a chunk each.
PENDINGS = 6
# Of a wait that nobody ends.
PATIENCE = 30


class Server:
    """/mapi."""

    def __init__(self, store: mailbox.Store) -> None:
        self._path = store.socket("mapi.sock")

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(PATIENCE)
            channel.connect(self._path)
            with channel.makefile("rw", newline="\n") as confirmations:
                self._confirm_request(connection, confirmations)
                self._respond(connection, request, confirmations)
        return True

    def _confirm_request(self, connection: serving.Connection, confirmations) -> None:
        count = 0
        for piece in connection.body():
            count += len(piece)
            confirmations.write(f"{count}\n")
            confirmations.flush()

    def _respond(self, connection: serving.Connection, request: serving.Request, confirmations) -> None:
        fields = [
            ("Content-Type", "application/mapi-http"),
            ("X-RequestType", request.fields["x-requesttype"]),
            ("X-RequestId", request.fields["x-requestid"]),
            ("X-ResponseCode", "0"),
            ("X-PendingPeriod", "15000"),
            ("Set-Cookie", "MapiContext=lab; path=/mapi; secure; HttpOnly"),
            ("Set-Cookie", "MapiSequence=1; path=/mapi; secure; HttpOnly"),
        ]
        connection.begin(200, fields)
        count = 0
        for chunk in chunks():
            connection.data(chunk)
            count += len(chunk)
            confirmed = confirmations.readline()
            if int(confirmed or -1) != count:
                raise ConnectionError(f"the client confirms {confirmed!r} of {count} bytes")
        connection.end()


def chunks() -> list[bytes]:
    """A response, as it is sent: the end of it byte by byte."""
    done = b"DONE\r\nX-ResponseCode: 0\r\nX-ElapsedTime: 90000\r\n\r\n"
    body = bytes(16)
    return [b"PROCESSING\r\n", *[b"PENDING\r\n"] * PENDINGS, done, *(body[n : n + 1] for n in range(len(body)))]

"""HTTP/1.1 over TLS as a server of the lab speaks it: a thread for each connection, which reads and writes as it is told, so that a
handler says exactly when what leaves.

Framing is h11's; what requests mean, the handlers decide (see standin).
"""

import http
import socket
import ssl
import sys
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h11

from logon import Logon

# Of what is read and written at once.
PIECE = 256 << 10


@dataclass
class Request:
    """A request's head. Names of fields are in lower case; of fields that come more than once, the last value."""

    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    fields: dict[str, str]
    head: h11.Request


class Connection:
    """A client's connection: of a proxy, most likely."""

    def __init__(self, number: str, stream: ssl.SSLSocket) -> None:
        self.number = number
        self.stream = stream
        self.logon = Logon()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 << 10)

    def request(self) -> Request | None:
        """The next request's head; None when the client has ended."""
        event = self._event()
        if not isinstance(event, h11.Request):
            return None
        target = urllib.parse.urlsplit(event.target.decode("latin-1"))
        query = dict(urllib.parse.parse_qsl(target.query))
        fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        return Request(event.method.decode(), target.path, query, target.query, fields, event)

    def body(self) -> Iterator[bytes]:
        """The request's body as it comes."""
        if self._http.they_are_waiting_for_100_continue and self._http.our_state is h11.SEND_RESPONSE:
            self.send(self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")))
        while self._http.their_state is h11.SEND_BODY:
            event = self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return

    def whole_body(self) -> bytes:
        return b"".join(self.body())

    def begin(self, status: int, fields: list[tuple[str, str]]) -> None:
        """Sends a response's head. Its body is chunked where no field says its length."""
        self.send(self._http.send(response(status, fields)))

    def data(self, data: bytes | memoryview) -> None:
        """Sends some of a response's body, as one chunk where it is chunked."""
        self.send(self._http.send(h11.Data(data=data)))

    def end(self) -> None:
        self.send(self._http.send(h11.EndOfMessage()))

    def respond(self, status: int, fields: list[tuple[str, str]], body: bytes = b"") -> None:
        """A whole response, in as few packets as it takes."""
        fields = [*fields, ("Content-Length", str(len(body)))]
        data = self._http.send(response(status, fields)) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        self.send(data + (self._http.send(h11.EndOfMessage()) or b""))

    def send(self, data: bytes | memoryview | None) -> None:
        if data:
            self.stream.sendall(data)

    def may_go_on(self) -> bool:
        """After an answer: whether another request can follow. What is left of the body is read."""
        for _piece in self.body():
            pass
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self.stream.recv(PIECE))
        return event


def response(status: int, fields: list[tuple[str, str]]) -> h11.Response:
    """A head, with the reason that some clients want to see."""
    return h11.Response(status_code=status, headers=fields, reason=http.HTTPStatus(status).phrase.encode())


# Answers a request; whether the connection goes on.
Handler = Callable[[Connection, Request], bool]


def serve(name: str, port: int, certificate: str, key: str, handler: Handler) -> None:
    """Serves for ever. `name` begins the numbers of connections."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    number = 0
    while True:
        plain, _address = listener.accept()
        number += 1
        arguments = (f"{name}-{number}", plain, tls, handler)
        threading.Thread(target=_converse, args=arguments, daemon=True).start()


def _converse(number: str, plain: socket.socket, tls: ssl.SSLContext, handler: Handler) -> None:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with tls.wrap_socket(plain, server_side=True) as stream:
            connection = Connection(number, stream)
            while (request := connection.request()) and handler(connection, request):
                if not connection.may_go_on():
                    break
            # As TLS has it: nothing is missing.
            stream.settimeout(5)
            stream.unwrap()
    except (h11.RemoteProtocolError, OSError):
        # Clients may go whenever they like.
        pass
    except Exception:
        traceback.print_exc(file=sys.stderr)

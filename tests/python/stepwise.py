"""HTTP/1.1 by h11 over a client's TLS connection, for clients that say when what of a request leaves, and read a response as it comes."""

import argparse
import socket
from collections.abc import Iterator

import h11

import serving
import wire


class Stream:
    """A connection to the site."""

    def __init__(self, args: argparse.Namespace, patience: float, source: tuple[str, int] | None = None) -> None:
        """Waits so long, in seconds, for whatever comes next. `source` is this side's address and port."""
        self._host = args.name
        self._http = h11.Connection(h11.CLIENT)
        plain = socket.create_connection((args.address, 443), patience, source)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = wire.trust(args.ca).wrap_socket(plain, server_hostname=args.name)

    def request(self, method: str, target: str, fields: list[tuple[str, str]]) -> None:
        """Sends a head."""
        fields = [("Host", self._host), *fields]
        self.send(h11.Request(method=method, target=target, headers=fields))

    def send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._stream.sendall(data)

    def event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._stream.recv(serving.PIECE))
        return event

    def pieces(self) -> Iterator[bytes]:
        """The response's body."""
        while isinstance(event := self.event(), h11.Data):
            yield bytes(event.data)

    def next(self) -> None:
        """After a whole response: another request can follow."""
        self._http.start_next_cycle()

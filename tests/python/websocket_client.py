"""A client of websockets (RFC 6455): messages in fragments both ways, pings between them and of its own, the closing handshake; and one
by hand that ends its side of the connection and listens on. And a request whose client does the same.

Prints, as JSON, what it saw.
"""

import argparse
import json
import socket
import ssl

import websockets.sync.client
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

import accounts
import published
import serving
import wire
from pyactivesync._wbxml import WBXMLReader, WBXMLWriter, find, text_of, wtag

# The lengths of what is sent: a message each, in fragments.
MESSAGES = [[1, 0, 5], [100_000, 70_000, 1], [3 << 20, 1 << 20], [7]]
PATIENCE = 30


def main() -> None:
    args = published.parser(__doc__).parse_args()
    published.only(args)
    print(json.dumps({"conversation": converse(args), "half": half_closed(args), "request": half_request(args)}))


def converse(args: argparse.Namespace) -> dict:
    """All messages, one after the other, and the end."""
    uri, trust = f"wss://{args.name}/owa/socket", wire.trust(args.ca)
    whole = []
    with websockets.sync.client.connect(uri, ssl=trust, max_size=None, proxy=None, open_timeout=PATIENCE) as client:
        for number, lengths in enumerate(MESSAGES):
            kind = str if number % 2 else bytes
            fragments = [piece(kind, number, length) for length in lengths]
            client.send(iter(fragments) if len(fragments) > 1 else fragments[0])
            came = list(client.recv_streaming(decode=kind is str))
            # The library ends a message of fragments by an empty one.
            whole.append(came == fragments + [kind()] * (len(fragments) > 1))
        ponged = client.ping(b"of the client").wait(PATIENCE)
    return {"whole": whole, "ponged": ponged, "code": client.close_code, "reason": client.close_reason}


def piece(kind: type, number: int, length: int) -> str | bytes:
    data = bytes((number + index * 31) % 95 + 32 for index in range(min(length, 95))) * (length // 95 + 1)
    return data[:length].decode() if kind is str else data[:length]


def half_closed(args: argparse.Namespace) -> dict:
    """What still comes after this side has ended."""
    stream = HalfClosing(args)
    protocol = ClientProtocol(parse_uri(f"wss://{args.name}/owa/socket"))
    protocol.send_request(protocol.connect())
    stream.send(protocol.data_to_send())
    while protocol.state is State.CONNECTING:
        protocol.receive_data(stream.receive())
    list(protocol.events_received())
    protocol.send_text(b"the last word")
    stream.send(protocol.data_to_send())
    stream.end_half()
    said = []
    while protocol.state is not State.CLOSED and (data := stream.receive()):
        protocol.receive_data(data)
        said += [frame.data.decode() for frame in protocol.events_received() if frame.opcode is Opcode.TEXT]
        # What it would answer can no longer be sent.
        protocol.data_to_send()
    return {"said": said, "code": protocol.close_rcvd.code if protocol.close_rcvd else 0}


def half_request(args: argparse.Namespace) -> dict:
    """What comes of a request, of which a server thinks for a while, when this side has ended right after it."""
    stream = HalfClosing(args)
    body = WBXMLWriter().tag("Ping", "Ping", [wtag("Ping", "HeartbeatInterval", text="2")]).render()
    fields = {
        "Host": args.name,
        "Authorization": accounts.basic("user", "word"),
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    target = "/Microsoft-Server-ActiveSync?Cmd=Ping&User=user&DeviceId=half&DeviceType=lab"
    stream.send([f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body])
    stream.end_half()
    came = b""
    while data := stream.receive():
        came += data
    head, _, answer = came.partition(b"\r\n\r\n")
    status = text_of(find(WBXMLReader(answer).parse(), "Ping.Status")) if answer else None
    return {"status": head.split(b"\r\n")[0].decode(), "answer": f"status {status}"}


class HalfClosing:
    """A TLS connection of which this side can end while the other goes on, which Python's sockets cannot."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._socket = socket.create_connection((args.address, 443), PATIENCE)
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = wire.trust(args.ca).wrap_bio(self._came, self._goes, server_hostname=args.name)
        self._with_input(self._tls.do_handshake)

    def send(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._tls.write(piece)
        self._flush()

    def receive(self) -> bytes:
        """What comes next; empty at the end."""
        try:
            return self._with_input(lambda: self._tls.read(serving.PIECE))
        except ssl.SSLZeroReturnError:
            return b""

    def end_half(self) -> None:
        """Says TLS's last word, and TCP's."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()
        self._socket.shutdown(socket.SHUT_WR)

    def _with_input(self, step):
        """Does what needs input, and gets it."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
            came = self._socket.recv(serving.PIECE)
            self._came.write(came) if came else self._came.write_eof()

    def _flush(self) -> None:
        if data := self._goes.read():
            self._socket.sendall(data)


if __name__ == "__main__":
    main()

"""A client of MAPI over HTTP that sends nothing more of a request before the server has confirmed what it sent, over a channel that no
proxy sees, and confirms what it receives in the same way: see mapi.

Prints, as JSON, a list of requests: how each was uploaded, how many times the server confirmed, and what the response's chunks were.
"""

import argparse
import json
import socket

import h11

import published
from mapi import PATIENCE
from stepwise import Stream

# What is sent at once of a request's body, in turn.
PIECES = [1, 2, 4096, 1, 20_000, 1]


class Mapi:
    """A client's connection, and the channel beside it."""

    def __init__(self, args: argparse.Namespace, listener: socket.socket) -> None:
        self._patience = args.patience
        self._listener = listener
        self._stream = Stream(args, args.patience)

    def request(self, kind: str, chunked: bool) -> dict:
        """One request and its response."""
        length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(sum(PIECES)))
        fields = [
            ("Content-Type", "application/mapi-http"),
            ("X-RequestType", kind),
            ("X-RequestId", "{E2EA6C1C-E61B-49E9-9CFB-38184F907552}:1"),
            ("X-ClientApplication", "Outlook/16.0.4266.1001"),
            length,
        ]
        self._stream.request("POST", "/mapi/emsmdb/?MailboxId=lab", fields)
        channel, _address = self._listener.accept()
        channel.settimeout(self._patience)
        with channel, channel.makefile("rw", newline="\n") as confirmations:
            confirmed = self._upload(confirmations)
            answer = self._download(confirmations)
        self._stream.next()
        return {"kind": kind, "chunked": chunked, "confirmed": confirmed, **answer}

    def _upload(self, confirmations) -> int:
        """Sends the body; how many pieces were confirmed before the next was sent."""
        sent = 0
        for length in PIECES:
            self._stream.send(h11.Data(data=bytes(length)))
            sent += length
            while int(confirmations.readline()) != sent:
                pass
        self._stream.send(h11.EndOfMessage())
        return len(PIECES)

    def _download(self, confirmations) -> dict:
        head = self._stream.event()
        count, pieces = 0, []
        for piece in self._stream.pieces():
            count += len(piece)
            pieces.append(piece.decode("latin-1"))
            confirmations.write(f"{count}\n")
            confirmations.flush()
        fields = {name.decode(): value.decode() for name, value in head.headers}
        return {"status": head.status_code, "type": fields.get("x-requesttype", ""), "pieces": pieces}


def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--channel", required=True, help="where the Unix socket is to be")
    parser.add_argument("--patience", type=int, default=PATIENCE, help="seconds after which nothing comes any more")
    args = parser.parse_args()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(args.channel)
        listener.listen()
        listener.settimeout(args.patience)
        mapi = Mapi(args, listener)
        kinds = [("Execute", False), ("Execute", True), ("NotificationWait", False)]
        print(json.dumps([mapi.request(*kind) for kind in kinds]))


if __name__ == "__main__":
    main()

"""A user who logs on by NTLM with a large body in every request: what curl avoids, and Outlook does not.

The answers to the first messages of a logon come while the upload is under way. The client sends half of the body, waits for the
answer, and then sends the rest, since a connection that is closed in between has lost its logon. Where it says Expect, it sends no
body before an interim or a final answer has come.

Prints, as JSON, a list of the logon's requests: what each was answered, and when.
"""

import argparse
import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator

import accounts
import published
import wire

# A wait of this long says that nothing comes.
PATIENCE = 20


class Upload:
    """One connection of one user, and the body that it sends each time."""

    def __init__(self, args: argparse.Namespace, connection: wire.Connection) -> None:
        self.args = args
        self.connection = connection
        self.body = bytes(range(256)) * (args.bytes // 256)

    async def run(self, user: str, password: str) -> list[dict]:
        client = accounts.ntlm(user, password)
        legs = []
        for authorization in ("", client.step(), None, ""):
            if authorization is None:
                # The challenge came with the leg before.
                authorization = client.step(base64.b64decode(legs[-1]["challenge"]))
            early = len(legs) < 2
            legs.append(await self._leg(authorization or b"", early))
        return legs

    async def _leg(self, token: bytes, early: bool) -> dict:
        """One request. Where its answer is to be early, the second half of the body is held back until it has come."""
        await self.connection.send(self._head(token))
        first = 0
        final = None
        if self.args.expect:
            head = await self._answer()
            first = head.status
            final = None if head.status == 100 else head
        pieces = list(self._pieces())
        for index, piece in enumerate(pieces):
            if early and final is None and index == len(pieces) // 2:
                final = await self._final()
            await self.connection.send(piece)
        head = final or await self._final()
        body = await asyncio.wait_for(self.connection.body(head), PATIENCE)
        digest = f"{len(self.body)} {hashlib.sha256(self.body).hexdigest()}"
        return {
            "first": first,
            "status": head.status,
            "challenge": head.get("www-authenticate").partition(" ")[2],
            "user": head.get("x-user"),
            "connection": head.get("x-connection"),
            "whole": head.get("x-uploaded") == digest and body != b"",
            "closes": head.closes,
        }

    async def _answer(self) -> wire.Head:
        return await asyncio.wait_for(self.connection.head(), PATIENCE)

    async def _final(self) -> wire.Head:
        while (head := await self._answer()).status == 100:
            pass
        return head

    def _head(self, token: bytes) -> bytes:
        lines = ["POST /EWS/echo HTTP/1.1", f"Host: {self.args.name}", "X-Nonce: upload"]
        if token:
            lines.append(f"Authorization: NTLM {base64.b64encode(token).decode()}")
        if self.args.expect:
            lines.append("Expect: 100-continue")
        lines.append("Transfer-Encoding: chunked" if self.args.chunked else f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _pieces(self) -> Iterator[bytes]:
        """The body as it is sent."""
        for start in range(0, len(self.body), wire.PIECE):
            piece = self.body[start : start + wire.PIECE]
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if self.args.chunked else piece
        if self.args.chunked:
            yield b"0\r\n\r\n"


async def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--bytes", type=int, required=True, help="the body's length, a multiple of 256")
    parser.add_argument("--expect", action="store_true", help="wait for 100 Continue")
    parser.add_argument("--chunked", action="store_true", help="without Content-Length")
    args = parser.parse_args()
    connection = await wire.Connection.open(args.address, 443, args.name, wire.trust(args.ca))
    user, password = accounts.first(args.accounts)
    legs = await Upload(args, connection).run(user, password)
    await connection.close()
    print(json.dumps(legs))


if __name__ == "__main__":
    asyncio.run(main())

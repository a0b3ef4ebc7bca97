"""A server that logs connections on, as IIS does: see logon.

Every answer names the user and the number of the connection that it came over, and echoes the request's nonce. An answer of 401
is sent at once; what is uploaded is read all the same, since a connection that closes loses its logon.

    /owa/healthcheck.htm    no logon
    /EWS/echo?bytes=N       a body of about N bytes, each line of it USER CONNECTION NONCE
    /EWS/closes             the same with one line, after which the connection is closed without a word, as an idle one is
    anything else           the same with one line

A POST's answer has the count and the digest of what was uploaded.
"""

import argparse
import asyncio
import hashlib
import itertools
import re
import ssl

import h11
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from spnego.channel_bindings import GssChannelBindings

import bindings
from logon import Logon

PIECE = 64 << 10


class Server:
    """What all connections have in common."""

    def __init__(self, name: str, demanded: GssChannelBindings | None) -> None:
        self.name = name
        self.demanded = demanded
        self._numbers = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(f"{self.name}-{next(self._numbers)}", Logon(self.demanded), reader, writer)
        try:
            while await connection.answer_one():
                pass
        except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError):
            # Clients may go whenever they like.
            pass
        finally:
            writer.close()


class Connection:
    """One connection, and who it is logged on as."""

    def __init__(
        self, number: str, logon: Logon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._number = number
        self._logon = logon
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 << 10)

    async def answer_one(self) -> bool:
        """Answers one request; whether another may follow."""
        request = await self._event()
        if not isinstance(request, h11.Request):
            return False
        fields = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        target = request.target.decode()
        challenges: list[str] = []
        if "authorization" in fields:
            challenge = self._logon.handle(fields["authorization"])
            challenges = [challenge] if challenge else []
        if target == "/owa/healthcheck.htm":
            await self._finish(200, [], b"200 OK<br/>")
        elif self._logon.user is None:
            await self._finish(401, challenges or ["Negotiate", "NTLM"], b"log on first\n")
        else:
            await self._echo(request, target, fields.get("x-nonce", "-"))
        # After an early answer the rest of the body is still to come.
        await self._upload()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if target == "/EWS/closes" and self._logon.user is not None:
            return False
        self._http.start_next_cycle()
        return True

    async def _echo(self, request: h11.Request, target: str, nonce: str) -> None:
        count, digest = await self._upload()
        line = f"{self._logon.user} {self._number} {nonce}\n".encode()
        wanted = re.search(r"bytes=(\d+)", target)
        body = line * max(1, int(wanted[1]) // len(line) if wanted else 1)
        fields = [
            ("X-User", self._logon.user or ""),
            ("X-Connection", self._number),
            ("X-Nonce", nonce),
            ("X-Uploaded", f"{count} {digest}"),
            ("Persistent-Auth", "true"),
        ]
        await self._respond(200, fields, body)

    async def _upload(self) -> tuple[int, str]:
        """Reads what is left of the request's body."""
        count, digest = 0, hashlib.sha256()
        if self._http.they_are_waiting_for_100_continue and self._http.our_state is h11.SEND_RESPONSE:
            await self._send(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        while self._http.their_state is h11.SEND_BODY:
            event = await self._event()
            if isinstance(event, h11.Data):
                count += len(event.data)
                digest.update(event.data)
        return count, digest.hexdigest()

    async def _finish(self, status: int, challenges: list[str], body: bytes) -> None:
        await self._respond(status, [("WWW-Authenticate", challenge) for challenge in challenges], body)

    async def _respond(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        fields = [*fields, ("Content-Length", str(len(body))), ("Content-Type", "text/plain")]
        data = self._http.send(h11.Response(status_code=status, headers=fields)) or b""
        for start in range(0, len(body), PIECE):
            data += self._http.send(h11.Data(data=body[start : start + PIECE])) or b""
            await self._send(data)
            data = b""
        await self._send(self._http.send(h11.EndOfMessage()))

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(PIECE))
        return event

    async def _send(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()


def bindings_of(path: str) -> GssChannelBindings:
    """Those to the first certificate of a PEM file."""
    with open(path, "rb") as file:
        return bindings.to(x509.load_pem_x509_certificate(file.read()).public_bytes(Encoding.DER))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="begins the numbers of connections")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--certificate", required=True, help="PEM file, the server's own first")
    parser.add_argument("--key", required=True, help="PEM file")
    parser.add_argument("--extended-protection", action="store_true", help="demand bindings to its own certificate")
    args = parser.parse_args()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(args.certificate, args.key)
    server = Server(args.name, bindings_of(args.certificate) if args.extended_protection else None)
    listening = await asyncio.start_server(server.serve, "0.0.0.0", args.port, ssl=tls, backlog=4096, limit=PIECE)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

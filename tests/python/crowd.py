"""Many users at once, each with connections of its own, who check that every answer is theirs.

Logons are by NTLM (three messages) or by a ticket that comes with the first request, as Kerberos' does. Between logon and the end
of a connection no request carries Authorization, so whoever answers it can only go by the connection. Requests come singly,
pipelined, with bodies, and some are given up in the middle of the answer, with the connection. With --basic requests say who
they are from, every one of them, or that they are from nobody: for proxies that share their connections.

Everybody makes as many connections as they are told to, and further ones until a certain file exists.

Prints what came of it as JSON: see `Tally`. Chance comes from --seed alone; what the network does with it differs.
"""

import argparse
import asyncio
import base64
import collections
import hashlib
import json
import os
import random
import ssl
from dataclasses import asdict, dataclass, field

import accounts
import published
import wire

# How many examples of each trouble are told.
EXAMPLES = 5


@dataclass
class Tally:
    """What all users saw."""

    # Whole answers with a user's own name, nonce, body and digest.
    answers: int = 0
    # Of these: to requests that others followed at once, and to requests with a body.
    pipelined: int = 0
    uploads: int = 0
    # Logons that ended well.
    ntlm: int = 0
    tickets: int = 0
    # With --basic: requests of nobody, answered so.
    strangers: int = 0
    # Answers that were given up in the middle.
    aborted: int = 0
    # Requests of somebody who was logged on, answered with 401.
    challenged: int = 0
    # Logons that were refused.
    refused: int = 0
    # Connections that ended, or answers that were not 200 or 401.
    broken: int = 0
    # Answers that name another user, nonce, body or digest.
    foreign: int = 0
    # Server connections that were seen, and those that carried more than one user, or more than one client connection.
    server_connections: int = 0
    of_many_users: int = 0
    of_many_clients: int = 0
    # A few of the troubles, in words.
    examples: list[str] = field(default_factory=list)


class Crowd:
    """What the users have in common."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.trust: ssl.SSLContext = wire.trust(args.ca)
        self.tally = Tally()
        self.users_of: dict[str, set[str]] = collections.defaultdict(set)
        self.clients_of: dict[str, set[int]] = collections.defaultdict(set)
        self._told: collections.Counter[str] = collections.Counter()
        self._clients = 0

    def is_over(self) -> bool:
        return os.path.exists(self.args.until)

    def next_client(self) -> int:
        self._clients += 1
        return self._clients

    def trouble(self, kind: str, text: str) -> None:
        setattr(self.tally, kind, getattr(self.tally, kind) + 1)
        self._told[kind] += 1
        if self._told[kind] <= EXAMPLES:
            self.tally.examples.append(f"{kind}: {text}")

    def report(self) -> str:
        self.tally.server_connections = len(self.users_of)
        self.tally.of_many_users = sum(len(users) > 1 for users in self.users_of.values())
        self.tally.of_many_clients = sum(len(clients) > 1 for clients in self.clients_of.values())
        return json.dumps(asdict(self.tally))


class LoggedOff(Exception):
    """The connection is nobody's any more."""


class Lane:
    """One user's connections, one after the other."""

    def __init__(self, crowd: Crowd, user: str, password: str, number: int) -> None:
        self.crowd = crowd
        self.user = user
        self.password = password
        self.random = random.Random(f"{crowd.args.seed} {user} {number}")
        self._nonces = 0
        # Those that were logged on.
        self._connections = 0

    async def run(self) -> None:
        # Not all in the same moment.
        await asyncio.sleep(self.random.uniform(0, 1))
        while self._connections < self.crowd.args.connections or not self.crowd.is_over():
            try:
                await self._one_connection()
            except LoggedOff:
                pass
            except (wire.Broken, OSError, asyncio.TimeoutError) as error:
                self.crowd.trouble("broken", f"{self.user}: {error!r}")
                await asyncio.sleep(0.05)

    async def _one_connection(self) -> None:
        args = self.crowd.args
        connection = await wire.Connection.open(args.address, args.port, args.name, self.crowd.trust)
        self.client = self.crowd.next_client()
        try:
            await self._log_on(connection)
            self._connections += 1
            if args.basic:
                await self._as_stranger(connection)
            while self.random.random() > 0.08:
                await self._one_exchange(connection)
                await asyncio.sleep(self.random.choice([0, 0, 0.01, 0.1]))
        finally:
            if self.random.random() < 0.5:
                connection.abort()
            else:
                await connection.close()

    async def _as_stranger(self, connection: wire.Connection) -> None:
        """Asks without saying who, as whoever comes next over a server connection that somebody has logged on."""
        await connection.send(self._request(anonymous=True).data)
        head = await asyncio.wait_for(connection.head(), 60)
        await connection.body(head)
        number = head.get("x-connection")
        if head.status == 401:
            self.crowd.tally.strangers += 1
            return
        self.crowd.users_of[number].add(f"a stranger beside {self.user}")
        self.crowd.trouble("foreign", f"a stranger got {head.status} as {head.get('x-user')} over {number}")
        raise LoggedOff

    async def _log_on(self, connection: wire.Connection) -> None:
        if self.crowd.args.basic:
            await self._exchange(connection, [self._request()])
            return
        if self.random.random() < 0.5:
            await self._exchange(connection, [self._request(f"Negotiate {accounts.ticket(self.user)}")])
            self.crowd.tally.tickets += 1
            return
        client = accounts.ntlm(self.user, self.password)
        await connection.send(self._request(f"NTLM {text(client.step())}").data)
        head = await asyncio.wait_for(connection.head(), 60)
        await connection.body(head)
        scheme, _, challenge = head.get("www-authenticate").partition(" ")
        if head.status != 401 or scheme != "NTLM" or not challenge:
            # A connection that is already somebody's answers at once.
            self.crowd.trouble("refused", f"{self.user}: {head.status} to the first message")
            raise LoggedOff
        answer = text(client.step(base64.b64decode(challenge)))
        await self._exchange(connection, [self._request(f"NTLM {answer}")])
        self.crowd.tally.ntlm += 1

    async def _one_exchange(self, connection: wire.Connection) -> None:
        kind = self.random.random()
        if self.crowd.args.basic and kind < 0.3:
            await self._as_stranger(connection)
        elif kind < 0.08:
            await self._give_up(connection)
        elif kind < 0.35:
            await self._exchange(connection, [self._request() for _ in range(self.random.randint(2, 5))])
        else:
            await self._exchange(connection, [self._request()])

    async def _give_up(self, connection: wire.Connection) -> None:
        request = self._request(size=256 << 10)
        await connection.send(request.data)
        head = await asyncio.wait_for(connection.head(), 60)
        await connection.body(head, at_most=self.random.randint(0, 100_000))
        self._check_head(head, request)
        connection.abort()
        self.crowd.tally.aborted += 1
        raise LoggedOff

    async def _exchange(self, connection: wire.Connection, requests: list["Request"]) -> None:
        await connection.send(b"".join(request.data for request in requests))
        for request in requests:
            head = await asyncio.wait_for(connection.head(), 60)
            body = await asyncio.wait_for(connection.body(head), 60)
            self._check_head(head, request)
            self._check_body(head, body, request)
            self.crowd.tally.answers += 1
            self.crowd.tally.pipelined += len(requests) > 1
            self.crowd.tally.uploads += request.body != b""
            if head.closes:
                raise LoggedOff

    def _check_head(self, head: wire.Head, request: "Request") -> None:
        if head.status == 401:
            kind = "refused" if request.logs_on else "challenged"
            self.crowd.trouble(kind, f"{self.user}: 401 to {request.nonce}")
            raise LoggedOff
        if head.status != 200:
            self.crowd.trouble("broken", f"{self.user}: {head.status} to {request.nonce}")
            raise LoggedOff
        number = head.get("x-connection")
        self.crowd.users_of[number].add(self.user)
        self.crowd.clients_of[number].add(self.client)
        seen = (head.get("x-user"), head.get("x-nonce"))
        if seen != (self.user, request.nonce):
            self.crowd.trouble("foreign", f"{self.user} asked {request.nonce}, and got {seen} over {number}")
            raise LoggedOff

    def _check_body(self, head: wire.Head, body: bytes, request: "Request") -> None:
        line = f"{self.user} {head.get('x-connection')} {request.nonce}\n".encode()
        uploaded = f"{len(request.body)} {hashlib.sha256(request.body).hexdigest()}"
        if body != line * (len(body) // len(line)) or not body or head.get("x-uploaded") != uploaded:
            self.crowd.trouble("foreign", f"{self.user} asked {request.nonce}, and got another body or digest")
            raise LoggedOff

    def _request(
        self, authorization: str = "", size: int | None = None, anonymous: bool = False
    ) -> "Request":
        self._nonces += 1
        nonce = f"{self.user}-{self.client}-{self._nonces}"
        if size is None:
            size = self.random.choice([1, 1, 1000, 20_000])
        body = b""
        if self.random.random() < 0.3:
            body = self.random.randbytes(self.random.choice([1, 500, 40_000]))
        method = "POST" if body else "GET"
        head = f"{method} /EWS/echo?bytes={size} HTTP/1.1\r\nHost: {self.crowd.args.name}\r\nX-Nonce: {nonce}\r\n"
        if self.crowd.args.basic and not anonymous:
            authorization = accounts.basic(self.user, self.password)
        if authorization:
            head += f"Authorization: {authorization}\r\n"
        if body and self.random.random() < 0.5:
            data = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(body)
        elif body:
            data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        else:
            data = f"{head}\r\n".encode()
        return Request(nonce, data, body, authorization != "" and not self.crowd.args.basic)


@dataclass
class Request:
    """A request as it is sent, and what is to come back of it."""

    nonce: str
    data: bytes
    body: bytes
    logs_on: bool


def text(token: bytes | None) -> str:
    return base64.b64encode(token or b"").decode()


def chunked(body: bytes) -> bytes:
    cut = len(body) // 2
    pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--lanes", type=int, default=2, help="connections of a user at once")
    parser.add_argument("--connections", type=int, required=True, help="at least so many of each lane")
    parser.add_argument("--until", required=True, help="and more until this file exists")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--basic", action="store_true", help="say who with every request, or not at all")
    args = parser.parse_args()
    crowd = Crowd(args)
    users = accounts.read(args.accounts)
    lanes = [Lane(crowd, *user, number) for user in users.items() for number in range(args.lanes)]
    await asyncio.gather(*(lane.run() for lane in lanes))
    print(crowd.report())


if __name__ == "__main__":
    asyncio.run(main())

"""impacket's RPC over HTTP: logs on in both channels, by NTLM or by Basic, binds, and calls (see rpch, port 6001), often enough that its
flow control has something to say. And, by hand, the echo with which a client finds out whether there is a proxy in between, in HTTP/1.0
over one connection, as MS-RPCH 2.1.2.1.5 and 2.1.2.1.1 have it, logged on by NTLM.

Prints, as JSON, how many calls were answered with what they carried, for each way to log on, and what the echo's requests were answered.
"""

import argparse
import base64
import http.client
import json
import socket

from impacket.dcerpc.v5.transport import DCERPCStringBinding, HTTPTransport
from impacket.http import AUTH_BASIC, AUTH_NTLM
from impacket.uuid import uuidtup_to_bin

import accounts
import published
import rpch
import wire

# Exchange's own interface (MS-OXCRPC 1.9); what is behind it here only answers.
EMSMDB = uuidtup_to_bin(("A4F1DB00-CA47-1067-B31F-00DD010662DA", "0.0"))
CALLS = 150
# Of one call, less than a fragment.
BYTES = 4000


def main() -> None:
    args = published.parser(__doc__).parse_args()
    published.only(args)
    user, password = accounts.first(args.accounts)
    answered = {way: calls(args.name, way, user, password) for way in (AUTH_NTLM, AUTH_BASIC)}
    print(json.dumps({"answered": answered, "echo": echo(args, user, password)}))


class Transport(HTTPTransport):
    """impacket's, with pyspnego's NTLM: its own leaves out the four zeros at a response's end (MS-NLMP 3.3.2), which pyspnego's acceptor
    computes anew, and Windows' takes as they come."""

    def set_credentials(self, username, password, domain="", *rest) -> None:
        super().set_credentials(username, password, domain, *rest)
        self._who = username, password

    def get_auth_headers_auto(self, connection, method, path, headers) -> tuple[dict[str, str], None]:
        client = accounts.ntlm(*self._who)
        connection.request(method, path, headers={**headers, "Content-Length": "0", **authorization(client.step())})
        answer = connection.getresponse()
        answer.read()
        challenge = base64.b64decode(answer.getheader("WWW-Authenticate").partition(" ")[2])
        return authorization(client.step(challenge)), None


def authorization(token: bytes) -> dict[str, str]:
    return {"Authorization": f"NTLM {base64.b64encode(token).decode()}"}


def calls(name: str, way: str, user: str, password: str) -> int:
    """How many were answered well."""
    rpc = Transport("sbex1", 6001)
    rpc.set_stringbinding(DCERPCStringBinding(f"ncacn_http:sbex1[6001,RpcProxy={name}:443]"))
    rpc.set_auth_type(way)
    rpc.set_credentials(user, password, accounts.DOMAIN)
    channel = rpc.get_dce_rpc()
    channel.connect()
    channel.bind(EMSMDB)
    answered = 0
    for number in range(CALLS):
        stub = f"{user} {number} ".encode().ljust(BYTES, b".")
        channel.call(0, stub)
        answered += channel.recv() == stub
    rpc.get_socket_in().close()
    rpc.get_socket_out().close()
    return answered


def echo(args: argparse.Namespace, user: str, password: str) -> list[list]:
    """Status, and what came: the first legs of the logon have no body, and the last one's is not a channel's."""
    plain = socket.create_connection((args.address, 443), 30)
    client = accounts.ntlm(user, password)
    told, challenge = [], None
    with wire.trust(args.ca).wrap_socket(plain, server_hostname=args.name) as stream:
        for body in (b"", bytes(rpch.ECHO_LENGTH)):
            fields = {
                "Host": args.name,
                "Accept": "application/rpc",
                "Cache-Control": "no-cache",
                "Connection": "Keep-Alive",
                "User-Agent": "MSRPC",
                "Content-Length": str(len(body)),
                **authorization(client.step(challenge)),
            }
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            stream.sendall(f"RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001 HTTP/1.0\r\n{head}\r\n".encode() + body)
            answer = http.client.HTTPResponse(stream, method="RPC_IN_DATA")
            answer.begin()
            challenge = base64.b64decode(answer.getheader("WWW-Authenticate", "").partition(" ")[2]) or None
            told.append([answer.status, answer.read().hex()])
    return told


if __name__ == "__main__":
    main()

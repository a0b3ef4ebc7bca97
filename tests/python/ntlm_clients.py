"""Users who log on with a library's NTLM: requests-ntlm, which sends channel bindings, or httpx-ntlm, which does not. Or by http.client
and pyspnego with bindings, over a connection that resumes the TLS session of an earlier one, which the libraries never do.

All users ask at the same time, each over one connection. Prints, as JSON, what each was answered: a list of users, each with a list
of answers.
"""

import argparse
import base64
import hashlib
import http.client
import json
import socket
import ssl
import warnings
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx_ntlm
import requests
import requests_ntlm

import accounts
import bindings
import published
import wire


def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--library", required=True, choices=sorted(LIBRARIES))
    parser.add_argument("--no-bindings", action="store_true", help="requests-ntlm sends none")
    parser.add_argument("--requests", type=int, default=6, help="a user's")
    args = parser.parse_args()
    published.resolve(args)
    users = accounts.read(args.accounts)
    with ThreadPoolExecutor(len(users)) as pool:
        answers = list(pool.map(lambda user: LIBRARIES[args.library](args, *user), users.items()))
    print(json.dumps([{"user": user, "answers": theirs} for user, theirs in zip(users, answers)]))


def by_requests(args: argparse.Namespace, user: str, password: str) -> list[dict]:
    with requests.Session() as session:
        # What the machine's environment says of CAs and proxies is not for this site.
        session.trust_env = False
        session.verify = args.ca
        session.auth = requests_ntlm.HttpNtlmAuth(
            f"{accounts.DOMAIN}\\{user}", password, send_cbt=not args.no_bindings
        )
        return [answer_of(session.request, "data", args, user, number) for number in range(args.requests)]


def by_httpx(args: argparse.Namespace, user: str, password: str) -> list[dict]:
    auth = httpx_ntlm.HttpNtlmAuth(f"{accounts.DOMAIN}\\{user}", password)
    with httpx.Client(verify=wire.trust(args.ca), auth=auth, trust_env=False) as client:
        return [answer_of(client.request, "content", args, user, number) for number in range(args.requests)]


def by_resumption(args: argparse.Namespace, user: str, password: str) -> list[dict]:
    trust = wire.trust(args.ca)
    first = connect(args, trust, None)
    # The ticket comes with the first answer, at the latest.
    first.request("GET", "/owa/healthcheck.htm")
    first.getresponse().read()
    connection = connect(args, trust, first.sock.session)
    first.close()
    if not connection.sock.session_reused:
        raise SystemExit("the TLS session was not resumed")
    client = accounts.ntlm(user, password, bindings.to(connection.sock.getpeercert(True)))
    connection.request("GET", "/EWS/echo", headers={"Authorization": f"NTLM {text(client.step())}"})
    challenge = connection.getresponse()
    challenge.read()
    token = base64.b64decode(challenge.headers["WWW-Authenticate"].partition(" ")[2])
    connection.request("GET", "/EWS/echo", headers={"Authorization": f"NTLM {text(client.step(token))}"})
    connection.getresponse().read()

    def request(method: str, url: str, headers: dict[str, str], body: bytes):
        connection.request(method, url, body or None, headers)
        answer = connection.getresponse()
        answer.read()
        answer.status_code = answer.status
        return answer

    return [answer_of(request, "body", args, user, number) for number in range(args.requests)]


def connect(args: argparse.Namespace, trust: ssl.SSLContext, session: ssl.SSLSession | None):
    connection = http.client.HTTPConnection(args.name)
    plain = socket.create_connection((args.address, 443), 30)
    connection.sock = trust.wrap_socket(plain, server_hostname=args.name, session=session)
    return connection


def text(token: bytes | None) -> str:
    return base64.b64encode(token or b"").decode()


def answer_of(request, body_is: str, args: argparse.Namespace, user: str, number: int) -> dict:
    """Sends every second request with a body."""
    nonce = f"{user}-{number}"
    body = nonce.encode() * 1000 if number % 2 else b""
    method = "POST" if body else "GET"
    url = f"https://{args.name}/EWS/echo"
    answer = request(method, url, headers={"X-Nonce": nonce}, **{body_is: body})
    digest = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    return {
        "status": answer.status_code,
        "user": answer.headers.get("x-user", ""),
        "connection": answer.headers.get("x-connection", ""),
        "own": answer.headers.get("x-nonce") == nonce and answer.headers.get("x-uploaded") == digest,
    }


LIBRARIES = {"requests-ntlm": by_requests, "httpx-ntlm": by_httpx, "resumption": by_resumption}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()

"""A browser (chromium without a window, told what to do by its DevTools protocol) at Outlook on the web (see owa): sent to the logon form,
refused, logged on, and then a long response in pieces, a WebSocket, and the end of the session.

Prints, as JSON, what it saw.
"""

import argparse
import base64
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import websockets.sync.client
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import accounts
import published

BROWSER = "chromium-headless-shell"
PATIENCE = 60
# What the page sends over its WebSocket; a browser sends what it likes in a frame.
MESSAGES = ["short", "", "x" * 300_000]


class Browser:
    """Its one page."""

    def __init__(self, devtools: websockets.sync.client.ClientConnection) -> None:
        self._devtools = devtools
        self._number = 0

    def call(self, method: str, **parameters) -> dict:
        self._number += 1
        self._devtools.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := json.loads(self._devtools.recv(PATIENCE))).get("id") != self._number:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def go(self, url: str) -> None:
        before = self.run("location.href")
        if trouble := self.call("Page.navigate", url=url).get("errorText"):
            raise RuntimeError(f"{url}: {trouble}")
        self._arrive(before)

    def submit(self, fields: dict[str, str]) -> None:
        """Fills the page's form and sends it."""
        filling = "".join(f"f.elements[{json.dumps(name)}].value = {json.dumps(value)};" for name, value in fields.items())
        before = self.run("location.href")
        self.run(f"(() => {{ const f = document.forms[0]; {filling} f.submit(); }})()")
        self._arrive(before)

    def run(self, script: str):
        """What a script of the page's comes to."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def cookies(self) -> dict[str, str]:
        """Each, and how it is kept."""
        all_of_them = self.call("Network.getCookies")["cookies"]
        kept = {True: "secure, HttpOnly", False: "secure"}
        return {one["name"]: kept[one["httpOnly"]] if one["secure"] else "insecure" for one in all_of_them}

    def _arrive(self, before: str) -> None:
        """Waits until another page than that is there, whole."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self.run(f"document.readyState == 'complete' && location.href != {json.dumps(before)}"):
                    return
            except RuntimeError:
                # Between two pages there is none.
                pass
            time.sleep(0.05)
        raise RuntimeError(f"nothing comes after {before}")


def main() -> None:
    args = published.parser(__doc__).parse_args()
    published.only(args)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--no-sandbox",
            "--disable-gpu",
            "--no-proxy-server",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            f"--host-resolver-rules=MAP {args.name} {args.address}",
            f"--ignore-certificate-errors-spki-list={key_of(args.ca)}",
        ]
        nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        browser = subprocess.Popen([BROWSER, *options, "about:blank"], start_new_session=True, **nowhere)
        try:
            with websockets.sync.client.connect(devtools_of(profile), max_size=None, proxy=None) as devtools:
                print(json.dumps(visit(Browser(devtools), args)))
        finally:
            # Its processes are one group.
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


def visit(browser: Browser, args: argparse.Namespace) -> dict:
    user, password = accounts.first(args.accounts)
    where = "location.pathname + location.search.replace(/.*reason/, '?reason')"
    browser.go(f"https://{args.name}/")
    told = {"sent_to": browser.run(where)}
    browser.submit({"username": f"{accounts.DOMAIN}\\{user}", "password": "wrong"})
    told["refused"] = [browser.run(where), browser.run("document.getElementById('reason').textContent")]
    browser.submit({"username": f"{accounts.DOMAIN}\\{user}", "password": password})
    told["inside"] = [browser.run(where), browser.run("document.title")]
    told["cookies"] = browser.cookies()
    told["pieces"] = browser.run("pending('browser')")
    told["socket"] = browser.run(f"socket({json.dumps(MESSAGES)})")
    told["socket"]["seen"] = told["socket"]["seen"] == MESSAGES
    browser.go(f"https://{args.name}/owa/logoff.owa")
    told["outside"] = [browser.run(where), sorted(browser.cookies())]
    return told


def key_of(certificate: str) -> str:
    """The digest of its public key, by which the browser is to know it."""
    key = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def devtools_of(profile: str) -> str:
    """Where the browser is told what to do with its page."""
    port = int(waited_for(Path(profile) / "DevToolsActivePort").split()[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        return next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")


def waited_for(file: Path) -> str:
    """What it says once it says anything."""
    deadline = time.monotonic() + PATIENCE
    while not file.exists() or not file.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError("the browser does not start")
        time.sleep(0.05)
    return file.read_text()


if __name__ == "__main__":
    main()

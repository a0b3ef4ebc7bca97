"""Phones and Outlooks that wait long: pings of ActiveSync (see activesync), answered when their heartbeat interval is over, and pairs of
RPC channels (see rpch) that are silent for as long, and then still are what they were.

Each has a port of its own on this side, which says what node its connections go through. Prints a line when all wait, and at the end, as
JSON, what became of each.
"""

import argparse
import json
import threading
import time

import h11

import accounts
import published
from channels import called, opened
from pyactivesync._wbxml import WBXMLReader, WBXMLWriter, find, text_of, wtag
from stepwise import Stream

# Beyond the time that all is silent, in seconds.
PATIENCE = 60


class Held:
    """What waits; a thread for each."""

    kind: str

    def __init__(self, args: argparse.Namespace, ports: list[int]) -> None:
        self._args, self._ports = args, ports
        self.told = {"kind": self.kind, "ports": ports, "status": 0, "answer": "", "silent": 0.0, "trouble": ""}
        self._waits = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_until_waiting(self) -> None:
        self._waits.wait(PATIENCE)

    def finish(self) -> dict:
        self._thread.join()
        return self.told

    def _run(self) -> None:
        try:
            self._hold()
        except (OSError, h11.RemoteProtocolError, ValueError) as error:
            self.told["trouble"] = repr(error)
        self._waits.set()

    def _stream(self, port: int) -> Stream:
        return Stream(self._args, self._args.seconds + PATIENCE, (self._args.source, port))

    def _silence(self):
        """From here on nothing is said."""
        self._waits.set()
        return time.monotonic()


class Ping(Held):
    """A phone that waits for mail that does not come."""

    kind = "ping"

    def _hold(self) -> None:
        [port] = self._ports
        stream = self._stream(port)
        interval = wtag("Ping", "HeartbeatInterval", text=str(self._args.seconds))
        body = WBXMLWriter().tag("Ping", "Ping", [interval]).render()
        target = f"/Microsoft-Server-ActiveSync?Cmd=Ping&User=user&DeviceId=lab{port}&DeviceType=lab"
        fields = [
            ("Authorization", accounts.basic("user", "word")),
            ("Content-Type", "application/vnd.ms-sync.wbxml"),
            ("MS-ASProtocolVersion", "16.1"),
            ("Content-Length", str(len(body))),
        ]
        stream.request("POST", target, fields)
        stream.send(h11.Data(data=body))
        stream.send(h11.EndOfMessage())
        since = self._silence()
        self.told["status"] = stream.event().status_code
        self.told["silent"] = time.monotonic() - since
        nodes = WBXMLReader(b"".join(stream.pieces())).parse()
        self.told["answer"] = f"status {text_of(find(nodes, 'Ping.Status'))}"


class Channels(Held):
    """An Outlook whose two channels say nothing for as long."""

    kind = "rpc"

    def _hold(self) -> None:
        ins, outs = (self._stream(port) for port in self._ports)
        virtual = opened(ins, outs, 6001, 1 << 30)
        self.told["status"] = virtual.status
        called(ins, virtual.arrived, 1)
        since = self._silence()
        time.sleep(self._args.seconds)
        self.told["silent"] = time.monotonic() - since
        called(ins, virtual.arrived, 2)
        self.told["answer"] = "echoed"


def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--source", required=True, help="this side's address")
    parser.add_argument("--ping", type=int, action="append", default=[], help="a ping's port")
    parser.add_argument("--rpc", type=int, action="append", nargs=2, default=[], help="two channels' ports: IN, OUT")
    parser.add_argument("--seconds", type=int, required=True, help="for which all are silent")
    args = parser.parse_args()
    held = [Ping(args, [port]) for port in args.ping]
    held += [Channels(args, ports) for ports in args.rpc]
    for one in held:
        one.wait_until_waiting()
    print("all wait", flush=True)
    print(json.dumps([one.finish() for one in held]))


if __name__ == "__main__":
    main()

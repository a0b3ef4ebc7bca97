"""A stand-in for an Exchange server: what its virtual directories speak, as far as clients of the tests go. Each is a module of its
own, which names what it follows.

    /*/healthcheck.htm              no logon: each virtual directory of Exchange has one
    /mapi                           mapi
    /rpc                            rpch
    /Microsoft-Server-ActiveSync    activesync
    /EWS                            ews
    /owa                            owa

All stand-ins of a lab share the mailboxes below --store.
"""

import argparse

import activesync
import ews
import mailbox
import mapi
import owa
import rpch
import serving


class Standin:
    """One server."""

    def __init__(self, store: mailbox.Store) -> None:
        self._directories = {
            "mapi": mapi.Server(store),
            "rpc": rpch.Server(),
            "microsoft-server-activesync": activesync.Server(store),
            "ews": ews.Server(store),
            "owa": owa.Server(store),
        }

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        if request.path.split("/")[2:] == ["healthcheck.htm"]:
            connection.respond(200, [], b"200 OK<br/>")
            return True
        directory = self._directories.get(request.path.split("/")[1].lower())
        if directory is None:
            connection.respond(404, [])
            return True
        return directory.handle(connection, request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="begins the numbers of connections")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--certificate", required=True, help="PEM file, the server's own first")
    parser.add_argument("--key", required=True, help="PEM file")
    parser.add_argument("--store", required=True, help="folder of what all servers share")
    args = parser.parse_args()
    standin = Standin(mailbox.Store(args.store))
    serving.serve(args.name, args.port, args.certificate, args.key, standin.handle)


if __name__ == "__main__":
    main()

"""The published site, as the arguments of every client name it; and for clients of libraries, which would ask a name server for it, and
the machine's environment whom to trust, ways to have them do neither."""

import argparse
import os
import socket


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a client's arguments: where the site is, whom to trust there, and who there is. What else a client takes it adds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", required=True)
    parser.add_argument("--name", required=True, help="the site's")
    parser.add_argument("--ca", required=True, help="PEM file, with the site's own certificate first")
    parser.add_argument("--accounts", required=True, help="file of users; who needs one logs the first on")
    return parser


def resolve(args: argparse.Namespace) -> None:
    """From here on, this process finds the site's name at its address."""
    real = socket.getaddrinfo

    def resolved(host, port, *rest, **more):
        return real(args.address if host == args.name else host, port, *rest, **more)

    socket.getaddrinfo = resolved


def only(args: argparse.Namespace) -> None:
    """The same, without any proxy that is configured here; and what is built on requests trusts whom the site's clients are to trust."""
    resolve(args)
    os.environ.update({"REQUESTS_CA_BUNDLE": args.ca, "NO_PROXY": "*", "no_proxy": "*"})

"""Who there is: users of one domain, with passwords, in the file that NTLM_USER_FILE names; and how they log on.

Its lines are DOMAIN:USER:PASSWORD, which pyspnego's acceptor reads as it is. A stand-in for a Kerberos ticket is here as well:
like one it logs a connection on by a single message and without any challenge, but nobody has to be asked for it.
"""

import base64
import functools
import os

import spnego
from spnego.channel_bindings import GssChannelBindings

DOMAIN = "LAB"
TICKET = b"TICKET "


def read(path: str) -> dict[str, str]:
    """Each user's password."""
    with open(path, encoding="utf-8") as file:
        lines = (line.strip().split(":") for line in file)
        return {user: password for _domain, user, password in lines}


def first(path: str) -> tuple[str, str]:
    """A user, and the password."""
    return next(iter(read(path).items()))


@functools.cache
def _all() -> dict[str, str]:
    return read(os.environ["NTLM_USER_FILE"])


def knows(pair: bytes) -> str | None:
    """The user of `user:password`, if that is the password."""
    user, _, password = pair.decode().partition(":")
    return user if password and _all().get(user) == password else None


def basic(user: str, password: str) -> str:
    """The Authorization that says who, and the password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def ntlm(user: str, password: str, channel_bindings: GssChannelBindings | None = None) -> spnego.ContextProxy:
    """A client's side of the logon by NTLM."""
    options = spnego.NegotiateOptions.use_ntlm
    who = f"{DOMAIN}\\{user}"
    return spnego.client(who, password, protocol="ntlm", options=options, channel_bindings=channel_bindings)


def ticket(user: str) -> str:
    """What follows `Negotiate` in the one request that logs `user` on."""
    return base64.b64encode(TICKET + user.encode()).decode()


def ticket_holder(token: bytes) -> str | None:
    """Whose ticket it is, if it is one."""
    return token.removeprefix(TICKET).decode() if token.startswith(TICKET) else None

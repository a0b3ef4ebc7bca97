"""Who a connection is logged on as, at a server that does it as IIS does: by NTLM (pyspnego's acceptor, one handshake for each TCP
connection, whose later requests carry no Authorization), by a ticket (see accounts), which needs no challenge, or by Basic, which here
logs a connection on, too.
"""

import base64
import sys

import spnego
from spnego.channel_bindings import GssChannelBindings

import accounts


class Logon:
    """Who a connection is logged on as."""

    def __init__(self, demanded: GssChannelBindings | None = None) -> None:
        self.user: str | None = None
        self._demanded = demanded
        self._context: spnego.ContextProxy | None = None

    def handle(self, authorization: str) -> str | None:
        """Takes a request's Authorization; what to challenge the client with, if it is to be."""
        scheme, _, text = authorization.partition(" ")
        try:
            token = base64.b64decode(text, validate=True)
            if scheme == "Basic":
                self.user = accounts.knows(token)
                return None
            if scheme == "Negotiate" and (holder := accounts.ticket_holder(token)):
                self.user = holder
                return None
            return self._ntlm(scheme, token)
        except (spnego.exceptions.SpnegoError, ValueError) as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            self.user = self._context = None
            return None

    def _ntlm(self, scheme: str, token: bytes) -> str | None:
        if self._context is None or token[8:9] == b"\x01":
            # Whoever begins anew is nobody until it has ended well.
            self.user = None
            self._context = spnego.server(
                protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm, channel_bindings=self._demanded
            )
        answer = self._context.step(token)
        if self._context.complete:
            principal = self._context.client_principal or ""
            self.user = principal.rpartition("\\")[2]
            self._context = None
            return None
        return f"{scheme} {base64.b64encode(answer or b'').decode()}"

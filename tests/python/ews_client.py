"""exchangelib at work: a user logs on by NTLM, sends messages, finds and reads them, and has new ones told by a stream of events.

Prints, as JSON, what it saw.
"""

import itertools
import json
import threading

import exchangelib
from exchangelib.version import EXCHANGE_2019

import accounts
import published

# More than the proxy reads at once.
BODY = 3 << 20
# A stream's, in minutes.
STREAM = 1


def main() -> None:
    args = published.parser(__doc__).parse_args()
    published.only(args)
    user, password = accounts.first(args.accounts)
    config = exchangelib.Configuration(
        service_endpoint=f"https://{args.name}/EWS/Exchange.asmx",
        credentials=exchangelib.Credentials(f"{accounts.DOMAIN}\\{user}", password),
        auth_type=exchangelib.NTLM,
        version=exchangelib.Version(EXCHANGE_2019),
        max_connections=3,
    )
    account = exchangelib.Account(f"{user}@{args.name}", config=config, access_type=exchangelib.DELEGATE)
    send(account, "first", "x" * BODY)
    send(account, "second", "short")
    found = [message.subject for message in account.inbox.all().only("subject")]
    print(json.dumps({"found": found, "events": events(account)}))


def send(account: exchangelib.Account, subject: str, body: str) -> None:
    message = exchangelib.Message(account=account, subject=subject, body=body, to_recipients=["someone@example.test"])
    message.send()


def events(account: exchangelib.Account) -> list[str]:
    """Kinds of what a stream tells, until the mail has come that is sent once it tells anything."""
    seen: list[str] = []
    with account.inbox.streaming_subscription() as subscription:
        stream = account.inbox.get_streaming_events(subscription, connection_timeout=STREAM)
        for notification in stream:
            if not seen:
                threading.Thread(target=send, args=(account, "third", "in the meantime")).start()
            seen += (type(event).__name__ for event in notification.events)
            if "NewMailEvent" in seen:
                break
        stream.close()
    return [kind for kind, _all in itertools.groupby(seen)]


if __name__ == "__main__":
    main()

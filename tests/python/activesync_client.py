"""A phone: asks what the server can (OPTIONS), and by pyactivesync is provisioned, lists folders, synchronizes, waits for mail by a Ping
that ends without any, and by one that is answered when a message has been sent meanwhile.

Prints, as JSON, what it saw.
"""

import argparse
import email.message
import json
import threading
import time

import pyactivesync
import requests

import accounts
import published

# How long a Ping waits in vain, in seconds.
HEARTBEAT = 4


def main() -> None:
    args = published.parser(__doc__).parse_args()
    published.only(args)
    user, password = accounts.first(args.accounts)
    options = requests.options(f"https://{args.name}/Microsoft-Server-ActiveSync", timeout=30)
    with pyactivesync.Client(args.name, user, password, device_id="LAB0123456789") as phone:
        folders = {folder.name: folder.id for folder in phone.list_folders()}
        inbox = folders["Inbox"]
        key = phone.sync_folder(inbox).sync_key
        begun = time.monotonic()
        vain = phone.ping(inbox, heartbeat=HEARTBEAT, timeout=60)
        waited = time.monotonic() - begun
        sender = threading.Timer(1, send, [args, user, password])
        sender.start()
        woken = phone.ping(inbox, heartbeat=60, timeout=120)
        sender.join()
        came = [item.fields for item in phone.sync_folder(inbox, key).added]
    told = {
        "versions": options.headers["MS-ASProtocolVersions"],
        "folders": list(folders),
        "vain": vain.status,
        "waited": waited >= HEARTBEAT,
        "woken": woken.status,
        "subjects": [subject for fields in came for name, subject in fields.items() if name.endswith("Subject")],
    }
    print(json.dumps(told))


def send(args: argparse.Namespace, user: str, password: str) -> None:
    """By another phone of the same user."""
    message = email.message.EmailMessage()
    message["Subject"], message["From"], message["To"] = "wake up", f"{user}@{args.name}", f"{user}@{args.name}"
    message.set_content("in the meantime\n")
    with pyactivesync.Client(args.name, user, password, device_id="LAB9876543210") as phone:
        phone.send_mail(message)


if __name__ == "__main__":
    main()

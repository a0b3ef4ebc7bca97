"""Exchange Web Services, the server's side: SOAP as MS-OXWSCORE (GetItem, CreateItem), MS-OXWSFOLD (GetFolder), MS-OXWSSRCH (FindItem)
and MS-OXWSNTIF (Subscribe, GetStreamingEvents, Unsubscribe) have it, for a mailbox with one folder. Logon is NTLM.

A stream of events says that all is well each quarter of a second (3.1.4.3: StatusEvent), and what has come; one response, without length,
for as long as the client wishes.
"""

import time
from xml.sax.saxutils import escape

import lxml.etree

import mailbox
import serving

MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
NAMES = {"m": MESSAGES, "t": TYPES, "s": "http://schemas.xmlsoap.org/soap/envelope/"}
# Between two words of a stream.
PULSE = 0.25


class Server:
    """/EWS."""

    def __init__(self, store: mailbox.Store) -> None:
        self._store = store

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        challenges = ["NTLM"]
        if authorization := request.fields.get("authorization"):
            challenge = connection.logon.handle(authorization)
            challenges = [challenge] if challenge else ["NTLM"]
        if connection.logon.user is None:
            connection.respond(401, [("WWW-Authenticate", challenge) for challenge in challenges])
            return True
        if request.method == "GET":
            connection.respond(200, [("Content-Type", "text/plain")], b"EWS\n")
            return True
        asked = lxml.etree.fromstring(connection.whole_body()).find("s:Body", NAMES)[0]
        mail = self._store.of(connection.logon.user)
        operation = lxml.etree.QName(asked).localname
        fields = [("Content-Type", "text/xml; charset=utf-8"), ("X-Connection", connection.number)]
        if operation == "GetStreamingEvents":
            connection.begin(200, fields)
            stream(connection, asked, mail)
        else:
            answer = ANSWERS[operation](asked, mail)
            connection.respond(200, fields, envelope(operation, answer))
        return True


def get_folder(asked, mail: mailbox.Mailbox) -> str:
    """Every folder that is asked for is there."""
    answers = ""
    for wanted in asked.find("m:FolderIds", NAMES):
        name = escape(wanted.get("Id"))
        total = f"<t:TotalCount>{len(mail.subjects())}</t:TotalCount>"
        folder = f'<t:Folder><t:FolderId Id="{name}" ChangeKey="1"/><t:DisplayName>{name}</t:DisplayName>{total}</t:Folder>'
        answers += success("GetFolder", f"<m:Folders>{folder}</m:Folders>")
    return answers


def find_item(asked, mail: mailbox.Mailbox) -> str:
    subjects = mail.subjects()
    items, count = "".join(item(number, subject) for number, subject in enumerate(subjects)), len(subjects)
    root = f'<m:RootFolder TotalItemsInView="{count}" IncludesLastItemInRange="true" IndexedPagingOffset="{count}">'
    return success("FindItem", f"{root}<t:Items>{items}</t:Items></m:RootFolder>")


def get_item(asked, mail: mailbox.Mailbox) -> str:
    subjects = mail.subjects()
    numbers = [int(wanted.get("Id")) for wanted in asked.find("m:ItemIds", NAMES)]
    found = (item(number, subjects[number]) for number in numbers)
    return "".join(success("GetItem", f"<m:Items>{one}</m:Items>") for one in found)


def create_item(asked, mail: mailbox.Mailbox) -> str:
    """Whoever it is sent to, it is in the sender's mailbox; the body says no more here than how long it is."""
    for message in asked.find("m:Items", NAMES):
        body = message.findtext("t:Body", "", NAMES)
        mail.add(f"{message.findtext('t:Subject', '', NAMES)} ({len(body)})")
    return success("CreateItem", "<m:Items/>")


def subscribe(asked, mail: mailbox.Mailbox) -> str:
    return success("Subscribe", "<m:SubscriptionId>lab</m:SubscriptionId>")


def unsubscribe(asked, mail: mailbox.Mailbox) -> str:
    return success("Unsubscribe", "")


def stream(connection: serving.Connection, asked, mail: mailbox.Mailbox) -> None:
    """One envelope after the other, until the time is up."""
    until = time.monotonic() + 60 * float(asked.findtext("m:ConnectionTimeout", "1", NAMES))
    known = len(mail.subjects())
    while time.monotonic() < until:
        mailbox.wait_for(lambda: len(mail.subjects()) > known, PULSE)
        events = f"<t:StatusEvent><t:Watermark>{known}</t:Watermark></t:StatusEvent>"
        while known < len(mail.subjects()):
            stamp = "<t:TimeStamp>2026-01-01T00:00:00Z</t:TimeStamp>"
            what = f'<t:ItemId Id="{known}" ChangeKey="1"/><t:ParentFolderId Id="inbox" ChangeKey="1"/>'
            events += f"<t:NewMailEvent><t:Watermark>{known}</t:Watermark>{stamp}{what}</t:NewMailEvent>"
            known += 1
        notification = f"<m:Notification><t:SubscriptionId>lab</t:SubscriptionId>{events}</m:Notification>"
        answer = success("GetStreamingEvents", f"<m:Notifications>{notification}</m:Notifications>")
        connection.data(envelope("GetStreamingEvents", answer))
    closed = success("GetStreamingEvents", "<m:ConnectionStatus>Closed</m:ConnectionStatus>")
    connection.data(envelope("GetStreamingEvents", closed))
    connection.end()


def item(number: int, subject: str) -> str:
    return f'<t:Message><t:ItemId Id="{number}" ChangeKey="1"/><t:Subject>{escape(subject)}</t:Subject></t:Message>'


def success(operation: str, content: str) -> str:
    name = f"m:{operation}ResponseMessage"
    return f'<{name} ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>{content}</{name}>'


def envelope(operation: str, answers: str) -> bytes:
    numbers = 'MajorVersion="15" MinorVersion="2" MajorBuildNumber="1544" MinorBuildNumber="4" Version="V2017_07_11"'
    version = f'<t:ServerVersionInfo xmlns:t="{TYPES}" {numbers}/>'
    body = f"<m:{operation}Response><m:ResponseMessages>{answers}</m:ResponseMessages></m:{operation}Response>"
    names = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMES.items())
    text = f'<?xml version="1.0" encoding="utf-8"?><s:Envelope {names}><s:Header>{version}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    return text.encode()


ANSWERS = {
    "GetFolder": get_folder,
    "FindItem": find_item,
    "GetItem": get_item,
    "CreateItem": create_item,
    "Subscribe": subscribe,
    "Unsubscribe": unsubscribe,
}

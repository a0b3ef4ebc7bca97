"""ActiveSync, the server's side: MS-ASHTTP 2.2.3 (OPTIONS, and what its answer says), MS-ASCMD 2.2.1.17 (Provision), 2.2.1.5
(FolderSync), 2.2.1.21 (Sync), 2.2.1.19 (SendMail) and 2.2.1.13 (Ping, which is answered when something has changed, or when its
heartbeat interval is over), in MS-ASWBXML.

Logon is Basic; any password will do.
"""

import base64
import email

import mailbox
import serving
from pyactivesync._wbxml import Node, NodeBuilder, WBXMLReader, WBXMLWriter, find, opaque_of, text_of, wtag

COMMANDS = "Sync,SendMail,FolderSync,Ping,Provision"
INBOX, INBOX_TYPE = "5", "2"


class Server:
    """/Microsoft-Server-ActiveSync."""

    def __init__(self, store: mailbox.Store) -> None:
        self._store = store

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        if request.method == "OPTIONS":
            versions = ("MS-ASProtocolVersions", "2.5,12.0,12.1,14.0,14.1,16.0,16.1")
            connection.respond(200, [versions, ("MS-ASProtocolCommands", COMMANDS)])
            return True
        scheme, _, text = request.fields.get("authorization", "").partition(" ")
        if scheme != "Basic":
            connection.respond(401, [("WWW-Authenticate", 'Basic realm="lab"')])
            return True
        user = base64.b64decode(text).decode().partition(":")[0].rpartition("\\")[2]
        body = connection.whole_body()
        nodes = WBXMLReader(body).parse() if body else []
        answer = self._answer(request.query.get("Cmd", ""), nodes, self._store.of(user))
        fields = [
            ("Content-Type", "application/vnd.ms-sync.wbxml"),
            ("MS-Server-ActiveSync", "15.2"),
            ("X-Connection", connection.number),
        ]
        connection.respond(200 if answer is not None else 501, fields, answer or b"")
        return True

    def _answer(self, command: str, nodes: list[Node], mail: mailbox.Mailbox) -> bytes | None:
        match command:
            case "Provision":
                return provision()
            case "FolderSync":
                return folder_sync()
            case "Sync":
                return sync(nodes, mail)
            case "SendMail":
                mime = opaque_of(find(nodes, "ComposeMail.MIME")) or b""
                mail.add(str(email.message_from_bytes(mime)["Subject"]))
                return b""
            case "Ping":
                return ping(nodes, mail)
        return None


def provision() -> bytes:
    policy = [
        wtag("Provision", "PolicyType", text="MS-EAS-Provisioning-WBXML"),
        wtag("Provision", "Status", text="1"),
        wtag("Provision", "PolicyKey", text="1307199584"),
    ]
    policies = wtag("Provision", "Policies", [wtag("Provision", "Policy", policy)])
    return document("Provision", "Provision", [wtag("Provision", "Status", text="1"), policies])


def folder_sync() -> bytes:
    folder = [
        wtag("FolderHierarchy", "ServerId", text=INBOX),
        wtag("FolderHierarchy", "ParentId", text="0"),
        wtag("FolderHierarchy", "DisplayName", text="Inbox"),
        wtag("FolderHierarchy", "Type", text=INBOX_TYPE),
    ]
    changes = [wtag("FolderHierarchy", "Count", text="1"), wtag("FolderHierarchy", "Add", folder)]
    content = [
        wtag("FolderHierarchy", "Status", text="1"),
        wtag("FolderHierarchy", "SyncKey", text="1"),
        wtag("FolderHierarchy", "Changes", changes),
    ]
    return document("FolderHierarchy", "FolderSync", content)


def sync(nodes: list[Node], mail: mailbox.Mailbox) -> bytes:
    """A sync key is one more than the number of messages that the client knows of; with 0 it knows of nothing at all."""
    known = int(text_of(find(nodes, "AirSync.SyncKey")) or 0)
    subjects = mail.subjects()[known - 1 :] if known else []
    collection = [
        wtag("AirSync", "SyncKey", text=str(max(known, 1) + len(subjects))),
        wtag("AirSync", "CollectionId", text=INBOX),
        wtag("AirSync", "Status", text="1"),
    ]
    if subjects:
        added = [added_item(str(known + index), subject) for index, subject in enumerate(subjects)]
        collection.append(wtag("AirSync", "Commands", added))
    return document("AirSync", "Sync", [wtag("AirSync", "Collections", [wtag("AirSync", "Collection", collection)])])


def added_item(number: str, subject: str) -> NodeBuilder:
    data = wtag("AirSync", "ApplicationData", [wtag("Email", "Subject", text=subject)])
    return wtag("AirSync", "Add", [wtag("AirSync", "ServerId", text=f"{INBOX}:{number}"), data])


def ping(nodes: list[Node], mail: mailbox.Mailbox) -> bytes:
    """Status 1: nothing has changed all the while; 2: something has (MS-ASCMD 2.2.3.177.11)."""
    known = len(mail.subjects())
    interval = float(text_of(find(nodes, "Ping.HeartbeatInterval")) or 60)
    changed = mailbox.wait_for(lambda: len(mail.subjects()) > known, interval)
    content = [wtag("Ping", "Status", text="2" if changed else "1")]
    if changed:
        content.append(wtag("Ping", "Folders", [wtag("Ping", "Folder", text=INBOX)]))
    return document("Ping", "Ping", content)


def document(page: str, name: str, children: list[NodeBuilder]) -> bytes:
    return WBXMLWriter().tag(page, name, children).render()

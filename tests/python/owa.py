"""Outlook on the web, as a browser sees it: logon by a form, cookies, a page, and what the page then keeps asking.

The form and its answers are those of Exchange's forms-based authentication: /owa/ sends who has no cookie to /owa/auth/logon.aspx, whose
form goes to /owa/auth.owa, which sets the cookies cadata and so on and sends the browser where it wanted to go, or back with reason=2. Every
server knows the cookies of the others. A pending request (/owa/ev.owa2) is one long response, of which each piece comes once the browser has
confirmed the one before, by another request, which may reach another server. /owa/socket is a WebSocket: see websocket.
"""

import base64
import hashlib
import hmac
import http.cookies
import urllib.parse

import accounts
import mailbox
import serving
import websocket

HTML = ("Content-Type", "text/html; charset=utf-8")
COOKIES = ["cadata", "cadataTTL", "cadataKey", "cadataIV", "cadataSig"]
KEY = b"of the lab"
# Of a pending request.
PIECES = 5
PATIENCE = 20

REASONS = {"0": "", "2": "The user name or password you entered isn't correct. Try entering it again."}

LOGON = """<!DOCTYPE html><title>Outlook</title>
<form action="/owa/auth.owa" method="POST" name="logonForm" autocomplete="off">
<input type="hidden" name="destination" value="{destination}"><input type="hidden" name="flags" value="4">
<input type="hidden" name="forcedownlevel" value="0"><input name="username" id="username">
<input name="password" id="password" type="password"><input type="hidden" name="isUtf8" value="1">
<div id="reason">{reason}</div></form>
"""

PAGE = """<!DOCTYPE html><title>Mail - {user}</title>
<script>
async function pending(id) {{
    const response = await fetch(`/owa/ev.owa2?ns=PendingRequest&ev=PendingNotificationRequest&id=${{id}}`);
    const reader = response.body.getReader(), pieces = [];
    for (let part; !(part = await reader.read()).done;) {{
        pieces.push(new TextDecoder().decode(part.value));
        await fetch(`/owa/confirm?id=${{id}}&n=${{pieces.length}}`, {{method: "POST", body: "x".repeat(pieces.length)}});
    }}
    return pieces;
}}
function socket(messages) {{
    return new Promise((resolve, reject) => {{
        const socket = new WebSocket(`wss://${{location.host}}/owa/socket`), seen = [];
        socket.onopen = () => messages.forEach(message => socket.send(message));
        socket.onmessage = event => (seen.push(event.data), seen.length < messages.length || socket.close(1000, "enough"));
        socket.onclose = event => resolve({{seen, code: event.code, clean: event.wasClean}});
        socket.onerror = () => reject(new Error("the socket failed"));
    }});
}}
</script>
"""


class Server:
    """/owa."""

    def __init__(self, store: mailbox.Store) -> None:
        self._store = store

    def handle(self, connection: serving.Connection, request: serving.Request) -> bool:
        if request.path == "/owa/socket":
            websocket.serve(connection, request)
            return False
        match request.path:
            case "/owa/auth/logon.aspx":
                fill = {"destination": request.query.get("url", ""), "reason": REASONS[request.query.get("reason", "0")]}
                page = LOGON.format(**fill)
                connection.respond(200, [HTML, ("Set-Cookie", "PBack=0; path=/; secure")], page.encode())
            case "/owa/auth.owa":
                log_on(connection)
            case "/owa/logoff.owa":
                gone = [("Set-Cookie", f"{name}=; path=/; secure; HttpOnly; Max-Age=0") for name in COOKIES]
                connection.respond(302, [("Location", logon_page(request, 0)), *gone])
            case _:
                self._inside(connection, request)
        return True

    def _inside(self, connection: serving.Connection, request: serving.Request) -> None:
        user = user_of(request)
        if user is None:
            # 440: the session is over; what scripts are told, as they cannot use a form.
            status = 302 if request.path in ("/owa", "/owa/") else 440
            connection.respond(status, [("Location", logon_page(request, 0))] if status == 302 else [])
        elif request.path == "/owa/":
            connection.respond(200, [HTML, ("X-OWA-Version", "15.2.1544.4")], PAGE.format(user=user).encode())
        elif request.path == "/owa/ev.owa2":
            self._pend(connection, request)
        elif request.path == "/owa/confirm":
            number = int(request.query["n"])
            if len(connection.whole_body()) == number:
                self._store.word(request.query["id"]).say(number)
            connection.respond(200, [])
        else:
            connection.respond(404, [])

    def _pend(self, connection: serving.Connection, request: serving.Request) -> None:
        word = self._store.word(request.query["id"])
        connection.begin(200, [("Content-Type", "text/html"), ("Cache-Control", "no-cache")])
        for number in range(1, PIECES + 1):
            connection.data(f"piece {number}\n".encode())
            if not mailbox.wait_for(lambda: word.heard() >= number, PATIENCE):
                raise ConnectionError(f"nobody confirms piece {number}")
        connection.end()


def log_on(connection: serving.Connection) -> None:
    form = dict(urllib.parse.parse_qsl(connection.whole_body().decode(), keep_blank_values=True))
    user = form["username"].rpartition("\\")[2]
    if accounts.knows(f"{user}:{form['password']}".encode()) is None:
        back = urllib.parse.urlencode({"url": form["destination"], "reason": 2})
        connection.respond(302, [("Location", f"/owa/auth/logon.aspx?{back}")])
        return
    name = base64.urlsafe_b64encode(user.encode()).decode()
    values = {"cadata": name, "cadataTTL": "x" * 24, "cadataKey": "k" * 344, "cadataIV": "i" * 344, "cadataSig": signature(name)}
    cookies = [("Set-Cookie", f"{key}={value}; path=/; secure; HttpOnly") for key, value in values.items()]
    connection.respond(302, [("Location", form["destination"]), *cookies])


def user_of(request: serving.Request) -> str | None:
    """Whom the cookies were given to."""
    cookies = http.cookies.SimpleCookie(request.fields.get("cookie", ""))
    if not all(name in cookies for name in COOKIES):
        return None
    name = cookies["cadata"].value
    if not hmac.compare_digest(signature(name), cookies["cadataSig"].value):
        return None
    return base64.urlsafe_b64decode(name).decode()


def signature(name: str) -> str:
    return hmac.new(KEY, name.encode(), hashlib.sha256).hexdigest()


def logon_page(request: serving.Request, reason: int) -> str:
    """Exchange names the site's own address in full, so that is what a proxy must leave as it is."""
    site = f"https://{request.fields['host']}"
    back = urllib.parse.urlencode({"url": f"{site}/owa/", "reason": reason})
    return f"{site}/owa/auth/logon.aspx?{back}"

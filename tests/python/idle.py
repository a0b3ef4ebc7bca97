"""A user whose server connection ends while nobody asks anything: what becomes of the client's.

Logs on, asks for what makes the server close the connection, and then only listens. Prints, as JSON, whether it is told, and if it
is not, what the next request is answered.
"""

import asyncio
import json

import accounts
import published
import wire

# A wait of this long says that nothing comes.
PATIENCE = 5


async def main() -> None:
    args = published.parser(__doc__).parse_args()
    user, _password = accounts.first(args.accounts)
    connection = await wire.Connection.open(args.address, 443, args.name, wire.trust(args.ca))
    logon = await ask(connection, args.name, "/EWS/closes", f"Authorization: Negotiate {accounts.ticket(user)}\r\n")
    told = {"logon": logon, "closed": True, "next": 0}
    try:
        await asyncio.wait_for(connection.reader.read(1), PATIENCE)
    except asyncio.TimeoutError:
        told["closed"] = False
        told["next"] = await ask(connection, args.name, "/EWS/echo", "")
    except OSError:
        # Reset is told, too.
        pass
    print(json.dumps(told))


async def ask(connection: wire.Connection, name: str, path: str, fields: str) -> int:
    await connection.send(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n{fields}\r\n".encode())
    head = await asyncio.wait_for(connection.head(), PATIENCE)
    await connection.body(head)
    return head.status


if __name__ == "__main__":
    asyncio.run(main())

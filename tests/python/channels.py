"""RPC over HTTP v2, the client's side, as much of it as the tests' clients have in common; what it follows, rpch says."""

import struct
import uuid
from dataclasses import dataclass

import h11

import accounts
import rpch
from stepwise import Stream


@dataclass
class Virtual:
    """A virtual connection that is established."""

    # The OUT channel's.
    status: int
    # What comes over it.
    arrived: rpch.PduReader
    # How much of the IN channel its establishment took.
    joining: int


def opened(ins: Stream, outs: Stream, port: int, length: int) -> Virtual:
    """A new virtual connection to a port of the server's, with channels of that length (3.2.1.5.3.1)."""
    target = f"/rpc/rpcproxy.dll?sbex1:{port}"
    connection, channels = uuid.uuid4(), [uuid.uuid4(), uuid.uuid4()]
    logon = ("Authorization", accounts.basic("user", "word"))
    fields = [logon, ("Accept", "application/rpc"), ("User-Agent", "MSRPC")]
    version, window = rpch.command(rpch.VERSION, 1), rpch.command(rpch.RECEIVE_WINDOW_SIZE, 0x10000)
    out_cookies = [rpch.cookie(connection), rpch.cookie(channels[0])]
    connect = rpch.rts(rpch.FLAG_NONE, version, *out_cookies, window)
    own = ("X-Channel-Length", str(length))
    outs.request("RPC_OUT_DATA", target, [*fields, own, ("Content-Length", str(len(connect)))])
    outs.send(h11.Data(data=connect))
    outs.send(h11.EndOfMessage())
    status = outs.event().status_code
    arrived = rpch.PduReader(outs.pieces())
    arrived.pdu()
    ins.request("RPC_IN_DATA", target, [*fields, ("Content-Length", str(length))])
    join = joining(connection, channels[1])
    ins.send(h11.Data(data=join))
    if not arrived.pdu():
        raise ValueError("the virtual connection was not established")
    return Virtual(status, arrived, len(join))


def joining(connection: uuid.UUID, channel: uuid.UUID) -> bytes:
    """A CONN/B1 (2.2.4.5)."""
    lifetime, keepalive, group = 4, 5, struct.pack("<I16s", 12, uuid.uuid4().bytes_le)
    commands = [
        rpch.command(rpch.VERSION, 1),
        rpch.cookie(connection),
        rpch.cookie(channel),
        rpch.command(lifetime, 1 << 30),
        rpch.command(keepalive, 300_000),
        group,
    ]
    return rpch.rts(rpch.FLAG_NONE, *commands)


def called(ins: Stream, arrived: rpch.PduReader, number: int) -> None:
    """A call over the IN channel, and its answer over the OUT channel."""
    stub = f"call {number}".encode() * 100
    pdu = rpch.packed(rpch.REQUEST, struct.pack("<I", number), struct.pack("<IHH", len(stub), 0, 0) + stub)
    ins.send(h11.Data(data=pdu))
    if (answer := arrived.pdu())[24:] != stub:
        raise ValueError(f"answered with {answer[:64].hex()}")

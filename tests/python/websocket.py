"""A WebSocket server (RFC 6455; websockets' protocol without its network): every data frame comes back as it came, fragments as fragments,
with a ping before each that is not a message's last. A client that ends its side first is still told how many frames came, and then
that the connection is over.
"""

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

import serving

# What clients may send in one frame here.
LARGEST = 16 << 20


def serve(connection: serving.Connection, request: serving.Request) -> None:
    """Accepts the handshake, and serves to the end of the connection."""
    protocol = ServerProtocol(max_size=LARGEST)
    lines = [f"{request.method} {request.head.target.decode()} HTTP/1.1"]
    lines += [f"{name.decode()}: {value.decode('latin-1')}" for name, value in request.head.headers]
    protocol.receive_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
    for handshake in protocol.events_received():
        protocol.send_response(protocol.accept(handshake))
    count = 0
    goes_on = send(connection, protocol)
    while goes_on:
        data = connection.stream.recv(serving.PIECE)
        if not data and protocol.state is State.OPEN:
            # The other side has ended its half, and hears the rest.
            protocol.send_text(f"{count} frames came".encode())
            protocol.send_close(1000, "the other side has ended")
        protocol.receive_data(data) if data else protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode.value < 8:
                count += 1
                echo(protocol, event)
        goes_on = send(connection, protocol)


def echo(protocol: ServerProtocol, frame: Frame) -> None:
    if not frame.fin:
        protocol.send_ping(b"between")
    if frame.opcode is Opcode.CONT:
        protocol.send_continuation(frame.data, frame.fin)
    elif frame.opcode is Opcode.TEXT:
        protocol.send_text(frame.data, frame.fin)
    else:
        protocol.send_binary(frame.data, frame.fin)


def send(connection: serving.Connection, protocol: ServerProtocol) -> bool:
    """Whether more may follow: it is the server that ends a connection first."""
    for data in protocol.data_to_send():
        if not data:
            return False
        connection.send(data)
    return True

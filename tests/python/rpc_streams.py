"""An Outlook whose two RPC channels (see rpch) carry as much as they may, both at once and as fast as it goes; at first nobody reads on
either side.

Prints, as JSON, what left and what came at both ends.
"""

import json
import threading
import time

import h11

import published
import rpch
import streams
from channels import opened
from stepwise import Stream

PATIENCE = 660


def main() -> None:
    parser = published.parser(__doc__)
    parser.add_argument("--bytes", type=int, required=True, help="each channel's length")
    args = parser.parse_args()
    ins, outs = Stream(args, PATIENCE), Stream(args, PATIENCE)
    begun = time.monotonic()
    virtual = opened(ins, outs, 6002, args.bytes)
    received: list[streams.Sum] = []

    def receive() -> None:
        time.sleep(2)
        received.append(streams.receive(virtual.arrived.rest(), outs.pieces()))

    reader = threading.Thread(target=receive)
    reader.start()
    sent = streams.send(lambda piece: ins.send(h11.Data(data=piece)), args.bytes - virtual.joining, rpch.REQUEST)
    ins.send(h11.EndOfMessage())
    status = ins.event().status_code
    server = json.loads(b"".join(ins.pieces()))
    reader.join()
    client = {"sent": sent.told(), "received": received[0].told()}
    took = time.monotonic() - begun
    print(json.dumps({"status": [virtual.status, status], "seconds": took, "client": client, "server": server}))


if __name__ == "__main__":
    main()

"""No server: a socket whose answer to any body is the sleep's. What one request costs on a machine by itself.

`thread` sleeps beside the event loop, as a server has to that goes on reading; `inline` on it.
"""

import asyncio
import os
import sys
import threading
import time
from queue import SimpleQueue

import uvloop

FIRST, EACH = (float(part) for part in os.environ["SLEEP"].split())
NUMBERS = bytes(4 * int(os.environ["OUTPUTS"]))
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(NUMBERS) + NUMBERS
LENGTH = b"content-length:"


class Socket(asyncio.Protocol):
    """Waits for the whole of a request and looks at nothing in it but its length."""

    waiting: SimpleQueue["Socket"] = SimpleQueue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.have = b""

    def data_received(self, data: bytes) -> None:
        self.have += data
        head, found, body = self.have.partition(b"\r\n\r\n")
        at = head.lower().find(LENGTH)
        length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if not found or len(body) < length:
            return
        self.have = b""
        if sys.argv[1] == "inline":
            time.sleep(FIRST + EACH)
            self.transport.write(REPLY)
        else:
            self.waiting.put(self)


def work(loop: asyncio.AbstractEventLoop) -> None:
    """One request after the other."""
    while True:
        asked = Socket.waiting.get()
        time.sleep(FIRST + EACH)
        loop.call_soon_threadsafe(asked.transport.write, REPLY)


async def main() -> None:
    """Until it is ended."""
    loop = asyncio.get_running_loop()
    threading.Thread(target=work, args=[loop], daemon=True).start()
    server = await loop.create_server(Socket, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


uvloop.run(main())

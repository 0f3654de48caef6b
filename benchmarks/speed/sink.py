"""A service that takes any upload and gives one file, as fast as a socket goes; a process of its own.

python -m benchmarks.speed.sink FILE [CERTIFICATE KEY]
"""

import json
import socket
import ssl
import sys
import threading
from pathlib import Path

BLOCK_BYTES = 1 << 20


def main() -> None:
    """Listen on a free loopback port, print it, and serve until the standard input ends."""
    content, *tls = (Path(name) for name in sys.argv[1:])
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener, context, content), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, context: ssl.SSLContext | None, content: Path) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, context, content), daemon=True).start()


def _serve(connection: socket.socket, context: ssl.SSLContext | None, content: Path) -> None:
    if context is not None:
        connection = context.wrap_socket(connection, server_side=True)
    buffer = bytearray(BLOCK_BYTES)
    with connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(65_536)
                if not more:
                    return
                head += more
            head, _, rest = head.partition(b"\r\n\r\n")
            left = _length(head) - len(rest)
            while left > 0:
                left -= connection.recv_into(buffer, min(left, BLOCK_BYTES))
            if head.startswith(b"GET"):
                _send(connection, content)
            else:
                _answer(connection)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _answer(connection: socket.socket) -> None:
    file = {"id": "file-1", "object": "file", "filename": "x", "purpose": "batch", "status": "processed"}
    body = json.dumps({**file, "created_at": 1}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _send(connection: socket.socket, content: Path) -> None:
    size = content.stat().st_size
    connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
    with content.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            connection.sendall(block)


if __name__ == "__main__":
    main()

"""A web server on this machine that serves one file, well or badly."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Server(http.server.ThreadingHTTPServer):
    """Serves one file.

    Attributes:
        content: The file.
        sends: How many bytes are sent before the connection breaks; None for all.
        says_length: Whether answers contain their length.
        status: Status to answer instead of the file.
        requests: The paths of the requests so far.
        pause: Is set while the server answers; a test clears it to make requests wait.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.sends, self.says_length = bytes(range(256)) * 4000, None, True
        self.status, self.requests = None, []
        self.pause = threading.Event()
        self.pause.set()
        self.url = f'http://127.0.0.1:{self.server_port}'

    def handle_error(self, *_):
        """Print nothing about connections that the client closed."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        server.pause.wait(30)
        if server.status:
            self.send_error(server.status)
            return
        self.send_response(200)
        if server.says_length:
            self.send_header('Content-Length', len(server.content))
        self.end_headers()
        self.wfile.write(server.content[: server.sends])


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.pause.set()
            server.shutdown()
            thread.join()

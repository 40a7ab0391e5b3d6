"""A web server on the loopback interface that gives what a test tells it to, faults included."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Page:
    """What the server answers to one path."""

    body: bytes = b""
    status: int = 200
    missing: int = 0  # bytes announced but never sent
    announce: bool = True  # send Content-Length
    pause: float = 0.0  # seconds between the two halves of the body


@dataclass
class Server:
    """A running server: its address and the paths it was asked for."""

    address: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(pages: Mapping[str, Page]) -> Iterator[Server]:
    """Serve pages by path ("/weights.pth") on 127.0.0.1 until the block ends; every other path is a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            page = pages.get(self.path, Page(b"<html>not found</html>", status=404))
            self.send_response(page.status)
            if page.announce:
                self.send_header("Content-Length", str(len(page.body) + page.missing))
            self.end_headers()
            half = len(page.body) // 2
            self.wfile.write(page.body[:half])
            self.wfile.flush()
            time.sleep(page.pause)
            self.wfile.write(page.body[half:])

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()

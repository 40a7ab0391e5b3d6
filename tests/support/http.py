"""A web server on the loopback interface that gives what a test tells it to, faults included."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    etag: str = ""  # what tells whether the body is the same; ranges are given where it or `ranges` is set
    ranges: bool = False  # give a part where one is asked for
    wrong_start: int = 0  # bytes by which a part begins too late
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A running server: its address, the paths it was asked for, and of each the range."""

    address: str
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


@contextmanager
def serve(pages: Mapping[str, Page | Sequence[Page]], *, daemon: bool = False) -> Iterator[Server]:
    """Serve pages by path ("/weights.pth") on 127.0.0.1 until the block ends; every other path is a 404.

    Of several pages at one path each is given once, and the last one from then on. With `daemon`, answers that are still on their way
    at the end are left to themselves.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            asked = self.headers.get("Range", "")
            server.ranges.append(asked)
            found = pages.get(self.path, Page(b"<html>not found</html>", status=404))
            number = server.asked.count(self.path) - 1
            page = found if isinstance(found, Page) else found[min(number, len(found) - 1)]
            begin, status, total = 0, page.status, len(page.body) + page.missing
            same = not self.headers.get("If-Range") or self.headers["If-Range"] == page.etag
            if asked and (page.etag or page.ranges) and same and status == 200:
                begin = int(asked.removeprefix("bytes=").removesuffix("-")) + page.wrong_start
                status = 206 if begin < total else 416
            body = page.body[begin:]
            self.send_response(status)
            if page.announce:
                self.send_header("Content-Length", str(total - begin if status != 416 else 0))
            if status == 206:
                self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
            if page.etag:
                self.send_header("ETag", page.etag)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            time.sleep(page.pause)
            with suppress(ConnectionError):  # who asked went away
                self.wfile.write(body[half:])

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads, listener.block_on_close = daemon, not daemon
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()

"""Bytes from a server to a file that is whole: resumed after a break, tried again after a pause, from one mirror after another.

What has come so far waits beside the file as `.<name>.partial`, with a note of where it came from, and the next attempt, or the
next command, goes on from there. The file gets its name when its size and digests were looked at, never before.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from zoo.core.files import OUT_OF_SPACE, write_atomically
from zoo.errors import ZooError

TIMEOUT = 30.0  # seconds without a sign of life from a server
ATTEMPTS = 4  # in a row that bring nothing new, at one link
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before another attempt; doubled each time
PIECE = 1 << 20
LONGEST_PAGE = 1 << 18  # of a page for people that is read to see what it says
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}

Check = Callable[[int, str, str], str | None]
"""From size, SHA-256 and MD5 of a file to what is wrong with it, or None."""


class RefusalError(Exception):
    """A mirror did not give the file; the message says why."""


class InterruptionError(RefusalError):
    """It may give it the next time.

    Args:
        message: what happened.
        wait: seconds that the server asked for.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def download(links: Sequence[str], path: Path, check: Check, *, size: int | None = None, known: bool = False) -> str:
    """Bring a file from the first link that gives it; the caller holds a lock on it.

    Args:
        links: where it can be had, tried in turn.
        path: where it is to lie; the folder exists.
        check: says what is wrong with a file.
        size: bytes, where known.
        known: whether `check` knows a digest, so that what one link began may be finished by another.

    Returns:
        The file's SHA-256.

    Raises:
        RefusalError: no link gave it; the message says why of each.
        ZooError: it does not fit on the disk.
    """
    refusals = []
    for link in links:
        print(f"Downloading {path.name} from {link} to {path.parent}", file=sys.stderr)
        try:
            return _from_link(link, path, check, size, known)
        except RefusalError as refused:
            refusals.append(f"{link}: {refused}")
    raise RefusalError("; ".join(refusals))


def partial_of(path: Path) -> Path:
    """Where what has come of a file so far waits."""
    return path.with_name(f".{path.name}.partial")


def note_of(path: Path) -> Path:
    """Where it is noted what that is a part of."""
    return path.with_name(f".{path.name}.partial.json")


def forget(path: Path) -> None:
    """Remove what has come of a file so far."""
    partial_of(path).unlink(missing_ok=True)
    note_of(path).unlink(missing_ok=True)


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of a file, which is read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            sha256.update(piece)
            md5.update(piece)
    return sha256.hexdigest(), md5.hexdigest()


def _from_link(link: str, path: Path, check: Check, size: int | None, known: bool) -> str:
    most = failures = 0
    while True:
        try:
            resumed = _attempt(link, path, size, known)
            return _accept(path, check, resumed)
        except InterruptionError as interruption:
            here = partial_of(path).stat().st_size if partial_of(path).exists() else 0
            failures = 1 if here > most else failures + 1
            most = max(most, here)
            if failures >= ATTEMPTS:
                raise RefusalError(f"{interruption}, in {failures} attempts") from interruption
            pause = min(max(interruption.wait, FIRST_PAUSE * 2 ** (failures - 1)), LONGEST_PAUSE)
            print(f"{path.name}: {interruption}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def _attempt(link: str, path: Path, size: int | None, known: bool) -> bool:
    """Append to what is here until all is here; say whether something was."""
    partial, note = partial_of(path), _read_note(path)
    here = partial.stat().st_size if partial.exists() else 0
    validator = str(note.get("validator", "")) if note.get("link") == link else ""
    if here and not (validator or known):  # where a digest is known, what does not fit is found out
        forget(path)
        here = 0
    headers = {"Range": f"bytes={here}-"} if here else {}
    if validator and here:
        headers["If-Range"] = validator
    with _open(link, headers, path) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            start, total = _range_of(response)
            if start != here:
                forget(path)
                raise InterruptionError(f"the server went on at byte {start:,} instead of {here:,}")
        else:
            here, total = 0, _number(response.headers.get("Content-Length"))
        first = _next_piece(response)
        if not here and _is_page(first):
            while len(first) < LONGEST_PAGE and (piece := _next_piece(response)):
                first += piece
            refusal = _refusal_of_page(first)
            if form := _confirmation(first, response.url):
                return _attempt(form, path, size, known) if form != link else _refuse(refusal)
            _refuse(refusal)
        if size is not None and total is not None and total != size:
            forget(path)
            raise RefusalError(f"a wrong file came, it has {total:,} bytes instead of {size:,}")
        note = {"link": link, "validator": _validator(response)}
        write_atomically(note_of(path), json.dumps(note).encode())
        _append(response, first, path, here, total if total is not None else size)
    came = partial.stat().st_size
    if total is not None and came < total:
        raise InterruptionError(f"the connection ended after {came:,} of {total:,} bytes")
    return here > 0


def _append(response: http.client.HTTPResponse, first: bytes, path: Path, here: int, total: int | None) -> None:
    needed, free = (total or 0) - here, shutil.disk_usage(path.parent).free
    if needed > free:
        raise ZooError(
            f"{path} does not fit on its disk: {free:,} bytes are free and it needs {needed:,}. Make room, then run the command again."
        )
    try:
        with (
            partial_of(path).open("r+b" if here else "wb") as file,
            tqdm(
                total=total, initial=here, unit="B", unit_scale=True, desc=path.name, file=sys.stderr, disable=None
            ) as bar,
        ):
            file.seek(here)
            piece = first
            while piece:
                file.write(piece)
                bar.update(len(piece))
                if total is not None and file.tell() > total:
                    file.close()
                    forget(path)
                    raise RefusalError(f"a wrong file came, it has more than {total:,} bytes")
                piece = _next_piece(response)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        raise ZooError(
            f"{path} does not fit on its disk or quota. Make room or raise the limit, then run the command again: it goes on where it was."
        ) from error


def _accept(path: Path, check: Check, resumed: bool) -> str:
    """Give a whole and right file its name."""
    partial = partial_of(path)
    sha256, md5 = digests(partial)
    if fault := check(partial.stat().st_size, sha256, md5):
        forget(path)
        if resumed:
            raise InterruptionError(f"what was resumed is a wrong file, {fault}")
        raise RefusalError(f"a wrong file came, {fault}")
    partial.replace(path)
    note_of(path).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    with suppress(OSError):  # some network file systems cannot sync a folder
        os.fsync(folder)
    os.close(folder)
    return sha256


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(note_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


# What a server says --------------------------------------------------------------------------------------------------


class _Redirects(HTTPRedirectHandler):
    """Follows redirections, but never from an encrypted link to one that is not."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != "https" and (after.scheme, before.scheme) != ("http", "http"):
            raise RefusalError(f"the server sends on to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(link: str, headers: dict[str, str], path: Path) -> http.client.HTTPResponse:
    request = Request(link, headers={"User-Agent": "translation-zoo", **headers})
    try:
        response: http.client.HTTPResponse = build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        said = f"the server answered {error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            forget(path)
            raise InterruptionError(said) from error
        if error.code in WORTH_ANOTHER_TRY:
            raise InterruptionError(said, float(_number(error.headers.get("Retry-After")) or 0)) from error
        raise RefusalError(said) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        kind = RefusalError if isinstance(reason, socket.gaierror) else InterruptionError  # no such name, or no network
        raise kind(f"no connection: {reason}") from error
    return response


def _next_piece(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise InterruptionError(f"the connection broke off: {error}") from error


def _range_of(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """First byte and size of the whole file, as a partial answer says."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    return (int(found[1]), _number(found[2])) if found else (-1, None)


def _validator(response: http.client.HTTPResponse) -> str:
    """What tells whether the file behind a link is still the same."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _refuse(why: str) -> bool:
    raise RefusalError(why)


def _is_page(start: bytes) -> bool:
    return start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _refusal_of_page(start: bytes) -> str:
    """What to say of a page for people that came instead of a file."""
    text = start.decode("utf-8", "replace")
    title = re.search("<title[^>]*>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    title = title or re.search("<Message>(.*?)</Message>", text, re.DOTALL)
    said = " ".join(title[1].split()) if title else ""
    words = f"a web page came instead of the file{f', {said[:100]!r}' if said else ''}"
    if re.search("quota exceeded|too many users", text, re.IGNORECASE):
        words += (
            "; so many people fetched it lately that Google waits up to a day, but often gives it to who is logged in"
        )
    return words


class _Form(HTMLParser):
    """The form by which Google Drive asks whether a large file is wanted although no one looked for viruses in it."""

    def __init__(self) -> None:
        super().__init__()
        self.action, self.values, self.inside = "", dict[str, str](), False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.inside = found.get("id") == "download-form"
            self.action = found.get("action", "") if self.inside else self.action
        elif tag == "input" and self.inside and found.get("name"):
            self.values[found["name"]] = found.get("value", "")


def _confirmation(start: bytes, link: str) -> str:
    """The link behind Google Drive's question; empty where a page asks none."""
    form = _Form()
    form.feed(start.decode("utf-8", "replace"))
    target = urljoin(link, form.action)
    asks_itself = urlsplit(target).hostname in (urlsplit(link).hostname, "drive.usercontent.google.com")
    return f"{target}?{urlencode(form.values)}" if form.action and form.values and asks_itself else ""

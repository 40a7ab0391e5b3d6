import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request

import pytest

from support.http import Page, Server, serve
from zoo.errors import ZooError
from zoo.registry import ROOMS
from zoo.weights.fetch import WeightFile, fetch, find_entry, read_catalogue, weights_folder
from zoo.weights.transfer import RefusalError, _Redirects

BODY = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = BODY[::-1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr("zoo.weights.transfer.FIRST_PAUSE", 0.0)
    return tmp_path / "home"


def entry(*urls: str, size: int | None = len(BODY), sha256: str | None = SHA256, prefix: str = "") -> WeightFile:
    return WeightFile("net", "net.pth", urls, size, sha256, "MIT", "https://example.org", "a network", prefix)


def get(weights: WeightFile) -> Path:
    return fetch("net", {"net": weights})


def left() -> list[str]:
    """Name what a fetch left, apart from the empty lock."""
    return sorted(path.name for path in weights_folder().iterdir() if path.name != ".net.pth.lock")


def test_a_good_file_is_downloaded_once(capfd: pytest.CaptureFixture[str]) -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        path = get(entry(f"{server.address}/net.pth"))
        assert path == weights_folder() / "net.pth"
        assert path.read_bytes() == BODY
        assert left() == ["net.pth", "net.pth.pin.json"]
        assert get(entry(f"{server.address}/net.pth")) == path
        assert server.asked == ["/net.pth"]
    assert get(entry(f"{server.address}/net.pth")) == path  # the server is gone
    out, err = capfd.readouterr()
    assert out == ""
    assert f"Downloading net.pth from {server.address}/net.pth" in err


def test_a_file_is_hashed_once_and_again_when_it_was_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("zoo.weights.fetch.sha256_of", counting)
    path = weights_folder() / "net.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)  # put there by hand
    for _ in range(3):
        assert get(entry("http://127.0.0.1:9/")) == path
    assert hashed == [path]
    os.utime(path, ns=(0, 0))
    get(entry("http://127.0.0.1:9/"))
    get(entry("http://127.0.0.1:9/"))
    assert hashed == [path, path]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (
            Page(OTHER),
            f"wrong file came, its SHA-256 is {hashlib.sha256(OTHER).hexdigest()}, expected was SHA-256 {SHA256}",
        ),
        (Page(BODY[:-1]), "wrong file came, it has 767,999 bytes instead of 768,000"),
        (Page(BODY[:-1], announce=False), "wrong file came, it has 767,999 bytes instead of 768,000"),
        (Page(b"gone", status=404), "the server answered 404 Not Found"),
        (Page(b"busy", status=503), "the server answered 503 Service Unavailable"),
        (Page(b"\n <!DOCTYPE html><html>Too many downloads</html>"), "a web page came instead of the file"),
    ],
)
def test_a_bad_answer_is_told_and_leaves_nothing(page: Page, said: str) -> None:
    with serve({"/net.pth": page}) as server, pytest.raises(ZooError) as caught:
        get(entry(f"{server.address}/net.pth"))
    assert said in str(caught.value)
    assert left() == []


def test_without_a_digest_a_page_and_a_truncated_file_are_still_refused() -> None:
    with serve({"/page": Page(b"<HTML>sign in</HTML>"), "/short": Page(BODY, missing=5)}) as server:
        for path, said in [("page", "web page"), ("short", "ended after 768,000 of 768,005 bytes, in 4 attempts")]:
            with pytest.raises(ZooError, match=said):
                get(entry(f"{server.address}/{path}", size=None, sha256=None))
        assert server.asked == ["/page", *["/short"] * 4]
        assert set(server.ranges) == {""}  # nothing tells that the file behind the link is still the same


def test_mirrors_are_tried_in_turn() -> None:
    pages = {"/a": Page(b"", status=500), "/b": Page(OTHER), "/c": Page(BODY), "/d": Page(BODY)}
    with serve(pages) as server:
        path = get(entry(*(server.address + name for name in pages)))
        assert server.asked == ["/a"] * 4 + ["/b", "/c"]
    assert path.read_bytes() == BODY


def test_all_refusals_of_the_mirrors_are_told() -> None:
    with (
        serve({"/b": Page(OTHER)}) as server,
        pytest.raises(ZooError, match=r"/a: the server answered 404 .*/b: a wrong"),
    ):
        get(entry(f"{server.address}/a", f"{server.address}/b"))


def test_offline_says_what_to_put_where_and_asks_no_one(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with serve({"/net.pth": Page(BODY)}) as server:
        with pytest.raises(ZooError, match="ZOO_OFFLINE") as caught:
            get(entry(f"{server.address}/net.pth"))
        for part in ("net.pth is needed", SHA256, str(home / "weights"), f"{server.address}/net.pth"):
            assert part in str(caught.value)
        (home / "weights" / "net.pth").write_bytes(BODY)
        assert get(entry(f"{server.address}/net.pth")) == home / "weights" / "net.pth"
        assert server.asked == []


def test_no_network_says_what_to_put_where(home: Path) -> None:
    with serve({}) as server:
        pass
    with pytest.raises(ZooError, match="Connection refused") as caught:
        get(entry(f"{server.address}/net.pth"))
    for part in ("net.pth is needed", SHA256, str(home / "weights"), f"{server.address}/net.pth"):
        assert part in str(caught.value)
    assert left() == []


QUOTA = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p class="uc-error-caption">
Sorry, you can't view or download this file at this time.</p>Too many users have viewed or downloaded it recently.</body></html>"""
LOGIN = b"<html><head><title>Sign in -\n Google Accounts</title></head><body>enter your password</body></html>"


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, dict[str, Page]]]:
    """A Google Drive of this machine, and its pages."""
    pages: dict[str, Page] = {}
    with serve(pages) as server:
        monkeypatch.setattr("zoo.weights.catalogue.GOOGLE_DRIVE", server.address + "/download?id={}&confirm=t")
        yield server, pages


def on_drive(*urls: str) -> WeightFile:
    return dataclasses.replace(entry(*urls, size=None, sha256=None), google_drive="1aB-c_d")


def test_a_file_on_google_drive(drive: tuple[Server, dict[str, Page]], capsys: pytest.CaptureFixture[str]) -> None:
    server, pages = drive
    pages["/download?id=1aB-c_d&confirm=t"] = Page(BODY)
    assert get(on_drive()).read_bytes() == BODY
    assert get(on_drive()).read_bytes() == BODY
    assert server.asked == ["/download?id=1aB-c_d&confirm=t"]
    assert f"pinned to SHA-256 {SHA256}" in capsys.readouterr().err
    get(on_drive()).unlink()
    pages["/mirror"] = Page(BODY)
    get(on_drive(f"{server.address}/mirror"))
    assert server.asked[1:] == ["/mirror"]  # mirrors come first


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page(QUOTA), r"a web page came instead of the file, 'Google Drive - Quota exceeded'; so many people"),
        (Page(LOGIN), r"a web page came instead of the file, 'Sign in - Google Accounts'\)"),
        (Page(b"<html>no title</html>"), r"a web page came instead of the file\)"),
        (Page(b"", status=403), "the server answered 403 Forbidden"),
    ],
)
def test_google_drive_refuses(drive: tuple[Server, dict[str, Page]], page: Page, said: str, home: Path) -> None:
    drive[1]["/download?id=1aB-c_d&confirm=t"] = page
    with pytest.raises(ZooError, match=said) as caught:
        get(on_drive())
    advice = f"https://drive.google.com/file/d/1aB-c_d/view and put it into {home / 'weights'} as net.pth"
    assert advice in str(caught.value)
    assert left() == []
    (home / "weights" / "net.pth").write_bytes(BODY)  # what the message says
    assert get(on_drive()) == home / "weights" / "net.pth"


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.weights.transfer.TIMEOUT", 0.2)
    monkeypatch.setattr("zoo.weights.transfer.ATTEMPTS", 2)
    with serve({"/net.pth": Page(BODY, pause=0.6)}) as server, pytest.raises(ZooError, match="broke off: timed out"):
        get(entry(f"{server.address}/net.pth"))
    assert not (weights_folder() / "net.pth").exists()


def test_a_wrong_file_put_there_by_hand_is_named_and_kept() -> None:
    path = weights_folder() / "net.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    with pytest.raises(ZooError, match=r"net\.pth is not net: its SHA-256 is .*Delete it"):
        get(entry("http://127.0.0.1:9/"))
    assert path.read_bytes() == OTHER


def test_a_file_that_changed_after_its_check_is_refused() -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        path = get(entry(f"{server.address}/net.pth"))
        path.write_bytes(OTHER)
        with pytest.raises(ZooError, match="is not net"):
            get(entry(f"{server.address}/net.pth"))


def test_without_a_published_digest_the_first_file_is_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    pages = {"/net.pth": Page(BODY)}
    with serve(pages) as server:
        unknown = entry(f"{server.address}/net.pth", size=None, sha256=None)
        path = get(unknown)
        assert f"not verified, no full digest is published; pinned to SHA-256 {SHA256}" in capsys.readouterr().err
        assert json.loads((weights_folder() / "net.pth.pin.json").read_text())["sha256"] == SHA256

        path.unlink()
        pages["/net.pth"] = Page(OTHER)
        with pytest.raises(ZooError, match=rf"but {SHA256} was pinned .*delete \S+net\.pth\.pin\.json as well"):
            get(unknown)
        assert left() == ["net.pth.pin.json"]

        (weights_folder() / "net.pth.pin.json").unlink()  # what the message says
        assert get(unknown).read_bytes() == OTHER


def test_a_file_put_in_place_of_a_pinned_one_is_refused() -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        unknown = entry(f"{server.address}/net.pth", sha256=None)
        get(unknown).write_bytes(OTHER)
        with pytest.raises(ZooError, match=f"{SHA256} was pinned"):
            get(unknown)


def test_the_known_first_digits_are_checked() -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        url = f"{server.address}/net.pth"
        with pytest.raises(ZooError, match=r"expected was SHA-256 00000000\.\.\."):
            get(entry(url, sha256=None, prefix="00000000"))
        assert left() == []
        assert get(entry(url, sha256=None, prefix=SHA256[:8])).read_bytes() == BODY


def test_a_catalogue_that_names_another_digest_is_not_fooled_by_the_pin() -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        good = entry(f"{server.address}/net.pth")
        get(good)
        with pytest.raises(ZooError, match="is not net"):
            get(dataclasses.replace(good, sha256="0" * 64))


def test_a_damaged_pin_is_told() -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        path = get(entry(f"{server.address}/net.pth"))
        path.with_name("net.pth.pin.json").write_text("{}")
        with pytest.raises(ZooError, match=r"net\.pth\.pin\.json is damaged .*Delete it"):
            get(entry(f"{server.address}/net.pth"))


def test_the_name_never_shows_a_part_of_the_file() -> None:
    seen: set[int] = set()
    with serve({"/net.pth": Page(BODY, pause=0.3)}) as server:
        thread = threading.Thread(target=get, args=[entry(f"{server.address}/net.pth")])
        thread.start()
        parts: set[str] = set()
        while thread.is_alive():
            path = weights_folder() / "net.pth"
            if path.exists():
                seen.add(path.stat().st_size)
            parts.update(part.name for part in weights_folder().glob(".net.pth.partial"))
        thread.join()
    assert seen <= {len(BODY)}
    assert parts == {".net.pth.partial"}  # it was on its way under another name
    assert left() == ["net.pth", "net.pth.pin.json"]


def test_what_a_killed_download_left_is_removed() -> None:
    weights_folder().mkdir(parents=True)
    (weights_folder() / ".net.pth.0123abcd.part").write_bytes(b"half")
    with serve({"/net.pth": Page(BODY)}) as server:
        get(entry(f"{server.address}/net.pth"))
    assert left() == ["net.pth", "net.pth.pin.json"]


ETAG = '"v1"'
HALF = len(BODY) // 2


def part(body: bytes = BODY, *, link: str = "", validator: str = "") -> None:
    """What a download that broke off left."""
    weights_folder().mkdir(parents=True, exist_ok=True)
    (weights_folder() / ".net.pth.partial").write_bytes(body)
    (weights_folder() / ".net.pth.partial.json").write_text(json.dumps({"link": link, "validator": validator}))


def test_a_connection_that_breaks_off_is_resumed_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    cut = dataclasses.replace(Page(etag=ETAG), body=BODY[:HALF], missing=len(BODY) - HALF)
    with serve({"/net.pth": [cut, Page(BODY, etag=ETAG)]}) as server:
        assert get(entry(f"{server.address}/net.pth", sha256=None)).read_bytes() == BODY
        assert server.ranges == ["", f"bytes={HALF}-"]
    assert left() == ["net.pth", "net.pth.pin.json"]
    assert f"the connection ended after {HALF:,} of {len(BODY):,} bytes; trying again in" in capsys.readouterr().err


def test_a_later_command_goes_on_where_an_earlier_one_broke_off() -> None:
    with serve({"/net.pth": Page(BODY, etag=ETAG)}) as server:
        link = f"{server.address}/net.pth"
        part(BODY[:1000], link=link, validator=ETAG)
        assert get(entry(link, size=None, sha256=None)).read_bytes() == BODY
        assert server.ranges == ["bytes=1000-"]


def test_with_a_digest_another_mirror_finishes_what_one_began() -> None:
    with serve({"/b": Page(BODY, ranges=True)}) as server:
        part(BODY[:1000], link="https://example.org/a", validator=ETAG)
        assert get(entry(f"{server.address}/b")).read_bytes() == BODY
        assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize(
    ("kept", "page", "ranges"),
    [
        (OTHER[:1000], Page(BODY, etag=ETAG), ["bytes=1000-", ""]),  # the part is of something else: all again
        (BODY[:1000], Page(BODY), ["bytes=1000-"]),  # the server ignores ranges and sends all
        (BODY[:1000], Page(BODY, etag=ETAG, wrong_start=7), ["bytes=1000-", ""]),
        (BODY + b"more", Page(BODY, etag=ETAG), [f"bytes={len(BODY) + 4}-", ""]),  # 416
        (BODY[:1000], Page(BODY, etag='"v2"'), ["bytes=1000-"]),  # the file behind the link changed: all again
    ],
)
def test_a_part_that_does_not_fit_is_fetched_again(kept: bytes, page: Page, ranges: list[str]) -> None:
    with serve({"/net.pth": page}) as server:
        link = f"{server.address}/net.pth"
        part(kept, link=link, validator=ETAG)
        assert get(entry(link)).read_bytes() == BODY
        assert server.ranges == ranges
    assert left() == ["net.pth", "net.pth.pin.json"]


def test_a_part_without_anything_that_tells_its_origin_is_dropped() -> None:
    with serve({"/net.pth": Page(BODY, etag=ETAG)}) as server:
        part(OTHER[:1000], link="https://example.org/other", validator=ETAG)
        assert get(entry(f"{server.address}/net.pth", size=None, sha256=None)).read_bytes() == BODY
        assert server.ranges == [""]


def test_a_busy_server_is_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("zoo.weights.transfer.FIRST_PAUSE", 1.0)
    monkeypatch.setattr("zoo.weights.transfer.time.sleep", pauses.append)
    busy = Page(status=503)
    patient = Page(status=429, headers={"Retry-After": "7"})
    with serve({"/net.pth": [busy, busy, patient, Page(BODY)]}) as server:
        assert get(entry(f"{server.address}/net.pth")).read_bytes() == BODY
    assert [pause for pause in pauses if pause >= 1] == [1.0, 2.0, 7.0]


def test_what_will_not_change_is_not_asked_again() -> None:
    with serve({"/net.pth": Page(OTHER)}) as server:
        with pytest.raises(ZooError, match="404"):
            get(entry(f"{server.address}/none"))
        with pytest.raises(ZooError, match="a wrong file came"):
            get(entry(f"{server.address}/net.pth"))
        assert server.asked == ["/none", "/net.pth"]


def test_redirections_are_followed_but_not_into_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        away = Page(status=302, headers={"Location": f"{server.address}/net.pth"})
        with serve({"/net.pth": away}) as other:
            assert get(entry(f"{other.address}/net.pth")).read_bytes() == BODY
        astray = Page(status=302, headers={"Location": "ftp://127.0.0.1/net.pth"})
        get(entry(f"{server.address}/net.pth")).unlink()
        with serve({"/net.pth": astray}) as other, pytest.raises(ZooError, match=r"sends on to ftp.*not encrypted"):
            get(entry(f"{other.address}/net.pth"))
    redirects = _Redirects()
    with pytest.raises(RefusalError, match="not encrypted"):
        redirects.redirect_request(Request("https://a.org/x"), None, 302, "", {}, "http://a.org/x")


def test_mirrors_of_the_environment_take_the_place_of_the_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"/zoo/weights/net.pth": Page(BODY), "/net.pth": Page(BODY)}) as server:
        monkeypatch.setenv("ZOO_MIRROR", f"{server.address}/empty {server.address}/zoo/")
        assert get(entry(f"{server.address}/net.pth")).read_bytes() == BODY
        assert server.asked == ["/empty/weights/net.pth", "/zoo/weights/net.pth"]
    monkeypatch.setenv("ZOO_MIRROR", "somewhere")
    (weights_folder() / "net.pth").unlink()
    with pytest.raises(ZooError, match="ZOO_MIRROR names 'somewhere', which is no link"):
        get(entry(f"{server.address}/net.pth"))


def test_a_folder_may_be_chosen_and_the_pin_is_known_everywhere(tmp_path: Path) -> None:
    pages = {"/net.pth": Page(BODY)}
    with serve(pages) as server:
        unknown = entry(f"{server.address}/net.pth", size=None, sha256=None)
        assert fetch("net", {"net": unknown}, tmp_path / "a") == tmp_path / "a" / "net.pth"
        pages["/net.pth"] = Page(OTHER)
        with pytest.raises(ZooError, match=f"{SHA256} was pinned"):
            fetch("net", {"net": unknown}, tmp_path / "b")
        assert not (tmp_path / "b" / "net.pth").exists()


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("zoo.weights.transfer.shutil.disk_usage", lambda _: usage)
    with serve({"/net.pth": Page(BODY)}) as server, pytest.raises(ZooError, match="1,000 bytes are free and it needs"):
        get(entry(f"{server.address}/net.pth"))
    assert not (weights_folder() / "net.pth").exists()


def test_a_server_without_end_is_stopped_at_the_size() -> None:
    with (
        serve({"/net.pth": Page(BODY * 2, announce=False)}) as server,
        pytest.raises(ZooError, match="it has more than"),
    ):
        get(entry(f"{server.address}/net.pth"))
    assert left() == []


def test_an_md5_is_checked_where_it_is_published() -> None:
    md5 = hashlib.md5(BODY).hexdigest()
    with serve({"/net.pth": Page(BODY)}) as server:
        known = dataclasses.replace(entry(f"{server.address}/net.pth", sha256=None), md5=md5)
        assert get(known).read_bytes() == BODY
        get(known).unlink()
        (weights_folder() / "net.pth.pin.json").unlink()
        with pytest.raises(ZooError, match=r"its MD5 is .*, expected was MD5 000"):
            get(dataclasses.replace(known, md5="0" * 32))


def test_the_licence_is_told_before_a_download(capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"/net.pth": Page(BODY)}) as server:
        get(entry(f"{server.address}/net.pth"))
    assert "net.pth is bound to its licence: MIT. See https://example.org" in capsys.readouterr().err


def test_names_are_found_however_they_are_spelled() -> None:
    assert find_entry("gpunit-Cat2Dog").name == "gpunit_cat2dog"


VIRUSES = b"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="download-form" action="/really" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="1aB-c_d"><input type="hidden" name="uuid" value="u 1"></form></body></html>"""


def test_the_question_of_google_drive_is_answered(drive: tuple[Server, dict[str, Page]]) -> None:
    server, pages = drive
    pages["/download?id=1aB-c_d&confirm=t"] = Page(VIRUSES)
    pages["/really?id=1aB-c_d&uuid=u+1"] = Page(BODY)
    assert get(on_drive()).read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_question_that_leads_elsewhere_is_not_answered(drive: tuple[Server, dict[str, Page]]) -> None:
    _, pages = drive
    pages["/download?id=1aB-c_d&confirm=t"] = Page(VIRUSES.replace(b"/really", b"https://example.org/really"))
    with pytest.raises(ZooError, match="a web page came instead of the file, 'Google Drive - Virus scan warning'"):
        get(on_drive())
    pages["/download?id=1aB-c_d&confirm=t"] = pages["/really?id=1aB-c_d&uuid=u+1"] = Page(VIRUSES)
    with pytest.raises(ZooError, match="a web page came"):
        get(on_drive())


# zoo.core imports torch, which these processes do not need: its package is entered without its __init__.
LIGHT = """
import sys, types, zoo
core = sys.modules["zoo.core"] = types.ModuleType("zoo.core")
core.__path__ = [zoo.__path__[0] + "/core"]
"""

CATALOGUE = """
net:
  file: net.pth
  urls: [{url}]
  size: {size}
  sha256: {sha256}
  licence: MIT
  source: https://example.org
  description: a network
"""


def write_catalogue(folder: Path, server: Server) -> Path:
    folder.mkdir()
    text = CATALOGUE.format(url=f"{server.address}/net.pth", size=len(BODY), sha256=SHA256)
    (folder / "nets.yaml").write_text(text)
    return folder


def test_two_processes_download_once(tmp_path: Path) -> None:
    code = """if True:
        from pathlib import Path
        from zoo.weights.fetch import fetch, read_catalogue
        catalogue = read_catalogue(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        print(fetch("net", catalogue))
    """
    with serve({"/net.pth": Page(BODY, pause=1.0)}) as server:
        folder = write_catalogue(tmp_path / "catalogue", server)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", LIGHT + code, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60) for process in processes]
        assert [out for out, _ in answers] == [f"{weights_folder() / 'net.pth'}\n"] * 2, answers
        assert server.asked == ["/net.pth"]
    assert sum("Waiting for the download of net.pth" in err for _, err in answers) == 1


def test_a_killed_process_leaves_what_came_and_the_next_goes_on(tmp_path: Path) -> None:
    code = """if True:
        from pathlib import Path
        from zoo.weights.fetch import fetch, read_catalogue
        fetch("net", read_catalogue(Path(sys.argv[1])))
    """
    with serve({"/net.pth": [Page(BODY, etag=ETAG, pause=30.0), Page(BODY, etag=ETAG)]}, daemon=True) as server:
        folder = write_catalogue(tmp_path / "catalogue", server)
        process = subprocess.Popen([sys.executable, "-c", LIGHT + code, str(folder)], stderr=subprocess.DEVNULL)
        partial = weights_folder() / ".net.pth.partial"
        end = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = partial.stat().st_size
        assert not (weights_folder() / "net.pth").exists()
        assert get(entry(f"{server.address}/net.pth")).read_bytes() == BODY
        assert server.ranges == ["", f"bytes={kept}-"]
    assert left() == ["net.pth", "net.pth.pin.json"]


def test_unknown_names_and_near_ones() -> None:
    with pytest.raises(ZooError, match="Did you mean 'vgg19'"):
        fetch("vgg_19")
    with pytest.raises(ZooError, match="There are: net"):
        fetch("vgg19", {"net": entry("https://example.org/net.pth")})


def test_catalogue_mistakes_are_named(tmp_path: Path) -> None:
    with serve({}) as server:
        folder = write_catalogue(tmp_path / "catalogue", server)
    path = folder / "nets.yaml"
    good = path.read_text()
    for bad, said in [
        (good.replace("licence", "license"), "entry 'net': .*license"),
        (good.replace("  size: 768000\n", ""), "entry 'net': .*size"),
        (good.replace("http://127.0.0.1", "http://example.org"), "is not an https link"),
        (good.replace(SHA256, SHA256[:40]), "sha256 is not 64"),
        (re.sub("  urls: .*\n", "", good), "neither urls nor google_drive nor hugging_face"),
    ]:
        path.write_text(bad)
        with pytest.raises(ZooError, match=said):
            read_catalogue(folder)
    path.write_text(good)
    (folder / "more.yaml").write_text(good)
    with pytest.raises(ZooError, match="'net' is taken"):
        read_catalogue(folder)


def test_our_own_catalogue() -> None:
    catalogue = read_catalogue()
    assert {"vgg16", "vgg19", "model_ir_se50", "content_encoder", "gpunit_cat2dog"} <= catalogue.keys()
    assert len({weights.file for weights in catalogue.values()}) == len(catalogue)  # they share a folder
    assert catalogue["vgg19"].file == "vgg19-dcbb9e9d.pth"
    for weights in catalogue.values():
        _, _, prefix = Path(weights.file).stem.rpartition("-")
        if "download.pytorch.org" in weights.links[0]:  # its names carry the first digits of the digest
            assert len(prefix) == 8
            assert (weights.sha256 or weights.sha256_prefix).startswith(prefix)
            assert weights.links[0].endswith(weights.file)
        assert weights.page.startswith("http://" if weights.unencrypted else "https://")
        assert not weights.room or weights.room in ROOMS
        assert weights.licence
        assert weights.source.startswith("https://")


def test_where_files_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights_folder() == tmp_path / "home" / "weights"
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "translation-zoo" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "translation-zoo" / "weights"

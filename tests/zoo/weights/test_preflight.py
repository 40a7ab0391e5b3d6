import dataclasses
import socket
import time
from pathlib import Path

import pytest

from support.http import Page, serve
from zoo.weights.fetch import WeightFile, weights_folder
from zoo.weights.preflight import is_name, missing_weights

OPTION = "--model.content_encoder"
ENTRY = WeightFile("net", "net.pth", (), None, None, "MIT", "https://example.org", "a network")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def missing(*urls: str, option: str = OPTION) -> list[str]:
    return missing_weights("net", option, {"net": dataclasses.replace(ENTRY, urls=urls)})


def dead_address() -> str:
    with serve({}) as server:
        return server.address


def test_nothing_is_missing_where_a_server_gives_any_answer() -> None:
    with serve({"/net.pth": Page(b"weights")}) as server:
        for path in ("net.pth", "moved"):
            assert missing(f"{server.address}/{path}") == []
        assert missing(dead_address(), f"{server.address}/net.pth") == []
        assert server.asked == []  # the file itself was never asked for
    assert not weights_folder().exists()


def test_what_cannot_be_had_comes_with_what_to_type(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    first, second = dead_address(), dead_address()
    (said,) = missing(first, second)
    assert said.startswith(
        f"net.pth (net) is not on this machine, and {first.removeprefix('http://')} cannot be reached"
    )
    assert f"{second.removeprefix('http://')} cannot be reached (" in said
    assert "With a network: lightning download net." in said
    assert f"get it elsewhere from {first}, and put it into {home / 'weights'} as net.pth" in said
    assert said.endswith(f"or give the file's place: {OPTION} PATH.")
    assert missing(first, option="")[0].endswith("as net.pth (SHA-256 not published).")

    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with serve({}) as server:
        (said,) = missing(f"{server.address}/net.pth")
    assert "and ZOO_OFFLINE forbids the network. With a network: ZOO_OFFLINE=0 lightning download net." in said

    path = weights_folder() / "net.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert missing(first) == []


def test_a_silent_server_does_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.weights.preflight.PATIENCE", 0.2)

    # It takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        (said,) = missing(f"http://127.0.0.1:{listener.getsockname()[1]}/net.pth")
        assert time.monotonic() - begin < 2
    assert "cannot be reached (" in said


def test_paths_and_names(tmp_path: Path) -> None:
    assert [word for word in ("vgg19", "net.pth", "runs/x", "a/b.ckpt", "", ".") if is_name(word)] == ["vgg19"]
    (tmp_path / "encoder.pt").write_bytes(b"weights")
    (tmp_path / "first").mkdir()
    for source in ("encoder.pt", str(tmp_path / "encoder.pt"), "first", "./first"):
        assert missing_weights(source, OPTION) == []
    assert missing_weights("encodr.pt", OPTION) == [
        f"{OPTION} encodr.pt: there is no such file or folder. Did you mean {OPTION} encoder.pt?"
    ]
    assert missing_weights("runs/gone/x.ckpt") == [
        "runs/gone/x.ckpt: there is no such file or folder. Give the path of one."
    ]
    assert missing_weights("contentencoder", OPTION) == [
        f"{OPTION} contentencoder is neither the name of published weights nor a file. Did you mean {OPTION} content_encoder?"
    ]
    assert missing_weights("zzz", OPTION) == [f"{OPTION} zzz is neither the name of published weights nor a file."]

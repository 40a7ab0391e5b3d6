"""A headless Chromium, driven by chromedriver over plain HTTP (W3C WebDriver), so that no package is needed for it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 180.0  # seconds; machines that test may be busy
DROP = """
const [selector, name, type, content] = arguments;
const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], name, {type: type}));
const zone = document.querySelector(selector);
for (const kind of ["dragenter", "dragover", "drop"])
  zone.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
"""


def missing() -> str:
    """What is not installed here; empty where a browser can be driven."""
    if shutil.which("chromedriver") is None:
        return "chromedriver is not installed here"
    return "" if any(map(shutil.which, BROWSERS)) else "Chromium is not installed here"


class Browser:
    """A window of a headless browser.

    Args:
        driver: address of the running chromedriver.
        options: of the browser.
    """

    def __init__(self, driver: str, options: dict[str, Any]) -> None:
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL"}}
        made = _ask(f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"{driver}/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        _ask(f"{self.session}/url", {"url": url})

    def script(self, text: str, *arguments: object) -> Any:
        """What a script returns in the page."""
        return _ask(f"{self.session}/execute/sync", {"script": text, "args": list(arguments)})

    def wait(self, text: str, *arguments: object) -> Any:
        """What a script returns, as soon as that is something."""
        return self.until(lambda: self.script(text, *arguments), text)

    def until(self, found: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := found():
                return value
            time.sleep(0.1)
        raise TimeoutError(f"The page did not come so far in {PATIENCE:.0f} s: {what}")

    def click(self, selector: str) -> None:
        found = _ask(f"{self.session}/element", {"using": "css selector", "value": selector})
        _ask(f"{self.session}/element/{next(iter(found.values()))}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element, from its end on."""
        found = _ask(f"{self.session}/element", {"using": "css selector", "value": selector})
        _ask(f"{self.session}/element/{next(iter(found.values()))}/value", {"text": text})

    def drop(self, selector: str, file: Path, kind: str = "image/png") -> None:
        """Drop a file on an element, as a hand would."""
        self.script(DROP, selector, file.name, kind, base64.b64encode(file.read_bytes()).decode())

    def requests(self) -> list[str]:
        """Addresses that the page asked for since this was asked last."""
        entries = _ask(f"{self.session}/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if url.startswith(("http", "ws"))]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(_ask(f"{self.session}/screenshot")))


@contextmanager
def browser(folder: Path, width: int = 1200, height: int = 900) -> Iterator[Browser]:
    """A headless browser that reaches this machine alone, and keeps what it knows in a folder."""
    program = next(found for name in BROWSERS if (found := shutil.which(name)))
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"]
    words += [f"--window-size={width},{height}", f"--user-data-dir={folder}", "--hide-scrollbars"]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert driver.stdout is not None
    try:
        lines = iter(driver.stdout.readline, "")
        port = next(line.rstrip(".\n").split()[-1] for line in lines if "started successfully on port" in line)
        settings = {"download.default_directory": str(folder / "downloads")}
        window = _started(f"http://127.0.0.1:{port}", {"binary": program, "args": words, "prefs": settings})
        try:
            yield window
        finally:
            _ask(window.session, method="DELETE")
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()


def _started(driver: str, options: dict[str, Any], attempts: int = 3) -> Browser:
    """A window; on a busy machine a browser may take longer to start than its driver waits, so it is tried again."""
    for _ in range(attempts - 1):
        try:
            return Browser(driver, options)
        except RuntimeError as error:
            if "session not created" not in str(error):
                raise
    return Browser(driver, options)


def _ask(url: str, content: object = None, method: str = "") -> Any:
    """What the driver answers; an error says what it said."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    request.method = method or ("GET" if data is None else "POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(json.load(error)["value"]["message"].splitlines()[0]) from error

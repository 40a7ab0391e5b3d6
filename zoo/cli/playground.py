"""`lightning playground [WEIGHTS...]`: a page in the browser, of this machine alone, that translates what is dropped on it.

The page is Gradio's, served here. Nothing is asked of another machine: no analytics, no share, no fonts or scripts from elsewhere (the
browser is told to refuse them), and nothing stays behind when the command ends.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import DataError
from zoo.callbacks.judging import gives_attention
from zoo.cli.any_size import attend_any_size, translate_any_size
from zoo.cli.parser import CommandParser
from zoo.cli.suggest import did_you_mean
from zoo.cli.translate import draws_styles, keywords, needs_exemplar, own_domain, pick_device, read, translates
from zoo.cli.videos import sized
from zoo.core.images import save_png
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.weights.load import load
from zoo.weights.shipped import shipped

EXTRA = "pip install 'translation-zoo[playground]'"
HOST, PORT = "127.0.0.1", 7860
OWN_HOSTS = ("127.0.0.1", "localhost")
LARGEST_FILE = 20_000_000  # bytes of an uploaded picture
LARGEST_SIDE = 512  # pixels of a picture's shorter side; larger ones are made smaller first
LONGEST = 4  # times the shorter side, that the longer one may have
WAITING = 16  # translations that may be asked for at a time; they are made one after the other
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'none'"
"""What a browser may load for the page: what the page's own server gives."""

HEAD = "# Playground\nChoose weights, drop a picture, look at its translation. Nothing leaves this machine."
CSS = """
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: 0 auto !important; }
#head h1 { font-weight: 600; margin-bottom: 2px; }
#about { opacity: 0.7; }
#picture img, #exemplar img, #result img, #attention img { width: 100%; height: 100%; object-fit: contain; }
"""
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class Workshop:
    """The models of a page: loads the one that is asked for, and translates.

    Args:
        choices: weights that can be chosen; what `load` takes, by the name that is shown.
        device: where to translate.
        largest: pixels of the shorter side of what is translated; larger pictures are made smaller.
        folder: where results are written.
    """

    def __init__(self, choices: dict[str, str], device: torch.device, largest: int, folder: Path) -> None:
        self.choices, self.device, self.largest, self.folder = choices, device, largest, folder
        self._loaded: tuple[str, Translator] | None = None

    def model(self, name: str) -> Translator:
        """The model of this name; the one that was used last is kept.

        Raises:
            ZooError: there is none, or it does not translate.
        """
        if name not in self.choices:
            raise ZooError(f"There are no weights {name!r} on this page.{did_you_mean(name, self.choices)}")
        if self._loaded is None or name != self._loaded[0]:
            model = load(self.choices[name]).to(self.device)
            if not translates(model):
                raise ZooError(f"{type(model).__name__} does not translate: it is trained for others to build upon.")
            self._loaded = name, model
        return self._loaded[1]

    def domains(self, model: Translator) -> list[str]:
        """Where a model can translate to, its own choice first."""
        own = own_domain(model)
        named = list(getattr(model, "domains", ()))
        if named:
            return named
        return [own, "source"] if own == "target" else [own]

    def translate(
        self, name: str, picture: str | None, exemplar: str | None, to: str, seed: float | None
    ) -> tuple[Path, Path | None]:
        """Translate a picture file, and write the translation and, where the model has it, its attention map.

        Args:
            name: of the weights.
            picture: the file; None where nothing was dropped.
            exemplar: the file of a picture whose style is taken, where the model can.
            to: the domain.
            seed: of a random style, where the model draws some and there is no exemplar.

        Returns:
            PNG files.

        Raises:
            ZooError, DataError: something a person can mend.
        """
        if not picture:
            raise ZooError("Drop a picture first.")
        model = self.model(name)
        options: dict[str, Any] = {}
        if exemplar and "reference" in keywords(model):
            options["reference"] = self.read(exemplar)
        elif draws_styles(model):
            generator = torch.Generator().manual_seed(int(seed or 0))
            channels: Any = model.latent_channels
            options["latent"] = torch.randn(1, channels, generator=generator).to(self.device)
        elif needs_exemplar(model):
            raise ZooError(f"{type(model).__name__} translates in the style of an exemplar: drop one, too.")
        image = self.read(picture)
        attention: Tensor | None = None
        if gives_attention(type(model)):
            translation, attention = attend_any_size(model, image, to, **options)
        else:
            translation = translate_any_size(model, image, to, **options)
        place = self.folder / secrets.token_hex(8)
        made = save_png(translation[0].cpu(), place / "translation.png")
        return made, None if attention is None else save_png(attention[0].cpu(), place / "attention.png")

    def read(self, path: str) -> Tensor:
        """A picture `1 3 h w` in [-1, 1], on the device, no larger than the page allows.

        Raises:
            DataError: it cannot be read, or is far longer than wide.
        """
        image = read(Path(path), None)
        low, high = sorted(image.shape[-2:])
        if high > LONGEST * low:
            raise DataError(
                f"The picture has {image.shape[-1]}x{image.shape[-2]} pixels; a side may be {LONGEST} times the other."
            )
        return sized(image, self.largest if low > self.largest else None).to(self.device)


class FromHereAlone:
    """Answers with a policy that lets the browser load nothing from elsewhere.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def say(message: Scope) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        await self.app(scope, receive, say)


def run(arguments: Sequence[str]) -> int:
    """Run `lightning playground` until Ctrl-C.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    choices = find_choices(options.weights)
    with tempfile.TemporaryDirectory(prefix="playground-") as folder, listen(options.host, options.port) as listening:
        gradio = gradio_library(folder)
        workshop = Workshop(choices, pick_device(options.device), options.size, Path(folder))
        workshop.model(next(iter(choices)))  # what is wrong with it is said here, not in the page
        application = build(gradio, workshop, options.host)
        url = f"http://{options.host}:{listening.getsockname()[1]}"
        print(f"The playground is at {url} (Ctrl-C ends it)", flush=True)
        if options.host not in OWN_HOSTS:
            print("lightning: whoever reaches this machine can use it: there is no password", file=sys.stderr)
        if options.browser and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
            webbrowser.open(url)
        serve(application, listening)
    print("The playground is closed.")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a number makes no sense.
    """
    parser = CommandParser(
        prog="lightning playground",
        synopsis="[WEIGHTS...] [--port N]",
        description="Open a page in the browser, of this machine alone: choose weights, drop a picture, look at its translation.",
        epilog="Example: lightning playground runs/cyclegan/<name> sat-scenes",
    )
    parser.add_argument(
        "weights",
        nargs="*",
        help="weights by name, runs and checkpoints to choose from, beside those that come with the package and the runs in runs/",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page; 0 takes a free one ({PORT})")
    parser.add_argument(
        "--host", default=HOST, help=f"address to listen at; others than {HOST} open it to other machines"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=LARGEST_SIDE,
        help=f"pictures with a longer shorter side are shrunk to it ({LARGEST_SIDE})",
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.size < 16:
        raise ZooError(f"--size is {options.size}; expected at least 16 pixels.")
    if not 0 <= options.port < 65536:
        raise ZooError(f"--port is {options.port}; expected a number from 0 to 65535.")
    return options


def gradio_library(folder: str) -> ModuleType:
    """Gradio, told to keep to itself before it is imported.

    Args:
        folder: for uploads, and for what the page shows.

    Raises:
        ZooError: it is not installed.
    """
    own = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_TEMP_DIR": folder}
    os.environ.update(own)
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ZooError(f"The page is made by Gradio, which is not installed. Type: {EXTRA}") from error


def find_choices(given: Sequence[str]) -> dict[str, str]:
    """Weights to choose from: those given, those that come with the package, and the newest runs in `runs`."""
    found = {word: word for word in given}
    found |= {entry.name: entry.name for entry in shipped().values() if entry.room}
    runs = sorted(Path("runs").glob("*/*/checkpoints"), key=lambda path: path.stat().st_mtime, reverse=True)
    found |= {str(path.parent): str(path.parent) for path in runs[:20] if any(path.glob("*.ckpt"))}
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; the next free port if this one is taken.

    Raises:
        ZooError: there is none, or no such address.
    """
    last: OSError | None = None
    for number in range(port, port + 20 if port else 1):
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, number))
            opened.listen()
            return opened
        except OSError as error:
            opened.close()
            last = error
    raise ZooError(
        f"Nothing can listen at {host}, port {port}: {last and last.strerror}. Say another: --port 0"
    ) from last


def build(gradio: ModuleType, workshop: Workshop, host: str) -> Any:
    """The page and what answers it, as an ASGI application.

    Args:
        gradio: the library.
        workshop: translates.
        host: that the page is asked for by.
    """
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    page = layout(gradio, workshop)
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page of another site that gives itself our address by DNS is refused.
    allowed = list(OWN_HOSTS) if host in OWN_HOSTS else ["*"]
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed)
    application.add_middleware(FromHereAlone)
    theme = gradio.themes.Base(
        primary_hue="slate",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return gradio.mount_gradio_app(
        application,
        page,
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        max_file_size=LARGEST_FILE,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=CSS,
    )


def layout(gradio: ModuleType, workshop: Workshop) -> Any:
    """The page: what can be given on the left, what comes of it on the right."""

    def described(name: str) -> list[Any]:
        """What the page shows for these weights: their kind, and what they take and give."""
        try:
            model = workshop.model(name)
        except (ZooError, DataError) as error:
            raise gradio.Error(str(error), title="These weights do not do", print_exception=False) from error
        domains = workshop.domains(model)
        takes = "reference" in keywords(model)
        return [
            gradio.update(
                value=f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million weights"
            ),
            gradio.update(choices=domains, value=domains[0]),
            gradio.update(visible=takes, value=None),
            gradio.update(visible=draws_styles(model)),
            gradio.update(value=None),
            gradio.update(visible=gives_attention(type(model)), value=None),
            gradio.update(value=None, interactive=False),
        ]

    def translated(name: str, picture: str | None, exemplar: str | None, to: str, seed: float | None) -> list[Any]:
        try:
            made, attention = workshop.translate(name, picture, exemplar, to, seed)
        except (ZooError, DataError) as error:
            raise gradio.Error(str(error), title="No translation", print_exception=False) from error
        return [str(made), attention and str(attention), gradio.update(value=str(made), interactive=True)]

    first = next(iter(workshop.choices))
    with gradio.Blocks(
        title="Playground of the translation zoo", analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gradio.Markdown(HEAD, elem_id="head")
        with gradio.Row():
            weights = gradio.Dropdown(list(workshop.choices), value=first, label="Weights", scale=2, elem_id="weights")
            to = gradio.Dropdown([], label="Translate to", allow_custom_value=True, scale=1, elem_id="to")
            seed = gradio.Number(0, label="Style seed", precision=0, minimum=0, visible=False, scale=1, elem_id="seed")
        about = gradio.Markdown("", elem_id="about")
        given: dict[str, Any] = {
            "type": "filepath",
            "image_mode": None,
            "sources": ["upload"],
            "height": 320,
        }
        shown: dict[str, Any] = {
            "type": "filepath",
            "format": "png",
            "interactive": False,
            "buttons": ["fullscreen"],
            "height": 320,
        }
        with gradio.Row(equal_height=False):
            with gradio.Column():
                picture = gradio.Image(label="Picture", elem_id="picture", **given)
                exemplar = gradio.Image(
                    label="Exemplar, whose style is taken", visible=False, elem_id="exemplar", **given
                )
                go = gradio.Button("Translate", variant="primary", elem_id="translate")
            with gradio.Column():
                result = gradio.Image(label="Translation", elem_id="result", **shown)
                download = gradio.DownloadButton(
                    "Download the translation (PNG)", interactive=False, elem_id="download"
                )
                attention = gradio.Image(label="Attention", visible=False, elem_id="attention", **shown)
        for taken in (picture, exemplar):  # files as they came: what is wrong with one is said by us, in a sentence
            taken.preprocess = lambda file: file and file.path
        quiet: dict[str, Any] = {"api_visibility": "private"}
        changed = [about, to, exemplar, seed, result, attention, download]
        weights.change(described, weights, changed, **quiet)
        page.load(described, weights, changed, **quiet)
        asked = [weights, picture, exemplar, to, seed]
        go.click(translated, asked, [result, attention, download], show_progress_on=result, **quiet)
    return page


def serve(application: Any, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C, or until the process is asked to end."""
    import uvicorn

    # uvicorn ends in peace and then raises the signal that it was ended by: cleaning up has to come after that.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=2))
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        return

"""`lightning export RUN --program|--onnx|--safetensors --output FILE`: a model for other hands, checked before it is believed.

`--program` is PyTorch's own format (torch.export): it runs without this package. `--onnx` runs in many other places. `--safetensors` holds
weights and what rebuilds the model, for this package: `lightning translate FILE` takes it. What is written is read back and has to give
what the model gives, else nothing stays behind.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.callbacks.judging import gives_attention
from zoo.cli.parser import CommandParser
from zoo.cli.translate import draws_styles, keywords, own_domain, translates
from zoo.core.exported import read_exported, write_exported
from zoo.core.files import write_atomically
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.weights.load import load

FORMATS = {"program": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
TOLERANCE = (
    1e-4  # in pictures of the range [-1, 1]: 0.013 of a step of 8 bits, and more than the order of sums may change
)
EXTRA = "pip install 'translation-zoo[export]'"
ANY = 0  # number of pictures at a time
SIZE = 256  # of pictures, where neither the model nor the person says


class Program(nn.Module):
    """What is exported: pictures in, translations out, whatever the room calls its parts.

    Args:
        model: the translator, in eval mode.
        to: the domain to translate into.
        style: the keyword of `translate` that the second input fills, `reference` or `latent`; empty where there is one input.
        attention: whether the attention is a second output.
    """

    def __init__(self, model: Translator, to: str, style: str = "", *, attention: bool = False) -> None:
        super().__init__()
        self.model = model
        self.to_domain = to
        self.style = style
        self.options = {"return_attention": True} if attention else {}
        # A look aside forks generators and sets modes, which a program cannot do. It is in eval mode, and draws nothing.
        self.model.aside = lambda *_: nullcontext()  # type: ignore[method-assign,assignment]

    def forward(self, image: Tensor, *style: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Translate `b c h w` in [-1, 1]; behind it exemplars of the same shape or styles `b z`, where the model wants them."""
        options = dict(zip([self.style] if self.style else [], style, strict=True))
        return self.model.translate(image, to=self.to_domain, **options, **self.options)


def run(arguments: Sequence[str]) -> int:
    """Run `lightning export`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend, or the exported model gives something else than the model.
    """
    options = parse(arguments)
    kind = options.format
    require_packages(kind, unchecked=options.unchecked)
    model = load(options.checkpoint)
    if kind == "safetensors":
        for name in ("to", "size", "batch"):
            if getattr(options, name) is not None:
                raise ZooError(f"export: --{name} belongs to --program and --onnx; weights know nothing of it.")
        difference = export_weights(model, options.output)
        print(f"{options.output}: {type(model).__name__}'s weights, {options.output.stat().st_size / 1e6:.1f} MB")
        print(
            f"Read back and rebuilt: {difference}. Use it: lightning translate {options.output} PICTURES --output translated"
        )
        return 0
    program, inputs = prepare(model, options)
    print(f"Exporting {type(model).__name__}, to {program.to_domain!r} ...", flush=True)
    write = export_program if kind == "program" else export_onnx
    difference, batch = write(program, inputs, options)
    print(
        f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; pictures {describe(inputs, batch)}, in [-1, 1]"
    )
    print(difference)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown, or makes no sense.
    """
    parser = CommandParser(
        prog="lightning export",
        synopsis="RUN --program|--onnx|--safetensors --output FILE",
        description="Write a trained model as a program of PyTorch, for ONNX, or as plain weights, and check what was written.",
        epilog="Example: lightning export runs/cyclegan/<name> --program --output horses.pt2 --size 256",
    )
    parser.add_argument(
        "checkpoint",
        help="a run's folder (its newest checkpoint), a file of weights, or a name (lightning list --weights)",
    )
    group = parser.add_mutually_exclusive_group(required=True)
    texts = {
        "program": "PyTorch's format: torch.export.load(FILE).module() runs it, without this package",
        "onnx": f"for ONNX; needs an extra: {EXTRA}",
        "safetensors": "weights and settings; lightning translate and zoo.core.loading take it",
    }
    for name, text in texts.items():
        group.add_argument(f"--{name}", dest="format", action="store_const", const=name, help=text)
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--size", help="of the pictures, such as 256 or 320x256, width first (default: the model's own, or 256)"
    )
    parser.add_argument("--batch", type=int, help="pictures at a time (default: any number, where the model allows it)")
    parser.add_argument("--to", help="domain to translate into (default: the room's own, mostly target)")
    parser.add_argument("--attention", action="store_true", help="give the attention maps as a second output")
    parser.add_argument("--unchecked", action="store_true", help="with --onnx: write without running what was written")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    options = parser.parse_args(list(arguments))
    output: Path = options.output
    if output.is_dir():
        raise ZooError(
            f"--output {output} is a folder; expected a file, such as {output / f'model{FORMATS[options.format]}'}."
        )
    if output.suffix != FORMATS[options.format]:
        raise ZooError(
            f"--output {output}: the file's name has to end in {FORMATS[options.format]} with --{options.format}."
        )
    if output.exists() and not options.overwrite:
        raise ZooError(f"{output} is there already. Give another --output, or --overwrite.")
    if options.batch is not None and options.batch < 1:
        raise ZooError(f"--batch is {options.batch}; expected at least 1.")
    if options.unchecked and options.format != "onnx":
        raise ZooError("--unchecked belongs to --onnx: everything else is always checked.")
    return options


def require_packages(kind: str, *, unchecked: bool = False) -> None:
    """Refuse what needs packages that are not here, before anything is built.

    Raises:
        ZooError: a package is missing; says what to type.
    """
    if kind != "onnx":
        return
    if lacking := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ZooError(
            f"--onnx needs {' and '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not here. Type: {EXTRA}"
        )
    if find_spec("onnxruntime") is None and not unchecked:
        raise ZooError(
            f"The check of the ONNX file needs onnxruntime, which is not here. Type: {EXTRA}; or leave it out: --unchecked"
        )


# Models and inputs --------------------------------------------------------------------------------------------------


def prepare(model: Translator, options: argparse.Namespace) -> tuple[Program, tuple[Tensor, ...]]:
    """The program of a model, and inputs to try it with.

    Raises:
        ZooError: the model does not translate, not to this domain, not at this size, or has no attention.
    """
    room = type(model).__name__
    if not translates(model):
        raise ZooError(f"{room} does not translate: it is trained for others to build upon. Its weights: --safetensors")
    if options.attention and not gives_attention(type(model)):
        raise ZooError(f"{room} gives no attention maps: leave --attention out.")
    known = keywords(model)
    style = "reference" if "reference" in known else "latent" if draws_styles(model) else ""
    width, height = size_of(options.size, model)
    image = noise((options.batch or 2, channels_of(model), height, width), seed=0)
    inputs: tuple[Tensor, ...] = (image,)
    if style == "reference":
        inputs += (noise(tuple(image.shape), seed=1),)
    elif style:
        inputs += (noise((len(image), int(model.latent_channels)), seed=1),)  # type: ignore[arg-type]
    to = own_domain(model) if options.to is None else options.to
    return Program(model, to, style, attention=options.attention).eval(), inputs


def size_of(given: str | None, model: Translator) -> tuple[int, int]:
    """Width and height of the pictures: what was asked for, the model's own, or 256.

    Raises:
        ZooError: it is no size, or not one that the model takes.
    """
    own = getattr(model, "image_size", None)
    text = given or str(own if isinstance(own, int) else SIZE)
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise ZooError(f"--size is {text!r}; expected pixels, such as 256 or 320x256, width first.")
    width, height = int(match[1]), int(match[2] or match[1])
    multiple, least = model.size_multiple, model.smallest_size
    if width % multiple or height % multiple or min(width, height) < max(1, least):
        raise ZooError(
            f"--size is {width}x{height}; {type(model).__name__} takes multiples of {multiple}, {least} at least."
        )
    return width, height


def channels_of(model: Translator) -> int:
    """Of the pictures that a model takes; 3 where it does not say."""
    found = model.hparams.get("input_channels", model.hparams.get("source_channels", 3))
    return int(found)


def noise(shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Numbers in [-1, 1], the same for the same seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def describe(inputs: Sequence[Tensor], batch: int) -> str:
    """The shapes of the inputs in words: `any number x 3 x 256 x 256`."""
    return " and ".join(" x ".join([str(batch or "any number"), *map(str, x.shape[1:])]) for x in inputs)


# The formats --------------------------------------------------------------------------------------------------------


def export_program(program: Program, inputs: tuple[Tensor, ...], options: argparse.Namespace) -> tuple[str, int]:
    """Write what torch.export makes of a program; read it back and run it on other pictures.

    Returns:
        What the check found, and the number of pictures that the file takes at a time.

    Raises:
        ZooError: the model cannot be exported, or the file gives something else.
    """
    exported, batch = trace(program, inputs, fixed=options.batch is not None)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    said = check(program, loaded, inputs, batch=batch, tool="torch.export")
    write_atomically(options.output, buffer.getvalue())
    return said, batch


def export_onnx(program: Program, inputs: tuple[Tensor, ...], options: argparse.Namespace) -> tuple[str, int]:
    """Write a program for ONNX, and run the file by onnxruntime on other pictures.

    Returns:
        What the check found, and the number of pictures that the file takes at a time.

    Raises:
        ZooError: the model cannot be exported, or the file gives something else.
    """
    exported, batch = trace(program, inputs, fixed=options.batch is not None)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(exported, (), str(path), dynamo=True, external_data=False, verbose=False)
        except Exception as error:
            raise ZooError(f"ONNX cannot say what this model does: {' '.join(str(error).split())[:300]}") from error
        content = path.read_bytes()
    if options.unchecked:
        write_atomically(options.output, content)
        return "Not checked, as asked for.", batch
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def perform(*given: Tensor) -> tuple[Tensor, ...]:
        fed = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        return tuple(torch.from_numpy(array) for array in session.run(None, fed))

    said = check(program, perform, inputs, batch=batch, tool="onnxruntime")
    write_atomically(options.output, content)
    return said, batch


def trace(program: Program, inputs: tuple[Tensor, ...], *, fixed: bool) -> tuple[Any, int]:
    """Export a program for any number of pictures where that works, else for one; where `fixed`, for as many as there are.

    Returns:
        The exported program, and how many pictures it takes at a time: `ANY`, or a number.

    Raises:
        ZooError: it cannot be exported.
    """
    free: Any = {0: torch.export.Dim("batch", min=1, max=4096)}
    shapes = (free, tuple(free for _ in inputs[1:]))[: len(inputs)]  # the second is that of `*style`
    single = tuple(x[:1] for x in inputs)
    attempts = [(inputs, None)] if fixed else [(inputs, shapes), (single, None)]
    failure: Exception | None = None
    for given, dynamic in attempts:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exported = torch.export.export(program, given, dynamic_shapes=dynamic, strict=False)
        except ZooError:
            raise
        except Exception as error:
            failure = error
            continue
        return exported, ANY if dynamic else len(given[0])
    text = " ".join(str(failure).split())[:300]
    raise ZooError(f"{type(program.model).__name__} cannot be exported as it is: {text}") from failure


def check(
    program: Program,
    perform: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    *,
    batch: int,
    tool: str,
) -> str:
    """Give an exported model pictures that it has not seen, and compare.

    Args:
        program: the model.
        perform: runs what was written.
        inputs: with which it was exported.
        batch: pictures at a time; `ANY` tries one and three.
        tool: that runs it.

    Returns:
        A sentence with the largest difference.

    Raises:
        ZooError: it is larger than the tolerance, or what was written does not run.
    """
    worst = 0.0
    numbers = (1, 3) if batch == ANY else (batch,)
    for number in numbers:
        given = tuple(noise((number, *x.shape[1:]), seed=10 + at) for at, x in enumerate(inputs))
        with torch.no_grad():
            wanted = _as_tuple(program(*given))
            try:
                found = _as_tuple(perform(*given))
            except Exception as error:
                raise ZooError(f"What was exported does not run: {' '.join(str(error).split())[:300]}") from error
        for ours, theirs in zip(wanted, found, strict=True):
            if ours.shape != theirs.shape:
                raise ZooError(
                    f"What was exported gives {tuple(theirs.shape)}, the model {tuple(ours.shape)}; nothing was written."
                )
            difference = float((ours - theirs).abs().max())
            worst = worst if difference <= worst else difference  # a difference that is no number is the worst of all
    if not worst <= TOLERANCE:
        raise ZooError(
            f"What was exported differs from the model by {worst:.2g}, more than {TOLERANCE:g}; nothing was written."
        )
    tried = "1 and 3 new pictures" if batch == ANY else f"{batch} new picture{'s' if batch > 1 else ''}"
    return f"Checked by running it ({tool}) on {tried}: it differs from the model by {worst:.1e} at most, of [-1, 1]."


def export_weights(model: Translator, output: Path) -> str:
    """Write weights and what rebuilds the model; rebuild it, and compare every tensor and a translation, to the bit.

    Raises:
        ZooError: the rebuilt model is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.safetensors"
        write_exported(model, trial)
        rebuilt = read_exported(trial)
        ours, theirs = model.state_dict(), rebuilt.state_dict()
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        if not same:
            raise ZooError(f"The weights of {type(model).__name__} do not survive being written; nothing was written.")
        write_atomically(output, trial.read_bytes())
    return f"all {len(ours)} tensors are the same to the bit"


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)

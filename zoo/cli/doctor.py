"""`lightning doctor`: what is installed and which, what this machine can do, and what of data and weights is here.

With `--fit RECIPE [OVERLAYS...]`: the largest batch that fits, found by training a few iterations.
"""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from torch import nn

import zoo
from zoo.cli.lookup import PACKAGE, find_config, known_configs, read_yaml, repository
from zoo.cli.parser import CommandParser
from zoo.errors import ZooError
from zoo.weights.fetch import read_catalogue, weights_folder

PROGRAM = "zoo.cli.main"
DISTRIBUTION = "translation-zoo"
EXTRAS = {
    "tensorboard": "configs/tensorboard.yaml",
    "onnx": "lightning export --onnx",
    "onnxscript": "lightning export --onnx",
    "onnxruntime": "lightning export --onnx, its check",
    "ray": "lightning ray",
    "webdataset": "python -m datamodules.pack_shards",
    "matplotlib": "notebooks, and pictures of dashboards",
}
LITTLE_SPACE = 2 * 10**9  # bytes: a few checkpoints of a paper's recipe
GIB = 2**30
UNITS = {"": GIB, "gb": 10**9, "gib": GIB, "mb": 10**6, "mib": 2**20}


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Attributes:
        label: what was looked at.
        text: what was found.
        bad: whether something is wrong that a person should mend.
    """

    label: str
    text: str
    bad: bool = False


def run(arguments: Sequence[str]) -> int:
    """Run `lightning doctor`.

    Returns:
        0, or 1 if something is wrong.

    Raises:
        ZooError: an option is wrong, or the recipe cannot be tried.
    """
    options, rest = parse(arguments)
    if options.fit:
        return fit(options, rest)
    sections = {
        "The command": the_command(),
        "Versions": versions(),
        "Devices": devices(),
        "Precision": precisions(),
        "Recipes: data and weights that a training needs": recipes(),
        "Data sets: overlays": overlays(),
        "Published weights": weights(),
        "Disk": disks(),
    }
    wrong = 0
    for headline, found in sections.items():
        print(headline)
        findings = list(found)
        width = max(len(finding.label) for finding in findings)
        for finding in findings:
            wrong += finding.bad
            print(f"{'!' if finding.bad else ' '} {finding.label:<{width}}  {finding.text}", flush=True)
    print(f"\n{wrong} thing{'s' if wrong > 1 else ''} to mend, marked with !" if wrong else "\nNothing is wrong here.")
    return 1 if wrong else 0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; with `--fit`, what `doctor` does not know goes to the training.

    Raises:
        ZooError: an option is unknown or makes no sense.
    """
    parser = CommandParser(
        prog="lightning doctor",
        synopsis="[--fit RECIPE [OVERLAYS...]]",
        description="Say what is installed, what this machine can do, and what of data and weights is here.",
        epilog="Example: lightning doctor --fit zoo/cyclegan.yaml configs/data/scenes.yaml --memory 8GB. Options that doctor does not "
        "know, such as --model.generator_channels 32, are given to the training.",
    )
    parser.add_argument(
        "--fit", nargs="+", metavar="FILE", help="find the largest batch of this recipe, with its overlays"
    )
    parser.add_argument(
        "--memory", help="limit, such as 8GB (default: what is free on the GPU or, without one, the machine)"
    )
    parser.add_argument("--up-to", type=int, help="largest batch to try (default: 1024)")
    parser.add_argument("--iterations", type=int, help="to train with each batch (default: 3)")
    options, rest = parser.parse_known_args(list(arguments))
    if not options.fit:
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        for name in ("memory", "up_to", "iterations"):
            if getattr(options, name) is not None:
                raise ZooError(f"doctor: --{name.replace('_', '-')} belongs to --fit RECIPE, which is missing.")
    for name in ("up_to", "iterations"):
        given = getattr(options, name)
        if given is not None and given < 1:
            raise ZooError(f"doctor: --{name.replace('_', '-')} is {given}; expected at least 1.")
    return options, rest


# What is there ------------------------------------------------------------------------------------------------------


def the_command() -> Iterator[Finding]:
    """Which package `zoo` and which command `lightning` these are, and whether others stand in their way."""
    origin = f"{PACKAGE}, version {zoo.__version__}" + (", a checkout or an editable install" if repository() else "")
    yield Finding("zoo", origin)
    stranger = Path.cwd() / "zoo"
    if stranger.is_dir() and stranger.resolve() != PACKAGE:
        yield Finding(
            "", f"{stranger} is another folder of that name: `python -m zoo` would take it here. Use `lightning`.", True
        )
    yield Finding("python", f"{sys.executable}, {platform.python_version()}")
    owners = [point for point in entry_points(group="console_scripts") if point.name == "lightning"]
    others = sorted({point.dist.name for point in owners if point.dist and not point.value.startswith(PROGRAM)})
    path = shutil.which("lightning")
    advice = f"Use {shutil.which(DISTRIBUTION) or 'python -m zoo'}."
    if path is None:
        yield Finding(
            "lightning", f"not on the PATH. Type: source {Path(sys.executable).parent}/activate, or use python -m zoo."
        )
    elif not is_ours(Path(path)):
        yield Finding("lightning", f"{path} is another program, not this one. {advice}", True)
    else:
        yield Finding("lightning", path)
    if others:
        yield Finding(
            "", f"{', '.join(others)} announces a command `lightning`, too; what is installed last wins.", True
        )


def is_ours(script: Path) -> bool:
    """Whether a script of the PATH starts our command."""
    try:
        return PROGRAM.encode() in script.read_bytes()
    except OSError:
        return False


def versions() -> Iterator[Finding]:
    """Required packages with their versions, and extras with what they are for."""
    needed = [Requirement(text) for text in _requirements()]
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            have = f"version {found}" if found else "not here"
            yield Finding(requirement.name, f"{have}, and {requirement.specifier} is needed. Type: make setup", True)
        else:
            yield Finding(requirement.name, found)
    for name, use in EXTRAS.items():
        found = _version(name)
        yield Finding(name, f"{found} ({use})" if found else f"not here, an extra: {use}")


def devices() -> Iterator[Finding]:
    """The processor with its memory, and GPUs."""
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    plural = "" if threads == 1 else "s"
    yield Finding(
        "CPU",
        f"{cores} cores, {threads} thread{plural} (OMP_NUM_THREADS), {free_memory() / GIB:.1f} GiB of memory free",
    )
    if not torch.cuda.is_available():
        built = (
            f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "PyTorch has no CUDA"
        )
        yield Finding("GPU", f"none: {built}, and no GPU answers. Trainings run on the CPU.")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        properties = torch.cuda.get_device_properties(index)
        text = f"{properties.name}, compute capability {properties.major}.{properties.minor}"
        yield Finding(f"GPU {index}", f"{text}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")


def precisions() -> Iterator[Finding]:
    """Which settings of `trainer.precision` work here, tried on a small convolution, and what they cost."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layer, image = nn.Conv2d(32, 32, 3, padding=1, device=device), torch.zeros(4, 32, 64, 64, device=device)
    plain = _milliseconds(layer, image, device, mixed=False)
    yield Finding("32-true", f"works: {plain:.2f} ms for a small convolution, there and back, on {device.type}")
    try:
        mixed = _milliseconds(layer, image, device, mixed=True)
        cost = f"{mixed / plain:.1f} times the time of 32-true" + (
            ", so it saves memory alone" if mixed > plain else ""
        )
        yield Finding("bf16-mixed", f"works: {mixed:.2f} ms, {cost}")
    except RuntimeError as error:
        yield Finding("bf16-mixed", f"does not work here: {' '.join(str(error).split())[:80]}")
    yield Finding("16-mixed", "refused: float16 overflows in these losses; take bf16-mixed")


def recipes() -> Iterator[Finding]:
    """For each recipe of ours, what a training would lack here."""
    for path in sorted(name for name in known_configs() if name.startswith("zoo/")):
        content = _mapping(find_config(path).path)
        if "model" in content and "data" in content:
            yield Finding(Path(path).stem, _verdict([*_missing(content["model"]), *_missing(content["data"])]))


def overlays() -> Iterator[Finding]:
    """For each data set that has an overlay, whether it is here."""
    for path in sorted(name for name in known_configs() if name.startswith("configs/data/")):
        content = _mapping(find_config(path).path)
        if isinstance(content.get("data"), Mapping) and "class_path" in content["data"]:
            yield Finding(Path(path).stem, _verdict(_missing(content["data"])))


def weights() -> Iterator[Finding]:
    """Which published files are here."""
    folder, catalogue = weights_folder(), read_catalogue()
    here = [entry.name for entry in catalogue.values() if (folder / entry.file).is_file()]
    yield Finding("folder", str(folder))
    yield Finding(
        "here", f"{len(here)} of {len(catalogue)}: {', '.join(here)}" if here else f"none of {len(catalogue)}"
    )
    yield Finding("more", "lightning download")


def disks() -> Iterator[Finding]:
    """Free space where runs, weights and temporary files lie, and the memory that loaders share."""
    places = {
        "here": Path.cwd(),
        "weights": weights_folder(),
        "temporary": Path(tempfile.gettempdir()),
        "shared": Path("/dev/shm"),
    }
    for label, place in places.items():
        existing = next((folder for folder in (place, *place.parents) if folder.exists()), Path("/"))
        if label == "shared" and existing != place:
            continue
        usage = shutil.disk_usage(existing)
        bad = label in {"here", "weights"} and usage.free < LITTLE_SPACE
        advice = (
            " A few checkpoints fill it: choose another place by --run.root, or ZOO_HOME for weights." if bad else ""
        )
        if not os.access(existing, os.W_OK):
            advice, bad = f" It may not be written.{advice}", label == "here" or bad
        yield Finding(label, f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free in {existing}.{advice}", bad)


# The largest batch --------------------------------------------------------------------------------------------------


def fit(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Find the largest batch of a recipe that fits, and print what each size took.

    Returns:
        0, or 1 if not even one sample fits.

    Raises:
        ZooError: the recipe cannot be tried.
    """
    if rest and not rest[0].startswith("--"):
        raise ZooError(f"doctor: {rest[0]!r} stands where an option was expected.")
    files = [find_config(name).path for name in options.fit]
    contents = [_mapping(path) for path in files]
    require_batch_size(contents, options.fit)
    words = [word for path in files for word in ("--config", str(path))] + list(rest)
    limit = parse_memory(options.memory) if options.memory is not None else None
    on_gpu = torch.cuda.is_available() and _accelerator(contents, rest) != "cpu"
    if limit is None and not on_gpu:
        limit = free_memory()
    iterations, up_to = options.iterations or 3, options.up_to or 1024
    where = torch.cuda.get_device_name(0) if on_gpu else "CPU"
    bound = f"{limit / GIB:.2f} GiB" if limit is not None else "all of its memory"
    print(f"{where}, {bound}; {iterations} iterations with each batch")
    print(f"{'batch':>6}  {'peak GiB':>9}  {'s/iteration':>11}  {'samples/s':>9}", flush=True)
    from zoo.cli.fit_probe import Probe, largest_batch, probe_in_a_child

    def try_one(batch: int) -> Probe:
        probe = probe_in_a_child(words, batch, iterations=iterations, limit=limit)
        speed = (
            f"{probe.seconds:>11.3f}  {batch / probe.seconds:>9.2f}"
            if probe.fits and probe.seconds
            else "  does not fit"
        )
        print(f"{batch:>6}  {probe.peak / GIB:>9.2f}  {speed}", flush=True)
        return probe

    best, worst = largest_batch(try_one, up_to)
    if best is None:
        print("Not even one sample fits. Smaller pictures or networks need less: --data.size, the widths of the model.")
        return 1
    beyond = f"{worst.batch} does not" if worst is not None else "more was not tried: --up-to"
    print(f"The largest batch that fits is {best.batch} ({best.peak / GIB:.2f} GiB); {beyond}.")
    print("Measured at the start of a training: networks that grow, or stages that begin later, may need more.")
    shown = " ".join([*(f"--config {name}" for name in options.fit), *rest])
    print(f"Type: lightning fit {shown} --data.batch_size {best.batch}")
    return 0


def require_batch_size(contents: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse files that name no model or data, or data that come in no batches of a size to choose."""
    for key in ("model", "data"):
        if not any(key in content for content in contents):
            raise ZooError(
                f"{', '.join(names)} names no {key}. Put a recipe first: lightning doctor --fit zoo/cyclegan.yaml"
            )
    nodes = [content["data"] for content in contents if isinstance(content.get("data"), Mapping)]
    path = next((str(node["class_path"]) for node in reversed(nodes) if "class_path" in node), "")
    known = inspect.signature(_class_of(path)).parameters if path else {}
    if path and "batch_size" not in known:
        raise ZooError(f"{path} has no batch_size: there is nothing to choose.")


def parse_memory(text: str) -> int:
    """Bytes of a size such as `8GB`, `512 MiB` or `8`, which is in GiB.

    Raises:
        ZooError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in UNITS or not float(match[1]):
        raise ZooError(f"doctor: --memory is {text!r}; expected a size such as 8GB, 512MiB or 8 (GiB).")
    return int(float(match[1]) * UNITS[match[2]])


def free_memory() -> int:
    """Bytes of memory that this process and its children may still take: the machine's, or less where a group has a limit."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    for most, now in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int((group / most).read_text()) - int((group / now).read_text()))
        except (OSError, ValueError):  # no such group, or `max`
            continue
    return max(0, min(found))


# Small things -------------------------------------------------------------------------------------------------------


def _requirements() -> Iterable[str]:
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _milliseconds(layer: nn.Module, image: torch.Tensor, device: torch.device, *, mixed: bool) -> float:
    best, until = float("inf"), time.perf_counter() + 0.3
    while time.perf_counter() < until or best == float("inf"):
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            layer(image).float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 1000 * best


def _mapping(path: Path) -> Mapping[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise ZooError(f"{path}: a recipe is a mapping with the keys model, data and trainer.")
    return content


def _accelerator(contents: Sequence[Mapping[str, Any]], rest: Sequence[str]) -> str:
    chosen = [str((content.get("trainer") or {}).get("accelerator", "")) for content in contents]
    words = " ".join(rest).replace("=", " ").split()
    chosen += [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--trainer.accelerator"]
    return next((name for name in reversed(chosen) if name), "auto")


def _missing(node: Mapping[str, Any]) -> list[str]:
    cls = _class_of(str(node["class_path"]))
    if not hasattr(cls, "missing"):
        return []
    defaults = {name: p.default for name, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
    with without_network():
        return list(cls.missing(defaults | dict(node.get("init_args") or {})))


@contextmanager
def without_network() -> Iterator[None]:
    """Let nobody ask servers whether they answer: ten recipes would wait for each of them."""
    before = os.environ.get("ZOO_OFFLINE")
    os.environ["ZOO_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["ZOO_OFFLINE"]
        else:
            os.environ["ZOO_OFFLINE"] = before


def _class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ZooError(f"There is no class {path}.") from error


def _verdict(missing: Sequence[str]) -> str:
    """The heads of what is missing; `lightning fit` tells the whole of it, with the lines to type."""
    if not missing:
        return "ready"
    heads = [re.split(r"\. |, and ", " ".join(sentence.split()))[0].rstrip(".") for sentence in missing]
    return f"not yet: {'; '.join(heads)}"

"""`lightning evaluate [RUN] --protocol NAME`: a model or two folders of pictures, measured by a named protocol.

A protocol is a whole: which pictures, how many, how they are resized and rounded, and which network looks at them. What made a figure
stands in one JSON file with it. A network's file that is not the published one, by its SHA-256, gives figures of other names.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import textwrap
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from zoo.cli.pages import WIDTH
from zoo.cli.parser import CommandParser
from zoo.cli.protocols import distances, pictures, rooms, scenes
from zoo.cli.protocols.base import SEEDS, Job, Measured, Protocol, usage, weight_files
from zoo.cli.sampler import run_of
from zoo.cli.suggest import did_you_mean
from zoo.core.files import write_atomically
from zoo.core.records import describe_run
from zoo.errors import ZooError
from zoo.weights.catalogue import find_entry, weights_folder

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (*distances.PROTOCOLS, *pictures.PROTOCOLS, *scenes.PROTOCOLS, *rooms.PROTOCOLS)
}
FORMAT = "evaluation of the translation zoo, 1"
FOLDER = Path("evaluations")


def run(arguments: Sequence[str]) -> int:
    """Run `lightning evaluate`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    words = list(arguments)
    name = _protocol_name(words)
    if name is None:
        if "--list" in words or {"-h", "--help"} & set(words):
            print(list_page())
            return 0
        raise ZooError(
            "evaluate measures by a named protocol: --protocol NAME. What there is: lightning evaluate --list"
        )
    if name not in PROTOCOLS:
        near = [known for known in PROTOCOLS if name.lower() in known]
        hint = f" Did you mean {' or '.join(near)}?" if near else did_you_mean(name, PROTOCOLS)
        raise ZooError(f"There is no protocol {name!r}.{hint} What there is: lightning evaluate --list")
    protocol = PROTOCOLS[name]
    options, overrides = parse(protocol, words)
    job = Job(protocol, options, overrides)
    facts, begin = describe_run(["lightning", "evaluate", *words], {}, {}), time.perf_counter()
    measured = protocol.measure(job)
    record = describe(job, measured, facts, time.perf_counter() - begin)
    output = options.output or default_output(job, record["protocol"])
    write_atomically(output, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    print(format_result(record, measured))
    print(f"Result: {output}")
    return 0


def _protocol_name(words: Sequence[str]) -> str | None:
    """What stands behind `--protocol`; None where it is not typed.

    Raises:
        ZooError: it stands alone.
    """
    for word, after in pairwise([*words, ""]):
        if word.startswith("--protocol="):
            return word.removeprefix("--protocol=")
        if word == "--protocol":
            if not after or after.startswith("-"):
                raise ZooError("--protocol expects a name. What there is: lightning evaluate --list")
            return after
    return None


def parse(protocol: Protocol, words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parse the words behind `lightning evaluate` by the protocol's own options.

    Returns:
        The options, and settings of the data by name.

    Raises:
        ZooError: an option is unknown, lacks its value or makes no sense.
    """
    rest, overrides = _data_settings(list(words)) if protocol.takes_data else (list(words), {})
    parser = CommandParser(
        prog="lightning evaluate",
        synopsis=f"{protocol.synopsis} --protocol {protocol.name}",
        usage=usage(protocol),
        description=f"{protocol.name}: {protocol.about}. Figures: {protocol.figures}.",
        epilog=f"Example: {protocol.example}" if protocol.example else None,
    )
    if protocol.takes_run:
        parser.add_argument(
            "run", nargs="?", help="a run's folder, a checkpoint, or weights by name (lightning list --weights)"
        )
    parser.add_argument("--protocol", required=True, help="how to measure; all of them: lightning evaluate --list")
    protocol.add_options(parser)
    if protocol.takes_data:
        parser.add_argument(
            "--data",
            nargs="+",
            help="YAML files about the data, in place of the run's own; --data.NAME changes a setting",
        )
    if protocol.extractors:
        names = " or ".join(f"{name}=FILE" for name in protocol.extractors)
        parser.add_argument("--extractor", nargs="+", help=f"a network's file in place of the published one: {names}")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(SEEDS), help="one measurement each of what is drawn (0 1 2)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    parser.add_argument(
        "--output", type=Path, help="JSON file for the result (evaluations/..., in the run's folder where there is one)"
    )
    parser.set_defaults(run=None, data=None, extractor=None)
    options = parser.parse_args(rest)
    if len(set(options.seeds)) < len(options.seeds) or min(options.seeds) < 0:
        raise ZooError(
            f"--seeds are {' '.join(map(str, options.seeds))}; expected different numbers of 0 and more: --seeds 0 1 2"
        )
    if options.output is not None and options.output.is_dir():
        raise ZooError(
            f"--output {options.output} is a folder; expected a file, such as --output {options.output / 'result.json'}"
        )
    return options, overrides


def _data_settings(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--data.NAME VALUE` out of the words."""
    rest, settings = [], {}
    while words:
        word = words.pop(0)
        if not word.startswith("--data."):
            rest.append(word)
            continue
        name, sign, value = word.removeprefix("--data.").partition("=")
        if not sign:
            if not words or words[0].startswith("--"):
                raise ZooError(f"{word} expects a value, such as {word} 64.")
            value = words.pop(0)
        settings[name] = value
    return rest, settings


def describe(job: Job, measured: Measured, facts: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The result with all that made it.

    Args:
        job: what was asked for, and what it took.
        measured: what was found.
        facts: command, start, commit, versions and machine, as `describe_run` gives them.
        seconds: that it took.
    """
    figures = {name: _figure(value, job.seeds) for name, value in measured.figures.items()}
    bad = [name for name, figure in figures.items() if figure["mean"] is None]
    doubts = [f"{name} is not a number: look at what was made before you believe the rest." for name in bad]
    return {
        "format": FORMAT,
        "protocol": measured.name or job.protocol.name,
        "figures": figures,
        "remarks": [*measured.remarks, *doubts],
        "counts": dict(measured.counts),
        "data": dict(measured.data),
        "seeds": job.seeds,
        "settings": {**job.protocol.settings, **measured.settings},
        "extractors": job.used,
        "checkpoint": job.checkpoint,
        "details": dict(measured.details),
        "device": str(job.device),
        "seconds": round(seconds, 1),
        **{key: value for key, value in facts.items() if key not in {"seeds", "data"}},
    }


def _figure(value: float | Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    """A figure with its mean and spread over seeds; one in which nothing is drawn has neither seeds nor a spread."""
    drawn = not isinstance(value, int | float)
    values = [float(each) for each in value] if not isinstance(value, int | float) else [float(value)]
    sound = all(map(math.isfinite, values))  # JSON knows no other numbers
    return {
        "mean": statistics.fmean(values) if sound else None,
        "standard_deviation": statistics.stdev(values) if sound and len(values) > 1 else None,
        "values": [each if math.isfinite(each) else None for each in values],
        "seeds": list(seeds) if drawn else [],
    }


def default_output(job: Job, protocol: str) -> Path:
    """Where a result goes when nobody says: `evaluations` in the run's folder, or in the present one."""
    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = FOLDER
    if job.options.run is not None and Path(job.options.run).expanduser().exists():
        owner = run_of(weight_files(job.run)[0].absolute())
        folder = FOLDER if owner is None else owner.folder / FOLDER
    path = folder / f"{protocol}_{now}.json"
    number = 2
    while path.exists():
        path, number = folder / f"{protocol}_{now}-{number}.json", number + 1
    return path


def format_result(record: Mapping[str, Any], measured: Measured) -> str:
    """A short table: what was measured, mean and standard deviation over seeds, and each seed's figure."""
    lines = [measured.text] if measured.text else []
    shown = [name for name in record["figures"] if not measured.shown or name in measured.shown]
    counts = ", ".join(f"{count} {name}" for name, count in record["counts"].items())
    seeds = record["seeds"]
    if shown:
        width = max(24, *(len(name) + 2 for name in shown))
        heading = f"{record['protocol']:{width}}{'mean':>13}{'spread':>13}"
        lines.append(heading + "".join(f"{f'seed {seed}':>13}" for seed in seeds))
    for name in shown:
        figure = record["figures"][name]
        cells = [_cell(figure["mean"], ".6g"), _cell(figure["standard_deviation"], ".2g")]
        cells += (
            [_cell(value, ".6g") for value in figure["values"]] if figure["seeds"] else ["  (nothing in it is drawn)"]
        )
        lines.append(f"{name:{width}}" + "".join(f"{cell:>13}" for cell in cells))
    lines.append(f"{counts}.")
    lines += [f"{used['name']}: {used['state']}." for used in record["extractors"]]
    lines += record["remarks"]
    if len(seeds) < len(SEEDS) and any(figure["seeds"] for figure in record["figures"].values()):
        lines.append(f"{len(seeds)} seed(s) say little about the spread: --seeds {' '.join(map(str, SEEDS))}")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def list_page() -> str:
    """What there is: each protocol, what it measures, its figures, its networks and whether they are here."""
    lines = ["Usage: lightning evaluate [RUN] --protocol NAME [OPTIONS]", ""]
    start = " " * 27
    for protocol in PROTOCOLS.values():
        facts = [protocol.about, f"figures: {protocol.figures}", f"looks: {protocol.settings['network']}"]
        for name in protocol.extractors:
            here = (weights_folder() / find_entry(name).file).is_file()
            facts[-1] += f" [{name}, {'here' if here else 'not here'}]"
        first, *others = [line for fact in facts for line in _wrapped(fact, WIDTH - len(start))]
        lines += [f"{protocol.name:<27}{first}", *(f"{start}{line}" for line in others)]
    lines += ["", "The options of one: lightning evaluate --protocol NAME --help"]
    lines += ["Networks that are not here: lightning download NAME"]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, subsequent_indent="  ")

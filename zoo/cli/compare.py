"""`lightning compare A.yaml B.yaml --data DATA.yaml`: several recipes on the same data, seeds and judge."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from zoo.callbacks.judging import AnyTally, judge_any, tally_for
from zoo.cli.fit import ZooCLI, quieten
from zoo.cli.lookup import find_config, read_yaml
from zoo.cli.parser import CommandParser
from zoo.core.files import write_atomically
from zoo.core.images import grid, save_png
from zoo.core.loading import load_translator
from zoo.core.runs import Run, find_run
from zoo.errors import ZooError

FIGURES = {
    "style_accuracy": "style accuracy",
    "object_iou": "object IoU",
    "background_change": "background change",
    "attention_iou": "attention IoU",
    "error": "error to counterpart",
    "psnr": "PSNR in dB",
    "style_distance": "style distance",
    "style_distance_others": "... to others",
    "label_iou": "label IoU",
    "tone_error": "tone error",
    "tone_choice": "own light nearer",
    "minutes": "minutes",
    "iterations": "iterations",
    "parameters": "parameters",
}
MADE_BY = "recipe.json"
"""Beside the runs of a recipe: what makes them, so that runs of a recipe that was changed are not taken for it."""
MAKERS = ("model", "data", "trainer", "seed_everything", "init_from", "compile")
"""Groups of settings that decide what a training comes to; the others (samples, checkpoints, progress, ...) may change."""
BASELINES = ("identity", "exemplar", "mean_image")
GRID_ROWS = 6


@dataclass
class Contender:
    """A recipe with its overlays, and what its runs gave."""

    name: str
    configs: list[Path]  # looked up; in the end the common data comes last
    reports: list[dict[str, float]] = field(default_factory=list)


def run(arguments: Sequence[str]) -> int:
    """Run `lightning compare`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    options, settings = parse(arguments)
    data = find_config(options.data).path
    contenders = [make_contender(word) for word in options.recipes]
    if len({contender.name for contender in contenders}) < len(contenders):
        raise ZooError("Two of the recipes bear the same name; copy one to a file of another name.")
    check_data(data)
    made_by = {contender.name: settings_of(contender, data, settings) for contender in contenders}
    for name, made in made_by.items():
        check_runs(options.output / "runs" / name, made)
    for contender in contenders:
        contender.configs = [*without_data(contender, options.output / "recipes"), data]
        kept = json.dumps(made_by[contender.name], indent=2, sort_keys=True)
        write_atomically(options.output / "runs" / contender.name / MADE_BY, kept.encode())
    for seed in options.seeds:
        columns: dict[str, Tensor] = {}  # each seed has test pictures of its own
        for contender in contenders:
            print(f"== {contender.name}, seed {seed}", flush=True)
            report, shown = train_and_judge(contender, seed, options, settings)
            contender.reports.append(report)
            columns |= shown
            write_results(options.output, contenders, options.seeds, settings)
    order = ["source", *(contender.name for contender in contenders), "counterpart"]
    save_png(grid({name: columns[name] for name in order if name in columns}), options.output / "grid.png")
    print(format_comparison(contenders))
    print(f"Table: {options.output / 'table.csv'}\nSame pictures, last seed: {options.output / 'grid.png'}")
    return 0


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; what `compare` does not know goes to each `fit`."""
    parser = CommandParser(
        prog="lightning compare",
        synopsis="A.yaml B.yaml --data DATA.yaml [--seeds 0 1 2]",
        description="Train several recipes on the same data with the same seeds, and judge them alike.",
        epilog="A recipe may carry overlays: zoo/cyclegan.yaml+configs/demo/cyclegan.yaml. Options that compare does not know, "
        "such as --trainer.max_steps 500, are given to every fit.",
    )
    parser.add_argument("recipes", nargs="+", help="recipes, each with its overlays joined by +")
    parser.add_argument("--data", required=True, help="YAML file whose data replaces that of all recipes")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="one training of each recipe per seed (default: 0)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/compare"), help="folder for runs, table and grid")
    options, rest = parser.parse_known_args(list(arguments))
    if rest and not rest[0].startswith("--"):
        raise ZooError(
            f"compare: {rest[0]!r} stands where an option was expected. Recipes come first, then --data FILE."
        )
    return options, rest


def make_contender(word: str) -> Contender:
    """A recipe of the command line with its overlays, looked up."""
    paths = [find_config(part).path for part in word.split("+")]
    return Contender("+".join(dict.fromkeys(path.stem for path in paths)), paths)


def check_data(path: Path) -> None:
    """Refuse a file that names no data."""
    content = read_yaml(path)
    if not isinstance(content, dict) or "data" not in content:
        raise ZooError(f"{path} has no key 'data'; compare needs the data that all recipes share.")


def settings_of(contender: Contender, data: Path, settings: Sequence[str]) -> dict[str, Any]:
    """What decides how a contender's runs end, by dotted names: its files, the common data in the place of theirs, the options."""
    found: dict[str, Any] = {}
    for path in [*contender.configs, data]:
        content = read_yaml(path)
        if isinstance(content, dict):
            found |= _leaves({key: value for key, value in content.items() if key != "data" or path == data})
    name = ""
    for word in settings:
        if word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            found[name] = value
        else:
            found[name] = f"{found[name]} {word}".strip()
    return {name: value for name, value in found.items() if name.partition(".")[0] in MAKERS}


def check_runs(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Refuse to take up runs that other settings made: a table would mix the figures of both.

    Raises:
        ZooError: the recipe, the data or the options have changed since the runs of this name were begun.
    """
    if not (folder / MADE_BY).is_file() or not any(folder.glob("*/run.json")):  # a mistyped option leaves no run behind
        return
    before = json.loads((folder / MADE_BY).read_text())
    now = json.loads(json.dumps(made_by))
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ZooError(
            f"{folder} holds runs that were made with other settings than now: {shown}. One table would mix both. "
            f"Take another --output, or remove {folder} to train anew."
        )


def without_data(contender: Contender, folder: Path) -> list[Path]:
    """Copies of a contender's files without their data: the common data replaces it, and must not be mixed with it."""
    copies = []
    for number, path in enumerate(contender.configs):
        content = read_yaml(path)
        if isinstance(content, dict):
            content.pop("data", None)
        copies.append(folder / f"{contender.name}.{number}.yaml")
        write_atomically(copies[-1], yaml.safe_dump(content, sort_keys=False).encode())
    return copies


def train_and_judge(
    contender: Contender, seed: int, options: argparse.Namespace, settings: Sequence[str]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Train one recipe with one seed, or take up its run where it stopped, and judge the result on the test data.

    Returns:
        The figures, and the columns of pictures of the grid.
    """
    quieten()
    root = options.output / "runs"
    name = f"seed{seed}"
    words = [word for path in contender.configs for word in ("--config", str(path))]
    words += [*settings, "--seed_everything", str(seed), "--run.root", str(root), "--run.recipe", contender.name]
    words += ["--run.name", name]
    folder = root / contender.name / name
    resume = find_run(root, contender.name, name) if (folder / "run.json").is_file() else None
    if resume is not None and not resume.checkpoints_newest_first():  # stopped before its first checkpoint: begin again
        shutil.rmtree(folder)
        resume = None
    begin = time.perf_counter()
    cli = ZooCLI.start("fit", words, resume, contender.name, ["lightning", "compare", *words])
    minutes = (time.perf_counter() - begin) / 60
    model = load_translator(folder).to(cli.model.device)
    report, shown = judge(model, cli.datamodule, contender.name, Run(folder))
    trained = sum(p.numel() for p in cli.model.parameters() if p.requires_grad)
    kept = json.loads((folder / "compare.json").read_text()) if (folder / "compare.json").is_file() else {}
    measured = {"minutes": kept.get("minutes", 0.0) + (minutes if cli.began else 0.0), "seed": seed}
    write_atomically(folder / "compare.json", json.dumps(measured).encode())
    report |= {"iterations": cli.trainer.global_step, "parameters": trained, **measured}
    return report, shown


@torch.no_grad()
def judge(model: Any, data: Any, name: str, run_: Run) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Judge a model on the test data; where the true translation is unknown, its validation measures stand in."""
    data.setup("test")
    rows: list[Mapping[str, Tensor]] = []
    tally: AnyTally | None = None
    loader = data.test_dataloader() or data.val_dataloader()
    for batch in loader:
        batch = data.on_after_batch_transfer({k: _moved(v, model.device) for k, v in batch.items()}, 0)
        if "counterpart" in batch:
            tally = tally or tally_for(data.domains, model.device)
            translation = judge_any(tally, model, batch)
        else:
            translation = model.translate_batch(batch)
        if sum(len(row["source"]) for row in rows) < GRID_ROWS:
            rows.append({**batch, "translation": translation})
        elif tally is None:
            break
    if not rows:
        raise ZooError(
            "The common data has neither test nor validation pictures; give it some (validation_fraction 0.1)."
        )
    shown = {"source": _column(rows, "source"), name: _column(rows, "translation")}
    if "counterpart" in rows[0]:
        shown["counterpart"] = _column(rows, "counterpart")
    return (tally.compute() if tally is not None else last_measures(run_)), shown


def last_measures(run_: Run) -> dict[str, float]:
    """The last validation measures in a run's metrics.csv."""
    found: dict[str, float] = {}
    if run_.metrics.is_file():
        with run_.metrics.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found |= {key: float(value) for key, value in row.items() if key.startswith("val/") and value}
    return found


def format_comparison(contenders: Sequence[Contender]) -> str:
    """One table: a column per recipe (mean and spread over seeds), the baselines beside them."""
    first = contenders[0].reports[0]
    keys = [key for key in FIGURES if any(key in report for c in contenders for report in c.reports)]
    keys += sorted({key for c in contenders for report in c.reports for key in report if key.startswith("val/")})
    baselines = [name for name in BASELINES if f"{name}/error" in first]
    lines = ["".join([f"{'':24}", *(f"{c.name[-22:]:>24}" for c in contenders), *(f"{b:>12}" for b in baselines)])]
    for key in keys:
        cells = [f"{spread(c.reports, key):>24}" for c in contenders]
        cells += [f"{first[f'{b}/{key}']:>12.4g}" if f"{b}/{key}" in first else f"{'-':>12}" for b in baselines]
        lines.append(f"{FIGURES.get(key, key):24}" + "".join(cells))
    if "judge/look_accuracy" in first:
        lines.append(
            f"{first['images']:.0f} test scenes, {len(contenders[0].reports)} seed(s). The judge itself: style accuracy "
            f"{first['judge/look_accuracy']:.3f}, object IoU {first['judge/object_iou']:.3f}."
        )
    return "\n".join(lines)


def spread(reports: Sequence[Mapping[str, float]], key: str) -> str:
    """Mean and standard deviation over seeds, a dash where nothing was measured."""
    values = [report[key] for report in reports if key in report]
    if not values:
        return "-"
    mean = statistics.fmean(values)
    text = f"{mean:,.0f}" if mean >= 1000 else f"{mean:.4g}"
    return text + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


def write_results(output: Path, contenders: Sequence[Contender], seeds: Sequence[int], settings: Sequence[str]) -> None:
    """Write table.csv (a row per recipe and seed) and results.json (with the settings that made it)."""
    reports = [{"recipe": c.name, **report} for c in contenders for report in c.reports]
    columns = list(dict.fromkeys(key for report in reports for key in report))
    lines = [",".join(columns), *(",".join(str(report.get(key, "")) for key in columns) for report in reports)]
    write_atomically(output / "table.csv", ("\n".join(lines) + "\n").encode())
    recipes = {c.name: [str(path) for path in c.configs] for c in contenders}
    record = {"recipes": recipes, "seeds": list(seeds), "settings": list(settings), "results": reports}
    write_atomically(output / "results.json", (json.dumps(record, indent=2) + "\n").encode())


def _leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; lists are whole."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _column(rows: Sequence[Mapping[str, Tensor]], key: str) -> Tensor:
    return torch.cat([row[key].float().cpu() for row in rows])[:GRID_ROWS]

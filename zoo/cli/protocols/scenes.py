"""Protocols about rendered pictures, whose true translations are known: no photograph and no download is needed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datamodules.scenes import Scenes
from zoo.callbacks.judging import AnyTally, judge_any, tally_for
from zoo.cli.parser import CommandParser
from zoo.cli.protocols.base import Job, Measured, Protocol
from zoo.errors import ZooError
from zoo.metrics import domain_scenes
from zoo.metrics.daylight import CANDIDATES as DAYLIGHT_CANDIDATES
from zoo.metrics.daylight import DaylightTally, format_daylight
from zoo.metrics.domain_protocol import require_protocol
from zoo.metrics.judge import CANDIDATES, WEIGHTS, format_table

PREFIXES = tuple(name for name in (*CANDIDATES, *(name.rstrip("/") for name in DAYLIGHT_CANDIDATES), "judge") if name)
"""What a figure's name begins with where it is not the translation's."""

EXAMPLE = "configs/data/scenes.yaml"


def measure_scenes(job: Job) -> Measured:
    """The judge's figures of a model's translations of test scenes, other scenes for each seed."""
    count = job.options.count
    if count is not None and count < 2:
        raise ZooError(f"--count is {count}; exemplars are compared with others, so it takes at least 2: --count 256")
    job.run  # noqa: B018 - says so where none is named
    node = job.data_node("Scenes", EXAMPLE)
    settings: dict[str, Any] = {"workers": 0, **({} if count is None else {"test_count": count})}
    data: Scenes = job.build(node, **settings)
    if data.task == "alone":
        raise ZooError(f"Scenes of task alone have no translations to judge. Type --data {EXAMPLE}")
    tally_for(data.domains, job.device)  # refuses looks that it does not know before anything is loaded
    model: Any = job.model()
    reports, prints = [], []
    for seed in job.seeds:
        data = job.build(node, **settings, seed=seed)
        data.setup("test")
        tally = tally_for(data.domains, job.device)
        model.draws.seed = seed
        job.say(f"seed {seed}: {data.counts['test']} scenes")
        for number, batch in enumerate(data.test_dataloader()):
            moved = {key: value.to(job.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            with model.aside("judge", number):
                judge_any(tally, model, data.on_after_batch_transfer(moved, 0))
        reports.append(tally.compute())
        prints.append(data.fingerprint())
    return _judged(job, data, reports, tally, prints)


def _judged(job: Job, data: Scenes, reports: list[dict[str, float]], tally: AnyTally, prints: list[str]) -> Measured:
    means = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
    by_day = isinstance(tally, DaylightTally)
    if not by_day:
        job.also_uses("judge_64", WEIGHTS, "comes with the package; its own figures stand among the details")
    figures = {
        name: [report[name] for report in reports]
        for name in reports[0]
        if name not in {"images", "counterpart/psnr"} and not name.startswith("judge/")  # the truth's own is infinite
    }
    return Measured(
        figures,
        {"scenes": data.counts["test"], "scenes of all seeds": data.counts["test"] * len(reports)},
        data={
            "split": "test",
            "class": "datamodules.Scenes",
            "task": data.task,
            "domains": list(data.domains),
            "size": data.size,
            "fingerprints": prints,
        },
        details={name: value for name, value in means.items() if name.startswith("judge/")},
        shown=[name for name in figures if not name.startswith(tuple(f"{prefix}/" for prefix in PREFIXES))],
        text=f"means over {len(reports)} seed(s):\n" + (format_daylight(means) if by_day else format_table(means)),
    )


def _add_judge(parser: CommandParser) -> None:
    parser.add_argument("--count", type=int, help="scenes for each seed (as many as the data's test_count)")


def measure_domains(job: Job) -> Measured:
    """The judge's figures over all ordered pairs of domains, by references and by chance, and how diverse random styles are."""
    options = job.options
    if options.count < 2 or options.outputs < 2:
        raise ZooError(
            f"--count is {options.count} and --outputs {options.outputs}; others are compared with, so each must be at least 2."
        )
    model: Any = job.model()
    domains = tuple(require_protocol(model, ["latent", "reference"]))
    found = []
    for seed in job.seeds:
        data = Scenes(task="domains", domains=domains, size=int(model.image_size), seed=seed)
        job.say(f"seed {seed}")
        found.append(
            domain_scenes.measure(model, data, count=options.count, outputs=options.outputs, seed=seed, say=job.say)
        )
    job.also_uses("judge_64", WEIGHTS, "comes with the package; its own figures stand among the details")
    flat = [{**one["report"], **{k: v for k, v in one.items() if k not in {"report", "pairs"}}} for one in found]
    figures = {
        name: [one[name] for one in flat]
        for name in flat[0]
        if name not in {"images", "counterpart/psnr"} and not name.startswith("judge/")
    }
    return Measured(
        figures,
        {
            "scenes of each pair": options.count,
            "pairs": len(found[0]["pairs"]),
            "random styles of each": options.outputs,
        },
        data={"split": "test", "class": "datamodules.Scenes", "task": "domains", "domains": list(domains)},
        details={
            "pairs by seed": [one["pairs"] for one in found],
            **{name: value for name, value in flat[0].items() if name.startswith("judge/")},
        },
        shown=[name for name in figures if not name.startswith(tuple(f"{prefix}/" for prefix in PREFIXES))],
        text=f"seed {job.seeds[0]}:\n{domain_scenes.format_measures(found[0])}",
    )


def _add_domains(parser: CommandParser) -> None:
    parser.add_argument(
        "--count", type=int, default=domain_scenes.COUNT, help=f"scenes of each pair of domains ({domain_scenes.COUNT})"
    )
    parser.add_argument(
        "--outputs", type=int, default=domain_scenes.OUTPUTS, help=f"random styles of each ({domain_scenes.OUTPUTS})"
    )


LOOKED_AT = {
    "network": "the judge's classifier and segmenter at 64x64, which come with the package",
    "antialias": True,
    "rounding": "none",
}

PROTOCOLS = (
    Protocol(
        "judge",
        "translations of rendered scenes or landscapes, whose truth is known, beside three baselines",
        "RUN [--data OVERLAY]",
        "style accuracy, object IoU, background change, error, PSNR, style distances; of landscapes label IoU and tones",
        measure_scenes,
        settings=LOOKED_AT,
        add_options=_add_judge,
        takes_data=True,
        example="lightning evaluate sat-scenes --protocol judge",
    ),
    Protocol(
        "judge-domains",
        "the same over all ordered pairs of a model's domains, by references and by chance",
        "RUN",
        "the judge's, style accuracy by chance, and how far palettes of random styles lie apart",
        measure_domains,
        settings=LOOKED_AT,
        add_options=_add_domains,
        example="lightning evaluate runs/starganv2/<name> --protocol judge-domains",
    ),
)

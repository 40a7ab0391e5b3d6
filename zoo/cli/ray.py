"""`lightning ray`: the training of `lightning fit`, on the machines of a Ray cluster.

    lightning ray [--workers N] [--gpus] [--cores N] [--address ADDRESS] [--failures N] FIT'S OPTIONS

For those who outgrow one machine: Ray starts a process per device on whatever machines its cluster has, and starts them anew when one
of them dies; the training then goes on from its newest checkpoint, exactly. Without a cluster the processes are this machine's. What a
room does is the same as with `configs/ddp.yaml`: its players average gradients over the process group, whoever made that.

Every machine needs this package, the recipe's data, and the folder of runs at the same path (a shared file system).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from zoo.cli.parser import CommandParser
from zoo.errors import ZooError

SYNOPSIS = "[--workers N] [--gpus] [--cores N] [--address ADDRESS] [--failures N] --config RECIPE [FIT'S OPTIONS]"
RAY = "Ray is not installed: pip install 'translation-zoo[ray]'"
OWN_OPTIONS = ("--trainer.strategy", "--trainer.plugins", "--trainer.devices", "--trainer.num_nodes")
"""Options of fit that Ray decides."""


def run(words: list[str]) -> int:
    """Run `lightning ray`.

    Args:
        words: what stands behind it.

    Returns:
        The exit code.

    Raises:
        ZooError: something a person can mend.
    """
    from zoo.cli.lookup import check_recipe, resolve_configs

    options, rest = _parser().parse_known_args(words)
    if options.workers < 1 or options.cores < 1 or options.failures < 0:
        raise ZooError(
            f"workers is {options.workers}, cores is {options.cores} and failures is {options.failures}; expected 1 or more, 1 or more, "
            "and 0 or more."
        )
    if taken := [word for word in rest if word.partition("=")[0] in OWN_OPTIONS]:
        raise ZooError(f"{taken[0].partition('=')[0]} is Ray's to say. How many processes: --workers {options.workers}")
    resolved, paths = resolve_configs(rest)
    check_recipe("fit", paths, resolved)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ZooError(RAY) from error
    task = _task(rest, resolved, gpus=options.gpus)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is trained here
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # Its minute is short where processes import PyTorch on a busy machine or without bytecode.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    ours = not ray.is_initialized()
    if ours:
        start: dict[str, Any] = {"address": options.address} if options.address else {}
        ray.init(**start, log_to_driver=True, include_dashboard=False, **({} if options.address else _own(options)))
    try:
        _fit(task, options)
    finally:
        if ours:
            ray.shutdown()
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("lightning ray", SYNOPSIS, description=__doc__, allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1, help="processes that train together (default: 1)")
    parser.add_argument("--gpus", action="store_true", help="a GPU for each of them; else they train on CPUs")
    parser.add_argument(
        "--cores", type=int, default=1, help="CPU cores for each of them, loaders included (default: 1)"
    )
    parser.add_argument("--address", help="of a Ray cluster, such as auto; without it this machine is the cluster")
    parser.add_argument(
        "--failures", type=int, default=0, help="how often a training that broke off goes on (default: 0)"
    )
    return parser


def _own(options: Any) -> dict[str, Any]:
    """What Ray is told about this machine where it is the whole cluster: as many cores as were asked for, whatever it has."""
    return {"num_cpus": max(options.workers * options.cores + 1, os.cpu_count() or 1)}


def _task(words: list[str], resolved: list[str], *, gpus: bool) -> dict[str, Any]:
    """What every process is told; a run whose name nobody gave gets the one that the driver thought of.

    Raises:
        ZooError: there is a run of that name already.
    """
    from datetime import datetime

    from zoo.cli.fit import run_settings, take_resume

    # As mappings: a bare name would be taken for one of Lightning's own strategies.
    strategy, environment = (
        f'{{"class_path": "ray.train.lightning.{name}"}}' for name in ("RayDDPStrategy", "RayLightningEnvironment")
    )
    ray_words = ["--trainer.accelerator", "gpu" if gpus else "cpu", "--trainer.devices", "auto"]
    ray_words += ["--trainer.strategy", strategy, "--trainer.plugins", environment]
    if "--trainer.accelerator" in words:
        raise ZooError("--trainer.accelerator is Ray's to say. On GPUs: --gpus")
    task = {"words": [*words, *ray_words], "folder": str(Path.cwd()), "path": list(sys.path), "family": "", "name": ""}
    rest, resumed = take_resume(resolved)
    if resumed is None and "--ckpt_path" not in rest:
        settings = run_settings(rest)
        family = Path(settings.root).absolute() / (settings.recipe or "run")
        name = settings.name or datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        if (family / name).exists():
            raise ZooError(
                f"{family / name} is there already. Go on with that run by --resume {family / name}, or choose another name by "
                "--run.name NAME."
            )
        task |= {"family": str(family), "name": name}
    return task


def _fit(task: dict[str, Any], options: Any) -> None:
    """Let Ray Train run the task on all workers.

    Raises:
        ZooError: a worker found something that a person can mend.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    scaling = ScalingConfig(
        num_workers=options.workers, use_gpu=options.gpus, resources_per_worker={"CPU": options.cores}
    )
    # Ray keeps its own notes apart from runs, whose folders are ours.
    notes = RunConfig(
        storage_path=str(Path.home() / "ray_results"), failure_config=FailureConfig(max_failures=options.failures)
    )
    backend = TorchConfig(backend="nccl" if options.gpus else "gloo")
    trainer = TorchTrainer(
        train_on_worker, train_loop_config=task, torch_config=backend, scaling_config=scaling, run_config=notes
    )
    try:
        trainer.fit()
    except Exception as error:
        for failure in getattr(error, "worker_failures", {}).values():
            if (mended := _for_a_person(failure)) is not None:
                raise ZooError(mended) from error
        raise


def _for_a_person(failure: BaseException) -> str | None:
    """The sentence of what a worker raised, where it is one for a person; Ray wraps what was raised."""
    inner = getattr(failure, "_base_exc", failure)
    return str(inner) if type(inner).__name__ in {"ZooError", "DataError"} else None


def train_on_worker(task: Mapping[str, Any]) -> None:
    """Run `lightning fit` as one of the processes that Ray started; the others do the same.

    Args:
        task: `words` behind fit; the `folder` it was typed in; the `path` that Python searches for modules, rooms and callbacks of
            somebody's own among them; where the run's `family` of runs lies and its `name`, both empty where a run that is there goes on.
    """
    sys.path += [place for place in task["path"] if place not in sys.path]

    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from zoo.cli.fit import run as run_fit
    from zoo.cli.lookup import resolve_configs

    os.chdir(task["folder"])
    # Lightning looked for the rank when it was imported; Ray may have told it only since.
    rank_zero_only.rank = int(os.environ["RANK"])  # type: ignore[attr-defined]
    words = list(task["words"])
    if task["name"]:
        words += begin_or_go_on(Path(task["family"]), task["name"])
    sys.argv = ["lightning", "fit", *words]
    run_fit("fit", resolve_configs(words)[0])


def begin_or_go_on(family: Path, name: str) -> list[str]:
    """The options by which a run begins, or goes on where an earlier attempt of this very command broke off.

    Args:
        family: folder of the recipe's runs.
        name: what the command calls its run.

    Returns:
        `--resume` of the attempt that has a checkpoint, else a name that no attempt has.
    """
    from zoo.core.runs import Run

    attempts = list(_attempts(family, name))
    for folder in reversed(attempts):
        if Run(folder).checkpoints_newest_first():
            return ["--resume", str(folder)]
    number = len(attempts) + 1
    return ["--run.name", name if number == 1 else f"{name}-{number}"]


def _attempts(family: Path, name: str) -> Iterator[Path]:
    for number in count(1):
        folder = family / (name if number == 1 else f"{name}-{number}")
        if not (folder / "run.json").is_file():
            return
        yield folder

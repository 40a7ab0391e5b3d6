"""Dashboards: what a run says of itself, shown by Weights & Biases, TensorBoard or any other logger of Lightning's.

No room touches a logger. Rooms log terms and measures; this callback hands them on, over our iteration and under the names of
metrics.csv. Lightning's own way to loggers is closed (`Translator.log`): it counts batches from 0 and adds an epoch of its own.

    lightning fit --config zoo/cyclegan.yaml --config configs/wandb.yaml
    lightning fit --config zoo/cyclegan.yaml --config configs/wandb.yaml --trainer.logger.offline true
    lightning fit --config zoo/cyclegan.yaml --config configs/tensorboard.yaml
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from zoo.callbacks.judging import SceneJudge
from zoo.callbacks.metrics import Pace, measured, measures
from zoo.callbacks.run_folder import parameter_counts
from zoo.core.files import write_atomically
from zoo.core.images import grid
from zoo.core.runs import Run, checkpoint_iteration
from zoo.core.translator import Translator
from zoo.errors import ZooError

AXIS = "iteration"
IDENTITY = "wandb.json"
ATTENTIVE = ("attention", "mask")  # first words of the columns of a grid that get a panel of their own


class Dashboards(Callback):
    """Hands losses, measures, sample grids, attention maps and checkpoints to the trainer's loggers, where it has any.

    Losses come every `trainer.log_every_n_steps` iterations, measures after each validation, pictures whenever a sample grid is
    written. In Weights & Biases the step is the number of completed iterations; a resumed run goes on in its own run there, and what
    it lives again is not logged twice.

    Args:
        enabled: whether loggers get anything.
        pictures: whether they get sample grids and attention maps.
        checkpoints: which checkpoints Weights & Biases gets as artifacts; they are kept in the run's folder all the same.
    """

    def __init__(
        self, enabled: bool = True, pictures: bool = True, checkpoints: Literal["none", "last", "all"] = "none"
    ) -> None:
        self.enabled = enabled
        self.pictures = pictures
        self.checkpoints = checkpoints
        self.run: Run | None = None
        self.seen_at = ""
        self._pace = Pace()
        self._logged_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell dashboards the whole configuration, and remember which run of theirs this is."""
        self._logged_at = trainer.global_step
        self._pace.restart(trainer.global_step)
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._introduce(logger)
            elif isinstance(logger, TensorBoardLogger):
                self.seen_at = f"tensorboard --logdir {logger.save_dir}"

    def _introduce(self, logger: WandbLogger) -> None:
        experiment: Any = logger.experiment
        experiment.define_metric(AXIS)
        experiment.define_metric("*", step_metric=AXIS, step_sync=True)
        folders = [str(Path(experiment.dir).parent)]
        if self.run is not None:
            folders = self._remember(experiment, folders[0])
        self.seen_at = experiment.url or f"wandb sync {' '.join(folders)}"

    def _remember(self, experiment: Any, folder: str) -> list[str]:
        """Keep in the run's folder which run of Weights & Biases it is; the folders of all its starts, in their order."""
        assert self.run is not None
        if self.run.config.is_file():
            settings = yaml.safe_load(self.run.config.read_text(encoding="utf-8"))
            record = json.loads(self.run.record.read_text(encoding="utf-8"))
            experiment.config.update({**settings, "record": record}, allow_val_change=True)
        path = self.run.folder / IDENTITY
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"folders": []}
        kept |= {"id": experiment.id, "project": experiment.project, "entity": experiment.entity or None}
        kept["folders"] = [*kept["folders"], folder]
        write_atomically(path, (json.dumps(kept, indent=2) + "\n").encode())
        return list(kept["folders"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log losses when it is time."""
        due = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if due and trainer.loggers and trainer.is_global_zero:
            self._log_losses(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log measures of a training; those of `lightning validate` and `test` Lightning logs itself."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            log_values(trainer, measures(trainer))
        self._pace.restart(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the last iterations gave, and what only a finished run can tell."""
        if trainer.global_step != self._logged_at:
            self._log_losses(trainer, pl_module)
        if trainer.is_global_zero:
            for experiment in _wandb_runs(trainer):
                experiment.summary.update(summary_of(trainer, pl_module))

    def show(self, trainer: Trainer, columns: Mapping[str, Tensor], sheet: Image.Image) -> None:
        """Show a sample grid, and each of its columns that is an attention map in a panel of its own.

        Args:
            trainer: whose loggers get the pictures.
            columns: of the grid by name, `b c h w` in [-1, 1].
            sheet: the grid.
        """
        if not self.pictures or not trainer.is_global_zero:
            return
        shown = {"samples/grid": sheet}
        for name, images in columns.items():
            if name.split()[0] in ATTENTIVE:
                shown[f"samples/{name.replace(' ', '_')}"] = grid({name: images})
        for logger in trainer.loggers:
            _show_pictures(logger, shown, trainer.global_step)

    def keep(self, trainer: Trainer, run: Run, path: Path, *, last: bool) -> None:
        """Give Weights & Biases a checkpoint that was just written, if it is to have it.

        Args:
            trainer: whose loggers get it.
            run: that it belongs to.
            path: of the checkpoint.
            last: whether the training has ended.
        """
        if self.checkpoints == "none" or (self.checkpoints == "last" and not last) or not trainer.is_global_zero:
            return
        import wandb

        iteration = checkpoint_iteration(path)
        for experiment in _wandb_runs(trainer):
            artifact = wandb.Artifact(
                f"{run.folder.parent.name}-{experiment.id}",
                type="model",
                metadata={AXIS: iteration, "recipe": run.folder.parent.name, "run": run.folder.name},
            )
            artifact.add_file(
                str(path), name=path.name
            )  # a copy: old checkpoints are removed while it is still on its way
            experiment.log_artifact(artifact, aliases=["latest", f"iteration_{iteration}"])

    def _log_losses(self, trainer: Trainer, module: LightningModule) -> None:
        self._logged_at = trainer.global_step
        log_values(trainer, measured(trainer, module) | self._pace.look(trainer.global_step))


def show_samples(trainer: Trainer, columns: Mapping[str, Tensor], sheet: Image.Image) -> None:
    """Hand a sample grid to the dashboards among a trainer's callbacks; see `Dashboards.show`."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Dashboards):
            callback.show(trainer, columns, sheet)


def keep_checkpoint(trainer: Trainer, run: Run, path: Path, *, last: bool) -> None:
    """Hand a checkpoint to the dashboards among a trainer's callbacks; see `Dashboards.keep`."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Dashboards):
            callback.keep(trainer, run, path, last=last)


def log_values(trainer: Trainer, values: Mapping[str, float]) -> None:
    """Log numbers after so many completed iterations as the trainer has done."""
    if not values or not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            _log(logger.experiment, values, trainer.global_step)
        else:
            logger.log_metrics(dict(values), step=trainer.global_step)
            logger.save()


def summary_of(trainer: Trainer, module: LightningModule) -> dict[str, float]:
    """What a table of runs compares beside the latest losses and measures: iterations, parameters, seconds, the judge's table."""
    summary: dict[str, float] = {"iterations": trainer.global_step, **measures(trainer)}
    summary |= {f"parameters/{name}": count for name, count in parameter_counts(module).items()}
    if isinstance(module, Translator):
        summary |= {f"seconds/{name}": round(seconds, 1) for name, seconds in module.phases.seconds.items()}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SceneJudge):
            summary |= {f"judge/{name}": value for name, value in callback.report.items()}
    return summary


def prepare_loggers(node: Any, run: Run | None, checkpoint: str | None = None) -> None:
    """Fit the settings of loggers to a run before they are built: its own place and identity, the same after a resume.

    Args:
        node: `trainer.logger` as it was parsed: one logger's settings, a list of them, or none.
        run: the run; None where nothing is trained.
        checkpoint: path of the checkpoint that a resumed run goes on from.

    Raises:
        ZooError: a logger needs a package that is not here.
    """
    for settings in node if isinstance(node, list) else [node]:
        kind = str(getattr(settings, "class_path", "")).rpartition(".")[2]
        if kind == "TensorBoardLogger" and not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise ZooError(
                "TensorBoard is not installed here. Type: pip install 'translation-zoo[tensorboard]', or leave the logger out: "
                "metrics.csv and sample grids are written all the same."
            )
        if run is None or kind not in {"WandbLogger", "TensorBoardLogger"}:
            continue
        given = settings.init_args
        recipe, name = run.folder.parent.name, run.folder.name
        if kind == "WandbLogger":
            given.id = given.get("id") or given.get("version") or _identity(run)
            given.version = None
            given.name = given.get("name") or os.environ.get("WANDB_NAME") or f"{recipe}/{name}"
        elif given.get("version") is None:
            given.version = name
            given.name = recipe if given.get("name") in {None, "lightning_logs"} else given.name
            if checkpoint is not None:  # what lies behind the checkpoint is hidden: it is lived again
                extra = dict(settings.get("dict_kwargs") or {})
                settings.dict_kwargs = {"purge_step": checkpoint_iteration(Path(checkpoint)) + 1, **extra}


def _identity(run: Run) -> str:
    """The run's id in Weights & Biases: the one it has, the one a sweep's agent gives, or a new one."""
    path = run.folder / IDENTITY
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    return os.environ.get("WANDB_RUN_ID") or secrets.token_hex(5)


def quieten_loggers(trainer: Trainer) -> None:
    """Leave out an argument of Lightning's that wandb no longer knows, and warns everyone about."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger._wandb_init.pop("anonymous", None)


@contextmanager
def wandb_said_plainly() -> Iterator[None]:
    """Turn what Weights & Biases refuses into a sentence with what to type."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "wandb":
            raise
        raise ZooError(
            f"Weights & Biases did not begin: {str(error).rstrip('.')}. Log in first (wandb login, or set WANDB_API_KEY); without a "
            "network or an account: --trainer.logger.offline true"
        ) from error


def _wandb_runs(trainer: Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _log(experiment: Any, values: Mapping[str, Any], iteration: int) -> None:
    # Its steps only rise. Behind the checkpoint of a resumed run there may be some already, and they hold the same values.
    if iteration >= experiment.step:
        experiment.log({**values, AXIS: iteration}, step=iteration)


def _show_pictures(logger: Logger, pictures: Mapping[str, Image.Image], iteration: int) -> None:
    if isinstance(logger, WandbLogger):
        import wandb

        _log(logger.experiment, {name: wandb.Image(picture) for name, picture in pictures.items()}, iteration)
    elif isinstance(logger, TensorBoardLogger):
        for name, picture in pictures.items():
            logger.experiment.add_image(name, np.asarray(picture), iteration, dataformats="HWC")

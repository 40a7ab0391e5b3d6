"""The judge of rendered scenes, run on validation and test data whose true translation is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.core import sync
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.metrics.daylight import NAMES as DAYLIGHT_NAMES
from zoo.metrics.daylight import DaylightTally, format_daylight
from zoo.metrics.judge import Judge, Tally, format_table

DAYLIGHT = ("daylight",)
LOGGED = (
    *DAYLIGHT_NAMES,
    *("style_accuracy", "object_iou", "background_change", "error", "psnr", "attention_iou"),
    *("style_distance", "style_distance_others", "style_choice"),
)


def gives_attention(room: type[Translator]) -> bool:
    """Whether a room's `translate` can give attention maps beside its translations."""
    return "return_attention" in signature(room.translate).parameters


def judge_batch(tally: Tally, model: Translator, batch: Mapping[str, Tensor]) -> Tensor:
    """Translate a batch of rendered scenes as `predict` does, and count it.

    Args:
        tally: what the batch is added to.
        model: the translator; where it gives attention maps, they are judged too.
        batch: `source` and `target`, or of many domains `image`, `reference` and `reference_domain`; with `counterpart`, `mask`
            and `counterpart_mask` of scenes whose truth is known.

    Returns:
        The translations.
    """
    attention: Tensor | None = None
    many = "reference_domain" in batch
    source, exemplar = (batch["image"], batch["reference"]) if many else (batch["source"], batch["target"])
    if gives_attention(type(model)) and type(model).translate_batch is Translator.translate_batch:
        translation, attention = model.translate(source, return_attention=True)  # type: ignore[call-arg]
    else:
        translation = model.translate_batch(batch)
    tally.update(
        translation.float(),
        source.float(),
        batch["counterpart"].float(),
        batch["mask"].float(),
        batch["reference_domain"] if many else 1,
        references=exemplar.float(),
        attention=attention,
        counterpart_masks=batch["counterpart_mask"].float(),
    )
    return translation


def judge_daylight(tally: DaylightTally, model: Translator, batch: Mapping[str, Tensor]) -> Tensor:
    """Translate a batch of rendered landscapes as `predict` does, and count it; returns the translations."""
    translation = model.translate_batch(batch)
    source, target, counterpart = (batch[key].float() for key in ("source", "target", "counterpart"))
    tally.update(translation.float(), source, target, counterpart, batch["source_labels"], batch["target_light"])
    return translation


AnyTally = Tally | DaylightTally


def tally_for(domains: Sequence[str], device: torch.device) -> AnyTally:
    """An empty count for scenes of these domains, or for landscapes.

    Raises:
        ZooError: a domain is no look that the judge knows.
    """
    return DaylightTally() if tuple(domains) == DAYLIGHT else Tally(Judge.load(domains).to(device))


def judge_any(tally: AnyTally, model: Translator, batch: Mapping[str, Tensor]) -> Tensor:
    """Translate a batch of rendered pictures as `predict` does, and count it; returns the translations."""
    if isinstance(tally, DaylightTally):
        return judge_daylight(tally, model, batch)
    return judge_batch(tally, model, batch)


class SceneJudge(Callback):
    """Judges translations of rendered scenes, logs `val/<figure>` and prints the table beside its baselines at the end.

    Args:
        enabled: whether scenes are judged; the data must be `datamodules.Scenes`.
        every_table: print the whole table after each validation instead of at the end alone.
    """

    def __init__(self, enabled: bool = False, every_table: bool = False) -> None:
        self.enabled = enabled
        self.every_table = every_table
        self.report: dict[str, float] = {}
        self._empty: AnyTally | None = None
        self._tally: AnyTally | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the judge, or say that this data cannot be judged."""
        domains = getattr(trainer.datamodule, "domains", None)  # type: ignore[attr-defined]
        if domains is None or not hasattr(trainer.datamodule, "scenes_per_epoch"):  # type: ignore[attr-defined]
            raise ZooError(
                f"The judge knows rendered scenes alone, and the data is {type(trainer.datamodule).__name__}. "  # type: ignore[attr-defined]
                "Switch it off: --judge.enabled false"
            )
        self._empty = tally_for(domains, pl_module.device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new count."""
        if isinstance(self._empty, Tally):
            self._empty.judge.to(pl_module.device)
        self._tally = self._new()

    def _new(self) -> AnyTally:
        assert self._empty is not None
        return Tally(self._empty.judge) if isinstance(self._empty, Tally) else DaylightTally()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Translate a batch and judge it."""
        assert self._tally is not None
        assert isinstance(pl_module, Translator)
        with pl_module.aside("judge", batch_idx):
            judge_any(self._tally, pl_module, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures."""
        assert self._tally is not None
        tally = self._new()
        for rows in sync.gather_plain(self._tally.rows):
            for name, parts in rows.items():  # type: ignore[attr-defined]
                tally.rows.setdefault(name, []).extend(parts)
        self.report = tally.compute()
        pl_module.log_dict(
            {f"val/{name}": self.report[name] for name in LOGGED if name in self.report}, rank_zero_only=True
        )
        if self.every_table and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._print(trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures of the test and print the table."""
        self.on_validation_epoch_end(trainer, pl_module)
        self._print(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last validation's table."""
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.report:
            in_daylight = isinstance(self._empty, DaylightTally)
            print(format_daylight(self.report) if in_daylight else format_table(self.report), flush=True)

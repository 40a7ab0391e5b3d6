"""Numbers recorded from the official codes, and what compares ours with them.

A golden file is a safetensors file whose metadata `config` says in JSON what was run, of which kind it is and within which
tolerances. Its tensors are either given (`in/`, `noise/`, `param/`, `state/`) or expected. A paper's test maps each kind to a function that
takes a `Golden`, rebuilds what the official code did from the given tensors and compares every expected one:

    KINDS = {"generator": check_generator, ...}

    @pytest.mark.parametrize("path", **every_file("cyclegan"))
    def test_golden(path: Path) -> None:
        check(path, KINDS)

Each comparison that passes is made again with one expected number moved by 100 tolerances, and has to fail then.

No value of a file belongs into a test: files of the same kinds, recorded with other seeds, widths and sizes, run unchanged.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from zoo.cli.fit import quieten
from zoo.core import Translator

HERE = Path(__file__).parent
GIVEN = frozenset({"in", "noise", "noise_noise", "noise_batch_constant", "param", "state", "state_ema"})


def is_given(key: str) -> bool:
    """Whether a key names an input; what lies below an `out` never does, whatever it is called."""
    parts = set(key.split("/"))
    return bool(GIVEN & parts) and "out" not in parts


class GoldenMismatchError(AssertionError):
    """Our numbers differ from the recorded ones, or something recorded was not compared.

    Attributes:
        key: the tensor in question.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


def golden_files(paper: str) -> list[Path]:
    """Every golden file of a paper: those of `$GOLDEN_ROOT` (else `../shared/golden` beside the repository) and our own copies.

    A file that lies in both places is taken from the first.
    """
    outside = Path(os.environ.get("GOLDEN_ROOT", HERE.parents[1].parent / "shared" / "golden"))
    if "GOLDEN_ROOT" in os.environ and not outside.is_dir():
        raise FileNotFoundError(f"GOLDEN_ROOT is {outside}, and there is no such folder")
    folders = (HERE / "data" / paper, outside / paper)
    found = {path.stem: path for folder in folders for path in folder.glob("*.safetensors")}
    if not found:
        raise FileNotFoundError(f"no golden files of {paper!r} in {' or '.join(map(str, folders))}")
    return [found[stem] for stem in sorted(found)]


def every_file(paper: str) -> dict[str, Any]:
    """Arguments for `pytest.mark.parametrize`: one case per golden file, named by its stem."""
    paths = golden_files(paper)
    return {"argvalues": paths, "ids": [path.stem for path in paths]}


class Golden:
    """One golden file, and a record of what was compared with it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with safe_open(path, framework="pt") as file:
            self.metadata: dict[str, str] = dict(file.metadata())
            self.config: dict[str, Any] = json.loads(self.metadata["config"])
            self._tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        self.kind: str = self.config["kind"]
        named = re.fullmatch(r"float\d+", self.config.get("dtype", ""))  # some files have a sentence there
        self.dtype: torch.dtype = getattr(torch, named[0]) if named else torch.float64
        self._compared: set[str] = set()
        self._failures: list[GoldenMismatchError] = []

    @property
    def expected(self) -> list[str]:
        """Keys of all expected tensors."""
        return [key for key in sorted(self._tensors) if not is_given(key)]

    def keys(self, pattern: str) -> list[str]:
        """Keys that match a regular expression from start to end; a number in a key counts as a number in their order."""
        found = (key for key in self._tensors if re.fullmatch(pattern, key))
        return sorted(found, key=lambda key: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", key)])

    def given(self, key: str) -> Tensor:
        """A given tensor, floats cast up to the precision of the recording."""
        if not is_given(key):
            raise KeyError(f"{key} is expected, not given: it can only be compared")
        tensor = self._tensors[key]
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def state(self, prefix: str = "state/") -> dict[str, Tensor]:
        """The state dict below a prefix."""
        keys = [key for key in self._tensors if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.given(key) for key in keys}

    def tape(self, prefix: str) -> list[tuple[str, Tensor]]:
        """Recorded draws `<prefix>NN_<name>` in their order."""
        keys = self.keys(re.escape(prefix) + r"\d+_\w+")
        return [(key.removeprefix(prefix).partition("_")[2], self.given(key)) for key in keys]

    def layout(self, key: str) -> Tensor:
        """An expected tensor for what it says about sizes alone, where the metadata does not."""
        return self._tensors[key].clone()

    def compare_summaries(self, name: str, actual: Tensor) -> None:
        """Compare whatever a file keeps of `out/<name>`: all of it, every k-th row and column (`_s<k>`), its norm, its mean."""
        keys = self.keys(f"out/{name}(_s\\d+|_l2|_mean)?")
        if not keys:
            raise GoldenMismatchError(f"out/{name}", "is not in the file in any form")
        for key in keys:
            kind = key.removeprefix(f"out/{name}").removeprefix("_")
            if kind == "l2":
                self.compare(key, actual.norm())
            elif kind == "mean":
                self.compare(key, actual.mean())
            else:
                step = int(kind.removeprefix("s") or 1)
                self.compare(key, actual[..., ::step, ::step])

    def compare_norms(self, key: str, norms: Sequence[Tensor | None]) -> None:
        """Compare gradients' norms, for which a recorded NaN says that there was no gradient, as our None does."""
        absent = torch.tensor(torch.nan, dtype=torch.float64)
        self.compare(key, torch.stack([absent if norm is None else norm.double().cpu() for norm in norms]), absent=True)

    def compare(self, key: str, actual: Tensor, tolerance: Tensor | None = None, *, absent: bool = False) -> None:
        """Compare one of our tensors with the expected one.

        Args:
            key: of the expected tensor.
            actual: of the same shape; one number may come without dimensions.
            tolerance: largest allowed absolute difference per element; by default atol + rtol * |expected| of the file.
            absent: NaN stands for what is not there, and must be in the same places.

        Raises:
            GoldenMismatchError: they differ, in shape or by more than the tolerance; NaN always differs, but see `absent`.
            AssertionError: with one number moved by 100 tolerances they would not differ.
        """
        try:
            self._compare(key, actual, tolerance, absent=absent)
        except GoldenMismatchError as error:
            self._failures.append(error)
            raise

    def _compare(self, key: str, actual: Tensor, tolerance: Tensor | None, *, absent: bool) -> None:
        if key not in self.expected or key in self._compared:
            raise GoldenMismatchError(key, "is no expected tensor of this file, or was compared before")
        self._compared.add(key)
        expected = self._tensors[key].to(torch.float64)
        actual = actual.detach().cpu().to(torch.float64)
        if actual.numel() == expected.numel() == 1:
            actual = actual.reshape(expected.shape)
        if actual.shape != expected.shape:
            raise GoldenMismatchError(key, f"has the shape {tuple(expected.shape)}, ours {tuple(actual.shape)}")
        if tolerance is None:
            tolerance = self.config["atol"] + self.config["rtol"] * expected.abs()
        if fault := difference(actual, expected, tolerance, absent=absent):
            raise GoldenMismatchError(key, fault)
        moved, place = self._with_a_moved_number(key, expected, tolerance)
        if not difference(actual, moved, tolerance, absent=absent):
            raise AssertionError(
                f"{self.path.name}: element {place} of {key} was moved by 100 tolerances, and nothing noticed"
            )

    def _with_a_moved_number(self, key: str, expected: Tensor, tolerance: Tensor) -> tuple[Tensor, int]:
        movable = expected.flatten().isfinite().nonzero().flatten()
        place = int(movable[_number(self.path.stem, key) % len(movable)])
        # A tolerance below what the type can tell apart would move nothing.
        step = torch.maximum(tolerance, torch.finfo(torch.float64).eps * expected.abs().clamp(min=1)).expand_as(
            expected
        )
        moved = expected.clone()
        moved.view(-1)[place] += 100 * step.reshape(-1)[place]
        return moved, place

    def finish(self) -> None:
        """Make sure that every expected tensor was compared, and that no difference was passed over."""
        if self._failures:
            raise self._failures[0]
        if left := sorted(set(self.expected) - self._compared):
            raise GoldenMismatchError(
                left[0], f"nothing compared this and {len(left) - 1} more tensors of {self.path.name}"
            )


Kinds = Mapping[str, Callable[[Golden], None]]


def check(path: Path, kinds: Kinds) -> None:
    """Run one golden file: an unknown kind, a difference and an expected tensor that nothing compared are errors."""
    golden = Golden(path)
    if golden.kind not in kinds:
        raise GoldenMismatchError(
            "config", f"{path.name} is of the unknown kind {golden.kind!r}; known: {sorted(kinds)}"
        )
    if not golden.expected:
        raise GoldenMismatchError("config", f"{path.name} expects nothing")
    kinds[golden.kind](golden)
    golden.finish()


def difference(actual: Tensor, expected: Tensor, tolerance: Tensor, *, absent: bool = False) -> str:
    """Say how two tensors of one shape differ by more than a tolerance; an empty text where they don't."""
    apart = (actual - expected).abs()
    wrong = ~(apart <= tolerance)
    if absent:
        wrong &= ~(actual.isnan() & expected.isnan())
        apart = apart.where(wrong, 0.0)
    if not wrong.any():
        return ""
    worst = int((apart - tolerance).nan_to_num(nan=torch.inf).argmax())
    return (
        f"{int(wrong.sum())} of {wrong.numel()} numbers differ; element {worst} is "
        f"{float(actual.flatten()[worst])!r}, expected {float(expected.flatten()[worst])!r} "
        f"within {float(tolerance.expand_as(expected).flatten()[worst]):.3g}"
    )


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


# Trainings: the room's own training_step under a Trainer, watched from outside ---------------------------------------------------


class Record(Callback):
    """What a room did in each iteration.

    Attributes:
        terms: the loss terms that it logged, by name.
        gradient_norms: L2 norm of each parameter's gradient when an optimiser stepped on it.
        rates: the learning rates of all optimisers' groups when they stepped.
    """

    def __init__(self) -> None:
        self.terms: list[dict[str, Tensor]] = []
        self.gradient_norms: list[dict[str, Tensor]] = []
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = {id(p): name for name, p in pl_module.named_parameters()}
        log_terms = pl_module.log_terms

        def listen(terms: Mapping[str, Tensor], *arguments: str) -> None:
            self.terms[-1] |= {name: value.detach().clone() for name, value in terms.items()}
            log_terms(terms, *arguments)

        def look(optimizer: Optimizer, *_: object) -> None:
            for group in optimizer.param_groups:
                self.rates[-1].append(group["lr"])
                for p in group["params"]:
                    if p.grad is not None:
                        self.gradient_norms[-1][names[id(p)]] = p.grad.norm()

        pl_module.log_terms = listen
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(look)

    def on_train_batch_start(self, *_: object) -> None:
        self.terms.append({})
        self.gradient_norms.append({})
        self.rates.append([])


def fit(
    model: Translator,
    batches: Sequence[Mapping[str, Tensor]],
    tape: Mapping[int, Sequence[tuple[str, Tensor]]] | None = None,
    *callbacks: Callback,
) -> Record:
    """Train a room in float64 on the given batches, one iteration each, with every draw read from the tape.

    Raises:
        GoldenMismatchError: draws of the tape were left over.
    """
    if tape is not None:
        model.draws.replay(tape)
    record = Record()
    quieten()
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")  # pytest forgets it after the test
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="64-true",
        max_steps=len(batches),
        callbacks=[record, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(list(batches), batch_size=None))
    if trainer.global_step != len(batches) or len(record.terms) != len(batches):
        raise GoldenMismatchError("config", f"{trainer.global_step} iterations were trained, not {len(batches)}")
    if model.draws.unread:
        raise GoldenMismatchError("noise", f"{model.draws.unread} recorded draws were not asked for")
    return record


def norms_and_means(module: nn.Module, names: Sequence[str]) -> Tensor:
    """L2 norm and mean of each named parameter or buffer, `n 2`."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return torch.stack([torch.stack([tensors[name].norm(), tensors[name].mean()]) for name in names])

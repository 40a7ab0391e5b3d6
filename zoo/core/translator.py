"""The base of every room: iterations, players, draws, stages and what a checkpoint keeps."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from zoo.core import sync
from zoo.core.checkpoints import SafeCheckpointIO, Stateful, room_entry, take_rank_part
from zoo.core.draws import Draws, seed_of
from zoo.core.numbers import BadNumbers
from zoo.core.phases import Phases
from zoo.core.players import Player, Turn, give_turn
from zoo.core.precision import refuse_half_precision
from zoo.core.terms import Terms


class Translator(LightningModule):
    """A paper's model. A room subclasses this and writes down networks, losses and the training step; the plumbing is here.

    One batch is one iteration, whatever the number of optimisers: `trainer.max_steps`, checkpoint names and logging intervals count
    batches. Rooms write `with self.player("discriminator") as player: player.minimize(loss)`.

    Attributes:
        draws: every random draw of a room.
        bad_numbers: what happens to non-finite gradients.
        terms: the latest loss terms.
        phases: where the time of the run goes; a stage callback counts its work by `with pl_module.phases.during("sampler")`.
        stage: number of the present stage of a network that grows during training, 0 at the start.
        check_ranks_every: iterations between two comparisons of all weights over ranks.
        size_multiple, smallest_size: what the sides of pictures must be multiples of, and their least.
    """

    size_multiple: int = 1
    smallest_size: int = 1

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.draws = Draws()
        self.bad_numbers = BadNumbers()
        self.terms, self.phases = Terms(), Phases()
        self.rate_factors: dict[str, float] = {}  # of players, on top of their schedules
        self.stage = 0
        self.check_ranks_every = 1000
        self.iteration = 0
        self._in_iteration = False
        self._players: dict[str, Player] = {}
        self._frozen: set[str] = set()
        self._fixed: set[int] = set()
        self._per_rank: dict[str, Stateful] = {}

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        """Translate pictures.

        A room adds the keywords that its paper knows, each with a default; the commands find them by the signature:
        `reference: Tensor | None = None`, exemplars `b 3 h w` in [-1, 1] of any size, which the room resizes; `latent: Tensor | None
        = None`, random styles `b z` from a normal distribution, with an attribute `latent_channels` that says z, and, where they
        come from a part that is fitted after training, `sampler_fitted`; `correspondence: float = 1.0`, how closely the
        translation follows the source's content.

        Args:
            image: `b c h w` in [-1, 1].
            to: the domain to translate into.

        Returns:
            Pictures of the same shape and range; a room whose networks know one size gives that size.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it translates")

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Translate a batch's `source`, as sample grids, the judge and `predict` do; with exemplars, in the styles of its `target`."""
        return self.translate(batch["source"])

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """What a training needs and this machine lacks: sentences for a person, each with the line to type.

        Asked before anything is built; a room that needs downloads or files overrides it.

        Args:
            settings: the constructor's arguments, defaults included.
            resumed: weights come from a checkpoint, so initial ones are not needed.
        """
        return []

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid by name, each `b c h w` in [-1, 1]: the source, its translation, what else the paper shows."""
        return {"source": batch["source"], "translation": self.translate_batch(batch)}

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Translate `batch["source"]` and return the result; `lightning translate` is what writes files."""
        return self.translate_batch(batch)

    def keep_per_rank(self, name: str, state: Stateful) -> None:
        """Keep something in the checkpoint that each rank has its own of, such as an image pool."""
        self._per_rank[name] = state

    def log_terms(self, terms: Mapping[str, Tensor], prefix: str = "loss") -> None:
        """Log raw loss terms under `loss/<name>`; they stay on the device until someone looks."""
        self.terms.keep(terms, prefix)

    def log(self, name: str, value: Any, **options: Any) -> None:  # type: ignore[override]
        """Log as Lightning does; but a training's loggers hear everything from `zoo.callbacks.Dashboards`, over our iterations."""
        super().log(name, value, **(options | ({"logger": False} if self.trainer.state.fn == "fit" else {})))

    def players(self, *players: Player) -> list[Optimizer]:
        """Register the players; what `configure_optimizers` returns."""
        self._players = {player.name: player for player in players}
        self._fixed = {id(p) for p in self.parameters() if not p.requires_grad} - self._parameters_of(self._frozen)
        return [optimizer for player in players for optimizer in player.optimizers.values()]

    def player(self, name: str, *, only: Sequence[str] | None = None) -> AbstractContextManager[Turn]:
        """A player's turn: gradients reach its networks alone; at its end they are averaged over ranks, clipped and stepped on.

        Args:
            name: the player.
            only: names of the optimisers that step now; all by default.
        """
        return contextmanager(give_turn)(self, self._players, name, only)

    def lightning_optimizers(self) -> list[LightningOptimizer]:
        """The optimisers as Lightning wraps them (its precision plugins and hooks see each step)."""
        return list(self.trainer.strategy._lightning_optimizers)

    def set_frozen(self, network: str, frozen: bool = True) -> None:
        """Freeze or free a network by its attribute name: its weights get no gradient in any turn, so no optimiser moves them."""
        parameters = list(self.get_submodule(network).parameters())
        (self._frozen.add if frozen else self._frozen.discard)(network)
        for parameter in parameters:
            parameter.requires_grad_(not frozen)
            parameter.grad = None

    def frozen_parameters(self) -> set[int]:
        """Identities of all parameters that no turn may move: those of frozen networks, and those made without gradients."""
        return self._parameters_of(self._frozen) | self._fixed

    def _parameters_of(self, networks: Iterable[str]) -> set[int]:
        return {id(p) for network in networks for p in self.get_submodule(network).parameters()}

    def build_stage(self, stage: int) -> None:
        """Turn the networks of stage `stage - 1` into those of `stage`. Rooms whose networks grow write this."""
        raise NotImplementedError(f"{type(self).__name__} has no stages")

    def enter_stage(self, stage: int) -> None:
        """Move to a later stage in the middle of a training: new networks on every rank alike, new optimisers.

        The state of an optimiser is kept for those parameters that live on.
        """
        kept = [(p, state) for optimizer in self.trainer.optimizers for p, state in optimizer.state.items()]
        self._grow_to(stage)
        sync.broadcast_module(self)
        strategy = self.trainer.strategy
        strategy.optimizers = cast(list[Optimizer], self.configure_optimizers())
        for optimizer in strategy.optimizers:
            members = {id(p) for group in optimizer.param_groups for p in group["params"]}
            optimizer.state.update({p: state for p, state in kept if id(p) in members})

    def _grow_to(self, stage: int) -> None:
        with torch.random.fork_rng(devices=[]):
            while self.stage < stage:
                torch.manual_seed(seed_of(self.draws.seed, "stage", self.stage + 1))
                self.build_stage(self.stage + 1)
                self.stage += 1
        self.to(self.device)
        if self._trainer is not None:
            self.trainer.precision_plugin.convert_module(self)

    def setup(self, stage: str) -> None:
        """Refuse what can't work before a GPU is touched; seed the draws; make checkpoints safe."""
        refuse_half_precision(self.trainer.precision)
        self.draws.seed = int(os.environ.get("PL_GLOBAL_SEED", self.draws.seed))  # what seed_everything leaves behind
        self.draws.rank = self.global_rank
        self.trainer.strategy.checkpoint_io = SafeCheckpointIO()
        # Lightning converts after it has loaded a checkpoint, which rounds the weights of a float64 run to float32.
        self.trainer.precision_plugin.convert_module(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the plumbing of an iteration around a room's `training_step`, where callbacks come neither before nor between."""
        super().__init_subclass__(**kwargs)
        if "training_step" in vars(cls):
            cls.training_step = _as_iteration(cls.training_step)  # type: ignore[arg-type, method-assign]

    @contextmanager
    def _one_iteration(self, batch: object) -> Iterator[None]:
        self.iteration = self.trainer.global_step
        self.draws.begin(self.iteration, self.device, cast(torch.dtype, self.dtype))
        if isinstance(self.trainer.strategy.model, DistributedDataParallel):
            # DDP's reducer stays out of it, the players average gradients; Lightning sets this again after each step.
            self.trainer.strategy.model.require_backward_grad_sync = False
        yield
        self.terms.publish(self.trainer)
        sync.align_buffers(self)
        self.bad_numbers.end(self.iteration, batch, self.draws)
        if (self.iteration + 1) % self.check_ranks_every == 0:
            sync.check_ranks_agree(self)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    @contextmanager
    def aside(self, *moment: int | str) -> Iterator[None]:
        """Look at the model during training without moving anything: eval mode, no gradients, streams left where they are."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad(), self.draws.aside(*moment):
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the room's name, stage, frozen networks and what each rank holds; never save weights that went bad unnoticed."""
        self.bad_numbers.read_all(self.iteration)
        checkpoint["zoo"] = room_entry(self, self._frozen, self._per_rank)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the checkpoint's stage before weights are loaded, then take this rank's part."""
        kept = checkpoint.get("zoo", {})
        self._grow_to(int(kept.get("stage", 0)))
        for network in kept.get("frozen", []):
            self.set_frozen(network)
        take_rank_part(kept.get("ranks", []), self._per_rank)


def _as_iteration(step: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(step)
    def training_step(self: Translator, *args: Any, **kwargs: Any) -> None:
        if self._in_iteration:  # a subclass' step calls its parent's
            return step(self, *args, **kwargs)
        self._in_iteration = True
        try:
            with self._one_iteration(args[0] if args else kwargs["batch"]):
                step(self, *args, **kwargs)
        finally:
            self._in_iteration = False

    return training_step

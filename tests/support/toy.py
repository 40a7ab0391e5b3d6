"""Small rooms and data that exercise the base: two players, R1, norms, dead branches, stages, numbers that go bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, IterableDataset

from zoo.core import Ema, Player, Translator, sync
from zoo.core.images import from_uint8
from zoo.errors import ZooError


class ToyPool:
    """Keeps the last few fakes of its rank."""

    def __init__(self) -> None:
        self.fakes: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        return {"fakes": self.fakes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.fakes = list(state["fakes"])

    def swap(self, fake: Tensor) -> Tensor:
        self.fakes = [*self.fakes, fake.detach()][-3:]
        return self.fakes[0]


class ToyRoom(Translator):
    """Toy: two players on vectors."""

    def __init__(
        self,
        r1: float = 0.0,
        norm: Literal["none", "batch", "spectral"] = "none",
        learning_rate: float = 0.01,
        branch: Literal["none", "odd_ranks", "nobody"] = "none",
        bad_iteration: int = -1,
        bad_rank: int = 0,
        grow_at: int = -1,
        frozen: str = "",
        pool: bool = False,
        ema_decay: float = 0.0,
        draw: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.generator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        first = nn.Linear(4, 8)
        self.discriminator = nn.Sequential(
            spectral_norm(first) if norm == "spectral" else first,
            nn.BatchNorm1d(8) if norm == "batch" else nn.Identity(),
            nn.Tanh(),
            nn.Linear(8, 1),
        )
        self.extra = nn.Linear(4, 4)
        self.grown = nn.ModuleList()
        self.pool = ToyPool()
        self.keep_per_rank("pool", self.pool)
        self.ema = Ema({"generator": self.generator}, decay=ema_decay) if ema_decay else None
        self.turns: list[str] = []
        if frozen:
            self.set_frozen(frozen)

    def build_stage(self, stage: int) -> None:
        self.grown.append(nn.Linear(4, 4))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rate = self.hparams["learning_rate"]
        makers = [self.generator, self.extra, self.grown]
        return self.players(
            Player("generator", torch.optim.Adam([p for m in makers for p in m.parameters()], rate), makers),
            Player(
                "discriminator",
                torch.optim.Adam(self.discriminator.parameters(), rate),
                [self.discriminator],
                schedule=lambda iteration: 1 / (1 + iteration / 10),
            ),
        )

    def make(self, x: Tensor) -> Tensor:
        y = self.generator(x)
        for block in self.grown:
            y = y + block(y)
        uses = {"none": False, "nobody": False, "odd_ranks": self.global_rank % 2 == 1}[self.hparams["branch"]]
        return y + self.extra(x) if uses else y

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return self.make(image)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        if self.hparams["grow_at"] == self.iteration and self.stage == 0:
            self.enter_stage(1)
        with self.player("generator") as player:
            fake = self.make(batch["source"])
            if self.hparams["draw"]:
                fake = fake + 0.01 * self.draws.normal("noise", fake.shape)
            generator_loss = ((self.discriminator(fake) - 1) ** 2).mean()
            if self.iteration == self.hparams["bad_iteration"] and self.global_rank == self.hparams["bad_rank"]:
                generator_loss = generator_loss * float("nan")
            player.minimize(generator_loss)
        with self.player("discriminator") as player:
            fake = self.pool.swap(fake) if self.hparams["pool"] else fake.detach()
            real = batch["target"].requires_grad_(bool(self.hparams["r1"]))
            on_real = self.discriminator(real)
            loss = ((on_real - 1) ** 2).mean() + (self.discriminator(fake) ** 2).mean()
            if self.hparams["r1"]:
                (gradient,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
                loss = loss + self.hparams["r1"] * gradient.square().sum(1).mean()
            player.minimize(loss)
        if self.ema is not None:
            self.ema.update(self.iteration)
        self.log_terms({"generator": generator_loss, "discriminator": loss})


class StyledRoom(Translator):
    """Toy: paints pictures in the mean colour of an exemplar, or in one that a sampler draws when it is fitted."""

    def __init__(self, image_size: int = 32, latent_channels: int = 3, initial: str = "here") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.image_size, self.latent_channels = image_size, latent_channels
        self.strength = nn.Parameter(torch.tensor(0.25))
        self.sampler = nn.Linear(latent_channels, 3).requires_grad_(False)
        self.sampler_fitted: Tensor
        self.register_buffer("sampler_fitted", torch.zeros((), dtype=torch.bool))
        self.fits: list[dict[str, Any]] = []

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        if resumed or settings["initial"] == "here":
            return []
        return [f"The weights {settings['initial']} are not here. Type: lightning download {settings['initial']}"]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return self.players(Player("painter", torch.optim.Adam([self.strength], 0.01), [self]))

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "target",
        reference: Tensor | None = None,
        latent: Tensor | None = None,
        correspondence: float = 1.0,
    ) -> Tensor:
        if (reference is None) == (latent is None):
            raise ZooError("a style comes from an exemplar or from a latent")
        with self.aside("translate"):
            colour = self.sampler(latent) if reference is None else reference.mean((2, 3))
            return self.paint(image, colour, correspondence)

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.translate(batch["source"], reference=batch["target"])

    def paint(self, image: Tensor, colour: Tensor, correspondence: float = 1.0) -> Tensor:
        return (self.strength * correspondence * image + colour[..., None, None]).clamp(-1, 1)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        with self.player("painter") as player:
            painted = self.paint(batch["source"], batch["target"].mean((2, 3)))
            loss = (painted - batch["target"]).square().mean()
            player.minimize(loss)
        self.log_terms({"painter": loss})

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        pass

    test_step = validation_step

    def fit_sampler(
        self,
        loader: Iterable[Mapping[str, Tensor]],
        *,
        steps: int = 1,
        mitigate_style_bias: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        colours = torch.cat([from_uint8(batch["target"]).mean((2, 3)) for batch in loader])  # n c
        self.fits.append({"colours": colours, "steps": steps, "mitigate_style_bias": mitigate_style_bias})
        with torch.no_grad(), self.draws.aside("sampler"):
            self.sampler.weight.copy_(self.draws.normal("weight", self.sampler.weight.shape) * colours.std())
            self.sampler.bias.copy_(colours.mean(0))
            self.sampler_fitted.fill_(True)
        if report is not None:
            report(f"{len(colours)} styles, {steps} steps")


class PlainRoom(StyledRoom):
    """Toy: takes exemplars and nothing else."""

    def translate(self, image: Tensor, *, to: str = "target", reference: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().translate(image, to=to, reference=reference)


class FitToySampler(Callback):
    """A stage callback that finishes the model after the last iteration."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StyledRoom)
        with pl_module.phases.during("sampler"):
            pl_module.fit_sampler(trainer.datamodule.domain_loader("target", 2))  # type: ignore[attr-defined]


class Stream(IterableDataset[dict[str, Tensor]]):
    def __init__(self, start: int, batch: int, rank: int, world: int) -> None:
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        iteration = self.start
        while True:
            for row in range(self.batch):
                index = (iteration * self.world + self.rank) * self.batch + row
                generator = torch.Generator().manual_seed(1000 + index)
                numbers = torch.randn(8, generator=generator, dtype=torch.float64)
                yield {"source": numbers[:4], "target": 2 * numbers[4:] + 1}
            iteration += 1


class ToyData(LightningDataModule):
    """Sample i is a function of i; the stream begins at the trainer's iteration."""

    def __init__(self, batch_size: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        stream = Stream(self.trainer.global_step, self.batch_size, sync.rank(), sync.world_size())
        return DataLoader(stream, self.batch_size)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        return {
            key: value.to(self.trainer.lightning_module.dtype if self.trainer else value.dtype)
            for key, value in batch.items()
        }


def weights(room: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in room.state_dict().items()}

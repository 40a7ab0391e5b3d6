"""The sampler: random codes whose styles are those of the target domain, learnt when the generator is done.

Implicit maximum likelihood (Li and Malik 2018; Hoshen et al. 2019, GLANN): of many samples, the nearest one to each real style
code is pulled towards it, so that no code is left without samples. Names give the state-dict keys of the official files.
"""

import time
from collections.abc import Callable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader

from zoo.core import Draws
from zoo.core.phases import duration
from zoo.errors import ZooError

DECAY_EPOCHS, DECAY_RATE = 50, 0.5  # of the learning rate, in the official code
BETAS, WEIGHT_DECAY = (0.5, 0.999), 1e-5
CHUNK = 1024  # codes whose distances to all samples are held at a time


class StyleSampler(nn.Module):
    """Maps normal noise to style codes.

    Args:
        latent_channels: of the noise.
        style_channels: length of the style code.
        channels: of the layers between.
    """

    def __init__(self, latent_channels: int = 128, style_channels: int = 256, channels: int = 128) -> None:
        super().__init__()
        self.lin1 = nn.Linear(latent_channels, channels, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.lin2 = nn.Linear(channels, channels, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)
        self.lin_out = nn.Linear(channels, style_channels, bias=False)
        self.latent_channels = latent_channels

    def forward(self, latent: Tensor, *, batch_statistics: bool = False) -> Tensor:
        """Map latents `b z` to style codes `b s`.

        Args:
            latent: normal noise.
            batch_statistics: normalise with the mean and variance of these latents in eval mode, too, as the official inference
                does; running statistics stay.

        Raises:
            ZooError: the statistics of a single latent are asked for.
        """
        if batch_statistics and len(latent) < 2:
            raise ZooError(
                "sampler_batch_statistics takes mean and variance of the latents at hand, and there is one: give two or more, or "
                "--model.sampler_batch_statistics false"
            )
        x = torch.relu(self._normalise(self.bn1, self.lin1(latent), batch_statistics))
        return self.lin_out(torch.relu(self._normalise(self.bn2, self.lin2(x), batch_statistics)))

    @staticmethod
    def _normalise(norm: nn.BatchNorm1d, x: Tensor, batch_statistics: bool) -> Tensor:
        if not batch_statistics:
            return norm(x)
        return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)

    def reset(self, draws: Draws) -> None:
        """Start anew from PyTorch's own initialisation, its numbers taken from `draws`."""
        draws.begin(0, self.lin1.weight.device, self.lin1.weight.dtype)
        for layer in self.children():
            if isinstance(layer, nn.BatchNorm1d):
                layer.reset_parameters()
            elif isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                with torch.no_grad():
                    layer.weight.copy_(bound * (2 * draws.uniform("weight", layer.weight.shape) - 1))


def rare_styles(codes: Tensor) -> Tensor:
    """Choose rare styles, to be learnt from more often than others: the official code's `mitigate_style_bias`.

    Codes are ranked by their distance to the mean code. For every whole thousand of codes, half as many as before, the farthest
    ones, are chosen once more: half of them all, then a quarter, and so on.

    Args:
        codes: n s.

    Returns:
        Indices of the rows to append to the codes; a row may appear several times.
    """
    wide = codes.cpu().double()  # in float32, rounding would decide between codes that are nearly as far
    order = (wide - wide.mean(0)).abs().sum(1).argsort()
    count, appended = len(codes), [order[:0]]
    for _ in range(len(codes) // 1000):
        count = max(count // 2, 1)
        appended.append(order[-count:])
    return torch.cat(appended).to(codes.device)


def sampler_epochs(steps: int, codes: int) -> int:
    """Passes over the codes in which about `steps` codes are seen."""
    return steps // codes


def require_a_batch(codes: int, batch: int) -> None:
    """Refuse too few style codes.

    Raises:
        ZooError: there are fewer codes than a batch has.
    """
    if codes < batch:
        raise ZooError(
            f"The sampler learns from batches of {batch} styles, and the target domain has pictures for {codes}: give more, or smaller "
            f"batches: --model.sampler_batch {max(2, codes)}"
        )


def nearest_samples(codes: Tensor, samples: Tensor) -> Tensor:
    """Index of the sample nearest to each code, by exact Euclidean distance.

    Computed in float64: there the difference of large squares that makes it a matrix product costs no digit that float32 has.

    Args:
        codes: n s.
        samples: m s.

    Returns:
        n indices.
    """
    device = torch.device("cpu") if codes.device.type == "mps" else codes.device  # MPS has no float64
    wide = samples.to(device, torch.float64)
    squares = wide.square().sum(1)
    chunks = (squares - 2 * (chunk.to(device, torch.float64) @ wide.t()) for chunk in codes.split(CHUNK))
    return torch.cat([chunk.argmin(1) for chunk in chunks]).to(codes.device)


def fit_sampler(
    sampler: StyleSampler,
    codes: Tensor,
    draws: Draws,
    *,
    steps: int = 2_000_000,
    batch: int = 128,
    epochs: int | None = None,
    learning_rate: float = 1e-3,
    decay_epochs: int = DECAY_EPOCHS,
    decay_rate: float = DECAY_RATE,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Fit a sampler to style codes.

    In each epoch twice as many samples as codes are drawn, each code takes the nearest as its own, and the network is pulled from
    these to the codes; the optimiser starts anew.

    Args:
        sampler: changed in place; it is left in eval mode.
        codes: n s, at least one batch.
        draws: where permutations and noise come from, epoch by epoch.
        steps: codes to learn from in all.
        batch: codes per step.
        epochs: passes over the codes, instead of `steps`.
        learning_rate: of Adam in the first epochs.
        decay_epochs: epochs after which the rate falls.
        decay_rate: factor by which it falls.
        watch: is told each epoch's number, losses (one per step) and the nearest samples.

    Returns:
        The mean squared distance in the last epoch, a scalar.

    Raises:
        ZooError: there are fewer codes than a batch.
    """
    require_a_batch(len(codes), batch)
    batches = len(codes) // batch
    epochs = sampler_epochs(steps, len(codes)) if epochs is None else epochs
    parameters = list(sampler.requires_grad_(True).train().parameters())
    mean_loss = codes.new_zeros(())
    try:
        for epoch in range(epochs):
            draws.begin(epoch, codes.device, codes.dtype)
            order = draws.permutation("permutation", len(codes))
            rate = learning_rate * decay_rate ** (epoch // decay_epochs)
            optimizer = Adam(parameters, lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY)
            noise = [draws.normal("noise", (batch, sampler.latent_channels)) for _ in range(2 * batches)]
            with torch.no_grad():
                samples = torch.cat([sampler(latent) for latent in noise])  # in training mode: running statistics move
            nearest = nearest_samples(codes, samples)
            latents, losses = torch.cat(noise), []
            for rows in order[: batches * batch].split(batch):
                loss = F.mse_loss(sampler(latents[nearest[rows]]), codes[rows])
                gradients = torch.autograd.grad(loss, parameters)  # of this process alone: see `GPUNIT.fit_sampler`
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                losses.append(loss.detach())
            mean_loss = torch.stack(losses).mean()
            if watch is not None:
                watch(epoch, torch.stack(losses), nearest)
    finally:
        sampler.requires_grad_(False).eval()
        for parameter in parameters:
            parameter.grad = None
    return mean_loss


class Watch:
    """Tells a person how far the fit got.

    Args:
        epochs: how many there will be.
        report: is given a line now and then.
        every: seconds between two lines.
    """

    def __init__(self, epochs: int, report: Callable[[str], None] | None, every: float = 30.0) -> None:
        self.epochs, self.report, self.every = epochs, report, every
        self.began = self.last = time.monotonic()
        self.distance = torch.zeros(())

    def __call__(self, epoch: int, losses: Tensor, nearest: Tensor) -> None:
        """Take note of an epoch."""
        self.distance = losses.mean()
        if self.report is not None and time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self.report(f"sampler: epoch {epoch + 1} of {self.epochs}, {self._distance}")

    def end(self, codes: int) -> None:
        """Say what came out."""
        if self.report is not None:
            taken = duration(time.monotonic() - self.began)
            self.report(f"sampler: fitted to {codes:,} styles in {self.epochs} epochs and {taken}, {self._distance}")

    @property
    def _distance(self) -> str:
        return f"mean squared distance {float(self.distance):.3g}"


class FitStyleSampler(Callback):
    """Fits the sampler of random styles at the end of a training; the last checkpoint holds it.

    Numbers are the model's: `sampler_steps`, `sampler_batch`, `mitigate_style_bias`. While a training goes on, the sampler counts as
    not fitted. A finished run that is resumed is not fitted again.

    Args:
        enabled: whether the sampler is fitted; `lightning sampler RUN` does it later.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._began_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether the data will do, before hours of training."""
        self._began_at = trainer.global_step
        if trainer.max_steps < 0 or trainer.global_step < trainer.max_steps:
            pl_module.get_buffer("sampler_fitted").fill_(False)
            if self.enabled:
                loader = self._loader(trainer)
                pictures = len(loader) * (loader.batch_size or 1)
                require_a_batch(min(pictures, len(loader.dataset)), pl_module.sampler_batch)  # type: ignore[arg-type]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit."""
        if not self.enabled or trainer.global_step == self._began_at:
            return
        report = print if trainer.is_global_zero else None
        with pl_module.phases.during("sampler"):  # type: ignore[union-attr, operator]
            pl_module.fit_sampler(self._loader(trainer), report=report)  # type: ignore[operator]

    @staticmethod
    def _loader(trainer: Trainer) -> DataLoader[dict[str, Tensor]]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "domain_loader"):
            raise ZooError(
                f"The sampler of random styles is fitted to the target domain's pictures, which {type(data).__name__} does not give one by "
                "one. Take --data datamodules.UnpairedFolders, or fit it later (lightning sampler RUN --images FOLDER) and leave "
                "FitStyleSampler out of trainer.callbacks."
            )
        return data.domain_loader("target", data.batch_size, drop_last=True)

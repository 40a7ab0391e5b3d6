"""StyleALAE's LightningModule; the story is told in `zoo.alae`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.alae.editing import (
    attribute_values,
    edited,
    edited_styles,
    interpolated,
    mixed,
    style_range,
    truncated,
)
from zoo.alae.game import EmaStart, LatentGame, Regress
from zoo.alae.layers import doubled, halved
from zoo.alae.networks import AddNoise, Critic, StyleEncoder, StyleGenerator, without_noise
from zoo.alae.networks import Mapping as LatentMapping
from zoo.core.images import psnr, resize
from zoo.errors import ZooError

Noise = Literal["random", "same", "off"] | Sequence[Tensor]
RECONSTRUCTION = "reconstruction"


class StyleALAE(LatentGame):
    """Encodes pictures into codes and paints codes, of one domain, from 4x4 pixels on.

    Batches have `image`, `b c s s` in [-1, 1]; larger pictures than the present level's are averaged down to it. Inference uses moving
    averages of the networks where there are any, at the present level: `stage` is the level of detail, whose pictures have 4 * 2^stage
    pixels, `blend` the share of that level's own layers. The defaults are the official FFHQ configuration.

    Args:
        start_channels: at the largest size.
        most_channels: at any size.
        levels: number of sizes, the largest of 2^(levels + 1) pixels.
        latent_channels: of the codes z and w.
        mapping_layers: of F.
        image_channels: of pictures.
        mixing_probability: share of batches of fakes that get their further styles from a second code.
        average_beta: share of the old average code that a batch keeps.
        truncation: of generated pictures: how far codes are from the average.
        truncation_cutoff: number of styles that truncation works on.
        lambda_r1: weight of the gradient penalty (gamma).
        lambda_latent: weight of the latent loss.
        regress: codes that the latent loss compares, `w`, or `z` as in an ablation of the official code; then F maps codes found in
            pictures, too.
        zero_absent_gradients: the critic, who has no gradient in the third update, steps with zeros there, as in the PyTorch of the
            paper's time: its steps then are larger.
        least_variance: smallest variance of a feature map whose deviation the encoder reads with a gradient; 0 as in the official
            code, which gets NaN of a map that is constant, as in black pictures.
        epochs_per_level: epochs of each level but the last, half of which blend it in; read by `GrowResolution`, as the next three.
            With 0 the largest size is trained from the start.
        images_per_epoch: pictures that count as an epoch.
        level_rates: learning rates from the first level on; the last one holds for all further levels.
        level_batches: pictures per iteration, over all processes, likewise.
        beta: of LREQAdam.
        adam_eps: of LREQAdam.
        ema_half_life: pictures after which moving averages have forgotten half of the old weights; 0 for none.
        ema_start: moving averages begin as networks of their own (`independent`, as in the official code) or as copies.

    Attributes:
        exemplar_optional: translations need no exemplar; one lends its styles.
        blend: share of the present level's own layers, 0 to 1; `GrowResolution` sets it.
        directions: z each, by the name of the attribute that changes along it.

    Raises:
        ZooError: levels or rates are missing.
    """

    exemplar_optional = True

    def __init__(
        self,
        start_channels: int = 16,
        most_channels: int = 512,
        levels: int = 9,
        latent_channels: int = 512,
        mapping_layers: int = 8,
        image_channels: int = 3,
        mixing_probability: float = 0.9,
        average_beta: float = 0.995,
        truncation: float = 0.7,
        truncation_cutoff: int = 8,
        lambda_r1: float = 10.0,
        lambda_latent: float = 1.0,
        regress: Regress = "w",
        zero_absent_gradients: bool = False,
        least_variance: float = 0.0,
        epochs_per_level: int = 16,
        images_per_epoch: int = 60_000,
        level_rates: tuple[float, ...] = (0.0015,) * 6 + (0.002, 0.003, 0.003),
        level_batches: tuple[int, ...] = (512, 256, 128, 64, 32),
        beta: float = 0.99,
        adam_eps: float = 1e-8,
        ema_half_life: float = 10_000.0,
        ema_start: EmaStart = "independent",
    ) -> None:
        super().__init__(
            latent_channels,
            2 * levels,
            average_beta,
            lambda_r1,
            lambda_latent,
            regress,
            zero_absent_gradients,
            beta,
            adam_eps,
        )
        self.save_hyperparameters()
        if levels < 1 or not level_rates:
            raise ZooError(f"levels is {levels} and level_rates {list(level_rates)}: each needs one entry at least.")
        sizes = (start_channels, most_channels, levels, latent_channels, image_channels)
        self.encoder = StyleEncoder(*sizes, least_variance)
        self.generator = StyleGenerator(*sizes)
        self.mapping = LatentMapping(latent_channels, mapping_layers)
        self.critic = Critic(latent_channels, 2 * latent_channels, latent_channels)
        self.begin_average(ema_half_life, ema_start)

        self.levels, self.style_count = levels, 2 * levels
        self.mixing_probability = mixing_probability
        self.truncation, self.truncation_cutoff = truncation, truncation_cutoff
        self.level_rates = tuple(level_rates)
        self.grows = False  # what GrowResolution sets
        self.blend = 1.0
        self.directions: dict[str, Tensor] = {}
        if epochs_per_level == 0:
            self.stage = levels - 1

    # Levels

    def level_size(self, level: int) -> int:
        """Side of a level's pictures in pixels."""
        return 4 * 2**level

    def build_stage(self, stage: int) -> None:
        """Go on to the next level; its layers are there from the start."""
        if stage >= self.levels:
            raise ZooError(f"This StyleALAE has the levels 0 to {self.levels - 1}, and no level {stage}.")

    def learning_rate_now(self) -> float:
        """The rate of the present level."""
        return self.level_rates[min(self.stage, len(self.level_rates) - 1)]

    def on_fit_start(self) -> None:
        """Refuse to stay at 4x4 pixels by oversight."""
        if self.stage < self.levels - 1 and not self.grows:
            raise ZooError(
                "Nothing lets this StyleALAE grow: keep zoo.callbacks.GrowResolution in trainer.callbacks, or train the largest size "
                "from the start: --model.epochs_per_level 0"
            )

    def on_train_start(self) -> None:
        """Forget directions of other weights."""
        self.directions.clear()

    def at_level(self, image: Tensor) -> Tensor:
        """The middle square of pictures `b c h w` at the present level's size: halved by means as often as that fits, then resized."""
        side = self.level_size(self.stage)
        height, width = image.shape[2:]
        if height != width:
            least = min(height, width)
            top, left = (height - least) // 2, (width - least) // 2
            image = image[:, :, top : top + least, left : left + least]
        while image.shape[-1] >= 2 * side and image.shape[-1] % 2 == 0:
            image = halved(image)
        return resize(image, side, side)

    def real(self, image: Tensor) -> Tensor:
        """Real pictures as the encoder sees them now: while a level is blended in, blended with their coarser selves."""
        image = self.at_level(image)
        return torch.lerp(doubled(halved(image)), image, self.blend) if self.blend < 1 else image

    def inference_facts(self) -> dict[str, Any]:
        """The blend, and the directions that were found."""
        return {"blend": self.blend, "directions": dict(self.directions)}

    def take_inference_facts(self, facts: Mapping[str, Any]) -> None:
        """Take blend and directions over."""
        self.blend = float(facts.get("blend", 1.0))
        self.directions = dict(facts.get("directions", {}))

    # Training

    def code_of(self, image: Tensor) -> Tensor:
        """Encode pictures at the present level."""
        return self.encoder(image, self.stage, self.blend)

    def paint(self, w: Tensor, *, mix: bool) -> Tensor:
        """Paint codes `b z` at the present level, by two codes each in most batches if `mix` is set."""
        styles = self.spread(w)
        if mix:
            styles = self.mix_at_random(styles)
        return self.generator(styles, self.stage, self.blend, self.add_noise)

    def spread(self, w: Tensor) -> Tensor:
        """One code `b z` for all styles: b n z."""
        return w[:, None].expand(-1, self.style_count, -1)

    def mix_at_random(self, styles: Tensor, mapping: Any = None) -> Tensor:
        """Draw whether all of a batch's styles `b n z` from a drawn one on come from a second code each."""
        # The host decides, and no device is waited for.
        if float(self.draws.uniform("mix", (1,), device="cpu")) >= self.mixing_probability:
            return styles
        second = self.draws.normal("second_latent", (len(styles), self.latent_channels), device=styles.device)
        first = int(self.draws.integers("first_mixed", (1,), 1, 2 * (self.stage + 1) + 1, device="cpu"))
        return mixed(styles, self.spread((mapping or self.mapping)(second)), first)

    def add_noise(self, x: Tensor, weight: Tensor, number: int, *, same: bool = False) -> Tensor:
        """Add weighted normal noise to features `b c h w`, one map for all channels; with `same` one for all pictures, too."""
        shape = (1 if same else len(x), 1, *x.shape[2:])
        return x + weight * self.draws.normal("noise", shape, device=x.device).to(x.dtype)

    # Inference

    def noise_by(self, noise: Noise) -> AddNoise:
        """What adds noise in inference.

        Args:
            noise: `random`, `same` for all pictures of a batch, `off`, or the maps themselves, b 1 h w or 1 1 h w, two for each size.
        """
        if isinstance(noise, str):
            if noise not in ("random", "same", "off"):
                raise ZooError(f"noise is {noise!r}; it is 'random', 'same', 'off', or a list of maps.")
            return without_noise if noise == "off" else partial(self.add_noise, same=noise == "same")
        wanted = 2 * (self.stage + 1)
        if len(noise) != wanted:
            raise ZooError(f"There are {len(noise)} maps of noise, and this level needs {wanted}, two for each size.")
        maps = iter(noise)
        return lambda x, weight, number: x + weight * next(maps).to(x)

    def encode(self, image: Tensor) -> Tensor:
        """Encode pictures `b c h w` in [-1, 1], in eval mode: codes w, b z, to which F maps where codes z were trained."""
        with self.aside("encode"):
            code = self.network("encoder")(self.at_level(image), self.stage, self.blend)
            return self.network("mapping")(code) if self.regress == "z" else code

    def map_latent(self, latent: Tensor) -> Tensor:
        """Map latent codes `b z` to codes w, b z, in eval mode."""
        with self.aside("map"):
            return self.network("mapping")(latent)

    def noise_maps(self, count: int = 1) -> list[Tensor]:
        """Draw maps of noise for the present level, two for each size; the first is one for all pictures, as in the official code."""
        sides = [self.level_size(level) for level in range(self.stage + 1) for _ in range(2)]
        counts = [1] + [count] * (len(sides) - 1)
        shapes = [(n, 1, side, side) for n, side in zip(counts, sides, strict=True)]
        return [self.draws.normal("noise", shape, device=self.device) for shape in shapes]

    def logits(self, code: Tensor) -> Tensor:
        """How real pictures of codes `b z` look to the critic: b."""
        with self.aside("logits"):
            return self.network("critic")(code)

    def decode(self, codes: Tensor, *, noise: Noise = "random") -> Tensor:
        """Paint codes `b z`, or one code for each style, `b n z`, in eval mode: b c s s, about [-1, 1], not clamped."""
        styles = self.spread(codes) if codes.ndim == 2 else codes
        with self.aside("decode"):
            return self.network("generator")(styles, self.stage, self.blend, self.noise_by(noise))

    def generate(
        self,
        latent: Tensor,
        *,
        truncation: float | None = None,
        cutoff: int | None = None,
        mix: bool = False,
        noise: Noise = "random",
    ) -> Tensor:
        """Draw pictures: map latent codes, mix styles, truncate, and paint.

        Args:
            latent: b z from a normal distribution.
            truncation: how far codes stay from the average; None for the model's own, 1 for none.
            cutoff: number of styles that truncation works on; None for the model's own.
            mix: whether most batches get further styles from a second code, as in the training and in the official FID.
            noise: see `noise_by`.

        Returns:
            b c s s, about [-1, 1], not clamped.
        """
        psi = self.truncation if truncation is None else truncation
        with self.aside("generate"):
            mapping = self.network("mapping")
            styles = self.spread(mapping(latent))
            if mix:
                styles = self.mix_at_random(styles, mapping)
            styles = truncated(styles, self.average_latent, psi, self.truncation_cutoff if cutoff is None else cutoff)
            return self.network("generator")(styles, self.stage, self.blend, self.noise_by(noise))

    def reconstruct(self, image: Tensor, *, noise: Noise = "random") -> Tensor:
        """Encode pictures and paint their codes."""
        return self.decode(self.encode(image), noise=noise)

    def mix(self, image: Tensor, reference: Tensor, part: str = "fine", *, noise: Noise = "random") -> Tensor:
        """Paint pictures with the coarse, middle or fine styles of others.

        Args:
            image: b c h w in [-1, 1].
            reference: b c h w, or 1 c h w for all, whose styles are taken.
            part: `coarse`, `middle` or `fine`.
            noise: see `noise_by`.
        """
        first, last = style_range(part, 2 * (self.stage + 1))
        styles, others = self.spread(self.encode(image)), self.spread(self.encode(reference))
        return self.decode(mixed(styles, others, first, last), noise=noise)

    def interpolate(self, corners: Tensor, steps: int = 7, *, noise: Noise = "random") -> Tensor:
        """Paint a square of codes between those of four pictures.

        Args:
            corners: 4 c h w in [-1, 1]: upper left, upper right, lower left, lower right.
            steps: pictures along each side, 2 at least.
            noise: see `noise_by`.

        Returns:
            steps steps c s s.
        """
        if len(corners) != 4 or steps < 2:
            raise ZooError(f"A square has four corners and two steps at least, not {len(corners)} and {steps}.")
        codes = self.encode(corners)
        shares = [number / (steps - 1) for number in range(steps)]
        square = torch.stack([interpolated(codes, down, right) for down in shares for right in shares])
        return self.decode(square, noise=noise).unflatten(0, (steps, steps))

    def edit(
        self,
        image: Tensor,
        changes: Mapping[str, float | Tensor],
        *,
        absolute: bool = False,
        below: int | None = None,
        noise: Noise = "random",
    ) -> Tensor:
        """Paint pictures with changed attributes.

        Args:
            image: b c h w in [-1, 1].
            changes: by how much each named attribute moves along its direction, in that direction's own units; a number, or b of them.
            absolute: whether the numbers are the attributes' new values instead.
            below: number of the first style that keeps the picture's own code; the official demo edits the first 16 of 18. None for all.
            noise: see `noise_by`.
        """
        codes = self.encode(image)
        return self.decode(self.edit_codes(codes, changes, absolute=absolute, below=below), noise=noise)

    def edit_codes(
        self, codes: Tensor, changes: Mapping[str, float | Tensor], *, absolute: bool = False, below: int | None = None
    ) -> Tensor:
        """Change attributes of codes `b z`, see `edit`: a code for each style, b n z."""
        if unknown := sorted(set(changes) - set(self.directions)):
            known = ", ".join(self.directions) or "none"
            raise ZooError(
                f"There is no direction {unknown[0]!r}; known: {known}. Find some: lightning directions RUN --output FILE"
            )
        names = list(self.directions)
        directions = torch.stack([self.directions[name].to(codes) for name in names])  # k z
        average = self.average_latent[0].to(codes)
        values = attribute_values(codes, average, directions)
        for number, name in enumerate(names):
            if name in changes:
                values[:, number] = changes[name] if absolute else values[:, number] + changes[name]
        moved = edited(codes, average, directions, values)
        return edited_styles(self.spread(codes), moved, self.style_count if below is None else below)

    def translate(
        self,
        image: Tensor,
        *,
        to: str = RECONSTRUCTION,
        reference: Tensor | None = None,
        noise: Noise = "random",
    ) -> Tensor:
        """Encode pictures, change what is asked for, and paint them.

        Args:
            image: b c h w in [-1, 1].
            to: `reconstruction`, or changes of attributes such as `hue+2`, `size-1.5` or several of them joined by commas, in units of
                their directions; `hue=3` sets a value. With a reference: which of its styles are taken, `coarse`, `middle` or `fine`
                (the latter where nothing is said).
            reference: 1 c h w, or b of them, in [-1, 1] of any size.
            noise: see `noise_by`.

        Returns:
            b c s s in [-1, 1] of the present level's size.
        """
        if reference is not None:
            part = "fine" if to == RECONSTRUCTION else to
            return self.mix(image, reference, part, noise=noise).clamp(-1, 1)
        codes = self.spread(self.encode(image))
        for name, number, absolute in parse_changes(to, self.directions):
            codes = self.edit_codes(codes[:, 0], {name: number}, absolute=absolute)
        return self.decode(codes, noise=noise).clamp(-1, 1)

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Reconstruct a batch's pictures."""
        return self.translate(batch["image"] if "image" in batch else batch["source"])

    # Looking

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: pictures, their reconstructions, a row's fine styles from the next row, and fresh drawings."""
        image = batch["image"]
        with self.aside("samples"):
            latent = self.draws.normal("latent", (len(image), self.latent_channels), device=image.device)
        return {
            "image": self.at_level(image),
            "reconstruction": self.reconstruct(image).clamp(-1, 1),
            "next row's fine styles": self.mix(image, image.roll(-1, 0)).clamp(-1, 1),
            "drawn": self.generate(latent).clamp(-1, 1),
        }

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures survive their code, in dB, and how far the codes of reconstructions are from theirs."""
        image = self.at_level(batch["image"])
        code = self.encode(image)
        painted = self.decode(code).clamp(-1, 1)
        figures = {
            "val/reconstruction_psnr": psnr(painted, image).mean(),
            "val/latent_distance": (self.encode(painted) - code).square().mean() / code.square().mean(),
        }
        self.log_dict(figures, batch_size=len(image), sync_dist=True)

    test_step = validation_step


def parse_changes(text: str, known: Mapping[str, Tensor]) -> list[tuple[str, float, bool]]:
    """Read changes of attributes such as `hue+2,size=1`: names, numbers, and whether a number is the new value.

    Raises:
        ZooError: the text says something else.
    """
    if text in (RECONSTRUCTION, ""):
        return []
    changes = []
    for part in text.split(","):
        place = next((i for i, letter in enumerate(part) if letter in "+-=" and i), 0)
        name, sign, number = part[:place].strip(), part[place : place + 1], part[place + 1 :]
        try:
            value = float(number)
        except ValueError:
            place = 0
        if not place:
            example = next(iter(known), "hue")
            raise ZooError(f"{part!r} says no change; expected 'reconstruction', or such as '{example}+2'.")
        changes.append((name, -value if sign == "-" else value, sign == "="))
    return changes

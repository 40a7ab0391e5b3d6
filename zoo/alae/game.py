"""ALAE's game: the three updates of an iteration, whatever the networks are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.alae.layers import Equalised
from zoo.alae.losses import critic_loss, generator_loss, gradient_penalty, latent_loss
from zoo.alae.optimizer import LREQAdam, equalised_groups
from zoo.core import Ema, Player, Translator, sync

Regress = Literal["w", "z"]
EmaStart = Literal["independent", "copy"]


class LatentGame(Translator):
    """Encoder and critic against mapping and generator, who all three agree on codes.

    A room makes the four networks, says how it encodes (`code_of`) and how it draws (`paint`), and calls `begin_average`.

    Attributes:
        encoder: E.
        critic: D.
        mapping: F.
        generator: G.
        average_latent: the tracked mean of codes w, one row for each style.
    """

    encoder: nn.Module
    critic: nn.Module
    mapping: nn.Module
    generator: nn.Module
    average_latent: Tensor

    def __init__(
        self,
        latent_channels: int,
        average_rows: int,
        average_beta: float,
        lambda_r1: float,
        lambda_latent: float,
        regress: Regress,
        zero_absent_gradients: bool,
        beta: float,
        adam_eps: float,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.register_buffer("average_latent", torch.zeros(average_rows, latent_channels))
        self.average_beta = average_beta
        self.lambda_r1, self.lambda_latent = lambda_r1, lambda_latent
        self.regress, self.zero_absent_gradients = regress, zero_absent_gradients
        self.beta, self.adam_eps = beta, adam_eps
        self.ema: Ema | None = None
        self._is_aside = False
        self._had_gradient: set[str] = set()

    def begin_average(self, half_life: float, start: EmaStart) -> None:
        """Make the moving averages of all four networks: copies, or networks of initial weights of their own."""
        if half_life <= 0:
            return
        averaged = {
            "encoder": self.encoder,
            "critic": self.critic,
            "mapping": self.mapping,
            "generator": self.generator,
        }
        self.ema = Ema(averaged, half_life=half_life, start="given", buffers="keep")
        if start == "independent":
            for layer in self.ema.modules():
                if isinstance(layer, Equalised):
                    layer.reset_parameters()

    # What a room says

    def code_of(self, image: Tensor) -> Tensor:
        """Encode what `real` or `paint` gives, for training: codes `b z`."""
        raise NotImplementedError

    def paint(self, w: Tensor, *, mix: bool) -> Tensor:
        """Draw fakes from codes `b z` for training; with `mix` some get further styles from other codes."""
        raise NotImplementedError

    def learning_rate_now(self) -> float:
        """The learning rate that new optimisers begin with."""
        raise NotImplementedError

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """One LREQAdam for encoder and critic, one for mapping and generator; the third update steps with both."""
        judging, making = [self.encoder, self.critic], [self.generator, self.mapping]
        rate = self.learning_rate_now()
        judges = LREQAdam(equalised_groups(judging), rate, self.beta, self.adam_eps)
        makers = LREQAdam(equalised_groups(making), rate, self.beta, self.adam_eps)
        self.players(
            Player("judges", judges, judging),
            Player("makers", makers, making),
            Player("both", {"judges": judges, "makers": makers}, [*judging, *making]),
        )
        return [judges, makers]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The judges; the makers; then both, for codes that survive being painted."""
        image = self.real(batch["image"])
        self.update_judges(image)
        self.update_makers(len(image))
        self.update_both(len(image))
        if self.ema is not None:
            self.ema.update(self.iteration, len(image) * sync.world_size())

    def real(self, image: Tensor) -> Tensor:
        """Real pictures as the judges see them now."""
        return image

    def update_judges(self, image: Tensor) -> None:
        """Tell real pictures from fakes by their codes."""
        with self.player("judges") as player:
            terms = self.judges_terms(image)
            player.minimize(terms["critic"] + self.lambda_r1 * terms["r1"])
            self.fill_absent_gradients("encoder", "critic")
        self.log_terms(terms)

    def update_makers(self, count: int) -> None:
        """Paint fakes that pass."""
        with self.player("makers") as player:
            loss = self.makers_loss(count)
            player.minimize(loss)
            self.fill_absent_gradients("generator", "mapping")
        self.log_terms({"generator": loss})

    def update_both(self, count: int) -> None:
        """Encode a painted code as that code; the critic takes no part, and steps with zeros where the first torch did."""
        with self.player("both") as player:
            loss = self.latent_terms(count)
            player.minimize(self.lambda_latent * loss)
            self.fill_absent_gradients("encoder", "critic", "generator", "mapping")
        self.log_terms({"latent": loss})

    def judges_terms(self, image: Tensor) -> dict[str, Tensor]:
        """The judges' loss on real pictures, as `real` gives them, and as many fakes; and the penalty at real ones."""
        with torch.no_grad():
            fake = self.paint(self.draw_codes(len(image))[1], mix=True)
        with self.precise():
            image = image.detach().requires_grad_(True)
            on_real = self.critic(self.code_of(image))
            on_fake = self.critic(self.code_of(fake.to(image.dtype)))
            self.terms.compare("critic", on_real, on_fake)
            return {"critic": critic_loss(on_fake, on_real), "r1": gradient_penalty(on_real, image)}

    def makers_loss(self, count: int) -> Tensor:
        """The makers' loss on so many fakes."""
        fake = self.paint(self.draw_codes(count)[1], mix=True)
        return generator_loss(self.critic(self.code_of(fake)))

    def latent_terms(self, count: int) -> Tensor:
        """The latent loss on so many fakes. The wanted code is fixed, but not the one that is painted."""
        z, w = self.draw_codes(count)
        found = self.code_of(self.paint(w, mix=False))
        return latent_loss(found, z if self.regress == "z" else w.detach())

    def draw_codes(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw latent codes z and map them to w, `b z` each; w moves the tracked average."""
        z = self.draws.normal("latent", (count, self.latent_channels), device=self.device)
        w = self.mapping(z)
        self.track(w)
        return z, w

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Move the average code towards the mean of a batch of codes `b z`."""
        self.average_latent.lerp_(w.detach().mean(0).to(self.average_latent.dtype), 1 - self.average_beta)

    def fill_absent_gradients(self, *networks: str) -> None:
        """With `zero_absent_gradients`, give zeros to weights that had a gradient before and have none now.

        So did `zero_grad` in the paper's time. It matters to the critic in the third update; weights of levels that are not in use step
        with zeros, too, which moves nothing.
        """
        if not self.zero_absent_gradients:
            return
        for network in networks:
            for name, parameter in self.get_submodule(network).named_parameters(network):
                if parameter.grad is not None:
                    self._had_gradient.add(name)
                elif name in self._had_gradient:
                    parameter.grad = torch.zeros_like(parameter)

    @contextmanager
    def precise(self) -> Iterator[None]:
        """Leave autocast: the penalty needs gradients of gradients, and both passes one precision."""
        with torch.autocast(self.device.type, enabled=False):
            yield

    # Inference

    @contextmanager
    def aside(self, *moment: int | str) -> Iterator[None]:
        """Look at the model without moving anything; inside another such block the draws of that one go on."""
        if self._is_aside:
            yield
            return
        self._is_aside = True
        try:
            with super().aside(*moment):
                yield
        finally:
            self._is_aside = False

    def network(self, name: str) -> Any:
        """A network as inference uses it: its moving average where there is one."""
        return (self if self.ema is None else self.ema).get_submodule(name)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what inference has to know beside the weights, and which weights had a gradient."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["zoo"].update(self.inference_facts())
        checkpoint["zoo"]["had_gradient"] = sorted(self._had_gradient)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        super().on_load_checkpoint(checkpoint)
        facts = checkpoint.get("zoo", {})
        self.take_inference_facts(facts)
        self._had_gradient = set(facts.get("had_gradient", []))

    def inference_facts(self) -> dict[str, Any]:
        """Plain values that inference depends on."""
        return {}

    def take_inference_facts(self, facts: Mapping[str, Any]) -> None:
        """Take over what `inference_facts` gave."""

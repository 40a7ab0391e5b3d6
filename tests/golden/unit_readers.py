"""UNIT's domain adaptation on digits against what the official code gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

from golden.golden import Golden, GoldenMismatchError, Kinds, fit, norms_and_means
from golden.unit_dropout import Queue, masked
from zoo.core.players import Turn
from zoo.unit.digit_networks import CoupledVAE, ReadingDiscriminator, coordinates
from zoo.unit.digits import UNITDigits
from zoo.weights.unit import digit_names, renamed

COORDINATES = 2
DROPOUTS = 4
"""Of a pass of the discriminator."""


def loaded(network: Any, state: dict[str, Tensor]) -> Any:
    network.double().load_state_dict(renamed(state, digit_names(state)), strict=True)
    return network.train()


def masks(golden: Golden, name: str) -> Queue:
    return Queue(golden.tape(f"noise/{name}/"))


def check_digits_nets(golden: Golden) -> None:
    config = golden.config
    gen, dis = dict(config["gen"]), dict(config["dis"])
    extra = COORDINATES if config["xy_context"] else 0
    assert gen["input_dim_a"] == gen["output_dim_a"] + extra
    assert gen["input_dim_b"] == gen["output_dim_b"] + extra
    vae = CoupledVAE(gen["output_dim_a"], gen["output_dim_b"], gen["ch"], config["xy_context"])
    loaded(vae, golden.state("state/gen."))
    x_a, x_b = golden.given("in/x_a"), golden.given("in/x_b")
    if "out/xy" in golden.expected:
        golden.compare("out/xy", coordinates(x_a))
    for mode in ("train", "eval"):  # in this order: the statistics of the training pass are what eval uses
        vae.train(mode == "train")
        mean, deviation = vae.encode_both(x_a, x_b)
        golden.compare(f"out/gen_{mode}_mu", mean)
        golden.compare(f"out/gen_{mode}_sd", deviation)
        queue = masks(golden, f"gen_{mode}")
        made = vae.decode_both(mean + deviation * queue.take("noise"))
        for name, image in zip(("aa", "ba", "ab", "bb"), made, strict=True):
            golden.compare(f"out/gen_{mode}_x_{name}", image)
        if mode == "eval":  # where no digit depends on another one
            alone = torch.cat(
                [torch.cat(vae.encode(image, domain), 1) for image, domain in ((x_a, "source"), (x_b, "target"))]
            )
            torch.testing.assert_close(alone, torch.cat([mean, deviation], 1), rtol=1e-9, atol=1e-11)
        else:
            names = digit_names(golden.state("state/gen."))
            state = vae.state_dict()
            for key in golden.keys(r"out/gen_after_train/.*"):
                golden.compare(key, state[names[key.removeprefix("out/gen_after_train/")]])

    judge = ReadingDiscriminator(dis["input_dim_a"], dis["input_dim_b"], dis["ch"])
    loaded(judge, golden.state("state/dis."))
    for mode in ("train", "eval"):
        judge.train(mode == "train")
        seen = [judge.look(x_a, "source"), judge.look(x_b, "target")]
        queue = masks(golden, "dis_train_forward")
        with masked(judge, lambda *_, queue=queue: queue.take("dropout")):
            golden.compare(f"out/dis_{mode}_logits", judge.judge(torch.cat(seen)))
        for letter, lowest in zip("ab", seen, strict=True):
            golden.compare(f"out/dis_{mode}_feat_{letter}", judge.features(lowest))
            queue = masks(golden, f"dis_train_classify_{letter}")
            with masked(judge, lambda *_, queue=queue: queue.take("dropout")):
                golden.compare(f"out/dis_{mode}_cls_{letter}", judge.classify(lowest))


class BothGradients(UNITDigits):
    """Lets the generator's loss add to the discriminator's gradient, as the official code does, and keeps the norms of the sum."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.norms: list[dict[str, Tensor]] = []

    @contextmanager
    def player(self, name: str, **options: Any) -> Iterator[Turn]:  # type: ignore[override]
        with super().player(name, **options) as turn:
            if name == "generator":
                self.discriminator.requires_grad_(True)
            yield turn
            if name == "generator":
                gradients = {key: p.grad for key, p in self.discriminator.named_parameters()}
                self.norms.append({f"discriminator.{key}": g.norm() for key, g in gradients.items() if g is not None})


TRAINERS = {"COCOGANDAContextTrainer": True, "COCOGANDATrainer": False}


def in_our_order(
    draws: list[tuple[str, Tensor]], context: bool
) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    """Masks and noise of an iteration in the order of our passes: the run without coordinates judges translations first."""
    dropped, noise = ([draw for draw in draws if draw[0].endswith(kind)] for kind in ("dropout", "randn"))
    if dropped and not context:
        passes = [dropped[at : at + DROPOUTS] for at in range(0, len(dropped), DROPOUTS)]
        true, first, second, named, *fooling = passes
        dropped = [draw for one in (true, second, first, named, *reversed(fooling)) for draw in one]
    return dropped, [("noise", value) for _, value in noise]


DIGIT_OPTIONS = {"gen", "dis", "batch_size"}


def make_model(golden: Golden) -> BothGradients:
    rest = dict(golden.config["hyperparameters"])
    assert (rest.pop("gen"), rest.pop("dis")) == ("CoVAE32x32", "CoDis32x32")
    rest.pop("batch_size")  # the pictures say it
    model = BothGradients(
        source_channels=rest.pop("input_dim_a"),
        target_channels=rest.pop("input_dim_b"),
        generator_channels=rest.pop("gen_ch"),
        discriminator_channels=rest.pop("dis_ch"),
        coordinates=TRAINERS[rest.pop("trainer")],
        dropout=tuple(golden.config["dropout"]),
        lambda_adversarial=rest.pop("gan_w"),
        lambda_classification=rest.pop("cls_w"),
        lambda_feature=rest.pop("feature_w"),
        lambda_reconstruction=rest.pop("ll_normalized_direct_w"),
        lambda_kl=rest.pop("kl_normalized_direct_w"),
        **({"learning_rate": rest.pop("lr")} if "lr" in rest else {}),
    )
    if rest:
        raise GoldenMismatchError("config", f"has {sorted(rest)}, which this test does not know how to follow")
    return model


class CountBatches(Callback):
    """Which iteration it is."""

    step = -1

    def on_train_batch_start(self, *_: object) -> None:
        self.step += 1


def check_digits_train(golden: Golden) -> None:
    model = make_model(golden)
    parts = {"gen": ("generator", model.generator), "dis": ("discriminator", model.discriminator)}
    names: dict[str, str] = {}
    for official, (ours, network) in parts.items():
        state = golden.state(f"state/{official}.")
        network.double().load_state_dict(renamed(state, digit_names(state)), strict=True)
        names |= {f"{official}.{key}": f"{ours}.{name}" for key, name in digit_names(state).items()}
    keys = golden.keys(r"in/step\d+_x_a")
    batches = [
        {
            "source": golden.given(key),
            "target": golden.given(key.replace("_x_a", "_x_b")),
            "source_label": golden.given(key.replace("_x_a", "_labels_a")),
        }
        for key in keys
    ]
    context = TRAINERS[golden.config["hyperparameters"]["trainer"]]
    ordered = [in_our_order(golden.tape(f"noise/step{step}/"), context) for step in range(len(batches))]
    queues, counter = [Queue(dropped) for dropped, _ in ordered], CountBatches()
    with masked(model.discriminator, lambda *_: queues[counter.step].take("dropout")):
        record = fit(model, batches, {step: noise for step, (_, noise) in enumerate(ordered)}, counter)
    for queue in queues:
        queue.finish()
    ours = {
        "dis_ad_true_loss": "adversarial_real",
        "dis_ad_fake_loss_a": "adversarial_fake",
        "dis_cls_loss": "classification",
        "dis_feature_loss_a": "feature_source",
        "dis_feature_loss_b": "feature_target",
        "dis_total_loss": "discriminator",
        "gen_ad_loss": "adversarial",
        "gen_enc_loss": "kl",
        "gen_ll_loss_a": "reconstruction_source",
        "gen_ll_loss_b": "reconstruction_target",
        "gen_total_loss": "generator",
    }
    for step, terms in enumerate(record.terms):
        for key in golden.keys(rf"step{step}/\w+"):
            golden.compare(key, terms[ours[key.partition("/")[2]]])
    for key in golden.keys(r"gradnorm_step\d+/.*"):
        place, _, name = key.partition("/")
        step = int(place.removeprefix("gradnorm_step"))
        # The official discriminator's gradients are read after both updates, and nothing cleared them in between.
        norms = model.norms if name.startswith("dis.") else record.gradient_norms
        golden.compare(key, norms[step][names[name]])
    golden.compare("final/l2norm_mean", norms_and_means(model, [names[key] for key in golden.config["final_keys"]]))


READER_KINDS: Kinds = {"digits_nets": check_digits_nets, "digits_train": check_digits_train}

"""GP-UNIT's content encoder and first stage against the official code's numbers; run by `test_gpunit.py`."""

from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn import functional as F

from golden.golden import Golden, GoldenMismatchError, fit
from zoo.blocks.spectral_norm import OURS_OF_OFFICIAL
from zoo.gpunit.content import ContentEncoder
from zoo.gpunit.prior import PriorDistillation

SIZE = 256
"""Side of the pictures that the official networks work at."""

DECODER = {
    "layer1.0": "coarse.0",
    "layer1.1": "coarse.1",
    "layer1.2": "coarse.2",
    "layer2": "coarse.3",
    "layer3": "shape",
    "tomask": "to_mask",
    "layer4": "fine.0",
    "layer5": "fine.1",
    "layer6": "fine.2",
    "layer7": "to_image",
}
NETWORKS = {"contentE": "content_encoder", "styleE": "style_encoder", "embed": "embedding", "fc": "content_layer"}
NETWORKS |= {"G": "decoder", "C": "classifier"}


def encoder_name(official: str) -> str:
    """Our name of an entry of the official content encoder: `layer1.0.conv.bias` is `layers.0.0.conv.bias`."""
    layer, place, rest = official.split(".", 2)
    return with_spectral_norm(f"layers.{int(layer.removeprefix('layer')) - 1}.{place}.{rest}")


def prior_name(official: str) -> str:
    """Our name of an entry of the official autoencoder."""
    network, _, rest = official.partition(".")
    if network == "contentE":
        rest = encoder_name(rest)
    elif network == "G":
        layer = next(layer for layer in DECODER if rest.startswith(f"{layer}."))
        rest = DECODER[layer] + rest.removeprefix(layer)
    elif network in {"styleE", "C"}:
        layer, _, last = rest.partition(".")
        number = layer.removeprefix("layer")
        rest = f"layers.{int(number) - 1}.{last}" if number.isdecimal() else f"logits.{last}"
    return with_spectral_norm(f"{NETWORKS[network]}.{rest}")


def with_spectral_norm(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{OURS_OF_OFFICIAL.get(last, last)}"


def enlarged(seed: Tensor) -> Tensor:
    return F.interpolate(seed, (SIZE, SIZE), mode="bilinear", align_corners=False)


def check_content_encoder(golden: Golden) -> None:
    encoder = ContentEncoder(golden.config["args"]["nef"], SIZE).double()
    encoder.load_state_dict({encoder_name(key): value for key, value in golden.state("state/EC/").items()})
    image = golden.given("in/x")
    features = encoder.eval()(image)
    for number, feature in enumerate(reversed(features), 1):
        golden.compare_summaries(f"eval_c{number}", feature)
    encoder.train()
    contents = [encoder(image)[0] for _ in golden.keys(r"out/train\d+_c6")]
    for number, content in enumerate(contents):
        golden.compare(f"out/train{number}_c6", content)
    vectors = encoder.state_dict()
    for key in golden.keys(r"out/after_train/.*"):
        golden.compare(key, vectors[encoder_name(key.removeprefix("out/after_train/"))])


def make_prior(golden: Golden, **more: Any) -> PriorDistillation:
    args = golden.config["args"]
    if unknown := set(args) - {"nf", "ncls", "noise", "batch", "vgg_width"}:
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    prior = PriorDistillation(SIZE, args["nf"], args["ncls"], args["noise"], **more).double()
    prior.load_state_dict({prior_name(key): value for key, value in golden.state("state/AE/").items()})
    return prior


def check_autoencoder(golden: Golden) -> None:
    prior = make_prior(golden).eval()
    image, label = enlarged(golden.given("in/x_seed")), golden.given("in/label")
    names = {"randn": "content_noise", "uniform": "mirror_style"}
    prior.draws.replay({0: [(names[name], value) for name, value in golden.tape("noise/0/")]})
    prior.draws.begin(0, image.device, image.dtype)
    # The first encoding mirrors nothing whatever was drawn, the second one mirrors always.
    content, noisy, _ = prior.encode(image, mirror_style=torch.tensor(False))
    prior.draws.uniform("mirror_style", (1,))
    prior.encode(image, mirror_style=torch.tensor(True))
    prior.draws.uniform("mirror_style", (1,))
    for suffix, picture in (("", image), ("_flipped", image.flip(3))):
        statistics = prior.style_encoder(picture, every_layer=True)
        for number, (mean, deviation) in enumerate(statistics, 1):
            for kind, value in (("mean", mean), ("std", deviation)):
                key = f"out/style{number}_{kind}{suffix}"
                if key in golden.expected:
                    golden.compare(key, value.flatten(1))
    golden.compare("out/c", content)
    golden.compare("out/z", noisy)
    golden.compare("out/fc", prior.content_layer(noisy))
    golden.compare("out/label_code", prior.embedding(label))
    golden.compare("out/logits", prior.classifier(content))
    reconstruction, mask = prior.decode(noisy, label, prior.style_encoder(image))
    golden.compare("out/mask", mask)
    golden.compare_summaries("rec", reconstruction)
    if prior.draws.unread:
        raise GoldenMismatchError("noise", f"{prior.draws.unread} recorded draws were not asked for")


class GivenVGG(Callback):
    """Gives a room's VGG the weights of a file."""

    def __init__(self, golden: Golden) -> None:
        self.state = golden.state("state/vgg/")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.vgg.load_weights(self.state)


def check_training(golden: Golden) -> None:
    config = golden.config
    optimiser = dict(config["optimiser"])
    rate, betas = optimiser.pop("lr"), tuple(optimiser.pop("betas"))
    if optimiser != {"weight_decay": 0, "eps": 1e-8}:
        raise GoldenMismatchError("config", f"the optimiser has {optimiser}")
    prior = make_prior(
        golden,
        perceptual="random",
        perceptual_channels=config["args"]["vgg_width"],
        learning_rate=rate,
        betas=betas,
    )
    steps = sorted({int(key.split("/")[1]) for key in golden.keys(r"in/\d+/.*")})
    ours = {"": ("image", "domain", "mask"), "a": ("x", "x_domain", "x_mask"), "b": ("y", "y_domain", "y_mask")}
    batches, tape = [], {}
    names = {"randn": "content_noise", "uniform": "mirror_style"}
    for step in steps:
        batch = {}
        for suffix, (picture, domain, mask) in ours.items():
            batch[picture] = enlarged(golden.given(f"in/{step}/x{suffix}_seed"))
            batch[domain] = golden.given(f"in/{step}/l{suffix}")
            batch[mask] = enlarged(golden.given(f"in/{step}/m{suffix}_seed"))
        batches.append(batch)
        tape[step] = [(names[name], value) for name, value in golden.tape(f"noise/{step}/")]
    record = fit(prior, batches, tape, GivenVGG(golden))
    for step, terms in enumerate(record.terms):
        golden.compare(f"step{step}/arec", terms["appearance"] + terms["perceptual"])
        golden.compare(f"step{step}/srec", prior.lambda_shape * terms["shape"])
        golden.compare(f"step{step}/fdist", terms["content_distance"])
        golden.compare(f"step{step}/sdist", prior.lambda_shape_distance * terms["shape_distance"])
        golden.compare(f"step{step}/reg", prior.lambda_content_norm * terms["content_norm"] + terms["domain"])
        norms = record.gradient_norms[step]
        golden.compare_norms(f"step{step}/grad_l2", [norms.get(prior_name(key)) for key in config["grad_keys"]])
    parameters, buffers = dict(prior.named_parameters()), dict(prior.named_buffers())
    final = [parameters[prior_name(key)].detach() for key in config["final_keys"]["AE"]]
    golden.compare("final/AE_l2", torch.stack([value.norm() for value in final]))
    golden.compare("final/AE_mean", torch.stack([value.mean() for value in final]))
    moved = [buffers[prior_name(key)] for key in config["final_keys"]["AE_buf"]]
    golden.compare("final/AE_buf_l2", torch.stack([value.norm() for value in moved]))
    golden.compare("final/AE_buf_sum", torch.stack([value.sum() for value in moved]))


PRIOR_KINDS = {
    "content_encoder": check_content_encoder,
    "stage1_autoencoder": check_autoencoder,
    "stage1_train": check_training,
}

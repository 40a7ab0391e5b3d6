"""Official files of GP-UNIT, built here in the published layout with random weights."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from golden.recipe import recipe_state
from zoo.errors import ZooError
from zoo.gpunit.content import ContentEncoder
from zoo.gpunit.model import GPUNIT
from zoo.gpunit.prior import PriorDistillation
from zoo.weights.gpunit import (
    DEMO_FILE,
    ENCODER_LAYERS,
    PRIOR_LAYERS,
    content_encoder_state,
    load_content_encoder,
    load_prior,
    load_task,
    missing_weights,
)

SMALL: dict[str, Any] = {
    "content_channels": 2,
    "generator_channels": 3,
    "style_channels": 12,
    "style_width": 4,
    "bottleneck": 6,
    "latent_channels": 10,
    "discriminator_channels": 4,
    "discriminator_max_channels": 8,
}
State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


# The published layout, written down apart from the rooms' own code --------------------------------------------------


def normed(name: str, outgoing: int, incoming: int, kernel: int = 3) -> Shapes:
    """Entries of a convolution under PyTorch's older spectral norm."""
    return {
        f"{name}.bias": (outgoing,),
        f"{name}.weight_orig": (outgoing, incoming, kernel, kernel),
        f"{name}.weight_u": (outgoing,),
        f"{name}.weight_v": (incoming * kernel**2,),
    }


def linear(name: str, outgoing: int, incoming: int) -> Shapes:
    return {f"{name}.weight": (outgoing, incoming), f"{name}.bias": (outgoing,)}


def encoder_shapes(n: int) -> Shapes:
    widths = [n, n, 2 * n, 4 * n, 8 * n, 8 * n, 1]
    shapes: Shapes = {}
    for layer, (incoming, outgoing) in enumerate(pairwise(widths), 1):
        shapes |= normed(f"layer{layer}.0.conv", incoming, 3 if layer == 1 else incoming)
        shapes |= normed(f"layer{layer}.1.conv", outgoing, incoming)
    return shapes


def autoencoder_shapes(n: int, domains: int) -> Shapes:
    shapes = {f"contentE.{key}": shape for key, shape in encoder_shapes(n).items()}
    for layer, (incoming, outgoing) in enumerate(
        [(3, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n)] + [(8 * n, 8 * n)] * 2, 1
    ):
        shapes |= normed(f"styleE.layer{layer}.conv", outgoing, incoming)
    shapes |= {"embed.weight": (domains, 128)} | normed("fc.conv", 8 * n, 1, 1)
    for layer in ("layer1.0", "layer1.1", "layer1.2", "layer2", "layer3"):
        shapes |= normed(f"G.{layer}.conv", 8 * n, 8 * n) | linear(f"G.{layer}.norm.style", 16 * n, 128)
    shapes |= normed("G.tomask.conv", 3, 8 * n)
    for layer, incoming, outgoing in ((4, 8 * n, 4 * n), (5, 4 * n, 2 * n), (6, 2 * n, n), (7, n, 3)):
        shapes |= normed(f"G.layer{layer}.conv", outgoing, incoming)
    shapes |= normed("C.layer1.conv", 32, 1) | normed("C.layer2.conv", 64, 32) | normed("C.layer3.conv", domains, 64, 4)
    return shapes | linear("C.fc3", domains, domains)


def convolved(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    weight = state[f"{name}.weight_orig"]
    largest = state[f"{name}.weight_u"] @ weight.flatten(1) @ state[f"{name}.weight_v"]
    x = F.pad(x, [padding] * 4, mode="reflect") if padding else x
    return F.conv2d(x, weight / largest, state[f"{name}.bias"], stride)


def encoded(state: State, x: Tensor) -> list[Tensor]:
    features = []
    for layer in range(1, 7):
        for place in range(2):
            stride = 2 if place and layer < 6 else 1
            x = F.leaky_relu(F.instance_norm(convolved(state, f"layer{layer}.{place}.conv", x, stride)), 0.2)
        features.append(x)
    return features[::-1]


def statistics(state: State, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    found = []
    for layer in range(1, 4):
        x = F.leaky_relu(convolved(state, f"styleE.layer{layer}.conv", x, 2), 0.2)
        found.append((x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)))
    return found


def decoded(state: State, content: Tensor, domain: Tensor, style: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    code = state["embed.weight"][domain]
    x = F.leaky_relu(F.instance_norm(convolved(state, "fc.conv", content, padding=0)), 0.2)
    for layer in ("layer1.0", "layer1.1", "layer1.2", "layer2", "layer3"):
        if layer == "layer3":
            x = F.interpolate(x, scale_factor=2)
        style_of = F.linear(code, state[f"G.{layer}.norm.style.weight"], state[f"G.{layer}.norm.style.bias"])
        gamma, beta = style_of[:, :, None, None].chunk(2, 1)
        x = F.relu(gamma * F.instance_norm(convolved(state, f"G.{layer}.conv", x)) + beta)
    mask = torch.tanh(convolved(state, "G.tomask.conv", x))
    for layer, (mean, deviation) in zip((4, 5, 6), reversed(style), strict=True):
        x = F.instance_norm(convolved(state, f"G.layer{layer}.conv", F.interpolate(x, scale_factor=2)))
        x = F.relu(x * deviation + mean)
    return torch.tanh(convolved(state, "G.layer7.conv", F.interpolate(x, scale_factor=2))), mask


def guesses(state: State, content: Tensor) -> Tensor:
    x = F.leaky_relu(convolved(state, "C.layer1.conv", content, 2), 0.2)
    x = F.leaky_relu(convolved(state, "C.layer2.conv", x), 0.2)
    x = F.leaky_relu(convolved(state, "C.layer3.conv", x, padding=0), 0.2).flatten(1)
    return F.linear(x, state["C.fc3.weight"], state["C.fc3.bias"])


def published_encoder(n: int = 2, seed: int = 1) -> State:
    return recipe_state(encoder_shapes(n), seed)


def published_task(seed: int = 2, **sizes: Any) -> dict[str, State]:
    model = GPUNIT(**{**SMALL, **sizes})
    return {"g_ema": recipe_state(model.generator, seed), "sampler": recipe_state(model.sampler, seed)}


def wrapped(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(3)) * 2 - 1


# They load, and give what the official networks give -----------------------------------------------------------------


def test_names_are_mapped_one_to_one() -> None:
    for layers in (ENCODER_LAYERS, PRIOR_LAYERS):
        assert len(set(layers.values())) == len(layers)
    assert len(encoder_shapes(64)) == 48
    assert len(autoencoder_shapes(64, 292)) == 141
    with torch.device("meta"):
        model = GPUNIT()
    assert len(model.generator.state_dict()) == 114
    assert list(model.sampler.state_dict()) == [
        "lin1.weight",
        *(f"bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        "lin2.weight",
        *(f"bn2.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        "lin_out.weight",
    ]


@pytest.mark.parametrize("form", ["today", "data_parallel", "legacy_file", "first_stage"])
def test_a_published_content_encoder_gives_equal_features(tmp_path: Path, form: str, picture: Tensor) -> None:
    path, state = tmp_path / "content_encoder.pt", published_encoder()
    content: dict[str, Any] = wrapped(state) if form == "data_parallel" else dict(state)
    if form == "first_stage":
        autoencoder = recipe_state(autoencoder_shapes(2, 5), 7)
        state = {key.removeprefix("contentE."): autoencoder[key] for key in autoencoder if key.startswith("contentE.")}
        content = {"ae_ema": autoencoder, "ae_optim": {"state": {}, "param_groups": [{"lr": 2e-4}]}}
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy_file")
    encoder = ContentEncoder(2).eval()
    load_content_encoder(encoder, path)
    with torch.no_grad():
        features = encoder(picture)
    for feature, expected in zip(features, encoded(state, picture), strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-3, atol=1e-4)
    vectors = [key for key in encoder.state_dict() if key.endswith(".0.u")]
    assert len(vectors) == 12


def test_a_published_task_file_translates(tmp_path: Path, picture: Tensor) -> None:
    content = published_task()
    content = {"g_ema": wrapped(content["g_ema"]), "sampler": content["sampler"]}
    torch.save(content, tmp_path / "cat2dog.pt")
    theirs, ours = GPUNIT(**SMALL), GPUNIT(**SMALL)
    theirs.generator.load_state_dict(published_task()["g_ema"])
    theirs.sampler.load_state_dict(content["sampler"])
    load_task(ours, tmp_path / "cat2dog.pt")
    ours.content_encoder.load_state_dict(theirs.content_encoder.state_dict())
    with torch.no_grad():
        features = theirs.content_encoder.eval()(picture)
        code = theirs.sampler.eval()(torch.ones(2, 10))
        by_exemplar, _ = theirs.generator(features, theirs.generator.encode_style(picture.flip(0)))
        by_chance, _ = theirs.generator(features, code)
    assert torch.equal(ours.translate(picture, reference=picture.flip(0)), by_exemplar)
    assert torch.equal(ours.translate(picture, latent=torch.ones(2, 10)), by_chance)
    # A training goes on from the raw generator.
    for key, value in ours.generator.state_dict().items():
        assert torch.equal(value, content["g_ema"][f"module.{key}"])
    assert not any(p.requires_grad for p in ours.ema.parameters())
    assert ours.sampler_fitted


def test_a_file_of_the_first_stage_gives_equal_pictures(tmp_path: Path, picture: Tensor) -> None:
    state = recipe_state(autoencoder_shapes(2, 5), 7)
    torch.save(
        {"ae_ema": wrapped(state), "ae_optim": {"state": {0: {"step": 3}}, "param_groups": []}}, tmp_path / "a.pt"
    )
    model = PriorDistillation(channels=2, domains=5, perceptual=None).eval()
    load_prior(model, tmp_path / "a.pt")
    domain = torch.tensor([1, 4])
    encoder = {key.removeprefix("contentE."): value for key, value in state.items()}
    with torch.no_grad():
        content = model.content_encoder(picture)[0]
        torch.testing.assert_close(content, encoded(encoder, picture)[0], rtol=1e-3, atol=1e-4)
        image, mask = model.decode(content, domain, model.style_encoder(picture))
        expected_image, expected_mask = decoded(state, content, domain, statistics(state, picture))
        torch.testing.assert_close(image, expected_image, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(mask, expected_mask, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.classifier(content), guesses(state, content), rtol=1e-3, atol=1e-4)
    assert image.shape == picture.shape


def test_a_content_encoder_of_our_own(tmp_path: Path) -> None:
    theirs = PriorDistillation(64, channels=2, domains=2, perceptual=None)
    wanted = theirs.content_encoder.state_dict()
    run = tmp_path / "runs" / "gpunit_prior" / "first"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = {"state_dict": theirs.state_dict(), "pytorch-lightning_version": "2.6.6", "global_step": 7}
    torch.save(checkpoint, run / "checkpoints" / "iteration_00000007.ckpt")
    torch.save(wanted, tmp_path / "plain.pt")
    save_file(wanted, tmp_path / "plain.safetensors", metadata={"image_size": "64"})
    sources = [
        run,
        run / "checkpoints" / "iteration_00000007.ckpt",
        tmp_path / "plain.pt",
        tmp_path / "plain.safetensors",
    ]
    second = GPUNIT(64, **SMALL)  # the second stage's checkpoints have it, too
    second.content_encoder.load_state_dict(wanted)
    torch.save({"state_dict": second.state_dict()}, tmp_path / "second.ckpt")
    for source in [*sources, tmp_path / "second.ckpt"]:
        for given in (source, str(source)):
            state = content_encoder_state(given)
            assert state.keys() == wanted.keys()
            assert all(torch.equal(state[key], value) for key, value in wanted.items())
    encoder = ContentEncoder(2, 64)
    load_content_encoder(encoder, str(run))
    assert all(torch.equal(value, wanted[key]) for key, value in encoder.state_dict().items())


def test_the_names_of_encoders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save(published_encoder(), tmp_path / "content_encoder.pt")
    small = {key: value.contiguous() for key, value in ContentEncoder(2, 64).state_dict().items()}
    save_file(small, tmp_path / "content_encoder_64.safetensors")
    monkeypatch.setattr("zoo.weights.gpunit.fetch", lambda name: tmp_path / f"{name}.pt")
    monkeypatch.setattr("zoo.weights.gpunit.DEMO_FILE", tmp_path / "content_encoder_64.safetensors")
    assert "layers.5.1.conv.bias" in content_encoder_state("content_encoder")
    assert content_encoder_state("demo").keys() == small.keys()
    assert missing_weights("demo", "--model.content_encoder") == []
    with pytest.raises(ZooError, match="No content encoder is called 'vgg19': there are content_encoder and demo"):
        content_encoder_state("vgg19")
    monkeypatch.setattr("zoo.weights.gpunit.DEMO_FILE", tmp_path / "gone.safetensors")
    assert "make demo-prior" in missing_weights("demo")[0]
    assert missing_weights("runs/gone", "--model.content_encoder")[0].startswith(
        "--model.content_encoder runs/gone: there is no"
    )


@pytest.mark.skipif(not DEMO_FILE.is_file(), reason="the package has no encoder for the demo yet")
def test_the_encoder_of_the_demo_is_whole() -> None:
    state = content_encoder_state("demo")
    encoder = ContentEncoder(len(state["layers.0.0.conv.bias"]), 64)
    load_content_encoder(encoder, "demo")


# What does not load is told ------------------------------------------------------------------------------------------


def refused(network: nn.Module, load: Any, path: Path, content: object) -> str:
    torch.save(content, path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ZooError) as caught:
        load(network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


def test_other_sizes_come_with_the_options_to_type(tmp_path: Path) -> None:
    path, encoder = tmp_path / "x.pt", ContentEncoder(2)
    said = refused(encoder, load_content_encoder, path, published_encoder(4))
    assert said.endswith("has other sizes than this model. To load it: --model.content_channels 4")
    said = refused(ContentEncoder(4, 64), load_content_encoder, path, published_encoder(2))
    assert said.endswith("To load it: --model.content_channels 2 --model.image_size 256")

    model = GPUNIT(64, **{**SMALL, "content_channels": 4, "generator_channels": 5})
    said = refused(model, load_task, path, published_task())
    assert said.endswith("--model.image_size 256 --model.content_channels 2 --model.generator_channels 3")
    model = GPUNIT(**{**SMALL, "style_channels": 14, "style_width": 5, "bottleneck": 7})
    said = refused(model, load_task, path, published_task())
    assert said.endswith("--model.style_channels 12 --model.style_width 4 --model.bottleneck 6")
    # The generator fits, the sampler does not: neither is loaded.
    said = refused(GPUNIT(**{**SMALL, "latent_channels": 9}), load_task, path, published_task())
    assert said.endswith(
        "The sampler in " + str(path) + " has other sizes than this model. To load it: --model.latent_channels 10"
    )

    content = {"ae_ema": recipe_state(autoencoder_shapes(2, 5), 7)}
    prior = PriorDistillation(channels=4, domains=9, perceptual=None)
    assert refused(prior, load_prior, path, content).endswith("--model.channels 2 --model.domains 5")


def test_missing_and_unknown_entries_are_named(tmp_path: Path) -> None:
    path, encoder = tmp_path / "x.pt", ContentEncoder(2)
    state = published_encoder()
    lacking = {key: value for key, value in state.items() if key != "layer3.0.conv.weight_u"}
    said = refused(encoder, load_content_encoder, path, lacking)
    assert "lacks layers.2.0.conv.parametrizations.weight.0.u (1 entries)" in said
    said = refused(encoder, load_content_encoder, path, {**state, "layer7.0.conv.bias": torch.zeros(1)})
    assert "has layer7.0.conv.bias that nothing here knows (1 entries)" in said
    task = published_task()
    del task["g_ema"]["model.2.skiplayer.mask.bias"]
    said = refused(GPUNIT(**SMALL), load_task, path, task)
    assert "The generator in" in said
    assert "lacks model.2.skiplayer.mask.bias (1 entries)" in said
    prior = {"ae_ema": {**recipe_state(autoencoder_shapes(2, 5), 7), "C.fc4.bias": torch.zeros(1)}}
    said = refused(PriorDistillation(channels=2, domains=5, perceptual=None), load_prior, path, prior)
    assert "has C.fc4.bias that nothing here knows" in said
    odd = {**state, "layer2.0.conv.bias": torch.zeros(9)}
    assert "layers.1.0.conv.bias is (9,), expected was (2,)" in refused(encoder, load_content_encoder, path, odd)


def test_other_files_say_what_they_look_like(tmp_path: Path) -> None:
    path, encoder, task = tmp_path / "x.pt", ContentEncoder(2), published_task()
    model, prior = GPUNIT(**SMALL), PriorDistillation(channels=2, domains=5, perceptual=None)
    said = refused(encoder, load_content_encoder, path, task)
    assert "holds no content encoder of GP-UNIT: it looks like a task file of its second stage" in said
    said = refused(model, load_task, path, published_encoder())
    assert "has no g_ema and no sampler: it looks like the content encoder (layer1.0.conv.bias" in said
    assert "has no sampler" in refused(model, load_task, path, {"g_ema": task["g_ema"]})
    assert "a generator's state dict" in refused(model, load_task, path, task["g_ema"])
    assert "has no ae_ema" in refused(prior, load_prior, path, task)
    assert "has no g_ema" in refused(model, load_task, path, {"ae_ema": {}})
    checkpoint = {"state_dict": {"generator_a.weight": torch.zeros(1)}, "epoch": 1}
    said = refused(encoder, load_content_encoder, path, checkpoint)
    assert "a checkpoint of this project without a content encoder (generator_a.weight)" in said
    assert "something else (epoch, model)" in refused(encoder, load_content_encoder, path, {"epoch": 1, "model": {}})
    assert "another network (conv.weight)" in refused(
        encoder, load_content_encoder, path, {"conv.weight": torch.ones(1)}
    )
    assert "something else (nothing)" in refused(encoder, load_content_encoder, path, {})
    assert "holds a list" in refused(encoder, load_content_encoder, path, [1])
    assert "such a file can run code" in refused(model, load_task, path, {"g_ema": nn.Linear(1, 1)})


def test_damaged_files_say_what_is_wrong(tmp_path: Path) -> None:
    path, encoder = tmp_path / "x.pt", ContentEncoder(2)
    torch.save(published_encoder(), path)
    whole = path.read_bytes()
    save_file({key: value.contiguous() for key, value in encoder.state_dict().items()}, tmp_path / "x.safetensors")
    for content, said in [
        (whole[: len(whole) // 2], "not a whole checkpoint"),
        ((tmp_path / "x.safetensors").read_bytes()[:5000], "not a whole safetensors file"),
        (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "is a web page, not weights"),
        (b"hello", "is no PyTorch file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ZooError, match=said):
            content_encoder_state(path)
    with pytest.raises(ZooError, match=r"There is no checkpoint at .*gone\.pt"):
        content_encoder_state(tmp_path / "gone.pt")

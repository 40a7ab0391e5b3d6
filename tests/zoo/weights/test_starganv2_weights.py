"""Official files of StarGAN v2, built here in the published layouts with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.commands import lightning, write_recipe
from zoo.core.checkpoints import SafeCheckpointIO, read_checkpoint
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.experts.fan import FAN
from zoo.starganv2 import StarGANv2
from zoo.starganv2.model import NETWORKS
from zoo.weights.fetch import read_catalogue
from zoo.weights.starganv2 import convert, load_averages, main, settings_of

SMALL: dict[str, Any] = {
    "image_size": 32,
    "domains": ["cat", "dog", "wild"],
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}
LOOKS = ["plain", "striped", "dotted"]
State = dict[str, Tensor]


def made(seed: int = 0, **settings: Any) -> StarGANv2:
    torch.manual_seed(seed)
    return StarGANv2(**{**SMALL, **settings})


def networks(model: StarGANv2, *more: str, averages: bool = False) -> dict[str, State]:
    """What the official code saves of the networks, or of their averages."""
    prefix = "ema." if averages else ""
    return {name: dict(model.get_submodule(prefix + name).state_dict()) for name in (*NETWORKS, *more)}


def wrapped(states: dict[str, State]) -> dict[str, State]:
    return {name: {f"module.{key}": value for key, value in state.items()} for name, state in states.items()}


def without_filter(states: dict[str, State]) -> dict[str, State]:
    return {name: {k: v for k, v in state.items() if k != "hpf.filter"} for name, state in states.items()}


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize(
    "change", [lambda states: states, wrapped, without_filter], ids=["as is", "module.", "no filter"]
)
@pytest.mark.parametrize("w_hpf", [0.0, 1.0])
def test_published_averages_load(
    tmp_path: Path, w_hpf: float, change: Callable[[dict[str, State]], dict[str, State]]
) -> None:
    official, ours = (made(seed, w_hpf=w_hpf, landmarks="random") for seed in (1, 2))
    content = change(networks(official))
    if w_hpf:
        content["fan"] = FAN().own_state()
    torch.save(content, tmp_path / "100000_nets_ema.ckpt")
    load_averages(ours, tmp_path / "100000_nets_ema.ckpt")
    assert (ours.fan is not None) == bool(w_hpf)  # a file with FAN brings it along
    for name, state in networks(official).items():
        for key, value in state.items():
            assert torch.equal(ours.ema[name].state_dict()[key], value)
            assert torch.equal(ours.get_submodule(name).state_dict()[key], value)


def whole_training(folder: Path, model: StarGANv2) -> None:
    """The three files that the official code writes."""
    torch.save(networks(model, "discriminator"), folder / "000003_nets.ckpt")
    torch.save(networks(model, averages=True), folder / "000003_nets_ema.ckpt")
    states = {}
    for name in (*NETWORKS, "discriminator"):
        network = model.get_submodule(name)
        optimizer = torch.optim.Adam(network.parameters(), 1e-4, (0.0, 0.99), weight_decay=1e-4)
        sum(p.square().sum() for p in network.parameters()).backward()
        optimizer.step()
        states[name] = optimizer.state_dict()
    torch.save(states, folder / "000003_optims.ckpt")


@pytest.mark.parametrize("given", ["nets", "nets_ema"])
def test_a_whole_training_converts_with_its_optimisers(tmp_path: Path, given: str) -> None:
    official = made(1)
    before = {key: value.clone() for key, value in official.state_dict().items()}
    torch.save(networks(official, "discriminator"), tmp_path / "unused.ckpt")
    whole_training(tmp_path, official)
    torch.save(
        {
            name: {k.partition(".")[2]: v for k, v in before.items() if k.startswith(f"{name}.")}
            for name in (*NETWORKS, "discriminator")
        },
        tmp_path / "000003_nets.ckpt",
    )
    checkpoint = convert(tmp_path / f"000003_{given}.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in checkpoint["state_dict"].items())
    assert checkpoint["zoo"]["iteration"] == 3
    assert checkpoint["hyper_parameters"]["domains"] == ["cat", "dog", "wild"]
    model = made(4)
    optimizers = model.configure_optimizers()
    for optimizer, state in zip(optimizers, checkpoint["optimizer_states"], strict=True):
        optimizer.load_state_dict(state)
        assert all(entry["exp_avg"].any() for entry in optimizer.state.values() if entry["exp_avg"].ndim > 1)
    path = tmp_path / "ours.ckpt"
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    loaded = load_translator(path)
    assert all(torch.equal(value, before[key]) for key, value in loaded.state_dict().items())


def test_a_whole_training_goes_on_where_it_was(tmp_path: Path) -> None:
    official = made(1)
    whole_training(tmp_path, official)
    states = torch.load(tmp_path / "000003_optims.ckpt", weights_only=True)
    for state in states.values():  # as PyTorch 1.4 wrote them
        for group in state["param_groups"]:
            for name in set(group) - {"lr", "betas", "eps", "weight_decay", "amsgrad", "params"}:
                del group[name]
        for entry in state["state"].values():
            entry["step"] = 6
    torch.save(states, tmp_path / "000003_optims.ckpt")
    assert main([str(tmp_path / "000003_nets.ckpt"), "--output", str(tmp_path / "ours.ckpt")]) == 0
    scenes = {"task": "domains", "domains": LOOKS, "size": 32, "batch_size": 2, "workers": 0, "validation_count": 2}
    recipe = write_recipe(
        tmp_path,
        name="stars",
        model={"class_path": "zoo.starganv2.StarGANv2", "init_args": {**SMALL, "domains": LOOKS}},
        data={"class_path": "datamodules.Scenes", "init_args": scenes},
    )
    words = [
        "--trainer.max_steps",
        5,
        "--run.name",
        "a",
        "--checkpoints.every",
        1,
        "--ckpt_path",
        tmp_path / "ours.ckpt",
    ]
    assert lightning("fit", "--config", recipe, *words) == 0
    run = Run(tmp_path / "runs" / "stars" / "a")
    newest = read_checkpoint(run.checkpoints_newest_first()[0])
    assert newest["global_step"] == newest["zoo"]["iteration"] == 5
    # Six steps were taken; an iteration has two of discriminator and generator each, and one of their companions.
    steps = {int(entry["step"]) for state in newest["optimizer_states"][:2] for entry in state["state"].values()}
    assert steps == {6 + 2 * 2}
    assert {int(entry["step"]) for entry in newest["optimizer_states"][2]["state"].values()} == {6 + 2}


def test_the_command_converts_and_the_result_translates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    torch.save(networks(made(1)), tmp_path / "afhq.ckpt")
    assert main([str(tmp_path / "afhq.ckpt"), "--output", str(tmp_path / "ours.ckpt"), "--domains", "a", "b", "c"]) == 0
    assert "domains a, b, c" in capsys.readouterr().out
    Image.new("RGB", (40, 36)).save(tmp_path / "picture.png")
    words = [
        "translate",
        tmp_path / "ours.ckpt",
        tmp_path / "picture.png",
        "--to",
        "b",
        "--latents",
        1,
        "--output",
        tmp_path / "out",
    ]
    assert lightning(*words) == 0
    with Image.open(tmp_path / "out" / "picture_style1.png") as translation:
        assert translation.size == (40, 36)
    assert main([str(tmp_path / "afhq.ckpt"), "--output", str(tmp_path / "x.ckpt"), "--domains", "a"]) == 2
    assert "knows 3 domains, and 1 names were given" in capsys.readouterr().err


def test_a_file_speaks_of_its_settings() -> None:
    for settings in ({}, {"w_hpf": 1.0}, {"w_hpf": 2.0, "image_size": 64}, {"domains": ["x"], "channels": 3}):
        model = made(**settings, landmarks="random")
        expected = {**SMALL, "w_hpf": 0.0, **settings}
        assert settings_of(networks(model)) == {**expected, "domains": len(expected["domains"])}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 64}, "--model.image_size 32"),
        ({"w_hpf": 1.0, "landmarks": "random"}, "--model.w_hpf 0"),
        ({"domains": ["a", "b"]}, r"--model.domains \[cat,dog,wild\]"),
        ({"style_channels": 5, "latent_channels": 7}, "--model.style_channels 3 --model.latent_channels 2"),
    ],
)
def test_other_sizes_are_refused_with_the_options_to_type(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    torch.save(networks(made(1)), tmp_path / "official.ckpt")
    model = made(2, **settings)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ZooError, match=words):
        load_averages(model, tmp_path / "official.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    states = networks(made(1))
    lacking = {**states, "style_encoder": {k: v for k, v in states["style_encoder"].items() if k != "shared.0.bias"}}
    strange = {**states, "generator": {**states["generator"], "attention.weight": torch.zeros(1)}}
    for name, content, words in (
        ("lacking", lacking, "style_encoder .* lacks shared.0.bias"),
        ("strange", strange, "generator .* has attention.weight that nothing here knows"),
        ("other", {"generator": states["generator"]}, "no mapping_network and no style_encoder"),
        ("bare", states["generator"], "looks like something else"),
    ):
        torch.save(content, tmp_path / f"{name}.ckpt")
        with pytest.raises(ZooError, match=words):
            load_averages(made(2), tmp_path / f"{name}.ckpt")


def test_the_catalogue_has_the_published_files() -> None:
    catalogue = read_catalogue()
    for name in ("starganv2_celeba_hq", "starganv2_afhq", "starganv2_fan", "starganv2_landmark_mean"):
        assert "dropbox" in catalogue[name].urls[0]
    assert catalogue["inception_v3"].sha256_prefix == "0cc3c7bd"

"""Official files of CycleGAN, built here in the published layout with random weights."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.cyclegan import CycleGAN, PatchDiscriminator, PixelDiscriminator, ResnetGenerator, UnetGenerator
from zoo.errors import ZooError
from zoo.weights.cyclegan import OFFICIAL_NAMES, describe, load_model, load_network, read_state, settings_of

SMALL: dict[str, Any] = {"generator_channels": 4, "residual_blocks": 2, "discriminator_channels": 4}


def resnet(channels: int = 4, blocks: int = 9) -> ResnetGenerator:
    return ResnetGenerator(3, 3, channels, blocks, "instance", False, "reflect")


class PublishedGenerator(nn.Module):
    """The published architecture, written down as a flat list of layers, apart from the room's own code."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        c = channels

        def norm(channels: int) -> nn.Module:
            return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                pad, conv, width = nn.ReflectionPad2d, nn.Conv2d, 4 * c
                first = [pad(1), conv(width, width, 3), norm(width), nn.ReLU()]
                self.conv_block = nn.Sequential(*first, pad(1), conv(width, width, 3), norm(width))

            def forward(self, x: Tensor) -> Tensor:
                return self.conv_block(x) + x

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), norm(c), nn.ReLU()]
        layers += [nn.Conv2d(c, 2 * c, 3, 2, 1), norm(2 * c), nn.ReLU()]
        layers += [nn.Conv2d(2 * c, 4 * c, 3, 2, 1), norm(4 * c), nn.ReLU()]
        layers += [Block() for _ in range(blocks)]
        layers += [nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1), norm(2 * c), nn.ReLU()]
        layers += [nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1), norm(c), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def old_state(network: nn.Module, counters: bool) -> OrderedDict[str, Tensor]:
    """The state dict as PyTorch before 0.4 wrote it: instance norms with running statistics."""
    state = OrderedDict(network.state_dict())
    for name, layer in network.named_modules():
        if isinstance(layer, nn.InstanceNorm2d):
            state[f"{name}.running_mean"] = torch.zeros(layer.num_features)
            state[f"{name}.running_var"] = torch.ones(layer.num_features)
            if counters:
                state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


@pytest.mark.parametrize("blocks", [6, 9])
@pytest.mark.parametrize("form", ["today", "before_0.4", "with_counters", "data_parallel", "legacy_file"])
def test_a_published_generator_gives_equal_pictures(
    tmp_path: Path, form: str, blocks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    theirs, ours = PublishedGenerator(4, blocks), resnet(blocks=blocks)
    state = OrderedDict(theirs.state_dict())
    if form in {"before_0.4", "with_counters"}:
        state = old_state(theirs, counters=form == "with_counters")
    if form == "data_parallel":
        state = OrderedDict((f"module.{key}", value) for key, value in state.items())
    path = tmp_path / "horse2zebra.pth"
    torch.save(state, path, _use_new_zipfile_serialization=form != "legacy_file")
    load_network(ours, path)
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(ours(picture), theirs(picture))
    said = capsys.readouterr().out
    if form in {"before_0.4", "with_counters"}:
        dropped = (5 + 2 * blocks) * (3 if form == "with_counters" else 2)
        assert said.startswith(f"horse2zebra.pth: {dropped} running statistics of instance norms were left out")
    else:
        assert said == ""


def test_running_statistics_of_batch_norms_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = ResnetGenerator(3, 3, 4, 1, "batch", False, "reflect")
    theirs(torch.rand(2, 3, 16, 16))
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G_A.pth")
    ours = ResnetGenerator(3, 3, 4, 1, "batch", False, "reflect")
    load_network(ours, tmp_path / "latest_net_G_A.pth")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert capsys.readouterr().out == ""


def write_training(folder: Path, model: CycleGAN, label: str = "latest") -> None:
    folder.mkdir(exist_ok=True)
    for name, ours in OFFICIAL_NAMES.items():
        torch.save(model.get_submodule(ours).state_dict(), folder / f"{label}_net_{name}.pth")


def test_the_four_files_of_an_official_training(tmp_path: Path) -> None:
    trained, model = CycleGAN(**SMALL), CycleGAN(**SMALL, ema_decay=0.9)
    write_training(tmp_path, trained, "35")
    load_model(model, tmp_path, "35")
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in trained.state_dict().items())
    picture = torch.rand(1, 3, 16, 16)
    assert torch.equal(model.translate(picture), trained.translate(picture))  # by its moving average
    with pytest.raises(ZooError, match=r"lacks latest_net_G_A\.pth.*It has files labelled 35"):
        load_model(model, tmp_path)
    with pytest.raises(ZooError, match=r"It has no \*_net_G_A.pth at all"):
        load_model(model, tmp_path / "elsewhere")


NETWORKS: list[tuple[nn.Module, str, dict[str, Any]]] = [
    (resnet(), "a resnet generator (", {"generator": "resnet", "generator_channels": 4, "residual_blocks": 9}),
    (
        ResnetGenerator(1, 3, 2, 6, "batch", True, "zero"),
        "a resnet generator (",
        {"generator_channels": 2, "residual_blocks": 6, "generator_norm": "batch", "dropout": True, "padding": "zero"},
    ),
    (ResnetGenerator(3, 3, 2, 1, "none", False, "zero"), "a resnet", {"generator_norm": "none", "dropout": False}),
    (
        UnetGenerator(3, 3, 2, 5, "instance", False),
        "a unet generator (",
        {"generator": "unet", "generator_channels": 2, "unet_depth": 5, "generator_norm": "instance"},
    ),
    (UnetGenerator(3, 3, 2, 4, "batch", True), "a unet generator (", {"unet_depth": 4, "generator_norm": "batch"}),
    (
        PatchDiscriminator(3, 4, 2, "instance"),
        "a patch discriminator (",
        {"discriminator": "patch", "discriminator_channels": 4, "discriminator_layers": 2},
    ),
    (PatchDiscriminator(3, 4, 3, "batch"), "a patch", {"discriminator_layers": 3, "discriminator_norm": "batch"}),
    (PixelDiscriminator(3, 4, "batch"), "a pixel discriminator (", {"discriminator_norm": "batch"}),
]


@pytest.mark.parametrize(("network", "words", "settings"), NETWORKS, ids=lambda value: type(value).__name__)
def test_a_network_is_known_by_its_keys_and_shapes(network: nn.Module, words: str, settings: dict[str, Any]) -> None:
    state = network.state_dict()
    assert settings.items() <= settings_of(state).items()
    assert describe(state).startswith(words)


def refusal(network: nn.Module, content: object, path: Path) -> str:
    torch.save(content, path)
    before = [p.clone() for p in network.parameters()]
    with pytest.raises(ZooError) as error:
        load_network(network, path)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    return str(error.value)


def test_files_of_other_networks_say_what_they_look_like(tmp_path: Path) -> None:
    ours, path = resnet(), tmp_path / "latest_net_G_A.pth"
    said = refusal(ours, resnet(channels=8, blocks=6).state_dict(), path)
    assert "looks like a resnet generator (generator_channels 8, residual_blocks 6, generator_norm instance" in said
    assert "This model expects a resnet generator (generator_channels 4, residual_blocks 9" in said
    assert said.endswith("To load it: --model.generator_channels 8 --model.residual_blocks 6")
    assert "looks like a patch discriminator" in refusal(
        ours, PatchDiscriminator(3, 4, 3, "instance").state_dict(), path
    )
    assert "another network?" in refusal(ours, UnetGenerator(3, 3, 4, 5, "instance", False).state_dict(), path)
    grey = ResnetGenerator(1, 3, 4, 9, "instance", False, "reflect").state_dict()
    assert "numbers of channels of the pictures differ" in refusal(ours, grey, path)
    said = refusal(ours, {"features.0.weight": torch.zeros(1), "features.0.bias": torch.zeros(1)}, path)
    assert "no network of CycleGAN (it holds features.0.weight, features.0.bias)" in said
    cut = resnet().state_dict()
    del cut["model.26.bias"]
    assert "looks like" in refusal(ours, cut, path)


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    ours, path = resnet(), tmp_path / "x.pth"
    wrapped = {"state_dict": ours.state_dict(), "pytorch-lightning_version": "2.6.6"}
    assert "checkpoint of this project" in refusal(ours, wrapped, path)
    assert "it holds epoch, model" in refusal(ours, {"epoch": 3, "model": ours.state_dict()}, path)
    assert "it holds nothing" in refusal(ours, {}, path)
    assert "holds a list" in refusal(ours, [1, 2], path)
    for content, words in (
        (b"<!DOCTYPE html>", "is a web page"),
        (b"hello", "is no PyTorch file"),
        (b"", "is no PyTorch"),
    ):
        path.write_bytes(content)
        with pytest.raises(ZooError, match=words):
            read_state(path)
    save_file(ours.state_dict(), path)
    with pytest.raises(ZooError, match="safetensors"):
        read_state(path)
    with pytest.raises(ZooError, match="no checkpoint at"):
        read_state(tmp_path / "nothing.pth")


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    assert "such a file can run code" in refusal(resnet(), resnet(), tmp_path / "whole_object.pth")

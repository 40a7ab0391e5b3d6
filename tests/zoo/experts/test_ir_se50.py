from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from golden.recipe import recipe_state
from zoo.errors import ZooError
from zoo.experts.ir_se50 import IRSE50
from zoo.experts.vgg import vgg_layers


def small(seed: int = 0) -> IRSE50:
    expert = IRSE50(channels=16)
    expert.load_weights(recipe_state(expert, seed))
    return expert


def portrait(size: int = 256, seed: int = 1) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        expert = IRSE50()
    assert sum(p.numel() for p in expert.parameters()) == 43_797_696
    assert {key.split(".")[0] for key in expert.own_state()} == {"input_layer", "body", "output_layer"}
    assert len(expert.body) == 24


def test_faces_are_numbers_of_length_one() -> None:
    expert = small()
    images = torch.cat([portrait(seed=1), portrait(seed=2)])
    faces = expert(images)
    assert faces.shape == (2, 128)
    torch.testing.assert_close(faces.norm(dim=1), torch.ones(2))
    loss = expert.identity_loss(images, images.flip(0))
    torch.testing.assert_close(loss, 1 - (faces[0] * faces[1]).sum())
    torch.testing.assert_close(expert.identity_loss(images, images), torch.zeros(()), atol=1e-6, rtol=0)


def test_only_the_face_counts() -> None:
    expert, image = small(), portrait()
    expected = expert(image)
    elsewhere = image.clone()
    elsewhere[..., :35, :], elsewhere[..., 223:, :], elsewhere[..., :32], elsewhere[..., 220:] = 0, 0, 0, 0
    assert torch.equal(expert(elsewhere), expected)
    for row, column in ((35, 32), (222, 219)):
        inside = image.clone()
        inside[..., row, column] += 5
        assert not torch.equal(expert(inside), expected)


def test_other_sizes_are_averaged_to_256() -> None:
    expert, image = small(), portrait(512)
    torch.testing.assert_close(expert(image), expert(F.avg_pool2d(image, 2)))
    assert expert(portrait(64)).shape == (1, 128)


def test_gradients_reach_the_first_picture_alone() -> None:
    expert = small()
    image, other = portrait(seed=1).requires_grad_(), portrait(seed=2).requires_grad_()
    expert.identity_loss(image, other).backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert other.grad is None
    assert not any(module.training for module in expert.train().modules())  # dropout and batch norms


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    path = tmp_path / "model_ir_se50.pth"
    theirs, ours = small(3), IRSE50(channels=16)
    torch.save(theirs.own_state(), path, _use_new_zipfile_serialization=False)
    ours.load_weights(path)
    assert torch.equal(ours(portrait()), theirs(portrait()))
    before = {key: value.clone() for key, value in ours.own_state().items()}
    bad: list[tuple[object, str]] = [
        ({"state_dict": small(4).own_state(), "epoch": 1}, "It holds state_dict, epoch"),
        (vgg_layers(16, "relu1_2", 4).state_dict(), "These weights are not of this IRSE50"),
        (IRSE50(channels=32).own_state(), r"body\.0\..* is \(32,\), expected was \(16,\)"),
    ]
    for content, said in bad:
        torch.save(content, path)
        with pytest.raises(ZooError, match=rf"does not hold an IR-SE50 .* {said}.* lightning download model_ir_se50"):
            ours.load_weights(path)
    path.write_bytes(b"<!doctype html><title>Sign in</title>")
    with pytest.raises(ZooError, match="is a web page, not weights"):
        ours.load_weights(path)
    assert all(torch.equal(value, before[key]) for key, value in ours.own_state().items())


def test_pretrained_weights_are_fetched_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"model_ir_se50\.pth is needed, and ZOO_OFFLINE forbids"):
        IRSE50(pretrained=True)
    with pytest.raises(ZooError, match="has channels=64, not 16"):
        IRSE50(pretrained=True, channels=16)

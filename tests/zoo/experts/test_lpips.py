"""LPIPS and the Inception network that StarGAN v2 measures with."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import Inception3
from torchvision.transforms import functional as TF

from support.pictures import pixels
from zoo.errors import ZooError
from zoo.experts.inception import InceptionFeatures, prepare
from zoo.experts.lpips import LPIPS, published_channel_weights


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_equals_torchmetrics_on_the_same_weights() -> None:
    from torchmetrics.functional.image.lpips import _LPIPS

    torch.manual_seed(1)
    theirs = _LPIPS(pretrained=True, net="alex", pnet_rand=True, use_dropout=True).eval()
    ours = LPIPS()
    layers = [
        layer for part in range(1, 6) for layer in getattr(theirs.net, f"slice{part}") if hasattr(layer, "weight")
    ]
    places = [key for key in ours.features.own_state() if key.endswith("weight")]
    state = {}
    for key, layer in zip(places, layers, strict=True):
        state |= {key: layer.weight, key.replace("weight", "bias"): layer.bias}
    ours.features.load_weights(state)
    ours.load_weights(published_channel_weights("alex"))
    one, other = noise(3, 3, 64, 64), noise(3, 3, 64, 64, seed=1)
    torch.testing.assert_close(ours(one, other), theirs(one, other).flatten(), rtol=1e-4, atol=1e-6)
    assert not ours(one, one).any()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no weights of LPIPS"):
        LPIPS().load_weights({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)})
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ZooError, match=r"other\.pth holds no weights"):
        LPIPS().load_weights(tmp_path / "other.pth")


def test_inception_loads_torchvision_s_layout_and_gives_what_its_classifier_reads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Inception3(init_weights=False).eval()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    expert = InceptionFeatures()
    expert.load_weights(tmp_path / "inception.pth")
    seen: list[Tensor] = []
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = noise(1, 3, 299, 299)
    with torch.no_grad():
        network(image)
    torch.testing.assert_close(expert(image), seen[0])
    assert expert(image).shape == (1, 2048)
    with pytest.raises(ZooError, match="does not hold torchvision's Inception v3"):
        expert.load_weights({"fc.weight": torch.zeros(1)})


def test_pictures_are_prepared_as_their_png_files_would_be() -> None:
    image = torch.from_numpy(pixels(40, 30).copy()).permute(2, 0, 1)[None]
    as_bytes, as_floats = prepare(image, 32), prepare(image.float() / 127.5 - 1, 32)
    torch.testing.assert_close(as_bytes, as_floats)
    assert as_bytes.shape == (1, 3, 299, 299)
    unit = TF.to_tensor(pixels(40, 30)).mean((1, 2))
    mean, deviation = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(as_bytes[0].mean((1, 2)), (unit - mean) / deviation, rtol=0.05, atol=0.05)

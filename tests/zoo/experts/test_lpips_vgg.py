"""LPIPS by VGG-16 against TorchMetrics' network, both with the same random weights."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image.lpips import _LPIPS

from zoo.errors import ZooError
from zoo.experts.lpips import TORCHMETRICS_KEY as KEY
from zoo.experts.lpips import published_channel_weights
from zoo.experts.lpips_vgg import VGGLPIPS
from zoo.weights.files import read_file


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_distances_are_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    theirs = _LPIPS(pretrained=False, net="vgg", pnet_rand=True, eval_mode=True)
    ours = VGGLPIPS()
    ours.load_weights(read_file(published_channel_weights("vgg")))
    theirs.load_state_dict(read_file(published_channel_weights("vgg")), strict=False)
    features: dict[str, Tensor] = {}
    for part in range(1, 6):
        features |= theirs.net.get_submodule(f"slice{part}").state_dict()
    own = ours.features.own_state()
    ours.features.load_own({key: features[key.rpartition("layers.")[2].removeprefix("features.")] for key in own})
    torch.testing.assert_close(
        ours(pictures(1), pictures(2)), theirs(pictures(1), pictures(2)).flatten(), rtol=1e-4, atol=1e-6
    )
    assert not ours(pictures(1), pictures(1)).any()


def test_other_weights_are_refused() -> None:
    ours = VGGLPIPS(base_channels=4)
    with pytest.raises(ZooError, match=r"there is no lin0\.model\.1\.weight"):
        ours.load_weights({})
    with pytest.raises(ZooError, match="not of this VGGLPIPS"):
        ours.load_weights({KEY.format(i): torch.ones(1, 3, 1, 1) for i in range(5)})
    assert not ours.state_dict()

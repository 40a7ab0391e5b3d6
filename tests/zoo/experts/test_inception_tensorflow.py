"""TensorFlow's Inception: the layout of pytorch-fid's file, and where it departs from torchvision's network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import Inception3

from support.extractors import inception_layout
from zoo.errors import ZooError
from zoo.experts.inception_tensorflow import WEIGHTS, TensorFlowInception, _BlockA, _LastBlock, prepare
from zoo.weights.catalogue import find_entry


def pictures() -> Tensor:
    return torch.randint(0, 256, (1, 3, 40, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return inception_layout()


@pytest.fixture(scope="module")
def ours(state: dict[str, Tensor]) -> TensorFlowInception:
    network = TensorFlowInception()
    network.load_weights(state)
    return network


def test_a_file_of_the_published_layout_loads_and_gives_features(
    tmp_path: Path, state: dict[str, Tensor], ours: TensorFlowInception
) -> None:
    torch.save(inception_layout(counted=True), tmp_path / "inception.pth")
    found = TensorFlowInception()
    found.load_weights(tmp_path / "inception.pth")
    given = found(pictures())
    assert given.shape == (1, 2048)
    assert given.isfinite().all()
    assert given.std() > 0.01
    assert torch.equal(found.own_state()["network.Conv2d_1a_3x3.conv.weight"], state["Conv2d_1a_3x3.conv.weight"])
    assert torch.equal(ours(pictures()), given)
    assert torch.equal(ours(prepare(pictures())), given)


def test_the_layout_fills_the_published_size() -> None:
    # The file's size is known. What names and PyTorch's frame take beside the numbers is some 150 bytes for each entry.
    size = find_entry(WEIGHTS).size
    assert size is not None
    state = inception_layout(counted=True)
    beside = size - sum(value.numel() * value.element_size() for value in state.values())
    assert 100 * len(state) < beside < 200 * len(state)


def test_loading_is_strict(tmp_path: Path, state: dict[str, Tensor], ours: TensorFlowInception) -> None:
    own = ours.own_state()
    wrong = {
        "classifier.weight is": {**state, "fc.weight": torch.zeros(1000, 2048)},
        "network.Mixed_7c.branch1x1.bn.bias is missing": {
            k: v for k, v in state.items() if k != "Mixed_7c.branch1x1.bn.bias"
        },
        "network.further is": {**state, "further": torch.zeros(1)},
        "torchvision's Inception v3": {**state, "AuxLogits.fc.weight": torch.zeros(1)},
        "holds nothing": {},
    }
    for said, given in wrong.items():
        with pytest.raises(ZooError, match=said):
            ours.load_weights(given)
    torch.save({"network": 3}, tmp_path / "other.pth")
    with pytest.raises(ZooError, match="does not hold pytorch-fid's Inception: it holds network"):
        ours.load_weights(tmp_path / "other.pth")
    assert all(torch.equal(value, own[key]) for key, value in ours.own_state().items())


def test_it_is_torchvision_s_network_but_for_its_poolings(state: dict[str, Tensor], ours: TensorFlowInception) -> None:
    theirs = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False).eval()
    theirs.load_state_dict(state, strict=False)
    generator = torch.Generator().manual_seed(2)
    compared = 0
    for name, block in theirs.named_children():
        mine = ours.network.get_submodule(name)
        if name.startswith("Conv2d"):
            x = torch.randn(1, block.conv.in_channels, 9, 9, generator=generator)
            torch.testing.assert_close(mine(x), block(x))
        elif name.startswith("Mixed"):
            first = next(layer for layer in block.modules() if isinstance(layer, torch.nn.Conv2d))
            x = torch.randn(1, first.in_channels, 9, 9, generator=generator)
            one, other = mine(x), block(x)
            pooled = block.branch_pool.conv.out_channels if hasattr(block, "branch_pool") else 0
            kept = one.shape[1] - pooled
            torch.testing.assert_close(one[:, :kept], other[:, :kept])
            inside = (one - other)[:, kept:, 1:-1, 1:-1].abs().amax() if pooled else torch.tensor(0.0)
            # Averages differ at the border, where theirs count zeros beyond it; the last block takes maxima.
            assert (inside < 1e-5) == (name != "Mixed_7c"), name
            if pooled:
                assert not torch.allclose(one[:, kept:], other[:, kept:])
        else:
            continue
        compared += 1
    assert compared == 16


def test_pictures_are_resized_without_antialiasing() -> None:
    stripes = torch.zeros(1, 3, 598, 598, dtype=torch.uint8)
    stripes[..., ::2] = 255
    seen = prepare(stripes)
    assert seen.shape == (1, 3, 299, 299)
    torch.testing.assert_close(seen, torch.zeros_like(seen), atol=1e-5, rtol=0)  # the two pixels around each middle
    stripes[..., 1::4] = 255  # four wide, three of them light: a filter that widens would see three quarters everywhere
    assert set(prepare(stripes)[0, 0, 0].round(decimals=3).tolist()) == {0.0, 1.0}
    white = prepare(torch.full((1, 3, 17, 31), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.ones_like(white))


def test_pooling_leaves_the_border_out_and_ends_with_maxima() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 6, 5, 5)
    block = _BlockA(6, pool_features=4).eval()
    inside = (
        F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        * 9
        / F.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=1)
    )
    torch.testing.assert_close(block(x)[:, -4:], block.branch_pool(inside))
    last = _LastBlock(6).eval()
    torch.testing.assert_close(last(x)[:, -192:], last.branch_pool(F.max_pool2d(x, 3, 1, 1)))

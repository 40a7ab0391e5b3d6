"""TensorFlow's Inception: the layout of pytorch-fid's file, and where it departs from torchvision's network."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import Inception3

from zoo.errors import ZooError
from zoo.experts.inception_tensorflow import TensorFlowInception, _BlockA, _LastBlock


def pictures() -> Tensor:
    return torch.randint(0, 256, (1, 3, 40, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_file_of_the_published_layout_loads_and_gives_features() -> None:
    with torch.device("meta"):
        layout = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False).state_dict()
    generator = torch.Generator().manual_seed(1)
    state = {
        key: torch.rand(value.shape, generator=generator) * (0.05 if value.ndim > 1 else 1.0)
        for key, value in layout.items()
        if not key.endswith("num_batches_tracked")
    }
    ours = TensorFlowInception()
    before = ours(pictures())
    ours.load_weights(state)
    after = ours(pictures())
    assert before.shape == after.shape == (1, 2048)
    assert not torch.equal(before, after)
    assert torch.equal(ours.own_state()["network.Conv2d_1a_3x3.conv.weight"], state["Conv2d_1a_3x3.conv.weight"])
    with pytest.raises(ZooError, match="not of this TensorFlowInception"):
        ours.load_weights({**state, "fc.weight": torch.zeros(1000, 2048)})
    with pytest.raises(ZooError, match="none at all"):
        ours.load_weights({})


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

"""Composition with an attention map, and how well a map finds an object."""

import pytest
import torch

from zoo.blocks.attention import attention_iou, compose
from zoo.errors import ZooError


def test_ones_give_the_translation_and_zeros_the_source_exactly() -> None:
    translation, source = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5, 7)
    assert torch.equal(compose(torch.ones(2, 1, 5, 7), translation, source), translation)
    assert torch.equal(compose(torch.zeros(2, 1, 5, 7), translation, source), source)


def test_one_map_counts_for_all_colours() -> None:
    attention = torch.tensor([[[[0.25, 1.0]]]])
    translation, source = torch.ones(1, 3, 1, 2), torch.tensor([0.0, 2.0, 4.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    expected = torch.tensor([[0.25, 1.0], [1.75, 1.0], [3.25, 1.0]]).view(1, 3, 1, 2)
    torch.testing.assert_close(compose(attention, translation, source), expected)


def test_iou_of_each_picture() -> None:
    mask = torch.zeros(4, 1, 4, 4)
    mask[:3, :, :2] = 1.0  # eight pixels each, and none
    attention = torch.zeros(4, 1, 4, 4)
    attention[0, :, :2] = 0.9  # the object
    attention[1, :, 1:3] = 0.51  # half of it, and as much beside it
    attention[2, :, :, :] = 0.5  # not above the threshold
    assert attention_iou(attention, mask).tolist() == pytest.approx([1.0, 4 / 12, 0.0, 1.0])
    assert attention_iou(attention, mask, threshold=0.4).tolist() == pytest.approx([1.0, 4 / 12, 0.5, 1.0])
    assert attention_iou(attention, mask, threshold=0.8).tolist() == pytest.approx([1.0, 0.0, 0.0, 1.0])


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ZooError, match=r"\(2, 1, 4, 4\) can't be compared with masks \(2, 1, 8, 8\)"):
        attention_iou(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 8, 8))

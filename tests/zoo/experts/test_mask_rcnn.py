"""Mask R-CNN with random weights: the published ones are not needed to know that the network is torchvision's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn

from zoo.errors import ZooError
from zoo.experts.mask_rcnn import CLASSES, COLOURS, WEIGHTS, MaskRCNN, paint
from zoo.weights.fetch import find_entry

SIDE = 64
COLOUR = torch.tensor(COLOURS, dtype=torch.uint8)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    network = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=SIDE, max_size=2 * SIDE, box_score_thresh=0.0
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_(std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def ours(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> MaskRCNN:
    path = tmp_path_factory.mktemp("weights") / "mask_rcnn.pth"
    torch.save(theirs.state_dict(), path)
    expert = MaskRCNN(pretrained=False, threshold=0.0, side=SIDE, batch_size=1)
    expert.load_weights(path)
    return expert


def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_the_network_is_torchvisions(theirs: nn.Module, ours: MaskRCNN) -> None:
    assert sum(p.numel() for p in ours.parameters()) == MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    assert len(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]) == CLASSES
    images = list(
        pictures().double() / 255
    )  # frozen and plain batch norms round otherwise: in float64 that is far away
    there, here = (network.double()(images) for network in (theirs, ours.network))
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(b["boxes"], a["boxes"])
        torch.testing.assert_close(b["masks"], a["masks"])
    ours.float()
    maps = ours.instance_maps(pictures())
    assert (maps.dtype, maps.shape) == (torch.uint8, (2, 3, 48, 48))
    (alone,) = ours.network([pictures()[1] / 255])
    assert torch.equal(maps[1], paint(alone["masks"][:, 0] > 0.5, COLOUR))


def test_the_catalogue_names_torchvisions_file() -> None:
    entry = find_entry(WEIGHTS)
    assert entry.urls == (MaskRCNN_ResNet50_FPN_Weights.COCO_V1.url,)
    assert entry.sha256_prefix == entry.file.rpartition("-")[2].removesuffix(".pth")


def test_the_surest_object_lies_on_top() -> None:
    masks = torch.zeros(9, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, 1:3], masks[8, 3, 3] = True, True, True
    picture = paint(masks, COLOUR)
    assert picture[:, 0, 0].tolist() == picture[:, 1, 1].tolist() == list(COLOURS[0])
    assert picture[:, 2, 0].tolist() == list(COLOURS[1])
    assert picture[:, 3, 0].tolist() == [0, 0, 0]
    assert picture[:, 3, 3].tolist() == list(COLOURS[1]), "colours begin again"
    assert paint(masks[:0], COLOUR).sum() == 0


def test_it_is_an_expert(ours: MaskRCNN) -> None:
    assert not ours.state_dict()
    assert not any(p.requires_grad for p in ours.parameters())
    assert not ours.train().training


def test_other_weights_are_refused(ours: MaskRCNN, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(ZooError, match="not of this MaskRCNN"):
        ours.load_weights(tmp_path / "other.pth")
    torch.save({"step": 3}, tmp_path / "no_state.pth")
    with pytest.raises(ZooError, match="no state dict of Mask R-CNN: it holds step"):
        ours.load_weights(tmp_path / "no_state.pth")


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    (sentence,) = MaskRCNN.missing({})
    assert "lightning download mask_rcnn" in sentence
    assert MaskRCNN.missing({"pretrained": False}) == []
    with pytest.raises(ZooError, match="ZOO_OFFLINE"):
        MaskRCNN(side=SIDE)

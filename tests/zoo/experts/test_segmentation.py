"""Segmentation networks with random weights: the published ones are not needed to know that the networks are torchvision's."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import (
    DeepLabV3_ResNet50_Weights,
    LRASPP_MobileNet_V3_Large_Weights,
    deeplabv3_resnet50,
    lraspp_mobilenet_v3_large,
)

from zoo.errors import ZooError
from zoo.experts.segmentation import NETWORKS, PUBLISHED_CLASSES, SegmentationNetwork
from zoo.weights.fetch import find_entry

PUBLISHED = {
    "deeplabv3_resnet50": DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    "lraspp_mobilenet_v3_large": LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalogue_has_torchvisions_files(name: str) -> None:
    entry, published = find_entry(name), PUBLISHED[name]
    assert entry.urls == (published.url,)
    assert published.url.endswith(f"-{entry.sha256_prefix}.pth")
    assert len(published.meta["categories"]) == PUBLISHED_CLASSES
    more = {"aux_loss": True} if name.startswith("deeplab") else {}
    with torch.device("meta"):
        network = NETWORKS[name](weights=None, weights_backbone=None, **more)
    assert sum(p.numel() for p in network.parameters()) == published.meta["num_params"]


@torch.no_grad()
def test_labels_are_what_torchvision_finds(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "five.pth")
    ours = SegmentationNetwork.of_file(tmp_path / "five.pth", "lraspp_mobilenet_v3_large", side=64)
    assert ours.classes == 5
    image = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    prepared = PUBLISHED["lraspp_mobilenet_v3_large"].transforms(resize_size=64)(image)
    assert torch.equal(ours.label_maps(image), theirs(prepared)["out"].argmax(1).to(torch.uint8))
    large = torch.nn.functional.interpolate(image.float(), scale_factor=2.0).to(torch.uint8)
    assert ours.label_maps(large).shape == (2, 128, 192)
    assert not any(p.requires_grad for p in ours.parameters())
    assert not nn.Sequential(ours).state_dict()


def test_the_auxiliary_head_is_left_out(tmp_path: Path) -> None:
    state = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=2, aux_loss=True).state_dict()
    torch.save(state, tmp_path / "two.pth")
    expert = SegmentationNetwork.of_file(tmp_path / "two.pth", "deeplabv3_resnet50")
    assert torch.equal(expert.own_state()["network.classifier.4.bias"], state["classifier.4.bias"])
    del state["classifier.4.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ZooError, match=r"classifier\.4\.bias is missing"):
        SegmentationNetwork.of_file(tmp_path / "short.pth", "deeplabv3_resnet50")
    with pytest.raises(ZooError, match="is no lraspp_mobilenet_v3_large"):
        SegmentationNetwork.of_file(tmp_path / "two.pth", "lraspp_mobilenet_v3_large")


def test_what_is_refused() -> None:
    with pytest.raises(ZooError, match="no segmentation network 'unet'"):
        SegmentationNetwork("unet", pretrained=False)  # type: ignore[arg-type]
    with pytest.raises(ZooError, match="tell 21 classes apart, not 3"):
        SegmentationNetwork(classes=3)

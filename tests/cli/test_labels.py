"""Labels of pictures by a segmentation network, and a training on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Landscapes
from support.commands import lightning
from support.pictures import make_folder, pixels
from zoo.experts.segmentation import SegmentationNetwork

NETWORK = "lraspp_mobilenet_v3_large"
CLASSES = 4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of four classes."""
    path = tmp_path_factory.mktemp("weights") / "four.pth"
    state = SegmentationNetwork(NETWORK, CLASSES, pretrained=False).own_state()
    generator = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    torch.save({key.removeprefix("network."): value for key, value in state.items()}, path)
    return path


def pile(folder: Path) -> Path:
    make_folder(folder, 2, 40, 60)
    return make_folder(folder / "below", 1, 50, 40, start=5, suffix=".jpg").parent


def test_labels_lie_where_a_training_looks_for_them(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, labels = pile(tmp_path / "pile"), tmp_path / "labels"
    words = ["labels", pictures, "--output", labels, "--network", NETWORK, "--weights", weights, "--side", 64]
    assert lightning(*words) == 0
    said = capsys.readouterr().out
    assert f"--data.labels {labels} --data.classes {CLASSES} --model.mask_channels {CLASSES}" in said
    assert sorted(str(path.relative_to(labels)) for path in labels.rglob("*.png")) == [
        "000.png",
        "001.png",
        "below/000.png",
    ]
    network = SegmentationNetwork.of_file(weights, NETWORK, 64)
    image = torch.from_numpy(pixels(40, 60, 1).copy()).permute(2, 0, 1)[None]
    assert np.array_equal(np.asarray(Image.open(labels / "001.png")), network.label_maps(image)[0].numpy())
    data = Landscapes(str(pictures), labels=str(labels), classes=CLASSES, size=32, batch_size=1, workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["source_labels"].shape == (1, 32, 32)
    assert batch["source_labels"].max() < CLASSES
    before = (labels / "000.png").stat().st_mtime_ns
    (labels / "001.png").unlink()
    assert lightning(*words) == 0
    assert "2 of 3 pictures have labels already" in capsys.readouterr().out
    assert (labels / "000.png").stat().st_mtime_ns == before
    assert (labels / "001.png").is_file()
    assert lightning(*words, "--overwrite") == 0
    assert (labels / "000.png").stat().st_mtime_ns > before


def test_a_picture_that_cannot_be_read_is_left_out(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = pile(tmp_path / "pile")
    (pictures / "bad.png").write_text("no picture")
    words = ["labels", pictures, "--output", tmp_path / "labels", "--network", NETWORK, "--weights", weights]
    assert lightning(*words, "--side", 32) == 1
    assert "left out" in capsys.readouterr().err
    assert len(list((tmp_path / "labels").rglob("*.png"))) == 3


def test_mistakes_are_answered(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    pictures = pile(tmp_path / "pile")
    (tmp_path / "empty").mkdir()
    twins = make_folder(tmp_path / "twins", 1)
    Image.fromarray(pixels()).save(twins / "000.jpg")
    out = ["--output", tmp_path / "labels"]
    for words, message in (
        ([pictures, *out], "deeplabv3_resnet50_coco-cd0a2569.pth"),
        ([pictures, *out, "--network", "deeplabv3_resnet50", "--weights", weights], "is no deeplabv3_resnet50"),
        ([pictures, *out, "--side", 8], "expected at least 32 pixels"),
        ([tmp_path / "nowhere", *out], "is no folder of pictures"),
        ([tmp_path / "empty", *out], "holds no picture"),
        ([pictures, "--output", pictures / "labels"], "would be taken for pictures"),
        ([pictures, "--output", weights], "is a file"),
        ([twins, *out, "--weights", weights], "would share the labels"),
    ):
        assert lightning("labels", *words) == 2, message
        assert message in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()

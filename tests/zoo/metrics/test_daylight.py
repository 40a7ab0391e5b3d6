"""The judge of landscapes tells a translator from what is none."""

import math

import pytest
import torch
from torch import Tensor

from datamodules import Scenes
from zoo.errors import ZooError
from zoo.metrics.daylight import NAMES, DaylightTally, format_daylight, nearest_region_iou, region_means, tone_choice


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    data = Scenes(task="daylight", batch_size=48, validation_count=48)
    return data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)


def judged(batch: dict[str, Tensor], images: Tensor, parts: int = 1) -> dict[str, float]:
    tally = DaylightTally()
    keys = ("source", "target", "counterpart", "source_labels", "target_light")
    for rows in torch.arange(len(images)).chunk(parts):
        tally.update(images[rows], *(batch[key][rows] for key in keys))
    return tally.compute()


def test_the_truth_is_best_and_baselines_fail_each_in_its_way(batch: dict[str, Tensor]) -> None:
    report = judged(batch, batch["counterpart"])
    assert report["tone_error"] == report["error"] == 0
    assert report["psnr"] == math.inf
    assert report["tone_choice"] == 1
    assert report["label_iou"] == report["counterpart/label_iou"] > 0.6
    assert report["identity/label_iou"] > 0.6  # everything is in its place,
    assert abs(report["identity/tone_choice"] - 0.5) < 0.1  # in the wrong light
    assert report["exemplar/label_iou"] < report["label_iou"] - 0.15
    assert report["mean_image/label_iou"] < report["label_iou"] - 0.15
    for name in ("identity", "exemplar", "mean_image"):
        assert report[f"{name}/tone_error"] > 0.05
        assert report[f"{name}/psnr"] < 25
    noise = judged(batch, torch.rand(batch["source"].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert noise["label_iou"] < 0.4
    assert noise["tone_error"] > 0.1
    assert set(NAMES) <= report.keys()


def test_the_result_does_not_depend_on_batches(batch: dict[str, Tensor]) -> None:
    images = 0.5 * (batch["counterpart"] + batch["source"])
    assert judged(batch, images) == judged(batch, images, parts=5)


def test_figures_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1, 1]]])
    picture = torch.tensor([[0.0, 0.2, 1.0, 0.1]]).expand(1, 3, 1, 4)
    means = region_means(picture.double(), labels)
    assert means[0, :, 0].tolist() == pytest.approx([0.1, 0.55, 0.0])
    there = torch.tensor([[True, True, False]])
    assert nearest_region_iou(picture.double(), means, labels, there).tolist() == pytest.approx([(2 / 3 + 1 / 2) / 2])
    # Two pictures of grey 0.5 under lights 1 and 0.5: what comes out is what the own light gives, then what the other's gives.
    lights = torch.tensor([1.0, 0.5]).double()[:, None, None].expand(2, 3, 3)
    wanted = 0.5 * lights
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    assert tone_choice(wanted, wanted, lights, everywhere) == 1
    assert tone_choice(wanted.flip(0), wanted, lights, everywhere) == 0
    assert tone_choice(torch.full_like(wanted, 0.375), wanted, lights, everywhere) == 0.5


def test_bad_numbers_and_bad_shapes(batch: dict[str, Tensor]) -> None:
    broken = torch.full_like(batch["source"], torch.nan)
    assert 0 < judged(batch, broken)["tone_error"] < 1
    with pytest.raises(ZooError, match="sources must be"):
        DaylightTally().update(
            *(batch["source"][:, :, 1:], *[batch["source"]] * 3), batch["source_labels"], batch["target_light"]
        )
    with pytest.raises(ZooError, match="seen no landscapes"):
        DaylightTally().compute()


def test_the_table_has_a_column_each(batch: dict[str, Tensor]) -> None:
    table = format_daylight(judged(batch, batch["source"]))
    assert table.splitlines()[0].split("  ")[-1].strip() == "true counterpart"
    assert "label IoU" in table
    assert "48 rendered landscapes" in table

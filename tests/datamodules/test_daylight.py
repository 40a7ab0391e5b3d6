"""Rendered landscapes: pure functions of (seed, index), in a light that is known."""

import numpy as np
import pytest
import torch

from datamodules import Scenes
from datamodules.errors import DataError
from datamodules.scene_daylight import DAYLIGHT, REGIONS, DaylightMaker, draw_daylight, light_of
from datamodules.scenes import FIRST_SAMPLE

RECORDED = [
    [0.46858710050582886, 0.11863438040018082, 0.7944474816322327],
    [0.9554116725921631, 0.6481093764305115, 0.8775606155395508],
]


def landscapes(**arguments: object) -> Scenes:
    return Scenes(**{"task": "daylight", "batch_size": 4, "validation_count": 8, **arguments})  # type: ignore[arg-type]


def test_two_pictures_of_one_landscape_differ_by_the_light_alone() -> None:
    maker = DaylightMaker(64, 3)
    for index in range(6):
        styles = maker.style(index), maker.style(index + 100)
        (one, other), labels, mask = maker.paint(index, *styles)
        lights = torch.from_numpy(light_of(np.stack(styles)))
        assert labels.unique().tolist() == [0, 1, 2]
        for region in range(len(REGIONS)):
            inside = labels == region
            # What a place gives back is the picture divided by the light, whatever the light; soft edges mix two regions.
            inner = -torch.nn.functional.max_pool2d(-inside.float()[None], 5, 1, 2)[0] > 0
            inner &= mask[0] == (1 if region == 2 else 0)
            given = [
                image[:, inner].float() / 255 / light[region][:, None]
                for image, light in zip((one, other), lights, strict=True)
            ]
            tolerance = 1 / 255 / float(lights[:, region].min())
            assert (given[0] - given[1]).abs().max() <= tolerance
        assert ((mask[0] > 0.6) <= (labels == 2)).all()


def test_light_follows_the_style() -> None:
    dark, bright, warm = light_of(np.array([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5], [0.9, 1.0, 0.5]], np.float32))
    assert (bright[:2] > dark[:2]).all()
    assert warm[0, 0] / warm[0, 2] > bright[0, 0] / bright[0, 2]
    drawn = light_of(draw_daylight(0, np.arange(500)))
    assert drawn.shape == (500, len(REGIONS), 3)
    assert drawn.min() > 0.05
    assert drawn.max() <= 1, "nothing is brighter than what a picture can hold, so no tone is cut off"
    assert len(DAYLIGHT) == 3


def test_batches_and_their_truth() -> None:
    data = landscapes()
    train = next(iter(data.train_dataloader()))
    assert set(train) == {"source", "target", "source_labels", "target_labels"}
    assert train["source_labels"].shape == (4, 64, 64)
    assert train["source_labels"].dtype == torch.int64
    batch = next(iter(data.val_dataloader()))
    first, maker = FIRST_SAMPLE["validation"], data.daylight
    assert maker is not None
    (source, counterpart), labels, mask = maker.paint(2 * first, maker.style(2 * first), maker.style(2 * first + 1))
    (target,), target_labels, _ = maker.paint(2 * first + 1, maker.style(2 * first + 1))
    expected = {
        "source": source,
        "counterpart": counterpart,
        "target": target,
        "source_labels": labels,
        "target_labels": target_labels,
        "mask": mask,
        "counterpart_mask": mask,
        "target_light": torch.from_numpy(light_of(maker.style(2 * first + 1)[None])[0]),
        "source_light": torch.from_numpy(light_of(maker.style(2 * first)[None])[0]),
    }
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[key][0], value) for key, value in expected.items())
    ready = data.on_after_batch_transfer(batch, 0)
    assert ready["source"].dtype == torch.float32
    assert torch.equal(ready["source_labels"], batch["source_labels"]), "labels stay numbers"


def test_the_task_has_no_domains() -> None:
    data = landscapes()
    assert data.domains == ("daylight",)
    assert data.classes == 3
    assert Scenes().classes == 0
    assert data.describe()["labels"] == "sky, ground, object, the true ones"
    assert data.fingerprint() == landscapes(batch_size=2, domains=("plain", "dotted")).fingerprint()
    assert data.fingerprint() not in {landscapes(seed=1).fingerprint(), landscapes(size=32).fingerprint()}
    with pytest.raises(DataError, match="no domain 'source'"):
        data.domain_loader("source", 2)


def test_stages_and_seeds_share_no_landscape() -> None:
    pictures = set()
    for seed in (0, 1):
        data = landscapes(seed=seed, test_count=8, size=32)
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            batch = next(iter(loader))
            pictures |= {image.numpy().tobytes() for key in ("source", "target") for image in batch[key]}
    assert len(pictures) == 2 * 3 * 2 * 4


def test_the_numbers_behind_landscapes_never_change() -> None:
    # Recorded when this file was written: another machine or NumPy must give the same landscapes.
    assert draw_daylight(0, np.array([0, 2**41])) == pytest.approx(np.array(RECORDED))

"""The judge lets the truth pass, and a copier, an identity, a mean image and a noise maker fail, each in its own way."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules import Scenes
from zoo.errors import ZooError
from zoo.metrics.judge import WEIGHTS, Judge, Tally, format_table, object_iou, palette, shortcomings
from zoo.metrics.train_judge import LOOKS, Spoiler, examine, main

COUNT = 48


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(LOOKS)


def scenes(**arguments: Any) -> dict[str, Tensor]:
    """Fresh scenes of all looks: another seed than the judge was trained and examined with."""
    settings = {"task": "domains", "domains": LOOKS, "seed": 77, "batch_size": COUNT, "validation_count": COUNT}
    data = Scenes(**(settings | arguments))
    return data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    return scenes()


def verdict(judge: Judge, batch: dict[str, Tensor], images: Tensor, **more: Tensor) -> dict[str, float]:
    return judge.report(
        images,
        batch["image"],
        batch["counterpart"],
        batch["mask"],
        batch["reference_domain"],
        references=batch["reference"],
        **more,
    )


def test_the_shipped_judge_is_small_and_knows_its_own_figures(judge: Judge) -> None:
    assert WEIGHTS.stat().st_size < 500_000
    assert judge.figures["look_accuracy"] >= 0.99
    assert judge.figures["object_iou"] >= 0.95
    assert judge.figures["images"] >= 1000


@pytest.mark.parametrize("shapes", ["shared", "per_domain"])
def test_the_truth_of_unpaired_scenes_has_the_style_of_the_other_picture(shapes: str) -> None:
    """So the target of a batch is the exemplar of its source, for a room that takes exemplars."""
    batch = scenes(task="unpaired", domains=["plain", "striped"], shapes=shapes)
    report = Judge.load(["plain", "striped"]).report(
        batch["counterpart"],
        batch["source"],
        batch["counterpart"],
        batch["mask"],
        "striped",
        references=batch["target"],
        counterpart_masks=batch["counterpart_mask"],
    )
    assert report["style_choice"] >= 0.95
    assert report["style_distance"] < 0.5 * report["style_distance_others"]
    assert report["identity/style_choice"] < 0.7


def test_its_figures_hold_on_fresh_scenes(judge: Judge, batch: dict[str, Tensor]) -> None:
    images = torch.cat((batch["image"], batch["reference"], batch["counterpart"]))
    looks = torch.cat((batch["domain"], batch["reference_domain"], batch["reference_domain"]))
    assert (judge.name_looks(images) == looks).double().mean() >= 0.99
    masks = torch.cat((batch["mask"], batch["mask"]))
    assert object_iou(judge.find(torch.cat((batch["image"], batch["counterpart"]))), masks).mean() >= 0.95


def test_it_bears_imperfect_pictures_and_refuses_hopeless_ones(judge: Judge, batch: dict[str, Tensor]) -> None:
    figures = examine(judge, [(batch["image"], batch["domain"], batch["mask"])], seed=5)
    assert figures["imperfect_look_accuracy"] >= 0.93
    assert figures["imperfect_object_iou"] >= 0.88
    assert figures["refused"] >= 0.93


@pytest.mark.parametrize(("size", "accuracy", "iou"), [(32, 0.9, 0.88), (128, 0.99, 0.95), (256, 0.99, 0.95)])
def test_it_judges_other_sizes(judge: Judge, size: int, accuracy: float, iou: float) -> None:
    other = scenes(size=size, batch_size=32, validation_count=32)
    report = verdict(judge, other, other["counterpart"])
    assert report["style_accuracy"] >= accuracy
    assert report["object_iou"] >= iou


def test_the_truth_passes(judge: Judge, batch: dict[str, Tensor]) -> None:
    report = verdict(judge, batch, batch["counterpart"])
    assert report["style_accuracy"] >= 0.99
    assert report["object_iou"] >= 0.95
    assert report["error"] == report["background_change"] == 0
    assert report["psnr"] == math.inf
    assert report["style_choice"] >= 0.95
    assert report["style_distance"] < 0.5 * report["style_distance_others"]
    assert shortcomings(report) == []
    assert {name: report[f"counterpart/{name}"] for name in ("style_accuracy", "object_iou")} == {
        name: report[name] for name in ("style_accuracy", "object_iou")
    }


def test_an_identity_fails_by_its_look(judge: Judge, batch: dict[str, Tensor]) -> None:
    report = verdict(judge, batch, batch["image"])
    assert report["style_accuracy"] <= 0.02
    assert report["object_iou"] >= 0.95
    assert report["background_change"] == 0
    assert report["style_choice"] < 0.7
    assert [text.split()[-3] for text in shortcomings(report)] == ["look,"]
    for name in ("style_accuracy", "object_iou", "error", "psnr", "style_distance", "style_choice"):
        assert report[f"identity/{name}"] == pytest.approx(report[name]), name


def test_a_copier_of_exemplars_fails_by_object_and_background(judge: Judge, batch: dict[str, Tensor]) -> None:
    report = verdict(judge, batch, batch["reference"])
    assert report["style_accuracy"] >= 0.99
    assert report["object_iou"] <= 0.45
    assert report["background_change"] >= 0.1
    assert len(shortcomings(report)) == 2
    assert report["exemplar/error"] == pytest.approx(report["error"])


def test_a_mean_image_fails_by_everything(judge: Judge, batch: dict[str, Tensor]) -> None:
    for images in (
        batch["counterpart"].mean(0, keepdim=True).expand_as(batch["image"]),
        torch.zeros_like(batch["image"]),
    ):
        report = verdict(judge, batch, images)
        assert report["style_accuracy"] <= 0.02
        assert report["object_iou"] <= 0.3
        assert len(shortcomings(report)) >= 2
    assert report["mean_image/style_accuracy"] <= 0.02
    assert report["mean_image/object_iou"] <= 0.3


def test_noise_fails_by_everything(judge: Judge, batch: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = batch["image"].shape
    for noise in (
        2 * torch.rand(shape, generator=generator) - 1,
        torch.randn(shape, generator=generator),
        torch.full(shape, math.nan),
    ):
        report = verdict(judge, batch, noise)
        assert report["style_accuracy"] <= 0.05
        assert report["object_iou"] <= 0.2
        assert len(shortcomings(report)) == 3


def test_half_done_work_is_seen(judge: Judge, batch: dict[str, Tensor]) -> None:
    """A true object on a repainted background, a shifted object, and a look in the wrong place all show."""
    repainted = torch.where(batch["mask"] > 0, batch["counterpart"], 0.2 * batch["counterpart"] + 0.3)
    report = verdict(judge, batch, repainted)
    assert report["style_accuracy"] >= 0.85
    assert report["background_change"] > 0.05
    shifted = verdict(judge, batch, batch["counterpart"].roll((9, 9), (2, 3)))
    assert shifted["object_iou"] < 0.6
    at = torch.arange(64)
    stripes = (0.8 * (1 - 2 * (at // 5 % 2))).expand(COUNT, 3, 64, 64)
    plain = batch["domain"] == 0
    outside = torch.where(batch["mask"] > 0, batch["image"], (batch["image"] + 0.4 * stripes).clamp(-1, 1))
    assert (judge.name_looks(outside[plain]) == 1).double().mean() < 0.1, "stripes around a plain object are no look"
    assert (judge.name_looks(stripes) >= 0).double().mean() == 0, "a pattern over the whole picture is no look"


def test_the_result_does_not_depend_on_batches(judge: Judge, batch: dict[str, Tensor]) -> None:
    images = 0.7 * batch["counterpart"] + 0.3 * batch["image"]
    whole, parts = Tally(judge), Tally(judge)

    def update(tally: Tally, rows: slice) -> None:
        part = {key: value[rows] for key, value in batch.items()}
        tally.update(
            images[rows],
            part["image"],
            part["counterpart"],
            part["mask"],
            part["reference_domain"],
            references=part["reference"],
            attention=part["mask"],
        )

    update(whole, slice(0, COUNT))
    for start, stop in ((0, 5), (5, 6), (6, 60), (60, COUNT)):
        update(parts, slice(start, stop))
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-6)
    assert whole.compute()["attention_iou"] == 1
    assert whole.compute()["images"] == COUNT


def test_figures_of_hand_made_pictures(judge: Judge) -> None:
    """Errors, background and mean image, worked out by hand on flat pictures."""
    source, truth = torch.full((2, 3, 64, 64), -1.0), torch.zeros(2, 3, 64, 64)
    truth[1] = 0.4
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    images = truth + 0.2
    report = judge.report(images, source, truth, mask, "striped")
    assert report["error"] == pytest.approx(0.1)
    assert report["psnr"] == pytest.approx(20, abs=1e-4)
    assert report["background_change"] == pytest.approx((0.6 + 0.8) / 2)
    assert report["identity/error"] == pytest.approx((0.5 + 0.7) / 2)
    assert report["mean_image/error"] == pytest.approx(0.1, abs=2 / 255)
    assert "style_distance" not in report
    assert "exemplar/error" not in report
    wide = torch.ones(2, 1, 64, 64)
    moved = judge.report(images, source, truth, mask, 1, attention=wide, counterpart_masks=wide)
    assert moved["background_change"] == 0
    assert moved["attention_iou"] == 0.5


def test_the_palette_measures_colours_and_frequency() -> None:
    image, mask = torch.full((2, 3, 64, 64), -1.0), torch.zeros(2, 1, 64, 64)
    mask[:, :, 8:56, 8:56] = 1
    red, blue = torch.tensor([1.0, 0.2, 0.0]), torch.tensor([0.0, 0.0, 0.6])
    for row, period in ((0, 16), (1, 8)):
        first = torch.arange(64) % period < period // 2
        image[row] = 2 * torch.where(first, red[:, None, None], blue[:, None, None]).expand(3, 64, 64) - 1
    measured = palette(image, mask).float()
    assert torch.allclose(measured[0, :3], red)
    assert torch.allclose(measured[0, 3:6], blue)
    assert measured[0, 6] == pytest.approx(0.5, abs=0.1)
    assert measured[1, 7] == pytest.approx(2 * measured[0, 7].item(), rel=0.2)


def test_looks_outside_the_domains_do_not_count(batch: dict[str, Tensor]) -> None:
    two = Judge.load(("striped", "plain"))
    named = two.name_looks(batch["image"])
    expected = torch.tensor([1, 0, -1, -1])[batch["domain"]]
    assert (named == expected).double().mean() >= 0.97


def test_the_table_shows_baselines_and_the_judge_itself(judge: Judge, batch: dict[str, Tensor]) -> None:
    table = format_table(verdict(judge, batch, batch["counterpart"], attention=batch["mask"]))
    lines = table.splitlines()
    assert lines[0].split() == ["translation", "identity", "pasted", "exemplar", "mean", "image", "true", "counterpart"]
    assert lines[1].startswith("style accuracy")
    assert len(lines) == 11
    assert lines[-1].startswith(f"{COUNT} images. The judge itself, on 2048 held-out scenes: style accuracy ")
    plain = format_table(judge.report(*[batch["image"]] * 3, batch["mask"], batch["domain"]))
    assert "attention" not in plain
    assert "exemplar nearer" not in plain


def wrong_calls() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"target_domain": "spotted"}, "'spotted' is not among the judged domains: plain"
    yield {"target_domain": 4}, r"numbers in 0..3"
    yield {"target_domain": torch.tensor([0])}, "must be 2 numbers"
    yield {"masks": torch.ones(2, 3, 64, 64)}, r"masks must be \(2, 1, 64, 64\).*found \(2, 3, 64, 64\)"
    yield {"sources": torch.zeros(2, 3, 32, 32)}, "sources must be"
    yield {"counterparts": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}, "counterparts must be floats"


@pytest.mark.parametrize(("wrong", "message"), list(wrong_calls()))
def test_wrong_arguments_are_answered(judge: Judge, wrong: dict[str, Any], message: str) -> None:
    zeros = torch.zeros(2, 3, 64, 64)
    call = {"sources": zeros, "counterparts": zeros, "masks": zeros[:, :1], "target_domain": 0}
    with pytest.raises(ZooError, match=message):
        judge.report(zeros, **(call | wrong))


def test_wrong_judges_are_answered(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"does not know the look 'furry'.*plain, striped, dotted, checked"):
        Judge.load(("plain", "furry"))
    with pytest.raises(ZooError, match=r"no judge at .*train_judge --out"):
        Judge.load(LOOKS, tmp_path / "absent.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ZooError, match="holds no judge"):
        Judge.load(LOOKS, tmp_path / "other.safetensors")
    with pytest.raises(ZooError, match="no images"):
        Tally(judge).compute()


def test_spoiling_is_seeded(batch: dict[str, Tensor]) -> None:
    first, second, other = (Spoiler(4, seed).imperfect(batch["image"], batch["mask"]) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_training_writes_the_same_judge_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    monkeypatch.setattr("zoo.metrics.train_judge.HELD_OUT_PAIRS", 16)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        main(["--iterations", "2", "--batch-size", "8", "--seed", "3", "--out", str(tmp_path / name)])
    assert torch.equal(state, torch.random.get_rng_state()), "training leaves the global generator alone"
    first, second = (Judge.load(LOOKS, tmp_path / name / WEIGHTS.name) for name in ("first", "second"))
    assert first.figures == second.figures
    assert first.figures["images"] == 32
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])

"""Scenes are pure functions of (seed, index), and everything said to be true of them is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Scenes
from datamodules.errors import DataError
from datamodules.scene_looks import FIXED_STYLES, LOOKS, SHAPE_OF_LOOK, SHAPES
from datamodules.scene_render import View, draw_content, draw_style, render, uniforms
from datamodules.scene_sheet import contact_sheet, save_contact_sheet
from datamodules.scenes import FIRST_SAMPLE, SceneMaker

ALL = tuple(LOOKS)
RECORDED = [
    [0.3350425609216934, 0.9825086362202393],
    [0.5077411748108546, 0.08834907358038169],
    [0.8860905859875086, 0.8350260021481162],
]


def maker(**changes: object) -> SceneMaker:
    return SceneMaker(**{"domains": ALL, "size": 64, "seed": 3, **changes})  # type: ignore[arg-type]


def test_the_numbers_behind_scenes_never_change() -> None:
    # Recorded when this file was written: another machine or NumPy must give the same scenes.
    assert uniforms(0, 0, np.array([0, 1, 2**41]), 2).tolist() == RECORDED
    u = uniforms(5, 1, np.arange(4000), 4)
    assert abs(u.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.05


def test_a_scene_does_not_depend_on_what_else_is_rendered() -> None:
    indices = np.arange(40)
    look = indices % len(LOOKS)

    def images(rows: slice) -> np.ndarray:
        content = draw_content(1, indices[rows])
        return render(content, [View(look[rows], draw_style(1, indices[rows]), content.shape)], 64)[0][0]

    together = images(slice(0, 40))
    alone = np.concatenate([images(slice(i, i + 1)) for i in range(40)])
    assert np.array_equal(together, alone)
    assert len(np.unique(together.reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize("other", range(1, 4))
def test_the_counterpart_keeps_the_content_and_changes_the_look_alone(other: int) -> None:
    scenes = maker()
    for index in range(12):
        scene, counterpart = scenes.paint(index, (0, scenes.style(index, 0)), (other, scenes.style(100 + index, other)))
        assert torch.equal(scene.mask, counterpart.mask)
        outside = (scene.mask == 0).expand(3, -1, -1)
        assert torch.equal(scene.image[outside], counterpart.image[outside])
        inside = (scene.mask == 1).expand(3, -1, -1)
        assert (scene.image[inside].float() - counterpart.image[inside].float()).abs().mean() > 20


def test_style_is_what_the_object_shows() -> None:
    scenes = maker()
    for index in range(8):
        plain = scenes.scene(index, 0)
        inside = plain.image[:, plain.mask[0] == 1].float() / 255
        assert torch.allclose(inside, torch.from_numpy(plain.style[:3])[:, None].float(), atol=1 / 255)
        for domain in (1, 2, 3):
            scene = scenes.scene(index, domain)
            colours = scene.image[:, scene.mask[0] == 1].float().T / 255
            for colour in (scene.style[:3], scene.style[3:6]):
                assert (colours - torch.from_numpy(colour)).abs().amax(1).min() < 2 / 255


def test_stripes_have_the_frequency_and_direction_of_the_object() -> None:
    index = np.array([0])
    content = draw_content(0, index)
    content.centre[:], content.extent[:], content.turn[:] = 0.5, 0.45, 0.0
    style = np.array([[1, 0, 0, 0, 1, 0, 6, 0]], np.float32)
    ellipse = np.array([list(SHAPES).index("ellipse")])
    (image,), _ = render(content, [View(np.array([list(LOOKS).index("striped")]), style, ellipse)], 256)
    row = image[0, 0, 128, 32:224] > 127  # three quarters of the width
    assert np.count_nonzero(row[1:] != row[:-1]) == pytest.approx(2 * 6 * 0.75, abs=1)
    column = image[0, 0, 64:192, 128] > 127
    assert np.count_nonzero(column[1:] != column[:-1]) == 0


def test_a_scene_is_the_same_at_every_size() -> None:
    small, large = (maker(size=size).scene(7, 1) for size in (64, 256))
    pooled = torch.nn.functional.avg_pool2d(large.image.float(), 4)
    assert (pooled - small.image.float()).abs().mean() < 3
    assert (torch.nn.functional.avg_pool2d(large.mask, 4) - small.mask).abs().max() < 0.35


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_visible_object(shape: str) -> None:
    content = draw_content(0, np.arange(200))
    view = View(np.zeros(200, np.int64), draw_style(0, np.arange(200)), np.full(200, list(SHAPES).index(shape)))
    _, (mask,) = render(content, [view], 64)
    area = mask.mean(axis=(1, 2, 3))
    assert area.min() > 0.035
    assert area.max() < 0.40
    edge = (mask > 0) & (mask < 1)
    assert edge.any(axis=(1, 2, 3)).all(), "edges are soft"


def test_shapes_tied_to_domains_keep_the_place() -> None:
    scenes = maker(shapes="per_domain")
    for index in range(6):
        views = scenes.paint(index, *((domain, scenes.style(index, domain)) for domain in range(4)))
        assert SHAPE_OF_LOOK["plain"] == "ellipse"
        at = torch.arange(64) + 0.5
        places = torch.stack([(v.mask[0].sum(0) * at).sum() / v.mask.sum() for v in views])
        assert (places - places[0]).abs().max() < 6
        assert not torch.equal(views[0].mask, views[1].mask)
        outside = ((views[0].mask == 0) & (views[1].mask == 0)).expand(3, -1, -1)
        assert torch.equal(views[0].image[outside], views[1].image[outside])


def test_fixed_styles_are_the_looks_own() -> None:
    scenes = maker(styles="fixed")
    assert np.array_equal(scenes.scene(0, 1).style, scenes.scene(9, 1).style)
    assert scenes.scene(0, 2).style.tolist() == pytest.approx(FIXED_STYLES["dotted"])


def test_unpaired_batches_and_their_truth() -> None:
    data = Scenes(batch_size=3, validation_count=5)
    train = next(iter(data.train_dataloader()))
    assert set(train) == {"source", "target"}
    assert train["source"].dtype == torch.uint8
    assert train["source"].shape == (3, 3, 64, 64)
    batches = list(data.val_dataloader())
    assert [len(batch["source"]) for batch in batches] == [3, 2]
    first, scenes = FIRST_SAMPLE["validation"], data.maker
    style = scenes.style(2 * first + 1, 1)
    source, counterpart = scenes.paint(2 * first, (0, scenes.style(2 * first, 0)), (1, style))
    assert torch.equal(batches[0]["source"][0], source.image)
    assert torch.equal(batches[0]["counterpart"][0], counterpart.image)
    assert torch.equal(batches[0]["mask"][0], source.mask)
    assert torch.equal(batches[0]["target"][0], scenes.paint(2 * first + 1, (1, style))[0].image)
    back = scenes.paint(2 * first + 1, (0, scenes.style(2 * first, 0)))[0]
    assert torch.equal(batches[0]["target_counterpart"][0], back.image)
    ready = data.on_after_batch_transfer(batches[0], 0)
    assert ready["source"].dtype == ready["mask"].dtype == torch.float32
    assert ready["counterpart"].min() >= -1
    assert ready["counterpart"].max() <= 1
    assert ready["mask"].min() == 0
    assert ready["mask"].max() == 1


def test_many_domains_judge_by_the_reference() -> None:
    data = Scenes(task="domains", domains=ALL, batch_size=64, validation_count=64)
    train = next(iter(data.train_dataloader()))
    assert set(train) == {"image", "domain", "reference", "reference2", "reference_domain"}
    assert set(train["domain"].tolist()) == set(range(4))
    assert (train["domain"] == train["reference_domain"]).any(), "as in StarGAN v2, both are drawn independently"
    batch = next(iter(data.val_dataloader()))
    assert batch["domain"].dtype == torch.int64
    assert (batch["domain"] != batch["reference_domain"]).all()
    outside = (batch["mask"] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(batch["image"][outside], batch["counterpart"][outside])
    i, scenes = FIRST_SAMPLE["validation"], data.maker
    domain = int(batch["reference_domain"][0])
    true = scenes.paint(3 * i, (domain, scenes.style(3 * i + 1, domain)))[0]
    assert torch.equal(batch["counterpart"][0], true.image)


def test_pairs_share_content_and_differ_in_domain() -> None:
    data = Scenes(task="pairs", domains=ALL, batch_size=16)
    for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))):
        assert (batch["x_domain"] != batch["y_domain"]).all()
        assert torch.equal(batch["x_mask"], batch["y_mask"])
        outside = (batch["x_mask"] == 0).expand(-1, 3, -1, -1)
        assert torch.equal(batch["x"][outside], batch["y"][outside])
        assert batch["image"].shape == batch["x"].shape
        assert batch["mask"].shape == (16, 1, 64, 64)


@pytest.mark.parametrize("key", ["source", "target"])
def test_one_pass_over_a_domain_shows_the_scenes_of_training(key: str) -> None:
    data = Scenes(batch_size=2, scenes_per_epoch=10, size=32)
    batches = list(data.domain_loader(key, 4))
    assert [len(batch[key]) for batch in batches] == [4, 4, 2]
    assert all(batch.keys() == {key} and batch[key].dtype == torch.uint8 for batch in batches)
    stream = iter(data.train_dataloader())
    trained = torch.cat([next(stream)[key] for _ in range(5)])
    assert torch.equal(torch.cat([batch[key] for batch in batches]), trained)
    assert len(list(data.domain_loader(key, 4, drop_last=True))) == 2
    assert len(list(data.domain_loader(key, 64, drop_last=True))) == 1, "one that is not full is better than none"


def test_scenes_without_two_domains_cannot_be_gone_through() -> None:
    with pytest.raises(DataError, match=r"task 'pairs' have no domain 'target'.*--data.task=unpaired"):
        Scenes(task="pairs").domain_loader("target", 4)
    with pytest.raises(DataError, match="no domain 'image'"):
        Scenes().domain_loader("image", 4)
    assert Scenes.missing({"task": "unpaired"}) == []


@pytest.mark.parametrize("task", ["unpaired", "domains", "pairs"])
def test_stages_and_seeds_share_no_scene(task: str) -> None:
    pictures = set()
    for seed in (0, 1):
        data = Scenes(task=task, batch_size=8, validation_count=8, test_count=8, seed=seed)  # type: ignore[arg-type]
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            batch = next(iter(loader))
            images = batch[{"unpaired": "source", "domains": "image", "pairs": "x"}[task]]
            pictures |= {image.numpy().tobytes() for image in images}
    assert len(pictures) == 2 * 3 * 8


def test_workers_change_nothing() -> None:
    streams = [iter(Scenes(batch_size=2, workers=workers).train_dataloader()) for workers in (0, 2)]
    for _ in range(4):
        without, with_workers = (next(stream) for stream in streams)
        assert torch.equal(without["source"], with_workers["source"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": ("plain", "spotted")}, "no look 'spotted'.*plain, striped, dotted, checked"),
        ({"domains": ("plain", "plain")}, "names a look twice"),
        ({"domains": ("plain", "striped", "dotted")}, "exactly two.*--data.task=domains"),
        ({"task": "domains", "domains": ("plain",)}, "at least two domains, found 1"),
        ({"task": "triples"}, "task is 'triples'; choose one of: unpaired, domains, pairs"),
        ({"shapes": "any"}, "shapes is 'any'"),
        ({"styles": "any"}, "styles is 'any'"),
        ({"size": 8}, "below 16 pixels"),
        ({"validation_count": 0}, "--data.validation_count"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments_are_answered_early(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scenes(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"size": 32}, {"styles": "fixed"}, {"shapes": "per_domain"}, {"domains": ("striped", "plain")}],
)
def test_the_fingerprint_tells_different_data_apart(change: dict[str, object]) -> None:
    assert Scenes().fingerprint() == Scenes(batch_size=9).fingerprint()
    assert Scenes().fingerprint() != Scenes(**change).fingerprint()  # type: ignore[arg-type]


def test_description_and_epoch() -> None:
    data = Scenes(scenes_per_epoch=100, batch_size=8)
    assert data.iterations_per_epoch == 12
    assert data.describe()["domains"] == "plain, striped"


def test_contact_sheet(tmp_path: Path) -> None:
    path = tmp_path / "scenes.png"
    save_contact_sheet(path, size=32)
    with Image.open(path) as sheet:
        assert np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(size=32)))
    assert [file.name for file in tmp_path.iterdir()] == ["scenes.png"]


def test_scenes_alone_may_have_one_look_and_know_their_objects() -> None:
    data = Scenes(task="alone", domains=("plain",), size=32)
    assert set(data.train_samples()(0)) == {"image", "domain"}
    sample = data.fixed_samples("test")[0]
    assert set(sample) == {"image", "domain", "mask"}
    assert sample["mask"].shape == (1, 32, 32)
    looks = {int(Scenes(task="alone", domains=("plain", "dotted")).train_samples()(i)["domain"]) for i in range(20)}
    assert looks == {0, 1}
    with pytest.raises(DataError, match="needs a domain, found 0"):
        Scenes(task="alone", domains=())

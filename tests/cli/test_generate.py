"""`lightning generate`: pairs of pictures on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from datamodules import BigGANPairs
from support.biggan import finished_run, official, registered, tiny
from support.commands import lightning
from zoo.biggan.pairs import PairGenerator
from zoo.cli import generate as command
from zoo.cli import pair_files, pair_scores
from zoo.cli.generate import correlation, device_name, quality_of, shard_of
from zoo.cli.pair_files import BLOCK, Quality
from zoo.core import files
from zoo.core.images import from_uint8
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.experts.vgg_classifier import VGGClassifier
from zoo.metrics.judge import Judge
from zoo.metrics.judge_networks import resized

DOMAINS = ["0_plain", "1_striped", "2_dotted"]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every number and domain that was drawn."""
    asked: list[tuple[int, int]] = []
    draw = PairGenerator.draw

    def listening(self: PairGenerator, numbers: Any, domains: Tensor) -> Tensor:
        asked.extend(zip(numbers, domains.tolist(), strict=True))
        return draw(self, numbers, domains)

    monkeypatch.setattr(PairGenerator, "draw", listening)
    return asked


def words(run: Run, out: Path, *more: object, per_domain: int = 6, keep: float | None = 1.0) -> list[object]:
    kept = [] if keep is None else ["--keep", keep]
    base = ["pairs", "--weights", run.folder, "--domains", "all", "--per-domain", per_domain, "--out", out]
    return [*base, "--statistics", "running", "--device", "cpu", *kept, *more]


def generated(run: Run, out: Path, *more: object, **options: Any) -> dict[str, Any]:
    assert lightning("generate", *words(run, out, *more, **options)) == 0
    return json.loads((out / "manifest.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*g")) if path.is_file()}


def test_the_layout_is_the_published_one_and_the_manifest_lists_it(run: Run, tmp_path: Path) -> None:
    manifest = generated(run, tmp_path / "out")
    there = content(tmp_path / "out")
    assert set(there) == {f"{domain}/{n}.png" for domain in DOMAINS for n in range(6)}
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in there.items()}
    assert manifest["complete"] is True
    assert manifest["settings"]["weights"] == hashlib.sha256(run.checkpoint_path(7).read_bytes()).hexdigest()
    assert manifest["settings"]["classes"] == {name: n for n, name in enumerate(DOMAINS)}
    with Image.open(tmp_path / "out" / "1_striped" / "3.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    source = PairGenerator(str(run.folder), ["all"], statistics="running")
    source.setup()
    assert int((source.draw([3], torch.tensor([1]))[0].int() - pixels.int()).abs().max()) <= 1
    assert not list((tmp_path / "out").rglob("*.part"))


def test_what_is_there_and_whole_is_not_drawn_again(run: Run, tmp_path: Path, drawn: list[tuple[int, int]]) -> None:
    before = generated(run, tmp_path / "out", "--batch-size", 3)
    assert len(drawn) == 18
    drawn.clear()
    assert generated(run, tmp_path / "out", "--batch-size", 3) == before
    assert drawn == []
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    (tmp_path / "out" / DOMAINS[0] / "2.png").unlink()
    damaged = tmp_path / "out" / DOMAINS[2] / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    other = tmp_path / "out" / DOMAINS[1] / "1.png"
    shutil.copy(tmp_path / "out" / DOMAINS[1] / "0.png", other)
    assert generated(run, tmp_path / "out", "--batch-size", 3) == before
    assert {number for number, _ in drawn} == {1, 2, 5}
    changed = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {tmp_path / "out" / DOMAINS[0] / "2.png", damaged, other}


def test_a_stopped_command_is_gone_on_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[int, int]]
) -> None:
    whole = generated(run, tmp_path / "whole", "--batch-size", 4, per_domain=30)
    written = pair_files.write_atomically
    count = 0

    def stopping(path: Path, data: bytes) -> None:
        nonlocal count
        count += path.suffix == ".png"
        if count == 70:
            raise KeyboardInterrupt
        written(path, data)

    monkeypatch.setattr(pair_files, "write_atomically", stopping)
    assert lightning("generate", *words(run, tmp_path / "out", "--batch-size", 4, per_domain=30)) == 130
    monkeypatch.setattr(pair_files, "write_atomically", written)
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"]
    there = len(content(tmp_path / "out"))
    drawn.clear()
    assert generated(run, tmp_path / "out", "--batch-size", 4, per_domain=30) == whole
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(drawn) < 90 - there + 8


def test_parts_make_the_whole_in_any_order(
    run: Run, tmp_path: Path, drawn: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = generated(run, tmp_path / "whole", per_domain=50, keep=0.5)
    total = len(drawn)
    drawn.clear()
    for part in ("3/3", "1/3"):
        assert not generated(run, tmp_path / "out", "--shard", part, per_domain=50, keep=0.5)["complete"]
    assert "Not complete yet" in capsys.readouterr().out
    assert generated(run, tmp_path / "out", "--shard", "2/3", per_domain=50, keep=0.5) == whole
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(drawn) == total


def test_more_can_be_asked_for_later_and_nothing_is_lost(
    run: Run, tmp_path: Path, drawn: list[tuple[int, int]]
) -> None:
    generated(run, tmp_path / "out", per_domain=4)
    first = content(tmp_path / "out")
    drawn.clear()
    generated(run, tmp_path / "out", per_domain=25)
    assert len(drawn) == 2 * BLOCK * 3, "a batch that is needed is drawn as a whole"
    assert first.items() <= content(tmp_path / "out").items()
    generated(run, tmp_path / "whole", per_domain=25)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(generated(run, tmp_path / "out", per_domain=4)["files"]) == 75


# Quality


def alone(names: Sequence[str] = ("7_bird", "9"), classes: int = 1000, judges: bool = False) -> Any:
    """As much of a source as is asked for: by default a published generator that came without a discriminator."""
    model = SimpleNamespace(classes=classes)
    return SimpleNamespace(judges=judges, weights="G.pth", model=model, names=lambda: list(names))


def test_the_best_of_every_block_are_kept_in_all_classes_together(run: Run, tmp_path: Path) -> None:
    manifest = generated(run, tmp_path / "out", per_domain=15, keep=0.5)
    latents = manifest["latents"]
    assert set(latents) == {str(n) for n in range(2 * BLOCK)}
    kept = sorted(int(n) for n, facts in latents.items() if facts["kept"])
    assert len(kept) == BLOCK, "a half of each block"
    assert set(content(tmp_path / "out")) == {f"{domain}/{n}.png" for domain in DOMAINS for n in kept[:15]}
    source = PairGenerator(str(run.folder), ["all"], statistics="running")
    source.setup()
    scores = torch.stack(
        [source.scores(source.draw(range(BLOCK), d), d) for n in range(3) for d in [torch.full((BLOCK,), n)]], 1
    )
    beaten = (scores[:, None] > scores[None]).double().mean(2).sum(1) / (BLOCK - 1)
    for n in range(BLOCK):
        assert latents[str(n)]["quality"] == pytest.approx(float(beaten[n]), abs=1e-5)
        assert latents[str(n)]["kept"] == (latents[str(n)]["rank"] <= BLOCK // 2)
    assert sorted(latents[str(n)]["rank"] for n in range(BLOCK)) == list(range(1, BLOCK + 1))


def test_without_room_in_memory_the_kept_are_drawn_twice_and_are_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[int, int]]
) -> None:
    once = generated(run, tmp_path / "once", keep=0.5)
    assert len(drawn) == 3 * BLOCK
    monkeypatch.setattr(pair_files, "KEPT_IN_MEMORY", 0)
    assert generated(run, tmp_path / "twice", keep=0.5) == once
    assert len(drawn) == 3 * 3 * BLOCK


def test_truncations_are_ranked_apart(run: Run, tmp_path: Path) -> None:
    manifest = generated(run, tmp_path / "out", "--truncation", 0.5, 1.0, keep=0.1, per_domain=4)
    kept = [facts["truncation"] for facts in manifest["latents"].values() if facts["kept"]]
    assert sorted(kept) == [0.5, 0.5, 1.0, 1.0]
    assert manifest["latents"]["0"]["truncation"] == 0.5
    assert manifest["latents"]["1"]["truncation"] == 1.0


def test_equals_are_ranked_by_their_numbers_and_classes_count_alike() -> None:
    judged = Quality(0.1).judge(range(40, 60), torch.zeros(20, 3))
    assert [number for number, facts in judged.items() if facts["kept"]] == [40, 41]
    one_bad_class = torch.tensor([[3.0, 3.0], [2.0, 2.0], [900.0, -9.0]])
    judged = Quality(0.05).judge([0, 1, 2], one_bad_class)
    assert [judged[number]["rank"] for number in range(3)] == [1, 3, 2]
    assert [judged[number]["quality"] for number in range(3)] == [0.75, 0.25, 0.5]


def test_the_default_filter_is_the_discriminator_where_there_is_one() -> None:
    with_one, without = alone(judges=True), alone()
    assert quality_of(with_one, "auto", None, None) == ("discriminator", Quality(command.KEPT_BY_DEFAULT))
    assert quality_of(with_one, "auto", None, 0.5) == ("discriminator", Quality(1.0, 0.5))
    assert quality_of(with_one, "none", None, None) == ("none", None)
    assert quality_of(with_one, "auto", 1.0, None) == ("none", None)
    assert quality_of(without, "auto", None, None) == ("none", None)
    assert quality_of(without, "vgg19", None, None) == ("vgg19", Quality(command.KEPT_BY_DEFAULT))
    assert quality_of(without, "vgg19", 0.1, 0.2) == ("vgg19", Quality(0.1, 0.2))


@pytest.mark.parametrize(
    ("score", "keep", "least", "message"),
    [
        (
            "auto",
            0.5,
            None,
            r"--keep 0\.5 needs a score of pictures, and G\.pth brings no discriminator\. Type --score vgg19 .* or",
        ),
        ("auto", None, 0.2, r"--least-score 0\.2 needs a score of pictures, and G\.pth brings"),
        ("none", 0.5, None, r"--keep 0\.5 needs a score of pictures, and --score none was given"),
        ("discriminator", None, None, r"G\.pth brings no discriminator to score pictures\. Type --score vgg19"),
        ("judge", None, None, r"--score judge knows the objects of rendered scenes .*, and 7_bird is none of them"),
    ],
)
def test_a_score_that_cannot_be_had_is_refused_with_what_to_type(
    score: Any, keep: float | None, least: float | None, message: str
) -> None:
    with pytest.raises(ZooError, match=message):
        quality_of(alone(), score, keep, least)


def test_a_classifier_of_other_classes_is_refused() -> None:
    scenes = alone(names=["0_plain", "1_striped"], classes=2)
    with pytest.raises(ZooError, match=r"vgg19 knows ImageNet's 1,000 classes, and G\.pth has 2\. Type --score judge"):
        quality_of(scenes, "vgg19", None, None)
    assert quality_of(scenes, "judge", 0.5, None) == ("judge", Quality(0.5))


def generator_alone(folder: Path) -> Path:
    """A generator in the official layout, in a file without a discriminator."""
    torch.save(official(tiny(ema_decay=0).generator, converted=False), folder / "G_ema.pth")
    return folder / "G_ema.pth"


def test_pictures_of_a_generator_alone_are_ranked_by_the_judge(tmp_path: Path) -> None:
    weights = Run(generator_alone(tmp_path))
    arguments = [*words(weights, tmp_path / "out", "--score", "judge", keep=0.5, per_domain=12)]
    place = arguments.index("all")
    arguments[place : place + 1] = ["0_plain", "2_dotted"]
    assert lightning("generate", *arguments) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["score"] == "judge"
    assert manifest["complete"]
    latents = manifest["latents"]
    source = PairGenerator(str(weights.folder), ["0_plain", "2_dotted"], statistics="running")
    source.setup()
    judge = Judge.load(("plain", "dotted"))
    probabilities = []
    for place in range(2):
        pictures = source.draw(range(2 * BLOCK), torch.full((2 * BLOCK,), place))
        seen = resized(from_uint8(pictures))
        column = judge.domain_of_class.tolist().index(place)
        probabilities.append(judge.classifier(seen, judge.segmenter(seen).sigmoid()).softmax(1)[:, column])
    scores = torch.stack(probabilities, 1)
    for number in range(2 * BLOCK):
        assert latents[str(number)]["score"] == pytest.approx(float(scores[number].mean()), abs=1e-4)
    expected = Quality(0.5).judge(range(BLOCK), scores[:BLOCK])
    assert [latents[str(n)]["kept"] for n in range(BLOCK)] == [expected[n]["kept"] for n in range(BLOCK)]


def test_latent_vectors_below_the_least_score_are_left_out_however_few_remain(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list[tuple[int, int]]
) -> None:
    every = generated(run, tmp_path / "every", keep=0.95, per_domain=38)["latents"]
    scores = sorted(facts["score"] for facts in every.values())
    least = (scores[19] + scores[20]) / 2
    manifest = generated(run, tmp_path / "out", "--least-score", least, keep=None, per_domain=40)
    kept = [int(n) for n, facts in manifest["latents"].items() if facts["kept"]]
    assert kept == [int(n) for n, facts in every.items() if facts["score"] >= least]
    assert len(kept) == 20
    assert set(content(tmp_path / "out")) == {f"{domain}/{n}.png" for domain in DOMAINS for n in kept}
    assert manifest["complete"]
    said = capsys.readouterr().out
    assert (
        f"20 pictures of each class, fewer than the 40 asked for: the other latent vectors score below {least}" in said
    )
    drawn.clear()
    assert generated(run, tmp_path / "out", "--least-score", least, keep=None, per_domain=40) == manifest
    assert drawn == []
    nothing = generated(run, tmp_path / "none", "--least-score", 1e9, keep=None, per_domain=40)
    assert nothing["complete"]
    assert nothing["files"] == {}


def test_vgg_scores_the_class_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = VGGClassifier(pretrained=False, base_channels=2, hidden_channels=16)
    for layer in (*small.features, *small.classifier):
        if isinstance(layer, nn.Conv2d | nn.Linear):  # as strong as need be for answers that differ
            nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(pair_scores, "VGGClassifier", lambda: small)
    names = ["7_bird", "151_dog"]
    source = SimpleNamespace(classes={"7_bird": 7, "151_dog": 151}, names=lambda: names)
    score = pair_scores.scorer("vgg19", source, torch.device("cpu"))
    assert score is not None
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    domains = torch.tensor([0, 1, 1, 0, 1])
    table = small(from_uint8(pictures)).softmax(1)
    expected = torch.stack([table[row, [7, 151][domain]] for row, domain in enumerate(domains.tolist())])
    torch.testing.assert_close(score(pictures, domains), expected)
    assert len(set(expected.tolist())) == 5


# Masks


def test_masks_lie_at_the_same_places(run: Run, tmp_path: Path, drawn: list[tuple[int, int]]) -> None:
    generated(run, tmp_path / "out")
    drawn.clear()
    manifest = generated(run, tmp_path / "out", "--masks", "judge")
    assert drawn == [], "masks can be made later"
    masks = content(tmp_path / "out_mask")
    assert set(masks) == {f"{domain}/{n}.jpg" for domain in DOMAINS for n in range(6)}
    for name, facts in manifest["mask_files"].items():
        assert facts["sha256"] == hashlib.sha256(masks[name.replace(".png", ".jpg")]).hexdigest()
        assert 0 <= facts["covered"] <= 1
    (tmp_path / "out_mask" / DOMAINS[0] / "0.jpg").unlink()
    assert generated(run, tmp_path / "out") == manifest, "and are kept whole without being asked for again"
    assert content(tmp_path / "out_mask") == masks
    module = BigGANPairs(pairs=str(tmp_path / "out"), pairs_masks=str(tmp_path / "out_mask"), size=32, workers=0)
    module.setup("fit")
    assert module.describe()["masks"] == "all"
    assert module.domains == DOMAINS
    with pytest.raises(ZooError, match="holds masks of judge"):
        pair_files.PairFolder(tmp_path / "out", manifest["settings"], DOMAINS, 6, [1.0], None, "mask_rcnn")


def test_the_scenes_judge_looks_at_scenes_alone(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = words(run, tmp_path / "out", "--masks", "judge")
    arguments[arguments.index("all")] = "0_bird"
    assert lightning("generate", *arguments) == 2
    assert "0_bird is none of them. Give --masks mask_rcnn" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_had_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    run = Run(Path("biggan_deep_128"))
    assert lightning("generate", *words(run, tmp_path / "out", "--masks", "mask_rcnn", "--score", "vgg19")) == 2
    said = capsys.readouterr().err
    assert "lightning download biggan_deep_128" in said
    assert "lightning download vgg19" in said
    assert "lightning download mask_rcnn" in said
    assert not (tmp_path / "out").exists()


# Training from them


@pytest.mark.parametrize("masks", [False, True])
def test_folders_and_the_generator_give_the_same_batches(run: Run, tmp_path: Path, masks: bool) -> None:
    generated(run, tmp_path / "out", "--truncation", 0.5, 1.0, *(["--masks", "judge"] if masks else []))
    options: dict[str, Any] = {"size": 64, "workers": 0, "batch_size": 5}
    folders = tmp_path / "out_mask" if masks else None
    disk = BigGANPairs(pairs=str(tmp_path / "out"), pairs_masks=str(folders) if folders else None, **options)
    source = PairGenerator(str(run.folder), ["all"], (0.5, 1.0), latents=6, statistics="running", batch_size=7)
    detector = command.SceneObjects() if masks else None
    drawn = BigGANPairs(generator=source, detector=detector, **options)
    batches = []
    for module in (disk, drawn):
        module.setup("fit")
        loaded = [module.on_before_batch_transfer(batch, 0) for batch in islice(module.train_dataloader(), 4)]
        batches.append([module.on_after_batch_transfer(batch, 0) for batch in loaded])
    for there, here in zip(*batches, strict=True):
        assert there.keys() == here.keys()
        for key, value in there.items():
            if key.endswith("domain"):
                assert torch.equal(value, here[key])
            elif "mask" in key:  # on disk they are JPEG
                assert float((value - here[key]).abs().mean()) < 0.1
            else:
                assert float((value - here[key]).abs().max() * 127.5) < 1.01


# Mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", 1], "its seed is 0, and here it is 1"),
        (["--truncation", 0.5], "its truncations is [1.0], and here it is [0.5]"),
        (["--bound", 0], "its bound is 2.0, and here it is null"),
        (["--keep", 0.5], "its keep is 1.0, and here it is 0.5"),
    ],
)
def test_another_generation_is_not_mixed_in(
    run: Run, tmp_path: Path, change: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    generated(run, tmp_path / "out", per_domain=1)
    before = content(tmp_path / "out")
    keep = None if change[0] == "--keep" else 1.0
    assert lightning("generate", *words(run, tmp_path / "out", *change, keep=keep)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "holds another generation" in said
    assert content(tmp_path / "out") == before


def test_a_folder_of_something_else_is_left_alone(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert lightning("generate", *words(run, tmp_path / "out")) == 2
    assert "mine.txt and 0 more entries that this command did not write" in capsys.readouterr().err


def test_a_full_disk_ends_the_command_and_room_lets_it_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        fsync = files.os.fsync
        count = 0

        def full(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count > 15:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        patch.setattr(files.os, "fsync", full)
        assert lightning("generate", *words(run, tmp_path / "out")) == 2
    assert "does not fit on its disk" in capsys.readouterr().err
    assert generated(run, tmp_path / "out")["complete"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paris"], "generate makes pairs and correlation, not 'paris'. Did you mean 'pairs'?"),
        ([], "generate makes pairs and correlation; say which. Usage: lightning generate pairs"),
        (["pairs", "--weights", "x"], "required: --domains, --per-domain, --out"),
        (["pairs", "--wieghts", "x"], "required: --weights"),
        ("--per-domain 0", "--per-domain is 0"),
        ("--keep 1.5", "--keep is 1.5"),
        ("--shard 3/2", "--shard is '3/2'"),
        ("--masks htc", "invalid choice: 'htc'"),
        ("--oot x", "Did you mean '--out'?"),
        ("--domains 3", "There is no class 3"),
        ("--domains checked", "'checked' is no class"),
        ("--domains strped", "Did you mean 'striped'?"),
        ("--least-score high", "argument --least-score: invalid float value: 'high'"),
        ("--score clip", "invalid choice: 'clip'"),
    ],
)
def test_mistakes_cost_one_line(
    run: Run, tmp_path: Path, arguments: list[str] | str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(arguments, str):
        arguments = [str(word) for word in [*words(run, tmp_path / "out"), *arguments.split()]]
    assert lightning("generate", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_said_to_be_one(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert lightning("generate", *words(run, tmp_path / "out")) == 2
    assert f"--out {tmp_path / 'out'} is a file; expected a folder" in capsys.readouterr().err


def test_a_correlation_is_typed_otherwise(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("generate", "correlation", "--weights", run.folder, "--per-domain", 3) == 2
    assert "Usage: lightning generate correlation --weights CHECKPOINT --domains CLASS..." in capsys.readouterr().err


def test_a_file_of_something_else_is_no_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    assert lightning("generate", *words(Run(tmp_path / "other.pth"), tmp_path / "out")) == 2
    assert "is no generator of BigGAN's" in capsys.readouterr().err


def test_help_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("generate", "--help") == 0
    said = capsys.readouterr().out
    assert "--per-domain" in said
    assert "syn_imagenet_291" in said


# Many processes


def test_the_part_comes_from_who_started_the_process() -> None:
    assert shard_of(None, {}) == (0, 1)
    assert shard_of("2/8", {"RANK": "3", "WORLD_SIZE": "4"}) == (1, 8)
    assert shard_of(None, {"RANK": "3", "WORLD_SIZE": "4"}) == (3, 4)
    assert shard_of(None, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == (1, 2)


def test_processes_of_one_machine_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name("cpu", {"LOCAL_RANK": "3"}) == "cpu"
    assert device_name("auto", {}) == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_name("auto", {"LOCAL_RANK": "3"}) == "cuda:1"


# Correlation


class Discs:
    """Discs whose place follows from the number, whatever the class; `shaken` ones follow from the class, too."""

    truncations = (1.0,)
    seed = 0

    def __init__(self, shaken: bool = False) -> None:
        self.shaken = shaken

    def names(self) -> list[str]:
        return DOMAINS

    def draw(self, numbers: Any, domains: Tensor) -> Tensor:
        return torch.tensor([[n, d] for n, d in zip(numbers, domains.tolist(), strict=True)])

    def found(self, codes: Tensor) -> Tensor:
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        places = 12 + (codes[:, 0] + 7 * self.shaken * codes[:, 1]) * 17 % 40
        return (((y - places[:, None, None]) ** 2 + (x - 32) ** 2) < 100)[:, None].float()


@pytest.mark.parametrize("shaken", [False, True])
def test_correlation_tells_one_latent_from_two(monkeypatch: pytest.MonkeyPatch, shaken: bool) -> None:
    source = Discs(shaken)
    monkeypatch.setattr(command.SceneObjects, "find", lambda self, codes: source.found(codes))
    figures = correlation(source, torch.device("cpu"), 40, 16)
    assert figures["found"] == 1
    assert figures["latents"] == 40
    assert figures["strangers"] < 0.5
    assert (figures["one_latent"] == 1) is not shaken


def test_correlation_of_a_checkpoint_is_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--weights", run.folder, "--domains", "0", "2", "--count", 8, "--statistics", "running"]
    assert lightning("generate", "correlation", *arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["classes"] == ["0_plain", "2_dotted"]

"""`lightning evaluate` on folders and on models of two domains: what it measures, what it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from support.commands import lightning, only_run, write_recipe
from support.extractors import write_alexnet, write_inception
from support.pictures import make_folder, pixels
from support.single_image import draw_picture
from zoo.cli import evaluate
from zoo.cli.evaluate import PROTOCOLS, format_result
from zoo.cli.pages import WIDTH
from zoo.cli.protocols import base
from zoo.cli.protocols.base import Measured
from zoo.cli.protocols.reading import Reader
from zoo.core.checkpoints import SafeCheckpointIO
from zoo.core.files import sha256_of
from zoo.cyclegan import CycleGAN
from zoo.experts.inception_tensorflow import TensorFlowInception
from zoo.metrics.sifid import PatchFeatures
from zoo.weights.catalogue import find_entry

QUICK = ["--subsets", 4, "--batch", 3]


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inception(tmp_path_factory.mktemp("weights") / "mine.pth")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Generated pictures of two sizes, and real ones."""
    generated = make_folder(tmp_path / "generated", 2)
    make_folder(generated / "more", 2, height=40, width=20, start=7)
    (generated / "empty").mkdir()
    return generated, make_folder(tmp_path / "real", 5, start=20)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "zoo.experts.inception_tensorflow.SIDE", 75
    )  # the smallest that the network can look at: 16 times as quick


def measured(output: Path, *words: object) -> dict[str, Any]:
    """The result of a measurement that has to succeed."""
    assert lightning("evaluate", *words, "--output", output) == 0
    found: dict[str, Any] = json.loads(output.read_text(), parse_constant=pytest.fail)
    return found


# The page --------------------------------------------------------------------------------------------------------------------


def test_the_list_names_every_protocol_and_what_looks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert lightning("evaluate", "--list") == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= WIDTH
    for name, protocol in PROTOCOLS.items():
        assert f"\n{name} " in page
        for extractor in protocol.extractors:
            assert find_entry(extractor).file
        assert "network" in protocol.settings
        assert not protocol.example or f"--protocol {name}" in protocol.example
    assert "[inception_tensorflow, not here]" in page
    file = tmp_path / "home" / "weights" / find_entry("inception_tensorflow").file
    file.parent.mkdir(parents=True)
    file.touch()
    assert lightning("evaluate", "--help") == 0
    assert "[inception_tensorflow, here]" in capsys.readouterr().out


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_a_page_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("evaluate", "--protocol", name, "--help") == 0
    page = capsys.readouterr().out
    assert page.startswith("usage: lightning evaluate ")
    assert ("--extractor" in page) == bool(PROTOCOLS[name].extractors)


MISTAKES = {
    "": "--protocol NAME. What there is: lightning evaluate --list",
    "--protocol": "--protocol expects a name",
    "--protocol fid": "Did you mean fid-tf2015",
    "--protocol=fid-tf2105": "Did you mean 'fid-tf2015'?",
    "--protocol fid-tf2015": "--generated FOLDER",
    "--protocol fid-tf2015 --generated generated": "Type --real FOLDER",
    "--protocol fid-tf2015 --generated generated --raal real": "Did you mean '--real'?",
    "--protocol fid-tf2015 --generated generated --real reel": "Type --real ",
    "--protocol fid-tf2015 --generated generated --real real --count 1": "between 2 and 4",
    "--protocol fid-tf2015 --generated generated --real real --subset-size 9": "between 2 and 4",
    "--protocol fid-tf2015 --generated generated --real real --subsets 0": "--subsets is 0",
    "--protocol fid-tf2015 --generated generated --real real --batch 0": "--batch is 0",
    "--protocol fid-tf2015 --generated generated --real real --size 0": "--size is 0",
    "--protocol fid-tf2015 --generated generated --real real --to dog": "--to is for translations of a run",
    "--protocol fid-tf2015 --generated generated --real real --seeds 1 1": "different numbers",
    "--protocol fid-tf2015 --generated generated --real real --output real": "is a folder; expected a file",
    "--protocol fid-tf2015 --generated generated --real real --device tpu7": "--device cpu",
    "--protocol fid-tf2015 --generated generated --real real --extractor no.pth": "no.pth: there is no such file",
    "--protocol fid-tf2015 --generated generated --real real --extractor vgg=x.pth": "no extractor vgg. It has inception_tensorflow",
    "--protocol fid-tf2015 sat-scenes --generated generated --real real": "one of the two",
    "--protocol fid-tf2015 sat-scenes": "about datamodules.Scenes",
    "--protocol fid-tf2015 sat-scenes --data configs/data/horse2zebra.yaml": "Type --source ",
    "--protocol judge": "name its run or its weights",
    "--protocol judge sat-scene": "Did you mean 'sat-scenes'?",
    "--protocol judge judge_64": "is no whole model",
    "--protocol judge runs/nothing": "there is no such file or folder",
    "--protocol judge sat-scenes --count 1": "at least 2",
    "--protocol judge generated/empty": "it holds no checkpoint",
    "--protocol judge sat-scenes --extractor x": "unrecognized arguments: --extractor",
    "--protocol judge sat-scenes --data.domains [plain,plaid]": "no look 'plaid'",
    "--protocol judge sat-scenes --data.size": "--data.size expects a value",
    "--protocol judge sat-scenes --data.task alone": "no translations to judge",
    "--protocol judge-domains sat-scenes": "does not translate between several domains",
    "--protocol judge-domains sat-scenes --outputs 1": "at least 2",
    "--protocol lpips-diversity --generated generated": "cat_style1.png",
    "--protocol lpips-diversity --generated generated --outputs 1": "at least 2",
    "--protocol lpips-diversity": "one of the two",
    "--protocol sifid --real real": "--generated FOLDER",
    "--protocol map --source real --target generated/more": "has no counterpart",
    "--protocol map": "--source",
    "--protocol starganv2 sat-scenes": "--train FOLDER",
    "--protocol starganv2 sat-scenes --train real --test real --outputs 1": "2 and 1 at least",
    "--protocol ppl": "name its run or its weights",
    "--protocol ppl sat-scenes --count 1": "two at least",
    "--protocol alae-fid-generation sat-scenes": "Type --images FOLDER",
    "--protocol digits sat-scenes": "about datamodules.Scenes",
    "--protocol digits": "Type --data configs/data/digits_mnist2usps.yaml",
    "--protocol digit-codes sat-scenes --count 1": "two digits at least",
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.items())
def test_mistakes_are_answered_in_a_line_and_nothing_is_written(
    words: str, said: str, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert lightning("evaluate", *words.split()) == 2
    answer = capsys.readouterr()
    (line,) = answer.err.splitlines()
    assert said in line
    assert answer.out == ""
    assert sorted(tmp_path.rglob("*")) == before


# Extractors ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--protocol fid-tf2015 --generated generated --real real", ["inception_tensorflow"]),
        ("--protocol kid-tf2015 sat-scenes --source generated --real real", ["inception_tensorflow"]),
        ("--protocol sifid --generated generated/000.png --real real/000.png", ["inception_v3"]),
        ("--protocol lpips-diversity --generated styles", ["alexnet"]),
        ("--protocol starganv2 sat-scenes --train real --test real", ["alexnet", "inception_v3"]),
        ("--protocol starganv2 sat-scenes --train real --test real --figures lpips", ["alexnet"]),
        ("--protocol ppl sat-scenes", ["vgg16"]),
        ("--protocol alae-fid-reconstruction sat-scenes --images real", ["inception_tensorflow"]),
    ],
)
def test_a_missing_extractor_is_named_with_digest_and_folder_and_nothing_takes_its_place(
    words: str, names: list[str], folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_folder(tmp_path / "styles", 2)
    for number in (0, 1):
        (tmp_path / "styles" / f"{number:03d}.png").rename(tmp_path / "styles" / f"cat_style{number}.png")
    assert lightning("evaluate", *words.split()) == 2
    said = capsys.readouterr()
    for name in names:
        entry = find_entry(name)
        assert entry.file in said.err
        assert (entry.sha256 or entry.sha256_prefix) in said.err
        assert str(tmp_path / "home" / "weights") in said.err
        assert f"lightning download {name}" in said.err
    assert ("inception" in said.err) == any("inception" in name for name in names)
    assert said.out == ""
    assert not (tmp_path / "evaluations").exists()


def test_distances_of_another_extractor_are_neither_fid_nor_kid(
    inception: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "--protocol",
        "fid-tf2015",
        "--generated",
        folders[0],
        "--real",
        folders[1],
        *QUICK,
        "--extractor",
        inception,
    ]
    result = measured(tmp_path / "result.json", *words)
    said = capsys.readouterr().out
    assert result["protocol"] == "frechet-distance"
    assert list(result["figures"]) == ["kernel_distance", "kernel_distance_spread_of_subsets", "frechet_distance"]
    (extractor,) = result["extractors"]
    assert extractor["sha256"] == sha256_of(inception)
    assert not extractor["published"]
    assert "neither FID nor KID" in result["remarks"][0]
    assert "neither FID nor KID" in said
    # What the figures are, by the network itself.
    network = TensorFlowInception()
    network.load_weights(inception)
    centred, means = [], []
    for folder in folders:
        rows = []
        for path in sorted(folder.rglob("*.png")):
            with Image.open(path) as picture:
                rows.append(network(torch.from_numpy(pixels_of(picture)).permute(2, 0, 1)[None])[0].double())
        means.append(torch.stack(rows).mean(0))
        centred.append((torch.stack(rows) - means[-1]) / (len(rows) - 1) ** 0.5)
    table = centred[0] @ centred[1].T  # the eigenvalues of C1 C2 that are not 0 are those of this times its transpose
    root = torch.linalg.eigvalsh(table @ table.T).clamp(min=0).sqrt().sum()
    wanted = (means[0] - means[1]).square().sum() + sum(rows.square().sum() for rows in centred) - 2 * root
    assert result["figures"]["frechet_distance"]["mean"] == pytest.approx(float(wanted), rel=1e-3)


def pixels_of(picture: Image.Image) -> Any:
    import numpy as np

    return np.array(picture.convert("RGB"))


def test_the_published_file_gives_kid_first_and_then_fid(
    inception: Path,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    entry = replace(find_entry("inception_tensorflow"), sha256=sha256_of(inception), size=None)
    monkeypatch.setattr(base, "find_entry", lambda name: entry)  # as if this were the file that the world knows
    words = [
        "--protocol",
        "fid-tf2015",
        "--generated",
        folders[0],
        "--real",
        folders[1],
        *QUICK,
        "--extractor",
        inception,
    ]
    result = measured(tmp_path / "result.json", *words)
    table = capsys.readouterr().out
    assert result["protocol"] == "fid-tf2015"
    assert list(result["figures"]) == ["kid", "kid_spread_of_subsets", "fid"]
    kid, fid = result["figures"]["kid"], result["figures"]["fid"]
    assert kid["seeds"] == result["seeds"] == [0, 1, 2]
    assert len(set(kid["values"])) > 1
    assert kid["standard_deviation"] > 0
    assert fid["seeds"] == []
    assert fid["standard_deviation"] is None
    assert table.index("kid ") < table.index("fid ")
    assert "4 pictures on one side are fewer than the 2048 features" in result["remarks"][0]
    assert "Look at kid." in table
    # All that made it.
    assert result["counts"] == {"generated": 4, "real": 5}
    assert (result["data"]["generated"], result["data"]["real"]) == tuple(map(str, folders))
    assert len(set(result["data"]["fingerprints"])) == 2
    settings = result["settings"]
    assert settings["antialias"] is False
    assert settings["resize"] == "to 299x299, bilinear, corners not aligned"
    assert "uint8, as in PNG files" in settings["rounding"]
    assert "4 pairs of subsets of 2" in settings["kernel"]
    assert result["extractors"][0]["published"]
    assert result["checkpoint"] is None
    assert result["command"][:2] == ["lightning", "evaluate"]
    assert {"torch", "translation-zoo"} <= set(result["versions"])
    assert "commit" in result
    # A subset of the pictures is drawn for each seed, and both figures then have a spread.
    few = measured(tmp_path / "few.json", *words, "--count", 3, "--seeds", 5, 6)
    assert few["counts"]["generated"] == 3
    assert len(few["figures"]["fid"]["values"]) == 2
    assert few["figures"]["fid"]["standard_deviation"] > 0
    # KID alone, of pictures that are resized first.
    alone = measured(tmp_path / "alone.json", "--protocol", "kid-tf2015", *words[2:], "--size", 16)
    assert list(alone["figures"]) == ["kid", "kid_spread_of_subsets"]
    assert alone["settings"]["pictures"] == "resized to 16x16, bicubic, antialiased, uint8"
    assert alone["figures"]["kid"]["mean"] != kid["mean"]


def test_a_wrong_file_in_the_folder_of_weights_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = find_entry("inception_tensorflow")
    file = tmp_path / "home" / "weights" / entry.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of it")
    words = ["--generated", folders[0], "--real", folders[1]]
    assert lightning("evaluate", "--protocol", "fid-tf2015", *words) == 2
    said = capsys.readouterr().err
    assert f"{file} is not inception_tensorflow: it has 10 bytes instead of 95,628,359. Delete it" in said
    assert not (tmp_path / "evaluations").exists()


def test_torchvision_s_inception_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"AuxLogits.fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    words = ["--generated", folders[0], "--real", folders[1], "--extractor", "other.pth"]
    assert lightning("evaluate", "--protocol", "fid-tf2015", *words) == 2
    assert "lightning download inception_tensorflow" in capsys.readouterr().err


def test_pictures_are_read_at_exactly_the_size_that_is_asked_for(tmp_path: Path) -> None:
    make_folder(tmp_path, 1, height=24, width=36)
    picture = tmp_path / "000.png"
    assert Reader()(picture).shape == (1, 3, 24, 36)
    assert Reader(17)(picture).shape == (1, 3, 17, 17)
    as_in_training = Reader(17, "bilinear", "shorter_side", 4)
    assert as_in_training(picture).shape == (1, 3, 16, 24)
    assert as_in_training.words == "resized to 17 (shorter_side), bilinear, antialiased, uint8"
    assert Reader(8, "bilinear_tensorflow").words == "resized to 8x8, bilinear_tensorflow, not antialiased, uint8"


def test_a_picture_that_cannot_be_read_is_not_left_out(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[1] / "bad.png").write_text("no picture")
    assert lightning("evaluate", "--protocol", "fid-tf2015", "--generated", folders[0], "--real", folders[1]) == 2
    said = capsys.readouterr().err
    assert "--real: 1 of 6 pictures cannot be read" in said
    assert "bad.png" in said


# Models ----------------------------------------------------------------------------------------------------------------------


def tiny_cyclegan(path: Path) -> Path:
    torch.manual_seed(0)
    model = CycleGAN(generator_channels=4, residual_blocks=1, discriminator_channels=4, discriminator_layers=1)
    kept = {"room": "cyclegan", "iteration": 0, "stage": 0, "frozen": [], "seed": 0, "ranks": []}
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "zoo": kept}
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def test_a_model_s_translations_are_measured_as_they_would_be_saved(
    inception: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = tiny_cyclegan(tmp_path / "model.ckpt")
    common = ["--real", folders[1], *QUICK, "--protocol", "kid-tf2015", "--extractor", inception]
    result = measured(tmp_path / "one.json", model, "--source", folders[0], *common)
    assert result["checkpoint"]["room"] == "cyclegan"
    assert result["checkpoint"]["files"] == {str(model): sha256_of(model)}
    assert result["settings"]["drawn_by_seed"] == ["subsets of the kernel distance"]
    # The same as of the files that `translate` writes.
    assert lightning("translate", model, folders[0], "--output", "saved", "--no-sheet") == 0
    saved = measured(tmp_path / "saved.json", "--generated", tmp_path / "saved", *common)
    assert saved["counts"] == result["counts"] == {"generated": 4, "real": 5}
    assert sorted(saved["figures"]) == sorted(result["figures"])
    for name in ("source", "reference"):
        assert f"--{name}" not in saved["command"]
    other = measured(tmp_path / "back.json", model, "--source", folders[0], "--to", "source", *common)
    assert other["figures"]["kernel_distance"]["mean"] != result["figures"]["kernel_distance"]["mean"]


def test_folders_come_from_an_overlay(inception: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = tiny_cyclegan(tmp_path / "model.ckpt")
    overlay = tmp_path / "data.yaml"
    overlay.write_text(f"data: {{init_args: {{test_source: {folders[0]}, test_target: {folders[1]}, size: 16}}}}")
    words = ["--protocol", "kid-tf2015", "--data", overlay, *QUICK, "--extractor", inception]
    there = measured(tmp_path / "there.json", model, *words)
    prints, split = there["data"].pop("fingerprints"), {"source": "test", "real": "test"}
    assert there["data"] == {"split": split, "source": str(folders[0]), "real": str(folders[1])}
    assert there["settings"]["pictures"] == "resized to 16x16, bicubic, antialiased, uint8"
    other = measured(tmp_path / "other.json", model, *words, "--source", folders[1])
    assert other["data"]["split"] == {"source": "as given", "real": "test"}
    back = measured(tmp_path / "back.json", model, *words, "--data.direction", "target_to_source", "--size", 20)
    assert back["data"].pop("fingerprints") == prints[::-1]
    assert back["data"] == {"split": split, "source": str(folders[1]), "real": str(folders[0])}
    assert back["counts"] == {"generated": 5, "real": 4}
    assert back["settings"]["pictures"].startswith("resized to 20x20")


def test_scenes_of_a_run_are_judged_and_the_result_lies_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        lightning(
            "fit", "--config", write_recipe(tmp_path), "--trainer.max_steps", 2, "--model.discriminator_layers", 1
        )
        == 0
    )
    folder = only_run(tmp_path / "runs").folder
    capsys.readouterr()
    assert lightning("evaluate", folder, "--protocol", "judge", "--seeds", 0, 1) == 0
    said = capsys.readouterr().out
    assert "true counterpart" in said
    assert "2 seed(s) say little about the spread" in said
    (output,) = (folder / "evaluations").glob("judge_*.json")
    result = json.loads(output.read_text(), parse_constant=pytest.fail)
    assert f"Result: {output}" in said
    assert result["counts"]["scenes"] == 3  # the run's own test_count
    assert result["data"]["size"] == 32
    assert result["figures"]["counterpart/object_iou"]["mean"] > 0.8
    assert result["figures"]["identity/style_accuracy"]["mean"] < 0.5
    assert len(result["figures"]["psnr"]["values"]) == 2
    (checkpoint,) = result["checkpoint"]["files"]
    assert Path(checkpoint).name == "iteration_00000002.ckpt"
    # Other scenes: of an overlay, and more of them.
    overlay = tmp_path / "scenes.yaml"
    overlay.write_text("data: {class_path: datamodules.Scenes, init_args: {task: daylight}}")
    words = [folder, "--protocol", "judge", "--data", overlay, "--data.size", 16, "--count", 4]
    again = measured(tmp_path / "again.json", *words)
    assert again["counts"] == {"scenes": 4, "scenes of all seeds": 12}
    assert again["figures"]["counterpart/label_iou"]["mean"] > again["figures"]["label_iou"]["mean"]


def test_pictures_of_given_folders_get_the_size_of_the_training(tmp_path: Path) -> None:
    words = ["sat-scenes", "--protocol", "kid-tf2015", "--source", "a", "--real", "b"]
    job = base.Job(PROTOCOLS["kid-tf2015"], evaluate.parse(PROTOCOLS["kid-tf2015"], words)[0], {})
    assert job.own_preparation() == {"size": 64}
    overlay = tmp_path / "data.yaml"
    overlay.write_text(
        "data: {class_path: datamodules.UnpairedFolders, init_args: {size: 32, interpolation: bilinear, seed: 3}}"
    )
    job = base.Job(job.protocol, evaluate.parse(job.protocol, [*words, "--data", str(overlay)])[0], {"size": "48"})
    assert job.own_preparation() == {"size": 48, "interpolation": "bilinear"}


def test_shipped_weights_are_judged_on_the_scenes_of_their_recipe(tmp_path: Path) -> None:
    result = measured(tmp_path / "result.json", "sat-scenes", "--protocol", "judge", "--count", 8, "--seeds", 3)
    assert result["figures"]["style_accuracy"]["mean"] > 0.6
    assert result["figures"]["attention_iou"]["mean"] > 0.6
    assert result["figures"]["style_accuracy"]["standard_deviation"] is None
    assert result["extractors"][0]["name"] == "judge_64"


# LPIPS, SIFID and maps -------------------------------------------------------------------------------------------------------


def test_diversity_of_folders_has_closed_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alexnet = write_alexnet(tmp_path / "alexnet.pth")
    for name, number in (("a_style1", 0), ("a_style2", 0), ("b_style1", 0), ("b_style2", 1), ("b_style3", 1)):
        Image.fromarray(pixels(40, 40, number)).save(folder_of(tmp_path / "styles") / f"{name}.png")
    words = ["--protocol", "lpips-diversity", "--generated", "styles", "--extractor", alexnet]
    result = measured(tmp_path / "result.json", *words)
    assert result["protocol"] == "perceptual-diversity"
    assert list(result["figures"]) == ["perceptual_distance"]
    assert result["counts"] == {"sources": 2, "translations": 5}
    assert {used["name"] for used in result["extractors"]} == {"alexnet", "lpips_alex_channels"}
    # a's translations are one; of b's three pairs one is of equal pictures.
    for number in (0, 1):
        Image.fromarray(pixels(40, 40, number)).save(folder_of(tmp_path / "pair") / f"c_{number}.png")
    pair = measured(tmp_path / "pair.json", *words[:3], "pair", *words[4:])
    apart = pair["figures"]["perceptual_distance"]["mean"]
    assert apart > 0
    assert result["figures"]["perceptual_distance"]["mean"] == pytest.approx((0 + apart * 2 / 3) / 2, rel=1e-4)
    capsys.readouterr()
    Image.fromarray(pixels(48, 40)).save(tmp_path / "pair" / "c_2.png")
    assert lightning("evaluate", *words[:3], "pair", *words[4:]) == 2
    assert "differ in size. Type --size" in capsys.readouterr().err
    assert lightning("evaluate", *words[:3], "pair", *words[4:], "--size", 16) == 2
    assert "sides below 31 pixels" in capsys.readouterr().err
    # As if this were the file that the world knows.
    entry = replace(find_entry("alexnet"), sha256=sha256_of(alexnet), size=None)
    monkeypatch.setattr(base, "find_entry", lambda name: entry)
    assert list(measured(tmp_path / "named.json", *words)["figures"]) == ["lpips"]


def folder_of(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_sifid_reads_both_ways_and_names_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    own = {name: value for name, value in PatchFeatures("paper").own_state().items() if value.is_floating_point()}
    state: dict[str, Tensor] = {name: value + 0.01 * torch.rand_like(value) for name, value in own.items()}
    torch.save({**state, "fc.weight": torch.zeros(3)}, tmp_path / "inception.pth")
    picture = draw_picture(tmp_path / "p.png", 40, 48)
    draw_picture(tmp_path / "fake" / "a.png", 40, 48)
    draw_picture(tmp_path / "fake" / "b.png", 48, 40)
    words = ["--protocol", "sifid", "--real", picture, "--generated", "fake", "--extractor"]
    result = measured(tmp_path / "result.json", *words, "inception.pth")
    assert result["protocol"] == "patch-frechet-distance"
    names = ["patch_frechet_distance_code", "patch_frechet_distance_paper"]
    assert list(result["figures"]) == names
    for name in names:
        each = {Path(path).stem: value for path, value in result["details"]["pictures"][name].items()}
        assert each["a"] == pytest.approx(0, abs=1e-4)
        assert each["b"] > 0
        assert result["figures"][name]["mean"] == pytest.approx((each["a"] + each["b"]) / 2)
    one = measured(tmp_path / "one.json", *words, "inception.pth", "--reading", "code")
    assert list(one["figures"]) == names[:1]
    torch.save({"other": torch.zeros(2)}, tmp_path / "wrong.pth")
    assert lightning("evaluate", *words, "wrong.pth") == 2
    assert "is no Inception v3" in capsys.readouterr().err


def test_maps_are_measured_with_and_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, ending in (("testA", "A"), ("testB", "B")):
        for place in range(3):
            shown = pixels(16, 16, place)
            Image.fromarray(shown if ending == "A" else 255 - shown).save(
                folder_of(tmp_path / folder) / f"{place}_{ending}.png"
            )
    words = ["--protocol", "map", "--source", "testA", "--target", "testB", "--size", 16]
    alone = measured(tmp_path / "alone.json", *words)
    assert "share of pixels within 16 of the true map, mean of 3 pictures at 16x16" in capsys.readouterr().out
    assert set(alone["figures"]) == {
        f"{row}/{reading}"
        for row in ("source as it is", "map of another place")
        for reading in ("all_channels", "per_channel", "euclidean")
    }
    model = tiny_cyclegan(tmp_path / "model.ckpt")
    result = measured(tmp_path / "result.json", model, *words)
    assert 0 <= result["figures"]["translated/per_channel"]["mean"] <= 1
    assert {name: figure for name, figure in result["figures"].items() if name in alone["figures"]} == alone["figures"]


# The result ------------------------------------------------------------------------------------------------------------------


def test_what_is_no_number_is_said_and_leaves_the_file_readable(tmp_path: Path) -> None:
    options = evaluate.parse(PROTOCOLS["judge"], ["sat-scenes", "--protocol", "judge"])[0]
    job = base.Job(PROTOCOLS["judge"], options, {})
    found = Measured({"error": [0.5, float("nan"), 0.25], "psnr": 20.0}, {"scenes": 3})
    record = evaluate.describe(job, found, {"command": ["lightning"]}, 1.23)
    assert json.loads(json.dumps(record, allow_nan=False))["figures"]["error"] == {
        "mean": None,
        "standard_deviation": None,
        "values": [0.5, None, 0.25],
        "seeds": [0, 1, 2],
    }
    text = format_result(record, found)
    assert "error is not a number" in text
    assert "(nothing in it is drawn)" in text


def test_the_files_of_weights_are_found_wherever_they_come_from(tmp_path: Path) -> None:
    official = folder_of(tmp_path / "official")
    for name in ("latest_net_G_A.pth", "latest_net_G_B.pth"):
        (official / name).touch()
    assert [path.name for path in base.weight_files(str(official))] == ["latest_net_G_A.pth", "latest_net_G_B.pth"]
    (shipped,) = base.weight_files("unit_scenes")
    assert shipped.name == "unit-scenes.safetensors"
    model = tiny_cyclegan(tmp_path / "model.ckpt")
    assert base.weight_files(str(model)) == [model]


def test_results_of_one_second_do_not_replace_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = evaluate.parse(PROTOCOLS["judge"], ["sat-scenes", "--protocol", "judge"])[0]
    job = base.Job(PROTOCOLS["judge"], options, {})
    first = evaluate.default_output(job, "judge")
    assert first.parent == Path("evaluations")
    for path in (first, evaluate.default_output(job, "judge")):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert evaluate.default_output(job, "judge") not in {first}

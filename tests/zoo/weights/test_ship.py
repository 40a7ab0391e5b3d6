"""Our own weights: written from a run, listed, loaded by name, translated with, begun from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo
from support.commands import lightning, write_recipe
from support.pictures import pixels
from support.styled import SAMPLER, registered, styled_run
from support.toys import Ground, configs_of
from zoo.cli.lookup import PACKAGE
from zoo.core.checkpoints import read_checkpoint
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.testing import small_training
from zoo.weights import shipped as shipping
from zoo.weights.catalogue import read_catalogue
from zoo.weights.ship import main, networks_of_inference, recipe_of, ship
from zoo.weights.shipped import FORMAT, SHIPPED, is_ours, read_header, read_shipped, shipped


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    assert lightning("fit", "--config", write_recipe(folder), "--run.name", "a") == 0
    return Run(folder / "runs" / "tiny" / "a")


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with registered():
        yield styled_run(tmp_path_factory.mktemp("styled"), *SAMPLER)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of shipped weights, and no network."""
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr("zoo.weights.ship.SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shipped"


def test_a_file_holds_what_translating_needs_and_says_what_made_it(run: Run, folder: Path) -> None:
    written = ship(run.folder, "tiny-scenes", description="Tiny")
    assert written.path == folder / "tiny-scenes.safetensors"
    assert {key.rsplit(".model", 1)[0] for key in load_file(written.path)} == {"ema.to_source", "ema.to_target"}
    record = json.loads(run.record.read_text())
    assert written.room == "cyclegan"
    assert written.licence == "MIT"
    assert written.commit == str(record["commit"] or "unknown")
    assert written.recipe == "lightning fit --config tiny.yaml --run.name a"
    assert written.settings == dict(load_translator(run.folder).hparams) | {"betas": [0.5, 0.999]}
    assert written.kept == {"frozen": [], "iteration": 4, "seed": 0, "stage": 0}
    assert written.figures
    assert all(name.startswith("val/") for name in written.figures)
    assert is_ours(written.path)
    assert not is_ours(PACKAGE / "gpunit" / "content_encoder_64.safetensors")


def test_it_translates_as_the_run_does(run: Run) -> None:
    ship(run.folder, "tiny-scenes")
    trained = load_translator(run.folder)
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    for given in (("tiny-scenes",), ("tiny_scenes",), ("cyclegan", "shipped/tiny-scenes.safetensors")):
        model = zoo.load(*given)
        assert not any(module.training for module in model.modules())
        for to in ("target", "source"):
            assert torch.equal(model.translate(picture, to=to), trained.translate(picture, to=to))
    with pytest.raises(
        ZooError, match="tiny-scenes is shipped for inference: it has no weights of discriminator_target"
    ):
        model.discriminator_target(picture)  # type: ignore[operator]
    with pytest.raises(ZooError, match="leave lambda_identity out"):
        zoo.load("tiny-scenes", lambda_identity=0.0)


def test_half_the_size(run: Run) -> None:
    whole, half = ship(run.folder, "tiny-a"), ship(run.folder, "tiny-b", half=True)
    assert half.size < 0.6 * whole.size
    picture = torch.rand(1, 3, 32, 32)
    a, b = (zoo.load(name).translate(picture) for name in ("tiny-a", "tiny-b"))
    assert a.dtype == b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.05


def test_the_command_translates_by_name(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship(run.folder, "tiny-scenes")
    Image.fromarray(pixels(32, 32)).save(tmp_path / "a.png")
    assert lightning("translate", "tiny-scenes", "a.png") == 0
    assert lightning("translate", run.folder, "a.png", "--output", "by_run") == 0
    assert (tmp_path / "translated" / "a.png").read_bytes() == (tmp_path / "by_run" / "a.png").read_bytes()
    capsys.readouterr()
    assert lightning("translate", "tiny-scense", "a.png", "--output", "x") == 2
    assert "Did you mean 'tiny-scenes'?" in capsys.readouterr().err


def test_a_sampler_of_styles_and_a_rooms_own_buffers_come_along(styled: Run) -> None:
    written = ship(styled.folder, "toy-styles")
    assert set(load_file(written.path)) == {"strength", "sampler.weight", "sampler.bias", "sampler_fitted"}
    model = zoo.load("toy-styles")
    assert model.sampler_fitted
    picture, latent = torch.rand(1, 3, 32, 32), torch.ones(1, 3)
    trained = load_translator(styled.folder)
    assert torch.equal(model.translate(picture, latent=latent), trained.translate(picture, latent=latent))  # type: ignore[call-arg]


def test_what_inference_knows_beside_weights_comes_along(tmp_path: Path) -> None:
    """A StyleALAE's directions, and how far its newest level is blended in; and the mapping network, which draws pictures."""
    configs = [
        word for path in configs_of("alae", tmp_path, Ground(tmp_path / "ground")) for word in ("--config", path)
    ]
    words = [*configs, "--run.root", tmp_path / "runs", "--run.name", "a", *small_training(4, 4)]
    assert lightning("fit", *words) == 0
    run = Run(tmp_path / "runs" / "alae" / "a")
    path = run.newest_loadable_checkpoint()[0]
    checkpoint = read_checkpoint(path)
    checkpoint["zoo"]["directions"] = {"hue": torch.linspace(-1, 1, 8)}
    checkpoint["zoo"]["blend"] = 0.25
    torch.save(checkpoint, path)
    ship(run.folder, "alae-toy")
    ours, theirs = zoo.load("alae-toy"), load_translator(run.folder)
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    for to in ("reconstruction", "hue+2"):
        assert torch.equal(ours.translate(picture, to=to), theirs.translate(picture, to=to))
    assert not torch.equal(ours.translate(picture, to="hue+2"), ours.translate(picture, to="reconstruction"))
    latent = torch.ones(1, 8)
    assert torch.equal(ours.generate(latent), theirs.generate(latent))  # type: ignore[operator]


def test_a_sampler_that_is_not_fitted_stays_behind(styled: Run) -> None:
    model = load_translator(styled.folder)
    model.sampler_fitted.fill_(False)  # type: ignore[operator, union-attr]
    assert networks_of_inference(model) == {"strength", "sampler_fitted"}


def test_a_training_begins_from_shipped_weights(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship(run.folder, "tiny-scenes")
    still = ["--model.learning_rate", 0, "--trainer.max_steps", 2, "--run.name", "b", "--init_from", "tiny-scenes"]
    assert lightning("fit", "--config", write_recipe(tmp_path), *still) == 0
    assert "new are discriminator_source, discriminator_target, and all optimisers" in capsys.readouterr().err
    begun = read_checkpoint(Run(tmp_path / "runs" / "tiny" / "b").checkpoint_path(2))["state_dict"]
    wanted = read_checkpoint(run.checkpoint_path(4))["state_dict"]
    for key in wanted:
        if key.startswith("to_"):  # the raw networks begin from what was inferred with
            assert torch.equal(begun[key], wanted[f"ema.{key}"])
    assert (
        lightning("fit", "--config", write_recipe(tmp_path), *still, "--model.generator_channels", 6, "--run.name", "c")
        == 2
    )
    said = capsys.readouterr().err
    assert "has other sizes than this CycleGAN" in said
    assert "It was written with --model.generator_channels 4" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Tiny Scenes", "'Tiny Scenes' is no name for weights"),
        ("../evil", "'../evil' is no name for weights"),
        ("gpunit-cat2dog", "The name 'gpunit-cat2dog' is taken by other weights"),
        ("judge_64", "The name 'judge_64' is taken"),
    ],
)
def test_names_that_cannot_be(name: str, said: str, run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run.folder), name]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_what_is_too_large_is_not_shipped(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.weights.ship.LARGEST", 1000)
    with pytest.raises(ZooError, match="and the package takes 1,000"):
        ship(run.folder, "tiny-scenes")
    assert not folder.exists()


def test_the_command_says_what_it_wrote(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(run.folder), "tiny-scenes", "--output", str(tmp_path / "o"), "--licence", "CC BY 4.0", "--half"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'o' / 'tiny-scenes.safetensors'}: CycleGAN after 4 iterations, "
    )
    assert read_shipped(tmp_path / "o" / "tiny-scenes.safetensors").licence == "CC BY 4.0"
    assert main([str(tmp_path / "nothing"), "tiny-scenes"]) == 2
    assert "There is no checkpoint at" in capsys.readouterr().err


def test_recipes_are_told_without_the_places_of_a_machine() -> None:
    words = [
        "/usr/bin/lightning",
        "fit",
        "--config",
        "/home/x/zoo/cyclegan.yaml",
        "--config",
        "/a/zoo/_configs/demo/cyclegan.yaml",
    ]
    said = recipe_of(
        {"command": [*words, "--config", "/y/configs/gpu.yaml", "--run.root=/y/runs", "--run.name", "a b"]}
    )
    wanted = "--config zoo/cyclegan.yaml --config configs/demo/cyclegan.yaml --config configs/gpu.yaml --run.root=runs --run.name 'a b'"
    assert said == f"lightning fit {wanted}"
    assert recipe_of({}) == "unknown"


# The list ------------------------------------------------------------------------------------------------------------


def test_the_list_has_a_header_and_a_line_each(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ship(run.folder, "tiny-scenes", description="Tiny")
    for words, names in [
        (["--weights", "--shipped"], ["tiny-scenes", "content_encoder_64", "judge_64"]),
        (["--weights"], ["tiny-scenes", "content_encoder_64", "judge_64", *read_catalogue()]),
    ]:
        assert lightning("list", *words) == 0
        header, *lines = capsys.readouterr().out.splitlines()
        assert header.split() == ["NAME", "ROOM", "SIZE", "HERE", "LICENCE", "WHAT"]
        assert [line.split()[0] for line in lines] == names
        assert re.search(r"^tiny-scenes +cyclegan +0\.\d MB +shipped +MIT +Tiny \(", lines[0])
    by_name = {line.split()[0]: line for line in lines}
    assert (
        "digest not verified: pinned when first fetched; the real file was never seen here" in by_name["gpunit_cat2dog"]
    )
    assert "digest known" in by_name["vgg19"]
    assert (
        "; published: inception_score 97.35, inception_score_spread 1.79, source README of the code)"
        in by_name["biggan_128"]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shipped"], "--shipped belongs to --weights"),
        (["--weights", "--shiped"], "list --weights takes no '--shiped'. Did you mean '--shipped'?"),
        (["--weihgts"], "list has no option '--weihgts'. Did you mean '--weights'?"),
        (["--weights", "cyclegan"], "list --weights takes no 'cyclegan'."),
    ],
)
def test_mistakes_of_the_list(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("list", *words) == 2
    assert said in capsys.readouterr().err


# Files ---------------------------------------------------------------------------------------------------------------


def test_damaged_files_are_told(run: Run, tmp_path: Path) -> None:
    written = ship(run.folder, "tiny-scenes")
    body = written.path.read_bytes()
    for content, said in [(b"", "not a"), (b"x" * 100, "not a"), (body[:50], "not a whole safetensors file")]:
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(ZooError, match=said):
            read_shipped(tmp_path / "x.safetensors")
    written.path.write_bytes(body[:-100])
    with pytest.raises(ZooError, match="is not a whole safetensors file"):
        zoo.load("tiny-scenes")
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"format": FORMAT})
    with pytest.raises(ZooError, match="its metadata are not whole"):
        zoo.load(tmp_path / "x.safetensors")
    with pytest.raises(ZooError, match="not a model that this project ships"):
        read_shipped(PACKAGE / "gpunit" / "content_encoder_64.safetensors")


def test_a_key_too_many_or_too_few_is_refused(run: Run) -> None:
    written = ship(run.folder, "tiny-scenes")
    state, header = load_file(written.path), read_header(written.path)
    key = next(iter(state))
    save_file({name: value for name, value in state.items() if name != key}, written.path, metadata=header)
    with pytest.raises(
        ZooError, match=rf"does not fit this CycleGAN: it lacks .*{re.escape(key.removeprefix('ema.'))}"
    ):
        zoo.load("tiny-scenes")
    save_file({**state, "ema.to_target.model.99.weight": torch.zeros(1)}, written.path, metadata=header)
    with pytest.raises(ZooError, match=r"it has ema.to_target.model.99.weight"):
        zoo.load("tiny-scenes")


def test_what_the_package_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shipped(SHIPPED)
    assert {"content_encoder_64", "judge_64"} <= found.keys()
    for each in found.values():
        assert each.path.is_file()
        assert each.description
        assert each.licence
        assert not each.room or (each.name == each.path.stem and each.recipe and each.commit and each.figures)

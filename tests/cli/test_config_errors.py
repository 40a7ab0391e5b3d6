"""What a mistake looks like: one line with its cause and the nearest valid name, exit code 2, nothing left behind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from support.commands import TINY, lightning, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


def refused(capsys: pytest.CaptureFixture[str], *words: object, code: int = 2) -> str:
    """The one line that a mistaken command leaves on stderr."""
    assert lightning(*words) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    lines = [
        line for line in said.err.splitlines() if not (line.startswith("lightning: --config") and "from the" in line)
    ]
    assert len(lines) == 1, said.err
    assert lines[0].startswith("lightning: ")
    return lines[0].removeprefix("lightning: ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    {
        "--trainr.max_steps 4": "There is no option --trainr.max_steps. Did you mean '--trainer.max_steps'?",
        "--trainer.max_stps=4": "There is no option --trainer.max_stps. Did you mean '--trainer.max_steps'?",
        "--samples.evry 3": "There is no option --samples.evry. Did you mean '--samples.every'?",
        "--model.pool_sise 4": "model: there is no setting 'pool_sise'. Did you mean 'pool_size'?",
        "--data.sise 4": "data: there is no setting 'sise'. Did you mean 'size'?",
        "--model zoo.cyclegan.CycleGAM": "There is no class zoo.cyclegan.CycleGAM. Did you mean 'zoo.cyclegan.CycleGAN'?",
        "--model CycleGAM": "There is no class CycleGAM. Did you mean 'zoo.cyclegan.CycleGAN'?",
        "--data Scnes": "There is no class Scnes. Did you mean 'datamodules.Scenes'?",
        "--data zoo.cyclegan.CycleGAN": "zoo.cyclegan.CycleGAN is no LightningDataModule, so it can't be the data.",
        "--trainer.logger WandbLoger": "There is no class WandbLoger. Did you mean 'lightning.pytorch.loggers.WandbLogger'?",
        "--model.pool_size many": "model: pool_size is 'many'; expected a whole number.",
        "--model.betas 3": "model: betas is '3'; expected a list.",
        "--model.generator rasnet": "model: generator is 'rasnet'; expected one of: resnet, unet. Did you mean 'resnet'?",
        "--samples.enabled maybe": "samples.enabled is 'maybe'; expected true or false.",
        "--numbers.action explode": "numbers.action is 'explode'; expected one of: stop, skip, continue.",
        "--trainer.precision bf16-mxied": "Did you mean 'bf16-mixed'?",
        "--trainer.precision 16-mixed": "precision 16-mixed is not supported: float16 overflows",
        "--trainer.strategy dpp": "trainer: You selected an invalid strategy name: `strategy='dpp'`.",
        "--trainer.accelerator gpuu": "trainer: You selected an invalid accelerator name: `accelerator='gpuu'`.",
        "--trainer.gradient_clip_val 1": "gradient clipping is not supported for manual optimization",
        "--trainer.accumulate_grad_batches 4": "gradient accumulation is not supported for manual optimization",
        "--model.generator_channels -4": "zoo.cyclegan.CycleGAN cannot be built with these settings: Trying to create tensor with negative",
        "--model.input_channels 1": "Switch it off: --model.lambda_identity 0",
        "--data.size -1": "size is -1; it must be at least 1: --data.size 1",
        "--data.size 30": "The pictures are 30x30; this generator needs multiples of 4.",
        "--data.batch_size 0": "batch_size is 0; it must be at least 1",
        "--checkpoints.every 0": "checkpoints: every is 0",
        "--samples.every 0": "samples: every is 0, count is 2; both must be at least 1.",
        "--samples.count -1": "samples: every is 2, count is -1",
        "--metrics.every -5": "metrics: every is -5; expected at least 1.",
        "--progress.seconds -1": "progress: seconds is -1.0",
        "--seed_everything -1": "seed_everything is -1; expected 0 to 4294967295.",
        "--seed_everything x": "seed_everything is 'x'; expected a whole number.",
        "--samples null": "samples is 'null'; expected a mapping. To switch it off: --samples.enabled false",
        "--run.name a/b": "run.name is 'a/b'; expected the name of a folder",
        "--run.recipe ..": "run.recipe is '..'; expected the name of a folder",
        "--ckpt_path nothing.ckpt": "There is no checkpoint at nothing.ckpt.",
        "--trainer.max_steps": "argument --trainer.max_steps: expected one argument",
        "extra": "'extra' stands where an option was expected",
    }.items(),
)
def test_a_mistaken_option(recipe: Path, capsys: pytest.CaptureFixture[str], options: str, sentence: str) -> None:
    assert sentence in refused(capsys, "fit", "--config", recipe, *shlex.split(options))
    assert not (recipe.parent / "runs" / "tiny").exists()  # a run that never began leaves nothing behind


def test_folders_that_are_not_there_are_all_named_at_once(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--data datamodules.UnpairedFolders --data.source nowhere --data.target neither"
    assert lightning("fit", "--config", recipe, *shlex.split(options)) == 2
    said = capsys.readouterr().err
    for name, folder in {"source": "nowhere", "target": "neither"}.items():
        assert f"{name}: there is no folder {Path.cwd() / folder}" in said
    assert not (recipe.parent / "runs" / "tiny").exists()


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    {
        "model: [1, 2]": "model needs a class_path and its init_args, such as class_path: zoo.",
        "model: null": "model is missing. Put a recipe first",
        "model: {init_args: null}": "init_args of model is null; expected a mapping of settings.",
        "model: {init_args: {pool_sise: 3}}": "model: there is no setting 'pool_sise'. Did you mean 'pool_size'?",
        "model: {init_args: {pool_size: many}}": "model: pool_size is 'many'; expected a whole number.",
        "data: hello": "There is no class hello.",
        "data: {class_path: null}": "data needs a class_path and its init_args, such as class_path: datamodules.",
        "data: {init_args: {domains: plain}}": "data: domains is 'plain'; expected a list.",
        "data: {init_args: {size: [1, 2]}}": "data: size is '[1, 2]'; expected a whole number.",
        "data: {init_args: {domains: [plain, strippd]}}": "there is no look 'strippd'",
        "modle: {a: 1}": "There is no setting 'modle.a'. Did you mean 'model'?",
        "trainer: {max_stepps: 3}": "There is no setting 'trainer.max_stepps'. Did you mean 'trainer.max_steps'?",
        "trainer: {precision: 16-mixed}": "Use --trainer.precision bf16-mixed or 32-true.",
        "trainer: null": "trainer is None; expected a mapping with some of the keys accelerator,",
        "trainer: [a]": "trainer is ['a']; expected a mapping",
        "run: null": "run is None; expected a mapping with some of the keys root, recipe, name.",
        "numbers: [1]": "numbers is [1]; expected a mapping with some of the keys action, patience.",
        "progress: [1]": "progress is [1]; expected a mapping with some of the keys enabled,",
        "metrics: true": "metrics is True; expected a mapping with some of the keys enabled, every.",
        "trainer: {callbacks: [class_path: lightning.pytorch.callbacks.ModelCheckpont]}": "callbacks.ModelCheckpoint'?",
        "seed_everything: [1]": "seed_everything is '[1]'; expected a whole number.",
        "[1, 2]": "a recipe is a mapping with the keys model, data and trainer, not a list.",
        "a: [": "this is not YAML",
    }.items(),
)
def test_a_mistaken_file(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overlay: str, sentence: str
) -> None:
    (tmp_path / "overlay.yaml").write_text(overlay)
    assert sentence in refused(capsys, "fit", "--config", recipe, "--config", tmp_path / "overlay.yaml")
    assert not (recipe.parent / "runs" / "tiny").exists()


@pytest.mark.parametrize("key", ["checkpoints", "samples", "metrics", "progress", "judge"])
@pytest.mark.parametrize("value", [None, False])
def test_a_standard_callback_that_is_null_is_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    recipe = write_recipe(tmp_path, **{key: value})
    assert lightning("fit", "--config", recipe, "--trainer.max_steps", 1, "--run.name", "off") == 0
    run = tmp_path / "runs" / "tiny" / "off"
    left = {"checkpoints": "checkpoints", "samples": "samples", "metrics": "metrics.csv"}
    assert {path.name for path in run.iterdir() if path.name in left.values()} == set(left.values()) - {left.get(key)}
    assert yaml.safe_load((run / "config.yaml").read_text())[key]["enabled"] is False
    assert ("iteration 1 of 1" in capsys.readouterr().err) == (key != "progress")


def test_the_traceback_is_there_for_those_who_want_it(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mistake in ("--model.pool_sise=4", "--samples.every=0", "--data.size=30"):
        with pytest.raises(Exception, match=r"pool_sise|samples: every|30x30"):
            lightning("fit", "--config", recipe, mistake, "--debug")
        assert "lightning:" not in capsys.readouterr().err


def test_a_file_that_is_missing_is_named_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean zoo/cyclegan.yaml?" in refused(capsys, "fit", "--config", "zoo/cyclgan.yaml")


def test_what_the_trainer_needs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "half.yaml").write_text(yaml.safe_dump({"model": TINY["model"]}))
    assert "names no data" in refused(capsys, "fit", "--config", tmp_path / "half.yaml")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_other_commands_tell_mistakes_alike(recipe: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    said = refused(capsys, command, "--config", recipe, "--model.pool_sise", 4)
    assert said == "model: there is no setting 'pool_sise'. Did you mean 'pool_size'?"
    assert "--ckpt_path PATH" in refused(capsys, command, "--config", recipe, "--resume")
    assert "There is no checkpoint at x.ckpt" in refused(capsys, command, "--config", recipe, "--ckpt_path", "x.ckpt")
    assert "There is no run to resume" in refused(capsys, command, "--config", recipe, "--ckpt_path", "last")

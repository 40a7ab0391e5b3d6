"""Recipes survive being printed and given back, and overlays only add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.commands import lightning, write_recipe
from zoo.callbacks.judging import LOGGED
from zoo.cli.lookup import PACKAGE, PLANNED

ROOT = PACKAGE.parent
RECIPES = sorted(path for path in PACKAGE.glob("*.yaml") if path.name != PLANNED)
SWEEP = ROOT / "configs" / "sweep.yaml"  # wandb's, not ours
OVERLAYS = sorted(set((ROOT / "configs").rglob("*.yaml")) - {SWEEP})


def printed(capsys: pytest.CaptureFixture[str], *configs: Path) -> str:
    words = [word for config in configs for word in ("--config", config)]
    assert lightning("fit", *words, "--print_config") == 0
    return capsys.readouterr().out


def leaves(settings: Mapping[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, *path, key)
        else:
            yield (*path, key), value


def at(settings: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings[key]
    return settings


def holds(printed: Any, written: Any) -> bool:
    """Whether what is printed says all that was written; the defaults of callbacks come in addition."""
    if isinstance(written, Mapping):
        return all(key in printed and holds(printed[key], value) for key, value in written.items())
    if isinstance(written, list):
        return len(printed) == len(written) and all(map(holds, printed, written))
    return bool(printed == written)


def meant_for(overlay: Path) -> list[Path]:
    """Demos are for the recipe whose name they bear or begin with, ablations for their folder's, data for what learns from such batches."""
    if overlay.parent.name == "demo":
        named = [path for path in RECIPES if f"{overlay.stem}_".startswith(f"{path.stem}_")]
        return sorted(named, key=lambda path: len(path.stem))[-1:]
    if overlay.parent.parent.name == "ablations":
        return [path for path in RECIPES if path.stem == overlay.parent.name]
    if overlay.parent.name == "data":
        return [path for path in RECIPES if "datamodules.UnpairedFolders" in path.read_text()]
    return RECIPES


PAIRS = [(recipe, overlay) for overlay in OVERLAYS for recipe in meant_for(overlay)]


def test_every_overlay_is_meant_for_something() -> None:
    assert RECIPES
    assert {overlay for _, overlay in PAIRS} == set(OVERLAYS)
    assert {"gpu.yaml", "ddp.yaml", "wandb.yaml"} <= {overlay.name for overlay in OVERLAYS}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_survives_being_printed_and_given_back(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = printed(capsys, recipe)
    for path, value in leaves(yaml.safe_load(recipe.read_text())):
        assert holds(at(yaml.safe_load(once), path), value), path
    again = tmp_path / recipe.name
    again.write_text(once)
    assert printed(capsys, again) == once


@pytest.mark.parametrize(
    ("recipe", "overlay"),
    PAIRS,
    ids=[f"{recipe.stem}+{overlay.parent.name}/{overlay.stem}" for recipe, overlay in PAIRS],
)
def test_an_overlay_adds_its_settings_and_loses_no_callback(
    recipe: Path, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = yaml.safe_load(printed(capsys, recipe))
    both = yaml.safe_load(printed(capsys, recipe, overlay))
    added = yaml.safe_load(overlay.read_text())
    for path, value in leaves(added):
        assert holds(at(both, path), value), path
    # A list is replaced whole, so an overlay that brings a callback names the recipe's, too: with all settings that the recipe gives
    # them, in their order. It may give them more.
    left = iter(both["trainer"]["callbacks"] or [])
    for callback in yaml.safe_load(recipe.read_text())["trainer"].get("callbacks", []):
        assert any(holds(other, callback) for other in left), callback["class_path"]
    assert both["model"]["class_path"] == plain["model"]["class_path"]
    # What the overlay does not speak of stays; where it brings another class, that one's settings come with it.
    spoken_of = {path for path, _ in leaves(added)}
    other_class = {path[:-1] for path in spoken_of if path[-1] == "class_path"}
    for path, value in leaves(plain):
        if path not in spoken_of and not any(path[: len(place)] == place for place in other_class):
            assert at(both, path) == value, path


def test_the_sweep_varies_options_that_there_are_and_looks_at_a_measure_that_is_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    program, *words = sweep["command"]
    assert program == sweep["program"] == "lightning"
    assert words.pop() == "${args}"
    first = {
        name: options.get("values", [options.get("value", options.get("min"))])[0]
        for name, options in sweep["parameters"].items()
    }
    assert lightning(*words, *(f"--{name}={value}" for name, value in first.items()), "--print_config") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    for name, value in first.items():
        section, option = name.split(".")
        assert (settings[section].get("init_args") or settings[section])[option] == value
    assert settings["judge"]["enabled"]
    assert settings["trainer"]["logger"]["class_path"].endswith("WandbLogger")
    prefix, _, figure = sweep["metric"]["name"].partition("/")
    assert prefix == "val"
    assert figure in LOGGED


def test_weights_and_biases_logs_two_runs_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_CONSOLE", "off")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    recipe = write_recipe(tmp_path)
    words = ["--trainer.logger.offline", True, "--trainer.logger.save_dir", tmp_path, "--trainer.log_every_n_steps", 1]
    try:
        for name in ("first", "second"):  # Lightning's own way of keeping the configuration dies at the second run
            configs = ["--config", recipe, "--config", "configs/wandb.yaml", "--run.name", name]
            assert lightning("fit", *configs, *words, "--trainer.max_steps", 2) == 0
            assert (tmp_path / "runs" / "tiny" / name / "metrics.csv").is_file()
    finally:
        wandb.teardown()
    logs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(logs) == 2
    assert all(b"loss/cycle_source" in log.read_bytes() for log in logs)

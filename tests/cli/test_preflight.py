"""What a training needs and the machine lacks: all of it at once, before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace

from datamodules import Scenes
from support.commands import checkpoint_of, lightning, write_recipe
from support.styled import registered, styled_recipe
from zoo.cli.fit import ZooCLI
from zoo.cli.lookup import find_config
from zoo.cli.preflight import demo_command, refuse_nulls
from zoo.core.runs import Run
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


def words(*options: str) -> list[str]:
    return ["--model.initial", "published", *options]


def test_everything_that_is_missing_is_told_at_once_and_nothing_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, Any]] = []

    def missing(settings: Mapping[str, Any]) -> list[str]:
        asked.append(settings)
        return [
            "There is no folder\n  data/cats. Type --data.source FOLDER",
            "Nor data/dogs. Type --data.target FOLDER",
        ]

    monkeypatch.setattr(Scenes, "missing", missing)
    monkeypatch.setattr(ZooCLI, "instantiate_classes", lambda _: pytest.fail("something was built"))
    recipe = styled_recipe(tmp_path)
    assert lightning("fit", "--config", recipe, *words()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "lightning: this training cannot start yet, 3 things are missing; nothing was begun.",
        "  1. The weights published are not here. Type: lightning download published",
        "  2. There is no folder data/cats. Type --data.source FOLDER",
        "  3. Nor data/dogs. Type --data.target FOLDER",
    ]
    assert not (tmp_path / "runs").exists()
    (settings,) = asked
    assert settings["size"] == 32  # what the recipe says
    assert settings["task"] == "unpaired"  # and the defaults


def test_one_thing_is_one_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("fit", "--config", styled_recipe(tmp_path), *words()) == 2
    assert "cannot start yet, one thing is missing" in capsys.readouterr().err


def test_initial_weights_are_not_asked_for_where_a_checkpoint_brings_them(tmp_path: Path) -> None:
    recipe = styled_recipe(tmp_path)
    assert lightning("fit", "--config", recipe, "--run.name", "a", "--trainer.max_steps", 2) == 0
    run = Run(tmp_path / "runs" / "styled" / "a")
    assert lightning("fit", "--config", recipe, "--resume", "a", "--trainer.max_steps", 3, *words()) == 0
    from_checkpoint = ["--ckpt_path", run.checkpoint_path(2), "--run.name", "b", "--trainer.max_steps", 3]
    assert lightning("fit", "--config", recipe, *from_checkpoint, *words()) == 0
    assert torch.equal(
        checkpoint_of(run, 3)["state_dict"]["strength"],
        checkpoint_of(Run(run.folder.with_name("b")), 3)["state_dict"]["strength"],
    )


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_other_commands_ask_for_no_initial_weights(tmp_path: Path, command: str) -> None:
    recipe = styled_recipe(tmp_path)
    assert lightning("fit", "--config", recipe, "--run.name", "a", "--trainer.max_steps", 2) == 0
    checkpoint = Run(tmp_path / "runs" / "styled" / "a").checkpoint_path(2)
    assert lightning(command, "--config", recipe, "--ckpt_path", checkpoint, *words()) == 0


def test_a_recipe_with_a_demo_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CycleGAN, "missing", classmethod(lambda cls, settings, *, resumed=False: ["No network."]))
    given = ["--config", "zoo/cyclegan.yaml"]
    demo = ["--config", "configs/demo/cyclegan.yaml"]
    sentence = f"Nothing at hand? lightning fit {' '.join([*given, *demo])} needs nothing."
    assert lightning("fit", *given) == 2
    assert capsys.readouterr().err.splitlines()[-1] == sentence
    assert lightning("fit", *given, *demo) == 2
    assert "Nothing at hand" not in capsys.readouterr().err  # the demo itself lacks something
    assert not list(tmp_path.iterdir())


def test_only_our_own_recipes_have_demos(tmp_path: Path) -> None:
    assert demo_command([]) is None
    assert demo_command([tmp_path / "cyclegan.yaml"]) is None
    assert demo_command([find_config("configs/ddp.yaml").path]) is None
    assert demo_command([find_config("zoo/cyclegan.yaml").path, find_config("configs/ddp.yaml").path]) is not None


def test_a_room_and_data_that_need_nothing_say_nothing() -> None:
    assert CycleGAN.missing({}) == []
    assert CycleGAN.missing({}, resumed=True) == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("model.lambda_cycle_source", "model.lambda_cycle_source is null; expected a number. Leave it out for 10.0."),
        ("data.size", "data.size is null; expected a whole number. Leave it out for 64."),
    ],
)
def test_null_is_refused_where_something_is_needed(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser lets it through, and the training would begin."""
    assert lightning("fit", "--config", write_recipe(tmp_path), f"--{option}", "null") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_null_is_a_value_where_the_type_says_so() -> None:
    model = Namespace(class_path="zoo.gpunit.GPUNIT", init_args=Namespace(perceptual=None))
    data = Namespace(class_path="datamodules.Digits", init_args=Namespace(channels=None))
    refuse_nulls(Namespace(model=model, data=data))
    model.init_args["lambda_style"] = None
    with pytest.raises(ZooError, match=r"model\.lambda_style is null; expected a number\. Leave it out for 50\.0\."):
        refuse_nulls(Namespace(model=model, data=data))

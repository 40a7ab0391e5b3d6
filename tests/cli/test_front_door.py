"""The part of `lightning` that answers without PyTorch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from zoo.cli.catalog import papers
from zoo.cli.lookup import find_config
from zoo.cli.main import main, speak
from zoo.cli.pages import COMMANDS, EXAMPLES, GROUPS, WIDTH, help_page
from zoo.cli.suggest import did_you_mean, nearest
from zoo.errors import ZooError

HEAVY = ("torch", "lightning", "numpy", "jsonargparse", "torchvision", "kornia", "PIL", "datamodules")
ANSWERED_AT_THE_DOOR = {
    "--help": 0,
    "--version": 0,
    "": 0,
    "list": 0,
    "card cyclegan": 0,
    "cite cyclegan": 0,
    "download": 0,
    "download --help": 0,
    "download vgg91": 2,
    "card gpunti": 2,
    "fti": 2,
    "--hlep": 2,
    "list --hlep": 2,
    "fit": 2,
    "fit --config zoo/cyclgan.yaml": 2,
    "fit --config zoo/planned.yaml": 2,
}


@pytest.mark.parametrize(("words", "code"), ANSWERED_AT_THE_DOOR.items())
def test_answers_without_importing_anything_heavy(words: str, code: int) -> None:
    program = f"""
import sys
from zoo.cli.main import main
code = main({words.split()!r})
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
sys.exit(f"imported {{heavy}}" if heavy else code)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == code, answer.stderr
    assert len(answer.stderr.splitlines()) == (1 if code else 0)
    assert bool(answer.stdout) == (code == 0)


def test_importing_the_packages_is_cheap() -> None:
    program = f"import sys, zoo, zoo.registry, zoo.cli.main; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], "there is no command 'fti'. Did you mean 'fit'? Try: lightning --help"),
        (["FIT"], "there is no command 'FIT'. Did you mean 'fit'? Try: lightning --help"),
        (["xyzzy"], "there is no command 'xyzzy'. Try: lightning --help"),
        (["--vresion"], "there is no option '--vresion'. Did you mean '--version'? Try: lightning --help"),
        (
            ["list", "--hepl"],
            "list has no option '--hepl'. Did you mean '--help'? Usage: lightning list [--weights [--shipped]]",
        ),
        (["list", "unit"], "list takes no name, and 'unit' was given. For one paper: lightning card unit"),
        (["card"], "card takes one name, and 0 were given. Usage: lightning card NAME; names: lightning list"),
        (["card", "gpunti"], "There is no paper 'gpunti'. Did you mean 'gpunit'? Try: lightning list"),
    ],
)
def test_a_typing_mistake_costs_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err == f"lightning: {message}\n"
    assert captured.out == ""


def test_an_option_before_the_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "zoo/cyclegan.yaml", "fit"]) == 2
    assert "Options of a command stand behind it." in capsys.readouterr().err


def test_help_fits_the_screen_and_names_every_command() -> None:
    page = help_page()
    assert max(len(line) for line in page.splitlines()) <= WIDTH
    for group, commands in GROUPS.items():
        assert re.search(rf"^{group}$", page, re.MULTILINE)
        for command in commands:
            assert re.search(rf"^  {command} ", page, re.MULTILINE)


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_examples_of_the_help_page_are_sound(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, name, *arguments = shlex.split(command)
    assert program == "lightning"
    assert name in COMMANDS
    assert command in help_page()
    if name == "fit":
        for option, path in zip(arguments[::2], arguments[1::2], strict=True):
            assert option == "--config"
            assert find_config(path).path.is_file()
    else:
        assert main([name, *arguments]) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "card", "cite", "download"])
def test_a_command_has_a_page_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: lightning {command}")


def test_list_card_and_cite_show_every_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert max(len(line) for line in table.splitlines()) <= WIDTH
    for paper in papers():
        assert re.search(rf"^{paper.name} ", table, re.MULTILINE)
        assert main(["card", paper.name]) == 0
        card = capsys.readouterr().out
        assert paper.title.split()[0] in card
        assert paper.link in card
        assert max(len(line) for line in card.splitlines()) <= WIDTH
        assert main(["cite", paper.name]) == 0
        assert re.match(r"@\w+\{\w", capsys.readouterr().out)


def install(monkeypatch: pytest.MonkeyPatch, module: str, run: Callable[..., int]) -> None:
    """Put a command behind the door that tells what it was handed."""
    command = ModuleType(module)
    command.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module, command)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_trainer_commands_are_handed_over(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handed: list[tuple[str, list[str]]] = []
    install(monkeypatch, "zoo.cli.fit", lambda name, argv: handed.append((name, argv)) or 7)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {class_path: zoo.cyclegan.CycleGAN}\ndata: {class_path: datamodules.UnpairedFolders}\n")
    words = [command, "--config", str(recipe), "--debug", "--trainer.max_steps=3"]
    assert main(words) == 7
    assert handed == [(command, ["--config", str(recipe), "--trainer.max_steps=3"])]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["translate", "compare", "sampler", "labels", "download"])
def test_other_commands_are_handed_over(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []
    install(monkeypatch, f"zoo.cli.{command}", lambda argv: handed.append(argv) or 0)
    assert main([command, "--out", "x.png", "cat.jpg"]) == 0
    assert handed == [["--out", "x.png", "cat.jpg"]]


def fail_with(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


def test_errors_for_people_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert speak(fail_with(ZooError("no pictures in 'a';\n  type this"))) == 2
    assert capsys.readouterr().err == "lightning: no pictures in 'a'; type this\n"


def test_errors_of_the_data_modules_are_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datamodules.errors import DataError

    assert speak(fail_with(DataError("no pictures"))) == 2
    assert capsys.readouterr().err == "lightning: no pictures\n"
    monkeypatch.delitem(sys.modules, "datamodules.errors")
    assert speak(fail_with(ZooError("no room"))) == 2


def test_a_failure_is_one_line_and_the_traceback_is_for_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert speak(fail_with(RuntimeError("boom"))) == 1
    assert capsys.readouterr().err == (
        "lightning: unexpected RuntimeError: boom; run again with --debug for the traceback\n"
    )
    with pytest.raises(RuntimeError, match="boom"):
        speak(fail_with(RuntimeError("boom")), debug=True)
    with pytest.raises(ZooError):
        main(["card", "nobody", "--debug"])


def test_ctrl_c_is_a_clean_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert speak(fail_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nlightning: stopped by Ctrl-C\n"


def test_ctrl_c_that_lightning_turned_into_an_exit(capsys: pytest.CaptureFixture[str]) -> None:
    def as_the_trainer_does() -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert speak(as_the_trainer_does) == 130
    assert capsys.readouterr().err == "\nlightning: stopped by Ctrl-C\n"
    with pytest.raises(SystemExit, match="1"):
        speak(fail_with(SystemExit(1)))


def test_a_reader_that_goes_away_is_no_error() -> None:
    # The pipe's reading end is closed before the command writes.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        answer = subprocess.run(
            [sys.executable, "-m", "zoo", "--help"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert answer.returncode == 141
    assert answer.stderr == ""


def test_suggestions() -> None:
    assert nearest("fti", COMMANDS) == "fit"
    assert nearest("CycleGan", ["cyclegan", "singan"]) == "cyclegan"
    assert nearest("zebra", COMMANDS) is None
    assert did_you_mean("tset", COMMANDS) == " Did you mean 'test'?"
    assert did_you_mean("zebra", COMMANDS) == ""

"""`fit --compile`: which networks are compiled, and that a run is the same run."""

from __future__ import annotations

from pathlib import Path
from shutil import which

import pytest
import torch

from support.commands import assert_equal, checkpoint_of, lightning, only_run, write_recipe
from zoo.cli.fit import compile_networks
from zoo.cyclegan import CycleGAN


def test_compiled_networks_train_and_their_checkpoints_fit_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the compiler makes of networks is PyTorch's business; here the compiled calls run what they would have compiled."""
    compiled: list[torch.nn.Module] = []
    compile_in_place = torch.nn.Module.compile

    def noted(network: torch.nn.Module, *arguments: object, **options: object) -> None:
        compiled.append(network)
        compile_in_place(network, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", noted)
    for name in ("eager", "compiled"):
        (tmp_path / name).mkdir()
        recipe = write_recipe(tmp_path / name, samples={"enabled": False})
        options = ["--compile", "[to_target, to_source]"] if name == "compiled" else []
        with torch.compiler.set_stance("force_eager"):
            assert lightning("fit", "--config", recipe, "--trainer.max_steps", "2", *options) == 0
    assert len(compiled) == 2
    ours, expected = (checkpoint_of(only_run(tmp_path / name / "runs"), 2) for name in ("compiled", "eager"))
    assert_equal(ours["state_dict"], expected["state_dict"])
    run = only_run(tmp_path / "compiled" / "runs")
    assert "to_target" in run.config.read_text().partition("compile:")[2][:40]
    resumed = ["fit", "--resume", run.folder, "--compile", "[]", "--trainer.max_steps", "3"]
    assert lightning(*resumed) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of machines without a GPU and of busy ones
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: g++")
def test_compiled_numbers_are_those_of_the_network_but_for_roundings() -> None:
    room = CycleGAN(generator_channels=2, residual_blocks=1, discriminator_channels=2, discriminator_layers=2)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = room.discriminator_target(image)
    compile_networks(room, ["discriminator_target"])
    torch.testing.assert_close(room.discriminator_target(image), expected, rtol=1e-4, atol=1e-6)


def test_a_network_that_there_is_not_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path)
    assert lightning("fit", "--config", recipe, "--compile", "[to_taget]") == 2
    assert "Did you mean 'to_target'?" in capsys.readouterr().err

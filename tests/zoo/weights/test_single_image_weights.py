"""Folders in the layouts of the official codes become checkpoints of ours with equal results."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from support.single_image import SMALL, draw_picture, train
from zoo.consingan import ConSinGAN
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.singan import SinGAN
from zoo.weights.single_image import convert, main


def official(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace(".activation.", ".prelu."): value for key, value in state.items()}


def write_consingan(model: ConSinGAN, folder: Path, activation: str) -> None:
    last = folder / str(model.stage)
    last.mkdir(parents=True)
    torch.save(official(model.generator.state_dict()), last / "netG.pth")
    torch.save(official(model.discriminator.state_dict()), last / "netD.pth")
    torch.save(list(model.fixed), folder / "fixed_noise.pth")
    torch.save([1, *list(model.amplitudes)[1:]], folder / "noise_amp.pth")
    torch.save(list(model.reals), folder / "reals.pth")
    torch.save(model.generator, folder / "G.pth")  # a whole object, which is not read
    given = {
        "train_mode": model.task,
        "nfc": 4,
        "num_layer": 3,
        "batch_norm": int(model.norm),
        "activation": activation,
    }
    given |= {"lrelu_alpha": 0.05, "train_stages": model.stages, "min_size": 12, "max_size": 28, "train_depth": 2}
    lines = [f"{key}\t-\t{value}" for key, value in {**given, "lr_scale": 0.1, "input_name": "a-b.jpg"}.items()]
    (folder / "parameters.txt").write_text("\n".join(lines) + "\n")


def write_singan(model: SinGAN, folder: Path, _: str) -> None:
    for scale, generator in enumerate(model.generators):
        (folder / str(scale)).mkdir(parents=True)
        torch.save(generator.state_dict(), folder / str(scale) / "netG.pth")
        torch.save(model.discriminator.state_dict(), folder / str(scale) / "netD.pth")
    torch.save(list(model.fixed), folder / "Zs.pth")
    torch.save([1, *list(model.amplitudes)[1:]], folder / "NoiseAmp.pth")
    torch.save(list(model.reals), folder / "reals.pth")
    torch.save(list(model.generators), folder / "Gs.pth")


CASES: dict[str, tuple[type, dict[str, Any], Callable[..., None]]] = {
    "consingan": (ConSinGAN, {"stages": 3}, write_consingan),
    "consingan with norms": (
        ConSinGAN,
        {"stages": 3, "norm": True, "task": "retarget", "activation": "prelu"},
        write_consingan,
    ),
    "singan": (SinGAN, {}, write_singan),
}


def trained(case: str, folder: Path) -> Any:
    kind, changes, write = CASES[case]
    seed_everything(0, verbose=False)
    model = kind(**{**SMALL[f"zoo.{kind.__name__.lower()}.{kind.__name__}"], **changes, "learning_rate": 0.02})
    train(model, draw_picture(folder / "p.png"), folder / "run")
    write(model, folder / "official", changes.get("activation", "lrelu"))
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_an_official_folder_becomes_a_checkpoint(case: str, tmp_path: Path) -> None:
    model = trained(case, tmp_path)
    words = [case.partition(" ")[0], str(tmp_path / "official"), str(tmp_path / "converted.ckpt"), "--min-size", "12"]
    assert main(words) == 0
    converted: Any = load_translator(tmp_path / "converted.ckpt")
    for ours, theirs in zip(converted.sample(2, seed=3), model.sample(2, seed=3), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.std() > 0.01
    assert torch.equal(converted.animate(2)[1], model.animate(2)[1])
    state = model.state_dict()
    moved = {name for name, value in converted.state_dict().items() if not torch.equal(value, state[name])}
    assert moved <= {"whole.0"}  # a folder of SinGAN's has the largest scale, cut to 8 bits once more


@pytest.mark.parametrize(
    ("case", "spoil", "message"),
    [
        ("consingan", lambda folder: (folder / "reals.pth").unlink(), r"There is no .*reals\.pth"),
        ("consingan", lambda folder: (folder / "parameters.txt").unlink(), r"There is no .*parameters\.txt"),
        ("consingan", lambda folder: (folder / "parameters.txt").write_text("nfc\t-\t4\n"), "does not say train_mode"),
        ("consingan", lambda folder: shutil.rmtree(folder / "2"), "holds no generator"),
        ("consingan", lambda folder: shutil.copy(folder / "G.pth", folder / "2" / "netG.pth"), "more than tensors"),
        ("singan", lambda folder: shutil.copy(folder / "Gs.pth", folder / "Zs.pth"), "more than tensors and numbers"),
        ("singan", lambda folder: shutil.rmtree(folder / "1"), "expected all from 0 on"),
        ("singan", lambda folder: shutil.copy(folder / "0" / "netD.pth", folder / "0" / "netG.pth"), "does not fit"),
        ("singan", shutil.rmtree, "is no folder"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    case: str, spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    trained(case, tmp_path)
    spoil(tmp_path / "official")
    with pytest.raises(ZooError, match=message):
        convert(case, tmp_path / "official", tmp_path / "converted.ckpt", min_size=12)
    assert not (tmp_path / "converted.ckpt").exists()

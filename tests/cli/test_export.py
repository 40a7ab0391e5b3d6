"""`lightning export`: what is written gives what the model gives, and a mistake costs one line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from support.commands import lightning, write_recipe
from support.pictures import pixels
from support.toy import ToyRoom
from zoo.aggan import AGGAN
from zoo.cli.export import ANY, Program, check, export_program, noise, parse, prepare, require_packages
from zoo.core.exported import read_exported, write_exported
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError
from zoo.gpunit import GPUNIT

GPUNIT_SMALL: dict[str, Any] = {
    "image_size": 64,
    "content_channels": 2,
    "generator_channels": 2,
    "style_channels": 6,
    "style_width": 4,
    "bottleneck": 4,
    "discriminator_channels": 2,
    "discriminator_max_channels": 4,
    "content_encoder": "random",
    "perceptual": None,
    "latent_channels": 5,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("export")
    words = ["--trainer.max_steps", 2, "--run.name", "a", "--samples.enabled", False]
    assert lightning("fit", "--config", write_recipe(folder), *words) == 0
    return Run(folder / "runs" / "tiny" / "a")


def options(output: Path, *words: object) -> Any:
    return parse(["run", "--program", "--output", str(output), *map(str, words)])


def test_a_program_runs_without_this_package(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.pt2"
    assert lightning("export", run.folder, "--program", "--output", output, "--size", "48x32") == 0
    said = capsys.readouterr().out
    assert "any number x 3 x 32 x 48" in said
    assert "Checked by running it (torch.export) on 1 and 3 new pictures" in said
    picture = noise((5, 3, 32, 48), seed=77)
    torch.save(picture, tmp_path / "in")
    program = f"""
import sys
sys.modules["zoo"] = sys.modules["lightning"] = None  # as if neither were installed
import torch
model = torch.export.load({str(output)!r}).module()
torch.save(model(torch.load({str(tmp_path / "in")!r})).detach(), {str(tmp_path / "out")!r})
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    with torch.no_grad():
        wanted = load_translator(run.folder).translate(picture)
    torch.testing.assert_close(torch.load(tmp_path / "out"), wanted, rtol=0, atol=1e-5)
    assert (wanted - picture).abs().max() > 0.1


def models() -> dict[str, tuple[Translator, list[object], int, int]]:
    """Each with options, the number of inputs, that of outputs."""
    torch.manual_seed(0)
    attentive = AGGAN(
        generator_channels=4, residual_blocks=1, attention_channels=4, discriminator_channels=4, discriminator_layers=1
    )
    plain = CycleGAN(generator="unet", unet_depth=3, generator_channels=4, discriminator_channels=4)
    return {
        "back": (plain, ["--size", 32, "--to", "source"], 1, 1),
        "attention": (attentive, ["--size", 32, "--attention"], 1, 2),
        "exemplar": (GPUNIT(**GPUNIT_SMALL), [], 2, 1),
    }


@pytest.mark.parametrize("name", ["back", "attention", "exemplar"])
def test_what_a_room_can_do_is_exported(name: str, tmp_path: Path) -> None:
    model, words, inputs, outputs = models()[name]
    model.eval()
    program, given = prepare(model, options(tmp_path / "a.pt2", *words))
    assert len(given) == inputs
    said, batch = export_program(program, given, options(tmp_path / "a.pt2", *words))
    assert said.startswith("Checked")
    loaded = torch.export.load(tmp_path / "a.pt2").module()
    fresh = [noise((batch or 4, *x.shape[1:]), seed=50 + at) for at, x in enumerate(given)]
    with torch.no_grad():
        ours, theirs = program(*fresh), loaded(*fresh)
    ours, theirs = (x if isinstance(x, tuple | list) else (x,) for x in (ours, theirs))
    assert len(ours) == len(theirs) == outputs
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_check_finds_what_differs(run: Run) -> None:
    program = Program(load_translator(run.folder), "target")
    given = (noise((2, 3, 32, 32), seed=0),)

    def tried(change: Any) -> str:
        with pytest.raises(ZooError) as caught:
            check(program, lambda x: change(program(x)), given, batch=ANY, tool="a test")
        return str(caught.value)

    assert "Checked by running it (a test) on 2 new pictures" in check(program, program, given, batch=2, tool="a test")
    assert "differs from the model by 0.001" in tried(lambda y: y + 1e-3)
    assert "differs from the model by nan" in tried(lambda y: y * float("nan"))
    assert "gives (1, 3, 16, 32), the model (1, 3, 32, 32)" in tried(lambda y: y[..., :16, :])
    assert "does not run: boom" in tried(_fail)


def _fail(_: Tensor) -> Tensor:
    raise RuntimeError("boom")


def test_weights_rebuild_the_model_and_the_commands_take_them(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    assert lightning("export", run.folder, "--safetensors", "--output", output) == 0
    with safe_open(output, framework="pt") as file:
        entry = json.loads(file.metadata()["zoo"])
    assert (entry["room"], entry["settings"]["generator_channels"]) == ("cyclegan", 4)
    Image.fromarray(pixels(24, 32)).save(tmp_path / "picture.png")
    for place, folder in ((run.folder, "a"), (output, "b")):
        assert lightning("translate", place, tmp_path / "picture.png", "--output", tmp_path / folder) == 0
    ours, theirs = (np.array(Image.open(tmp_path / folder / "picture.png")) for folder in "ab")
    np.testing.assert_array_equal(ours, theirs)
    assert load_translator(output).training is False


def test_a_changed_weight_or_setting_in_a_weights_file_is_noticed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_exported(load_translator(run.folder), path)
    whole = path.read_bytes()
    settings = whole.index(b"lambda_identity")
    for place in (settings + 20, len(whole) // 2, len(whole) - 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ZooError, match=r"checksum is wrong|not a whole safetensors file"):
            read_exported(path)
    path.write_bytes(whole)
    read_exported(path)


def test_a_weights_file_that_does_not_fit_is_refused(run: Run, tmp_path: Path) -> None:
    path, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    write_exported(load_translator(run.folder), path)
    with safe_open(path, framework="pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "checksum"}  # as of a stranger
    tensors = load_file(path)
    first = next(iter(tensors))
    save_file({name: value for name, value in tensors.items() if name != first}, other, metadata)
    with pytest.raises(ZooError, match="does not fit cyclegan"):
        read_exported(other)
    save_file(tensors, other)
    with pytest.raises(ZooError, match="does not say which room it belongs to"):
        read_exported(other)
    save_file(tensors, other, {"zoo": json.dumps({"room": "os.system", "settings": {}})})
    with pytest.raises(ZooError, match="There is no room named"):
        read_exported(other)
    other.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ZooError, match="is not a whole safetensors file"):
        read_exported(other)
    with pytest.raises(ZooError, match="is not a registered room"):
        write_exported(ToyRoom(), other)


MISTAKES = {
    "--output a.pt2": "one of the arguments --program --onnx --safetensors is required",
    "--program --onnx --output a.pt2": "not allowed with argument",
    "--program": "the following arguments are required: --output",
    "--program --output a.onnx": "has to end in .pt2 with --program",
    "--safetensors --output a.pt2": "has to end in .safetensors with --safetensors",
    "--program --output .": "is a folder; expected a file",
    "--program --output there.pt2": "is there already. Give another --output, or --overwrite",
    "--program --output a.pt2 --size big": "--size is 'big'; expected pixels, such as 256 or 320x256, width first.",
    "--program --output a.pt2 --size 30": "--size is 30x30; CycleGAN takes multiples of 4",
    "--program --output a.pt2 --batch 0": "--batch is 0; expected at least 1",
    "--program --output a.pt2 --to dogs": "dogs",
    "--program --output a.pt2 --attention": "CycleGAN gives no attention maps: leave --attention out.",
    "--program --output a.pt2 --unchecked": "--unchecked belongs to --onnx",
    "--safetensors --output a.safetensors --size 32": "--size belongs to --program and --onnx",
    "--program --output a.pt2 --szie 32": "Did you mean '--size'?",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_costs_one_line_and_writes_nothing(
    words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt2").touch()
    assert lightning("export", run.folder, *words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert MISTAKES[words] in said
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]


def test_a_place_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("export", tmp_path / "nothing", "--program", "--output", tmp_path / "a.pt2") == 2
    assert "There is no checkpoint at" in capsys.readouterr().err


def test_a_room_that_does_not_translate_says_so(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="does not translate"):
        prepare(Translator(), options(tmp_path / "a.pt2"))


@pytest.mark.skipif(find_spec("onnxruntime") is not None, reason="onnxruntime is installed here")
def test_without_its_packages_onnx_is_refused_before_anything_is_built(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning("export", run.folder, "--onnx", "--output", tmp_path / "a.onnx") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Type: pip install 'translation-zoo[export]'" in said
    monkeypatch.setattr("zoo.cli.export.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ZooError, match="The check of the ONNX file needs onnxruntime, which is not here"):
        require_packages("onnx")
    require_packages("onnx", unchecked=True)
    require_packages("program")


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime, the extra translation-zoo[export]",
)
def test_an_onnx_file_gives_what_the_model_gives(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    output = tmp_path / "model.onnx"
    assert lightning("export", run.folder, "--onnx", "--output", output, "--size", 32) == 0
    assert "Checked by running it (onnxruntime)" in capsys.readouterr().out
    picture = noise((1, 3, 32, 32), seed=9)
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: picture.numpy()})
    with torch.no_grad():
        wanted = load_translator(run.folder).translate(picture)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-4)

"""What the official codes of ConSinGAN and SinGAN leave of a training, brought to our names and into a checkpoint of ours.

Their folders hold whole pickled objects (`G.pth`, `Gs.pth`), which can run code and are never read, and beside them what is enough: a state
dict of each stage, and lists of tensors. No trained folder was published: this was tested on folders built in their layouts.

- ConSinGAN: `<last stage>/netG.pth` and `netD.pth`, `fixed_noise.pth`, `noise_amp.pth`, `reals.pth`, `parameters.txt`.
- SinGAN: `<scale>/netG.pth`, the last `<scale>/netD.pth`, `Zs.pth`, `NoiseAmp.pth`, `reals.pth`.

    python -m zoo.weights.single_image consingan TrainedModels/angkorwat/<stamp>_generation_... converted.ckpt
    lightning single sample converted.ckpt --output made
"""

import argparse
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.core.files import write_atomically
from zoo.errors import ZooError
from zoo.weights.files import read_file, state_of

ROOMS = ("consingan", "singan")
NETWORKS = ("netG.pth", "netD.pth")
PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {  # of ConSinGAN's parameters.txt, by our name of each
    "task": ("train_mode", str),
    "channels": ("nfc", int),
    "layers": ("num_layer", int),
    "norm": ("batch_norm", lambda text: text not in ("0", "False")),
    "activation": ("activation", str),
    "slope": ("lrelu_alpha", float),
    "stages": ("train_stages", int),
    "min_size": ("min_size", int),
    "max_size": ("max_size", int),
    "train_depth": ("train_depth", int),
    "lr_scale": ("lr_scale", float),
}


def convert(room: str, folder: Path, output: Path, *, min_size: int = 25, noise_border: bool = False) -> None:
    """Write a checkpoint of ours from an official folder.

    Args:
        room: `consingan` or `singan`.
        folder: of one training.
        output: the checkpoint.
        min_size: SinGAN's, which its folder does not tell: 20 for animations, 18 for super-resolution.
        noise_border: SinGAN's, whether it was trained for animations.

    Raises:
        ZooError: something is missing or does not fit.
    """
    read = {"consingan": read_consingan, "singan": read_singan}[room]
    settings, stages, state = read(folder)
    if room == "singan":
        settings |= {"min_size": min_size, "noise_border": noise_border}
    model: nn.Module = registry.room_class(room)(**settings)
    model._grow_to(stages - 1)  # type: ignore[operator]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:300]
        raise ZooError(f"{folder} does not fit a {type(model).__name__} of {stages} stages. {found}") from error
    entry = {"room": room, "iteration": 0, "stage": stages - 1, "frozen": [], "seed": 0, "ranks": []}
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "zoo": entry}  # type: ignore[arg-type]
    write_atomically(output, lambda file: torch.save(checkpoint, file))


def read_consingan(folder: Path) -> tuple[dict[str, Any], int, dict[str, Tensor]]:
    """Settings, number of stages and state of a folder of ConSinGAN's."""
    settings = parameters(folder / "parameters.txt")
    last = max(stage_folders(folder))
    generator, critic = (network(folder / str(last) / name) for name in NETWORKS)
    stages = 1 + max(int(key.split(".")[1]) for key in generator if key.startswith("body."))
    state = {f"generator.{key}": value for key, value in generator.items()}
    state |= {f"discriminator.{key}": value for key, value in critic.items()}
    lists = {"reals": "reals.pth", "fixed": "fixed_noise.pth", "amplitudes": "noise_amp.pth"}
    for name, file in lists.items():
        state |= listed(name, tensors(folder / file))
    return {**settings, "stages": stages}, stages, state


def read_singan(folder: Path) -> tuple[dict[str, Any], int, dict[str, Tensor]]:
    """Settings, number of scales and state of a folder of SinGAN's; the picture is its largest scale."""
    scales = stage_folders(folder)
    if sorted(scales) != list(range(len(scales))):
        raise ZooError(f"{folder} holds the scales {', '.join(map(str, sorted(scales)))}; expected all from 0 on.")
    state: dict[str, Tensor] = {}
    for scale in sorted(scales):
        state |= {f"generators.{scale}.{key}": v for key, v in network(folder / str(scale) / NETWORKS[0]).items()}
    critic = network(folder / str(max(scales)) / NETWORKS[1])
    state |= {f"discriminator.{key}": value for key, value in critic.items()}
    reals = tensors(folder / "reals.pth")
    state |= (
        listed("reals", reals) | listed("whole", reals[-1:]) | listed("amplitudes", tensors(folder / "NoiseAmp.pth"))
    )
    state |= listed("fixed", [z.expand(-1, 3, -1, -1).contiguous() for z in tensors(folder / "Zs.pth")])
    blocks = [key for key in state if re.fullmatch(r"generators\.0\.body\.block\d+\.conv\.weight", key)]
    settings: dict[str, Any] = {
        "channels": state["generators.0.head.conv.weight"].shape[0],
        "least_channels": min(state[key].shape[0] for key in blocks),
        "layers": len(blocks) + 2,
        "max_size": max(reals[-1].shape[-2:]),
    }
    return settings, len(scales), state


def stage_folders(folder: Path) -> list[int]:
    """The numbers of the folders that hold a generator.

    Raises:
        ZooError: there is none.
    """
    if not folder.is_dir():
        raise ZooError(f"{folder} is no folder; expected that of one official training.")
    found = [int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / NETWORKS[0]).is_file()]
    if not found:
        raise ZooError(
            f"{folder} holds no generator; expected <stage>/{NETWORKS[0]} in it, as the official codes write them."
        )
    return found


def network(path: Path) -> dict[str, Tensor]:
    """A state dict under our names: the slope of a PReLU alone has another.

    Raises:
        ZooError: it is none.
    """
    state = state_of(read_file(path, safetensors=False))
    if state is None:
        raise ZooError(f"{path} is no state dict.")
    return {key.replace(".prelu.", ".activation."): value for key, value in state.items()}


def tensors(path: Path) -> list[Tensor]:
    """A list of tensors and numbers, without unpickling anything else.

    Raises:
        ZooError: it is missing or holds more.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ZooError(f"There is no {path}: the folder is not whole.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ZooError(f"{path} is damaged, or holds more than tensors and numbers: it is not read.") from error
    if not isinstance(content, list) or not all(isinstance(value, Tensor | int | float) for value in content):
        raise ZooError(f"{path} is no list of tensors.")
    return [value.detach() if isinstance(value, Tensor) else torch.tensor(float(value)) for value in content]


def listed(name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Entries of a `TensorList` in a state dict."""
    return {f"{name}.{number}": value for number, value in enumerate(values)}


def parameters(path: Path) -> dict[str, Any]:
    """The settings that ConSinGAN's parameters.txt tells; a line is `key<tab>-<tab>value`.

    Raises:
        ZooError: it is missing, or lacks one of them.
    """
    if not path.is_file():
        raise ZooError(f"There is no {path}: the folder is not whole.")
    lines = (line.split("\t", 2) for line in path.read_text(encoding="utf-8").splitlines())
    given = {parts[0].strip(): parts[2].strip() for parts in lines if len(parts) == 3}
    if lacking := [key for key, _ in PARAMETERS.values() if key not in given]:
        raise ZooError(f"{path} does not say {', '.join(lacking)}.")
    return {name: read(given[key]) for name, (key, read) in PARAMETERS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.weights.single_image", description="Convert an official training."
    )
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("folder", type=Path, help="of one training, below TrainedModels")
    parser.add_argument("output", type=Path, help="the checkpoint to write, such as converted.ckpt")
    parser.add_argument("--min-size", type=int, default=25, help="SinGAN's, if it was another (default: 25)")
    parser.add_argument("--noise-border", action="store_true", help="SinGAN, trained for animations")
    options = parser.parse_args(arguments)
    convert(options.room, options.folder, options.output, min_size=options.min_size, noise_border=options.noise_border)
    print(f"Written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

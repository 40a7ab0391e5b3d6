"""Official CycleGAN weights: published generators (`horse2zebra.pth`) and files of the official training (`latest_net_G_A.pth`).

Both are flat state dicts of one network each, whose keys are ours: only running statistics of instance norms, which files of
PyTorch before 0.4 hold, have to go. The published files were never seen here; this was tested on files built in their layout.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.weights.files import read_file, some_names, state_of

OFFICIAL_NAMES = {
    "G_A": "to_target",
    "G_B": "to_source",
    "D_A": "discriminator_target",
    "D_B": "discriminator_source",
}


def load_network(network: nn.Module, path: Path, say: Callable[[str], object] = print) -> None:
    """Load an official file into one of CycleGAN's networks, every key and shape of which has to fit.

    Args:
        network: a generator or discriminator, such as `model.to_target`.
        path: the file.
        say: told what was left out of the file, and why.

    Raises:
        ZooError: the file cannot be read, or is of another network; says what it looks like.
    """
    state = read_state(path)
    if stale := _stale_statistics(network, state):
        say(
            f"{path.name}: {len(stale)} running statistics of instance norms were left out ({stale[0]}, ...). Old versions of "
            "PyTorch saved them; instance norm uses each picture's own."
        )
    state = {key: value for key, value in state.items() if key not in stale}
    ours = network.state_dict()
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in ours.items()}:
        raise ZooError(
            f"{path} looks like {describe(state)}. This model expects {describe(ours)}.{_advice(state, ours)}"
        )
    network.load_state_dict(state, strict=True)


def load_model(model: nn.Module, folder: Path, label: str = "latest", say: Callable[[str], object] = print) -> None:
    """Load all four networks of an official training: `<label>_net_G_A.pth`, `..._G_B`, `..._D_A`, `..._D_B`.

    Args:
        model: a CycleGAN; where it keeps moving averages they start from these weights.
        folder: where the files lie.
        label: `latest`, or an epoch.
        say: told what was left out of a file, and why.

    Raises:
        ZooError: a file is missing, or is of another network.
    """
    files = {name: folder / f"{label}_net_{name}.pth" for name in OFFICIAL_NAMES}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        labels = sorted(path.name.removesuffix("_net_G_A.pth") for path in folder.glob("*_net_G_A.pth"))
        found = f"It has files labelled {', '.join(labels)}." if labels else "It has no *_net_G_A.pth at all."
        raise ZooError(f"{folder} lacks {', '.join(missing)}. {found}")
    parts = dict(model.named_modules())
    for name, ours in OFFICIAL_NAMES.items():
        load_network(parts[ours], files[name], say)
        if f"ema.{ours}" in parts:
            parts[f"ema.{ours}"].load_state_dict(parts[ours].state_dict())


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of one network.

    Raises:
        ZooError: the file is missing or damaged, or holds something else; says what.
    """
    content = read_file(path, safetensors=False)
    if "pytorch-lightning_version" in content:
        raise ZooError(f"{path} is a checkpoint of this project, not official weights: give it with --ckpt_path.")
    state = state_of(content)
    if state is None:
        raise ZooError(
            f"{path} is no state dict of one network: it holds {some_names(content)}. Official files hold weights alone, "
            "such as model.1.weight."
        )
    return state


def settings_of(state: Mapping[str, Tensor]) -> dict[str, str | int | bool]:
    """The arguments of `CycleGAN` that the keys and shapes of a network's state dict speak of; empty for other networks."""
    convolutions = {key: value for key, value in state.items() if key.endswith(".weight") and value.ndim == 4}
    if "model.1.weight" in convolutions:
        inside = {key.split(".")[3] for key in convolutions if ".conv_block." in key}
        return {
            "generator": "resnet",
            "generator_channels": len(convolutions["model.1.weight"]),
            "residual_blocks": len({key.split(".")[1] for key in convolutions if ".conv_block." in key}),
            "generator_norm": _norm(state, "model.1", "model.2"),
            "dropout": bool(inside & {"4", "6"}),  # the place of a block's second convolution tells
            "padding": "zero" if "0" in inside else "reflect",
        }
    if "model.model.0.weight" in convolutions:
        return {
            "generator": "unet",
            "generator_channels": len(convolutions["model.model.0.weight"]),
            "unet_depth": len(convolutions) // 2,
            "generator_norm": _norm(state, "model.model.0", "model.model.1.model.2"),
        }
    if "net.0.weight" in convolutions:
        return {
            "discriminator": "pixel",
            "discriminator_channels": len(convolutions["net.0.weight"]),
            "discriminator_norm": _norm(state, "net.2", "net.3"),
        }
    if "model.0.weight" in convolutions:
        return {
            "discriminator": "patch",
            "discriminator_channels": len(convolutions["model.0.weight"]),
            "discriminator_layers": len(convolutions) - 2,
            "discriminator_norm": _norm(state, "model.2", "model.3"),
        }
    return {}


def describe(state: Mapping[str, Tensor]) -> str:
    """What network a state dict looks like, in words."""
    settings = settings_of(state)
    if not settings:
        return f"no network of CycleGAN (it holds {some_names(state)})"
    (role, kind), *details = settings.items()
    return f"a {kind} {role} ({', '.join(f'{name} {value}' for name, value in details)})"


def _advice(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    found, wanted = settings_of(theirs), settings_of(ours)
    if found.keys() != wanted.keys():
        return " Is it the file of another network?" if found else ""
    flags = [f"--model.{name} {str(value).lower()}" for name, value in found.items() if value != wanted[name]]
    return f" To load it: {' '.join(flags)}" if flags else " The numbers of channels of the pictures differ."


def _norm(state: Mapping[str, Tensor], convolution: str, norm: str) -> str:
    """The normalisation after a convolution, which has a bias with instance norm alone."""
    if f"{norm}.weight" in state and state[f"{norm}.weight"].ndim == 1:
        return "batch"
    return "instance" if f"{convolution}.bias" in state else "none"


def _stale_statistics(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    norms = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, nn.InstanceNorm2d))
    endings = ("running_mean", "running_var", "num_batches_tracked")
    return [key for key in state if key.startswith(norms) and key.endswith(endings)]

"""Official AGGAN weights: TensorFlow checkpoints (`AGGAN-29.index`, `AGGAN-29.data-00000-of-00001`), and exports of them to npz.

Both hold all six networks under names such as `Model/g_A/r1/c1/Conv/weights`. What trains alone is left aside: Adam's slots and
powers, the global step, and the norms of last layers, which were built and never used. The published files were never seen here;
this was tested on files built in their layout. With TensorFlow at hand, an export is one line:

    numpy.savez("AGGAN-29.npz", **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})

where `reader` is `tf.train.load_checkpoint("AGGAN-29")`.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.weights.files import some_names
from zoo.weights.tensorflow_bundle import read_index, read_variable

NETWORKS = {
    "g_A": "to_target",
    "g_B": "to_source",
    "g_A_ae": "attention_source",
    "g_B_ae": "attention_target",
    "d_A": "discriminator_source",
    "d_B": "discriminator_target",
}
"""Our names of the official networks."""

VALUES = {
    "Conv/weights": "conv.weight",
    "Conv/biases": "conv.bias",
    "Conv2d_transpose/weights": "conv.weight",
    "Conv2d_transpose/biases": "conv.bias",
    "instance_norm/scale": "norm.weight",
    "instance_norm/offset": "norm.bias",
}
"""Our names of a layer's variables."""

VARIABLE = re.compile(
    rf"Model/(?P<network>{'|'.join(NETWORKS)})/(?P<layer>c\d+|r\d+/c\d+)/(?P<value>{'|'.join(VALUES)})"
)
OF_THE_OPTIMISER = re.compile(r".*/Adam(_\d+)?|(.*/)?beta[12]_power(_\d+)?|(.*/)?global_step")


def our_name(official: str) -> str:
    """Our key of a variable, such as `to_target.r1.c1.conv.weight` for `Model/g_A/r1/c1/Conv/weights`.

    Raises:
        ZooError: no network of AGGAN has such a variable.
    """
    found = VARIABLE.fullmatch(official)
    if found is None:
        raise ZooError(f"{official!r} is no variable of AGGAN; its names look like Model/g_A/r1/c1/Conv/weights.")
    return f"{NETWORKS[found['network']]}.{found['layer'].replace('/', '.')}.{VALUES[found['value']]}"


def from_official(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring variables to our names and PyTorch's layout: kernels `h w in out` (transposed: `h w out in`) to `out in h w` (`in out h w`).

    Raises:
        ZooError: a variable is none of AGGAN's.
    """
    return {
        our_name(name): value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
        for name, value in variables.items()
    }


def never_used(name: str, ours: Mapping[str, Tensor]) -> bool:
    """Whether a converted variable is the norm of a layer that has none: official last layers hold one."""
    layer, norm, _ = name.rpartition(".norm.")
    return bool(norm) and f"{layer}.conv.weight" in ours and f"{layer}.norm.weight" not in ours


def load_model(model: nn.Module, path: Path, say: Callable[[str], object] = print) -> None:
    """Load an official checkpoint into an AGGAN, every name and shape of which has to fit.

    Args:
        model: an AGGAN; where it keeps moving averages they start from these weights.
        path: an npz export; or a file of a TensorFlow checkpoint, or the name that its files share.
        say: told what was left aside, and why.

    Raises:
        ZooError: the file cannot be read, or is of another model: says what to type. Then nothing was loaded.
    """
    variables, aside = read_variables(path)
    if aside:
        say(f"{path.name}: {len(aside)} variables of the optimiser were left aside ({aside[0]}, ...).")
    state, ours = from_official(variables), own_state(model)
    if dead := [name for name in state if never_used(name, ours)]:
        say(
            f"{path.name}: {len(dead)} weights of norms in last layers were left aside ({dead[0]}, ...). The official code builds them "
            "and never uses them."
        )
    state = {name: value for name, value in state.items() if name not in dead}
    _check(state, ours, path)
    parts = dict(model.named_modules())
    for network in NETWORKS.values():
        below = {name.removeprefix(f"{network}."): v for name, v in state.items() if name.startswith(f"{network}.")}
        for part in (network, f"ema.{network}"):
            if part in parts:
                parts[part].load_state_dict(below)


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model's six networks, without moving averages."""
    return {name: value for name, value in model.state_dict().items() if name.partition(".")[0] in NETWORKS.values()}


def read_variables(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read a checkpoint or an export.

    Returns:
        The variables of the networks by official name, and the names of those of the optimiser, which are not read.

    Raises:
        ZooError: the file is missing, damaged or something else; or a variable is neither.
    """
    if path.suffix == ".npz":
        return _read_npz(path)
    index = read_index(path)
    kept, aside = _sorted_out(index, path)
    return {name: read_variable(path, name, index[name]) for name in kept}, aside


def settings_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of `AGGAN` that converted weights speak of.

    Raises:
        KeyError: a network is not whole.
    """
    blocks = {name.split(".")[1] for name in state if re.match(r"to_target\.r\d+\.", name)}
    convolutions = sum(name.startswith("discriminator_target.") and name.endswith("conv.weight") for name in state)
    return {
        "generator_channels": len(state["to_target.c1.conv.bias"]),
        "residual_blocks": len(blocks),
        "attention_channels": len(state["attention_source.c1.conv.bias"]),
        "attention_up_kernel": state["attention_source.c4.conv.weight"].shape[-1],
        "discriminator_channels": len(state["discriminator_target.c1.conv.bias"]),
        "discriminator_layers": convolutions - 2,
    }


def _check(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], path: Path) -> None:
    if {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in ours.items()}:
        return
    try:
        found, wanted = settings_of(state), settings_of(ours)
    except KeyError:
        found = wanted = {}
    if options := " ".join(f"--model.{name} {value}" for name, value in found.items() if value != wanted[name]):
        raise ZooError(f"{path} has other sizes than this model. To load it: {options}")
    lacking, unknown = sorted(set(ours) - set(state)), sorted(set(state) - set(ours))
    if lacking or unknown:
        faults = [f"lacks {lacking[0]} ({len(lacking)} weights)"] if lacking else []
        faults += [f"has {unknown[0]} that this model has not ({len(unknown)} weights)"] if unknown else []
        raise ZooError(f"{path} does not fit: it {' and '.join(faults)}.")
    name = next(name for name in ours if state[name].shape != ours[name].shape)
    raise ZooError(
        f"{path} does not fit: {name} is {tuple(state[name].shape)}, expected was {tuple(ours[name].shape)}."
    )


def _sorted_out(names: Mapping[str, object], path: Path) -> tuple[list[str], list[str]]:
    """Names of the networks' variables, and of those that training alone needs.

    Raises:
        ZooError: a name is neither.
    """
    aside = [name for name in names if OF_THE_OPTIMISER.fullmatch(name)]
    kept = [name for name in names if name not in aside]
    if strange := [name for name in kept if not VARIABLE.fullmatch(name)]:
        raise ZooError(
            f"{path} is no checkpoint of AGGAN, or not of it alone: {len(strange)} of {len(names)} variables have other names "
            f"({some_names(dict.fromkeys(strange))})."
        )
    if not kept:
        raise ZooError(f"{path} holds no network of AGGAN (it holds {some_names(names)}).")
    return kept, aside


def _read_npz(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    if not path.is_file():
        raise ZooError(f"There is no {path}. Make it from a TensorFlow checkpoint; zoo.weights.aggan says how.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            kept, aside = _sorted_out(dict.fromkeys(archive.files), path)
            return {name: torch.from_numpy(archive[name]) for name in kept}, aside
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise ZooError(f"{path} is not a whole npz file ({error}). Export it again.") from error

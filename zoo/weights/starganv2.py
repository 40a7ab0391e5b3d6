"""Official StarGAN v2 weights, every key and shape of which has to fit.

Published are moving averages, `{network: state dict}` of generator, mapping_network and style_encoder, and of FAN where the
generator has high-pass skips (a checkpoint of ours keeps no FAN: it comes from its own file then). A training of the official code
writes three files: `NNNNNN_nets.ckpt` (the networks themselves, with the discriminator), `NNNNNN_nets_ema.ckpt` and
`NNNNNN_optims.ckpt`. Files of some versions have `module.` before every key, or lack the constant `hpf.filter`. The published files
were never seen here; this was tested on files built in their layouts.

    model = StarGANv2()
    load_averages(model, fetch("starganv2_afhq"))

or, to have a checkpoint that the commands take, with whatever of the three files lies beside the given one:

    python -m zoo.weights.starganv2 100000_nets_ema.ckpt --domains cat dog wild --output afhq.ckpt
    lightning translate afhq.ckpt PICTURES --to dog --output translated

With all three files of a training, the checkpoint goes on where that one was: `lightning fit --config ... --ckpt_path afhq.ckpt`.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from zoo.core.checkpoints import SafeCheckpointIO
from zoo.errors import ZooError
from zoo.registry import room_class
from zoo.weights.files import read_file, some_names, state_of

State = Mapping[str, Tensor]
Settings = dict[str, Any]

ROOM = "starganv2"
AVERAGED = ("generator", "mapping_network", "style_encoder")
OPTIMIZERS = ("discriminator", "generator", "mapping_network", "style_encoder")
"""In the order of the room's `configure_optimizers`."""

FILTER = "hpf.filter"
FILES = re.compile(r"(?P<number>\d+)_(nets_ema|nets|optims)\.ckpt")
BOTTLENECK = 16  # side, without high-pass skips


@dataclass
class Found:
    """What a file holds: state dicts by network, of the moving averages or of the networks themselves.

    Attributes:
        origin: the file.
        networks: the state dicts.
        averaged: moving averages of the same networks, where a training has both.
        landmarks: FAN's state dict, where a file brings it along.
    """

    origin: str
    networks: dict[str, dict[str, Tensor]]
    averaged: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    landmarks: dict[str, Tensor] | None = None


# Loading -------------------------------------------------------------------------------------------------------------


def load_averages(model: nn.Module, path: Path) -> None:
    """Load a published file: into the moving averages, which translate, and into the networks themselves.

    Args:
        model: a `StarGANv2`.
        path: `{network: state dict}`, of at least generator, mapping network and style encoder.

    Raises:
        ZooError: the file is missing, damaged or another one, or has other sizes: says which options to type. Then
            nothing was loaded.
    """
    _load(model, official(path))


def official(path: Path) -> Found:
    """Read an official file.

    Raises:
        ZooError: the file is missing, damaged or another one; says what it looks like.
    """
    content = read_file(path)
    networks = {}
    for name, value in content.items():
        state = state_of(value) if isinstance(value, Mapping) else None
        if name in (*AVERAGED, "discriminator") and state is not None:
            networks[name] = state
    if lacking := [name for name in AVERAGED if name not in networks]:
        raise ZooError(
            f"{path} has no {' and no '.join(lacking)}: it looks like something else ({some_names(content)}). StarGAN v2's files "
            "hold generator, mapping_network and style_encoder. Published ones: lightning download starganv2_afhq"
        )
    fan = content.get("fan")
    return Found(str(path), networks, landmarks=state_of(fan) if isinstance(fan, Mapping) else None)


def _load(model: nn.Module, found: Found) -> None:
    parts = dict(model.named_modules())
    wanted = {name: parts[name].state_dict() for name in found.networks}
    networks = complete(found.networks, wanted["generator"])
    averages = complete(found.averaged, wanted["generator"]) if found.averaged else networks
    for states in (networks, averages):
        _check(states, {name: wanted[name] for name in states}, found.origin)
    for name, state in networks.items():
        parts[name].load_state_dict(state)
    for name in AVERAGED:
        parts[f"ema.{name}"].load_state_dict(averages[name])
    if found.landmarks is not None and settings_of(networks)["w_hpf"] > 0:
        model.take_landmarks(found.landmarks)  # type: ignore[operator]


def complete(networks: Mapping[str, State], generator: State | None = None) -> dict[str, dict[str, Tensor]]:
    """Add the constant of the high-pass skips where a file lacks it and the generator has such skips.

    Args:
        networks: state dicts by network.
        generator: of the model, whose constant is taken; None takes that of w_hpf = 1, the published one.
    """
    full = {name: dict(state) for name, state in networks.items()}
    settings = settings_of(full)
    if settings.get("w_hpf", 0.0) > 0 and FILTER not in full["generator"]:
        own = None if generator is None else generator.get(FILTER)
        full["generator"][FILTER] = _laplacian() if own is None else own.clone()
    return full


def _laplacian() -> Tensor:
    kernel = torch.full((3, 3), -1.0)
    kernel[1, 1] = 8.0
    return kernel


# What a file speaks of -----------------------------------------------------------------------------------------------


def settings_of(networks: Mapping[str, State]) -> Settings:
    """The arguments of `StarGANv2` that state dicts speak of; `domains` as their number.

    A style encoder's blocks say the size of the pictures; by it, a generator's say whether there are high-pass skips.
    """
    generator, mapping, encoder = (networks[name] for name in AVERAGED)
    size = 2 ** (_count(encoder, r"shared\.(\d+)\.conv1\.weight") + 2)
    skips = _count(generator, r"encode\.(\d+)\.conv1\.weight") - 2 > log2(size // BOTTLENECK)
    centre = float(generator[FILTER][1, 1]) if FILTER in generator else 8.0
    return {
        "image_size": size,
        "channels": len(generator["from_rgb.bias"]),
        "max_channels": len(generator["decode.0.conv1.bias"]),
        "style_channels": generator["decode.0.norm1.fc.weight"].shape[1],
        "latent_channels": mapping["shared.0.weight"].shape[1],
        "mapping_channels": len(mapping["shared.0.bias"]),
        "domains": _count(mapping, r"unshared\.(\d+)\.0\.weight"),
        "w_hpf": round(8.0 / centre, 6) if skips else 0.0,
    }


def model_settings(networks: Mapping[str, State]) -> Settings:
    """`settings_of`, with names for the domains: the published ones where their number says so, domain0, domain1, ... otherwise."""
    settings = settings_of(networks)
    return {**settings, "domains": _names(settings["domains"], settings["w_hpf"] > 0)}


def _count(state: State, pattern: str) -> int:
    return len({found[1] for key in state if (found := re.fullmatch(pattern, key))})


def _check(states: Mapping[str, State], wanted: Mapping[str, State], origin: str) -> None:
    shapes = [{name: {k: v.shape for k, v in s.items()} for name, s in each.items()} for each in (states, wanted)]
    if shapes[0] == shapes[1]:
        return
    try:
        found, ours = settings_of(states), settings_of(wanted)
    except (KeyError, IndexError, ValueError):
        found = ours = {}
    options = [_option(name, value) for name, value in found.items() if value != ours[name]]
    if options:
        raise ZooError(f"{origin} has other sizes than this model. To load it: {' '.join(options)}")
    name = next(name for name in wanted if shapes[0][name] != shapes[1][name])
    theirs, own = shapes[0][name], shapes[1][name]
    lacking, unknown = sorted(own.keys() - theirs.keys()), sorted(theirs.keys() - own.keys())
    if lacking:
        fault = f"lacks {', '.join(lacking[:2])} ({len(lacking)} entries)"
    elif unknown:
        fault = f"has {', '.join(unknown[:2])} that nothing here knows ({len(unknown)} entries)"
    else:
        key = next(key for key in own if own[key] != theirs[key])
        fault = f"does not fit: {key} is {tuple(theirs[key])}, expected was {tuple(own[key])}"
    raise ZooError(f"The {name} in {origin} {fault}.")


def _option(name: str, value: Any) -> str:
    if name == "domains":
        return f"--model.domains [{','.join(_names(value, False))}] (names for {value} of them)"
    return f"--model.{name} {value:g}" if isinstance(value, float) else f"--model.{name} {value}"


def _below(prefix: str, state: State) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


# Converting ----------------------------------------------------------------------------------------------------------


def convert(path: Path, domains: Sequence[str] | None = None) -> dict[str, Any]:
    """Make a checkpoint of an official file, and of those of its training that lie beside it.

    Args:
        path: `NNNNNN_nets_ema.ckpt` or any other file of averages; or `NNNNNN_nets.ckpt`.
        domains: their names in the order of their numbers; by default those of the published weights, or domain0, domain1, ...

    Returns:
        What `zoo.core.loading.load_translator` reads: weights, settings, and the state of the optimisers where it is there. A
        discriminator that a file lacks stays random.

    Raises:
        ZooError: a file is damaged or another one, or the names are too many or too few.
    """
    given = official(path)
    named = FILES.fullmatch(path.name)
    beside = {kind: path.with_name(f"{named['number']}_{kind}.ckpt") for kind in KINDS} if named else {}
    there = {kind: file for kind, file in beside.items() if file.is_file()}
    found = given
    if "nets" in there:
        found = official(there["nets"])
        found.averaged = official(there["nets_ema"]).networks if "nets_ema" in there else given.networks
    settings = settings_of(found.networks)
    count, names = settings["domains"], domains or _names(settings["domains"], settings["w_hpf"] > 0)
    if len(names) != count:
        raise ZooError(
            f"{path} knows {count} domains, and {len(names)} names were given: --domains {' '.join(_names(count, False))}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = room_class(ROOM)(**{**settings, "domains": list(names)})
    _load(model, found)
    iteration = int(named["number"]) if named else 0
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "zoo": {"room": ROOM, "iteration": iteration, "stage": 0, "frozen": [], "seed": 0, "ranks": []},
        "global_step": iteration,
    }
    if {"nets", "optims"} <= there.keys():
        checkpoint["optimizer_states"] = optimizer_states(read_file(there["optims"]), model, str(there["optims"]))
        checkpoint |= progress(iteration)
    return checkpoint


KINDS = ("nets", "nets_ema", "optims")


def optimizer_states(content: Mapping[str, Any], model: nn.Module, origin: str) -> list[dict[str, Any]]:
    """The states of the official code's optimisers in the order of ours.

    Both number a network's parameters in the order in which it lists them, which has to be the same.

    Raises:
        ZooError: one is missing, or its tensors have other shapes.
    """
    states = []
    for name in OPTIMIZERS:
        state = content.get(name)
        parameters = list(model.get_submodule(name).named_parameters())
        if not isinstance(state, Mapping) or len(state["param_groups"][0]["params"]) != len(parameters):
            raise ZooError(
                f"{origin} holds no state of the {name}'s optimiser that fits: it has {some_names(content)}."
            )
        for number, entry in state["state"].items():
            key, parameter = parameters[number]
            if entry["exp_avg"].shape != parameter.shape:
                raise ZooError(
                    f"{origin}: the optimiser's entry {number} of {name} is {tuple(entry['exp_avg'].shape)}, and {key} is "
                    f"{tuple(parameter.shape)}."
                )
        states.append(dict(state))
    return states


def progress(iteration: int) -> dict[str, Any]:
    """What Lightning wants to know of a training that has done so many iterations, to go on with it."""
    fit_loop = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False).fit_loop
    state = fit_loop.state_dict()
    for counter in ("epoch_loop.batch_progress", "epoch_loop.manual_optimization.optim_step_progress"):
        for span in ("total", "current"):
            state[counter][span] = dict.fromkeys(state[counter][span], iteration)
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": iteration}
    return {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "lr_schedulers": [],
        "loops": {"fit_loop": state},
    }


def _names(count: int, faces: bool) -> list[str]:
    known = {3: ["cat", "dog", "wild"], 2: ["female", "male"]} if faces or count == 3 else {}
    return known.get(count, [f"domain{number}" for number in range(count)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert an official file.

    Args:
        arguments: of the command line; those of the process when None.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m zoo.weights.starganv2", description="Convert StarGAN v2's official files."
    )
    parser.add_argument(
        "file", type=Path, help="NNNNNN_nets_ema.ckpt or NNNNNN_nets.ckpt; files of the same training beside it count"
    )
    parser.add_argument(
        "--domains", nargs="+", help="names of the domains in their order: alphabetical in the official code"
    )
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    options = parser.parse_args(arguments)
    try:
        checkpoint = convert(options.file, options.domains)
    except ZooError as error:
        print(f"starganv2: {error}", file=sys.stderr)
        return 2
    SafeCheckpointIO().save_checkpoint(checkpoint, options.output)
    print(f"Written to {options.output}: domains {', '.join(checkpoint['hyper_parameters']['domains'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

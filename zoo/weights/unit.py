"""Official UNIT weights of both generations of its code, brought to our names, every key and shape of which has to fit.

- The paper's code (branch version_02): bare state dicts of COCOResGen or COCOResGen2 (`cat2tiger_gen_00500000.pkl`, PyTorch files in spite
  of their ending), of its three discriminators, and of the digits' networks.
- The later code: `{"a": ..., "b": ...}`, a state dict per domain, of generators (`unit_gta2city.pt`, `gen_00500000.pt`) or of
  discriminators (`dis_00500000.pt`).

Files of PyTorch before 0.4 also hold running statistics of instance norms, which are left out: instance norm uses each picture's
own. The published files were never seen here; this was tested on files built in their layouts.

    model = UNIT(front_norm="instance")
    load_weights(model, fetch("unit_cat2tiger"))
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.weights.files import first_difference, read_file, some_names, state_of

State = Mapping[str, Tensor]
Settings = dict[str, Any]

DOMAINS = {"A": "source", "B": "target", "a": "source", "b": "target"}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

# Names ---------------------------------------------------------------------------------------------------------------

PAPER_PARTS = {
    "encode_A": "encoders.source",
    "encode_B": "encoders.target",
    "enc_shared": "shared_encoder",
    "dec_shared": "shared_decoder",
    "decode_A": "decoders.source",
    "decode_B": "decoders.target",
}
RESIDUAL_PLACES = {"0": "model.0.conv", "3": "model.1.conv"}
DIGIT_BLOCKS = {
    **{f"g_en_conv0_{letter}": f"encoders.{DOMAINS[letter]}" for letter in "ab"},
    **{f"g_en_conv{number}": f"shared_encoder.{number - 1}" for number in (1, 2, 3)},
    **{f"g_de_conv{number}": f"shared_decoder.{number}" for number in (0, 1, 2)},
    **{f"g_de_conv3_{letter}": f"decoders.{DOMAINS[letter]}.0" for letter in "ab"},
}
DIGIT_BLOCK_PLACES = {"model.0": "conv", "model.1": "norm", "model.2.bias": "shift"}
DIGIT_LAYERS = {
    "g_vae.en_mu": "mean",
    "g_vae.en_sigma": "deviation",
    **{f"de_conv4_{letter}": f"decoders.{DOMAINS[letter]}.1" for letter in "ab"},
    **{f"conv0_{letter}.0": f"lowest.{DOMAINS[letter]}.0" for letter in "ab"},
    **{f"conv{number}.0": f"layers.{number - 1}.0" for number in (1, 2, 3)},
    "conv4": "real_head",
    "conv_cl": "class_head",
}


def paper_generator_names(state: State) -> dict[str, str]:
    """Our name of each key of the paper's generators; residual blocks are those with a second convolution."""
    residual = {key.partition(".model.3.")[0] for key in state if ".model.3." in key}
    names = {}
    for key in state:
        part, number, *places, last = key.split(".")
        inner = "conv"
        if f"{part}.{number}" in residual:
            inner = RESIDUAL_PLACES[places[1]]
        names[key] = f"{PAPER_PARTS[part]}.{number}.{inner}.{last}"
    return names


def paper_discriminator_names(state: State) -> dict[str, str]:
    """Our name of each key of one of the paper's discriminators."""
    names = {}
    for key in state:
        part, number, *places, last = key.split(".")
        _, *size, domain = part.split("_")
        scale = f"scales.{int(size[0]).bit_length() - 1}." if size else ""  # model_1, model_2, model_4
        network = "shared" if domain == "S" else DOMAINS[domain]
        names[key] = f"{scale}{network}.{number}.{'conv.' if places else ''}{last}"
    return names


def later_generator_names(
    state: State, domain: str, encoder_shared: int = 0, decoder_shared: int = 0
) -> dict[str, str]:
    """Our name of each key of one of the later code's generators.

    Args:
        state: of the generator, `enc.` and `dec.`.
        domain: `source` or `target`.
        encoder_shared: how many of its encoder's residual blocks, the last ones, become shared ones.
        decoder_shared: how many of its decoder's, the first ones.
    """
    blocks = {
        side: {
            int(found[1]) for key in state if (found := re.match(rf"{side}\.model\.\d+\.model\.(\d+)\.model\.", key))
        }
        for side in ("enc", "dec")
    }
    own_encoder, own_decoder = len(blocks["enc"]) - encoder_shared, len(blocks["dec"]) - decoder_shared
    names = {}
    for key in state:
        side, _, place, rest = key.split(".", 3)
        found = re.match(r"model\.(\d+)\.(model\..*)", rest)
        if found is None:
            at = int(place) if side == "enc" else own_decoder + int(place) - 1
            names[key] = f"{side}oders.{domain}.{at}.{rest}"
        elif side == "enc":
            at = int(found[1])
            inside = (
                f"encoders.{domain}.{int(place) + at}" if at < own_encoder else f"shared_encoder.{at - own_encoder}"
            )
            names[key] = f"{inside}.{found[2]}"
        else:
            at = int(found[1])
            inside = f"shared_decoder.{at}" if at < decoder_shared else f"decoders.{domain}.{at - decoder_shared}"
            names[key] = f"{inside}.{found[2]}"
    return names


def digit_names(state: State) -> dict[str, str]:
    """Our name of each key of the digits' generator or discriminator."""
    names = {}
    for key in state:
        block = key.partition(".model.")[0]
        if block in DIGIT_BLOCKS:
            place = key.removeprefix(f"{block}.")
            official = next(name for name in DIGIT_BLOCK_PLACES if place.startswith(name))
            inner = DIGIT_BLOCK_PLACES[official] + place.removeprefix(official)
            names[key] = f"{DIGIT_BLOCKS[block]}.{inner}"
        else:
            layer, _, last = key.rpartition(".")
            names[key] = f"{DIGIT_LAYERS[layer]}.{last}"
    return names


def without_statistics(state: State) -> dict[str, Tensor]:
    """A state dict without what old versions of PyTorch saved of instance norms; nothing else there has such entries."""
    return {key: value for key, value in state.items() if not key.endswith(STATISTICS)}


# What a file holds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """One network of a file, under our names.

    Attributes:
        network: ours that it belongs to: `generators` or `discriminators`, in the digits' model `generator` or `discriminator`.
        what: in words.
        state: its weights.
        settings: the arguments of the model that keys and shapes speak of.
        stale: keys of the file that were left out.
    """

    network: str
    what: str
    state: dict[str, Tensor]
    settings: Settings
    stale: list[str]


def load_weights(model: nn.Module, path: Path, say: Callable[[str], object] = print) -> None:
    """Load an official file into the network of a `UNIT` or a `UNITDigits` that it is of; moving averages start from it, too.

    Args:
        model: the model.
        path: the file.
        say: told what was left out of the file, and why.

    Raises:
        ZooError: the file cannot be read, or is of another network or of other sizes: says which options to type.
    """
    parts = dict(model.named_modules())
    shared = [
        len(parts[name]) if name in parts else 0 for name in ("generators.shared_encoder", "generators.shared_decoder")
    ]
    found = read_weights(path, *shared)
    if found.network not in parts:
        raise ZooError(f"{path} holds {found.what}, and a {type(model).__name__} has no {found.network}.")
    network = parts[found.network]
    ours = network.state_dict()
    if {key: value.shape for key, value in found.state.items()} != {key: value.shape for key, value in ours.items()}:
        wanted: Mapping[str, Any] = getattr(model, "hparams", {})
        flags = [f"--model.{name} {value}" for name, value in found.settings.items() if wanted.get(name) != value]
        advice = f"To load it: {' '.join(flags)}" if flags else first_difference(found.state, ours)
        raise ZooError(f"{path} holds {found.what} that this model does not fit. {advice}")
    if found.stale:
        say(
            f"{path.name}: {len(found.stale)} running statistics of instance norms were left out ({found.stale[0]}, ...). Old "
            "versions of PyTorch saved them; instance norm uses each picture's own."
        )
    network.load_state_dict(found.state, strict=True)
    if f"ema.{found.network}" in parts:
        parts[f"ema.{found.network}"].load_state_dict(network.state_dict())


def read_weights(path: Path, encoder_shared: int = 0, decoder_shared: int = 0) -> Found:
    """Read an official file.

    Args:
        path: the file.
        encoder_shared: of the later code's generators, which share nothing: how many residual blocks are to become shared ones of
            the encoders. Where the domains' differ they stay as they are, and the settings say so.
        decoder_shared: the same of the decoders.

    Raises:
        ZooError: the file is missing or damaged, or holds something else; says what.
    """
    content = read_file(path, safetensors=False)
    if "pytorch-lightning_version" in content:
        raise ZooError(f"{path} is a checkpoint of this project, not official weights: give it with --ckpt_path.")
    pair = {key: state_of(value) if isinstance(value, Mapping) else None for key, value in content.items()}
    states = {key: state for key, state in pair.items() if state is not None}
    try:
        if states.keys() == content.keys() == {"a", "b"}:
            return _later(states, encoder_shared, decoder_shared)
        state = state_of(content)
        found = None if state is None else _flat(state)
    except (KeyError, ValueError, IndexError):
        found = None
    if found is None:
        raise ZooError(
            f"{path} holds no network of UNIT's official codes: it has {some_names(content)}. Expected are state dicts with keys such "
            "as encode_A.0.model.0.weight, or two of them under a and b."
        )
    return found


def _flat(state: dict[str, Tensor]) -> Found | None:
    """What a bare state dict holds."""
    if any(key.startswith("g_vae.") for key in state):
        settings = {
            "generator_channels": len(state["g_en_conv0_a.model.0.bias"]),
            "source_channels": len(state["de_conv4_a.bias"]),
            "target_channels": len(state["de_conv4_b.bias"]),
        }
        settings["coordinates"] = state["g_en_conv0_a.model.0.weight"].shape[1] > settings["source_channels"]
        ours = renamed(state, digit_names(state))
        for key in [key for key in ours if key.endswith("running_mean")]:  # which old files don't count batches for
            ours.setdefault(f"{key.removesuffix('running_mean')}num_batches_tracked", torch.tensor(0))
        return Found("generator", "the generator for digits", ours, settings, [])
    if "conv_cl.weight" in state:
        settings = {
            "discriminator_channels": len(state["conv0_a.0.bias"]),
            "source_channels": state["conv0_a.0.weight"].shape[1],
            "target_channels": state["conv0_b.0.weight"].shape[1],
            "classes": len(state["conv_cl.bias"]),
        }
        return Found("discriminator", "the discriminator of digits", renamed(state, digit_names(state)), settings, [])
    plain = without_statistics(state)
    stale = [key for key in state if key not in plain]
    if any(key.startswith("encode_A.") for key in state):
        ours = renamed(plain, paper_generator_names(plain))
        return Found("generators", "generators of the paper's code", ours, _paper_settings(plain, stale), stale)
    if any(key.startswith("model_") for key in state):
        ours = renamed(plain, paper_discriminator_names(plain))
        what = "discriminators of the paper's code"
        return Found("discriminators", what, ours, _paper_discriminator_settings(ours), stale)
    return None


def _later(states: dict[str, dict[str, Tensor]], encoder_shared: int, decoder_shared: int) -> Found:
    """What the later code's pair of state dicts holds."""
    plain = {letter: without_statistics(state) for letter, state in states.items()}
    stale = [f"{letter}.{key}" for letter, state in states.items() for key in state if key not in plain[letter]]
    if all(key.startswith("cnns.") for state in plain.values() for key in state):
        ours = {f"{DOMAINS[letter]}.{key}": value for letter, state in plain.items() for key, value in state.items()}
        settings = {"discriminator": "pooled", **_pooled_settings(ours)}
        return Found("discriminators", "discriminators of the later official code", ours, settings, stale)
    blocks = {key.split(".")[4] for key in plain["a"] if key.startswith("enc.") and key.split(".")[3] == "model"}
    settings = {
        "variant": "munit_style",
        "source_channels": plain["a"]["enc.model.0.conv.weight"].shape[1],
        "target_channels": plain["b"]["enc.model.0.conv.weight"].shape[1],
        "generator_channels": len(plain["a"]["enc.model.0.conv.bias"]),
        "downsamplings": len({key.split(".")[2] for key in plain["a"] if key.startswith("enc.")}) - 2,
        "residual_blocks": len(blocks),
    }
    what = "generators of the later official code, which share nothing,"
    for shared in ((encoder_shared, decoder_shared), (0, 0)):
        both = [
            renamed(state, later_generator_names(state, DOMAINS[letter], *shared)) for letter, state in plain.items()
        ]
        if all(torch.equal(value, both[1][key]) for key, value in both[0].items() if key in both[1]):
            break
        settings["shared_blocks"] = 0  # what differs cannot become one
    return Found("generators", what, both[0] | both[1], settings, stale)


def renamed(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """A state dict under other names."""
    return {names[key]: value for key, value in state.items()}


def _paper_settings(state: State, stale: list[str]) -> Settings:
    places = {key.rpartition(".model.3.")[0] for key in state if ".model.3." in key}
    residual = {part: sum(place.startswith(f"{part}.") for place in places) for part in PAPER_PARTS}
    fronts = {key.split(".")[1] for key in state if key.startswith("encode_A.")}
    settings: Settings = {
        "variant": "paper",
        "source_channels": state["encode_A.0.model.0.weight"].shape[1],
        "target_channels": state["encode_B.0.model.0.weight"].shape[1],
        "generator_channels": len(state["encode_A.0.model.0.bias"]),
        "downsamplings": len(fronts) - residual["encode_A"] - 1,
        "residual_blocks": residual["encode_A"] + residual["enc_shared"],
        "shared_blocks": residual["enc_shared"],
    }
    if "encode_A.1.model.1.running_mean" in stale:
        settings["front_norm"] = "instance"
    decoders = (residual["decode_A"] + residual["dec_shared"], residual["dec_shared"])
    if decoders != (settings["residual_blocks"], settings["shared_blocks"]):
        settings |= {"decoder_residual_blocks": decoders[0], "decoder_shared_blocks": decoders[1]}
    return settings


def _paper_discriminator_settings(ours: State) -> Settings:
    if any(key.startswith("scales.") for key in ours):
        scales = len({key.split(".")[1] for key in ours})
        one = {key.removeprefix("scales.0."): value for key, value in ours.items() if key.startswith("scales.0.")}
        return {**_paper_discriminator_settings(one), "discriminator": "blurred", "discriminator_scales": scales}
    count = {
        part: sum(key.startswith(f"{part}.") and key.endswith("conv.bias") for key in ours)
        for part in ("source", "shared")
    }
    settings: Settings = {
        "discriminator": "plain",
        "source_channels": ours["source.0.conv.weight"].shape[1],
        "target_channels": ours["target.0.conv.weight"].shape[1],
        "discriminator_channels": len(ours["source.0.conv.bias"]),
    }
    settings["discriminator_layers"] = count["source"] + count["shared"]
    if count["shared"]:
        settings |= {"discriminator": "shared", "discriminator_shared_layers": count["shared"]}
    return settings


def _pooled_settings(ours: State) -> Settings:
    return {
        "source_channels": ours["source.cnns.0.0.conv.weight"].shape[1],
        "target_channels": ours["target.cnns.0.0.conv.weight"].shape[1],
        "discriminator_channels": len(ours["source.cnns.0.0.conv.bias"]),
        "discriminator_layers": sum(bool(re.match(r"source\.cnns\.0\.\d+\.conv\.bias", key)) for key in ours),
        "discriminator_scales": len({key.split(".")[2] for key in ours}),
    }


# The network of the perceptual loss ------------------------------------------------------------------------------------


def caffe_vgg(path: Path) -> dict[str, Tensor]:
    """Read torchvision's copy of Caffe's VGG-16, and make it take blue, green and red, as Caffe did, in place of red, green and blue.

    Args:
        path: the file, see `zoo.weights.fetch`; its classifier is left out.

    Raises:
        ZooError: the file is missing or damaged, or holds something else.
    """
    state = state_of(read_file(path))
    if state is None or state.get("features.0.weight", torch.empty(0)).ndim != 4:
        raise ZooError(f"{path} does not hold a VGG network in torchvision's layout.")
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    return {**features, "features.0.weight": features["features.0.weight"].flip(1)}

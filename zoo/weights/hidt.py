"""Official HiDT weights, brought to our names, every key and shape of which has to fit.

Published are the generators `daytime.pt` and `wikiart.pt` and the enhancement network `enhancer.pth`, each a flat state dict, whose keys
may begin with `module.`. Generators also hold running statistics of adaptive norms, which nothing ever reads; they are left out. The
published files were never seen here; this was tested on files built in their layout. None of them holds a discriminator or an
optimiser that a training could be resumed from.

    model = HiDT(mask_output="tanh")
    load_weights(model, fetch("hidt_daytime"))
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.core.loading import find_checkpoint
from zoo.errors import ZooError
from zoo.weights.fetch import fetch
from zoo.weights.files import DATA_PARALLEL, first_difference, read_file, some_names, state_of
from zoo.weights.preflight import is_name

State = Mapping[str, Tensor]
Settings = dict[str, Any]

STATISTICS = ("running_mean", "running_var")
PICTURE_CHANNELS = 3
SETTINGS = (
    *("generator_channels", "encoder_blocks", "decoder_blocks", "style_channels", "mapping_channels", "mapping_layers"),
    *("mask_channels", "mask_output"),
)
"""Arguments of a translation network that a `HiDTEnhancer` has to share."""

Names = Mapping[str, str | Callable[[re.Match[str]], str]]

GENERATOR_NAMES: Names = {
    r"content_encoder\.model_preparation\.0\.conv": "content_encoder.first.conv",
    r"content_encoder\.model_downsample\.(\d+)\.conv": r"content_encoder.downs.\1.conv",
    r"content_encoder\.model_postprocess\.0\.model\.(\d+)\.model\.0\.conv": r"content_encoder.blocks.\1.first.conv",
    r"content_encoder\.model_postprocess\.0\.model\.(\d+)\.model\.1\.conv": r"content_encoder.blocks.\1.second.conv",
    r"style_encoder\.body\.(\d+)\.conv": r"style_encoder.layers.\1",
    r"style_encoder\.head\.1": "style_encoder.head",
    r"decoder\.body\.0\.model\.(\d+)\.model\.0\.conv": r"decoder.blocks.\1.first.conv",
    r"decoder\.body\.0\.model\.(\d+)\.model\.1\.conv": r"decoder.blocks.\1.second.conv",
    r"decoder\.skip_preprocess\.(\d+)\.0\.conv": r"decoder.skips.\1.conv",
    r"decoder\.upsample_postprocess\.(\d+)\.0\.(conv|norm)": r"decoder.merges.\1.\2",
    r"decoder\.model_postprocess\.0\.conv": "decoder.last",
    r"decoder\.adain_net\.model\.(\d+)\.fc": r"decoder.mapping.layers.\1",
}
"""Our name of each layer of the official generator."""

ENHANCER_NAMES: Names = {
    r"conv_first": "first",
    r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)": lambda m: f"groups.{m[1]}.blocks.{int(m[2]) - 1}.convs.{int(m[3]) - 1}",
    r"trunk_conv": "trunk",
    r"upconv(\d)": lambda m: f"upsamplings.{int(m[1]) - 1}",
    r"HRconv": "fine",
    r"conv_last": "last",
}
"""The same of the enhancement network."""


@dataclass(frozen=True)
class Found:
    """One network of a file, under our names.

    Attributes:
        network: ours that it belongs to: `generator` (of a translator) or `enhancer`.
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
    """Load an official file into the network of a `HiDT` or a `HiDTEnhancer` that it is of; a moving average starts from it, too.

    Args:
        model: the model; a `HiDTEnhancer` takes generators as its translator.
        path: the file.
        say: told what was left out of the file, and why.

    Raises:
        ZooError: the file cannot be read, or is of another network or of other sizes: says which options to type. Then nothing
            was loaded.
    """
    found = read_weights(path)
    parts = dict(model.named_modules())
    name = next((name for name in (found.network, "translator") if name in parts), found.network)
    if name not in parts or (found.network == "enhancer" and name != "enhancer"):
        raise ZooError(f"{path} holds {found.what}, and a {type(model).__name__} has no {found.network}.")
    network = parts[name]
    ours = network.state_dict()
    if {key: value.shape for key, value in found.state.items()} != {key: value.shape for key, value in ours.items()}:
        wanted: Mapping[str, Any] = getattr(model, "hparams", {})
        flags = [f"--model.{key} {value}" for key, value in found.settings.items() if wanted.get(key) != value]
        advice = (
            f"To load it: {' '.join(flags)}"
            if flags
            else f"The first difference: {first_difference(found.state, ours)}"
        )
        raise ZooError(f"{path} holds {found.what} that this model does not fit. {advice}")
    if found.stale:
        say(
            f"{path.name}: {len(found.stale)} running statistics of adaptive norms were left out ({found.stale[0]}, ...); nothing "
            "ever reads them."
        )
    network.load_state_dict(found.state, strict=True)
    if f"ema.{name}" in parts:
        parts[f"ema.{name}"].load_state_dict(network.state_dict())


def read_weights(path: Path) -> Found:
    """Read an official file.

    Raises:
        ZooError: the file is missing or damaged, or holds something else; says what.
    """
    content = read_file(path, safetensors=False)
    if "pytorch-lightning_version" in content:
        raise ZooError(f"{path} is a checkpoint of this project, not official weights: give it with --ckpt_path.")
    state = state_of(content)
    if state is not None:
        state = {key.removeprefix(DATA_PARALLEL): value for key, value in state.items()}  # of some keys or of all
    if state is None or not ("conv_first.weight" in state or "style_encoder.head.1.weight" in state):
        raise ZooError(
            f"{path} holds no network of HiDT's official code: it has {some_names(content)}. Expected is a state dict with keys such "
            "as content_encoder.model_preparation.0.conv.weight (a generator) or conv_first.weight (the enhancement network)."
        )
    is_enhancer = "conv_first.weight" in state
    kept = {key: value for key, value in state.items() if not key.endswith(STATISTICS)}
    names, unknown = renamed(kept, ENHANCER_NAMES if is_enhancer else GENERATOR_NAMES)
    if unknown:
        raise ZooError(
            f"{path} looks like a network of HiDT's official code, but no layer is known for {some_names(dict.fromkeys(unknown))}."
        )
    try:
        settings = enhancer_settings(kept) if is_enhancer else generator_settings(kept)
    except KeyError as error:
        raise ZooError(f"{path} looks like a network of HiDT's official code, but lacks {error}.") from error
    stale = [key for key in state if key not in kept]
    network, what = ("enhancer", "an enhancement network") if is_enhancer else ("generator", "a generator")
    return Found(network, what, names, settings, stale)


def renamed(state: State, names: Names) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict under our names, and the keys that no layer is known for."""
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        layer, _, last = key.rpartition(".")
        for official, our in names.items():
            if found := re.fullmatch(official, layer):
                ours[f"{our(found) if callable(our) else found.expand(our)}.{last}"] = value
                break
        else:
            unknown.append(key)
    return ours, unknown


def generator_settings(state: State) -> Settings:
    """The arguments of `HiDT` that an official generator's keys and shapes speak of."""
    return {
        "generator_channels": len(state["content_encoder.model_preparation.0.conv.weight"]),
        "encoder_blocks": _count(state, r"content_encoder\.model_postprocess\.0\.model\.(\d+)\."),
        "decoder_blocks": _count(state, r"decoder\.body\.0\.model\.(\d+)\."),
        "style_channels": len(state["style_encoder.head.1.weight"]),
        "mapping_channels": len(state["decoder.adain_net.model.0.fc.weight"]),
        "mapping_layers": _count(state, r"decoder\.adain_net\.model\.(\d+)\."),
        "mask_channels": len(state["decoder.model_postprocess.0.conv.weight"]) - PICTURE_CHANNELS,
    }


def enhancer_settings(state: State) -> Settings:
    """The arguments of `HiDTEnhancer` that an official enhancement network's keys and shapes speak of."""
    return {
        "enhancer_channels": len(state["conv_first.weight"]),
        "enhancer_groups": _count(state, r"RRDB_trunk\.(\d+)\."),
        "enhancer_growth": len(state["RRDB_trunk.0.RDB1.conv1.weight"]),
    }


def _count(state: State, pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


# A translator for the enhancement --------------------------------------------------------------------------------------------


def load_translator_weights(generator: nn.Module, source: str) -> None:
    """Load the translation network that the enhancement stands on, every key and shape of which has to fit.

    Args:
        generator: of a `HiDTEnhancer`.
        source: a name of the catalogue (`hidt_daytime`), an official file, or a checkpoint or a run's folder of `zoo.hidt`, whose
            moving average is taken where there is one.

    Raises:
        ZooError: there is no such source, it is something else, or of other sizes: says which options to type.
    """
    path = (
        fetch(source) if is_name(source) and not Path(source).exists() else find_checkpoint(Path(source).expanduser())
    )
    content = read_file(path, safetensors=False)
    own = content.get("state_dict")
    if isinstance(own, Mapping):
        state = _own_generator(own)
        settings = {key: value for key, value in dict(content.get("hyper_parameters", {})).items() if key in SETTINGS}
        if not state:
            raise ZooError(f"{path} is a checkpoint, but of another room: no translation network of HiDT is in it.")
    else:
        found = read_weights(path)
        if found.network != "generator":
            raise ZooError(f"{path} holds {found.what}; expected was a generator: --model.translator hidt_daytime")
        state, settings = found.state, found.settings
    ours = generator.state_dict()
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in ours.items()}:
        flags = " ".join(f"--model.{key} {value}" for key, value in settings.items())
        raise ZooError(
            f"{path} holds a translation network of other sizes. The first difference: {first_difference(state, ours)} Its own: {flags}"
        )
    generator.load_state_dict(state, strict=True)


def _own_generator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generator's moving average in a checkpoint of ours, else the generator; nothing where there is none."""
    for prefix in ("ema.generator.", "generator."):
        found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if "content_encoder.first.conv.weight" in found:
            return found
    return {}

"""Official GP-UNIT weights, and where a training gets its content encoder from.

Published are `content_encoder.pt` (a bare state dict), one file per task (`g_ema`, the generator's moving average, and
`sampler`), and the layout of the first stage's own checkpoints is known (`ae_ema`). The published files were never seen here;
this was tested on files built in their layout. None of them holds a discriminator or an optimiser that a training could be
resumed from.

    model = GPUNIT()
    load_content_encoder(model.content_encoder, "content_encoder")
    load_task(model, fetch("gpunit_cat2dog"))
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.blocks.spectral_norm import from_official
from zoo.core.loading import find_checkpoint
from zoo.errors import ZooError
from zoo.weights import preflight
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

PUBLISHED, DEMO = "content_encoder", "demo"
DEMO_FILE = Path(__file__).parents[1] / "gpunit" / "content_encoder_64.safetensors"
"""The small encoder that comes with the package."""

CONTENT_SIZE = 8  # side of the content map, at every picture size
WIDEST = 8  # times the first layer's channels
ENCODER_LAYERS = {f"layer{number}": f"layers.{number - 1}" for number in range(1, 7)}
PRIOR_LAYERS = {
    **{f"contentE.{official}": f"content_encoder.{ours}" for official, ours in ENCODER_LAYERS.items()},
    **{f"styleE.layer{number}": f"style_encoder.layers.{number - 1}" for number in range(1, 7)},
    "embed": "embedding",
    "fc": "content_layer",
    **{f"G.layer1.{number}": f"decoder.coarse.{number}" for number in range(3)},
    "G.layer2": "decoder.coarse.3",
    "G.layer3": "decoder.shape",
    "G.tomask": "decoder.to_mask",
    **{f"G.layer{number}": f"decoder.fine.{number - 4}" for number in range(4, 7)},
    "G.layer7": "decoder.to_image",
    **{f"C.layer{number}": f"classifier.layers.{number - 1}" for number in range(1, 4)},
    "C.fc3": "classifier.logits",
}
"""Our names of the official layers; those of the generator and the sampler are the same in both."""

Settings = dict[str, int]


# Loading -------------------------------------------------------------------------------------------------------------


def load_content_encoder(encoder: nn.Module, source: str | Path) -> None:
    """Load a content encoder, every key and shape of which has to fit.

    Args:
        encoder: such as `model.content_encoder` of a `GPUNIT`.
        source: see `content_encoder_state`.

    Raises:
        ZooError: see `content_encoder_state`; or it has other sizes: says which options to type.
    """
    state = content_encoder_state(source)
    _check(state, encoder.state_dict(), str(source), "content encoder", encoder_settings)
    encoder.load_state_dict(state)


def content_encoder_state(source: str | Path) -> dict[str, Tensor]:
    """Read a content encoder under our names.

    Args:
        source: `content_encoder`, the published one; `demo`, the small one that comes with the package; or a path: of
            an official file (`content_encoder.pt`, or one of the first stage with `ae_ema`), of a checkpoint or a run's
            folder of our own (either stage's), or of a state dict as PyTorch or safetensors file.

    Raises:
        ZooError: there is no such source, or it holds no whole content encoder; says what it looks like.
    """
    path = _find(str(source))
    content = read_file(path)
    own, official = content.get("state_dict"), content.get("ae_ema")
    if isinstance(own, Mapping):
        state = _below("content_encoder.", state_of(own) or {})
    elif isinstance(official, Mapping):
        state = _renamed(_below("contentE.", state_of(official) or {}), ENCODER_LAYERS)
    else:
        state = _renamed(state_of(content) or {}, ENCODER_LAYERS)
    layers = {int(key.split(".")[1]) for key in state if key.startswith("layers.") and key.split(".")[1].isdecimal()}
    names = ("bias", "parametrizations.weight.original", "parametrizations.weight.0.u", "parametrizations.weight.0.v")
    wanted = [f"layers.{layer}.{place}.conv.{name}" for layer in layers for place in (0, 1) for name in names]
    if not layers or layers != set(range(len(layers))):
        raise ZooError(f"{path} holds no content encoder of GP-UNIT: it looks like {_looks_like(content)}.")
    _check_names(state, wanted, str(path), "content encoder", content)
    return state


def load_task(model: nn.Module, path: Path) -> None:
    """Load an official task file into a `GPUNIT`: the generator, its moving average, and the sampler.

    The content encoder, which these files lack, is the published one: see `load_content_encoder`.

    Raises:
        ZooError: the file is missing, damaged or another one, or has other sizes: says which options to type. Then
            nothing was loaded.
    """
    content = read_file(path)
    generator, sampler = _parts(content, ("g_ema", "sampler"), path)
    parts = dict(model.named_modules())
    _check(generator, parts["generator"].state_dict(), str(path), "generator", generator_settings, content)
    _check(sampler, parts["sampler"].state_dict(), str(path), "sampler", sampler_settings, content)
    parts["generator"].load_state_dict(generator)
    parts["ema.generator"].load_state_dict(generator)
    parts["sampler"].load_state_dict(sampler)
    model.get_buffer("sampler_fitted").fill_(True)


def load_prior(model: nn.Module, path: Path) -> None:
    """Load an official file of the first stage into a `PriorDistillation`; its optimiser's state is left aside.

    Raises:
        ZooError: the file is missing, damaged or another one, or has other sizes: says which options to type.
    """
    content = read_file(path)
    (autoencoder,) = _parts(content, ("ae_ema",), path)
    state = _renamed(autoencoder, PRIOR_LAYERS)
    _check(state, model.state_dict(), str(path), "first stage", prior_settings, content)
    model.load_state_dict(state)


def missing_weights(source: str, option: str = "") -> list[str]:
    """Say what stands in the way of a content encoder, or of an expert such as `vgg19`; empty when nothing does.

    Args:
        source: the name of published weights, `demo`, or a path.
        option: what a person types to say so: `--model.content_encoder`; empty where there is no choice.

    Returns:
        Sentences, each with what to type; see `zoo.weights.preflight.missing_weights`.
    """
    if source == DEMO:
        return [] if DEMO_FILE.is_file() else [f"{DEMO_FILE} is not in this installation. Make it: make demo-prior"]
    return preflight.missing_weights(source, option)


# What a file speaks of -----------------------------------------------------------------------------------------------


def encoder_settings(state: Mapping[str, Tensor]) -> Settings:
    """The arguments of `GPUNIT` that a content encoder's state dict speaks of."""
    levels = sum(key.startswith("layers.") and key.endswith(".0.conv.bias") for key in state)
    return {"content_channels": len(state["layers.0.0.conv.bias"]), "image_size": CONTENT_SIZE * 2 ** (levels - 1)}


def generator_settings(state: Mapping[str, Tensor]) -> Settings:
    """The arguments of `GPUNIT` that a generator's state dict speaks of."""
    levels = sum(key.startswith("model.") and key.endswith(".rgblayer.weight") for key in state)
    own, both = state["model.1.skiplayer.reset.weight"].shape[:2]  # sees the state and the encoder's features
    return {
        "image_size": CONTENT_SIZE * 2 ** (levels - 1),
        "content_channels": (both - own) // min(2 ** max(levels - 3, 0), WIDEST),
        "generator_channels": state[f"model.{levels - 1}.rgblayer.weight"].shape[1],
        "style_channels": len(state["style_encoder.mlp.4.bias"]),
        "style_width": len(state["style_encoder.model.0.bias"]),
        "bottleneck": len(state["style_encoder.mlp.0.bias"]),
    }


def sampler_settings(state: Mapping[str, Tensor]) -> Settings:
    """The arguments of `GPUNIT` that a sampler's state dict speaks of."""
    return {
        "latent_channels": state["lin1.weight"].shape[1],
        "sampler_channels": len(state["bn1.weight"]),
        "style_channels": len(state["lin_out.weight"]),
    }


def prior_settings(state: Mapping[str, Tensor]) -> Settings:
    """The arguments of `PriorDistillation` that its state dict speaks of."""
    encoder = encoder_settings(_below("content_encoder.", state))
    return {
        "channels": encoder["content_channels"],
        "image_size": encoder["image_size"],
        "domains": len(state["embedding.weight"]),
    }


def renamed_prior(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """An official state dict of the first stage under our names."""
    return _renamed(state_of(state) or {}, PRIOR_LAYERS)


def _looks_like(content: Mapping[str, Any]) -> str:
    if isinstance(own := content.get("state_dict"), Mapping):
        return f"a checkpoint of this project without a content encoder ({some_names(own)})"
    if "g_ema" in content:
        return "a task file of its second stage, which has generator and sampler alone"
    if "ae_ema" in content:
        return "a file of its first stage"
    state = state_of(content)
    if state is None:
        return f"something else ({some_names(content)})"
    kinds = {"layer1.0.conv.": "the content encoder", "layers.0.0.conv.": "the content encoder under our names"}
    kinds |= {"contentE.": "the state dict of its first stage", "style_encoder.": "a generator's state dict"}
    kinds |= {"lin_out.": "a sampler's state dict", "input_layer.": "IR-SE50", "features.0.": "a VGG network"}
    found = next((kind for start, kind in kinds.items() if any(key.startswith(start) for key in state)), "")
    return f"{found} ({some_names(state)})" if found else f"another network ({some_names(state)})"


# Reading -------------------------------------------------------------------------------------------------------------


def _find(source: str) -> Path:
    if source == DEMO:
        return DEMO_FILE
    if source == PUBLISHED:
        return fetch(source)
    if preflight.is_name(source) and not Path(source).exists():
        raise ZooError(f"No content encoder is called {source!r}: there are {PUBLISHED} and {DEMO}, or give a path.")
    return find_checkpoint(Path(source).expanduser())


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _renamed(state: Mapping[str, Tensor], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Give our names to what is known; the rest keeps its own, for `_check_names` to find."""
    renamed = {}
    for key, value in from_official(state).items():
        official = next((layer for layer in layers if key.startswith(f"{layer}.")), "")
        renamed[layers[official] + key.removeprefix(official) if official else key] = value
    return renamed


def _parts(content: Mapping[str, Any], names: tuple[str, ...], path: Path) -> list[dict[str, Tensor]]:
    states = [state_of(content[name]) if isinstance(content.get(name), Mapping) else None for name in names]
    found = [state for state in states if state is not None]
    if len(found) < len(names):
        raise ZooError(
            f"{path} has no {' and no '.join(name for name, state in zip(names, states, strict=True) if state is None)}: it "
            f"looks like {_looks_like(content)}."
        )
    return found


def _check_names(
    state: Mapping[str, Tensor], wanted: list[str], origin: str, what: str, content: Mapping[str, Any] | None = None
) -> None:
    lacking, unknown = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if lacking or unknown:
        faults = [f"lacks {', '.join(lacking[:2])} ({len(lacking)} entries)"] if lacking else []
        faults += [f"has {', '.join(unknown[:2])} that nothing here knows ({len(unknown)} entries)"] if unknown else []
        seen = "" if content is None else f" It looks like {_looks_like(content)}."
        raise ZooError(f"The {what} in {origin} {' and '.join(faults)}.{seen}")


def _check(
    state: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    origin: str,
    what: str,
    settings_of: Callable[[Mapping[str, Tensor]], Settings],
    content: Mapping[str, Any] | None = None,
) -> None:
    if {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in ours.items()}:
        return
    try:
        found, wanted = settings_of(state), settings_of(ours)
    except (KeyError, IndexError, ValueError):
        found = wanted = {}
    options = " ".join(f"--model.{name} {value}" for name, value in found.items() if value != wanted[name])
    if options:
        raise ZooError(f"The {what} in {origin} has other sizes than this model. To load it: {options}")
    _check_names(state, list(ours), origin, what, content)
    key = next(key for key in ours if state[key].shape != ours[key].shape)
    raise ZooError(
        f"The {what} in {origin} does not fit: {key} is {tuple(state[key].shape)}, expected was {tuple(ours[key].shape)}."
    )

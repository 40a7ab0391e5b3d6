"""Official BigGAN weights: three layouts, brought to ours, every key and shape of which has to fit.

- The official PyTorch code's (`G_ema.pth`, `G.pth`, `D.pth`, and what its TF-Hub converter writes, `biggan-128.pth`): one bare state
  dict, keys as here but for norms and spectral norms. Converted files lack `sv0`, which is kept for whoever watches it.
- The intermediate model of that converter (`GBlock.0.conv0.module.weight_bar`, ...), for BigGAN at 128, 256 and 512.
- The port of TF-Hub's BigGAN-deep (`biggan-deep-128-pytorch_model.bin`): PyTorch's older spectral norm, whose vectors are used as they
  are, and running statistics for 51 truncations.

None of the published files was seen here; this was tested on files built in their layouts.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.core.checkpoints import read_checkpoint
from zoo.errors import ZooError

RENAMED = {"stored_mean": "norm.running_mean", "stored_var": "norm.running_var"}
SPECTRAL = "parametrizations.weight"
SINGULAR = re.compile(r"(u|sv)(\d+)")
OUTPUT_NORM = "output_layer.0"
OUTPUT_NORM_NAMES = {
    "gain": "weight",
    "bias": "bias",
    "stored_mean": "running_mean",
    "stored_var": "running_var",
}

START = 16
"""Positions of the first feature map, 4x4."""

TFHUB_BLOCKS = {128: 5, 256: 6, 512: 7}
TFHUB_ATTENTION = {128: 3, 256: 4, 512: 3}
"""The block after which TF-Hub's BigGAN attends."""

PORT_STATISTICS = 50
"""The port's statistics are for the truncations 0, 1/50, ..., 1."""


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a state dict of the official PyTorch code to our names.

    Args:
        state: of a generator or discriminator, with either of the official batch norms.

    Returns:
        Our keys. Statistics that were being summed up are divided by their number; a missing `sv0` becomes 1.
    """
    normed = {key.rpartition(".")[0] for key in state if key.endswith(".u0")}
    converted: dict[str, Tensor] = {}
    vectors: dict[str, list[tuple[str, int]]] = {name: [] for name in normed}
    for key, value in state.items():
        head, _, last = key.rpartition(".")
        if found := SINGULAR.fullmatch(last):
            vectors[head].append((found[1], int(found[2])))
        elif last == "accumulation_counter":
            continue
        elif last in RENAMED or head == OUTPUT_NORM:
            _add_norm(converted, state, head, last, value)
        elif last == "weight" and head in normed:
            converted[f"{head}.{SPECTRAL}.original"] = value
        else:
            converted[key] = value
    for head, entries in vectors.items():
        count = sum(kind == "u" for kind, _ in entries)
        u = torch.cat([state[f"{head}.u{number}"] for number in range(count)])
        one = torch.ones(1, dtype=u.dtype)
        converted[f"{head}.{SPECTRAL}.0.u"] = u
        converted[f"{head}.{SPECTRAL}.0.sigma"] = torch.cat([state.get(f"{head}.sv{n}", one) for n in range(count)])
    return converted


def _add_norm(converted: dict[str, Tensor], state: Mapping[str, Tensor], head: str, last: str, value: Tensor) -> None:
    """Add a batch norm's entry, and the count of batches that ours has."""
    counter = state.get(f"{head}.accumulation_counter")
    if last in RENAMED and counter is not None and bool(counter > 0):
        value = value / counter
    name = head.removesuffix(".bn")
    ours = f"{name}.{OUTPUT_NORM_NAMES[last] if name == OUTPUT_NORM else RENAMED[last]}"
    converted[ours] = value
    if last == "stored_mean":
        converted[f"{ours.removesuffix('running_mean')}num_batches_tracked"] = torch.tensor(0)


def our_name(official: str, state: Collection[str]) -> str:
    """Our key of an entry of the official code.

    Args:
        official: such as `blocks.0.0.bn1.stored_mean` or `linear.u0`.
        state: all official keys of the network: they tell which weights are normalised.
    """
    head, _, last = official.rpartition(".")
    name = head.removesuffix(".bn")
    if found := SINGULAR.fullmatch(last):
        return f"{head}.{SPECTRAL}.0.{'u' if found[1] == 'u' else 'sigma'}"
    if last == "weight" and f"{head}.u0" in state:
        return f"{head}.{SPECTRAL}.original"
    if name == OUTPUT_NORM:
        return f"{name}.{OUTPUT_NORM_NAMES[last]}"
    return f"{name}.{RENAMED[last]}" if last in RENAMED else official


# TF-Hub's BigGAN -----------------------------------------------------------------------------------------------------------------


def tfhub_names(image_size: int) -> dict[str, str]:
    """The converter's names: of the official code's keys, and of the intermediate model's that they are made from.

    Args:
        image_size: 128, 256 or 512.

    Raises:
        ZooError: another size.
    """
    if image_size not in TFHUB_BLOCKS:
        raise ZooError(f"TF-Hub has BigGAN for pictures of {', '.join(map(str, TFHUB_BLOCKS))}, not of {image_size}.")
    layers = {"linear": "G_linear", "output_layer.2": "colorize"}
    unbiased = {f"blocks.{TFHUB_ATTENTION[image_size]}.1.{name}": f"attention.{name}" for name in ("theta", "phi", "g")}
    unbiased[f"blocks.{TFHUB_ATTENTION[image_size]}.1.o"] = "attention.o_conv"
    names = {"shared.weight": "linear.weight"}
    norms = {OUTPUT_NORM: "ScaledCrossReplicaBN"}
    names |= {f"{OUTPUT_NORM}.gain": "ScaledCrossReplicaBN.weight", f"{OUTPUT_NORM}.bias": "ScaledCrossReplicaBN.bias"}
    names[f"blocks.{TFHUB_ATTENTION[image_size]}.1.gamma"] = "attention.gamma"
    for block in range(TFHUB_BLOCKS[image_size]):
        here, there = f"blocks.{block}.0", f"GBlock.{block}"
        layers |= {f"{here}.conv1": f"{there}.conv0", f"{here}.conv2": f"{there}.conv1"}
        layers[f"{here}.conv_sc"] = f"{there}.conv_sc"
        for ours, theirs in (("bn1", "HyperBN"), ("bn2", "HyperBN_1")):
            norms[f"{here}.{ours}"] = f"{there}.{theirs}.bn"
            unbiased[f"{here}.{ours}.gain"] = f"{there}.{theirs}.gamma_embed"
            unbiased[f"{here}.{ours}.bias"] = f"{there}.{theirs}.beta_embed"
    for here, there in norms.items():
        names |= {f"{here}.stored_mean": f"{there}.running_mean", f"{here}.stored_var": f"{there}.running_var"}
    for here, there in (layers | unbiased).items():
        names |= {f"{here}.weight": f"{there}.module.weight_bar", f"{here}.u0": f"{there}.module.weight_u"}
    return names | {f"{here}.bias": f"{there}.module.bias" for here, there in layers.items()}


def from_tfhub(state: Mapping[str, Tensor], image_size: int) -> dict[str, Tensor]:
    """Bring weights of the converter's intermediate model to the official layout, as the converter does.

    Its `weight_v` has no counterpart. The classes' code is transposed, the first layer's rows go from positions and channels to
    channels and positions, and conditions from [latent, class] to [class, latent].

    Args:
        state: of the intermediate model, the classes' code among it, or a part of it.
        image_size: 128, 256 or 512.

    Raises:
        ZooError: an unknown key.
    """
    ours = {there: here for here, there in tfhub_names(image_size).items()}
    class_channels = len(state["linear.weight"])
    converted = {}
    for key, value in state.items():
        if key.endswith(".weight_v"):
            continue
        if key not in ours:
            raise ZooError(f"{key!r} is no key of TF-Hub's BigGAN for {image_size}x{image_size} pictures.")
        name = ours[key]
        if name == "shared.weight":
            value = value.t()
        elif name.startswith("linear."):
            value = _channels_first(value)
        elif name.endswith((".gain.weight", ".bias.weight")):
            value = _class_first(value, value.shape[1] - class_channels)
        converted[name] = value[None] if name.endswith(".u0") else value
    return converted


def _channels_first(rows: Tensor) -> Tensor:
    """Put the rows of a first layer in the order channels, positions; they came as positions, channels."""
    return rows.unflatten(0, (START, -1)).transpose(0, 1).flatten(0, 1)


def _class_first(weight: Tensor, latent_channels: int) -> Tensor:
    """Put the columns that read the class before those that read the latent code."""
    return weight.roll(-latent_channels, 1)


# TF-Hub's BigGAN-deep ------------------------------------------------------------------------------------------------------------


class _Watched(dict[str, Tensor]):
    """A state dict that remembers which entries were asked for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self.unread = set(state)

    def __getitem__(self, key: str) -> Tensor:
        self.unread.discard(key)
        return super().__getitem__(key)


def from_deep_port(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the port's BigGAN-deep to the names of our generator without spectral norm, at truncation 1.

    Weights are divided by their singular values as the stored vectors give them, conditions change from [latent, class] to [class,
    latent], and of the layer that makes the picture its three channels remain. The epsilon of all norms is 1e-4.

    Args:
        state: of the port.

    Returns:
        The state of `Generator(..., depth=2, norm_eps=1e-4, output_norm_eps=1e-4, layers=Layers(spectral_norm=False))`.

    Raises:
        ZooError: an entry is missing, or has no place.
    """
    state = _Watched(state)
    try:
        converted = _from_deep_port(state)
    except KeyError as error:
        raise ZooError(f"These weights are no whole BigGAN-deep of the port: {error} is missing.") from error
    if state.unread:
        raise ZooError(f"{min(state.unread)!r} and {len(state.unread) - 1} more entries have no place in BigGAN-deep.")
    return converted


def _from_deep_port(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    blocks = _port_blocks(state)
    latent_channels = state["generator.gen_z.weight_orig"].shape[1] - len(state["embeddings.weight"])
    converted = {"shared.weight": state["embeddings.weight"].t()}
    converted["linear.weight"] = _channels_first(_class_first(_divided(state, "generator.gen_z"), latent_channels))
    converted["linear.bias"] = _channels_first(state["generator.gen_z.bias"])
    for theirs, ours in blocks.items():
        for number in range(4):
            there, here = f"{theirs}.conv_{number}", f"{ours}.conv{number + 1}"
            converted |= {f"{here}.weight": _divided(state, there), f"{here}.bias": state[f"{there}.bias"]}
            for part, name in (("scale", "gain"), ("offset", "bias")):
                weight = _class_first(_divided(state, f"{theirs}.bn_{number}.{part}"), latent_channels)
                converted[f"{ours}.bn{number + 1}.{name}.weight"] = weight
    attention = _port_attention(state)
    if attention is not None:
        there, here = f"generator.layers.{attention}", f"blocks.{attention - 1}.1"
        converted[f"{here}.gamma"] = state[f"{there}.gamma"].reshape(())
        for theirs, name in (
            ("snconv1x1_theta", "theta"),
            ("snconv1x1_phi", "phi"),
            ("snconv1x1_g", "g"),
            ("snconv1x1_o_conv", "o"),
        ):
            converted[f"{here}.{name}.weight"] = _divided(state, f"{there}.{theirs}")
    converted |= {f"{OUTPUT_NORM}.{name}": state[f"generator.bn.{name}"] for name in ("weight", "bias")}
    converted["output_layer.2.weight"] = _divided(state, "generator.conv_to_rgb")[:3]
    converted["output_layer.2.bias"] = state["generator.conv_to_rgb.bias"][:3]
    statistics = deep_port_statistics(state, 1.0)
    counters = {
        f"{name.removesuffix('running_mean')}num_batches_tracked" for name in statistics if name.endswith("mean")
    }
    return converted | statistics | {name: torch.tensor(0) for name in counters}


def deep_port_statistics(state: Mapping[str, Tensor], truncation: float) -> dict[str, Tensor]:
    """The running statistics that the port uses at a truncation, by our names: what `BigGAN.statistics` takes.

    Args:
        state: of the port.
        truncation: in (0, 1]. Between the multiples of 0.02 the port blends its two neighbours the wrong way round, and so does this.

    Raises:
        ZooError: a truncation out of range.
    """
    if not 0 < truncation <= 1:
        raise ZooError(f"The truncation is {truncation}; BigGAN-deep has statistics above 0 and up to 1, such as 0.5.")
    norms = {
        f"{theirs}.bn_{n}": f"{ours}.bn{n + 1}.norm" for theirs, ours in _port_blocks(state).items() for n in range(4)
    }
    norms["generator.bn"] = OUTPUT_NORM
    place = round(truncation * PORT_STATISTICS, 9)  # 0.58 * 50 is 28.999999999999996
    row, share = int(place), place - int(place)
    statistics = {}
    for theirs, ours in norms.items():
        for part, name in (("running_means", "running_mean"), ("running_vars", "running_var")):
            rows = state[f"{theirs}.{part}"]
            statistics[f"{ours}.{name}"] = rows[row] if share == 0 else share * rows[row] + (1 - share) * rows[row + 1]
    return statistics


def _port_attention(state: Mapping[str, Tensor]) -> int | None:
    return next((int(key.split(".")[2]) for key in state if key.endswith(".gamma")), None)


def _port_blocks(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our names of the port's blocks; its self-attention counts as a layer, ours belongs to the block before it."""
    layers = sorted({int(key.split(".")[2]) for key in state if re.match(r"generator\.layers\.\d+\.conv_0\.", key)})
    return {f"generator.layers.{layer}": f"blocks.{block}.0" for block, layer in enumerate(layers)}


def _divided(state: Mapping[str, Tensor], layer: str) -> Tensor:
    """A weight over its singular value, as the stored vectors give it."""
    weight = state[f"{layer}.weight_orig"]
    sigma = torch.dot(state[f"{layer}.weight_u"], torch.mv(weight.flatten(1), state[f"{layer}.weight_v"]))
    return weight / sigma


# Files ---------------------------------------------------------------------------------------------------------------------------


def read_state(path: Path) -> dict[str, Tensor]:
    """Read an official file: the state dict of one network.

    Raises:
        ZooError: the file is missing or damaged, or holds something else; says what.
    """
    content = read_checkpoint(path)
    if "pytorch-lightning_version" in content:
        raise ZooError(f"{path} is a checkpoint of this project, not official weights: give it with --ckpt_path.")
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ZooError(
            f"{path} is no state dict of one network: it holds {', '.join(map(str, list(content)[:3])) or 'nothing'}. Official files are "
            "G_ema.pth, G.pth and D.pth; optimisers and the rest of the training's state lie beside them."
        )
    prefix = "module."  # what DataParallel puts before every key
    wrapped = all(key.startswith(prefix) for key in content)
    return {key.removeprefix(prefix) if wrapped else key: value for key, value in content.items()}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a state dict of any of the layouts to ours; see `from_official`, `from_tfhub`, `from_deep_port`."""
    if "embeddings.weight" in state:
        return from_deep_port(state)
    if "G_linear.module.weight_bar" in state:
        blocks = len({key.split(".")[1] for key in state if key.startswith("GBlock.")})
        size = next((size for size, count in TFHUB_BLOCKS.items() if count == blocks), 0)
        return from_official(from_tfhub(state, size))
    return from_official(state)


def load_network(network: nn.Module, path: Path) -> None:
    """Load an official file into one of BigGAN's networks, every key and shape of which has to fit.

    Args:
        network: `model.generator`, `model.discriminator`, or the generator's moving average.
        path: the file, of any of the layouts.

    Raises:
        ZooError: the file cannot be read, or is of another network; says what differs.
    """
    load_state(network, convert(read_state(path)), str(path))


def load_state(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a converted state dict.

    Raises:
        ZooError: a key or a shape does not fit; nothing was loaded.
    """
    ours = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in state.items()}
    if wrong := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        first = wrong[0]
        raise ZooError(
            f"{origin} does not fit this {type(network).__name__} in {len(wrong)} of {len(ours)} entries: {first} is "
            f"{theirs.get(first, 'missing')} there, and here {ours.get(first, 'no such entry')}. It looks like {describe(state)}."
        )
    network.load_state_dict(state, strict=True)


def load_deep_port(model: nn.Module, path: Path, truncations: Collection[float] = (0.5, 1.0)) -> None:
    """Load the port's BigGAN-deep into a room made with `settings_of`, and its statistics for some truncations.

    Args:
        model: a BigGAN; where it keeps a moving average, that gets the weights too.
        path: the file.
        truncations: for which `model.generate` shall have statistics; GP-UNIT's pairs were drawn at 0.5 and 1.

    Raises:
        ZooError: the file cannot be read, or is of another network.
    """
    port = read_state(path)
    if "embeddings.weight" not in port:
        raise ZooError(f"{path} is no file of the BigGAN-deep port: it lacks embeddings.weight.")
    state = from_deep_port(port)
    parts = dict(model.named_modules())
    for name in ("generator", "ema.generator"):
        if name in parts:
            load_state(parts[name], state, str(path))
    statistics = model.statistics
    assert isinstance(statistics, dict)
    for truncation in truncations:
        statistics[truncation] = deep_port_statistics(port, truncation)


def settings_of(state: Mapping[str, Tensor]) -> dict[str, object]:
    """The arguments of `BigGAN` that a converted generator's or discriminator's keys and shapes speak of; empty for others."""
    blocks = sorted({int(key.split(".")[1]) for key in state if key.startswith("blocks.")})
    if "shared.weight" in state and blocks:
        return _generator_settings(state, blocks)
    embedding = state.get(f"embed.{SPECTRAL}.original")
    if embedding is None:
        return {}
    deep = "blocks.0.0.conv4.bias" in state
    return {"classes": len(embedding), "deep": deep, "discriminator widest": embedding.shape[1]}


def _generator_settings(state: Mapping[str, Tensor], blocks: list[int]) -> dict[str, object]:
    classes, class_channels = state["shared.weight"].shape
    deep = "blocks.0.0.conv4.bias" in state
    plain = "linear.weight" in state
    started = state["linear.weight" if plain else f"linear.{SPECTRAL}.original"]
    outgoing = [len(state[f"blocks.{block}.0.{'conv4' if deep else 'conv2'}.bias"]) for block in blocks]
    widths = [len(started) // START, *(outgoing[1::2] if deep else outgoing)]
    stages = len(widths) - 1
    attended = [block for block in blocks if f"blocks.{block}.1.gamma" in state]
    unit = min(widths)
    return {
        "image_size": 4 * 2**stages,
        "classes": classes,
        "deep": deep,
        "generator_channels": unit,
        "generator_multipliers": tuple(width // unit for width in widths),
        "generator_attention": tuple(4 * 2 ** (block // 2 + 1 if deep else block + 1) for block in attended),
        "latent_channels": started.shape[1] - class_channels if deep else started.shape[1] * (stages + 1),
        "class_channels": class_channels,
        "spectral_norm": not plain,
    }


def describe(state: Mapping[str, Tensor]) -> str:
    """What network a converted state dict looks like, in words."""
    settings = settings_of(state)
    if not settings:
        return f"no network of BigGAN (it holds {', '.join(list(state)[:3])})"
    return ", ".join(f"{name} {value}" for name, value in settings.items())

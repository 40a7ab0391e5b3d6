"""Official ALAE checkpoints, brought to our names: every key and shape has to fit.

A file holds `models`, eight state dicts and the average code: `discriminator` (E), `generator` (G), `mapping_tl` (D), `mapping_fl` (F), the
same with `_s` (moving averages) and `dlatent_avg`; beside them `auxiliary`, the state of optimisers, which is left out. There is no
average code of the moving averages: both use the one. The official loader passes over keys that do not fit; here they are an error.
The published files were never seen here; this was tested on files built in their layout.

    model = StyleALAE(**PUBLISHED["celeba"].settings())
    load_weights(model, fetch("alae_celeba"))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.weights.files import first_difference, read_file, some_names, state_of

State = Mapping[str, Tensor]

OFFICIAL_PARTS = {"encoder": "discriminator", "generator": "generator", "critic": "mapping_tl", "mapping": "mapping_fl"}
AVERAGED = "_s"
AVERAGE_CODE = "dlatent_avg"
BLUR = ".blur.weight"
UNUSED_NORM = "bn_2."  # of the official branch mnist_ref, which no pass goes through

RENAMES = (
    (r"map_blocks\.(\d+)\.fc\.", r"layers.\1."),
    (r"map_blocks\.(\d+)\.", r"layers.\1."),
    (r"(?:encode|decode)_block\.(\d+)\.", r"blocks.\1."),
    (r"(from_rgb|to_rgb)\.(\d+)\.(?:from_rgb|to_rgb)\.", r"\1.\2."),
    (r"const$", r"constant"),
)
WHOLE_MODEL = {
    "mapping_d": "critic",
    "mapping_tl": "critic",
    "mapping_f": "mapping",
    "mapping_fl": "mapping",
    "decoder": "generator",
    "encoder": "encoder",
}


@dataclass(frozen=True)
class Published:
    """A configuration of the official code.

    Attributes:
        start_channels: at the largest size.
        most_channels: at any size.
        levels: number of sizes.
        latent_channels: of the codes.
        mapping_layers: of F.
        epochs_per_level: epochs of each level but the last.
        epochs: of the whole training.
        images: pictures per epoch.
        rates: learning rates by level.
        batches: pictures per iteration by number of GPUs, then by level.
        image_channels: of pictures.
    """

    start_channels: int
    most_channels: int
    levels: int
    latent_channels: int
    mapping_layers: int
    epochs_per_level: int
    epochs: int
    images: int
    rates: tuple[float, ...]
    batches: Mapping[int, tuple[int, ...]]
    image_channels: int = 3

    def settings(self, gpus: int = 8) -> dict[str, Any]:
        """The configuration as arguments of `StyleALAE`, with the batches of so many GPUs: 1, 2, 4 or 8."""
        return {
            "start_channels": self.start_channels,
            "most_channels": self.most_channels,
            "levels": self.levels,
            "latent_channels": self.latent_channels,
            "mapping_layers": self.mapping_layers,
            "image_channels": self.image_channels,
            "epochs_per_level": self.epochs_per_level,
            "images_per_epoch": self.images,
            "level_rates": self.rates,
            "level_batches": self.batches[gpus],
        }


_LARGE = (512, 256, 128, 64, 32, 32, 32)
PUBLISHED: dict[str, Published] = {
    "ffhq": Published(
        *(16, 512, 9, 512, 8, 16, 300, 60_000, (0.0015,) * 6 + (0.002, 0.003, 0.003)),
        {
            8: (*_LARGE, 32, 32),
            4: (*_LARGE, 32, 16),
            2: (512, 256, 128, 64, 32, 32, 16),
            1: (512, 256, 128, 64, 32, 16),
        },
    ),
    "celeba-hq256": Published(
        *(64, 512, 7, 512, 8, 30, 280, 29_000, (0.0015,) * 7),
        {8: _LARGE, 4: _LARGE, 2: (128, 128, 128, 64, 32, 32, 16), 1: (128, 128, 128, 64, 32, 16)},
    ),
    "celeba": Published(
        *(64, 256, 6, 256, 8, 6, 80, 182_637, (0.0015,) * 6),
        {8: _LARGE[:6], 4: _LARGE[:6], 2: (128, 128, 128, 64, 32, 32), 1: (128, 128, 128, 64, 32, 16)},
    ),
    "bedroom": Published(
        *(32, 512, 7, 512, 8, 2, 112, 758_260, (0.0015,) * 6 + (0.002,)),
        {8: _LARGE, 4: _LARGE, 2: (512, 256, 128, 64, 32, 32, 16), 1: (512, 256, 128, 64, 32, 16)},
    ),
    "mnist": Published(
        *(64, 256, 4, 32, 4, 10, 60, 60_000, (0.0015,) * 4),
        dict.fromkeys((8, 4, 2, 1), (128, 128, 128, 64)),
        image_channels=1,
    ),
}


def our_key(key: str) -> str:
    """Our name of an entry of one official network.

    Raises:
        ValueError: it has the name of none.
    """
    if found := re.fullmatch(r"fc_([123])\.(weight|bias)", key):
        return f"layers.{int(found[1]) - 1}.{found[2]}"
    name = key
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    if not re.match(r"(layers|blocks|from_rgb|to_rgb)\.\d+\.|constant$", name):
        raise ValueError(key)
    return name


def our_state(state: State) -> dict[str, Tensor]:
    """One official network's state under our names, without the kernels of its blurs and a norm that is never used.

    Raises:
        ValueError: a key is unknown, or a blur has another kernel than ours.
    """
    found = {}
    for key, value in state.items():
        if key.endswith(BLUR) or key.startswith("blur.weight"):
            _require_blur(key, value)
        elif not key.startswith(UNUSED_NORM):
            found[our_key(key)] = value
    return found


def our_model_state(state: State) -> dict[str, Tensor]:
    """The state of the official class `Model`, all networks and the average code, under our names.

    Raises:
        ValueError: a key is unknown.
    """
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, inner = key.partition(".")
        if part == AVERAGE_CODE:
            found["average_latent"] = value
        elif part in WHOLE_MODEL:
            parts.setdefault(WHOLE_MODEL[part], {})[inner] = value
        else:
            raise ValueError(key)
    return found | {f"{part}.{key}": value for part, inner in parts.items() for key, value in our_state(inner).items()}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load an official checkpoint into a StyleALAE or a digits' ALAE, which then works at its largest size.

    Args:
        model: of the checkpoint's configuration, see `PUBLISHED`.
        path: the file.

    Raises:
        ZooError: the file is missing or damaged, holds something else, or does not fit the model; says what.
    """
    state = read_weights(path)
    ours = model.state_dict()
    averaged = any(key.startswith("ema.") for key in ours)
    if not averaged:  # inference then uses the plain names: the averages are what was published for it
        plain = {key.removeprefix("ema."): value for key, value in state.items() if key.startswith("ema.")}
        state = {**{key: value for key, value in state.items() if not key.startswith("ema.")}, **plain}
    if fault := first_difference(state, ours):
        known = ", ".join(f"PUBLISHED[{name!r}]" for name in PUBLISHED)
        raise ZooError(
            f"{path} does not fit this model: {fault} Build it with the settings of the file's folder, one of {known}."
        )
    model.load_state_dict(state, strict=True)
    levels = getattr(model, "levels", None)
    if levels is not None:
        model.stage, model.blend = levels - 1, 1.0  # type: ignore[assignment]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read an official checkpoint: state of all networks, `ema.` before the names of moving averages, and the average code.

    Raises:
        ZooError: the file is missing or damaged, or holds something else.
    """
    content = read_file(path, safetensors=False)
    models = content.get("models")
    if not isinstance(models, Mapping):
        raise ZooError(
            f"{path} is no official ALAE checkpoint: it has {some_names(content)}; expected was `models`, with state dicts such as "
            "discriminator and generator_s."
        )
    wanted = [part + ending for part in OFFICIAL_PARTS.values() for ending in ("", AVERAGED)] + [AVERAGE_CODE]
    if missing := [name for name in wanted if name not in models]:
        raise ZooError(f"{path} lacks {', '.join(missing)} among its models; it has {some_names(models)}.")
    if strange := [name for name in models if name not in wanted]:
        raise ZooError(f"{path} has {', '.join(map(str, strange))} among its models, which no ALAE has.")
    found: dict[str, Tensor] = {}
    for ours, official in OFFICIAL_PARTS.items():
        for ending, prefix in (("", ""), (AVERAGED, "ema.")):
            state = state_of(models[official + ending])
            if state is None:
                raise ZooError(f"{path}: {official + ending} is no state dict.")
            try:
                converted = our_state(state)
            except ValueError as error:
                raise ZooError(
                    f"{path}: {official + ending} has an entry {error} that ALAE's networks do not have."
                ) from error
            found |= {f"{prefix}{ours}.{key}": value for key, value in converted.items()}
    average = state_of(models[AVERAGE_CODE]) or {}
    if set(average) != {"buff"}:
        raise ZooError(f"{path}: {AVERAGE_CODE} has {some_names(average)}; expected was `buff`, the average code.")
    return found | {"average_latent": average["buff"]}


def read_directions(paths: Sequence[Path], names: Sequence[str]) -> dict[str, Tensor]:
    """Read published directions, one NumPy file each (`direction_0.npy`: 512 numbers).

    Args:
        paths: of the files.
        names: of the attributes, one for each file.

    Returns:
        float64 z each, of the length that they were published with.

    Raises:
        ZooError: a file is missing, or holds no single row of numbers.
    """
    import numpy as np

    found = {}
    for path, name in zip(paths, names, strict=True):
        try:
            row = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ZooError(f"{path} is no NumPy file of numbers: {error}") from error
        if row.dtype.kind != "f" or row.size != max(row.shape, default=0):
            raise ZooError(f"{path} holds {row.dtype} of the shape {row.shape}; expected was one row of numbers.")
        found[name] = torch.from_numpy(row.reshape(-1).astype(np.float64))
    return found


PUBLISHED_DIRECTIONS = {
    0: "gender",
    1: "smile",
    2: "attractive",
    3: "wavy_hair",
    4: "young",
    10: "big_lips",
    11: "big_nose",
    17: "chubby",
    19: "glasses",
}
"""Attributes by the number in the published files' names; they fit the FFHQ checkpoint model_157 alone."""


def settings_of(state: State) -> dict[str, Any]:
    """The arguments of `StyleALAE` that the state of `read_weights` speaks of.

    Raises:
        ZooError: it is the perceptrons' of digits, whose arguments no shape tells from one another.
    """
    if "generator.constant" not in state:
        raise ZooError(
            "These are ALAE's perceptrons for digits: build MLPALAE, and call zoo.weights.alae.load_weights."
        )
    levels = sum(1 for key in state if re.fullmatch(r"encoder\.from_rgb\.\d+\.weight", key))
    first = state["encoder.from_rgb.0.weight"]
    return {
        "start_channels": first.shape[0],
        "most_channels": state["generator.constant"].shape[1],
        "levels": levels,
        "latent_channels": state["average_latent"].shape[-1],
        "mapping_layers": sum(1 for key in state if re.fullmatch(r"mapping\.layers\.\d+\.weight", key)),
        "image_channels": first.shape[1],
    }


def _require_blur(key: str, kernel: Tensor) -> None:
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    if kernel.shape[-2:] != (3, 3) or not torch.allclose(kernel.double(), torch.outer(line, line).expand_as(kernel)):
        raise ValueError(key)

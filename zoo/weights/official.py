"""What official files look like, and how each becomes one of our models: one table for all rooms.

A layout is recognised by its keys. A room adds its own by one entry in `LAYOUTS`; everything that takes weights by name (`zoo.load`,
`--init_from`, `lightning translate`) knows it then, and says of a file that was given in place of another what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from zoo.errors import ZooError
from zoo.weights import aggan, alae, biggan, cyclegan, gpunit, hidt, starganv2, unit
from zoo.weights.files import read_file, some_names, state_of

Content = Mapping[str, Any]
Say = Callable[[str], object]
TFHUB_EPS = 1e-4  # of the norms of networks that come from TF-Hub


@dataclass(frozen=True)
class Layout:
    """One layout of official files.

    Attributes:
        name: what the catalogue's `converter` calls it.
        what: it is, in words.
        matches: whether a content has it.
        room: that it fills; empty where it is no room's.
        holds: the room's networks that it brings; the others are untrained.
        settings: constructor arguments that a file speaks of, from its path and content.
        load: puts a file into a model of these settings, strictly: from model, path and where to say what was left out.
        complete: brings what such files lack and translating needs.
        advice: what to type where it is no whole model.
    """

    name: str
    what: str
    matches: Callable[[Content], bool]
    room: str = ""
    holds: tuple[str, ...] = ()
    settings: Callable[[Path, Content], Mapping[str, Any]] | None = None
    load: Callable[[nn.Module, Path, Say], None] | None = None
    complete: Callable[[nn.Module], None] | None = None
    advice: str = ""

    @property
    def whole(self) -> bool:
        """Whether a model can be made of it."""
        return self.load is not None


def read_content(path: Path) -> Content:
    """Read any official file; nothing is unpickled. Variables of TensorFlow come without their values.

    Raises:
        ZooError: it is missing, damaged, or of no known kind.
    """
    if is_tensorflow(path):
        return dict.fromkeys(aggan.read_variables(path)[0])
    return read_file(path)


def is_tensorflow(path: Path) -> bool:
    """Whether a path is an npz export or a file of a TensorFlow checkpoint, or the name that its files share."""
    index = path.with_name(f"{path.name}.index")
    return path.suffix in (".npz", ".index") or ".data-" in path.name or (not path.exists() and index.is_file())


def recognise(content: Content) -> Layout | None:
    """The layout of a content; None where no room knows it."""
    return next((layout for layout in LAYOUTS if layout.matches(content)), None)


def describe(content: Content) -> str:
    """What a content is, in words for a message."""
    layout = recognise(content)
    return layout.what if layout else f"nothing that a room knows (it holds {some_names(content)})"


def layout_called(name: str) -> Layout:
    """The layout that an entry of the catalogue names.

    Raises:
        ZooError: there is none.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ZooError(f"No layout is called {name!r}; there are {', '.join(layout.name for layout in LAYOUTS)}.")


# Contents ------------------------------------------------------------------------------------------------------------


def _keys(content: Content, *starts: str) -> bool:
    """Whether a content, or what DataParallel put into it, has a key that begins so, for each of these beginnings."""
    keys = [str(key).removeprefix("module.") for key in content]
    return all(any(key.startswith(start) for key in keys) for start in starts)


def _inner(content: Content, name: str, *starts: str) -> bool:
    value = content.get(name)
    return isinstance(value, Mapping) and _keys(value, *starts)


def _state(content: Content) -> Mapping[str, Any]:
    return state_of(content) or {}


def _cyclegan(content: Content, role: str) -> bool:
    state = _state(content)
    return bool(state) and role in cyclegan.settings_of(state)


# Settings and loading ------------------------------------------------------------------------------------------------


def _cyclegan_settings(path: Path, content: Content) -> Mapping[str, Any]:
    return cyclegan.settings_of(_state(content))


def _load_cyclegan(model: nn.Module, path: Path, say: Say) -> None:
    parts = dict(model.named_modules())
    cyclegan.load_network(parts["to_target"], path, say)
    if "ema.to_target" in parts:
        parts["ema.to_target"].load_state_dict(parts["to_target"].state_dict())


def _gpunit_settings(path: Path, content: Content) -> Mapping[str, Any]:
    generator, sampler = (state_of(content[name]) or {} for name in ("g_ema", "sampler"))
    return {**gpunit.generator_settings(generator), **gpunit.sampler_settings(sampler)}


def _complete_gpunit(model: nn.Module) -> None:
    gpunit.load_content_encoder(model.get_submodule("content_encoder"), str(model.content_source))


def _unit_settings(path: Path, content: Content) -> Mapping[str, Any]:
    found = unit.read_weights(path)
    settings = dict(found.settings)
    if settings.get("variant") == "munit_style":
        settings["shared_blocks"] = (
            0  # the later code's generators share nothing, so neither does the model that they come to
        )
        if any(key.endswith(".activation.weight") for key in found.state):
            settings["activation"] = "prelu"  # the one activation that learns
    return settings


def _biggan_settings(path: Path, content: Content) -> Mapping[str, Any]:
    state = biggan.read_state(path)
    ours, is_port = biggan.convert(state), "embeddings.weight" in state
    settings: dict[str, Any] = dict(biggan.settings_of(ours))
    if is_port or not any(key.endswith("sv0") for key in state):  # both come from TF-Hub
        last = 1e-5 if settings["image_size"] == 512 and not is_port else TFHUB_EPS
        eps = TFHUB_EPS
        settings |= {"spectral_norm_eps": eps, "norm_eps": eps, "output_norm_eps": last}
    vectors = ours.get("linear.parametrizations.weight.0.u")
    # No file brings a discriminator that fits: the least one is built.
    least = {"discriminator_channels": 4, "discriminator_multipliers": (1, 1), "discriminator_attention": ()}
    count = 1 if vectors is None else len(vectors)
    return {**settings, **least, "singular_values": count, "ema_decay": 0.0, "initialisation": "normal"}


def _load_biggan(model: nn.Module, path: Path, say: Say) -> None:
    parts = dict(model.named_modules())
    for name in ("generator", "ema.generator"):
        if name in parts:
            biggan.load_network(parts[name], path)


def _load_prior(model: nn.Module, path: Path, say: Say) -> None:
    gpunit.load_prior(model, path)


def _load_port(model: nn.Module, path: Path, say: Say) -> None:
    biggan.load_deep_port(model, path)


def _load_task(model: nn.Module, path: Path, say: Say) -> None:
    gpunit.load_task(model, path)


def _aggan_settings(path: Path, content: Content) -> Mapping[str, Any]:
    return aggan.settings_of(aggan.from_official(aggan.read_variables(path)[0]))


def _starganv2_settings(path: Path, content: Content) -> Mapping[str, Any]:
    return starganv2.model_settings(starganv2.official(path).networks)


def _load_starganv2(model: nn.Module, path: Path, say: Say) -> None:
    starganv2.load_averages(model, path)


def _load_alae(model: nn.Module, path: Path, say: Say) -> None:
    alae.load_weights(model, path)


def _hidt_settings(path: Path, content: Content) -> Mapping[str, Any]:
    # Published generators with masks end in tanh, which no shape tells; without masks it is not looked at.
    return {**hidt.read_weights(path).settings, "mask_output": "tanh"}


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "starganv2_nets",
        "networks of StarGAN v2",
        lambda content: _inner(content, "mapping_network", "shared.") and "style_encoder" in content,
        "starganv2",
        ("generator", "mapping_network", "style_encoder"),
        _starganv2_settings,
        _load_starganv2,
    ),
    Layout(
        "alae_checkpoint",
        "a checkpoint of ALAE's official code",
        lambda content: isinstance(content.get("models"), Mapping) and "mapping_tl" in content["models"],
        "alae",
        ("encoder", "generator", "critic", "mapping"),
        lambda path, content: alae.settings_of(alae.read_weights(path)),
        _load_alae,
    ),
    Layout(
        "hidt_generator",
        "a generator of HiDT's official code",
        lambda content: _keys(_state(content), "content_encoder.model_preparation.", "style_encoder.head."),
        "hidt",
        ("generator",),
        _hidt_settings,
        hidt.load_weights,
    ),
    Layout(
        "hidt_enhancer",
        "HiDT's enhancement network",
        lambda content: _keys(_state(content), "conv_first.", "RRDB_trunk."),
        advice="It stands on a translation network: build HiDTEnhancer, and call zoo.weights.hidt.load_weights.",
    ),
    Layout(
        "gpunit_task",
        "a task file of GP-UNIT's second stage",
        lambda content: _inner(content, "g_ema", "style_encoder.") and "sampler" in content,
        "gpunit",
        ("content_encoder", "generator", "sampler"),
        _gpunit_settings,
        _load_task,
        _complete_gpunit,
    ),
    Layout(
        "gpunit_prior",
        "a file of GP-UNIT's first stage",
        lambda content: _inner(content, "ae_ema", "contentE."),
        "gpunit_prior",
        ("content_encoder", "style_encoder", "embedding", "content_layer", "decoder", "classifier"),
        lambda path, content: gpunit.prior_settings(gpunit.renamed_prior(content["ae_ema"])),
        _load_prior,
    ),
    Layout(
        "gpunit_content_encoder",
        "GP-UNIT's content encoder",
        lambda content: _keys(content, "layer1.0.conv.") or _keys(content, "layers.0.0.conv."),
        advice="It is a part of GP-UNIT, and is given as --model.content_encoder PATH.",
    ),
    Layout(
        "biggan_deep_port",
        "the port of TF-Hub's BigGAN-deep",
        lambda content: _keys(content, "embeddings.weight", "generator.gen_z."),
        "biggan",
        ("generator",),
        _biggan_settings,
        _load_port,
    ),
    Layout(
        "biggan_generator",
        "a generator of BigGAN's official code",
        lambda content: _keys(content, "shared.weight", "blocks.0.") or _keys(content, "G_linear.module.", "GBlock."),
        "biggan",
        ("generator",),
        _biggan_settings,
        _load_biggan,
    ),
    Layout(
        "biggan_discriminator",
        "a discriminator of BigGAN's official code",
        lambda content: _keys(content, "embed.", "blocks.0.", "linear."),
        advice="It is needed for training alone; the generator lies beside it as G_ema.pth.",
    ),
    Layout(
        "unit_generators",
        "generators of UNIT's official codes",
        lambda content: _keys(content, "encode_A.", "decode_B.") or _inner(content, "a", "enc."),
        "unit",
        ("generators",),
        _unit_settings,
        unit.load_weights,
    ),
    Layout(
        "unit_digits_generator",
        "UNIT's generator for digits",
        lambda content: _keys(content, "g_vae.", "g_en_conv0_a."),
        "unit_digits",
        ("generator",),
        lambda path, content: unit.read_weights(path).settings,
        unit.load_weights,
    ),
    Layout(
        "unit_digits_discriminator",
        "UNIT's discriminator of digits, which is the classifier, too",
        lambda content: _keys(content, "conv_cl.weight", "conv0_a."),
        "unit_digits",
        ("discriminator",),
        lambda path, content: unit.read_weights(path).settings,
        unit.load_weights,
    ),
    Layout(
        "unit_discriminators",
        "discriminators of UNIT's official codes",
        lambda content: _keys(content, "model_A.") or _keys(content, "model_S.") or _inner(content, "a", "cnns."),
        advice="They are needed for training alone; the generators lie in a file of their own.",
    ),
    Layout(
        "aggan_tensorflow",
        "a checkpoint of AGGAN's official code",
        lambda content: _keys(content, "Model/g_A/"),
        "aggan",
        tuple(aggan.NETWORKS.values()),
        _aggan_settings,
        aggan.load_model,
    ),
    Layout(
        "ir_se50",
        "IR-SE50, a network that knows faces",
        lambda content: _keys(content, "input_layer.", "body."),
        advice="Rooms fetch it where they need it: lightning download model_ir_se50",
    ),
    Layout(
        "vgg",
        "a network of the VGG or AlexNet kind",
        lambda content: _keys(content, "features.0."),
        advice="Rooms fetch such networks where they need them: lightning download vgg19",
    ),
    Layout(
        "cyclegan_generator",
        "a generator of CycleGAN's official code",
        lambda content: _cyclegan(content, "generator"),
        "cyclegan",
        ("to_target",),
        _cyclegan_settings,
        _load_cyclegan,
    ),
    Layout(
        "cyclegan_discriminator",
        "a discriminator of CycleGAN's official code",
        lambda content: _cyclegan(content, "discriminator"),
        advice="It is needed for training alone; give the folder of all four files (latest_net_G_A.pth, ...) to have it, too.",
    ),
)
"""All layouts, the more telling ones first."""

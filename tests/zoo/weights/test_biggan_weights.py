"""Official files of BigGAN, built here in the published layouts with random weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.biggan import BigGAN
from zoo.biggan.discriminator import Discriminator
from zoo.biggan.generator import Generator
from zoo.biggan.layers import Attention, Layers
from zoo.errors import ZooError
from zoo.weights.biggan import (
    convert,
    deep_port_statistics,
    describe,
    from_deep_port,
    from_official,
    load_deep_port,
    load_network,
    our_name,
    read_state,
    settings_of,
    tfhub_names,
)
from zoo.weights.fetch import read_catalogue

SMALL: dict[str, Any] = {"image_size": 32, "classes": 3, "channels": 2, "attention": (16,)}


def shaken(network: nn.Module) -> nn.Module:
    """The network with every number of its own, in eval mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight, 1)
                nn.init.normal_(module.bias)
        if isinstance(module, Attention):
            nn.init.constant_(module.gamma, 0.7)
    return network.eval()


def generator(seed: int = 1, **arguments: Any) -> Generator:
    torch.manual_seed(seed)
    return Generator(**{**SMALL, "latent_channels": 12, "class_channels": 5, **arguments})


def discriminator(seed: int = 1, **arguments: Any) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(**{**SMALL, **arguments})


def inputs(network: Generator) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(3, network.latent_channels), torch.arange(3)


OFFICIAL = [
    (r"(.*)\.parametrizations\.weight\.original", r"\1.weight"),
    (r"(output_layer\.0)\.weight", r"\1.gain"),
    (r"(output_layer\.0)\.running_(mean|var)", r"\1.stored_\2"),
    (r"(.*)\.norm\.running_(mean|var)", r"\1.stored_\2"),
]


def official_state(network: nn.Module, norms: str = "", counter: float = 0.0) -> dict[str, Tensor]:
    """Our state in the official layout; `norms` is `bn.` for the official code's own batch norms, which can hold sums."""
    state = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if found := re.fullmatch(r"(.*)\.parametrizations\.weight\.0\.(u|sigma)", key):
            kind = {"u": "u", "sigma": "sv"}[found[2]]
            state |= {f"{found[1]}.{kind}{number}": row[None].clone() for number, row in enumerate(value)}
            state = {k: v.flatten() if ".sv" in k else v for k, v in state.items()}
            continue
        for pattern, replacement in OFFICIAL:
            key = re.sub(f"^{pattern}$", replacement, key)
        head, _, last = key.rpartition(".")
        if last.startswith("stored_") and norms:
            key = f"{head}.{norms}{last}"
            value = value * (counter or 1)
            state[f"{head}.{norms}accumulation_counter"] = torch.tensor([counter])
        state[key] = value.clone()
    return state


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


# The official PyTorch code ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("form", ["plain", "data_parallel", "own_norms", "sums", "three_singular_values", "converted"])
def test_an_official_generator_gives_equal_pictures(tmp_path: Path, form: str, depth: int) -> None:
    options: dict[str, Any] = {"depth": depth, "channels": 4 if depth else 2}
    if form == "three_singular_values":
        options["layers"] = Layers(singular_values=3)
    theirs, ours = shaken(generator(**options)), generator(seed=2, **options).eval()
    state = official_state(theirs, "bn." * (form in {"own_norms", "sums"}), 16.0 * (form == "sums"))
    assert {"blocks.0.0.conv1.u0", "shared.weight", "output_layer.0.gain"} <= state.keys()
    if form == "data_parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    if form == "converted":
        state = {key: value for key, value in state.items() if not key.endswith("sv0")}
    load_network(ours, saved(tmp_path / "G_ema.pth", state))
    torch.testing.assert_close(ours(*inputs(ours)), theirs(*inputs(ours)), rtol=0, atol=1e-6 if form == "sums" else 0)


@pytest.mark.parametrize("depth", [0, 2])
def test_an_official_discriminator_gives_equal_logits(tmp_path: Path, depth: int) -> None:
    options = {"depth": depth, "channels": 4 if depth else 2}
    theirs, ours = shaken(discriminator(**options)), discriminator(seed=2, **options).eval()
    load_network(ours, saved(tmp_path / "D.pth", official_state(theirs)))
    image, label = torch.randn(3, 3, 32, 32), torch.arange(3)
    assert torch.equal(ours(image, label), theirs(image, label))


def test_names_of_single_entries() -> None:
    state = official_state(generator())
    converted = from_official(state)
    assert {our_name(key, state) for key in state} == {key for key in converted if "num_batches" not in key}


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_every_key_and_shape_has_to_fit(tmp_path: Path, change: str) -> None:
    theirs, ours = generator(), generator(seed=2)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    state = official_state(theirs)
    if change == "missing":
        del state["blocks.1.0.conv1.bias"]
    elif change == "unknown":
        state["blocks.1.0.conv3.bias"] = torch.zeros(4)
    else:
        state["blocks.1.0.conv1.bias"] = torch.zeros(3)
    with pytest.raises(ZooError, match=r"blocks\.1\.0\.conv[13]\.bias is .* It looks like image_size 32, classes 3"):
        load_network(ours, saved(tmp_path / "G.pth", state))
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    optimiser = torch.optim.Adam(generator().parameters()).state_dict()
    path = tmp_path / "G_optim.pth"
    torch.save(optimiser, path)
    with pytest.raises(ZooError, match=r"holds state, param_groups. Official files are G_ema.pth"):
        read_state(path)
    torch.save({"pytorch-lightning_version": "2"}, path)
    with pytest.raises(ZooError, match="is a checkpoint of this project"):
        read_state(path)
    with pytest.raises(ZooError, match="no network of BigGAN"):
        load_network(generator(), saved(path, {"model.1.weight": torch.zeros(2)}))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"depth": 2, "channels": 4},
        {"image_size": 64, "attention": (16, 32)},
        {"layers": Layers(spectral_norm=False)},
    ],
)
def test_settings_are_read_from_a_generator(arguments: dict[str, Any]) -> None:
    network = generator(**arguments)
    settings = settings_of(from_official(official_state(network)))
    options = {name: value for name, value in settings.items() if name not in {"deep", "spectral_norm"}}
    again = Generator(
        options.pop("image_size"),
        options.pop("classes"),
        options.pop("generator_channels"),
        multipliers=options.pop("generator_multipliers"),
        attention=options.pop("generator_attention"),
        depth=2 * bool(settings["deep"]),
        layers=Layers(bool(settings["spectral_norm"])),
        **options,
    )
    shapes = {key: value.shape for key, value in again.state_dict().items()}
    assert shapes == {key: value.shape for key, value in network.state_dict().items()}


def test_networks_are_described() -> None:
    assert describe(from_official(official_state(discriminator()))) == "classes 3, deep False, discriminator widest 8"
    assert describe({"a": torch.zeros(1)}) == "no network of BigGAN (it holds a)"


# TF-Hub's BigGAN -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image_size", "attention"), [(128, 64), (256, 128), (512, 64)])
def test_the_converters_intermediate_model(tmp_path: Path, image_size: int, attention: int) -> None:
    """The way back is written down here on its own: positions before channels, latent code before class."""
    options: dict[str, Any] = {
        "image_size": image_size,
        "channels": 4,
        "attention": (attention,),
        "latent_channels": 16,
    }
    theirs, ours = shaken(generator(**options)), generator(seed=2, **options).eval()
    state = official_state(theirs)
    chunk = theirs.chunk

    def positions_first(value: Tensor) -> Tensor:
        return value.reshape(-1, 4, 4, *value.shape[1:]).movedim(0, 2).reshape(value.shape)

    intermediate = {}
    for official, name in tfhub_names(image_size).items():
        value = state.pop(official)
        if official.endswith(".u0"):
            value = value[0]
            intermediate[name.replace("weight_u", "weight_v")] = torch.zeros(7)
        if official == "shared.weight":
            value = value.t()
        elif official.startswith("linear."):
            value = positions_first(value)
        elif re.search(r"bn[12]\.(gain|bias)\.weight", official):
            value = torch.cat([value[:, -chunk:], value[:, :-chunk]], 1)
        intermediate[name] = value.clone()
    assert {key.rpartition(".")[2] for key in state} == {"sv0"}, "nothing else is left over"
    load_network(ours, saved(tmp_path / "intermediate.pth", intermediate))
    with torch.no_grad():
        pictures = [network(*inputs(ours)) for network in (ours, theirs)]
    assert torch.equal(*pictures)


def test_an_unknown_entry_of_the_intermediate_model() -> None:
    with pytest.raises(ZooError, match=r"'x.module.weight_bar' is no key of TF-Hub's BigGAN for 128x128"):
        convert(
            {
                **{f"GBlock.{block}.conv0.module.bias": torch.zeros(2) for block in range(5)},
                "G_linear.module.weight_bar": torch.zeros(32, 2),
                "linear.weight": torch.zeros(5, 3),
                "x.module.weight_bar": torch.zeros(1),
            }
        )
    with pytest.raises(ZooError, match="BigGAN for pictures of 128, 256, 512, not of 64"):
        tfhub_names(64)


# TF-Hub's BigGAN-deep --------------------------------------------------------------------------------------------------------------


def port_state(width: int = 4, stages: int = 3, latent: int = 6, classes: int = 5, rows: int = 51) -> dict[str, Tensor]:
    """A small BigGAN-deep in the port's layout, attending after its second stage."""
    torch.manual_seed(0)
    condition = 2 * latent
    state = {"embeddings.weight": torch.randn(latent, classes)}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        weight = torch.randn(shape)
        u, _, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        state[f"{name}.weight_orig"] = weight
        state[f"{name}.weight_u"], state[f"{name}.weight_v"] = u[:, 0].clone(), v[0].clone()
        if bias:
            state[f"{name}.bias"] = torch.randn(shape[0])

    def statistics(name: str, channels: int) -> None:
        state[f"{name}.running_means"] = torch.randn(rows, channels)
        state[f"{name}.running_vars"] = torch.rand(rows, channels) + 0.5

    widest = width * 2**stages
    layer("generator.gen_z", 16 * widest, condition)
    place, outgoing = 0, widest
    for stage in range(stages):
        for last in (False, True):
            incoming, outgoing = outgoing, outgoing // 2 if last else outgoing
            hidden, block = incoming // 4, f"generator.layers.{place}"
            for number, channels in enumerate((incoming, hidden, hidden, hidden)):
                statistics(f"{block}.bn_{number}", channels)
                for part in ("scale", "offset"):
                    layer(f"{block}.bn_{number}.{part}", channels, condition, bias=False)
            sizes = [(hidden, incoming, 1), (hidden, hidden, 3), (hidden, hidden, 3), (outgoing, hidden, 1)]
            for number, (out, inner, kernel) in enumerate(sizes):
                layer(f"{block}.conv_{number}", out, inner, kernel, kernel)
            place += 1
        if stage == 1:
            block = f"generator.layers.{place}"
            half, eighth = outgoing // 2, outgoing // 8
            for name, out, inner in (
                ("theta", eighth, 0),
                ("phi", eighth, 0),
                ("g", half, 0),
                ("o_conv", outgoing, half),
            ):
                layer(f"{block}.snconv1x1_{name}", out, inner or outgoing, 1, 1, bias=False)
            state[f"{block}.gamma"] = torch.tensor([0.3])
            place += 1
    statistics("generator.bn", width)
    state |= {"generator.bn.weight": torch.randn(width), "generator.bn.bias": torch.randn(width)}
    layer("generator.conv_to_rgb", width, width, 3, 3)
    return state


def port_model(state: dict[str, Tensor], **arguments: Any) -> BigGAN:
    settings = settings_of(from_deep_port(state))
    sizes = {"discriminator_channels": 1, "discriminator_multipliers": (8, 8), "discriminator_attention": ()}
    return BigGAN(**{**settings, **sizes, "norm_eps": 1e-4, "output_norm_eps": 1e-4, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_port_draws_with_the_statistics_of_a_truncation(tmp_path: Path, ema_decay: float) -> None:
    port = port_state()
    model = port_model(port, ema_decay=ema_decay)
    assert (model.image_size, model.latent_channels) == (32, 6)
    path = saved(tmp_path / "biggan-deep-32-pytorch_model.bin", port)
    load_deep_port(model, path)
    latent, label = torch.randn(2, 6), torch.tensor([0, 4])
    half, whole = (model.generate(latent, label, truncation=truncation) for truncation in (0.5, 1.0))
    assert not torch.allclose(half, whole)
    load_network(model.generator, path)
    with torch.no_grad():
        torch.testing.assert_close(model.generator.eval()(latent, label), whole, rtol=0, atol=1e-6)
    with pytest.raises(ZooError, match=r"none for 0.7"):
        model.generate(latent, label, truncation=0.7)
    with pytest.raises(ZooError, match="is no file of the BigGAN-deep port"):
        load_deep_port(model, saved(tmp_path / "G.pth", official_state(generator())))


def test_weights_are_divided_by_the_stored_vectors() -> None:
    port = port_state()
    weight = port["generator.conv_to_rgb.weight_orig"]
    converted = from_deep_port(port)["output_layer.2.weight"]
    torch.testing.assert_close(converted, (weight / torch.linalg.svdvals(weight.flatten(1))[0])[:3])
    assert len(converted) == 3


@pytest.mark.parametrize(("truncation", "row"), [(0.5, 25), (1.0, 50), (0.02, 1), (0.58, 29), (0.14, 7)])
def test_multiples_of_a_fiftieth_are_rows(truncation: float, row: int) -> None:
    port = port_state()
    statistics = deep_port_statistics(port, truncation)
    means = port["generator.layers.3.bn_2.running_means"]
    assert torch.equal(statistics["blocks.3.0.bn3.norm.running_mean"], means[row])
    assert torch.equal(statistics["output_layer.0.running_var"], port["generator.bn.running_vars"][row])


def test_between_them_the_port_blends_the_wrong_way_round() -> None:
    port = port_state()
    means = port["generator.bn.running_means"]
    blended = deep_port_statistics(port, 0.43)["output_layer.0.running_mean"]  # 21.5: half and half
    torch.testing.assert_close(blended, (means[21] + means[22]) / 2)
    blended = deep_port_statistics(port, 0.425)["output_layer.0.running_mean"]  # 21.25
    torch.testing.assert_close(blended, 0.25 * means[21] + 0.75 * means[22])


@pytest.mark.parametrize("truncation", [0.0, -1.0, 1.01])
def test_truncations_out_of_range(truncation: float) -> None:
    with pytest.raises(ZooError, match="above 0 and up to 1"):
        deep_port_statistics(port_state(), truncation)


def test_the_port_is_taken_whole() -> None:
    port = port_state()
    with pytest.raises(ZooError, match=r"'generator.more' and 0 more entries have no place"):
        from_deep_port({**port, "generator.more": torch.zeros(1)})
    del port["generator.layers.3.bn_2.scale.weight_u"]
    with pytest.raises(ZooError, match=r"'generator.layers.3.bn_2.scale.weight_u' is missing"):
        from_deep_port(port)


def test_the_catalogue_has_the_networks_of_gpunits_pairs() -> None:
    catalogue = read_catalogue()
    assert catalogue["biggan_deep_128"].file == "biggan-deep-128-pytorch_model.bin"
    assert catalogue["biggan_128"].google_drive

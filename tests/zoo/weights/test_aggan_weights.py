"""Official files of AGGAN, built here in the published layout with random weights."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.aggan import AGGAN
from zoo.errors import ZooError
from zoo.weights.aggan import NETWORKS, load_model, our_name, read_variables
from zoo.weights.tensorflow_bundle import crc32c, read_index, read_variable

SIZES: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 2,
    "attention_channels": 3,
    "discriminator_channels": 2,
    "discriminator_layers": 3,
}
Variables = dict[str, np.ndarray]

# The published networks, written down from their layer table, apart from the room's own code ------------------------------------


def layers_of(network: str, sizes: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Kernel, incoming and outgoing channels of each layer."""
    if network.startswith("d_"):
        widths = [3, *(sizes["discriminator_channels"] * 2**i for i in range(4)), 1]
        return {f"c{i + 1}": (4, a, b) for i, (a, b) in enumerate(pairwise(widths))}
    if network.endswith("_ae"):
        n = sizes["attention_channels"]
        layers = {"c1": (7, 3, n), "c2": (3, n, 2 * n), "r1/c1": (3, 2 * n, 2 * n), "r1/c2": (3, 2 * n, 2 * n)}
        return layers | {"c4": (1, 2 * n, 2 * n), "c5": (1, 2 * n, n), "c6": (1, n, 1)}
    n = sizes["generator_channels"]
    layers = {"c1": (7, 3, n), "c2": (3, n, 2 * n), "c3": (3, 2 * n, 4 * n)}
    for block in range(1, sizes["residual_blocks"] + 1):
        layers |= {f"r{block}/c1": (3, 4 * n, 4 * n), f"r{block}/c2": (3, 4 * n, 4 * n)}
    return layers | {"c4": (3, 4 * n, 2 * n), "c5": (3, 2 * n, n), "c6": (7, n, 3)}


def is_transposed(network: str, layer: str) -> bool:
    return network in ("g_A", "g_B") and layer in ("c4", "c5")


def published(seed: int = 0, **changes: Any) -> Variables:
    """Random weights under the published names, in TensorFlow's layout; last layers hold norms that nothing uses."""
    numbers, variables = np.random.default_rng(seed), {}
    for network in NETWORKS:
        for layer, (kernel, incoming, outgoing) in layers_of(network, SIZES | changes).items():
            transposed = is_transposed(network, layer)
            conv = f"Model/{network}/{layer}/{'Conv2d_transpose' if transposed else 'Conv'}"
            shape = (kernel, kernel, outgoing, incoming) if transposed else (kernel, kernel, incoming, outgoing)
            variables[f"{conv}/weights"] = 0.3 * numbers.standard_normal(shape)
            variables[f"{conv}/biases"] = numbers.standard_normal(outgoing)
            variables[f"Model/{network}/{layer}/instance_norm/scale"] = 1 + 0.2 * numbers.standard_normal(outgoing)
            variables[f"Model/{network}/{layer}/instance_norm/offset"] = numbers.standard_normal(outgoing)
    return {name: value.astype(np.float32) for name, value in variables.items()}


def with_optimiser(variables: Variables) -> Variables:
    slots = {f"{name}/{slot}": np.zeros_like(v) for name, v in variables.items() for slot in ("Adam", "Adam_1")}
    scalars = {"beta1_power": np.float32(0.5), "beta2_power": np.float32(0.9), "Model/global_step": np.float32(7)}
    return variables | slots | {name: np.asarray(value) for name, value in scalars.items()}


class Published:
    """Runs the published networks on their variables."""

    def __init__(self, variables: Variables, network: str) -> None:
        self.network, self.norms = network, True
        start = f"Model/{network}/"
        self.variables = {
            name.removeprefix(start): torch.from_numpy(v) for name, v in variables.items() if name.startswith(start)
        }

    def conv(self, x: Tensor, layer: str, stride: int = 1, norm: bool = True) -> Tensor:
        if is_transposed(self.network, layer):
            weight, bias = (self.variables[f"{layer}/Conv2d_transpose/{name}"] for name in ("weights", "biases"))
            n = x.shape[-1]
            x = F.conv_transpose2d(x, weight.permute(3, 2, 0, 1), bias, stride=2)[..., : 2 * n, : 2 * n]
        else:
            weight, bias = (self.variables[f"{layer}/Conv/{name}"] for name in ("weights", "biases"))
            x = F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride=stride)
        if not norm:
            return x
        scale, offset = (self.variables[f"{layer}/instance_norm/{name}"].view(-1, 1, 1) for name in ("scale", "offset"))
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return scale * (x - mean) / torch.sqrt(variance + 1e-5) + offset

    def block(self, x: Tensor, name: str, mode: str) -> Tensor:
        y = F.relu(self.conv(F.pad(x, (1, 1, 1, 1), mode=mode), f"{name}/c1"))
        return F.relu(x + self.conv(F.pad(y, (1, 1, 1, 1), mode=mode), f"{name}/c2"))

    def __call__(self, x: Tensor) -> Tensor:
        if self.network.startswith("d_"):
            return self.discriminate(x)
        return self.attend(x) if self.network.endswith("_ae") else self.generate(x)

    def generate(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(F.pad(x, (3, 3, 3, 3)), "c1"))
        for layer in ("c2", "c3"):
            x = F.relu(self.conv(F.pad(x, (0, 1, 0, 1)), layer, stride=2))
        for number in range(1, SIZES["residual_blocks"] + 1):
            x = self.block(x, f"r{number}", "constant")
        for layer in ("c4", "c5"):
            x = F.relu(self.conv(x, layer))
        return torch.tanh(self.conv(F.pad(x, (3, 3, 3, 3)), "c6", norm=False))

    def attend(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(F.pad(x, (3, 3, 3, 3), mode="reflect"), "c1", stride=2))
        x = self.block(F.relu(self.conv(F.pad(x, (0, 1, 0, 1)), "c2", stride=2)), "r1", "reflect")
        for layer in ("c4", "c5"):
            x = F.relu(self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), layer))
        return torch.sigmoid(self.conv(x, "c6", norm=False))

    def discriminate(self, x: Tensor) -> Tensor:
        for layer, stride in (("c1", 2), ("c2", 2), ("c3", 2), ("c4", 1)):
            x = F.leaky_relu(self.conv(F.pad(x, (2, 2, 2, 2)), layer, stride, norm=self.norms), 0.2)
        return self.conv(F.pad(x, (2, 2, 2, 2)), "c5", norm=False)


# A checkpoint of TensorFlow's Saver, written down from the format ----------------------------------------------------------------


def varint(number: int) -> bytes:
    found = b""
    while number >= 0x80:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


def masked(data: bytes) -> int:
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block_of(entries: list[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    """Entries whose keys begin like the one before; every so many are written out in full."""
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return content + b"".join(struct.pack("<I", place) for place in restarts) + struct.pack("<I", len(restarts))


def table_of(entries: list[tuple[bytes, bytes]], per_block: int, compressed: int = 0) -> bytes:
    content, index = b"", []

    def add(block: bytes) -> bytes:
        nonlocal content
        handle = varint(len(content)) + varint(len(block))
        tail = bytes([compressed])
        content += block + tail + struct.pack("<I", masked(block + tail))
        return handle

    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        index.append((part[-1][0], add(block_of(part))))
    handles = add(block_of([])) + add(block_of(index, restart=1))
    return content + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def entry_of(value: np.ndarray, offset: int, kind: int = 1, shard: int = 0) -> bytes:
    """A BundleEntryProto; as always, fields that are 0 are left out."""
    sides = b"".join(b"\x12" + varint(len(side)) + side for side in (b"\x08" + varint(n) for n in value.shape))
    found = b"\x08" + varint(kind) + b"\x12" + varint(len(sides)) + sides
    for field, number in ((3, shard), (4, offset), (5, value.nbytes)):
        found += bytes([field << 3]) + varint(number) if number else b""
    return found + b"\x35" + struct.pack("<I", masked(value.tobytes()))


def write_checkpoint(
    prefix: Path, variables: Variables, *, per_block: int = 7, compressed: int = 0, **entry: int
) -> Path:
    data, entries = b"", [(b"", b"\x08\x01\x1a\x02\x08\x01")]  # the header: one data file, written by version 1
    for name in sorted(variables):
        entries.append((name.encode(), entry_of(variables[name], len(data), **entry)))
        data += variables[name].tobytes()
    prefix.with_name(f"{prefix.name}.index").write_bytes(table_of(entries, per_block, compressed))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    prefix.with_name(f"{prefix.name}.meta").write_bytes(b"a graph, which nobody reads")
    return prefix


def write(folder: Path, variables: Variables, form: str) -> Path:
    if form == "npz":
        np.savez(folder / "AGGAN-29.npz", **variables)  # type: ignore[arg-type]
        return folder / "AGGAN-29.npz"
    prefix = write_checkpoint(folder / "AGGAN-29", variables)
    return prefix.with_name(prefix.name + form)


FORMS = ["npz", "", ".index", ".data-00000-of-00001", ".meta"]


# Tests ---------------------------------------------------------------------------------------------------------------------------


def make(**changes: Any) -> AGGAN:
    torch.manual_seed(1)
    return AGGAN(**{**SIZES, **changes})


@pytest.mark.parametrize("form", FORMS)
def test_a_published_checkpoint_gives_equal_pictures_masks_and_judgements(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    variables, model = published(), make()
    path = write(tmp_path, with_optimiser(variables), form)
    load_model(model, path)
    picture = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for official, ours in NETWORKS.items():
        network = Published(variables, official)
        torch.testing.assert_close(model.get_submodule(ours)(picture), network(picture), rtol=1e-4, atol=1e-5)
    model.build_stage(1)
    network = Published(variables, "d_A")
    network.norms = False
    torch.testing.assert_close(model.discriminator_source(picture), network(picture), rtol=1e-4, atol=1e-5)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"{path.name}: {2 * len(variables) + 3} variables of the optimiser were left aside (")
    assert said[1].startswith(f"{path.name}: 12 weights of norms in last layers were left aside (")


def test_zebras_are_the_source_of_the_published_model(tmp_path: Path) -> None:
    """A is the source: its generator, its attention network and the discriminator of its pictures."""
    variables, model = published(), make()
    load_model(model, write(tmp_path, variables, "npz"), say=lambda _: None)
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    mask, raw = Published(variables, "g_A_ae")(picture), Published(variables, "g_A")(picture)
    translation, attention = model.translate(picture, return_attention=True)
    torch.testing.assert_close(attention, mask, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(translation, mask * raw + (1 - mask) * picture, rtol=1e-4, atol=1e-5)


def test_moving_averages_start_from_the_weights(tmp_path: Path) -> None:
    model = make(ema_decay=0.9)
    load_model(model, write(tmp_path, published(), "npz"), say=lambda _: None)
    for name in ("to_target", "to_source", "attention_source", "attention_target"):
        state = model.ema[name].state_dict()
        assert all(torch.equal(value, state[key]) for key, value in model.get_submodule(name).state_dict().items())


def test_nothing_is_said_of_what_is_not_there(tmp_path: Path) -> None:
    dead = [f"Model/{network}/c{5 if network.startswith('d') else 6}/instance_norm" for network in NETWORKS]
    variables = {name: value for name, value in published().items() if not name.startswith(tuple(dead))}
    said: list[str] = []
    load_model(make(), write(tmp_path, variables, "npz"), said.append)
    assert said == []


def refusal(path: Path, **changes: Any) -> str:
    model = make(**changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError) as error:
        load_model(model, path, say=lambda _: None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(error.value)


def test_files_of_other_models_say_what_to_type(tmp_path: Path) -> None:
    path = write(tmp_path, published(), "npz")
    said = refusal(path, residual_blocks=9, attention_channels=5)
    assert said.endswith("To load it: --model.residual_blocks 2 --model.attention_channels 3")
    assert "--model.attention_up_kernel 1" in refusal(path, attention_up_kernel=3)
    assert "--model.discriminator_layers 3" in refusal(path, discriminator_layers=2)
    cut = published()
    del cut["Model/g_B/r2/c1/Conv/biases"]
    assert "lacks to_source.r2.c1.conv.bias (1 weights)" in refusal(write(tmp_path, cut, "npz"))
    more = published() | {"Model/g_B/c9/Conv/biases": np.zeros(3, np.float32)}
    assert "has to_source.c9.conv.bias that this model has not (1 weights)" in refusal(write(tmp_path, more, "npz"))
    wrong = published()
    wrong["Model/g_B/c6/Conv/biases"] = np.zeros(4, np.float32)
    assert "to_source.c6.conv.bias is (4,), expected was (3,)" in refusal(write(tmp_path, wrong, "npz"))
    del cut["Model/g_A/c1/Conv/biases"]  # by which its width would be known
    assert "lacks to_source.r2.c1.conv.bias (2 weights)" in refusal(write(tmp_path, cut, "npz"))


def test_variables_of_other_models_are_not_passed_over(tmp_path: Path) -> None:
    more = published() | {"vgg/conv1/weights": np.zeros(1, np.float32)}
    said = refusal(write(tmp_path, more, ".index"))
    assert f"1 of {len(more)} variables have other names (vgg/conv1/weights)" in said
    path = write(tmp_path, {"beta1_power": np.zeros((), np.float32)}, "npz")
    assert "holds no network of AGGAN (it holds beta1_power)" in refusal(path)
    with pytest.raises(ZooError, match="'Model/g_C/c1/Conv/weights' is no variable of AGGAN"):
        our_name("Model/g_C/c1/Conv/weights")


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    assert "There is no" in refusal(tmp_path / "nothing.npz")
    assert "A TensorFlow checkpoint is NAME.index and NAME.data-00000-of-00001" in refusal(tmp_path / "nothing")
    path = tmp_path / "x.npz"
    for content in (b"", b"hello", write(tmp_path, published(), "npz").read_bytes()[:1000]):
        path.write_bytes(content)
        assert "is not a whole npz file" in refusal(path)
    np.savez(path, code=np.array([print], dtype=object))
    assert "AGGAN" in refusal(path)
    np.savez(path, **{"Model/g_A/c1/Conv/weights": np.array([print], dtype=object)})  # type: ignore[arg-type]
    assert "is not a whole npz file (Object arrays cannot be loaded" in refusal(path)


# The reader of TensorFlow's checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"", 0)],
)
def test_checksums_are_castagnolis(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@pytest.mark.parametrize("per_block", [1, 3, 1000])
def test_every_variable_comes_back_however_the_index_is_cut(tmp_path: Path, per_block: int) -> None:
    variables = {"a": np.float32([[1, 2], [3, 4]]), "a/b": np.float32(5), "a/bc": np.zeros((0, 3), np.float32)}
    variables |= {f"z{number:03}/{'x' * number}": np.full(number, number, np.float32) for number in range(40)}
    prefix = write_checkpoint(tmp_path / "model.ckpt-7", variables, per_block=per_block)
    index = read_index(prefix)
    assert {name: found.shape for name, found in index.items()} == {name: v.shape for name, v in variables.items()}
    for name, value in variables.items():
        np.testing.assert_array_equal(read_variable(prefix, name, index[name]).numpy(), value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    variables = published()
    prefix = write_checkpoint(tmp_path / "AGGAN-29", variables)
    index, data = (prefix.with_name(f"{prefix.name}{end}") for end in (".index", ".data-00000-of-00001"))
    whole_index, whole_data = index.read_bytes(), data.read_bytes()
    for broken, words in (
        (whole_index[:-1], "does not end as one"),
        (whole_index[:20], "does not end as one"),
        (whole_index[500:], "is not a whole index of a TensorFlow checkpoint"),
        (whole_index[:60] + bytes([whole_index[60] ^ 1]) + whole_index[61:], "the checksum of the block at 0 is wrong"),
        (b"", "does not end as one"),
    ):
        index.write_bytes(broken)
        assert words in refusal(index)
    index.write_bytes(whole_index)
    data.write_bytes(whole_data[:-4])
    assert "is cut off, or not of this index" in refusal(prefix)
    data.write_bytes(whole_data[:100] + bytes([whole_data[100] ^ 1]) + whole_data[101:])
    assert "is damaged: the checksum of" in refusal(prefix)
    data.unlink()
    assert "There is no" in refusal(prefix)


def test_what_the_reader_does_not_know_is_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "AGGAN-29"
    assert "are compressed" in refusal(write_checkpoint(prefix, published(), compressed=1))
    assert "is not float32 in one piece" in refusal(write_checkpoint(prefix, published(), kind=2))
    assert "is not float32 in one piece" in refusal(write_checkpoint(prefix, published(), shard=1))


def test_slots_are_not_read(tmp_path: Path) -> None:
    variables = published()
    path = write(tmp_path, with_optimiser(variables), "")
    kept, aside = read_variables(path)
    assert kept.keys() == variables.keys()
    assert len(aside) == 2 * len(variables) + 3

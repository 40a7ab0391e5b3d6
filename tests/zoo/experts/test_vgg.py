from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures, layer_indices, load_vgg_weights, normalise, vgg_layers

RELUS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def published_state(depth: int, base_channels: int = 64) -> dict[str, Tensor]:
    """Give random weights with the keys of torchvision's file; the classifier is small, nobody reads it."""
    features = vgg_layers(depth, "pool5", base_channels).state_dict()
    classifier = {f"classifier.{n}.{kind}": torch.zeros(1) for n in (0, 3, 6) for kind in ("weight", "bias")}
    return {**{f"features.{key}": value for key, value in features.items()}, **classifier}


def test_layer_numbers_are_torchvisions() -> None:
    indices = layer_indices(19)
    # the published numbers of the perceptual losses of GP-UNIT and SAT
    assert [indices[layer] for layer in RELUS] == [1, 6, 11, 20, 29]
    assert [indices[layer] for layer in ("conv1_1", "conv2_1", "conv3_1", "conv3_3")] == [0, 5, 10, 14]
    assert layer_indices(16)["relu5_3"] == 29
    for depth, network in ((16, torchvision.models.vgg16), (19, torchvision.models.vgg19)):
        with torch.device("meta"):
            features = network(weights=None, init_weights=False).features
        kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
        assert len(layer_indices(depth)) == len(features)
        for layer, place in layer_indices(depth).items():
            assert isinstance(features[place], kinds[layer[:4]])


@pytest.mark.parametrize("depth", [16, 19])
def test_features_equal_torchvisions(depth: int, image: Tensor) -> None:
    # only the features of the official class: its classifier has 120 million weights
    official = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[{16: "D", 19: "E"}[depth]]).eval()
    layers = ["conv1_2", "relu1_1", "relu3_1", "pool4", "relu5_1", "conv5_3"]
    vgg = VGGFeatures(depth, layers)
    vgg.load_weights({f"features.{key}": value for key, value in official.state_dict().items()})
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    features = vgg(image)
    assert list(features) == layers
    for layer, feature in features.items():
        with torch.no_grad():
            expected = official[: layer_indices(depth)[layer] + 1](transform((image + 1) / 2))
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5, msg=layer)


def test_shapes_of_a_narrow_network(image: Tensor) -> None:
    features = VGGFeatures(19, RELUS, base_channels=4)(image)
    assert [tuple(feature.shape) for feature in features.values()] == [
        (2, 4, 32, 48),
        (2, 8, 16, 24),
        (2, 16, 8, 12),
        (2, 32, 4, 6),
        (2, 32, 2, 3),
    ]


def test_nothing_deeper_than_needed_is_built() -> None:
    vgg = VGGFeatures(19, ["relu3_1", "relu1_1"])
    assert len(vgg.features) == 12
    assert sum(weight.numel() for weight in vgg.parameters()) == 555_328  # SAT's loss network up to conv3_1
    assert list(vgg.own_state()) == [f"features.{n}.{kind}" for n in (0, 2, 5, 7, 10) for kind in ("weight", "bias")]
    trunk = vgg_layers(19, "relu3_3")
    assert sum(weight.numel() for weight in trunk.parameters() if weight.requires_grad) == 1_735_488  # SAT's attention
    assert len(trunk) == 16
    assert sum(weight.numel() for weight in VGGFeatures(16, ["relu5_3"]).parameters()) == 14_714_688  # UNIT's


def test_convolutions_are_given_before_their_relu(image: Tensor) -> None:
    features = VGGFeatures(16, ["conv2_1", "relu2_1"], base_channels=2)(image)
    assert (features["conv2_1"] < 0).any()
    assert torch.equal(features["conv2_1"].relu(), features["relu2_1"])


def test_the_input_is_normalised(image: Tensor) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    at_the_mean = (2 * mean - 1).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(normalise(at_the_mean), torch.zeros(1, 3, 4, 4))
    one_deviation_up = (2 * (mean + std) - 1).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(one_deviation_up), torch.ones(1, 3, 1, 1))

    vgg = VGGFeatures(19, ["conv1_1"], base_channels=4)
    own = vgg.features[0](normalise(image))
    assert torch.equal(vgg(image)["conv1_1"], own)
    vgg.normalised_input = True
    assert torch.equal(vgg(normalise(image))["conv1_1"], own)


def test_float64_is_exact() -> None:
    image = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    expected = [(0.5 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    torch.testing.assert_close(normalise(image).flatten().tolist(), expected, rtol=1e-14, atol=0)


def test_a_pool_can_be_left_out(image: Tensor) -> None:
    vgg = VGGFeatures(16, ["relu5_3"], base_channels=2, without_pools=["pool4"])
    whole = VGGFeatures(16, ["relu5_3"], base_channels=2)
    vgg.load_weights(whole.own_state())  # the numbers of the other layers stay
    assert vgg(image)["relu5_3"].shape == (2, 16, 4, 6)  # stride 8
    assert whole(image)["relu5_3"].shape == (2, 16, 2, 3)  # stride 16
    deeper = nn.Sequential(
        *(layer for place, layer in enumerate(whole.features) if place != layer_indices(16)["pool4"])
    )
    torch.testing.assert_close(vgg(image)["relu5_3"], deeper(normalise(image)))


def test_it_stays_frozen(image: Tensor) -> None:
    room = nn.Module()
    room.vgg = VGGFeatures(19, ["relu2_1"], base_channels=4)
    room.train()
    assert room.training
    assert not any(module.training for module in room.vgg.modules())
    image.requires_grad_()
    room.vgg(image)["relu2_1"].square().sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    for weight in room.vgg.parameters():
        assert not weight.requires_grad
        assert weight.grad is None


@pytest.mark.parametrize("legacy", [True, False])
def test_the_published_layout_loads_strictly(tmp_path: Path, legacy: bool) -> None:
    # torchvision's VGG files are from before the zip format
    state = published_state(19, 8)
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    vgg = VGGFeatures(19, ["relu3_1"], base_channels=8)
    vgg.load_weights(path)
    for key, value in vgg.own_state().items():
        assert torch.equal(value, state[key])
    assert not any(weight.requires_grad for weight in vgg.parameters())
    trainable = vgg_layers(19, "relu3_3", 8)
    load_vgg_weights(trainable, 19, path)
    assert torch.equal(trainable[14].weight, state["features.14.weight"])
    assert all(weight.requires_grad for weight in trainable.parameters())


def state_with_batch_norm() -> dict[str, Tensor]:
    features = torchvision.models.vgg.make_layers([4, 4, "M"], batch_norm=True)
    return {f"features.{key}": value for key, value in features.state_dict().items()}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (published_state(16, 4), "does not hold a VGG-19 .* it looks like a VGG-16"),
        (published_state(13, 4), "it looks like a VGG-13"),
        (
            published_state(19, 8),
            r"of another width: features\.0\.weight is \(8, 3, 3, 3\), expected was \(4, 3, 3, 3\)",
        ),
        (state_with_batch_norm(), "it looks like a VGG with batch norm"),
        ({"state_dict": published_state(19, 4), "epoch": 3}, "training checkpoint with the entries state_dict, epoch"),
        (
            {"conv1.weight": torch.zeros(1), "bn1.bias": torch.zeros(1)},
            r"2 entries begin with conv1\.weight, bn1\.bias",
        ),
        ({}, "0 entries begin with nothing"),
        (torch.zeros(3), "holds a Tensor, not weights by name"),
    ],
)
def test_a_wrong_file_says_what_it_looks_like(tmp_path: Path, state: Mapping[str, Tensor], said: str) -> None:
    torch.save(state, tmp_path / "file.pth")
    vgg = VGGFeatures(19, ["relu1_1"], base_channels=4)  # so shallow that the tensors of all depths would fit
    before = {key: value.clone() for key, value in vgg.own_state().items()}
    with pytest.raises(ZooError, match=said):
        vgg.load_weights(tmp_path / "file.pth")
    for key, value in vgg.own_state().items():
        assert torch.equal(value, before[key])


def test_what_is_no_weight_file_is_told_and_never_unpickled(tmp_path: Path) -> None:
    vgg = VGGFeatures(19, ["relu1_1"], base_channels=4)
    with pytest.raises(ZooError, match="does not exist"):
        vgg.load_weights(tmp_path / "absent.pth")
    for content in (b"", b"<!DOCTYPE html>", b"PK\x03\x04 half a zip"):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(ZooError, match="is not a file of plain PyTorch weights"):
            vgg.load_weights(tmp_path / "file.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "file.pth")  # a whole object: only unpickling would give it back
    with pytest.raises(ZooError, match="is not a file of plain PyTorch weights"):
        vgg.load_weights(tmp_path / "file.pth")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ZooError, match="There is no VGG-18: the depth is one of 11, 13, 16, 19"):
        VGGFeatures(18, ["relu1_1"])
    with pytest.raises(ZooError, match=r"VGG-16 has no layer 'relu3_4'\. Its layers are conv1_1, relu1_1"):
        VGGFeatures(16, ["relu3_4"])
    with pytest.raises(ZooError, match="name some"):
        VGGFeatures(16, [])
    for pool in ("relu1_1", "pool2"):
        with pytest.raises(ZooError, match="is no pooling before relu2_1"):
            VGGFeatures(16, ["relu2_1"], without_pools=[pool])
    with pytest.raises(ZooError, match="base_channels=64, not 4"):
        VGGFeatures(16, ["relu1_1"], base_channels=4, pretrained=True)


def test_pretrained_weights_are_fetched_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"vgg19-dcbb9e9d\.pth is needed, and ZOO_OFFLINE forbids"):
        VGGFeatures(19, ["relu1_1"], pretrained=True)

    state = published_state(16)
    torch.save(state, tmp_path / "vgg16.pth")
    asked: list[str] = []

    def fetch(name: str) -> Path:
        asked.append(name)
        return tmp_path / "vgg16.pth"

    monkeypatch.setattr("zoo.experts.vgg.fetch", fetch)
    vgg = VGGFeatures(16, ["relu1_1"], pretrained=True)
    assert asked == ["vgg16"]
    assert torch.equal(vgg.features[0].weight, state["features.0.weight"])

"""Features of a VGG network: what perceptual losses compare.

Karen Simonyan, Andrew Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015,
https://arxiv.org/abs/1409.1556. The layers, their numbers and the published weights are torchvision's.

Layers are named as in the field: `relu3_1` is the rectified output of the first convolution of the third block,
`conv3_1` the same before the ReLU, `pool3` the pooling that closes the block.
"""

import pickle
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.weights.fetch import fetch

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], torchvision's
IMAGENET_STD = (0.229, 0.224, 0.225)
BASE_CHANNELS = 64  # of the published networks
PLANS = {11: "A", 13: "B", 16: "D", 19: "E"}  # torchvision's letters of the paper's table 1


def layer_indices(depth: int) -> dict[str, int]:
    """Return the place of every named layer in torchvision's `features`, for instance `relu3_1: 11` of VGG-19.

    Raises:
        ZooError: an unknown depth.
    """
    if depth not in PLANS:
        raise ZooError(f"There is no VGG-{depth}: the depth is one of {', '.join(map(str, PLANS))}.")
    indices: dict[str, int] = {}
    block, convolution, place = 1, 1, 0
    for step in cfgs[PLANS[depth]]:
        if step == "M":
            indices[f"pool{block}"] = place
            block, convolution, place = block + 1, 1, place + 1
        else:
            indices[f"conv{block}_{convolution}"], indices[f"relu{block}_{convolution}"] = place, place + 1
            convolution, place = convolution + 1, place + 2
    return indices


def _place(depth: int, layer: str) -> int:
    indices = layer_indices(depth)
    if layer not in indices:
        raise ZooError(f"VGG-{depth} has no layer {layer!r}. Its layers are {', '.join(indices)}.")
    return indices[layer]


def vgg_layers(depth: int, last: str, base_channels: int = BASE_CHANNELS) -> nn.Sequential:
    """Build the layers of a VGG network up to a named one, trainable, with torchvision's numbering and random weights.

    Args:
        depth: 11, 13, 16 or 19.
        last: the deepest layer to build, for instance "relu3_3".
        base_channels: channels of the first block; 64 in the published networks, less for small ones.

    Raises:
        ZooError: an unknown depth or layer.
    """
    place = _place(depth, last)
    plan = [step if step == "M" else int(step) * base_channels // BASE_CHANNELS for step in cfgs[PLANS[depth]]]
    steps = sum(at <= place for layer, at in layer_indices(depth).items() if not layer.startswith("relu"))
    layers = make_layers(plan[:steps])[: place + 1]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # in place it would overwrite the convolution's output that a caller may keep
    return layers


class VGGFeatures(Expert):
    """A VGG network for ever frozen, and left out of checkpoints; gradients reach the image.

    Args:
        depth: 16 or 19 (11 and 13 can be built, too, but have no entry in zoo.weights).
        layers: the layers to give, for instance `["relu1_1", "relu2_1"]`; none deeper than needed is built.
        base_channels: channels of the first block; 64 in the published networks, less for small ones.
        pretrained: fetch the published ImageNet weights ("vgg16" or "vgg19" of zoo.weights); otherwise they are random, the same
            every time, for `load_weights` to replace.
        normalised_input: True if the caller prepares the input itself (UNIT feeds Caffe's BGR of 0..255 minus a mean).
        without_pools: poolings to leave out, for instance `["pool4"]` in UNIT; the other layers keep their numbers.

    Raises:
        ZooError: an unknown depth or layer, or the weights cannot be had.
    """

    def __init__(
        self,
        depth: int,
        layers: Sequence[str],
        *,
        base_channels: int = BASE_CHANNELS,
        pretrained: bool = False,
        normalised_input: bool = False,
        without_pools: Collection[str] = (),
    ) -> None:
        super().__init__()
        if not layers:
            raise ZooError("VGGFeatures gives no features without layers: name some, such as relu3_1.")
        self.depth = depth
        self.layers = tuple(layers)
        self.normalised_input = normalised_input
        self.places = {_place(depth, layer): layer for layer in layers}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(
                0
            )  # the same random weights in every process and after every resume: no checkpoint holds them
            self.features = vgg_layers(depth, self.places[max(self.places)], base_channels)
        for pool in without_pools:
            place = _place(depth, pool)
            if not pool.startswith("pool") or place >= len(self.features):
                raise ZooError(f"{pool!r} is no pooling before {self.places[max(self.places)]}.")
            self.features[place] = nn.Identity()
        self.freeze()
        if pretrained:
            if base_channels != BASE_CHANNELS:
                raise ZooError(f"Published VGG weights have base_channels={BASE_CHANNELS}, not {base_channels}.")
            self.load_weights(fetch(f"vgg{depth}"))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of the asked layers, by name and in the order asked for.

        Args:
            image: b 3 h w in [-1, 1], RGB; with `normalised_input`, whatever the weights were trained with.
        """
        x = image if self.normalised_input else normalise(image)
        found: dict[str, Tensor] = {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.places:
                found[self.places[place]] = x
        return {layer: found[layer] for layer in self.layers}

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load weights in torchvision's published layout (`features.N.weight`); deeper layers and `classifier` may follow.

        Raises:
            ZooError: not such a file, or of another network; the message says what it looks like.
        """
        load_vgg_weights(self.features, self.depth, weights)


def normalise(image: Tensor) -> Tensor:
    """Bring RGB b 3 h w in [-1, 1] to ImageNet's zero mean and unit deviation: ((x + 1) / 2 - mean) / std."""
    # Plain numbers by channel, not a buffer: they are exact in every dtype, and the state holds the weights alone.
    channels = zip(image.unbind(1), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    return torch.stack([(x - (2 * mean - 1)) / (2 * std) for x, mean, std in channels], dim=1)


def load_vgg_weights(features: nn.Sequential, depth: int, weights: Path | Mapping[str, Tensor]) -> None:
    """Load the published layout into layers that `vgg_layers` made: every one of them, from a network of that depth.

    Args:
        features: the layers.
        depth: of the network that the file must hold: first layers have the same shapes at every depth.
        weights: a file of torchvision (read with `weights_only`), or its entries.

    Raises:
        ZooError: not such a file, or of another network; the message says what it looks like.
    """
    origin = str(weights) if isinstance(weights, Path) else "the given state"
    state = _read(weights) if isinstance(weights, Path) else weights
    wanted = {f"features.{key}": value for key, value in features.state_dict().items()}
    found = {key for key in state if not key.startswith("classifier.")}
    if not wanted.keys() <= found <= _feature_keys(depth):
        raise ZooError(f"{origin} does not hold a VGG-{depth} in torchvision's layout: {_looks_like(state)}.")
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            sizes = f"{key} is {tuple(state[key].shape)}, expected was {tuple(value.shape)}"
            raise ZooError(f"{origin} holds a VGG of another width: {sizes}. Set base_channels to match.")
    features.load_state_dict({key.removeprefix("features."): state[key] for key in wanted})


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ZooError(f"{path} does not exist. Give the path of a VGG file in torchvision's layout.") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ZooError(f"{path} is not a file of plain PyTorch weights. Give torchvision's VGG file.") from error
    if not isinstance(state, Mapping):
        raise ZooError(f"{path} holds a {type(state).__name__}, not weights by name. Give torchvision's VGG file.")
    return state


def _feature_keys(depth: int) -> set[str]:
    convolutions = [place for layer, place in layer_indices(depth).items() if layer.startswith("conv")]
    return {f"features.{place}.{kind}" for place in convolutions for kind in ("weight", "bias")}


def _looks_like(state: Mapping[str, object]) -> str:
    keys = {key for key in state if not key.startswith("classifier.")}
    for depth in PLANS:
        if keys == _feature_keys(depth):
            return f"it looks like a VGG-{depth}"
    if any("running_mean" in key and key.startswith("features.") for key in keys):
        return "it looks like a VGG with batch norm"
    if {"state_dict", "model", "net"} & keys:
        return f"it looks like a training checkpoint with the entries {', '.join(map(str, list(state)[:5]))}"
    return f"its {len(state)} entries begin with {', '.join(map(str, list(state)[:3])) or 'nothing'}"

"""Features of AlexNet: another network for perceptual losses to compare.

Alex Krizhevsky: One weird trick for parallelizing convolutional neural networks. 2014, https://arxiv.org/abs/1404.5997. The
layers, their numbers and the published weights are torchvision's. `relu2` is the rectified output of the second convolution.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.vgg import normalise
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

WEIGHTS = "alexnet"
PLACES = {"relu1": 1, "relu2": 4, "relu3": 7, "relu4": 9, "relu5": 11}  # in torchvision's `features`
CONVOLUTIONS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
"""Channels, kernel, stride and padding of each; pooling stands before the second and the third."""


def alexnet_layers(last: str) -> nn.Sequential:
    """Build the layers up to a named one, trainable, with torchvision's numbering and random weights."""
    layers: list[nn.Module] = []
    incoming = 3
    for number, (channels, kernel, stride, padding) in enumerate(CONVOLUTIONS, start=1):
        pool = [nn.MaxPool2d(3, 2)] if number in (2, 3) else []
        layers += [*pool, nn.Conv2d(incoming, channels, kernel, stride, padding), nn.ReLU()]
        incoming = channels
    return nn.Sequential(*layers[: PLACES[last] + 1])


class AlexNetFeatures(Expert):
    """AlexNet for ever frozen, and left out of checkpoints; gradients reach the image.

    Args:
        layers: the layers to give, for instance `["relu1", "relu2"]`; none deeper than needed is built.
        pretrained: fetch the published ImageNet weights ("alexnet" of zoo.weights); otherwise they are random, the same every
            time, for `load_weights` to replace.

    Raises:
        ZooError: an unknown layer, or the weights cannot be had.
    """

    def __init__(self, layers: Sequence[str], *, pretrained: bool = False) -> None:
        super().__init__()
        if unknown := [layer for layer in layers if layer not in PLACES] or ["none"] * (not layers):
            raise ZooError(f"AlexNet gives features of {', '.join(PLACES)}, not of {', '.join(unknown)}.")
        self.layers = tuple(layers)
        self.places = {PLACES[layer]: layer for layer in layers}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every process and after every resume: no checkpoint holds them
            self.features = alexnet_layers(self.places[max(self.places)])
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of the asked layers, by name and in the order asked for.

        Args:
            image: b 3 h w in [-1, 1], RGB.
        """
        x = normalise(image)
        found: dict[str, Tensor] = {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.places:
                found[self.places[place]] = x
        return {layer: found[layer] for layer in self.layers}

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load torchvision's published layout (`features.N.weight`); deeper layers and `classifier` may follow.

        Raises:
            ZooError: not such a file, or of another network; the message says what was found.
        """
        origin = str(weights) if isinstance(weights, Path) else "The given state"
        content = read_file(weights, safetensors=False) if isinstance(weights, Path) else weights
        state = state_of(content)
        try:
            if state is None:
                raise ZooError(f"It holds {some_names(content)}.")
            self.load_own({key: state[key] for key in self.own_state() if key in state})
        except ZooError as error:
            raise ZooError(
                f"{origin} does not hold torchvision's AlexNet. {error} Take the published file: lightning download {WEIGHTS}"
            ) from error

"""LPIPS: how different two pictures look, by features of AlexNet.

Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver Wang: The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric. CVPR 2018, https://arxiv.org/abs/1801.03924. AlexNet's weights are torchvision's; the weights of its channels, learned
from people's judgements (version 0.1), are those that TorchMetrics brings along.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.experts.alexnet import CONVOLUTIONS, PLACES, AlexNetFeatures
from zoo.experts.expert import Expert
from zoo.weights.files import read_file, state_of

TORCHMETRICS_FOLDER = Path("functional/image/lpips_models")
TORCHMETRICS_KEY = "lin{}.model.1.weight"
OFFICIAL_KEY = "lpips_weights.{}.main.1.weight"
"""StarGAN v2's own file has the same weights under these names."""

TINY = 1e-10


class LPIPS(Expert):
    """The distance, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch AlexNet's published weights ("alexnet" of zoo.weights) and take TorchMetrics' weights of channels; otherwise
            AlexNet is random and all channels weigh alike, for `features.load_weights` and `load_weights` to replace.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        self.features = AlexNetFeatures(list(PLACES), pretrained=pretrained)
        widths = [channels for channels, *_ in CONVOLUTIONS]
        self.weights = nn.ParameterList(torch.full((width,), 1 / width) for width in widths)
        self.freeze()
        if pretrained:
            self.load_weights(published_channel_weights("alex"))

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Give the distances `b` of pictures b 3 h w in [-1, 1]."""
        return distances(self.features(image), self.features(other), self.weights, TINY)

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load the weights of channels, named as in TorchMetrics' file or in StarGAN v2's.

        Raises:
            ZooError: not such a file; nothing was loaded then.
        """
        content = read_file(weights) if isinstance(weights, Path) else dict(weights)
        state = state_of(content) or {}
        for pattern in (TORCHMETRICS_KEY, OFFICIAL_KEY):
            found = [state.get(pattern.format(number)) for number in range(len(self.weights))]
            given = [value.flatten() for value in found if value is not None]
            if [value.shape for value in given] == [own.shape for own in self.weights]:
                return self.load_own({f"weights.{number}": value for number, value in enumerate(given)})
        raise ZooError(
            f"{weights if isinstance(weights, Path) else 'The given state'} holds no weights of LPIPS with AlexNet."
        )


def distances(
    features: Mapping[str, Tensor], others: Mapping[str, Tensor], weights: Iterable[Tensor], tiny: float
) -> Tensor:
    """Weighted squared distances of unit feature vectors, averaged over the picture and summed over layers: b.

    Args:
        features: b c h w by layer.
        others: the same layers of the other pictures.
        weights: c, of each layer's channels.
        tiny: under the root of the vectors' lengths.
    """

    def unit(x: Tensor) -> Tensor:
        return x * (x.square().sum(1, keepdim=True) + tiny).rsqrt()

    pairs = zip(features.values(), others.values(), weights, strict=True)
    squares = [(unit(one) - unit(two)).square() * weight[:, None, None] for one, two, weight in pairs]
    return torch.stack([square.sum(1).mean((1, 2)) for square in squares]).sum(0)


def published_channel_weights(network: str) -> Path:
    """The file of channel weights that TorchMetrics brings along, for `alex` or `vgg`.

    Raises:
        ZooError: this TorchMetrics has none.
    """
    spec = find_spec("torchmetrics")
    path = (
        Path(spec.origin or "").parent / TORCHMETRICS_FOLDER / f"{network}.pth" if spec is not None else Path(network)
    )
    if not path.is_file():
        raise ZooError(
            f"TorchMetrics' weights of LPIPS are not at {path}. Install it again: uv pip install --reinstall torchmetrics"
        )
    return path

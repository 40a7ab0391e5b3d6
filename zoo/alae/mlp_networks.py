"""ALAE's networks for permutation-invariant digits: three affine maps each way, as on the official branch `mnist_ref`."""

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.alae.layers import Linear


class Perceptron(nn.Module):
    """Three affine maps with leaky ReLUs of given slopes after them.

    Args:
        incoming: features.
        hidden: features of both hidden layers.
        outgoing: features.
        hidden_slope: of the leaky ReLUs of the hidden layers.
        output_slope: of the last one; 1 leaves the output linear.
    """

    def __init__(self, incoming: int, hidden: int, outgoing: int, hidden_slope: float, output_slope: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(*sizes) for sizes in ((incoming, hidden), (hidden, hidden), (hidden, outgoing))
        )
        self.slopes = (hidden_slope, hidden_slope, output_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b incoming` to `b outgoing`."""
        return self.features(x)[-1]

    def features(self, x: Tensor) -> list[Tensor]:
        """What all three layers give, the output last."""
        found = []
        for layer, slope in zip(self.layers, self.slopes, strict=True):
            x = F.leaky_relu(layer(x), slope) if slope != 1 else layer(x)
            found.append(x)
        return found

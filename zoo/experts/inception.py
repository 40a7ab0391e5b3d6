"""Inception v3 as StarGAN v2 measures FID with it: torchvision's network with torchvision's weights.

Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna: Rethinking the Inception Architecture for Computer
Vision. CVPR 2016, https://arxiv.org/abs/1512.00567. FIDs by these features differ from those by TensorFlow's Inception (pytorch-fid,
clean-fid and most papers): compare them with StarGAN v2's tables alone.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import Inception3

from zoo.core.images import to_uint8
from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.vgg import IMAGENET_MEAN, IMAGENET_STD
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

WEIGHTS = "inception_v3"
SIDE = 299  # of the pictures that the network was trained with


class InceptionFeatures(Expert):
    """Means over a picture of the last features, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch the published ImageNet weights ("inception_v3" of zoo.weights); otherwise they are random, the same every time,
            for `load_weights` to replace.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every process
            # As the official measurement does, without torchvision's own change of the input's range.
            self.network = Inception3(aux_logits=False, transform_input=False, init_weights=False)
        self.network.fc = nn.Identity()
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    def forward(self, image: Tensor) -> Tensor:
        """Give features `b 2048` of what `prepare` made of pictures, b 3 299 299."""
        return self.network(image)

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load torchvision's published layout; the classifier and the auxiliary one are left aside.

        Raises:
            ZooError: not such a file, or of another network; the message says what was found.
        """
        origin = str(weights) if isinstance(weights, Path) else "The given state"
        content = read_file(weights, safetensors=False) if isinstance(weights, Path) else weights
        state = state_of(content)
        try:
            if state is None:
                raise ZooError(f"It holds {some_names(content)}.")
            kept = {
                f"network.{key}": value for key, value in state.items() if not key.startswith(("fc.", "AuxLogits."))
            }
            self.load_own(kept)
        except ZooError as error:
            raise ZooError(
                f"{origin} does not hold torchvision's Inception v3. {error} Take the published file: lightning download {WEIGHTS}"
            ) from error


def prepare(image: Tensor, size: int) -> Tensor:
    """Bring pictures to what the network sees, as the official measurement does: by PIL, in two steps.

    Args:
        image: b 3 h w, uint8 or in [-1, 1]; the latter are rounded to what a PNG file would hold.
        size: side in pixels to which they are resized first.

    Returns:
        b 3 299 299, of ImageNet's zero mean and unit deviation.
    """
    pixels = (image if image.dtype == torch.uint8 else to_uint8(image)).permute(0, 2, 3, 1).cpu().numpy()
    resized = [
        np.asarray(Image.fromarray(one).resize((size, size), BILINEAR).resize((SIDE, SIDE), BILINEAR)) for one in pixels
    ]
    unit = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float().div(255)
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return ((unit - mean) / deviation).to(image.device)


BILINEAR = Image.Resampling.BILINEAR

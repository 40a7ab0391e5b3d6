"""Files of random weights in the layouts of published networks that measure."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import Inception3, alexnet


def inception_layout(*, counted: bool = False) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of pytorch-fid's file; old files don't count batches."""
    with torch.device("meta"):
        layout = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False).state_dict()
    generator = torch.Generator().manual_seed(1)

    def drawn(key: str, value: Tensor) -> Tensor:
        if key.endswith("num_batches_tracked"):
            return torch.tensor(0)
        if value.ndim > 1:  # as wide as keeps the size of what passes through
            return torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        if key.endswith(("running_var", "bn.weight")):
            return 0.5 + torch.rand(value.shape, generator=generator)
        return 0.1 * torch.randn(value.shape, generator=generator)

    return {k: drawn(k, value) for k, value in layout.items() if counted or not k.endswith("num_batches_tracked")}


def write_inception(path: Path) -> Path:
    """TensorFlow's Inception with random weights, in pytorch-fid's layout."""
    torch.save(inception_layout(), path)
    return path


def write_alexnet(path: Path) -> Path:
    """Torchvision's AlexNet with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(alexnet().state_dict(), path)
    return path

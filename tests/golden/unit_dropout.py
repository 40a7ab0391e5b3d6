"""Recorded masks of dropout in place of drawn ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from golden.golden import GoldenMismatchError

Mask = Callable[[str, int], Tensor]


@contextmanager
def masked(network: nn.Module, next_mask: Mask) -> Iterator[None]:
    """Let every dropout that drops keep what a mask keeps: x * mask / (1 - p).

    Args:
        network: its dropouts are told.
        next_mask: gives the mask of a pass, told the dropout's name and the number of samples.
    """

    def hook(name: str) -> Callable[[nn.Dropout, tuple[Tensor, ...], Tensor], Tensor | None]:
        def replace(layer: nn.Dropout, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor | None:
            if not layer.training or layer.p == 0:
                return None
            (x,) = inputs
            mask = next_mask(name, len(x))
            if mask.shape != x.shape:
                raise GoldenMismatchError(
                    "noise", f"has a mask {tuple(mask.shape)} where {name} drops of {tuple(x.shape)}"
                )
            return x * mask.to(x.dtype) / (1 - layer.p)

        return replace

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)]
    hooks = [layer.register_forward_hook(hook(name)) for name, layer in layers]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


class Queue:
    """Recorded draws of one pass or turn, in order."""

    def __init__(self, draws: list[tuple[str, Tensor]]) -> None:
        self.draws = list(draws)

    def take(self, kind: str) -> Tensor:
        """The next draw, whose name ends with its kind: `dropout`, `randn`."""
        if not self.draws or not self.draws[0][0].endswith(kind):
            found = self.draws[0][0] if self.draws else "nothing"
            raise GoldenMismatchError("noise", f"has {found} next where a {kind} is drawn")
        return self.draws.pop(0)[1]

    def finish(self) -> None:
        """Make sure that all were taken."""
        if self.draws:
            raise GoldenMismatchError("noise", f"has {len(self.draws)} draws that nothing took")

"""FAN: where the 98 landmarks of a face are, and from them the masks of StarGAN v2's high-pass skips.

Adrian Bulat, Georgios Tzimiropoulos: How far are we from solving the 2D & 3D Face Alignment problem? ICCV 2017,
https://arxiv.org/abs/1703.07332. With coordinate channels, trained on WFLW by the adaptive wing loss (Xinyao Wang, Liefeng Bo, Li
Fuxin. ICCV 2019, https://arxiv.org/abs/1904.07399), whose published weights StarGAN v2's authors pass on. One hourglass; its last
channel is the boundary of the face, the others are the landmarks of WFLW in its order.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.fan_masks import LANDMARKS, decode_landmarks, skip_masks
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

WEIGHTS = "starganv2_fan"
SIDE = 256  # of the pictures that the network sees
MAP_SIDE = 64  # of the heat maps that it gives
DEPTH = 4  # of the hourglass


def with_coordinates(x: Tensor) -> Tensor:
    """Append three channels: row and column, from -1 to 1, and the distance to the middle over the largest one.

    Computed in float32 whatever the precision, as the published network was trained and is used.
    """
    height, width = x.shape[2:]
    rows, columns = (torch.arange(n, dtype=torch.float32, device=x.device) / (n - 1) * 2 - 1 for n in (height, width))
    rows, columns = rows[:, None].expand(height, width), columns[None, :].expand(height, width)
    radius = (rows.square() + columns.square()).sqrt()
    maps = torch.stack([rows, columns, radius / radius.max()]).to(x.dtype)
    return torch.cat([x, maps.expand(len(x), 3, height, width)], dim=1)


class CoordinateConv(nn.Module):
    """A convolution that knows where it is.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        kernel: side of the kernel; half of it is padded.
        stride: 2 halves the size.
    """

    def __init__(self, incoming: int, outgoing: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(incoming + 3, outgoing, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        return self.conv(with_coordinates(x))


class ConvBlock(nn.Module):
    """Three convolutions in a row whose outputs lie side by side, around which the input is carried.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output: a half, a quarter and a quarter of them from the three.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        half, quarter = outgoing // 2, outgoing // 4
        self.bn1, self.conv1 = nn.BatchNorm2d(incoming), nn.Conv2d(incoming, half, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(quarter), nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample: nn.Sequential | None = None
        if incoming != outgoing:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(incoming), nn.ReLU(), nn.Conv2d(incoming, outgoing, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same size."""
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        return torch.cat([first, second, third], dim=1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """Halves and doubles again, level by level; each level's features are carried across.

    Args:
        depth: number of halvings.
        channels: of all features.
    """

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.depth = depth
        self.coordconv = CoordinateConv(channels, channels, 1)
        for level in range(depth, 0, -1):
            self.add_module(f"b1_{level}", ConvBlock(channels, channels))
            self.add_module(f"b2_{level}", ConvBlock(channels, channels))
        self.b2_plus_1 = ConvBlock(channels, channels)
        for level in range(1, depth + 1):
            self.add_module(f"b3_{level}", ConvBlock(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        return self._level(self.depth, self.coordconv(x))

    def _level(self, level: int, x: Tensor) -> Tensor:
        carried = self.get_submodule(f"b1_{level}")(x)
        low = self.get_submodule(f"b2_{level}")(F.avg_pool2d(x, 2))
        low = self._level(level - 1, low) if level > 1 else self.b2_plus_1(low)
        low = self.get_submodule(f"b3_{level}")(low)
        return carried + F.interpolate(low, scale_factor=2, mode="nearest")


class FAN(Expert):
    """The network, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch the published weights ("starganv2_fan" of zoo.weights); otherwise they are random, the same every time, for
            `load_weights` to replace.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every process and after every resume: no checkpoint holds them
            self.conv1 = CoordinateConv(3, 64, 7, stride=2)
            self.bn1 = nn.BatchNorm2d(64)
            self.conv2 = ConvBlock(64, 128)
            self.conv3 = ConvBlock(128, 128)
            self.conv4 = ConvBlock(128, 256)
            self.m0 = Hourglass(DEPTH, 256)
            self.top_m_0 = ConvBlock(256, 256)
            self.conv_last0 = nn.Conv2d(256, 256, 1)
            self.bn_end0 = nn.BatchNorm2d(256)
            self.l0 = nn.Conv2d(256, LANDMARKS + 1, 1)
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    def forward(self, image: Tensor) -> Tensor:
        """Give heat maps `b 99 h/4 w/4` of pictures `b 3 h w` in [0, 1]: the landmarks', and that of the boundary."""
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.conv3(F.avg_pool2d(self.conv2(x), 2))
        x = self.top_m_0(self.m0(self.conv4(x)))
        return self.l0(F.relu(self.bn_end0(self.conv_last0(x))))

    @torch.no_grad()
    def heatmaps(self, image: Tensor) -> Tensor:
        """Give the landmarks' heat maps `b 98 64 64` of pictures `b 3 h w` in [-1, 1] of any size."""
        image = F.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return self(image * 0.5 + 0.5)[:, :LANDMARKS]

    @torch.no_grad()
    def masks(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Where details of a face may skip a generator's bottleneck: two masks `b 1 256 256` in [0, 1].

        Args:
            image: b 3 h w in [-1, 1], of any size.

        Returns:
            One for coarse features, with the outline and all parts of the face; one for finer features, with eyes and nose alone.
        """
        maps = self.heatmaps(image)
        return skip_masks(F.interpolate(maps, (SIDE, SIDE), mode="bilinear", align_corners=True))

    @torch.no_grad()
    def landmarks(self, image: Tensor) -> Tensor:
        """Find the landmarks: `b 98 2`, (x, y) in pixels of square pictures `b 3 h w` in [-1, 1] of 64 pixels or a multiple.

        Raises:
            ZooError: pictures are not of such a size.
        """
        height, width = image.shape[2:]
        if height != width or height % MAP_SIDE:
            raise ZooError(
                f"Landmarks are found in square pictures whose side is a multiple of {MAP_SIDE}, not in {height}x{width}. Resize them."
            )
        return decode_landmarks(self.heatmaps(image)) * (height // MAP_SIDE)

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load the published file (its entry `state_dict`), or a state dict of it; entries of further layers are left aside.

        Raises:
            ZooError: not such a file, or of another network; the message says what was found.
        """
        origin = str(weights) if isinstance(weights, Path) else "The given state"
        content = read_file(weights) if isinstance(weights, Path) else weights
        inner = content.get("state_dict", content)
        state = state_of(inner) if isinstance(inner, Mapping) else None
        try:
            if state is None:
                raise ZooError(f"It holds {some_names(content)}.")
            self.load_own({key: state[key] for key in self.own_state() if key in state})
        except ZooError as error:
            raise ZooError(
                f"{origin} does not hold FAN as StarGAN v2 uses it. {error} Take the published file: lightning download {WEIGHTS}"
            ) from error

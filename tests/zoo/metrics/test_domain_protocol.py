"""StarGAN v2's evaluation on rooms whose figures are known."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from support.pictures import make_folder
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.metrics.domain_protocol import Folder, Measures, group_distance, measure, require_protocol


class Painter(Translator):
    """Gives a picture of one grey: the latent's first number, or the reference's mean."""

    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        self.domains, self.image_size, self.latent_channels = ["cat", "dog"], 16, 2
        self.spread = spread
        self.asked: list[tuple[str, str, int]] = []

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "",
        reference: Tensor | None = None,
        latent: Tensor | None = None,
        clamp: bool = True,
    ) -> Tensor:
        assert not clamp
        kind = "latent" if reference is None else "reference"
        self.asked.append((kind, to, len(image)))
        grey = latent[:, 0] if latent is not None else reference.mean((1, 2, 3))  # type: ignore[union-attr]
        return self.spread * grey[:, None, None, None].expand(-1, 3, 16, 16)


class OneDomain(Translator):
    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return image


class Mean(nn.Module):
    """Three features of a prepared picture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.mean((2, 3))


def difference(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean((1, 2, 3))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[dict[str, Folder], dict[str, Folder]]:
    made = []
    for part in ("train", "test"):
        paths = {n: make_folder(tmp_path / part / n, 6, start=10 * k) for k, n in enumerate(("cat", "dog", "wild"))}
        made.append({name: Folder(sorted(folder.iterdir()), 16) for name, folder in paths.items()})
    return made[0], made[1]


def test_all_ordered_pairs_are_measured(folders: tuple[dict[str, Folder], dict[str, Folder]]) -> None:
    model, said = Painter(), []
    report = measure(model, *folders, Measures(difference, Mean()), outputs=3, batch=4, say=said.append)
    assert set(report) == {"latent", "reference"}
    for kind, figures in report.items():
        assert set(figures) == {"lpips", "fid"}
        for values in figures.values():
            assert set(values) == {"mean", "dog2cat", "cat2dog"}
            assert values["mean"] == pytest.approx((values["dog2cat"] + values["cat2dog"]) / 2)
        # Six test pictures come as four and two, each three times.
        assert [asked for asked in model.asked if asked[0] == kind] == [
            (kind, to, count) for to in ("cat", "dog") for count in (4, 4, 4, 2, 2, 2)
        ]
    assert len(said) == 4
    again = measure(Painter(), *folders, Measures(difference, Mean()), outputs=3, batch=4)
    assert again == report


def test_one_style_has_no_diversity_and_a_copy_of_the_data_no_distance(
    folders: tuple[dict[str, Folder], dict[str, Folder]],
) -> None:
    report = measure(Painter(0.0), *folders, Measures(difference, None), kinds=["latent"], outputs=3, batch=4)
    assert report["latent"]["lpips"]["mean"] == 0
    assert set(report["latent"]) == {"lpips"}

    class Copier(Painter):
        def translate(
            self,
            image: Tensor,
            *,
            to: str = "",
            reference: Tensor | None = None,
            latent: Tensor | None = None,
            clamp: bool = True,
        ) -> Tensor:
            assert reference is not None
            return reference

    train, test = folders
    far = measure(Painter(), train, test, Measures(None, Mean()), kinds=["reference"], outputs=2, batch=6)
    near = measure(
        Copier(),
        train,
        {**test, "cat": train["cat"], "dog": train["dog"]},
        Measures(None, Mean()),
        kinds=["reference"],
        outputs=2,
        batch=6,
    )
    assert near["reference"]["fid"]["mean"] < 0.05 * far["reference"]["fid"]["mean"]


def test_a_group_s_distance_is_the_mean_of_its_pairs() -> None:
    group = [torch.full((2, 3, 4, 4), value) for value in (0.0, 1.0, 3.0)]
    assert group_distance(difference, group).item() == pytest.approx((1 + 3 + 2) / 3)


def test_what_cannot_be_measured_is_refused(folders: tuple[dict[str, Folder], dict[str, Folder]]) -> None:
    train, test = folders
    nothing = Measures(None, None)
    with pytest.raises(ZooError, match="OneDomain does not translate between several domains"):
        require_protocol(OneDomain(), ["latent"])
    with pytest.raises(ZooError, match="takes no text"):
        require_protocol(Painter(), ["text"])
    with pytest.raises(ZooError, match="at least 2"):
        measure(Painter(), train, test, nothing, outputs=1)
    with pytest.raises(ZooError, match="dog has 6 test pictures, and references come in full batches of 32: --batch 6"):
        measure(Painter(), train, {"cat": Folder(40 * test["cat"].paths, 16), "dog": test["dog"]}, nothing)
    with pytest.raises(ZooError, match="no pictures of dog"):
        measure(Painter(), {"cat": train["cat"]}, {"cat": test["cat"]}, nothing, kinds=["latent"])

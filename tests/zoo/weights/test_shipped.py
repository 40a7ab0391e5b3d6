"""The models that come with the package work without a network."""

import pytest
import torch

import zoo
from datamodules import Scenes
from zoo.cli.translate import draws_styles, needs_exemplar
from zoo.core.images import from_uint8, resize
from zoo.weights.shipped import shipped

MODELS = [name for name, kept in shipped().items() if kept.room]
SIDES = {"alae-digits": 28}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_made_it(name: str) -> None:
    kept = shipped()[name]
    assert kept.licence
    assert kept.recipe.startswith("lightning fit --config zoo/")
    assert kept.figures


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-digits")])
def test_what_comes_with_the_package_translates_digits(name: str) -> None:
    strokes = torch.full((2, 1, SIDES[name], SIDES[name]), -1.0)
    strokes[0, :, 4:-4, 12:16] = 1.0  # a one
    strokes[1, :, 6, 6:-6] = strokes[1, :, -6, 6:-6] = 1.0
    model = zoo.load(name)
    translation = model.translate(strokes)
    assert translation.shape == strokes.shape
    assert (translation[0] - translation[1]).abs().mean() > 0.01  # it looks at what it is given
    assert torch.equal(model.translate(strokes), translation)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("-digits")])
def test_what_comes_with_the_package_translates_scenes(name: str) -> None:
    model = zoo.load(name)
    sample = Scenes(size=64).fixed_samples("test")[0]
    source, exemplar = (from_uint8(sample[domain])[None] for domain in ("source", "target"))
    translations = [model.translate(source, reference=exemplar)] if needs_exemplar(model) else []
    if draws_styles(model):
        translations.append(model.translate(source, latent=torch.zeros(1, model.latent_channels)))
    for translation in translations or [model.translate(source)]:
        seen = (
            source if translation.shape == source.shape else resize(source, 32, 32)
        )  # a model may know one size alone
        assert translation.shape == seen.shape
        assert (translation - seen).abs().mean() > 0.01

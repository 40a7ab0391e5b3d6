"""The models that come with the package work without a network."""

import pytest
import torch

import zoo
from datamodules import Scenes
from zoo.cli.translate import draws_styles, needs_exemplar
from zoo.core.images import from_uint8, resize
from zoo.weights.shipped import shipped


@pytest.mark.parametrize("name", [name for name, kept in shipped().items() if kept.room])
def test_what_comes_with_the_package_translates_scenes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    kept = shipped()[name]
    assert kept.licence
    assert kept.recipe.startswith("lightning fit --config zoo/")
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

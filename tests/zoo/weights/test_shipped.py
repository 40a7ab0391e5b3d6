"""The models that come with the package work without a network."""

import pytest

import zoo
from datamodules import Scenes
from zoo.core.images import from_uint8
from zoo.weights.shipped import shipped


@pytest.mark.parametrize("name", [name for name, kept in shipped().items() if kept.room])
def test_what_comes_with_the_package_translates_scenes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    kept = shipped()[name]
    assert kept.licence
    assert kept.recipe.startswith("lightning fit --config zoo/")
    model = zoo.load(name)
    source = from_uint8(Scenes(size=64).fixed_samples("test")[0]["source"])[None]
    translation = model.translate(source)
    assert translation.shape == source.shape
    assert (translation - source).abs().mean() > 0.01

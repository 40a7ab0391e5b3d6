"""Official files of HiDT: state dicts that the official networks gave, in the published layouts, and what they gave in turn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.golden import Golden
from golden.test_hidt import generator_settings
from zoo.errors import ZooError
from zoo.hidt import HiDT
from zoo.hidt.enhancement import HiDTEnhancer
from zoo.weights.fetch import read_catalogue
from zoo.weights.hidt import load_translator_weights, load_weights, read_weights

RECORDED = Path(__file__).parents[2] / "golden" / "data" / "hidt"
PAINTINGS = RECORDED / "gen_wikiart_small.safetensors"
TINY: dict[str, Any] = {"discriminator_channels": 2, "discriminator_levels": 2}


@pytest.fixture(scope="module")
def generator() -> Golden:
    """A generator for paintings, and its numbers."""
    return Golden(PAINTINGS)


@pytest.fixture(scope="module")
def enhancer() -> Golden:
    """An enhancement network, and its numbers."""
    return Golden(RECORDED / "enhancer_small.safetensors")


def saved(path: Path, state: dict[str, Tensor], prefix: str = "", **changes: Tensor) -> Path:
    """A file as the authors published theirs: a flat state dict in float32."""
    torch.save({f"{prefix}{key}": value.float() for key, value in {**state, **changes}.items()}, path)
    return path


def model_for(golden: Golden, **arguments: Any) -> HiDT:
    return HiDT(**generator_settings(golden.config["generator"]), **TINY, **arguments)


def enhancer_for(golden: Golden, **arguments: Any) -> HiDTEnhancer:
    sizes = golden.config["rrdbnet"]
    settings = {
        "translator": "random",
        "generator_channels": 5,
        "enhancer_channels": sizes["nf"],
        "enhancer_groups": sizes["nb"],
        "enhancer_growth": sizes["gc"],
        "discriminator_channels": 2,
    }
    return HiDTEnhancer(**{**settings, **arguments})


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_official_generator_gives_its_numbers(tmp_path: Path, generator: Golden, prefix: str) -> None:
    said: list[str] = []
    model = model_for(generator, ema_decay=0.9)
    path = saved(tmp_path / "wikiart.pt", generator.state(), prefix)
    load_weights(model, path, said.append)
    model.double()
    images, style = generator.given("in/images"), generator.given("in/style_random").flatten(1)
    result = model.translate(images, latent=style)  # by the moving average, which starts from the file
    torch.testing.assert_close(result, generator.layout("out/random_images"), rtol=1e-9, atol=1e-9)
    found = model.generator.style_encoder(images)
    torch.testing.assert_close(found, generator.layout("out/style").flatten(1), rtol=1e-9, atol=1e-9)
    (line,) = said
    norms = 2 * generator.config["generator"]["dec_blocks"] + 2
    assert f"{2 * norms} running statistics" in line


def test_statistics_may_be_missing_or_of_any_value(tmp_path: Path, generator: Golden) -> None:
    plain = {key: value for key, value in generator.state().items() if "running" not in key}
    odd = {key: torch.full_like(value, 7.0) for key, value in generator.state().items() if "running" in key}
    states = [
        read_weights(saved(tmp_path / name, state)).state
        for name, state in (("a.pt", plain), ("b.pt", {**generator.state(), **odd}))
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_an_official_enhancement_network_gives_its_numbers(tmp_path: Path, enhancer: Golden) -> None:
    model = enhancer_for(enhancer, ema_decay=0.5)
    load_weights(model, saved(tmp_path / "enhancer.pth", enhancer.state()))
    model.double()
    result = model.inference_enhancer(enhancer.given("in/stack"))
    torch.testing.assert_close(result, enhancer.layout("out/image"), rtol=1e-9, atol=1e-9)


def test_an_official_generator_is_a_translator(tmp_path: Path, generator: Golden, enhancer: Golden) -> None:
    path = saved(tmp_path / "wikiart.pt", generator.state(), "module.")
    settings = generator_settings(generator.config["generator"])
    model = enhancer_for(enhancer, **settings)
    load_translator_weights(model.translator, str(path))
    model.double()
    found = model.translator.style_encoder(generator.given("in/images"))
    torch.testing.assert_close(found, generator.layout("out/style").flatten(1), rtol=1e-9, atol=1e-9)
    again = enhancer_for(enhancer, **settings)
    load_weights(again, path, lambda _: None)
    assert torch.equal(again.translator.style_encoder.head.weight.double(), model.translator.style_encoder.head.weight)
    with pytest.raises(ZooError, match=r"holds an enhancement network; expected was a generator"):
        load_translator_weights(model.translator, str(saved(tmp_path / "e.pth", enhancer.state())))
    with pytest.raises(ZooError, match=r"other sizes.*--model\.generator_channels 6"):
        load_translator_weights(enhancer_for(enhancer).translator, str(path))


def test_the_settings_that_a_file_speaks_of_are_named(tmp_path: Path, generator: Golden, enhancer: Golden) -> None:
    path = saved(tmp_path / "wikiart.pt", generator.state())
    model = HiDT(**TINY)
    before = model.generator.style_encoder.head.weight.clone()
    with pytest.raises(ZooError) as refusal:
        load_weights(model, path)
    options = refusal.value.args[0].partition("To load it: ")[2].split()
    settings = {
        key.removeprefix("--model."): int(value) for key, value in zip(options[::2], options[1::2], strict=True)
    }
    assert torch.equal(before, model.generator.style_encoder.head.weight)
    load_weights(HiDT(**TINY, **settings), path, lambda _: None)
    network = saved(tmp_path / "enhancer.pth", enhancer.state())
    with pytest.raises(
        ZooError, match=r"--model\.enhancer_channels 8 --model\.enhancer_groups 2 --model\.enhancer_growth 4"
    ):
        load_weights(enhancer_for(enhancer, enhancer_channels=4, enhancer_groups=1, enhancer_growth=2), network)
    with pytest.raises(ZooError, match="a HiDT has no enhancer"):
        load_weights(model, network)


def test_every_key_has_to_be_there_and_no_other(tmp_path: Path, generator: Golden, enhancer: Golden) -> None:
    state = generator.state()
    short = {key: value for key, value in state.items() if key != "style_encoder.body.4.conv.bias"}
    with pytest.raises(ZooError, match=r"style_encoder\.layers\.4\.bias is not there in the file"):
        load_weights(model_for(generator), saved(tmp_path / "short.pt", short))
    with pytest.raises(ZooError, match=r"no layer is known for style_encoder\.neck\.weight"):
        read_weights(saved(tmp_path / "long.pt", {**state, "style_encoder.neck.weight": torch.zeros(1)}))
    without = {key: value for key, value in state.items() if not key.startswith("content_encoder.model_prep")}
    with pytest.raises(ZooError, match=r"lacks 'content_encoder\.model_preparation"):
        read_weights(saved(tmp_path / "without.pt", without))
    with pytest.raises(ZooError, match=r"no network of HiDT's official code: it has a\. "):
        read_weights(saved(tmp_path / "other.pt", {"a": torch.zeros(1)}))
    (tmp_path / "page.pt").write_text("<!doctype html>")
    with pytest.raises(ZooError, match="is a web page"):
        read_weights(tmp_path / "page.pt")
    torch.save({"pytorch-lightning_version": "2", "state_dict": {}}, tmp_path / "ours.ckpt")
    with pytest.raises(ZooError, match="--ckpt_path"):
        read_weights(tmp_path / "ours.ckpt")
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "another.ckpt")
    with pytest.raises(ZooError, match="of another room"):
        load_translator_weights(model_for(generator).generator, str(tmp_path / "another.ckpt"))


def test_the_catalogue_names_the_published_files() -> None:
    entries = {name: entry for name, entry in read_catalogue().items() if name.startswith("hidt_")}
    assert entries.keys() == {"hidt_daytime", "hidt_wikiart", "hidt_enhancer"}
    assert all("advimman/HiDT" in entry.urls[0] for entry in entries.values())

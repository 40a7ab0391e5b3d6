"""Official ALAE checkpoints, built here in the published layout; and recipes that say the published settings."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from zoo.alae import StyleALAE
from zoo.alae.mlp import MLPALAE
from zoo.errors import ZooError
from zoo.weights.alae import PUBLISHED, PUBLISHED_DIRECTIONS, load_weights, our_key, read_directions, read_weights
from zoo.weights.fetch import read_catalogue

ZOO = Path(__file__).parents[3] / "zoo"
RECIPES = {
    "ffhq": "alae",
    "celeba": "alae_celeba",
    "celeba-hq256": "alae_celeba_hq256",
    "bedroom": "alae_bedroom",
}
SETTINGS: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 6,
    "levels": 3,
    "latent_channels": 5,
    "mapping_layers": 2,
}
OFFICIAL = {"encoder": "discriminator", "generator": "generator", "critic": "mapping_tl", "mapping": "mapping_fl"}


def official_key(part: str, key: str) -> str:
    """An entry's name in the official networks, written down apart from the converter."""
    key = key.replace("constant", "const")
    if part in ("encoder", "generator"):
        key = key.replace("blocks.", "encode_block." if part == "encoder" else "decode_block.")
        key = re.sub(r"^(from_rgb|to_rgb)\.(\d+)\.", r"\1.\2.\1.", key)
    if part == "mapping":
        key = re.sub(r"^layers\.(\d+)\.", r"map_blocks.\1.fc.", key)
    if part == "critic":
        key = re.sub(r"^layers\.", "map_blocks.", key)
    return key


def blurs(part: str, levels: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The kernels that the official networks keep as buffers."""
    if part not in ("encoder", "generator"):
        return {}
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    block = "encode_block" if part == "encoder" else "decode_block"
    channels = [state[f"{block}.{i}.bias_1"].shape[1] for i in range(levels)]
    return {f"{block}.{i}.blur.weight": kernel.expand(c, 1, 3, 3).clone() for i, c in enumerate(channels)}


def official_checkpoint(model: StyleALAE, levels: int = 3) -> dict[str, Any]:
    """What the official code would have saved of a model with these weights."""
    assert model.ema is not None
    models: dict[str, Any] = {"dlatent_avg": {"buff": model.average_latent.clone()}}
    for part, name in OFFICIAL.items():
        for ending, network in (("", model.get_submodule(part)), ("_s", model.ema[part])):
            state = {official_key(part, key): value.clone() for key, value in network.state_dict().items()}
            models[name + ending] = state | blurs(part, levels, state)
    optimizer = {"state": {0: {"step": 3, "exp_avg_sq": torch.zeros(2)}}, "param_groups": [{"lr": 0.0, "params": [0]}]}
    return {
        "models": models,
        "auxiliary": {"encoder_optimizer": optimizer, "scheduler": {"encoder": {"last_epoch": 3}}},
    }


def model_of(seed: int, **options: Any) -> StyleALAE:
    torch.manual_seed(seed)
    model = StyleALAE(**{**SETTINGS, **options})
    model.average_latent.normal_()
    return model


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    return path


def test_a_checkpoint_gives_the_same_pictures(tmp_path: Path) -> None:
    official = model_of(1, epochs_per_level=0)
    path = saved(tmp_path, official_checkpoint(official))
    ours = model_of(2)
    load_weights(ours, path)
    assert (ours.stage, ours.blend) == (2, 1.0)
    latent, image = torch.randn(2, 5), torch.randn(2, 3, 16, 16)
    assert torch.equal(ours.generate(latent), official.generate(latent))
    assert torch.equal(ours.reconstruct(image), official.reconstruct(image))
    assert torch.equal(ours.encoder(image, 2), official.encoder(image, 2))
    assert not torch.equal(ours.encoder(image, 2), ours.encode(image))  # the averages are networks of their own


def test_a_model_without_averages_takes_them_for_itself(tmp_path: Path) -> None:
    official = model_of(1, epochs_per_level=0)
    ours = model_of(2, ema_half_life=0)
    load_weights(ours, saved(tmp_path, official_checkpoint(official)))
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(ours.reconstruct(image), official.reconstruct(image))


def broken(change: str) -> dict[str, Any]:
    content = official_checkpoint(model_of(1))
    models = content["models"]
    if change == "missing key":
        del models["generator"]["const"]
    elif change == "unexpected key":
        models["generator_s"]["decode_block.0.extra"] = torch.zeros(1)
    elif change == "missing network":
        del models["mapping_fl_s"]
    elif change == "unexpected network":
        models["mapping_dl"] = {"a": torch.zeros(1)}
    elif change == "other blur":
        models["discriminator"]["encode_block.0.blur.weight"].fill_(1 / 9)
    elif change == "no average":
        models["dlatent_avg"] = {"mean": torch.zeros(6, 5)}
    elif change == "no models":
        return models
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing key", r"generator.constant is not there in the file and \(1, 6, 4, 4\) in the model"),
        ("unexpected key", r"ema.generator.blocks.0.extra is \(1,\) in the file and not there in the model"),
        ("missing network", r"lacks mapping_fl_s"),
        ("unexpected network", r"has mapping_dl among its models"),
        ("other blur", r"discriminator has an entry encode_block.0.blur.weight"),
        ("no average", r"dlatent_avg has mean"),
        ("no models", r"no official ALAE checkpoint"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(ZooError, match=said):
        load_weights(model_of(2), saved(tmp_path, broken(change)))


def test_another_configuration_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, official_checkpoint(model_of(1)))
    with pytest.raises(ZooError, match=r"average_latent is \(6, 5\) in the file and \(8, 5\) in the model.*PUBLISHED"):
        load_weights(model_of(2, levels=4), path)
    assert "ema.encoder.blocks.0.conv_1.weight" in read_weights(path)


def test_perceptrons_convert_without_the_norm_that_nobody_uses(tmp_path: Path) -> None:
    torch.manual_seed(1)
    official = MLPALAE(image_size=4, hidden=6, latent_channels=3, mapping_layers=2)
    assert official.ema is not None
    models: dict[str, Any] = {"dlatent_avg": {"buff": official.average_latent.clone()}}
    for part, name in OFFICIAL.items():
        for ending, network in (("", official.get_submodule(part)), ("_s", official.ema[part])):
            state = {}
            for key, value in network.state_dict().items():
                if part in ("encoder", "generator"):
                    state[re.sub(r"layers\.(\d+)", lambda found: f"fc_{int(found[1]) + 1}", key)] = value
                    state["bn_2.running_mean"] = torch.zeros(6)
                else:
                    state[official_key(part, key)] = value
            models[name + ending] = state
    torch.manual_seed(2)
    ours = MLPALAE(image_size=4, hidden=6, latent_channels=3, mapping_layers=2)
    load_weights(ours, saved(tmp_path, {"models": models}))
    image = torch.randn(2, 1, 4, 4)
    assert torch.equal(ours.reconstruct(image), official.reconstruct(image))


def test_names_of_other_networks_are_refused() -> None:
    assert our_key("fc_2.weight") == "layers.1.weight"
    with pytest.raises(ValueError, match=r"conv1\.weight"):
        our_key("conv1.weight")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_say_the_published_settings(name: str) -> None:
    recipe = yaml.safe_load((ZOO / f"{RECIPES[name]}.yaml").read_text())
    written, published = recipe["model"]["init_args"], PUBLISHED[name].settings()
    for setting, value in published.items():
        if setting == "image_channels":
            assert setting not in written  # 3, the default
        else:
            assert written[setting] == (list(value) if isinstance(value, tuple) else value), setting
    assert recipe["data"]["init_args"]["size"] == 2 ** (published["levels"] + 1)


def test_published_files_are_in_the_catalogue() -> None:
    assert {f"alae_{name}" for name in ("ffhq", "celeba", "celeba_hq256", "bedroom")} <= set(read_catalogue())


def test_published_directions_load(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(2, 8))
    paths = [tmp_path / f"direction_{number}.npy" for number in (0, 19)]
    for path, row in zip(paths, rows, strict=True):
        np.save(path, row)
    names = [PUBLISHED_DIRECTIONS[number] for number in (0, 19)]
    found = read_directions(paths, names)
    assert list(found) == ["gender", "glasses"]
    assert torch.equal(found["glasses"], torch.from_numpy(rows[1]))  # not brought to length 1
    np.save(paths[0], rows)
    with pytest.raises(ZooError, match=r"float64 of the shape \(2, 8\)"):
        read_directions(paths, names)
    np.save(paths[0], np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ZooError, match="no NumPy file of numbers"):
        read_directions(paths, names)

"""VGG-19 as a classifier, with random weights: the published ones are not needed to know that the network is torchvision's."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.experts.vgg_classifier import MAP, SIDE, VGGClassifier
from zoo.weights import fetch

CHANNELS, HIDDEN = 2, 12


def theirs() -> nn.Module:
    """torchvision's own network, narrow."""
    torch.manual_seed(0)
    plan = [step if step == "M" else step * CHANNELS // 64 for step in torchvision.models.vgg.cfgs["E"]]
    features = torchvision.models.vgg.make_layers(plan)
    with torch.device("meta"):  # its classifier has 120 million weights
        network = torchvision.models.VGG(nn.Identity(), init_weights=False)
    network.features = features
    for place, (incoming, outgoing) in {
        0: (8 * CHANNELS * MAP**2, HIDDEN),
        3: (HIDDEN, HIDDEN),
        6: (HIDDEN, 1000),
    }.items():
        network.classifier[place] = nn.Linear(incoming, outgoing)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):  # as strong as need be for answers that differ
            nn.init.kaiming_normal_(layer.weight)
    return network.eval()


def pictures(side: int) -> Tensor:
    return torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ours(tmp_path: Path) -> VGGClassifier:
    torch.save(theirs().state_dict(), tmp_path / "vgg19.pth")
    expert = VGGClassifier(pretrained=False, base_channels=CHANNELS, hidden_channels=HIDDEN, batch_size=2)
    expert.load_weights(tmp_path / "vgg19.pth")
    return expert


def test_entries_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        published = torchvision.models.vgg19(init_weights=False)
        here = VGGClassifier(pretrained=False)
    expected = {key: value.shape for key, value in published.state_dict().items()}
    assert {key: value.shape for key, value in here.own_state().items()} == expected
    assert (
        sum(p.numel() for p in here.parameters()) == torchvision.models.VGG19_Weights.IMAGENET1K_V1.meta["num_params"]
    )


@torch.no_grad()
def test_it_answers_as_torchvisions(ours: VGGClassifier) -> None:
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for side in (SIDE, 64):
        image = pictures(side)
        enlarged = torchvision.transforms.functional.resize(image.float() / 255, [SIDE, SIDE], antialias=True)
        expected = theirs()(transform(enlarged)).softmax(1)
        torch.testing.assert_close(ours.probabilities(image), expected, rtol=1e-4, atol=1e-6)
        assert expected.std(0).max() > 1e-6, "the pictures differ"
    torch.testing.assert_close(ours(from_uint8(image)).softmax(1), expected, rtol=1e-4, atol=1e-6)


def test_batches_do_not_matter(ours: VGGClassifier) -> None:
    whole = ours.probabilities(pictures(48))
    assert whole.shape == (3, 1000)
    torch.testing.assert_close(torch.cat([ours.probabilities(one[None]) for one in pictures(48)]), whole)


def test_random_weights_are_the_same_every_time() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (VGGClassifier(False, CHANNELS, HIDDEN).own_state() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_files_are_refused(ours: VGGClassifier, tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(ZooError, match="not of this VGGClassifier"):
        ours.load_weights(tmp_path / "other.pth")
    torch.save({"epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(ZooError, match="no state dict of VGG-19: it holds epoch"):
        ours.load_weights(tmp_path / "training.pth")


def test_what_is_missing_is_said_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    (sentence,) = VGGClassifier.missing({})
    assert "lightning download vgg19" in sentence
    assert VGGClassifier.missing({"pretrained": False}) == []
    with pytest.raises(ZooError, match="ZOO_OFFLINE"):
        VGGClassifier()
    assert fetch.find_entry("vgg19").file.startswith("vgg19")

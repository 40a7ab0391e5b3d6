"""Pictures by number and domain."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.biggan import LOOKS, finished_run, official, registered, tiny
from zoo.biggan import pairs
from zoo.biggan.pairs import PairGenerator, full_precision, load_biggan, resolve_domains
from zoo.core.images import from_uint8, to_uint8
from zoo.core.runs import Run
from zoo.errors import ZooError


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("run") / "tiny")


def made(run: Run, **options: Any) -> PairGenerator:
    source = PairGenerator(str(run.folder), **{"domains": ["all"], "statistics": "running", **options})
    source.setup()
    return source


def apart(first: Tensor, second: Tensor) -> int:
    """The largest difference of two uint8 pictures, in grey levels."""
    return int((first.int() - second.int()).abs().max())


def test_a_picture_follows_from_its_number_and_domain(run: Run) -> None:
    source = made(run, batch_size=3)
    numbers, domains = [5, 0, 5, 2**40, 3, 3, 9], torch.tensor([0, 1, 2, 0, 1, 1, 2])
    pictures = source.draw(numbers, domains)
    assert (pictures.dtype, pictures.shape) == (torch.uint8, (7, 3, 32, 32))
    again = made(run, batch_size=64)
    for row in (6, 3, 0):
        assert apart(again.draw([numbers[row]], domains[row : row + 1])[0], pictures[row]) <= 1
    assert apart(pictures[4], pictures[5]) <= 1
    assert apart(pictures[0], pictures[2]) > 20, "another class"
    assert apart(pictures[4], again.draw([4], domains[4:5])[0]) > 20, "another number"
    assert apart(made(run, seed=1).draw([5], domains[:1])[0], pictures[0]) > 20, "another seed"


def test_it_draws_with_the_moving_average_as_the_room_does(run: Run) -> None:
    source, model = made(run), tiny()
    assert torch.equal(source.model.inference_generator.linear.bias, model.inference_generator.linear.bias)
    latent = source.latent(4)
    assert float(latent.abs().max()) <= 2
    assert torch.equal(
        source.draw([4], torch.tensor([1]))[0], to_uint8(model.generate(latent[None], torch.tensor([1])))[0]
    )


def test_domains_may_be_some_of_the_classes(run: Run) -> None:
    whole, part = made(run), made(run, domains=["2", "striped"])
    assert whole.names() == ["0_plain", "1_striped", "2_dotted"]
    assert part.names() == ["1_striped", "2_dotted"], "in the order of the classes"
    assert apart(part.draw([3, 3], torch.tensor([0, 1])), whole.draw([3, 3], torch.tensor([1, 2]))) <= 1


def test_truncations_take_turns_and_each_has_its_statistics(run: Run) -> None:
    both = made(run, truncations=(0.5, 1.0), statistics="auto")
    numbers, domains = [0, 1, 2, 3], torch.zeros(4, dtype=torch.int64)
    pictures = both.draw(numbers, domains)
    assert set(both.model.statistics) == {0.5, 1.0}
    for turn, truncation in enumerate((0.5, 1.0)):
        alone = made(run, truncations=(truncation,), statistics="standing")
        assert apart(alone.draw(numbers[turn::2], domains[:2]), pictures[turn::2]) <= 1
    model = tiny()
    model.fit_statistics(0.5)
    expected = model.generate(both.latent(2)[None], domains[:1], truncation=0.5)
    assert apart(to_uint8(expected)[0], pictures[2]) <= 1
    assert apart(made(run, truncations=(0.5,)).draw([2], domains[:1])[0], pictures[2]) > 1, "running statistics differ"


def test_latent_codes_without_a_bound_are_normal(run: Run) -> None:
    source = made(run, bound=None)
    free = torch.stack([source.latent(number) for number in range(500)])
    assert 2.5 < float(free.abs().max()) < 8
    assert abs(float(free.std()) - 1) < 0.05


def test_the_discriminator_scores_what_is_stored(run: Run) -> None:
    source, model = made(run, batch_size=2), tiny()
    domains = torch.tensor([0, 1, 2])
    pictures = source.draw([0, 1, 2], domains)
    with torch.no_grad():
        expected = model.discriminator(from_uint8(pictures), domains)[:, 0]
    torch.testing.assert_close(source.scores(pictures, domains), expected)
    assert source.judges


def test_what_pictures_follow_from_is_told(run: Run) -> None:
    source = made(run)
    assert source.settings()["classes"] == {f"{n}_{look}": n for n, look in enumerate(LOOKS)}
    prints = {
        made(run, **options).fingerprint()
        for options in (
            {},
            {"seed": 1},
            {"domains": ["0", "1"]},
            {"truncations": (0.5,)},
            {"latents": 9},
            {"bound": None},
        )
    }
    assert len(prints) == 6
    assert made(run).fingerprint() == source.fingerprint()
    assert "endless latent vectors" in source.describe()
    assert "9 latent vectors" in made(run, latents=9).describe()


@pytest.mark.parametrize(
    "options", [{"truncations": ()}, {"truncations": (0.5, 0.5)}, {"truncations": (0.0,)}, {"latents": 0}]
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ZooError):
        PairGenerator("weights.pth", ["all"], **options)


def test_what_is_missing_is_said_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    (sentence,) = PairGenerator.missing({"weights": "biggan_deep_128"})
    assert "ZOO_OFFLINE" in sentence
    (sentence,) = PairGenerator.missing({"weights": str(tmp_path / "nowhere.ckpt")})
    assert "no such file" in sentence


# Official layouts


@pytest.mark.parametrize("converted", [False, True])
def test_an_official_generator_draws(tmp_path: Path, converted: bool) -> None:
    eps = {"spectral_norm_eps": 1e-4, "norm_eps": 1e-4, "output_norm_eps": 1e-4} if converted else {}
    theirs = tiny(ema_decay=0, **eps)
    torch.save(official(theirs.generator, converted), tmp_path / "G_ema.pth")
    source = PairGenerator(str(tmp_path / "G_ema.pth"), ["0_bird", "2"], statistics="running")
    source.setup()
    assert source.names() == ["0_bird", "2"]
    assert not source.judges
    expected = to_uint8(theirs.generate(source.latent(1)[None], torch.tensor([2])))
    assert torch.equal(source.draw([1], torch.tensor([1])), expected)


def test_the_ports_own_statistics_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    # The port's layout itself is the converters' business (tests/zoo/weights): here, that its tables are asked.
    asked = []
    model = tiny()
    state = {key: value for key, value in model.inference_generator.named_buffers() if "running" in key}

    def statistics(port: dict[str, Tensor], truncation: float) -> dict[str, Tensor]:
        asked.append(truncation)
        return {key: value + truncation for key, value in state.items()}

    monkeypatch.setattr(pairs, "load_biggan", lambda path: (model, {"embeddings.weight": torch.ones(1)}))
    monkeypatch.setattr(pairs, "deep_port_statistics", statistics)
    source = made(run, truncations=(0.5, 1.0), statistics="auto")
    source.draw([0, 1], torch.tensor([0, 0]))
    source.draw([0, 1], torch.tensor([0, 0]))
    assert asked == [0.5, 1.0]
    name = next(iter(state))
    assert torch.equal(source.model.statistics[0.5][name], state[name] + 0.5)


def test_other_files_are_refused(tmp_path: Path, run: Run) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(ZooError, match=r"no generator of BigGAN's.*G_ema\.pth"):
        load_biggan(tmp_path / "other.pth")
    (tmp_path / "biggan.zip").touch()
    with pytest.raises(ZooError, match="Unpack it"):
        load_biggan(tmp_path / "biggan.zip")
    content = torch.load(run.checkpoint_path(7), weights_only=True)
    torch.save({**content, "hyper_parameters": {}, "state_dict": {}, "zoo": {"room": "cyclegan"}}, tmp_path / "c.ckpt")
    with pytest.raises(ZooError):
        load_biggan(tmp_path / "c.ckpt")


def test_full_precision_ends_with_its_block() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = products.fp32_precision, convolutions.fp32_precision
    with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.device("cpu")):
        assert (products.fp32_precision, convolutions.fp32_precision) == ("ieee", "ieee")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert (products.fp32_precision, convolutions.fp32_precision) == before


# Domains


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["7_bird", "9"], {"7_bird": 7, "9": 9}),
        (["12-14", "3"], {"3": 3, "12": 12, "13": 13, "14": 14}),
        (["100_a-b.c"], {"100_a-b.c": 100}),
    ],
)
def test_words_mean_classes(words: list[str], expected: dict[str, int]) -> None:
    found = resolve_domains(words, 1000)
    assert found == expected
    assert list(found) == list(expected)


def test_the_authors_classes_are_291() -> None:
    found = resolve_domains(["syn_imagenet_291"], 1000)
    assert len(found) == 291
    assert list(found.values()) == sorted(found.values())
    assert [found["7_bird"], found["656_vehicle"]] == [7, 656]
    assert len(resolve_domains(["all"], 5)) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No domains are named"),
        (["3"], "no class 3.*from 0 to 2"),
        (["0-5"], "no class 3"),
        (["0", "plain"], "named twice"),
        (["checked"], "'checked' is no class: these weights name theirs plain, striped, dotted"),
        (["syn_imagenet_291"], "these weights know 3"),
        (["5-2"], "No domains are named"),
    ],
)
def test_words_that_mean_none_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        resolve_domains(words, 3, LOOKS)

"""UNIT for digits: the acceptance list, and what the golden numbers do not reach."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from datamodules import Digits
from support.digits import noise as noisy_set
from support.digits import printed, write_npz
from support.training import fit
from zoo.core.images import from_uint8
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.unit.digits import UNITDigits
from zoo.unit.evaluation import ReadTestDigits, read_accuracy

SMALL: dict[str, Any] = {
    "source_channels": 1,
    "target_channels": 1,
    "generator_channels": 2,
    "discriminator_channels": 2,
    "coordinates": False,
}


def small(**arguments: Any) -> UNITDigits:
    torch.manual_seed(0)
    return UNITDigits(**{**SMALL, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of noise in two sets."""
    folder = tmp_path_factory.mktemp("digits")
    write_npz(folder, "mnist", noisy_set(20, 8))
    write_npz(folder, "usps", noisy_set(18, 7, (16, 16), seed=1))
    return folder


def digits(root: Path, **options: Any) -> Digits:
    return Digits(**{"root": str(root), "batch_size": 4, "validation_count": 4, **options})


# 6: inference --------------------------------------------------------------------------------------------------------------------


def test_translations_are_sampled_in_eval_mode_too() -> None:
    model = small(source_channels=3, coordinates=True)
    digit = noise(1, 3, 32, 32)
    before = copy.deepcopy(model.state_dict())
    twice = model.translate(digit.expand(2, -1, -1, -1))
    assert twice.shape == (2, 1, 32, 32)
    assert not torch.equal(twice[0], twice[1])  # one digit, two codes
    assert torch.equal(twice, model.translate(digit.expand(2, -1, -1, -1)))  # drawn from a stream of its own
    back = model.translate(noise(1, 1, 32, 32), to="source")
    assert back.shape == (1, 3, 32, 32)
    assert model.reconstruct(digit).shape == digit.shape
    assert not twice.requires_grad
    assert model.generator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ZooError, match="'target' or to 'source', not to 'zebra'"):
        model.translate(digit, to="zebra")


def test_classification_is_without_dropout_and_knows_the_domains() -> None:
    model, digit = small(classes=7), noise(3, 1, 32, 32)
    logits = model.classify(digit)
    assert logits.shape == (3, 7)
    assert torch.equal(logits, model.classify(digit))
    assert not torch.equal(logits, model.classify(digit, domain="source"))
    lowest = model.discriminator.look(digit, "target")
    assert not torch.equal(model.discriminator.classify(lowest), model.discriminator.classify(lowest))  # in training


def test_samples_show_both_directions() -> None:
    model, batch = small(), {"source": noise(2, 1, 32, 32), "target": noise(2, 1, 32, 32, seed=1)}
    columns = model.samples(batch)
    assert list(columns) == [
        *("source", "translation", "reconstruction"),
        *("target", "translation to source", "reconstruction of target"),
    ]
    assert torch.equal(columns["translation to source"], model.translate(batch["target"], to="source"))


# 9, 11: training -------------------------------------------------------------------------------------------------------------------


def test_each_player_moves_its_own_network_alone(root: Path, tmp_path: Path) -> None:
    model, turns = small(), []

    def watched(update: Any, mine: nn.Module, other: nn.Module) -> Any:
        def watch(*arguments: Tensor) -> None:
            before = [copy.deepcopy(network.state_dict()) for network in (mine, other)]
            weights = dict(other.named_parameters())
            update(*arguments)
            after = [network.state_dict() for network in (mine, other)]
            assert all(torch.equal(after[1][name], before[1][name]) for name in weights)
            assert any(not torch.equal(after[0][name], value) for name, value in before[0].items())
            moved = {name for name, value in before[1].items() if not torch.equal(after[1][name], value)}
            turns.append((update.__name__, {name.rpartition(".")[2] for name in moved}))

        return watch

    generator, discriminator = model.generator, model.discriminator
    model.update_generator = watched(model.update_generator, generator, discriminator)  # type: ignore[method-assign]
    model.update_discriminator = watched(model.update_discriminator, discriminator, generator)  # type: ignore[method-assign]
    fit(model, 1, tmp_path, data=digits(root), precision="32-true")
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert turns == [("update_discriminator", statistics), ("update_generator", set())]


class ShuffleTargetLabels(Callback):
    """Puts labels of the target into training batches, in an order of its own."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        batch["target_label"] = torch.randint(10, (len(batch["target"]),), generator=generator)


def test_labels_of_the_target_change_nothing(root: Path, tmp_path: Path) -> None:
    rooms = [small(), small(), small()]
    for seed, room in enumerate(rooms):
        callbacks: list[Callback] = [ShuffleTargetLabels(seed)] if seed else []
        fit(room, 2, tmp_path / str(seed), data=digits(root), precision="32-true", callbacks=callbacks)
    first, *others = (room.state_dict() for room in rooms)
    assert all(torch.equal(value, other[name]) for other in others for name, value in first.items())
    batch = next(iter(_loaded(digits(root)).train_dataloader()))
    assert batch.keys() == {"source", "target", "source_label"}


def _loaded(data: Digits) -> Digits:
    data.setup("fit")
    return data


def one_step(model: UNITDigits, root: Path, folder: Path) -> dict[str, float]:
    terms: dict[str, float] = {}
    model.log_terms = lambda new, *_: terms.update({name: value.item() for name, value in new.items()})  # type: ignore[method-assign, assignment]
    fit(model, 1, folder, data=digits(root), precision="32-true")
    return terms


def test_every_term_has_its_own_weight(root: Path, tmp_path: Path) -> None:
    weights = {"adversarial": 2.0, "classification": 3.0, "feature": 5.0, "reconstruction": 7.0, "kl": 11.0}
    terms = one_step(small(**{f"lambda_{name}": value for name, value in weights.items()}), root, tmp_path)
    judged = 2 * (terms["adversarial_real"] + terms["adversarial_fake"]) + 3 * terms["classification"]
    judged += 5 * (terms["feature_source"] + terms["feature_target"])
    assert terms["discriminator"] == pytest.approx(judged, rel=1e-5)
    made = 2 * terms["adversarial"] + 7 * (terms["reconstruction_source"] + terms["reconstruction_target"])
    assert terms["generator"] == pytest.approx(made + 11 * terms["kl"], rel=1e-5)


def test_the_distance_of_features_is_a_choice(root: Path, tmp_path: Path) -> None:
    squared = one_step(small(dropout=(0.0,) * 4), root, tmp_path / "l2sq")
    absolute = one_step(small(dropout=(0.0,) * 4, feature_distance="l1"), root, tmp_path / "l1")
    without = one_step(small(dropout=(0.0,) * 4, lambda_feature=0.0), root, tmp_path / "none")
    assert squared["adversarial_real"] == absolute["adversarial_real"] == without["adversarial_real"]
    assert squared["feature_source"] != absolute["feature_source"]
    assert not any(name.startswith("feature") for name in without)


def test_a_resumed_training_ends_with_the_same_bits(root: Path, tmp_path: Path) -> None:
    def room() -> UNITDigits:
        return small(test_interval=1)

    whole, reader = room(), ReadTestDigits()
    fit(whole, 4, tmp_path / "whole", data=digits(root), precision="32-true", callbacks=[reader])
    fit(room(), 2, tmp_path / "part", data=digits(root), precision="32-true", callbacks=[ReadTestDigits()])
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    torch.manual_seed(1)
    resumed, again = UNITDigits(**SMALL, test_interval=1), ReadTestDigits()
    fit(resumed, 4, tmp_path / "rest", data=digits(root), precision="32-true", resume=checkpoint, callbacks=[again])
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.state_dict() == reader.state_dict()
    assert reader.readings == 4
    loaded = load_translator(checkpoint)
    assert isinstance(loaded, UNITDigits)


def test_validation_reads_digits_of_both_domains(root: Path, tmp_path: Path) -> None:
    model = small()
    trainer = fit(model, 1, tmp_path, data=digits(root), precision="32-true", val_check_interval=1)
    data = _loaded(digits(root))
    for domain in ("source", "target"):
        images, labels = data.labelled(domain, "validation")
        right = model.classify(from_uint8(images), domain=domain).argmax(1) == labels
        assert trainer.callback_metrics[f"val/accuracy_{domain}"].item() == pytest.approx(right.double().mean().item())


# What is refused -------------------------------------------------------------------------------------------------------------------


def test_digits_that_do_not_fit_are_refused_before_training(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"digits of 28x28.*--data.size 32"):
        fit(small(), 1, tmp_path, data=digits(root, size=28))
    with pytest.raises(
        ZooError, match=r"source digits of 3 channels.*--model.source_channels 3, or --data.channels null"
    ):
        fit(small(), 1, tmp_path, data=digits(root, channels=3))
    for look in (small().translate, small().classify, small().reconstruct):
        with pytest.raises(ZooError, match=r"digits of 1 channels, and these pictures have 3"):
            look(noise(1, 3, 32, 32))
    with pytest.raises(ZooError, match="no domain 'zebra'"):
        small().classify(noise(1, 1, 32, 32), domain="zebra")
    with pytest.raises(ZooError, match="dropout has 2 shares"):
        small(dropout=(0.1, 0.2))
    with pytest.raises(ZooError, match="test_interval is 0"):
        small(test_interval=0)


# The readings ----------------------------------------------------------------------------------------------------------------------


class Reads:
    """Stands in for the model's reading: gives the next of some shares."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def __call__(self, *_: object) -> float:
        return self.shares.pop(0)


def test_the_last_reading_comes_first_and_the_best_is_named_for_what_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zoo.unit.evaluation.read_accuracy", Reads(0.2, 0.6, 0.6, 0.4))
    reader = ReadTestDigits()
    model = small(test_interval=2)
    trainer = fit(model, 7, tmp_path, data=digits(root), precision="32-true", callbacks=[reader])
    assert (reader.last, reader.last_iteration) == (0.4, 7)  # after the last iteration, too
    assert (reader.best, reader.best_iteration, reader.readings) == (0.6, 4, 4)
    printed_line = capsys.readouterr().out
    assert re.search(
        r"0\.4000 .*last iterate \(iteration 7\); best of 4 readings, chosen by these test digits: 0\.6000",
        printed_line,
    )
    assert printed_line.index("0.4000") < printed_line.index("0.6000")
    assert trainer.callback_metrics["test/accuracy"].item() == pytest.approx(0.4)
    assert trainer.callback_metrics["test/accuracy_best_chosen_by_test"].item() == pytest.approx(0.6)


def test_a_reading_leaves_no_trace_in_the_training(root: Path, tmp_path: Path) -> None:
    watched, alone = small(test_interval=1), small(test_interval=1)
    fit(watched, 3, tmp_path / "a", data=digits(root), precision="32-true", callbacks=[ReadTestDigits()])
    fit(alone, 3, tmp_path / "b", data=digits(root), precision="32-true", callbacks=[ReadTestDigits(enabled=False)])
    theirs = alone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in watched.state_dict().items())


def test_accuracy_is_the_share_of_all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.unit.evaluation.AT_ONCE", 3)
    model = small()
    images = (noise(8, 1, 32, 32).add(1) * 127.5).to(torch.uint8)
    labels = model.classify(from_uint8(images)).argmax(1)
    assert read_accuracy(model, images, labels) == 1
    labels[5] += 1
    assert read_accuracy(model, images, labels) == 7 / 8


def test_readings_ask_for_digits_and_their_model(root: Path, tmp_path: Path) -> None:
    from support.toy import ToyRoom

    with pytest.raises(ZooError, match="a ToyRoom and ToyData"):
        fit(ToyRoom(), 1, tmp_path, callbacks=[ReadTestDigits()])


@pytest.mark.slow
def test_it_learns_to_read_the_source(tmp_path: Path) -> None:
    write_npz(tmp_path, "mnist", printed(440, 40, side=32))
    write_npz(tmp_path, "usps", printed(440, 40, side=32, seed=1))
    model = small(discriminator_channels=8, dropout=(0.0,) * 4, learning_rate=2e-3)
    data = digits(tmp_path, batch_size=16, validation_count=40)
    trainer = fit(model, 60, tmp_path, data=data, precision="32-true", val_check_interval=60)
    assert trainer.callback_metrics["val/accuracy_source"] >= 0.8

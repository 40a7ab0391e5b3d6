"""From names and files to models: `zoo.load`, `--init_from`, and what a wrong file is told to be."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from support.commands import lightning, write_recipe
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError
from zoo.gpunit import GPUNIT
from zoo.weights.catalogue import read_catalogue
from zoo.weights.load import initialise, missing_source, names_of
from zoo.weights.official import LAYOUTS, layout_called, read_content, recognise


def beside(name: str) -> ModuleType:
    """The tests of a room's converter, which build files in the published layout."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OF_CYCLEGAN, OF_GPUNIT = beside("test_cyclegan_weights"), beside("test_gpunit_weights")
OF_STARGAN, OF_ALAE, OF_HIDT = (beside(f"test_{name}_weights") for name in ("starganv2", "alae", "hidt"))
OF_UNIT, OF_AGGAN, OF_BIGGAN = beside("test_unit_weights"), beside("test_aggan_weights"), beside("test_biggan_weights")


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def cyclegan_file(folder: Path) -> Path:
    return saved(OF_CYCLEGAN.PublishedGenerator(4, 6).state_dict(), folder / "horse2zebra.pth")


def gpunit_file(folder: Path) -> Path:
    return saved(OF_GPUNIT.published_task(), folder / "cat2dog.pt")


def prior_file(folder: Path) -> Path:
    state = OF_GPUNIT.recipe_state(OF_GPUNIT.autoencoder_shapes(2, 5), 7)
    return saved({"ae_ema": state, "ae_optim": {}}, folder / "prior.pt")


def paper_file(folder: Path) -> Path:
    return saved(OF_UNIT.PaperGenerator(2, False).state_dict(), folder / "cat2tiger.pkl")


def later_file(folder: Path) -> Path:
    return saved({letter: OF_UNIT.LaterGenerator(2).state_dict() for letter in "ab"}, folder / "gta2city.pt")


def digits_file(folder: Path) -> Path:
    return saved(OF_UNIT.PublishedVAE(2).state_dict(), folder / "svhn2mnist_gen.pkl")


def reader_file(folder: Path) -> Path:
    return saved(OF_UNIT.PublishedReader(2).state_dict(), folder / "svhn2mnist_dis.pkl")


def port_file(folder: Path) -> Path:
    return saved(OF_BIGGAN.port_state(), folder / "port.bin")


def biggan_file(folder: Path) -> Path:
    return saved(OF_BIGGAN.official_state(OF_BIGGAN.generator()), folder / "G_ema.pth")


def aggan_file(folder: Path) -> Path:
    path: Path = OF_AGGAN.write(folder, OF_AGGAN.published(), ".index")
    return path


def starganv2_file(folder: Path) -> Path:
    return saved(OF_STARGAN.networks(OF_STARGAN.made()), folder / "100000_nets_ema.ckpt")


def alae_file(folder: Path) -> Path:
    return saved(OF_ALAE.official_checkpoint(OF_ALAE.model_of(1)), folder / "model_final.pth")


def hidt_file(folder: Path) -> Path:
    path: Path = OF_HIDT.saved(folder / "wikiart.pt", OF_HIDT.Golden(OF_HIDT.PAINTINGS).state())
    return path


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cyclegan_generator": (cyclegan_file, "cyclegan"),
    "gpunit_task": (gpunit_file, "gpunit"),
    "gpunit_prior": (prior_file, "gpunit_prior"),
    "unit_generators": (paper_file, "unit"),
    "unit_digits_generator": (digits_file, "unit_digits"),
    "unit_digits_discriminator": (reader_file, "unit_digits"),
    "biggan_deep_port": (port_file, "biggan"),
    "biggan_generator": (biggan_file, "biggan"),
    "aggan_tensorflow": (aggan_file, "aggan"),
    "starganv2_nets": (starganv2_file, "starganv2"),
    "alae_checkpoint": (alae_file, "alae"),
    "hidt_generator": (hidt_file, "hidt"),
}
"""A maker of a small official file per layout, and the room it fills: a new room's layout enters by a line here."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    return tmp_path / "home" / "weights"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A content encoder for GP-UNIT's small task files."""
    state = GPUNIT(**OF_GPUNIT.SMALL).content_encoder.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


def extra(room: str, encoder: Path) -> dict[str, Any]:
    return {"content_encoder": str(encoder)} if room == "gpunit" else {}


@pytest.mark.parametrize("layout", FILES)
def test_official_files_become_models(layout: str, tmp_path: Path, encoder: Path) -> None:
    make, room = FILES[layout]
    path = make(tmp_path)
    state = torch.random.get_rng_state()
    for given in ((path,), (room, path), (room, str(path))):
        model = zoo.load(*given, **extra(room, encoder))
        assert type(model) is zoo.registry.room_class(room)
        assert not any(module.training for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("layout", FILES)
def test_trainings_begin_from_official_files(layout: str, tmp_path: Path, encoder: Path) -> None:
    make, room = FILES[layout]
    path = make(tmp_path)
    loaded = zoo.load(path, **extra(room, encoder))
    torch.manual_seed(9)
    model = type(loaded)(**dict(loaded.hparams))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fresh = initialise(model, path)
    state, wanted = model.state_dict(), loaded.state_dict()
    begun = [key for key in state if key.split(".")[0] in layout_called(layout).holds]
    if room == "gpunit":  # whose content encoder has a setting of its own
        begun = [key for key in begun if not key.startswith("content_encoder.")]
    assert begun
    assert all(torch.equal(state[key], wanted[key]) for key in begun)
    for name in fresh:
        assert all(torch.equal(state[key], before[key]) for key in state if key.startswith(f"{name}."))
    assert not set(fresh) & set(layout_called(layout).holds)
    assert not any(
        module._forward_pre_hooks for module in model.modules() if "guard" in repr(module._forward_pre_hooks)
    )


def test_every_layout_of_a_room_is_tried_and_every_entry_names_one() -> None:
    assert {layout.name for layout in LAYOUTS if layout.whole} == set(FILES)
    for entry in read_catalogue().values():
        if entry.converter:
            assert layout_called(entry.converter).room == entry.room, entry.name
        if entry.room and entry.room in {layout.room for layout in LAYOUTS}:
            assert entry.converter, entry.name


def test_what_comes_is_what_the_official_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = OF_CYCLEGAN.PublishedGenerator(4, 6).eval()
    model = zoo.load(saved(theirs.state_dict(), tmp_path / "horse2zebra.pth"))
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model.translate(picture), theirs(picture))
    with pytest.raises(ZooError, match=r"horse2zebra.pth is a generator of CycleGAN's .* has no weights of to_source"):
        model.translate(picture, to="source")


def test_generators_that_share_nothing_come_as_they_are(tmp_path: Path) -> None:
    model: Any = zoo.load("unit", later_file(tmp_path))
    assert model.hparams["shared_blocks"] == 0
    with pytest.raises(ZooError, match="no weights of discriminators"):
        model.discriminators(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))


def test_arguments_go_to_the_constructor(tmp_path: Path) -> None:
    model: Any = zoo.load("cyclegan", cyclegan_file(tmp_path), lambda_identity=0.25)
    assert model.lambda_identity == 0.25
    with pytest.raises(ZooError, match=r"CycleGAN has no argument 'lambda_identiy'. Did you mean 'lambda_identity'"):
        zoo.load("cyclegan", cyclegan_file(tmp_path), lambda_identiy=0.25)


def test_the_four_files_of_an_official_training(tmp_path: Path) -> None:
    trained = CycleGAN(**OF_CYCLEGAN.SMALL).eval()
    OF_CYCLEGAN.write_training(tmp_path / "official", trained)
    picture = torch.rand(1, 3, 32, 32)
    for given in ((tmp_path / "official",), ("cyclegan", tmp_path / "official")):
        model = zoo.load(*given)
        for to in ("target", "source"):
            assert torch.equal(model.translate(picture, to=to), trained.translate(picture, to=to))
    with pytest.raises(ZooError, match="holds weights of cyclegan, and was asked for as gpunit"):
        zoo.load("gpunit", tmp_path / "official")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: OF_BIGGAN.official_state(OF_BIGGAN.discriminator()), "a discriminator of BigGAN's .* G_ema.pth"),
        (lambda: OF_UNIT.PaperDiscriminator("plain", 2).state_dict(), "discriminators of UNIT's .* training alone"),
        (lambda: CycleGAN(**OF_CYCLEGAN.SMALL).discriminator_target.state_dict(), "a discriminator of CycleGAN's"),
        (
            lambda: GPUNIT(**OF_GPUNIT.SMALL).content_encoder.state_dict(),
            "GP-UNIT's content encoder.* --model.content_encoder",
        ),
        (lambda: {"features.0.weight": torch.zeros(1)}, "VGG or AlexNet kind.* lightning download vgg19"),
        (lambda: {"input_layer.0.weight": torch.zeros(1), "body.0.weight": torch.zeros(1)}, "IR-SE50"),
        (lambda: {"x.weight": torch.zeros(1)}, r"nothing that a room knows \(it holds x.weight\)"),
        (lambda: {"pytorch-lightning_version": "2", "state_dict": {}}, "does not say which room it belongs to"),
    ],
)
def test_a_wrong_file_says_what_it_looks_like(content: Callable[[], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=said):
        zoo.load(saved(content(), tmp_path / "file.pth"))


def test_a_file_of_another_room_says_how_to_load_it_and_what_fits(tmp_path: Path) -> None:
    path = gpunit_file(tmp_path)
    with pytest.raises(
        ZooError, match=r"a task file of GP-UNIT's .*, and cyclegan was asked for. To load it: zoo.load\('gpunit'"
    ):
        zoo.load("cyclegan", path)
    with pytest.raises(ZooError, match="Names that fit gpunit: gpunit-scenes, gpunit_male2female"):
        zoo.load("gpunit", saved({"x": torch.zeros(1)}, tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("gpunit_cat2dgo",),
            "There are no weights, no run and no file called 'gpunit_cat2dgo'. Did you mean 'gpunit_cat2dog'",
        ),
        (("gpunit",), "gpunit is a room; say which weights of it. There are gpunit-scenes, gpunit_male2female"),
        (("gpunitt", "x.pt"), "There is no room named 'gpunitt'. Did you mean 'gpunit'"),
        (("runs/none/last.ckpt",), "There is no checkpoint at runs/none/last.ckpt"),
        (("vgg19",), "vgg19 is no model of a room, but a part that rooms use"),
        (("content_encoder_64",), "content_encoder_64 is no whole model, but GP-UNIT's content encoder"),
        (("aggan-trained-models",), "aggan_trained_models.zip is needed, and ZOO_OFFLINE forbids"),
    ],
)
def test_mistakes_of_names(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(ZooError, match=said):
        zoo.load(*given)


def test_a_name_of_the_catalogue_is_fetched_and_converted(home: Path, encoder: Path) -> None:
    home.mkdir(parents=True)
    shutil.move(gpunit_file(home), home / "gpunit_cat2dog.pt")
    model: Any = zoo.load("gpunit-cat2dog", content_encoder=str(encoder))
    assert bool(model.sampler_fitted)
    wanted = read_checkpoint(home / "gpunit_cat2dog.pt")["g_ema"]
    assert all(torch.equal(value, wanted[key]) for key, value in model.ema["generator"].state_dict().items())
    expected = GPUNIT(**OF_GPUNIT.SMALL).content_encoder
    expected.load_state_dict(load_file(encoder))
    picture = torch.rand(1, 3, 256, 256)
    for ours, theirs in zip(model.content_encoder(picture), expected.eval()(picture), strict=True):
        assert torch.equal(ours, theirs)


def test_an_archive_gives_its_one_model(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (tmp_path / "archive" / "weights").mkdir(parents=True)
    biggan_file(tmp_path / "archive" / "weights")
    saved({}, tmp_path / "archive" / "weights" / "G_optim.pth")
    shutil.make_archive(str(home / "biggan_128_bs256x8"), "zip", tmp_path / "archive")
    for _ in range(2):
        assert type(zoo.load("biggan_128")) is zoo.registry.room_class("biggan")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "empty")
    with pytest.raises(ZooError, match=r"holds no model whose name is known here: .*readme.txt"):
        zoo.load("biggan", tmp_path / "other.zip")


def test_names_of_a_room() -> None:
    assert {"gpunit_cat2dog", "gpunit_dog2cat"} <= set(names_of("gpunit"))
    assert names_of("sat") == ["sat-scenes"]  # shipped


# Our own, and beginning from it --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    assert lightning("fit", "--config", write_recipe(folder), "--run.name", "a") == 0
    return Run(folder / "runs" / "tiny" / "a")


def weights(run: Run, iteration: int = 4) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_checkpoint(run.checkpoint_path(iteration))["state_dict"]
    return state


def test_a_run_is_loaded_by_its_place(run: Run) -> None:
    for given in ((run.folder,), ("cyclegan", run.folder), ("cyclegan", str(run.checkpoint_path(4)))):
        model = zoo.load(*given)
        assert all(torch.equal(value, weights(run)[key]) for key, value in model.state_dict().items())
    with pytest.raises(
        ZooError,
        match=r"holds weights of cyclegan, and was asked for as gpunit. Names that fit: gpunit-scenes, gpunit_",
    ):
        zoo.load("gpunit", run.folder)
    with pytest.raises(ZooError, match="has settings of its own: leave lambda_identity out"):
        zoo.load("cyclegan", run.folder, lambda_identity=1.0)


def first_weights(folder: Path, *words: object) -> dict[str, Tensor]:
    """The weights before the first step: a training whose rate is nothing."""
    recipe = write_recipe(folder)
    still = ["--model.learning_rate", 0, "--trainer.max_steps", 2, "--run.name", "b"]
    assert lightning("fit", "--config", recipe, *still, *words) == 0
    return weights(Run(folder / "runs" / "tiny" / "b"), 2)


def test_a_training_begins_from_a_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = first_weights(tmp_path, "--init_from", run.folder)
    wanted = weights(run)
    for key, value in begun.items():
        if not key.startswith("ema."):
            assert torch.equal(value, wanted[key]), key
    assert f"the weights of {run.folder} are where this training begins" in capsys.readouterr().err
    record = Run(tmp_path / "runs" / "tiny" / "b")
    assert f"init_from: {run.folder}" in record.config.read_text()
    assert read_checkpoint(record.checkpoint_path(2))["zoo"]["iteration"] == 2


def test_what_export_wrote_is_taken_like_a_run(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    assert lightning("export", run.folder, "--safetensors", "--output", place) == 0
    wanted = weights(run)
    for model in (zoo.load(place), zoo.load("cyclegan", place)):
        assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    with pytest.raises(ZooError, match="holds weights of cyclegan, and was asked for as unit"):
        zoo.load("unit", place)
    begun = first_weights(tmp_path, "--init_from", place)
    assert all(torch.equal(value, wanted[key]) for key, value in begun.items() if not key.startswith("ema."))
    words = ["--config", write_recipe(tmp_path), "--init_from", place, "--model.generator_channels", 6]
    assert lightning("fit", *words, "--run.name", "c") == 2


def test_a_training_begins_from_an_official_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    theirs = OF_CYCLEGAN.PublishedGenerator(4, 1).state_dict()
    path = saved(theirs, tmp_path / "horse2zebra.pth")
    begun = first_weights(tmp_path, "--init_from", path)
    for key, value in theirs.items():
        assert torch.equal(begun[f"to_target.{key}"], value)
        torch.testing.assert_close(begun[f"ema.to_target.{key}"], value)
    assert "new are discriminator_source, discriminator_target, to_source" in capsys.readouterr().err


def test_a_resumed_training_goes_on_from_its_own_weights(run: Run, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    name = ["--run.name", "c"]
    assert lightning("fit", "--config", recipe, "--init_from", run.folder, "--trainer.max_steps", 2, *name) == 0
    assert lightning("fit", "--resume", tmp_path / "runs" / "tiny" / "c", "--trainer.max_steps", 4) == 0
    resumed = weights(Run(tmp_path / "runs" / "tiny" / "c"))
    (tmp_path / "whole").mkdir()
    whole = write_recipe(tmp_path / "whole")
    assert lightning("fit", "--config", whole, "--init_from", run.folder, *name) == 0
    at_once = weights(Run(tmp_path / "whole" / "runs" / "tiny" / "c"))
    assert all(torch.equal(value, at_once[key]) for key, value in resumed.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--init_from", "cyclegan_horse2zebar"], "Did you mean 'cyclegan_horse2zebra'"),
        (
            ["--init_from", "cyclegan_horse2zebra"],
            "cyclegan_horse2zebra.pth (cyclegan_horse2zebra) is not on this machine",
        ),
        (["--init_from", "runs/none.ckpt"], "--init_from runs/none.ckpt: there is no such file or folder"),
        (["--init_from", "FILE"], "--model.generator_channels 8"),
        (["--init_from", "TASK"], "a task file of GP-UNIT's second stage, and cyclegan was asked for"),
        (["--init_from", "RUN", "--model.generator_channels", 6], "--model.generator_channels 4"),
    ],
)
def test_mistakes_cost_a_line_and_no_run(
    words: list[Any], said: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "FILE": lambda: saved(OF_CYCLEGAN.PublishedGenerator(8, 1).state_dict(), tmp_path / "x.pth"),
        "TASK": lambda: gpunit_file(tmp_path),
        "RUN": lambda: run.folder,
    }
    given = [places[word]() if word in places else word for word in words]
    assert lightning("fit", "--config", write_recipe(tmp_path), *given) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("run.json"))


def test_beginning_forgets_a_fitted_sampler_and_keeps_the_rest(tmp_path: Path) -> None:
    model = GPUNIT(**OF_GPUNIT.SMALL)
    fresh = initialise(model, gpunit_file(tmp_path))
    assert fresh == ["discriminator"]
    assert not model.sampler_fitted
    wanted = read_checkpoint(tmp_path / "cat2dog.pt")["g_ema"]
    assert all(torch.equal(value, wanted[key]) for key, value in model.generator.state_dict().items())


def test_sources_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_source(".", "--init_from") == []
    assert missing_source("gpunit-cat2dog", "--init_from")[0].startswith("gpunit_cat2dog.pt (gpunit_cat2dog) is not on")
    assert "lightning list --weights" in missing_source("nothing", "--init_from")[0]


def test_tensors_alone_are_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    with pytest.raises(ZooError, match="holds more than tensors"):
        zoo.load(saved({"model.1.weight": Evil()}, tmp_path / "evil.pth"))
    assert not (tmp_path / "evil").exists()


def test_layouts_do_not_take_each_other_for_their_own(tmp_path: Path) -> None:
    for name, (make, _) in FILES.items():
        folder = tmp_path / name
        folder.mkdir()
        content = read_content(make(folder))
        found = recognise(content)
        assert found is not None
        assert found.name == name
        assert [layout.name for layout in LAYOUTS if layout.matches(content)] == [name]

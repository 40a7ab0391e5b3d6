"""The rules of the house hold for every file, and each of them notices a snippet that breaks it."""

import ast
from pathlib import Path

import pytest

from support.architecture import (
    FRONT_DOOR,
    MAY_IMPORT,
    ON_TOP,
    ROOT,
    RULES,
    Rule,
    Source,
    arrows_run_one_way,
    files_are_small,
    importing_changes_nothing,
    nothing_is_left_to_do,
    parse,
    rooms_draw_from_draws,
    rooms_leave_backward_to_their_players,
    rooms_touch_no_logger,
    sources,
    the_front_door_is_light,
    training_never_waits_for_the_device,
)
from zoo.registry import ROOMS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Rule) -> None:
    complaints = [complaint for source in sources() for complaint in rule(source)]
    assert not complaints, "\n".join(complaints)


STEP = "class Room(Translator):\n    def training_step(self, batch, batch_idx):\n        "
BROKEN: list[tuple[Rule, str, str]] = [
    (arrows_run_one_way, "zoo.cyclegan", "from datamodules.scenes import Scenes"),
    (arrows_run_one_way, "zoo.cyclegan", "def f():\n    import datamodules"),
    (arrows_run_one_way, "zoo.unit.model", "from zoo.cyclegan import ResnetGenerator"),
    (arrows_run_one_way, "zoo.unit.model", "from zoo import cyclegan"),
    (arrows_run_one_way, "zoo.unit.model", "from zoo.cli.fit import run"),
    (arrows_run_one_way, "zoo.unit.model", "from zoo.metrics import fid"),
    (arrows_run_one_way, "zoo.unit.model", "from zoo.testing import check_room"),
    (arrows_run_one_way, "zoo.core.ema", "from zoo.cyclegan import CycleGAN"),
    (arrows_run_one_way, "zoo.core.ema", "from zoo.blocks.image_pool import ImagePool"),
    (arrows_run_one_way, "zoo.blocks.image_pool", "from zoo.cyclegan import CycleGAN"),
    (arrows_run_one_way, "zoo.experts.vgg", "from zoo.callbacks import Freeze"),
    (arrows_run_one_way, "zoo.callbacks.freeze", "from zoo.cyclegan import CycleGAN"),
    (arrows_run_one_way, "datamodules.scenes", "from zoo.core import Translator"),
    (arrows_run_one_way, "datamodules.scenes", "from zoo.errors import ZooError"),
    (arrows_run_one_way, "datamodules.scenes", "import zoo"),
    (the_front_door_is_light, "zoo.cli.main", "import torch"),
    (the_front_door_is_light, "zoo.cli.main", "def f():\n    import numpy"),
    (the_front_door_is_light, "zoo.cli.main", "import yaml"),
    (the_front_door_is_light, "zoo.cli.main", "from zoo.cli.fit import run"),
    (the_front_door_is_light, "zoo.cli.main", "from zoo.core import Translator"),
    (the_front_door_is_light, "zoo.registry", "from zoo.core.files import write_atomically"),
    (rooms_draw_from_draws, "zoo.cyclegan", "import random"),
    (rooms_draw_from_draws, "zoo.cyclegan", "from random import uniform"),
    (rooms_draw_from_draws, "zoo.cyclegan", "from numpy.random import default_rng"),
    (rooms_draw_from_draws, "zoo.cyclegan", "def f(x):\n    return torch.randn_like(x)"),
    (rooms_draw_from_draws, "zoo.cyclegan", "def f(x):\n    return np.random.rand(3)"),
    (rooms_leave_backward_to_their_players, "zoo.cyclegan", "def f(loss):\n    loss.mean().backward()"),
    (rooms_touch_no_logger, "zoo.cyclegan", "def f():\n    import wandb"),
    (rooms_touch_no_logger, "zoo.cyclegan", "from lightning.pytorch.loggers import WandbLogger"),
    (rooms_touch_no_logger, "zoo.unit.model", "def f(self):\n    self.logger.experiment.log({})"),
    (training_never_waits_for_the_device, "zoo.cyclegan", f"{STEP}self.log('loss', loss.item())"),
    (training_never_waits_for_the_device, "zoo.cyclegan", f"{STEP}pass\n    def f(self, x):\n        x.mean().item()"),
    (importing_changes_nothing, "zoo.core.ema", "torch.manual_seed(0)"),
    (importing_changes_nothing, "datamodules.scenes", "warnings.filterwarnings('ignore')"),
    (importing_changes_nothing, "zoo.cyclegan", "class A:\n    torch.set_float32_matmul_precision('high')"),
    (importing_changes_nothing, "zoo.cyclegan", "torch.backends.cudnn.benchmark = True"),
    (importing_changes_nothing, "zoo.cyclegan", "os.environ['OMP_NUM_THREADS'] = '1'"),
    (importing_changes_nothing, "zoo.cyclegan", "try:\n    x = urlopen('https://example.org')\nfinally:\n    pass"),
    (files_are_small, "zoo.core.translator", "x = 1\n" * 250),
    (files_are_small, "zoo.core.ema", "x = 1\n" * 200),
    (files_are_small, "zoo.cyclegan", "x = 1\n" * 149),
    (files_are_small, "zoo.cyclegan", "x = 1\n" * 501),
    (files_are_small, "datamodules.scenes", "x = 1\n" * 501),
    (nothing_is_left_to_do, "zoo.core.ema", "x = 1  # TO" + "DO later"),
]


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_rule_is_noticed(rule: Rule, module: str, text: str) -> None:
    assert list(rule(parse(module, text)))


SOUND: list[tuple[Rule, str, str]] = [
    (arrows_run_one_way, "zoo.unit.model", "from zoo.unit.networks import Encoder\nfrom zoo.core import Player, sync"),
    (arrows_run_one_way, "zoo.core.checkpoints", "from zoo import __version__, registry"),
    (arrows_run_one_way, "zoo.cli.translate", "from zoo.cyclegan import CycleGAN\nimport datamodules"),
    (arrows_run_one_way, "datamodules.scenes", "from zoo.core.images import from_uint8"),
    (the_front_door_is_light, "zoo.cli.main", "import zoo\ndef f():\n    import yaml\n    from zoo.cli.fit import run"),
    (rooms_draw_from_draws, "zoo.cyclegan", "def f(self, x):\n    nn.init.normal_(x)\n    self.draws.normal('z', ())"),
    (rooms_leave_backward_to_their_players, "zoo.core.players", "def f(loss):\n    loss.backward()"),
    (rooms_touch_no_logger, "zoo.cyclegan", "def f(self):\n    self.log('val/x', 1.0)"),
    (rooms_touch_no_logger, "zoo.callbacks.dashboards", "import wandb"),
    (
        training_never_waits_for_the_device,
        "zoo.cyclegan",
        f"{STEP}pass\n    def validation_step(self, x):\n        x.item()",
    ),
    (importing_changes_nothing, "zoo.cyclegan", "x: int = 1\ny = {}\ny['a'] = 2\ndef f():\n    torch.manual_seed(0)"),
    (importing_changes_nothing, "zoo.cli.main", "if __name__ == '__main__':\n    torch.manual_seed(0)"),
]


@pytest.mark.parametrize(("rule", "module", "text"), SOUND, ids=lambda value: getattr(value, "__name__", None))
def test_sound_code_passes(rule: Rule, module: str, text: str) -> None:
    assert not list(rule(parse(module, text)))


def test_every_room_of_the_tree_is_registered() -> None:
    rooms = {source.room for source in sources() if source.module.startswith("zoo.") and source.layer == "room"}
    registered = {value.partition(":")[0].split(".")[1] for value in ROOMS.values()}
    assert rooms == registered, "a room's file and its line in zoo/registry.py go together"


def test_every_front_door_module_exists() -> None:
    assert {source.module for source in sources()} >= FRONT_DOOR
    assert {source.layer for source in sources()} <= {*MAY_IMPORT, *ON_TOP, "datamodules"}


def test_no_text_file_says_that_something_is_left_to_do() -> None:
    folders = [ROOT / name for name in ("zoo", "datamodules", "configs", "tests", "notebooks", ".ci")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".md", ".txt")]
    texts += [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    complaints = [
        complaint
        for path in texts
        if path != Path(__file__) and path.is_file()
        for complaint in nothing_is_left_to_do(Source(str(path), ast.Module([], []), path.read_text(encoding="utf-8")))
    ]
    assert not complaints, "\n".join(complaints)

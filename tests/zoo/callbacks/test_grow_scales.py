"""Stages of a picture: when they begin, when the training ends, what is written and said."""

import csv
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from datamodules import SingleImage
from support.single_image import SMALL, draw_picture
from support.toy import ToyRoom
from support.training import fit
from zoo.blocks.single_image import stage_work
from zoo.callbacks import Progress
from zoo.callbacks.grow_scales import GrowScales
from zoo.consingan import ConSinGAN
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.singan import SinGAN


class Stages(Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(pl_module.stage)  # type: ignore[arg-type]


def train(folder: Path, growing: GrowScales, iterations: int = -1, room: Any = None, **options: Any) -> list[int]:
    seed_everything(0, verbose=False)
    stages = Stages()
    room = room or ConSinGAN(**{**SMALL["zoo.consingan.ConSinGAN"], "stage_iterations": 3})
    data = SingleImage(str(draw_picture(folder / "p.png")))
    callbacks = [growing, stages, *options.pop("callbacks", [])]
    fit(room, iterations, folder, data=data, max_epochs=-1, precision="32-true", callbacks=callbacks, **options)
    return stages.seen


def test_stages_follow_one_another_and_the_training_ends_with_the_last(tmp_path: Path) -> None:
    growing = GrowScales()
    growing.run = Run(tmp_path)
    assert train(tmp_path, growing) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [f"stage_0{n}.png" for n in range(4)]
    with (tmp_path / "stages.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["0", "1", "2", "3"]
    assert (rows[-1]["width"], rows[-1]["height"]) == ("28", "24")
    counts = [int(row["parameters"]) for row in rows]
    assert len({later - earlier for earlier, later in pairwise(counts)}) == 1  # each stage adds as many
    assert counts[1] > counts[0]
    assert all(float(row["seconds"]) > 0 and float(row["peak_memory_mib"]) > 10 for row in rows)


def test_a_smaller_number_of_iterations_ends_it_earlier_and_a_larger_one_does_not(tmp_path: Path) -> None:
    assert train(tmp_path / "a", GrowScales(every=2, grids=False), 5) == [0, 0, 1, 1, 2]
    assert train(tmp_path / "b", GrowScales(every=1, grids=False), 99) == [0, 1, 2, 3]


def test_how_many_scales_there_are_follows_from_the_picture(tmp_path: Path) -> None:
    room = SinGAN(**{**SMALL["zoo.singan.SinGAN"], "stage_iterations": 1})
    assert train(tmp_path, GrowScales(grids=False), room=room) == list(range(room.scale_count((24, 28))))


def test_a_room_without_scales_and_a_stage_without_iterations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="ToyRoom does not learn a picture by its scales"):
        fit(ToyRoom(), 2, tmp_path, callbacks=[GrowScales()])
    with pytest.raises(ZooError, match="every is 0"):
        train(tmp_path, GrowScales(every=0))
    with pytest.raises(ZooError, match=r"no argument of this name\. The nearest: stage_iterations"):
        train(tmp_path, GrowScales(every="stage_iteration"))


def test_progress_says_the_stage_and_counts_its_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, GrowScales(grids=False), callbacks=[Progress(lines_every=0)], enable_progress_bar=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("iteration")]
    assert len(lines) == 12
    assert re.match(r"iteration 4 \(stage 2 of 4, 1\dx1\d\) of 12, .* left, ", lines[3])
    assert lines[-1].startswith("iteration 12 (stage 4 of 4, 28x24) of 12, 0 s left")
    sizes = [(2, 3), (4, 5)]
    assert stage_work(0, 20, 10, sizes) == 10 * 6 + 10 * 26
    assert stage_work(5, 12, 10, sizes) == 5 * 6 + 2 * 26
    assert stage_work(12, 12, 10, sizes) == 0

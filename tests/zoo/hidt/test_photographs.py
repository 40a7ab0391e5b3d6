"""HiDT on photographs of landscapes, by day and by night, of several sizes and shapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from support.commands import lightning, rows, write_recipe
from support.photographs import photographs
from zoo.core.runs import Run

MODEL = {
    "generator_channels": 8,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 8,
    "discriminator_channels": 4,
    "discriminator_levels": 3,
    "mask_channels": 0,
    "learning_rate": 1e-3,
    "inference_size": 64,
}


def test_a_training_on_photographs_and_their_translations(tmp_path: Path) -> None:
    folder = photographs("daytime")
    data = {
        "class_path": "datamodules.Landscapes",
        "init_args": {"images": str(folder), "size": 64, "batch_size": 1, "workers": 0},
    }
    recipe = write_recipe(tmp_path, name="hidt", model={"class_path": "zoo.hidt.HiDT", "init_args": MODEL}, data=data)
    words = ["--run.name", "a", "--trainer.max_steps", 12, "--metrics.every", 1]
    assert lightning("fit", "--config", recipe, *words) == 0
    run = Run(tmp_path / "runs" / "hidt" / "a")
    losses = [float(row["loss/reconstruction"]) for row in rows(run)]
    assert sum(losses[-4:]) < sum(losses[:4])
    out = tmp_path / "out"
    exemplar = next(path for path in sorted(folder.iterdir()) if path.name.startswith("style"))
    command = ["translate", run.folder, folder, "--size", 64, "--no-sheet", "--output"]
    assert lightning(*command, out, "--reference", exemplar) == 0
    pictures = [path for path in folder.iterdir() if path.suffix == ".jpg"]
    assert len(list(out.iterdir())) == len(pictures)
    for picture in pictures:
        with Image.open(picture) as source, Image.open(out / f"{picture.stem}_{exemplar.stem}.png") as result:
            assert min(result.size) == 64
            assert abs(result.width / result.height - source.width / source.height) < 0.02
            assert np.asarray(result).std() > 3
    assert lightning(*command, tmp_path / "named", "--styles", "night") == 0
    assert len(list((tmp_path / "named").iterdir())) == len(pictures)

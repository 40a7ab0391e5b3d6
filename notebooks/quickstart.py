# %% [markdown]
# # Quickstart
#
# Render scenes, train a small CycleGAN on them, look at what it does, and have it judged. Nothing is downloaded; on one
# CPU core the whole notebook takes little more than a minute (`make notebooks`).
#
# What is typed into `lightning(...)` below is what one types behind `lightning` in a terminal.

# %%
import csv
import os
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image

from datamodules import Scenes
from zoo.cli.main import main
from zoo.core.images import from_uint8, save_png, to_pil
from zoo.core.loading import load_translator
from zoo.core.runs import find_run

ITERATIONS = int(os.environ.get("QUICKSTART_ITERATIONS", "800"))  # the tests take 3

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started


def lightning(words: str) -> None:
    """Run the `lightning` command, and stop here if it fails."""
    if main(shlex.split(words)) != 0:
        raise RuntimeError("the command failed; its last line says why")


def show(rows: list[list[torch.Tensor]], titles: list[str]) -> None:
    """Show pictures `c h w` in [-1, 1] (or uint8), a row per scene, titles on top."""
    _, grid = plt.subplots(len(rows), len(titles), figsize=(1.3 * len(titles), 1.35 * len(rows)), squeeze=False)
    for axes, pictures in zip(grid, rows, strict=True):
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(to_pil(picture), cmap="gray", interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## What is a scene?
#
# A textured background and one object. Domains differ in the object's look alone: plain, striped, dotted or checked.
# Scenes are drawn from a seed and an index, so the same scene can be drawn in any look: **the true translation of every
# picture is known**, and so is the object's mask.

# %%
looks = ("plain", "striped", "dotted", "checked")
maker = Scenes(task="domains", domains=looks, size=64).maker
rows = []
for index in range(3):
    scenes = maker.paint(index, *((domain, maker.style(index, domain)) for domain in range(len(looks))))
    rows.append([*(scene.image for scene in scenes), 2 * scenes[0].mask - 1])
show(rows, [*looks, "mask"])

# %% [markdown]
# Training sees none of that. A batch has pictures of two domains, `source` and `target`, that have nothing to do with one
# another: other scenes, other objects. Only validation and test also have the `counterpart`, the true translation of the
# source. Here plain objects are the source and striped ones the target, and each look has one style (`styles="fixed"`),
# which makes the task easy enough for a minute.

# %%
scenes = Scenes(domains=("plain", "striped"), size=32, styles="fixed")
test = scenes.fixed_samples("test")
show([[test[i][name] for name in ("source", "target", "counterpart")] for i in range(3)], ["source", "target", "truth"])

# %% [markdown]
# ## Train
#
# `zoo/cyclegan.yaml` is the paper's recipe, the overlay `configs/demo/cyclegan.yaml` makes it small, and options change
# single settings: 32 pixels, a higher learning rate than the paper's that falls in the last third, and the judge, whose
# table comes at the end.

# %%
lightning(f"""
    fit --config zoo/cyclegan.yaml --config configs/demo/cyclegan.yaml --run.recipe quickstart
    --data.size 32 --data.styles fixed --model.residual_blocks 2 --model.learning_rate 0.001
    --model.iterations_per_epoch 1 --model.constant_epochs {ITERATIONS - ITERATIONS // 3} --model.decay_epochs {ITERATIONS // 3}
    --trainer.max_steps {ITERATIONS} --trainer.val_check_interval {max(1, ITERATIONS // 4)}
    --metrics.every {max(1, ITERATIONS // 80)} --samples.every {max(1, ITERATIONS // 4)} --judge.enabled true
""")

# %% [markdown]
# The table stands the translation beside what it must beat: the source left as it is (*identity*), a picture of the
# target domain pasted in its place (*pasted exemplar*), one picture for all (*mean image*). The last column is the truth
# as the judge sees it. A good translator has the *style accuracy* of the exemplar, the *object IoU* of the identity and
# next to no *background change*.
#
# ## Look at the losses
#
# One run is one folder. `metrics.csv` has a row every so many iterations.

# %%
run = find_run(Path("runs"), "quickstart")
print(
    *sorted(str(path) for path in run.folder.rglob("*") if path.is_file() and not path.name.startswith(".")), sep="\n"
)

with run.metrics.open() as file:
    table = list(csv.DictReader(file))
_, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
for axis, names in (
    (left, ("loss/cycle_source", "loss/adversarial_target", "loss/discriminator_target")),
    (right, ("val/style_accuracy", "val/object_iou")),
):
    for name in names:
        points = [(int(row["iteration"]), float(row[name])) for row in table if row.get(name)]
        axis.plot(*zip(*points, strict=True), label=name, marker="o" if name.startswith("val/") else None)
    axis.set_xlabel("iteration")
    axis.legend(fontsize=8)
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Look at the samples
#
# The same validation pictures every so many iterations: both domains, their translations, and the way back.

# %%
Image(filename=sorted(run.samples.glob("*.png"))[-1], width=800)

# %% [markdown]
# ## Translate pictures
#
# `lightning translate` takes a run (or a checkpoint) and any picture files or folders. Here it gets six scenes that the
# model never saw.

# %%
for i in range(6):
    save_png(test[i]["source"], run.folder / "pictures" / f"scene_{i}.png")
lightning(f"translate {run.folder} {run.folder}/pictures --output {run.folder}/translated --overwrite")

# %% [markdown]
# In Python it is one call. Pictures are `b c h w` in [-1, 1]; `to` names the domain.

# %%
model = load_translator(run.folder)
source = from_uint8(torch.stack([test[i]["source"] for i in range(6)]))
translation = model.translate(source)
back = model.translate(translation, to="source")
truth = from_uint8(torch.stack([test[i]["counterpart"] for i in range(6)]))
show(
    [list(row) for row in zip(source, translation, truth, back, strict=True)],
    ["source", "translation", "truth", "back"],
)

# %% [markdown]
# ## Judge it on the test scenes
#
# `lightning test` measures a checkpoint with the configuration of its run, on scenes that neither training nor validation
# used.

# %%
lightning(f"test --config {run.config} --ckpt_path {run.checkpoints_newest_first()[0]}")

# %% [markdown]
# A minute teaches the look, not yet all of the rest: the object IoU and the background say how much is left. `make demo`
# trains longer, and the README says how to train on two folders of your own.

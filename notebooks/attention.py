# %% [markdown]
# # Attention and staged training
#
# SAT (*Show, Attend and Translate*) translates the object and leaves the rest of the picture alone. Nobody tells it what the object is:
# it learns first to translate, then where that is worth it, then both together. Three phases, and in the first two a weight that
# grows by itself until it is enough. All of this stands in a recipe as **callbacks**, which work in any room of the zoo.
#
# Nothing is downloaded. On one CPU core the notebook takes about a quarter of an hour. What is typed into `lightning(...)` is what one
# types behind `lightning` in a terminal.

# %%
import csv
import os
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import yaml
from IPython.display import Image

import zoo
from datamodules import Scenes
from zoo.cli.main import main
from zoo.core.checkpoints import read_checkpoint
from zoo.core.images import from_uint8, to_pil
from zoo.core.loading import load_translator
from zoo.core.runs import Run

SHORT = bool(int(os.environ.get("ATTENTION_SHORT", "0")))  # the tests take a few iterations

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started

SAT, CYCLEGAN = Run(Path("runs/sat/notebook")), Run(Path("runs/cyclegan/staged"))


def lightning(words: str) -> None:
    """Run the `lightning` command, and stop here if it fails."""
    if main(shlex.split(words)) != 0:
        raise RuntimeError("the command failed; its last line says why")


def fit(run: Run, words: str) -> None:
    """Train, or go on with a run that was stopped."""
    lightning(f"fit --resume {run.folder}" if run.record.is_file() else f"fit {words} --run.name {run.folder.name}")


def columns(run: Run, *names: str) -> list[tuple[list[int], list[float]]]:
    """What `metrics.csv` says of each name: iterations and values."""
    with run.metrics.open() as file:
        rows = list(csv.DictReader(file))
    found = [[row for row in rows if row.get(name)] for name in names]
    return [
        ([int(row["iteration"]) for row in kept], [float(row[name]) for row in kept])
        for name, kept in zip(names, found, strict=True)
    ]


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
# ## The phases are in the recipe
#
# `at` and `until` are iterations, or names of the model's numbers, so that an overlay changes the numbers and leaves the list alone.

# %%
recipe = yaml.safe_load((Path(zoo.__file__).parent / "sat.yaml").read_text())
print(yaml.safe_dump(recipe["trainer"]["callbacks"], sort_keys=False))

# %% [markdown]
# ## Train
#
# The demo overlay makes the paper's recipe small: 64x64 scenes, plain objects to striped ones, 1,600 iterations for the generator, 500
# for the attention, the rest for both.

# %%
short = " --model.attention_iteration 2 --model.joint_iteration 4 --trainer.max_steps 6 --trainer.val_check_interval 6"
short += " --samples.every 2 --metrics.every 1 --model.lambda_interval 1"
fit(SAT, f"--config zoo/sat.yaml --config configs/demo/sat.yaml{short if SHORT else ''}")

# %% [markdown]
# ## The weight grows until it is enough, twice
#
# The self-regularisation asks that a translation stays close to its source; its weight, lambda, begins at 0. It grows step by step, and
# the more it weighs, the harder it is to fool the discriminator: the adversarial loss rises. When its mean over an interval exceeds
# the threshold, lambda stops for good. When the attention's turn comes the same happens once more from 0, with a threshold of its own.

# %%
settings = yaml.safe_load(SAT.config.read_text())["model"]["init_args"]
weight, stopped, loss = columns(
    SAT, "weight/lambda_regularisation", "weight/lambda_regularisation_stopped", "loss/adversarial"
)
_, (upper, lower) = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True)
upper.plot(*weight)
upper.set_ylabel("lambda")
lower.plot(*loss, linewidth=0.8)
lower.set_ylabel("adversarial loss")
lower.set_xlabel("iteration")
begin, end = 0, settings["attention_iteration"]
for threshold, until in (("lambda_threshold", end), ("attention_lambda_threshold", settings["joint_iteration"])):
    lower.hlines(settings[threshold], begin, until, colors="tab:red", linestyles="dashed", label="threshold")
    begin = until
for axis in (upper, lower):
    for name in ("attention_iteration", "joint_iteration"):
        axis.axvline(settings[name], color="grey", linewidth=0.8)
lower.legend(*(found[:1] for found in lower.get_legend_handles_labels()), fontsize=8)
plt.tight_layout()
plt.show()

# %%
for name, first, last in (
    ("generator", 0, settings["attention_iteration"]),
    ("attention", settings["attention_iteration"], settings["joint_iteration"]),
):
    at = [i for i, flag in zip(*stopped, strict=True) if flag and first < i <= last]
    kept = [value for i, value in zip(*weight, strict=True) if first < i <= last]
    print(f"{name}: lambda {kept[-1]:.1f}, {f'stopped by iteration {at[0]}' if at else 'never stopped'}")

# %% [markdown]
# ## What the attention sees
#
# The last sample grid: source, attention, what the generator paints everywhere, the translation composed of both, and a picture of the
# target domain. Before its phase the attention was 1 everywhere.

# %%
Image(filename=sorted(SAT.samples.glob("*.png"))[-1], width=520)

# %% [markdown]
# In Python, attention is a result beside the translation; `lightning translate RUN PICTURES --attention` writes it as pictures.
# Here it stands beside the true mask of the object, which training never saw.

# %%
model = load_translator(SAT.folder)
test = Scenes(domains=("plain", "striped"), size=64).fixed_samples("test")
rows = []
for i in range(5):
    scene = from_uint8(test[i]["source"])[None]
    translation, attention = model.translate(scene, return_attention=True)
    rows.append([scene[0], 2 * attention[0] - 1, 2 * test[i]["mask"] - 1, translation[0], test[i]["counterpart"]])
show(rows, ["source", "attention", "true mask", "translation", "truth"])

# %% [markdown]
# The judge's table, on 256 test scenes: *background change* is what a translation did outside the object.

# %%
lightning(f"test --config {SAT.config} --ckpt_path {SAT.checkpoints_newest_first()[0]}")

# %% [markdown]
# ## The same in any room
#
# `FreezeNetworks` fixes any named network from any iteration on, `EnterStage` tells the room that a stage begins, and `AdaptiveLambda`
# raises any weight. Here CycleGAN, which knows nothing of either: its cycle weights grow until the adversarial loss passes 1.5, and the
# generator back to the source is fixed from the middle on.

# %%
length = 4 if SHORT else 120
frozen = length // 2
staged = f"""
trainer:
  callbacks:
    - class_path: zoo.callbacks.AdaptiveLambda
      init_args: {{weight: lambda_cycle_source, loss: loss/adversarial_target, step: 0.5, interval: 5, threshold: 1.5}}
    - class_path: zoo.callbacks.FreezeNetworks
      init_args: {{networks: [to_source], at: {frozen}}}
"""
overlay = CYCLEGAN.folder.with_name("staged.yaml")
overlay.parent.mkdir(parents=True, exist_ok=True)
overlay.write_text(staged)
fit(
    CYCLEGAN,
    f"--config zoo/cyclegan.yaml --config configs/demo/cyclegan.yaml --config {overlay} --metrics.every 1 --judge.enabled false "
    f"--trainer.max_steps {length} --trainer.val_check_interval {length} --samples.every {length} --checkpoints.every {frozen}",
)
curves = {
    "weight/lambda_cycle_source": "weight of the cycle from the source",
    "loss/adversarial_target": "adversarial loss",
}
_, axes = plt.subplots(1, 2, figsize=(9, 2.6))
for axis, title, points in zip(axes, curves.values(), columns(CYCLEGAN, *curves), strict=True):
    axis.plot(*points)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("iteration")
plt.tight_layout()
plt.show()

# %% [markdown]
# How far the weights moved after the freeze, from the two checkpoints:

# %%
at_the_end, at_the_freeze = (read_checkpoint(path)["state_dict"] for path in CYCLEGAN.checkpoints_newest_first()[:2])
for name in ("to_target", "to_source"):
    moved = [
        float((at_the_end[key] - at_the_freeze[key]).abs().max()) for key in at_the_end if key.startswith(f"{name}.")
    ]
    print(f"{name}: {max(moved):.4f}")

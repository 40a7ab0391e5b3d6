# %% [markdown]
# # From a BigGAN to a translator
#
# GP-UNIT translates between domains that have nothing in common but layout, because a GAN that draws many classes taught it what
# layout is: **one latent code, drawn in two classes, gives two pictures that are laid out alike**. Here is the whole road in small, on
# rendered scenes: train a BigGAN, draw pairs, distil a content encoder from them, train GP-UNIT on it, translate. Nothing is downloaded.
#
# On one CPU core all of it takes about three quarters of an hour; what is finished is not done again, so a second pass is quick. `make
# demo-biggan` does the same without the talk. What is typed into `lightning(...)` is what one types behind `lightning` in a terminal.

# %%
import csv
import json
import os
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image

from datamodules import BigGANPairs, Scenes
from zoo.biggan.pairs import PairGenerator
from zoo.biggan.sampling import interpolate
from zoo.cli.main import main
from zoo.core.images import from_uint8, to_pil
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.gpunit.prior import picture_of

ITERATIONS = int(
    os.environ.get("BIGGAN_PAIRS_ITERATIONS", "0")
)  # of each training; 0 for the overlays' own. The tests take 2
PICTURES, CODES = (
    (60, 32) if ITERATIONS else (600, 256)
)  # of each look that pairs have; that the correlation is measured with

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started

LOOKS = ("plain", "striped", "dotted", "checked")
BIGGAN, PRIOR, GPUNIT = (Run(Path("runs", recipe, "notebook")) for recipe in ("biggan", "gpunit_prior", "gpunit"))
TRAIN, TEST = BIGGAN.folder / "pairs" / "train", BIGGAN.folder / "pairs" / "test"


def lightning(words: str) -> None:
    """Run the `lightning` command, and stop here if it fails."""
    if main(shlex.split(words)) != 0:
        raise RuntimeError("the command failed; its last line says why")


def fit(run: Run, words: str) -> None:
    """Train, or go on with a run that was stopped."""
    short = f" --trainer.max_steps {ITERATIONS} --trainer.val_check_interval {ITERATIONS}" if ITERATIONS else ""
    begun = run.record.is_file()
    lightning(f"fit --resume {run.folder}" if begun else f"fit {words} --run.name {run.folder.name}{short}")


def show(rows: list[list[torch.Tensor]], titles: list[str]) -> None:
    """Show pictures `c h w` in [-1, 1] (or uint8), titles on top."""
    _, grid = plt.subplots(len(rows), len(rows[0]), figsize=(1.2 * len(rows[0]), 1.25 * len(rows)), squeeze=False)
    for axes, pictures in zip(grid, rows, strict=True):
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(to_pil(picture), cmap="gray", interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(grid[0], titles, strict=False):
        axis.set_title(title, fontsize=9)
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## Train a BigGAN
#
# Its classes are the looks of the objects. It learns from single scenes and never sees one content in two looks: that one code
# gives one layout in all classes is not taught, it falls out of how the network is built. The overlay `configs/demo/biggan.yaml` makes the
# paper's recipe small: 32x32, narrow networks.

# %%
fit(BIGGAN, "--config zoo/biggan.yaml --config configs/demo/biggan.yaml")

# %% [markdown]
# The last grid of the run: pictures of the data, then one latent code per row in every class.

# %%
Image(filename=sorted(BIGGAN.samples.glob("*.png"))[-1], width=420)

# %% [markdown]
# ## One code, four looks
#
# `PairGenerator` draws picture number n of any class; the number stands for a latent code. It uses the generator's moving average,
# with standing statistics: batch norms are told what pictures of this truncation look like inside, by sixteen batches of them.

# %%
source = PairGenerator(str(BIGGAN.folder), ["all"])
source.setup()
rows = [[*source.draw([number] * len(LOOKS), torch.arange(len(LOOKS)))] for number in range(5)]
show(rows, list(LOOKS))

# %% [markdown]
# From one code to another, in steps, with the class held; then from class to class, with the code held.

# %%
model = source.model
ends = torch.stack([source.latent(1), source.latent(2)])
path = interpolate(ends[:1], ends[1:], 5)[0]
with torch.no_grad(), model.aside("interpolation"):
    codes = model.generate(path, torch.full((7,), 1))
    embeddings = model.inference_generator.shared(torch.tensor([0, 1]))
    between = interpolate(embeddings[:1], embeddings[1:], 5)[0]
    classes = model.inference_generator.draw(ends[:1].expand(7, -1), between)
show([list(codes), list(classes)], [])

# %% [markdown]
# ## Draw pairs
#
# `lightning generate pairs` writes them in the layout of synImageNet291, the set that GP-UNIT's authors drew with the published BigGAN:
# a folder per class, and the same file name for the same code. The discriminator ranks the codes of every twenty, and the best thirteen
# stay; masks of the objects come from the scenes' judge (from Mask R-CNN where pictures are photographs). Other codes, by another
# seed, are for validation.

# %%
draw = f"generate pairs --weights {BIGGAN.folder} --domains all --masks judge"
lightning(f"{draw} --per-domain {PICTURES} --out {TRAIN}")
lightning(f"{draw} --per-domain {PICTURES // 10} --out {TEST} --seed 1")

# %% [markdown]
# What the discriminator put first and last in the first block of twenty:

# %%
manifest = json.loads((TRAIN / "manifest.json").read_text())
block = sorted(range(20), key=lambda number: manifest["latents"][str(number)]["rank"])
chosen = [*block[:4], *block[-4:]]
rows = [[*source.draw(chosen, torch.full((8,), look))] for look in range(len(LOOKS))]
show(rows, [f"rank {manifest['latents'][str(number)]['rank']}" for number in chosen])

# %% [markdown]
# ## Is the layout shared?
#
# The judge finds the object in every picture. If two pictures of one code are laid out alike, their objects overlap; those of two codes
# overlap by chance. Three seeds, 256 codes each.

# %%
for seed in range(3):
    lightning(f"generate correlation --weights {BIGGAN.folder} --domains all --seed {seed} --count {CODES}")

# %% [markdown]
# ## Distil the content encoder
#
# GP-UNIT's first stage: an autoencoder splits pictures into content, one channel of 8x8 numbers, and style. Contents of a pair are pulled
# together, and a classifier that tries to tell the class from the content is fooled.

# %%
folders = f"--data.pairs {TRAIN} --data.pairs_masks {TRAIN}_mask --data.validation_pairs {TEST} --data.validation_pairs_masks {TEST}_mask"
fit(PRIOR, f"--config zoo/gpunit_prior.yaml --config configs/demo/gpunit_prior_generated.yaml {folders}")

# %% [markdown]
# Pairs that BigGAN drew of codes kept for validation, and the contents that the encoder finds in them: much alike within a pair,
# whatever the looks, and unlike from row to row.

# %%
prior = load_translator(PRIOR.folder)
pairs = BigGANPairs(pairs=str(TRAIN), validation_pairs=str(TEST), size=64, workers=0, validation_count=5)
pairs.setup("validate")
held_out = [pairs.fixed_samples("validate")[i] for i in range(5)]
rows = []
for sample in held_out:
    x, y = (from_uint8(sample[key])[None] for key in ("x", "y"))
    with torch.no_grad():
        contents = [picture_of(prior.content_encoder(image)[0], image)[0] for image in (x, y)]
    rows.append([x[0], y[0], *contents])
show(rows, ["x", "y", "content of x", "content of y"])

# %% [markdown]
# ## Train GP-UNIT on it
#
# The second stage: the content encoder is frozen, and a generator learns to draw striped objects from the contents of plain ones, in an
# exemplar's style. These are true scenes at 64x64, which neither BigGAN's pictures nor the encoder's were.

# %%
fit(GPUNIT, f"--config zoo/gpunit.yaml --config configs/demo/gpunit.yaml --model.content_encoder {PRIOR.folder}")

# %%
with GPUNIT.metrics.open() as file:
    table = [row for row in csv.DictReader(file) if row.get("val/style_accuracy")]
for row in table:
    print(row["iteration"], *(f"{name} {float(row[f'val/{name}']):.3f}" for name in ("style_accuracy", "object_iou")))

# %% [markdown]
# ## Translate
#
# Test scenes that nothing was trained on: source, exemplar, translation, and the truth, which is known because scenes are rendered.

# %%
translator = load_translator(GPUNIT.folder)
test = Scenes(domains=LOOKS[:2], size=64).fixed_samples("test")
rows = []
for i in range(5):
    scene, exemplar, truth = (from_uint8(test[i][key])[None] for key in ("source", "target", "counterpart"))
    translation = translator.translate(scene, reference=exemplar)
    rows.append([scene[0], exemplar[0], translation[0], truth[0]])
show(rows, ["source", "exemplar", "translation", "truth"])

# %% [markdown]
# The judge's table on 256 test scenes. `make demo` does the second stage on the content encoder that comes with the package, which was
# distilled from rendered pairs: the README shows its table.

# %%
lightning(f"test --config {GPUNIT.config} --ckpt_path {GPUNIT.checkpoints_newest_first()[0]}")

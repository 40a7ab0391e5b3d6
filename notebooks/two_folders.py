# %% [markdown]
# # Your own two folders
#
# Two folders of pictures that have nothing to do with one another, and a translator between them: what to type, what is said when a folder
# is wrong, and how to see whether it works. The pictures here are rendered, so that nothing is downloaded and the truth is known; yours go
# the same way, at a larger size. The notebook takes a few minutes on one CPU core.
#
# What is typed into `lightning(...)` below is what one types behind `lightning` in a terminal.

# %%
import contextlib
import io
import os
import shlex
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image

from datamodules import Scenes
from zoo.cli.main import main
from zoo.cli.translate import read
from zoo.core.images import save_png, to_pil
from zoo.core.runs import Run
from zoo.metrics.judge import Judge

ITERATIONS = int(os.environ.get("TWO_FOLDERS_ITERATIONS", "600"))  # the tests take 3

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started

PHOTOS = Path("runs/two_folders/photos")
RUN = Run(Path("runs/two_folders/notebook"))
shutil.rmtree(PHOTOS.parent, ignore_errors=True)  # what an earlier run of this notebook left


def lightning(words: str, expected: int = 0) -> None:
    """Run the `lightning` command, print what it says (paths from this folder on), and stop here if it ends otherwise than expected."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(shlex.split(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
    print(said.getvalue().replace(f"{Path.cwd()}/", ""))
    if code != expected:
        raise RuntimeError("the command ended otherwise than expected; its last line says why")


def show(rows: list[list[torch.Tensor]], titles: list[str]) -> None:
    """Show pictures `c h w` in [-1, 1] (or uint8), a row per scene, titles on top."""
    _, grid = plt.subplots(len(rows), len(titles), figsize=(1.3 * len(titles), 1.35 * len(rows)), squeeze=False)
    for axes, pictures in zip(grid, rows, strict=True):
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(to_pil(picture), interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## Two folders
#
# One folder for each kind of picture, with any names, sizes and formats in it, in subfolders or not. Here 200 plain objects and 200 striped
# ones, of different scenes; a few dozen more of the plain ones are kept for later, in a folder that the training does not see.

# %%
scenes = Scenes(domains=("plain", "striped"), size=48, styles="fixed")
train, test = scenes.train_samples(), scenes.fixed_samples("test")
for i in range(200):
    save_png(train(i)["source"], PHOTOS / "plain" / f"{i}.png")
    save_png(train(i)["target"], PHOTOS / "striped" / f"{i}.png")
for i in range(24):
    save_png(test[i]["source"], PHOTOS / "unseen" / f"{i}.png")

show([[train(i)[name] for i in range(6)] for name in ("source", "target")], ["", "", "", "", "", ""])

# %% [markdown]
# ## What is said when a folder is wrong
#
# Everything is looked at before anything is built, and answered in one line that says what to type. A name with a slip:

# %%
RECIPE = "--config zoo/cyclegan.yaml --data.validation_fraction 0.1"
lightning(f"fit {RECIPE} --data.source {PHOTOS}/plian --data.target {PHOTOS}/striped", expected=2)

# %% [markdown]
# The same folder twice, and a folder without pictures:

# %%
lightning(f"fit {RECIPE} --data.source {PHOTOS}/plain --data.target {PHOTOS}/plain", expected=2)
(PHOTOS / "empty").mkdir()
(PHOTOS / "empty" / "notes.txt").write_text("no pictures yet")
lightning(f"fit {RECIPE} --data.source {PHOTOS}/plain --data.target {PHOTOS}/empty", expected=2)

# %% [markdown]
# Some files are always bad: a download that broke off, a text with the wrong ending. A few are left out, and the first lines of the
# training below say which; beyond a share of them (`--data.max_bad_share`) the folder is refused.

# %%
whole = (PHOTOS / "plain" / "0.png").read_bytes()
(PHOTOS / "plain" / "broken.png").write_bytes(whole[: len(whole) // 2])
(PHOTOS / "plain" / "letter.jpg").write_text("Dear reader")

# %% [markdown]
# ## Train
#
# The recipe is CycleGAN's, made small by options: 48 pixels, a U-Net, and a rate that is higher than the paper's and falls in the last
# third.

# %%
lightning(f"""
    fit {RECIPE} --data.source {PHOTOS}/plain --data.target {PHOTOS}/striped --data.check full
    --data.size 48 --data.load_size 52 --data.batch_size 4 --data.workers 0
    --model.generator unet --model.unet_depth 4 --model.generator_channels 16 --model.discriminator_channels 24
    --model.discriminator_layers 2 --model.adversarial bce --model.learning_rate 0.001 --model.ema_decay 0.98
    --model.iterations_per_epoch 1 --model.constant_epochs {ITERATIONS - ITERATIONS // 3} --model.decay_epochs {ITERATIONS // 3}
    --trainer.max_steps {ITERATIONS} --trainer.val_check_interval {ITERATIONS} --trainer.accelerator cpu
    --samples.every {ITERATIONS} --checkpoints.every {ITERATIONS}
    --run.recipe two_folders --run.name {RUN.folder.name}
""")

# %% [markdown]
# The run's folder has everything: configuration, losses, checkpoints, and the same few pictures of the tenth that was held out, both
# domains, their translations and the way back.

# %%
Image(filename=sorted(RUN.samples.glob("*.png"))[-1], width=800)

# %% [markdown]
# ## Translate
#
# The pictures that were kept aside, all in one line. `sheet.png` has sources and translations side by side.

# %%
lightning(f"translate {RUN.folder} {PHOTOS}/unseen --output {RUN.folder}/translated --overwrite")

# %%
translations = [read(RUN.folder / "translated" / f"{i}.png", None)[0] for i in range(24)]
columns = zip((test[i] for i in range(6)), translations, strict=False)
show(
    [[sample["source"], translation, sample["counterpart"]] for sample, translation in columns],
    ["source", "translation", "truth"],
)

# %% [markdown]
# ## Is it any good?
#
# With pictures of your own there is no truth; looking at many is what is left, and figures such as FID (`python -m
# zoo.metrics.domain_protocol`) that compare whole sets. Rendered scenes have a **judge**: how many translations have the target's look
# (*style accuracy*), and whether the objects are where they were (*object IoU*). The sources as they are stand beside it: every
# translator has to beat them in the first and to come near them in the second.

# %%
judge = Judge.load(("plain", "striped"))
masks = torch.stack([test[i]["mask"] for i in range(24)]) > 0.5
sources = torch.stack([read(PHOTOS / "unseen" / f"{i}.png", None)[0] for i in range(24)])
for name, pictures in (("sources as they are", sources), ("translations", torch.stack(translations))):
    found, looks = judge.see(pictures)
    found = torch.nn.functional.interpolate(found, masks.shape[-2:]) > 0.5
    overlap = (found & masks).sum((1, 2, 3)) / (found | masks).sum((1, 2, 3))
    print(
        f"{name:<20} style accuracy {float((looks == 1).float().mean()):.2f}   object IoU {float(overlap.mean()):.2f}"
    )

# %% [markdown]
# A few hundred iterations begin to paint the look. The README says how to train on a folder of photographs, at 256 pixels on a GPU or at 64
# without one, and how to go on after a crash (`lightning fit --resume`).

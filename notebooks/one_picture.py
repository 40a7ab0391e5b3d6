# %% [markdown]
# # One picture
#
# ConSinGAN learns from a single picture, coarse to fine: a small generator first, which then grows stage by stage. What it has learned
# makes other pictures of the same kind: random ones, wider or higher ones, and a film. Here the picture is a rendered texture. Nothing
# is downloaded. The notebook takes a few minutes on one CPU core.
#
# What is typed into `lightning(...)` below is what one types behind `lightning` in a terminal.

# %%
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
from zoo.cli.videos import open_film
from zoo.core.images import save_png, to_pil
from zoo.core.runs import Run

ITERATIONS = int(os.environ.get("ONE_PICTURE_ITERATIONS", "300"))  # of each stage; the tests take 2
STAGES = 3

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started

FOLDER = Path("runs/one_picture")
PICTURE = FOLDER / "dots.png"
SAMPLES, MOTION = Run(FOLDER / "samples"), Run(FOLDER / "motion")
shutil.rmtree(FOLDER, ignore_errors=True)  # what an earlier run of this notebook left


def lightning(words: str) -> None:
    """Run the `lightning` command, and stop here if it fails."""
    if main(shlex.split(words)) != 0:
        raise RuntimeError("the command failed; its last line says why")


def show(pictures: list[torch.Tensor], titles: list[str], height: float = 1.5) -> None:
    """Show pictures `c h w` in [-1, 1] in a row, all of one height."""
    shares = [picture.shape[2] / picture.shape[1] for picture in pictures]
    _, axes = plt.subplots(
        1, len(pictures), figsize=(height * sum(shares), 1.2 * height), width_ratios=shares, squeeze=False
    )
    for axis, picture, title in zip(axes[0], pictures, titles, strict=True):
        axis.imshow(to_pil(picture), interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## The picture
#
# Any file will do (`--data.picture photo.jpg`). The paper's pictures have 250 pixels; this one is small, for the sake of time: a part of
# a dotted object, seen from near.

# %%
maker = Scenes(task="domains", domains=("plain", "dotted"), size=160).maker
(scene,) = maker.paint(3, (1, maker.style(3, 1)))
rows, columns = (places.float().mean().round().int() for places in scene.mask[0].bool().nonzero(as_tuple=True))
save_png(scene.image[:, rows - 22 : rows + 22, columns - 30 : columns + 30], PICTURE)
Image(filename=PICTURE, width=240)

# %% [markdown]
# ## Train
#
# Three stages, each with a larger picture. In each, the generator gets three more layers, the newest stages learn on, and a discriminator
# compares patches. Every stage leaves a grid of samples.

# %%
SMALL = f"""
    --config zoo/consingan.yaml --data.picture {PICTURE} --model.channels 32 --model.stages {STAGES} --model.min_size 20 --model.max_size 60
    --model.stage_iterations {ITERATIONS} --model.decay_iteration {ITERATIONS * 4 // 5} --trainer.accelerator cpu
    --samples.every {ITERATIONS} --checkpoints.every {ITERATIONS} --run.recipe one_picture
"""
lightning(f"fit {SMALL} --model.task retarget --run.name {SAMPLES.folder.name}")

# %% [markdown]
# ## Samples of any size
#
# Noise of the picture's size gives pictures of its size, and noise of another size gives those: twice as wide, or half as high again. They
# are made of the picture's parts, in an order of their own.

# %%
made = FOLDER / "made"
lightning(f"single sample {SAMPLES.folder} --count 4 --output {made}/same --seed 1")
lightning(f"single sample {SAMPLES.folder} --count 2 --width 2 --output {made}/wide --seed 1")
lightning(f"single sample {SAMPLES.folder} --count 2 --height 1.5 --output {made}/high --seed 1")

# %%
picture = read(PICTURE, None)[0]
show(
    [picture, *(read(made / "same" / f"sample_00{number}.png", None)[0] for number in range(4))],
    ["the picture", *(f"sample {number}" for number in range(4))],
)
show([read(made / "wide" / f"sample_00{number}.png", None)[0] for number in range(2)], ["twice as wide", ""])
show([read(made / "high" / f"sample_00{number}.png", None)[0] for number in range(2)], ["higher", ""], height=2)

# %% [markdown]
# ## Does it copy?
#
# A generator that had learned the picture by heart would give it back. Two figures tell: how far samples are from the picture, and from
# one another. Both are mean differences of pixels, of a range of 255.

# %%
samples = torch.stack([read(made / "same" / f"sample_00{number}.png", None)[0] for number in range(4)])
away = 127.5 * (samples - picture).abs().mean()
apart = 127.5 * torch.stack([(samples[i] - samples[j]).abs().mean() for i in range(4) for j in range(i)]).mean()
print(f"samples and the picture: {away:.1f}   samples and samples: {apart:.1f}   (0: copies)")

# %% [markdown]
# ## A film
#
# For films the model is trained with `--model.task animation`: its noise enters once, so a walk through the noise moves the whole picture
# smoothly. `--beta` says how smooth the walk is, `--alpha` how strongly it is drawn back to the picture.

# %%
lightning(f"fit {SMALL} --model.task animation --run.name {MOTION.folder.name}")
lightning(f"single animate {MOTION.folder} --frames 24 --fps 8 --alpha 0.1 --beta 0.9 --output {made}")
film = made / "start0_beta0.9.gif"

# %%
frames = [frame[0] for frame in open_film(film).frames()]
shown = frames[:: max(1, len(frames) // 6)][:6]
show(shown, [f"frame {number * max(1, len(frames) // 6)}" for number in range(len(shown))])
Image(filename=film, width=200)

# %% [markdown]
# `--format mp4` writes a video. SinGAN, whose recipe is `zoo/singan.yaml`, does the same and more by the same command: it paints, edits,
# harmonises and enlarges (`lightning single --help`).

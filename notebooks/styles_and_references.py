# %% [markdown]
# # Styles and references
#
# One model, many domains, many styles in each: StarGAN v2 paints a picture in the style of a **reference**, or in a **random style**, and
# goes smoothly from one to the next. Here four looks of rendered objects are the domains, and colours and patterns are the styles.
# Nothing is downloaded. The notebook takes a quarter of an hour on one CPU core.
#
# What is typed into `lightning(...)` below is what one types behind `lightning` in a terminal.

# %%
import os
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image

import zoo
from datamodules import Scenes
from zoo.cli.main import main
from zoo.cli.videos import open_film
from zoo.core.images import from_uint8, save_png, to_pil
from zoo.core.runs import Run

ITERATIONS = int(os.environ.get("STYLES_ITERATIONS", "1500"))  # the tests take 3
LOOKS = ("plain", "striped", "dotted", "checked")

if Path.cwd().name == "notebooks":
    os.chdir("..")  # runs lie in the repository's runs/, wherever Jupyter was started

RUN = Run(Path("runs/starganv2/notebook"))


def lightning(words: str) -> None:
    """Run the `lightning` command, and stop here if it fails."""
    if main(shlex.split(words)) != 0:
        raise RuntimeError("the command failed; its last line says why")


def show(rows: list[list[torch.Tensor]], titles: list[str]) -> None:
    """Show pictures `c h w` in [-1, 1], titles on top."""
    _, grid = plt.subplots(len(rows), len(titles), figsize=(1.2 * len(titles), 1.25 * len(rows)), squeeze=False)
    for axes, pictures in zip(grid, rows, strict=True):
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(to_pil(picture), interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## Domains and styles
#
# A *domain* is what kind of picture it is: here the object's look. A *style* is how a picture of that kind looks: here its colours, how
# wide its stripes are, how they lie. The content, which object lies where on which background, is neither, and has to stay.

# %%
maker = Scenes(task="domains", domains=LOOKS, size=32).maker
rows = []
for style in (3, 8, 21):  # of three scenes
    views = [(domain, maker.style(style, domain)) for domain in range(4)]
    rows.append([from_uint8(scene.image) for scene in maker.paint(0, *views)])
show(rows, list(LOOKS))

# %% [markdown]
# ## Train
#
# The paper's recipe with the demo's overlay: 32 pixels, narrow networks, and rates for hundreds of iterations in place of 100,000. Run it
# again with more of them, and the training goes on where it stood.

# %%
if RUN.record.is_file():
    lightning(f"fit --resume {RUN.folder} --trainer.max_steps {ITERATIONS}")
else:
    lightning(f"""
        fit --config zoo/starganv2.yaml --config configs/demo/starganv2.yaml --trainer.max_steps {ITERATIONS}
        --trainer.val_check_interval 250 --judge.enabled false --samples.every 250 --checkpoints.every 250
        --run.name {RUN.folder.name}
    """)

# %% [markdown]
# ## Styles of references
#
# Pictures in folders that are named like their domains are references. `lightning styles` lays out every picture in the style of each:
# pictures on top, references on the left. Each row should have the reference's look and colours, each column its picture's content.

# %%
test = Scenes(task="alone", domains=LOOKS, size=32, test_count=400).fixed_samples("test")
taken = dict.fromkeys(LOOKS, 0)
for i in range(400):
    look = LOOKS[test[i]["domain"]]
    if taken[look] < 6:
        part = "references" if taken[look] < 2 else "pictures"
        save_png(test[i]["image"], RUN.folder / part / look / f"{i}.png")
        taken[look] += 1
lightning(f"""
    styles {RUN.folder} {RUN.folder}/pictures/plain {RUN.folder}/pictures/checked --references {RUN.folder}/references
    --output {RUN.folder}/shown --only reference film --count 6 --overwrite
""")
Image(filename=RUN.folder / "shown" / "reference.png", width=420)

# %% [markdown]
# ## Random styles
#
# No reference is needed: a mapping network makes styles of random numbers, a row each, the same for a whole row. With *truncation* below 1
# they lie nearer to the domain's mean style: less varied, and mostly better.

# %%
lightning(f"""
    styles {RUN.folder} {RUN.folder}/pictures/plain --output {RUN.folder}/shown --only latent --to striped dotted
    --latents 3 --truncation 0.5 1 --count 6 --seed 1 --overwrite
""")
sheets = [plt.imread(RUN.folder / "shown" / f"latent_{truncation}.png") for truncation in ("0.5", "1")]
_, axes = plt.subplots(1, 2, figsize=(5, 4))
for axis, sheet, truncation in zip(axes, sheets, (0.5, 1), strict=True):
    axis.imshow(sheet, interpolation="nearest")
    axis.set_title(f"truncation {truncation:g}", fontsize=9)
    axis.axis("off")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## From style to style
#
# `styles` also wrote a film that goes from each reference to the next of its domain, `film.webp` (`--film .mp4` writes a video). Here
# four of its frames: on the left the references slide by, on the right the pictures follow them.

# %%
frames = [frame[0] for frame in open_film(RUN.folder / "shown" / "film.webp").frames()]
print(f"{len(frames)} frames of {frames[0].shape[2]}x{frames[0].shape[1]} pixels")
_, axes = plt.subplots(4, 1, figsize=(3.2, 4 * 3.2 * frames[0].shape[1] / frames[0].shape[2]))
for number, axis in enumerate(axes):
    axis.imshow(to_pil(frames[number * len(frames) // 4]))
    axis.axis("off")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## The same in Python
#
# A style is a row of numbers. Between those of two references lie all that the film went through: here seven steps, for three pictures.

# %%
model = zoo.load(RUN.folder)
folder = RUN.folder / "references" / "striped"
one, other = (from_uint8(test[int(path.stem)]["image"])[None] for path in sorted(folder.glob("*.png"))[:2])
striped = torch.tensor([LOOKS.index("striped")])
with torch.no_grad():
    begin, end = (model.averages.style_encoder(reference, striped) for reference in (one, other))
pictures = [from_uint8(test[i]["image"])[None] for i in range(400) if test[i]["domain"] == 0][6:9]
rows = []
for picture in pictures:
    with torch.no_grad():
        between = [model.averages.generator(picture, torch.lerp(begin, end, step / 6)) for step in range(7)]
    rows.append([picture[0], *(made[0].clamp(-1, 1) for made in between)])
blank = torch.ones_like(one[0])
show([[blank, one[0], *[blank] * 5, other[0]], *rows], ["picture", "one", *[""] * 5, "other"])

# %% [markdown]
# Some hundred iterations are few: places and colours come first, the patterns of a look last. Stripes, above all, take longer than this.
#
# `lightning translate RUN PICTURES --to striped --reference PICTURE` (or `--latents 6`) writes single translations. GP-UNIT and HiDT take
# exemplars and random styles by the same options, and HiDT makes time lapses between them (`--lapse`).

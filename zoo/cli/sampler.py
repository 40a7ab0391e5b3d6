"""`lightning sampler RUN|CHECKPOINT`: fit the style sampler of a finished checkpoint, and write the checkpoint back."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.folders import PictureSet, check_pictures, find_pictures
from datamodules.preprocess import Transform, side_before_crop
from datamodules.unpaired import OneDomain
from zoo.cli.config_errors import cannot_build
from zoo.cli.fit import quieten
from zoo.cli.lookup import read_yaml
from zoo.cli.parser import CommandParser
from zoo.cli.translate import pick_device
from zoo.core.checkpoints import SafeCheckpointIO, read_checkpoint
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import Run, writing
from zoo.core.translator import Translator
from zoo.errors import ZooError

DOMAIN = "target"
BATCH = 16  # pictures whose styles are taken at a time, where no run says otherwise: GP-UNIT's official code


def run(arguments: Sequence[str]) -> int:
    """Run `lightning sampler`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    quieten()
    options = parse(arguments)
    path = find_checkpoint(options.checkpoint)
    model = load_translator(path)
    settings = fit_options(model, options)
    output = options.output or path
    owner = run_of(output)
    with ExitStack() as held:
        if owner is not None:
            held.enter_context(writing(owner))
        loader = pictures_of(path, options.images, model)
        checkpoint = read_checkpoint(path)
        model.to(pick_device(options.device))
        model.draws.device = model.device
        model.draws.seed = int(checkpoint["zoo"].get("seed", 0)) if options.seed is None else options.seed
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.fit_sampler(loader, **settings)  # type: ignore[operator]
        replace_changed(checkpoint["state_dict"], before, model.state_dict())
        SafeCheckpointIO().save_checkpoint(checkpoint, output)
    print(f"The sampler is fitted, and the checkpoint written to {output}")
    print(f"Random styles: lightning translate {output} PICTURES --output translated")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = CommandParser(
        prog="lightning sampler",
        synopsis="RUN [--images FOLDER] [--output FILE]",
        description="Fit the style sampler of a finished checkpoint: it learns the styles of the target domain's pictures.",
        epilog="Example: lightning sampler runs/gpunit/<name>",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run's folder (its newest checkpoint)")
    parser.add_argument(
        "--images", nargs="+", help="folders of target pictures (default: those of the run's config.yaml)"
    )
    parser.add_argument("--output", type=Path, help="where to write the checkpoint (default: in place of the old one)")
    parser.add_argument("--steps", type=int, help="styles to learn from in all (default: the model's setting)")
    parser.add_argument(
        "--mitigate-style-bias",
        action="store_true",
        default=None,
        help="learn from rare styles more often (default: the model's setting)",
    )
    parser.add_argument("--seed", type=int, help="of what the sampler draws (default: the run's)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.steps is not None and options.steps < 1:
        raise ZooError(f"--steps is {options.steps}; expected at least 1, such as --steps 2000000.")
    if options.output is not None and options.output.is_dir():
        raise ZooError(f"--output {options.output} is a folder; expected a file, such as --output sampled.ckpt.")
    return options


def fit_options(model: Translator, options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of the room's `fit_sampler` that the command line fills, and a printer where it takes one.

    Raises:
        ZooError: the room has no sampler, or does not take an option.
    """
    room, fit = type(model).__name__, getattr(type(model), "fit_sampler", None)
    if fit is None:
        raise ZooError(
            f"{room} has no style sampler to fit; translate without one: lightning translate {options.checkpoint}"
        )
    known = inspect.signature(fit).parameters
    given = {"steps": options.steps, "mitigate_style_bias": options.mitigate_style_bias}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in known:
            raise ZooError(f"{room}'s sampler has no such setting: leave --{name.replace('_', '-')} out.")
    return given | ({"report": _say} if "report" in known else {})


def pictures_of(checkpoint: Path, images: Sequence[str] | None, model: Translator) -> DataLoader[Any]:
    """One pass over the target pictures, uint8, as training sees them.

    Args:
        checkpoint: whose run says which data it was trained on.
        images: folders that take the place of that data.
        model: whose `image_size` pictures get where no run tells more.

    Raises:
        ZooError: nothing says where pictures are.
        DataError: there are none.
    """
    owner = run_of(checkpoint)
    config = read_yaml(owner.config) if owner is not None and owner.config.is_file() else {}
    node = config.get("data") if isinstance(config, dict) else None
    settings: Mapping[str, Any] = (node.get("init_args") or {}) if isinstance(node, dict) else {}
    if images:
        return from_folders(images, settings, int(getattr(model, "image_size", settings.get("size") or 256)))
    if not isinstance(config, dict) or not isinstance(node, dict):
        raise ZooError(f"{checkpoint} lies in no run's folder that says what it was trained on. Say: --images FOLDER")
    data = build_data({**node, "init_args": {**settings, "seed": config.get("seed_everything", 0)}})
    data.setup("fit")
    if not hasattr(data, "domain_loader"):
        raise ZooError(f"{type(data).__name__} cannot be gone through picture by picture. Say: --images FOLDER")
    return data.domain_loader(DOMAIN, settings.get("batch_size", BATCH), drop_last=True)


def build_data(node: Mapping[str, Any]) -> LightningDataModule:
    """The data module of a configuration's `data`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    try:
        return parser.instantiate(parser.parse_object({"data": dict(node)})).data
    except (ValueError, argparse.ArgumentError) as error:
        raise ZooError(cannot_build(str(error))) from error


def from_folders(folders: Sequence[str], settings: Mapping[str, Any], size: int) -> DataLoader[Any]:
    """Pictures of folders, cropped and mirrored as the run's data was, where its settings say how."""
    transform = Transform(
        settings.get("preprocess", "resize_and_crop"),
        settings.get("load_size") or side_before_crop(size),
        size,
        interpolation=settings.get("interpolation", "bicubic"),
    )
    good = check_pictures(
        find_pictures(folders, "images"), "images", check="header", min_side=16, max_bad_share=0.05
    ).good
    pictures = PictureSet("images", good, seed=0, max_bad_share=0.05, cache=None)
    samples = OneDomain(DOMAIN, pictures, transform, seed=0, flip=settings.get("flip", True))
    batch = settings.get("batch_size", BATCH)
    return DataLoader(samples, batch_size=batch, drop_last=len(samples) >= batch)  # type: ignore[arg-type]


def run_of(path: Path) -> Run | None:
    """The run that a checkpoint belongs to by its place, None where it lies elsewhere."""
    owner = Run(path.resolve().parent.parent)
    return owner if path.parent.name == "checkpoints" and owner.record.is_file() else None


def replace_changed(kept: dict[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Put into a state dict what the fit changed; the rest stays as it was, to the bit and in its precision."""
    for name, value in after.items():
        if not torch.equal(before[name], value):
            kept[name] = value.detach().cpu().to(kept[name].dtype)


def _say(line: str) -> None:
    print(line, flush=True)

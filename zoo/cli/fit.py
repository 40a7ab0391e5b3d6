"""`lightning fit|validate|test|predict`: a recipe, its overlays and options become a run."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from zoo.callbacks import Checkpoints, Metrics, Progress, RunFolder, SampleGrids
from zoo.callbacks.judging import SceneJudge
from zoo.cli.config_errors import explain
from zoo.core.checkpoints import read_checkpoint
from zoo.core.numbers import BadNumbers, BadNumbersAction
from zoo.core.precision import refuse_half_precision
from zoo.core.runs import Run, find_run, new_run
from zoo.core.translator import Translator
from zoo.errors import ZooError

STANDARD_CALLBACKS: dict[str, type[Callback]] = {
    "checkpoints": Checkpoints,
    "samples": SampleGrids,
    "metrics": Metrics,
    "progress": Progress,
    "judge": SceneJudge,
}
RUN_VARIABLE = "ZOO_RUN_FOLDER"  # the launcher's child processes inherit the run that rank 0 has chosen


@dataclass
class RunSettings:
    """Where a run lies.

    Args:
        root: folder of all runs.
        recipe: the recipe's name; taken from the first --config file by default.
        name: the run's own name; the time of its start by default.
    """

    root: str = "runs"
    recipe: str | None = None
    name: str | None = None


@dataclass
class NumbersSettings:
    """What happens when a gradient is not finite.

    Args:
        action: stop with an error, skip the player's step (one host sync per step), or continue and only count.
        patience: with skip: so many bad iterations in a row stop the run all the same.
    """

    action: BadNumbersAction = "stop"
    patience: int = 100


class ZooParser(LightningArgumentParser):
    """Tells a mistake in one line instead of under sixty lines of usage."""

    of_command: ClassVar[ZooParser | None] = (
        None  # the parser that knows the settings: the outer one knows commands alone
    )

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise what is wrong as a sentence for a person."""
        raise ZooError(explain(message, self.of_command or self)) from ex


class ZooCLI(LightningCLI):
    """LightningCLI with any room as model and any data module, standard callbacks under keys of their own, and runs."""

    command: ClassVar[str]
    resume: ClassVar[Run | None]
    recipe: ClassVar[str]
    command_line: ClassVar[list[str]]

    @classmethod
    def start(
        cls, command: str, arguments: list[str], resume: Run | None, recipe: str, command_line: list[str]
    ) -> ZooCLI:
        """Parse the arguments, build everything and run the command."""
        subclass = type(
            cls.__name__, (cls,), {"command": command, "resume": resume, "recipe": recipe, "command_line": command_line}
        )
        inherited = RUN_VARIABLE in os.environ
        try:
            return subclass(
                Translator,
                LightningDataModule,
                args=[command, *arguments],
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,  # RunFolder keeps the configuration, where a second run can't trip over it
                seed_everything_default=0,
                trainer_defaults={"logger": False},
                parser_class=ZooParser,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,  # class paths have no place in a checkpoint
            )
        finally:
            if not inherited:  # the next run of this process chooses a folder of its own
                os.environ.pop(RUN_VARIABLE, None)

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """Only the one command that was typed: building a parser for each takes seconds."""
        return {cls.command: LightningCLI.subcommands()[cls.command]}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything."""
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="Seed of the run: weights, draws and data. 0 or more."
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Standard callbacks and settings under keys of their own, so that overlays need not restate a list."""
        ZooParser.of_command = parser  # type: ignore[assignment]
        for key, callback in STANDARD_CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        parser.add_class_arguments(RunSettings, "run")
        parser.add_class_arguments(NumbersSettings, "numbers")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.set_defaults({"run.recipe": self.recipe})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about arguments that do not come from the command line."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: Lightning would let a checkpoint override the command line and even the class."""

    @property
    def settings(self) -> Namespace:
        """The parsed configuration of the command."""
        return self.config[self.command]

    def before_instantiate_classes(self) -> None:
        """Choose the run and refuse a missing checkpoint before anything is built."""
        refuse_half_precision(self.settings.trainer.precision)
        self.run_folder = self._choose_run() if self.command == "fit" else None
        self.settings.ckpt_path = self._choose_checkpoint(self.settings.get("ckpt_path"))

    def instantiate_classes(self) -> None:
        """Build everything; what a constructor refuses comes wrapped in the parser's words, which are taken off again."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if "Does not validate against" not in str(error):
                raise
            raise ZooError(explain(str(error), self._parser(self.command))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with those standard callbacks that are enabled."""
        trainer_config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        callbacks = [self._get(self.config_init, key) for key in self._parser(self.command).callback_keys]
        callbacks = [callback for callback in callbacks if callback.enabled]
        for callback in callbacks:
            if hasattr(callback, "run"):
                callback.run = self.run_folder
        if self.run_folder is not None:
            title = _title(type(self.model))
            dump = self._parser(self.command).dump(self.settings, skip_none=False, skip_link_targets=True)
            callbacks.insert(
                0, RunFolder(self.run_folder, dump, self.command_line, title, self.settings.seed_everything)
            )
        own = trainer_config.get("callbacks") or []
        own = own if isinstance(own, list) else [own]
        if not any(isinstance(callback, Checkpoint) for callback in [*own, *callbacks]):
            trainer_config["enable_checkpointing"] = False
        if not any(isinstance(callback, Progress) for callback in callbacks):
            trainer_config["enable_progress_bar"] = False
        trainer_config["enable_model_summary"] = False  # the opening lines say what a person wants to see
        trainer_config["callbacks"] = own
        trainer = self._instantiate_trainer(trainer_config, callbacks)
        self.model.bad_numbers = BadNumbers(self.settings.numbers.action, self.settings.numbers.patience)
        return trainer

    @property
    def began(self) -> bool:
        """Whether a training has begun (a finished run has nothing left to do)."""
        return any(isinstance(callback, RunFolder) and callback.began for callback in self.trainer.callbacks)  # type: ignore[attr-defined]

    def _choose_run(self) -> Run:
        if RUN_VARIABLE in os.environ:
            return Run(Path(os.environ[RUN_VARIABLE]))
        if self.resume is not None:
            run = self.resume
        else:
            settings = self.settings.run
            run = new_run(Path(settings.root), settings.recipe, settings.name)
        os.environ[RUN_VARIABLE] = str(run.folder)
        return run

    def _choose_checkpoint(self, given: str | None) -> str | None:
        if self.resume is not None or given == "last":
            run = self.resume or find_run(
                Path(self.settings.run.root), self.settings.run.recipe, self.settings.run.name
            )
            checkpoint, complaints = run.newest_loadable_checkpoint()
            for complaint in complaints:
                print(f"lightning: passed over: {complaint}", file=sys.stderr)
            return str(checkpoint)
        if given is not None:
            read_checkpoint(Path(given), "meta")
        return given


def run(command: str, arguments: list[str]) -> int:
    """Run `lightning fit|validate|test|predict`.

    Args:
        command: which of the four.
        arguments: what stands behind it, with configuration files looked up already.

    Returns:
        The exit code.

    Raises:
        ZooError: something a person can mend.
    """
    quieten()
    command_line = [Path(sys.argv[0]).name, command, *arguments]
    arguments, resumed = take_resume(arguments)
    recipe = recipe_name(arguments)
    resume = None
    if resumed is not None:
        if command != "fit":
            raise ZooError(f"--resume belongs to fit. Say which checkpoint to {command}: --ckpt_path PATH")
        root = value_of("--run.root", arguments) or "runs"
        resume = find_run(Path(root), recipe or "", resumed or None)
        if recipe is None:
            arguments = ["--config", str(resume.config), *arguments]
            recipe = resume.folder.parent.name
    cli = ZooCLI.start(command, arguments, resume, recipe or "run", command_line)
    if command == "fit" and cli.trainer.global_step >= cli.trainer.max_steps > 0 and not cli.began:
        done = f"{cli.trainer.global_step:,} iterations are done"
        print(f"Nothing is left to do: {done}. More: --trainer.max_steps NUMBER")
    elif command == "fit" and cli.trainer.is_global_zero and cli.run_folder is not None:
        print("\n".join(closing_lines(cli.run_folder)))
    return 0


def closing_lines(folder: Run) -> list[str]:
    """What a person does next with a finished run: look at its last grid, translate pictures, train on."""
    grids, checkpoints = sorted(folder.samples.glob("iteration_*.png")), folder.checkpoints_newest_first()
    facts = {
        "grid": str(grids[-1]) if grids else "",
        "checkpoint": str(checkpoints[0]) if checkpoints else "",
        "translate": f"lightning translate {folder.folder} PICTURES --output translated" if checkpoints else "",
    }
    return [f"  {key:<11}{value}" for key, value in facts.items() if value]


def take_resume(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `--resume [RUN]` out of the arguments: None where it is absent, an empty text where no run is named."""
    rest: list[str] = []
    resumed: str | None = None
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--resume":
            resumed = remaining.pop(0) if remaining and not remaining[0].startswith("-") else ""
        elif argument.startswith("--resume="):
            resumed = argument.removeprefix("--resume=")
        else:
            rest.append(argument)
    return rest, resumed


def recipe_name(arguments: list[str]) -> str | None:
    """The recipe's name: the stem of the first configuration file, None where none is given."""
    first = value_of("--config", arguments) or value_of("-c", arguments)
    return Path(first).stem if first else None


def value_of(option: str, arguments: list[str]) -> str | None:
    """The first value of an option among command-line arguments, given as `--option value` or `--option=value`."""
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def quieten() -> None:
    """Leave out what Lightning says to everyone; errors and warnings about this run stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # our loaders are measured; see the table in the README
        ".*Total length of .* across ranks is zero.*",  # validation data is optional
        ".*This DataLoader will create .* worker processes.*",  # two workers on one core load, only slower
        ".*IterableDataset.*__len__.*",
        ".*GPU available but not used.*",
        ".*module.s. in eval mode at the start of training.*",  # moving averages and frozen experts are meant to be
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",  # torch's, raised inside Lightning
    ):
        warnings.filterwarnings("ignore", message=message)


def _title(room: type) -> str:
    """The first line of the module that tells a room's story."""
    story = (sys.modules[room.__module__].__doc__ or room.__name__).strip()
    return story.splitlines()[0].rstrip(".")


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def quoted(command_line: list[str]) -> str:
    """A command line as one types it."""
    return shlex.join(command_line)

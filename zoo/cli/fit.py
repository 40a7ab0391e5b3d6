"""`lightning fit|validate|test|predict`: a recipe, its overlays and options become a run."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.errors import DataError
from zoo.callbacks import Checkpoints, Dashboards, Metrics, Progress, RunFolder, SampleGrids
from zoo.callbacks.dashboards import prepare_loggers, quieten_loggers, wandb_said_plainly
from zoo.callbacks.judging import SceneJudge
from zoo.cli.config_errors import cannot_build, explain
from zoo.cli.lookup import read_yaml
from zoo.cli.preflight import complaints, refuse, refuse_nulls
from zoo.cli.suggest import did_you_mean
from zoo.cli.translate import needs_exemplar, own_domain, translates
from zoo.core.checkpoints import read_checkpoint
from zoo.core.numbers import BadNumbers, BadNumbersAction
from zoo.core.phases import Phases
from zoo.core.precision import refuse_half_precision
from zoo.core.records import note_phases
from zoo.core.runs import Run, checkpoint_iteration, find_run, new_run, writing
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import room_name, rooms
from zoo.weights.load import initialise, missing_source

STANDARD_CALLBACKS: dict[str, type[Callback]] = {
    "checkpoints": Checkpoints,
    "samples": SampleGrids,
    "metrics": Metrics,
    "dashboards": Dashboards,
    "progress": Progress,
    "judge": SceneJudge,
}
LARGEST_SEED = 2**32 - 1  # NumPy's
TERMINATED = 128 + signal.SIGTERM  # the shell's own exit code


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
        of_class = "is not accepted" in message  # told by the parser of one class' settings
        raise ZooError(explain(message, self if of_class else self.of_command or self)) from ex


class ZooCLI(LightningCLI):
    """LightningCLI with any room as model and any data module, standard callbacks under keys of their own, and runs."""

    command: ClassVar[str]
    resume: ClassVar[Run | None]
    recipe: ClassVar[str]
    command_line: ClassVar[list[str]]
    phases: ClassVar[Phases]
    held: ClassVar[ExitStack]

    @classmethod
    def start(
        cls, command: str, arguments: list[str], resume: Run | None, recipe: str, command_line: list[str]
    ) -> ZooCLI:
        """Parse the arguments, build everything and run the command.

        Raises:
            ZooError: something a person can mend.
        """
        phases = Phases()
        phases.begin("set-up")
        facts = {"command": command, "resume": resume, "recipe": recipe, "command_line": command_line, "phases": phases}
        with ExitStack() as held, wandb_said_plainly():  # held: the lock of the run's folder
            held.callback(_finish_wandb)
            try:
                return type(
                    cls.__name__, (cls,), {**facts, "held": held}
                )(
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
            except MisconfigurationException as error:
                raise ZooError(str(error)) from error
            except SIGTERMException as stop:  # Lightning's own exit code would say that all is well
                print("lightning: stopped by SIGTERM; go on with --resume", file=sys.stderr)
                raise SystemExit(TERMINATED) from stop
            except RuntimeError as error:
                if str(error).startswith("DataLoader worker"):
                    raise ZooError(worker_died(command, str(error))) from error
                if not str(error).startswith("Error(s) in loading state_dict"):
                    raise
                raise ZooError(f"The checkpoint does not fit the model as configured. {error}"[:400]) from error

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        """Only the one command that was typed: building a parser for each takes seconds."""
        return {cls.command: LightningCLI.subcommands()[cls.command]}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything."""
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="Seed of the run: weights, draws and data. 0 or more."
        )
        parser.add_argument(  # for all commands, which read the configuration of a run
            "--init_from",
            type=str | None,
            default=None,
            help="Weights that fit begins from instead of chance: a name (lightning list --weights), a run, a checkpoint or an official "
            "file. Networks that it lacks, optimisers and schedules begin anew. Other commands take no notice.",
        )
        parser.add_argument(
            "--compile",
            type=list[str],
            default=[],
            help="Networks, by their attribute names, that fit compiles (torch.compile): a minute or so at the start, quicker iterations. "
            "Not for a network with a gradient penalty. Roundings differ from those of a run that is not compiled.",
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
        """Parse without Lightning's warning about arguments that do not come from the command line; refuse what it lets pass."""
        try:
            self.config = parser.parse_args(args)
        except (AttributeError, TypeError, ValueError) as error:  # of values that nobody thought of
            raise ZooError(f"The configuration cannot be read: {error}.") from error
        defaults = self._parser(self.command).get_defaults(skip_validation=True)
        for key in STANDARD_CALLBACKS:
            if self.settings[key] is None or self.settings[key] is False:  # `samples: null` switches it off, too
                self.settings[key] = Namespace({**vars(defaults[key]), "enabled": False})
        for key in (*STANDARD_CALLBACKS, "run", "numbers", "trainer"):
            if not isinstance(self.settings[key], Namespace):
                names = ", ".join(vars(defaults[key]))
                raise ZooError(f"{key} is {self.settings[key]!r}; expected a mapping with some of the keys {names}.")
        for key in (*STANDARD_CALLBACKS, "numbers"):
            for name, default in vars(defaults[key]).items():
                if default is not None and self.settings[key].get(name) is None:
                    raise ZooError(f"{key}.{name} is null; leave it out for the default, {default}.")
        if not 0 <= self.settings.seed_everything <= LARGEST_SEED:
            raise ZooError(f"seed_everything is {self.settings.seed_everything}; expected 0 to {LARGEST_SEED}.")

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: Lightning would let a checkpoint override the command line and even the class."""

    @property
    def settings(self) -> Namespace:
        """The parsed configuration of the command."""
        return self.config[self.command]

    def before_instantiate_classes(self) -> None:
        """Say what is missing, choose the run and refuse a missing checkpoint before anything is built."""
        refuse_half_precision(self.settings.trainer.precision)
        refuse_nulls(self.settings)
        if self.command == "fit":
            resumed = self.resume is not None or self.settings.ckpt_path is not None
            found = complaints(self.settings, resumed=resumed)
            if self.settings.init_from is not None and not resumed:
                found += missing_source(self.settings.init_from, "--init_from")
            if found:
                refuse(found, configs_of(self.command_line[2:]))  # behind the program and the command
        # Given back as --config, a run's configuration starts another one: it keeps neither the name nor where a resume began.
        own = self.settings.clone()
        own.run.name = None
        self.complete_config = self._parser(self.command).dump(own, skip_unset=False, skip_link_targets=True)
        self.run_folder = self._choose_run() if self.command == "fit" else None
        self.settings.ckpt_path = self._choose_checkpoint(self.settings.ckpt_path)
        resumed_from = self.settings.ckpt_path if self.command == "fit" and self.resume is not None else None
        prepare_loggers(self.settings.trainer.logger, self.run_folder, resumed_from)

    def instantiate_classes(self) -> None:
        """Build everything; what a constructor refuses comes wrapped in the parser's words, which are taken off again."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if "Does not validate against" not in str(error):
                raise
            plain = isinstance(error.__cause__, (ZooError, DataError))
            raise ZooError(str(error.__cause__) if plain else cannot_build(str(error))) from error
        if self.command == "fit" and self.settings.init_from is not None and self.settings.ckpt_path is None:
            fresh = initialise(self.model, self.settings.init_from)
            if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                new = f"; new are {', '.join(sorted(fresh))}, and all optimisers" if fresh else ""
                begin = f"the weights of {self.settings.init_from} are where this training begins{new}"
                print(f"lightning: {begin}", file=sys.stderr)

        if self.command == "fit":
            compile_networks(self.model, self.settings.compile)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with those standard callbacks that are enabled."""
        trainer_config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        callbacks = [self._get(self.config_init, key) for key in self._parser(self.command).callback_keys]
        callbacks = [callback for callback in callbacks if callback.enabled]
        if self.run_folder is not None:
            title, seed = _title(type(self.model)), self.settings.seed_everything
            callbacks.insert(0, RunFolder(self.run_folder, self.complete_config, self.command_line, title, seed))
        own = trainer_config.get("callbacks") or []
        own = own if isinstance(own, list) else [own]
        if not any(isinstance(callback, Checkpoint) for callback in [*own, *callbacks]):
            trainer_config["enable_checkpointing"] = False
        if not any(isinstance(callback, Progress) for callback in callbacks):
            trainer_config["enable_progress_bar"] = False
        trainer_config["enable_model_summary"] = False  # the opening lines say what a person wants to see
        trainer_config["callbacks"] = own
        try:
            trainer = self._instantiate_trainer(trainer_config, callbacks)
        except (TypeError, ValueError) as error:
            raise ZooError(f"trainer: {error}") from error
        quieten_loggers(trainer)
        self.model.bad_numbers = BadNumbers(self.settings.numbers.action, self.settings.numbers.patience)
        self.model.phases = self.phases
        return trainer

    @property
    def began(self) -> bool:
        """Whether a training has begun (a finished run has nothing left to do)."""
        return any(isinstance(callback, RunFolder) and callback.began for callback in self.trainer.callbacks)  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Note in run.json that the training came to its end, whichever command it belonged to, and what its phases took."""
        if self.began and self.trainer.is_global_zero and self.run_folder is not None:
            note_phases(self.run_folder, self.phases.seconds)

    def _choose_run(self) -> Run:
        settings = self.settings.run
        root, recipe = Path(settings.root), settings.recipe or self.recipe
        if self.resume is None and self.settings.ckpt_path == "last":
            type(self).resume = find_run(root, recipe, settings.name)
        first_process = rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"  # type: ignore[attr-defined]
        if not first_process:
            return self.resume or Run(root)  # RunFolder asks rank 0, once there is someone to ask
        run = self.resume or new_run(root, recipe, settings.name)
        self.held.enter_context(writing(run))
        return run

    def _choose_checkpoint(self, given: str | None) -> str | None:
        if self.resume is not None or given == "last":
            settings = self.settings.run
            run = self.resume or find_run(Path(settings.root), settings.recipe or self.recipe, settings.name)
            checkpoint, complaints = run.newest_loadable_checkpoint()
            for complaint in complaints:
                print(f"lightning: passed over: {complaint}", file=sys.stderr)
            return str(self._before_the_end(run, checkpoint))
        if given is not None:
            read_checkpoint(Path(given), "meta")
        return given

    def _before_the_end(self, run: Run, newest: Path) -> Path:
        """Where a run died between its last iteration and its end, an earlier checkpoint: what the end does is yet to be done.

        That is the last validation and grid, and the work of stage callbacks such as fitting a sampler.
        """
        last = self.settings.trainer.max_steps
        if self.command != "fit" or checkpoint_iteration(newest) != last or run.has_ended():
            return newest
        try:
            earlier, _ = run.newest_loadable_checkpoint(before=last)
        except ZooError:  # there is no earlier one: what was trained is kept as it is
            return newest
        again = f"the {last - checkpoint_iteration(earlier):,} iterations before it are done again"
        print(f"lightning: this run died at its very end; {again}", file=sys.stderr)
        return earlier


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
    settings = run_settings(arguments)
    resume = None
    if resumed is not None:
        if command != "fit":
            raise ZooError(f"--resume belongs to fit. Say which checkpoint to {command}: --ckpt_path PATH")
        resume = find_run(Path(settings.root), settings.recipe or "", resumed or settings.name)
        if not configs_of(arguments):
            arguments = ["--config", str(resume.config), *arguments]
    recipe = settings.recipe or (resume.folder.parent.name if resume else "run")
    cli = ZooCLI.start(command, arguments, resume, recipe, command_line)
    if command == "fit" and cli.trainer.global_step >= cli.trainer.max_steps > 0 and not cli.began:
        done = f"{cli.trainer.global_step:,} iterations are done"
        print(f"Nothing is left to do: {done}. More: --trainer.max_steps NUMBER")
    elif command == "fit" and cli.trainer.is_global_zero and cli.run_folder is not None:
        seen_at = [callback.seen_at for callback in cli.trainer.callbacks if isinstance(callback, Dashboards)]  # type: ignore[attr-defined]
        print("\n".join(closing_lines(cli.run_folder, cli.model, "".join(seen_at))))
    return 0


def worker_died(command: str, told: str) -> str:
    """What to say when a loader process has ended before its time, as PyTorch tells it."""
    cause = re.sub(r"^DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is )?", "", " ".join(told.split())).rstrip(".")
    onward = ", and go on with --resume: what checkpoints hold is not lost" if command == "fit" else ""
    return (
        f"A process that loads pictures died ({cause}). Mostly memory ran out, the machine's or that of /dev/shm. Take fewer of them "
        f"(--data.workers 1, or 0 for none){onward}."
    )


def closing_lines(folder: Run, model: Translator, dashboard: str = "") -> list[str]:
    """Where the time went, and what a person does next with a finished run: look at its last grid, translate pictures."""
    grids, checkpoints = sorted(folder.samples.glob("iteration_*.png")), folder.checkpoints_newest_first()
    exemplar = " --reference EXEMPLAR" if needs_exemplar(model) else ""
    domain = "" if not translates(model) or own_domain(model) else " --to DOMAIN"
    command = f"lightning translate {folder.folder} PICTURES{domain}{exemplar} --output translated"
    other = getattr(model, "usage", "").format(run=folder.folder)  # of a room that mostly does something else
    facts = {
        "time": model.phases.describe(),
        "grid": str(grids[-1]) if grids else "",
        "checkpoint": str(checkpoints[0]) if checkpoints else "",
        "dashboard": dashboard,
        "use" if other else "translate": (other or command) if checkpoints and translates(model) else "",
    }
    return [f"  {key:<11}{value}" for key, value in facts.items() if value]


def compile_networks(room: Translator, names: Sequence[str]) -> None:
    """Compile some of a room's networks in place: their weights keep their names, and so do checkpoints.

    Args:
        room: the model.
        names: attributes of the room, such as `to_target`.

    Raises:
        ZooError: the room has no such network.
    """
    known = [name for name, network in room.named_children() if any(True for _ in network.parameters())]
    for name in names:
        if name not in known:
            raise ZooError(
                f"compile: there is no network {name!r}.{did_you_mean(name, known)} There are {', '.join(known)}."
            )
        room.get_submodule(name).compile()


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


def run_settings(arguments: list[str]) -> RunSettings:
    """Where the run lies, as files and options say: known before the rest is parsed, which may need the run's configuration."""
    paths = configs_of(arguments)
    settings = RunSettings(recipe=paths[0].stem if paths else None)
    names = [field.name for field in fields(RunSettings)]
    for path in paths:
        content = read_yaml(path)
        given = content.get("run") if isinstance(content, dict) else None
        if isinstance(given, dict):
            settings = replace(settings, **{name: str(given[name]) for name in names if given.get(name) is not None})
    given = {name: value_of(f"--run.{name}", arguments) for name in names}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def configs_of(arguments: list[str]) -> list[Path]:
    """All configuration files among command-line arguments."""
    return [Path(value) for option, value in pairwise(arguments) if option in {"--config", "-c"}]


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
        ".*does not have many workers.*",  # our loaders are measured, see tests/benchmarks/loader.py
        ".*Total length of .* across ranks is zero.*",  # validation data is optional
        ".*This DataLoader will create .* worker processes.*",  # two workers on one core load, only slower
        ".*IterableDataset.*__len__.*",
        ".*You passed in a `val_dataloader` but have no `validation_step`.*",  # a single picture has none to give
        ".*GPU available but not used.*",
        ".*module.s. in eval mode at the start of training.*",  # moving averages and frozen experts are meant to be
        r"\s*``instantiate_classes`` was deprecated",  # Lightning 2.6 calls the parser by its old name
        r"\s*By default only one JsonargparseDeprecationWarning",  # which says that there is this one
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",  # torch's, raised inside Lightning
    ):
        warnings.filterwarnings("ignore", message=message)


def _finish_wandb() -> None:
    """End the run that WandbLogger leaves open: the next one of this process would be written into it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()


def _title(room: type) -> str:
    """The first line of the module that tells a room's story: for a room in a folder, the folder's."""
    try:
        module = rooms()[room_name(room)].partition(":")[0]
    except ZooError:  # a room of somebody's script
        module = room.__module__
    story = (import_module(module).__doc__ or room.__name__).strip()
    return story.splitlines()[0].rstrip(".")

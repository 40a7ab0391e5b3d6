"""The front door of the `lightning` command.

It answers what needs no PyTorch (help, version, list, card, cite, download, typing mistakes, missing files) with the standard
library alone, so within the time of a Python start, and hands everything else to the module of the command.

Exit codes: 0 all is well, 1 a failure, 2 a mistake of the person at the keyboard, 130 stopped by Ctrl-C.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import zoo
from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
OWN_MODULES = frozenset(
    {
        "translate",
        "compare",
        "evaluate",
        "sampler",
        "replay",
        "styles",
        "align",
        "directions",
        "generate",
        "single",
        "labels",
        "doctor",
        "export",
        "playground",
        "download",
        "ray",
    }
)
"""Commands that `run` of the module of their name answers, imported when it is asked."""


def main(argv: list[str] | None = None) -> int:
    """Run the `lightning` command.

    Args:
        argv: the words behind `lightning`; those of the process by default.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = [word for word in words if word != "--debug"]
    return speak(lambda: _answer(arguments), debug="--debug" in words)


def speak(action: Callable[[], int], *, debug: bool = False) -> int:
    """Run an action and turn what it raises into one line on stderr and an exit code.

    Args:
        action: returns an exit code.
        debug: let exceptions through, with their traceback.
    """
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:
        # Lightning's trainer answers Ctrl-C with an exit of its own.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _interrupted()
        raise
    except BrokenPipeError:
        # The reader went away (`lightning list | head`): what is left goes nowhere, and the exit code is the shell's own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split())
        if isinstance(error, _errors_for_people()):
            print(f"lightning: {text}", file=sys.stderr)
            return 2
        print(
            f"lightning: unexpected {type(error).__name__}: {text or 'no message'}; "
            "run again with --debug for the traceback",
            file=sys.stderr,
        )
        return 1


def _interrupted() -> int:
    print("\nlightning: stopped by Ctrl-C", file=sys.stderr)
    return 130


def _errors_for_people() -> tuple[type[BaseException], ...]:
    """The exceptions whose message is written for a person.

    Only a module that is loaded can have raised: the data modules' own exception is known without importing them.
    """
    data_errors = sys.modules.get("datamodules.errors")
    return (ZooError, data_errors.DataError) if data_errors is not None else (ZooError,)


def _answer(arguments: list[str]) -> int:
    from zoo.cli.pages import COMMANDS, help_page

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        print(help_page())
    elif command == "--version":
        print(version())
    elif command in TRAINER_COMMANDS:
        return _trainer_command(command, rest)
    elif command in OWN_MODULES:
        return int(import_module(f"zoo.cli.{command}").run(rest))
    elif command in COMMANDS:
        print(_page(command, rest))
    elif command.startswith("-"):
        hint = did_you_mean(command, ("--help", "--version", "--debug"))
        behind = " Options of a command stand behind it." if not hint else ""
        raise ZooError(f"there is no option {command!r}.{hint}{behind} Try: lightning --help")
    else:
        raise ZooError(f"there is no command {command!r}.{did_you_mean(command, COMMANDS)} Try: lightning --help")
    return 0


def version() -> str:
    """Our version and those of what we stand on, read without importing it."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    found = [f"Python {python_version()}"]
    for label, package in (("PyTorch", "torch"), ("Lightning", "lightning")):
        try:
            found.append(f"{label} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {label}")
    return f"translation-zoo {zoo.__version__} ({', '.join(found)})"


def _page(command: str, arguments: Sequence[str]) -> str:
    """The text of `list`, `card NAME` or `cite NAME`."""
    from zoo.cli.catalog import find_paper, papers
    from zoo.cli.pages import USAGE, bibtex, card_page, command_page, list_page

    usage, known = USAGE[command], ("--help", "--weights") if command == "list" else ("--help",)
    if any(argument in ("-h", "--help") for argument in arguments):
        return command_page(command)
    if command == "list" and {"--weights", "--shipped"} & set(arguments):
        from zoo.cli.weights import weights_page

        return weights_page(arguments)
    for argument in arguments:
        if argument.startswith("-"):
            raise ZooError(f"{command} has no option {argument!r}.{did_you_mean(argument, known)} Usage: {usage}")
    if command == "list":
        if arguments:
            raise ZooError(
                f"list takes no name, and {arguments[0]!r} was given. For one paper: lightning card {arguments[0]}"
            )
        return list_page(papers())
    if len(arguments) != 1:
        raise ZooError(
            f"{command} takes one name, and {len(arguments)} were given. Usage: {usage}; names: lightning list"
        )
    paper = find_paper(arguments[0])
    return card_page(paper) if command == "card" else bibtex(paper)


def _trainer_command(command: str, arguments: list[str]) -> int:
    """Check the files that `fit` and its like are given, before the seconds that importing PyTorch takes."""
    from zoo.cli.lookup import check_recipe, resolve_configs

    resolved, paths = resolve_configs(arguments)
    check_recipe(command, paths, resolved)
    from zoo.cli.fit import run

    return run(command, resolved)

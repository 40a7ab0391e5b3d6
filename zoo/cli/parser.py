"""The parser of commands that are not Lightning's: its mistakes are sentences, with the nearest option that there is."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError


class CommandParser(argparse.ArgumentParser):
    """An `argparse` parser that raises instead of leaving the process.

    Args:
        prog: the command, such as `lightning translate`.
        synopsis: what is typed behind it, for the end of a message.
        **options: of `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str, synopsis: str, **options: Any) -> None:
        super().__init__(prog=prog, **options)
        self.synopsis = synopsis

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            ZooError: always.
        """
        unknown = next((word for word in message.split() if word.startswith("--")), "")
        known = [option for action in self._actions for option in action.option_strings]
        hint = did_you_mean(unknown, known) if unknown and "unrecognized" in message else ""
        command = self.prog.removeprefix("lightning ")
        usage = f"lightning {command.split()[0]} {self.synopsis}"
        raise ZooError(f"{command}: {message}.{hint} Usage: {usage}")

"""Configuration mistakes in one line, with the nearest valid name.

The parser tells a mistake as a tree of everything it tried. What a person needs of it is the last cause, and the name that was
probably meant.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import import_module

from jsonargparse import ArgumentParser

from zoo.cli.suggest import did_you_mean
from zoo.registry import room_class, rooms

_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
_NOISE = re.compile(
    r"Expected a <class 'NoneType'>|Expected a path but .*|Does not validate against.*|Subtypes: .*", re.S
)


def explain(message: str, parser: ArgumentParser) -> str:
    """Shorten what the parser says to its cause and add what was probably meant.

    Args:
        message: the parser's message.
        parser: of the command, whose options are the valid names.

    Returns:
        A sentence or two.
    """
    named = re.match(r'Parser key "([^"]+)":', message)
    key = named[1] if named else ""
    cause = _cause(message)
    if match := re.search(r"[Uu]nrecognized arguments: (\S+)", cause):
        option = match[1].partition("=")[0]
        return f"There is no option {option}.{did_you_mean(option, _options(parser))}"
    if match := re.search(r"does not accept option '([^']+)'", cause):
        return f"There is no setting '{match[1]}'.{did_you_mean(match[1], [o.removeprefix('--') for o in _options(parser)])}"
    if match := re.search(r"Option '([^']+)' is not accepted", cause):
        return f"{key} takes no setting '{match[1]}'.{did_you_mean(match[1], _settings(key))}"
    if match := re.search(r"class_path '([^']+)'", cause):
        return f"There is no class {match[1]}.{did_you_mean(match[1], _classes(key))}"
    if match := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", cause):
        return f"{match[1]} is no {match[2]}, so it can't be the {key}. Try one of: {', '.join(_classes(key))}"
    if "Not a valid subclass of" in cause:
        return f"{key} needs a class_path and its init_args, such as class_path: {next(iter(_classes(key)), '...')}"
    if match := re.search(r'(?:Parser key "([^"]+)": )?Expected a (.+?)\. Got value: (.*)', cause, re.S):
        name = ".".join(part for part in (key, match[1]) if part and part != key) if match[1] != key else key
        return _wrong_value(name or key, match[2], match[3].strip())
    return f"{key}: {cause}" if key and key not in cause else cause


def _cause(message: str) -> str:
    """The first error of the parser's innermost list that says something."""
    text = re.sub(r'^Parser key "[^"]+":\s*', "", message.strip())
    if "Errors:" not in text:
        return text if not re.match(r"Expected a ", text) else message.strip()
    listed = text.rpartition("Errors:")[2].split("Given value type:")[0]
    items = [" ".join(item.split()) for item in re.split(r"\n\s*- |^\s*- ", listed) if item.strip()]
    telling = [item for item in items if not _NOISE.fullmatch(item)]
    return telling[0] if telling else items[0]


def _wrong_value(name: str, expected: str, given: str) -> str:
    if choices := re.findall(r"'([^']+)'", expected) if "Literal" in expected else []:
        return f"{name} is {given!r}; expected one of: {', '.join(choices)}.{did_you_mean(given, choices)}"
    plain = re.sub(r"<class '(?:\w+\.)*(\w+)'>", lambda match: _TYPES.get(match[1], match[1]), expected)
    return f"{name} is {given!r}; expected {plain}."


def _options(parser: ArgumentParser) -> list[str]:
    found = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    return sorted(found | {f"--{key}" for key in parser.get_defaults(skip_validation=True).keys(branches=True)})


def _classes(key: str) -> list[str]:
    if key == "data":
        return [f"datamodules.{name}" for name in _data_modules()]
    return sorted(path.replace(":", ".") for path in rooms().values())


def _settings(key: str) -> Iterable[str]:
    if key == "data":
        classes = [getattr(import_module("datamodules"), name) for name in _data_modules()]
    else:
        classes = [room_class(name) for name in rooms()]
    return sorted({parameter for cls in classes for parameter in inspect.signature(cls).parameters})


def _data_modules() -> list[str]:
    return [name for name in dir(import_module("datamodules")) if name[0].isupper()]

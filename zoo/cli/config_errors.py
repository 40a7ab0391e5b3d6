"""Configuration mistakes in one line, with the nearest valid name.

The parser tells a mistake as a tree of everything it tried. What a person needs of it is the last cause, and the name that was
probably meant.
"""

from __future__ import annotations

import re
from importlib import import_module

from jsonargparse import ArgumentParser

from zoo.cli.suggest import did_you_mean, nearest
from zoo.registry import rooms

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_LIGHTNINGS = {"trainer.logger": "lightning.pytorch.loggers", "trainer.callbacks": "lightning.pytorch.callbacks"}
_NOISE = re.compile(
    r"Expected a <class 'NoneType'>|Expected a path but .*|Does not validate against.*|Subtypes: .*", re.S
)


def explain(message: str, parser: ArgumentParser) -> str:
    """Shorten what the parser says to its cause and add what was probably meant.

    Args:
        message: the parser's message.
        parser: whose options are the valid names: the command's, or that of the settings of one class.

    Returns:
        A sentence or two.
    """
    named = re.match(r'Parser key "([^"]+)":', message)
    key = named[1] if named else ""
    value = re.search(r"Given value: (.*)", message)
    given = value[1] if value else ""
    cause = _cause(message)
    if match := re.search(r"arguments are required: (?:\w+\.)?(\w+)", cause):
        return f"{match[1]} is missing. Put a recipe first: --config zoo/cyclegan.yaml"
    if match := re.search(r"Unable to load config ['\"](\S+)['\"]", cause):
        return f"{key} is {match[1]!r}; expected a mapping.{_switch(key, parser)}"
    if match := re.search(r"[Uu]nrecognized arguments: (\S+)", cause):
        option = match[1].partition("=")[0]
        if not option.startswith("-"):
            return f"{option!r} stands where an option was expected; options begin with --."
        return f"There is no option {option}.{did_you_mean(option, _options(parser))}"
    if match := re.search(r"does not accept option '([^']+)'", cause):
        return f"There is no setting '{match[1]}'.{did_you_mean(match[1], [o.removeprefix('--') for o in _options(parser)])}"
    if match := re.search(r"Option '([^']+)' is not accepted", cause):
        return f"there is no setting '{match[1]}'.{did_you_mean(match[1], [action.dest for action in parser._actions])}"
    if "'NoneType' object has no attribute 'keys'" in cause:
        return f"init_args of {key} is null; expected a mapping of settings."
    if match := re.search(r"class_path '([^']+)'|dot import path string: (\S+)", cause):
        return _no_class(match[1] or match[2], _classes(key))
    if match := re.search(r"Import path does not correspond to a subclass of (\w+)", cause):
        return f"{given} is no {match[1]}, so it can't be the {key}. Try one of: {', '.join(_classes(key))}"
    if "Not a valid subclass of" in cause or "argument of type 'NoneType' is not iterable" in cause:
        return f"{key} needs a class_path and its init_args, such as class_path: {next(iter(_classes(key)), '...')}"
    subtypes = re.search(r"Subtypes: (.*)", message)
    if subtypes and "Literal" in subtypes[1] and cause.startswith("Expected a "):
        return _wrong_value(key, subtypes[1], given)
    if match := re.search(r'(?:Parser key "([^"]+)": )?Expected a (.+?)\. Got value: (.*)', cause, re.S):
        name = ".".join(part for part in (key, match[1]) if part and part != key) if match[1] != key else key
        return _wrong_value(name or key, match[2], match[3].strip())
    return f"{key}: {cause}" if key and key not in cause else cause


def cannot_build(message: str) -> str:
    """Say that a constructor failed, from the parser's message about it."""
    built = re.search(r"class_path='([^']+)'", message)
    return f"{built[1] if built else 'A class'} cannot be built with these settings: {_cause(message)}"


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


def _switch(key: str, parser: ArgumentParser) -> str:
    return f" To switch it off: --{key}.enabled false" if f"--{key}.enabled" in _options(parser) else ""


def _no_class(given: str, known: list[str]) -> str:
    """Look for a class by its whole path, or by its bare name, which is what people type."""
    bare = {path.rpartition(".")[2]: path for path in known}
    hint = did_you_mean(given, known)
    if not hint and (match := nearest(given.rpartition(".")[2], bare)):
        hint = f" Did you mean {bare[match]!r}?"
    return f"There is no class {given}.{hint}"


def _options(parser: ArgumentParser) -> list[str]:
    found = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    return sorted(found | {f"--{key}" for key in parser.get_defaults(skip_validation=True).keys(branches=True)})


def _classes(key: str) -> list[str]:
    if key == "data":
        return [f"datamodules.{name}" for name in _data_modules()]
    if key in _LIGHTNINGS:
        module = import_module(_LIGHTNINGS[key])
        return [f"{module.__name__}.{name}" for name in dir(module) if name[0].isupper()]
    return sorted(path.replace(":", ".") for path in rooms().values())


def _data_modules() -> list[str]:
    return [name for name in dir(import_module("datamodules")) if name[0].isupper()]

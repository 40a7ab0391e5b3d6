"""What a training will miss, said before anything is built: files that are not there and cannot be had."""

from collections.abc import Mapping
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from zoo.weights.catalogue import WeightFile, is_offline, mirrors, read_catalogue, weights_folder

PATIENCE = 3.0  # seconds for a server to answer anything at all


def is_name(source: str) -> bool:
    """Whether a word means published weights by their name, such as `vgg19`, and not a path: it has no slash and no ending."""
    return bool(source) and not Path(source).suffix and Path(source).name == source


def missing_weights(source: str, option: str = "", catalogue: Mapping[str, WeightFile] | None = None) -> list[str]:
    """Say what stands in the way of using weights; an empty list means that they are here, or can be downloaded.

    Nothing is downloaded. For a published file that is not here its server is asked for a sign of life.

    Args:
        source: the name of published weights (`vgg19`), or the path of a file or a run's folder.
        option: what a person types to say so, such as `--model.content_encoder`; empty where there is no choice.
        catalogue: entries by name; the zoo's own by default.

    Returns:
        Sentences, each with what to type.
    """
    if not is_name(source):
        return [] if Path(source).expanduser().exists() else [_no_file(source, option)]
    catalogue = read_catalogue() if catalogue is None else catalogue
    if source not in catalogue:
        if Path(source).exists():
            return []
        near = get_close_matches(source, catalogue, n=1)
        hint = f" Did you mean {option} {near[0]}?" if near else ""
        return [f"{_said(option, source)} is neither the name of published weights nor a file.{hint}"]
    entry = catalogue[source]
    path = weights_folder() / entry.file
    if path.is_file():
        return []
    if is_offline():
        reason, advice = "ZOO_OFFLINE forbids the network", f"With a network: ZOO_OFFLINE=0 lightning download {source}"
    elif silence := _silence(mirrors("weights", entry.file) or entry.links):
        reason, advice = silence, f"With a network: lightning download {source}"
    else:
        return []
    elsewhere = f", or give the file's place: {option} PATH" if option else ""
    return [
        f"{entry.file} ({source}) is not on this machine, and {reason}. {advice}. Without one: get it elsewhere from {entry.page}, "
        f"and put it into {path.parent} as {path.name} ({entry.expected}){elsewhere}."
    ]


def _no_file(source: str, option: str) -> str:
    path = Path(source).expanduser()
    folder = next(parent for parent in path.parents if parent.is_dir())
    beside = [entry.name for entry in folder.iterdir()] if folder == path.parent else []
    near = get_close_matches(path.name, beside, n=1)
    hint = f" Did you mean {_said(option, str(folder / near[0]))}?" if near else " Give the path of one."
    return f"{_said(option, source)}: there is no such file or folder.{hint}"


def _said(option: str, source: str) -> str:
    return f"{option} {source}" if option else source


def _silence(links: tuple[str, ...]) -> str:
    """Why no server of a file can be reached, or nothing where one answers."""
    reasons: dict[str, str] = {}

    def ask(link: str) -> None:
        try:
            urlopen(Request(link, method="HEAD", headers={"User-Agent": "translation-zoo"}), timeout=PATIENCE).close()
        except HTTPError as answer:  # a sign of life; what it gives shows when the file is asked for
            answer.close()
        except (OSError, HTTPException) as error:
            reasons[link] = str(getattr(error, "reason", error))
            return
        reasons[link] = ""

    # Threads that nobody waits for longer: looking up a name has no time limit of its own.
    askers = [Thread(target=ask, args=[link], daemon=True) for link in links]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(PATIENCE)
    given = [reasons.get(link, "no answer") for link in links]
    if "" in given:
        return ""
    return "; ".join(
        f"{urlsplit(link).netloc} cannot be reached ({why})" for link, why in zip(links, given, strict=True)
    )

"""The nearest known word to a mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that looks most like `word`, whatever the case, or None if none looks alike."""
    spelled = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(word.lower(), spelled, n=1, cutoff=0.6)
    return spelled[matches[0]] if matches else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A sentence to append to an error message: ` Did you mean 'fit'?` with its leading space, or nothing."""
    match = nearest(word, candidates)
    return f" Did you mean {match!r}?" if match else ""

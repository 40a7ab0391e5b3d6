"""Photographs that are tested with and never part of the repository: they lie beside the larger set of golden files."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def photographs(name: str) -> Path:
    """A folder of photographs; a test that needs it is skipped where it is missing."""
    golden = Path(os.environ.get("GOLDEN_ROOT", ROOT.parent / "shared" / "golden"))
    folder = golden.parent / "data" / name
    if not folder.is_dir():
        pytest.skip(f"there are no photographs at {folder}")
    return folder

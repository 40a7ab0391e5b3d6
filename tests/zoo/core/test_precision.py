"""Float16 is refused, whatever it is called."""

from __future__ import annotations

from typing import get_args

import pytest
from lightning.fabric.connector import _PRECISION_INPUT_INT, _PRECISION_INPUT_STR, _PRECISION_INPUT_STR_ALIAS

from zoo.core.precision import refuse_half_precision
from zoo.errors import ZooError

HALF = ["16", "16-mixed", "16-true", "transformer-engine-float16"]
SUPPORTED = {"bf16-mixed", "bf16-true", "bf16", "32-true", "32", "64-true", "64"}


@pytest.mark.parametrize("precision", [16, *HALF])
def test_float16_is_refused_in_a_sentence(precision: object) -> None:
    with pytest.raises(ZooError, match=f"precision {precision} is not supported.*bf16-mixed or 32-true"):
        refuse_half_precision(precision)


@pytest.mark.parametrize("precision", [None, 32, 64, *sorted(SUPPORTED)])
def test_other_formats_are_not(precision: object) -> None:
    refuse_half_precision(precision)


def test_no_format_of_lightnings_was_forgotten() -> None:
    """Where Lightning learns another name for float16, it has to be looked at here."""
    kinds = (_PRECISION_INPUT_INT, _PRECISION_INPUT_STR, _PRECISION_INPUT_STR_ALIAS)
    names = {str(name) for kind in kinds for name in get_args(kind)}
    assert names - SUPPORTED == {*HALF, "transformer-engine"}

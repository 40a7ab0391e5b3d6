"""The table of `lr_scale` has a row for each picture and rate, with figures in it."""

import pytest
from benchmarks.lr_scale import main


def test_the_table_has_a_row_for_each_rate(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--pictures scene:0 --lr-scales 0.1 0.9 --iterations 2 --stages 3 --channels 4 --max-size 32 --samples 3"
    assert main(words.split()) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert "distance of random features" in header
    assert "SIFID" not in header
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[:2] for cell in cells] == [["scene:0", "0.1"], ["scene:0", "0.9"]]
    assert all(float(number) > 0 for cell in cells for number in cell[2:])
    assert cells[0][2:] != cells[1][2:]

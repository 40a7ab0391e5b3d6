"""The golden tests' own tests: what they must not let pass."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from golden.golden import Golden, GoldenMismatchError, check, golden_files

TENSORS = {
    "in/x": torch.tensor([1.0, 2.0]),
    "out/y": torch.tensor([2.0, 4.0], dtype=torch.float64),
    "step0/loss": torch.tensor([6.0], dtype=torch.float64),
}


def write(path: Path, tensors: dict[str, Tensor] = TENSORS, **config: Any) -> Path:
    config = {"kind": "double", "dtype": "float64", "rtol": 1e-9, "atol": 1e-11, **config}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"config": json.dumps(config)})
    return path


def double(golden: Golden) -> None:
    y = 2 * golden.given("in/x")
    golden.compare("out/y", y)
    golden.compare("step0/loss", y.sum())


def refused(path: Path, check_kind: Any) -> GoldenMismatchError:
    with pytest.raises(GoldenMismatchError) as error:
        check(path, {"double": check_kind})
    return error.value


def test_equal_numbers_pass(tmp_path: Path) -> None:
    check(write(tmp_path / "a.safetensors"), {"double": double})


def test_a_difference_that_a_check_passes_over_is_found_out(tmp_path: Path) -> None:
    def deaf(golden: Golden) -> None:
        for key in golden.expected:
            with contextlib.suppress(GoldenMismatchError):
                golden.compare(key, torch.zeros(2 if key == "out/y" else 1))

    assert refused(write(tmp_path / "a.safetensors"), deaf).key == "out/y"


def test_a_comparison_that_would_let_a_moved_number_pass_is_found_out(tmp_path: Path) -> None:
    y = torch.tensor([2.0, 4.0], dtype=torch.float64)

    def lax(golden: Golden) -> None:
        golden.compare("out/y", y, torch.full((2,), torch.inf, dtype=torch.float64))

    with pytest.raises(AssertionError, match="of out/y was moved by 100 tolerances, and nothing noticed"):
        check(write(tmp_path / "a.safetensors"), {"double": lax})


def test_absent_gradients_are_compared_with_absent_ones(tmp_path: Path) -> None:
    norms = torch.tensor([1.0, torch.nan], dtype=torch.float64)
    path = write(tmp_path / "a.safetensors", {"in/x": torch.ones(1), "step0/grad_l2": norms})
    check(path, {"double": lambda golden: golden.compare_norms("step0/grad_l2", [torch.ones(()), None])})
    for ours in ([torch.ones(()), torch.ones(())], [None, None], [None, torch.ones(())]):
        assert (
            refused(path, lambda golden, ours=ours: golden.compare_norms("step0/grad_l2", ours)).key == "step0/grad_l2"
        )


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.tensor([2.0, 4.0 + 1e-7], dtype=torch.float64), "1 of 2 numbers differ; element 1 is 4.0000001"),
        (torch.tensor([float("nan"), 4.0]), "element 0 is nan"),
        (torch.tensor([[2.0, 4.0]]), r"has the shape \(2,\), ours \(1, 2\)"),
    ],
)
def test_differences_are_refused(tmp_path: Path, y: Tensor, words: str) -> None:
    error = refused(write(tmp_path / "a.safetensors"), lambda golden: golden.compare("out/y", y))
    assert error.key == "out/y"
    with pytest.raises(GoldenMismatchError, match=words):
        raise error


def test_what_nothing_compared_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    error = refused(path, lambda golden: golden.compare("out/y", 2 * golden.given("in/x")))
    assert error.key == "step0/loss"


def test_nothing_is_compared_twice_or_made_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    y = torch.tensor([2.0, 4.0])
    assert refused(path, lambda golden: [golden.compare("out/y", y) for _ in range(2)]).key == "out/y"
    assert refused(path, lambda golden: golden.compare("out/z", y)).key == "out/z"
    assert refused(path, lambda golden: golden.compare("in/x", y)).key == "in/x"
    with pytest.raises(KeyError, match="it can only be compared"):
        Golden(path).given("out/y")


def test_unknown_kinds_and_files_that_expect_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", kind="triple")
    assert "unknown kind 'triple'" in str(refused(path, double))
    path = write(tmp_path / "b.safetensors", {"in/x": torch.ones(1)})
    assert "expects nothing" in str(refused(path, double))


def test_given_floats_are_cast_up_and_a_tape_is_in_order(tmp_path: Path) -> None:
    tape = {f"noise/step10/{i:02d}_{name}": torch.tensor([i]) for i, name in enumerate(["index", "alpha", "index"])}
    golden = Golden(write(tmp_path / "a.safetensors", {**TENSORS, **tape, "state/g.w": torch.ones(2)}))
    assert golden.given("in/x").dtype == torch.float64
    assert [(name, value.tolist()) for name, value in golden.tape("noise/step10/")] == [
        ("index", [0]),
        ("alpha", [1]),
        ("index", [2]),
    ]
    assert golden.tape("noise/step1/") == []
    assert golden.state("state/g.").keys() == {"w"}
    assert golden.expected == ["out/y", "step0/loss"]


def test_keys_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    steps = {f"in/step{i}_A": torch.ones(1) for i in range(12)}
    golden = Golden(write(tmp_path / "a.safetensors", {**TENSORS, **steps}))
    assert golden.keys(r"in/step\d+_A") == [f"in/step{i}_A" for i in range(12)]


def test_files_of_golden_root_come_before_our_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_ROOT", str(tmp_path))
    ours = {path.stem for path in golden_files("cyclegan")}
    theirs = write(tmp_path / "cyclegan" / "image_pool.safetensors")
    new = write(tmp_path / "cyclegan" / "another.safetensors")
    files = golden_files("cyclegan")
    assert theirs in files
    assert new in files
    assert {path.stem for path in files} == ours | {"another"}
    monkeypatch.setenv("GOLDEN_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        golden_files("cyclegan")
    monkeypatch.delenv("GOLDEN_ROOT")
    with pytest.raises(FileNotFoundError, match="no golden files of 'nobody'"):
        golden_files("nobody")

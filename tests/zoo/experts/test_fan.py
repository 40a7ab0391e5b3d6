"""FAN: its file, its masks, and faces that are aligned by it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support.pictures import pixels
from zoo.errors import ZooError
from zoo.experts.face_alignment import (
    align_face,
    horizontal,
    lanczos_weights,
    mean_landmarks,
    similarity,
    warp,
    with_mirrored_border,
)
from zoo.experts.fan import FAN
from zoo.experts.fan_masks import LANDMARKS, decode_landmarks, skip_masks


@pytest.fixture(scope="module")
def fan() -> FAN:
    return FAN()


def test_it_is_the_same_in_every_process_and_never_learns(fan: FAN) -> None:
    again = FAN()
    assert all(torch.equal(value, again.own_state()[key]) for key, value in fan.own_state().items())
    assert fan.state_dict() == {}
    assert not any(p.requires_grad for p in fan.parameters())
    fan.train()
    assert not any(module.training for module in fan.modules())


def test_the_published_layout_loads(tmp_path: Path, fan: FAN) -> None:
    state = {key: value + 1 if value.is_floating_point() else value for key, value in fan.own_state().items()}
    more = {**state, "m1.coordconv.conv.weight": torch.zeros(1), "al0.weight": torch.zeros(1)}
    torch.save({"state_dict": more, "epoch": 80}, tmp_path / "wing.ckpt")
    other = FAN()
    other.load_weights(tmp_path / "wing.ckpt")
    assert all(torch.equal(value, state[key]) for key, value in other.own_state().items())
    torch.save({"state_dict": {"l0.bias": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ZooError, match=r"does not hold FAN .* lightning download starganv2_fan"):
        other.load_weights(tmp_path / "other.ckpt")
    with pytest.raises(ZooError, match="does not hold FAN"):
        other.load_weights({"epoch": torch.zeros(1), "state_dict": 3})  # type: ignore[dict-item]


def test_landmarks_need_a_square_of_a_multiple_of_64(fan: FAN) -> None:
    assert fan.landmarks(torch.zeros(1, 3, 128, 128)).shape == (1, LANDMARKS, 2)
    for size in ((64, 128), (100, 100)):
        with pytest.raises(ZooError, match="multiple of 64"):
            fan.landmarks(torch.zeros(1, 3, *size))


def test_peaks_lean_towards_their_higher_neighbour_but_not_on_the_border() -> None:
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 3, 5], maps[0, 0, 3, 6], maps[0, 0, 2, 5] = 1.0, 0.5, 0.5
    maps[0, 1, 0, 5], maps[0, 1, 0, 6] = 1.0, 0.5
    assert decode_landmarks(maps)[0].tolist() == [[5.75, 3.25], [5.5, 0.5]]


def test_masks_are_in_range_and_the_finer_one_lies_within_the_coarser() -> None:
    maps = torch.rand(2, LANDMARKS, 256, 256, generator=torch.Generator().manual_seed(0)) ** 20
    coarse, fine = skip_masks(maps)
    for mask in (coarse, fine):
        assert mask.shape == (2, 1, 256, 256)
        assert mask.min() >= 0
        assert mask.max() <= 1
    assert (fine <= coarse).all()
    assert not torch.equal(fine, coarse)
    assert all(torch.equal(mask, torch.zeros_like(mask)) for mask in skip_masks(torch.zeros(1, LANDMARKS, 256, 256)))


# Alignment -----------------------------------------------------------------------------------------------------------


def face(seed: int = 0) -> np.ndarray:
    """Landmarks of something like a face in a picture of 256 pixels, (x, y)."""
    points = np.random.default_rng(seed).normal(128, 30, (LANDMARKS, 2))
    points[60:68] += (-40 - points[60:68].mean(0)[0] + 128, 100 - points[60:68].mean(0)[1])
    points[68:76] += (40 - points[68:76].mean(0)[0] + 128, 100 - points[68:76].mean(0)[1])
    points[96], points[97], points[76], points[82] = (88, 100), (168, 100), (100, 180), (156, 180)
    return points.astype(np.float32)


def turned(points: np.ndarray, degrees: float, scale: float, move: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points @ matrix.T + move).astype(np.float32)


def test_a_similarity_is_undone() -> None:
    wanted = face()
    for degrees in (-20.0, 0.0, 35.0):
        landmarks = turned(wanted, degrees, 0.8, (10.0, 30.0))
        matrix = similarity(landmarks, wanted)
        back = landmarks @ matrix[:2, :2].T + matrix[:2, 2]
        np.testing.assert_allclose(back, wanted, atol=0.05)
    np.testing.assert_allclose(horizontal(wanted), [1, 0], atol=0.05)


def test_warping_by_whole_pixels_moves_them_and_weights_add_up() -> None:
    picture = pixels(20, 20).astype(np.float64)
    matrix = np.eye(3)
    np.testing.assert_allclose(warp(picture, matrix, 20), picture, atol=1e-4)
    matrix[:2, 2] = (3, -2)
    np.testing.assert_allclose(warp(picture, matrix, 20)[:18, 3:], picture[2:, :17], atol=1e-4)
    np.testing.assert_allclose(warp(picture, matrix, 20)[:, :3], 0, atol=1e-9)
    np.testing.assert_allclose(lanczos_weights().sum(1), 1, rtol=1e-6)


def test_the_border_mirrors_and_blurs() -> None:
    picture = pixels(256, 256)
    wide = with_mirrored_border(picture)
    assert wide.shape == (512, 512, 3)
    np.testing.assert_allclose(wide[128:384, 128:384], picture)
    corner = wide[:64, :64]
    assert np.abs(np.diff(corner, axis=0)).mean() < np.abs(np.diff(picture.astype(float), axis=0)).mean()


def test_faces_are_aligned_to_the_mean_s_size(tmp_path: Path, fan: FAN) -> None:
    np.savez(tmp_path / "mean.npz", mean=face())
    wanted = mean_landmarks(tmp_path / "mean.npz", 256)
    np.testing.assert_array_equal(mean_landmarks(tmp_path / "mean.npz", 512), 2 * wanted)
    aligned: Tensor = align_face(fan, pixels(90, 70), wanted, 256)
    assert aligned.shape == (3, 256, 256)
    assert aligned.abs().max() <= 1
    with pytest.raises(ZooError, match="multiple"):
        mean_landmarks(tmp_path / "mean.npz", 300)
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ZooError, match="expected were 98 landmarks"):
        mean_landmarks(tmp_path / "other.npz", 256)
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ZooError, match="holds no mean landmarks"):
        mean_landmarks(tmp_path / "text.npz", 256)

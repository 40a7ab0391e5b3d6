"""The judge's segmenter as a detector."""

import torch

from datamodules.scenes import SceneMaker
from zoo.metrics.judge import object_iou
from zoo.metrics.scene_objects import SceneObjects


def test_it_finds_the_objects_of_scenes() -> None:
    maker = SceneMaker(("plain", "dotted"), 64, seed=11)
    scenes = [maker.scene(index, index % 2) for index in range(8)]
    images, masks = (torch.stack([getattr(scene, name) for scene in scenes]) for name in ("image", "mask"))
    maps = SceneObjects().instance_maps(images)
    assert (maps.dtype, maps.shape) == (torch.uint8, (8, 3, 64, 64))
    assert set(maps.unique().tolist()) == {0, 255}
    assert torch.equal(maps[:, 0], maps[:, 2])
    assert float(object_iou(maps[:, :1] / 255, masks).mean()) > 0.9
    small = SceneObjects().instance_maps(images[:, :, ::2, ::2])
    assert small.shape == (8, 3, 32, 32)

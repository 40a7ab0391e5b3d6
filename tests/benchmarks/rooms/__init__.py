"""The rooms whose iterations are measured, at the sizes at which the official codes were measured.

The official figures were taken with each paper's official code on a quiet 2-core machine (x86-64, AVX512; PyTorch 2.15, float32, batch
as below), the median after two warm-up iterations, with one thread in effect. That machine needed `OFFICIAL_CALIBRATION` seconds
for the five matrix products of `driving.calibrate`: by it the official seconds are scaled to the present machine. This is rough, for
machines differ in how fast they are at convolutions beside matrix products; what compares on every machine is the operations, and
the time of a plain iteration on the same machine.
"""

from . import aggan, alae, biggan, cyclegan, gpunit, hidt, sat, single_image, starganv2, unit
from .common import Iteration, MeasuredRoom, pictures, unpaired

__all__ = ["OFFICIAL_CALIBRATION", "ROOMS", "Iteration", "MeasuredRoom", "pictures", "unpaired"]

OFFICIAL_CALIBRATION = 0.535

ROOMS: dict[str, MeasuredRoom] = {
    name: measured
    for module in (aggan, alae, biggan, cyclegan, gpunit, hidt, sat, single_image, starganv2, unit)
    for name, measured in sorted(module.MEASURED.items())
}

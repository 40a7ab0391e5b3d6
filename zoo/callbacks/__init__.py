"""Callbacks: staged training, and what every run keeps and shows."""

from zoo.callbacks.adaptive_lambda import AdaptiveLambda
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.dashboards import Dashboards
from zoo.callbacks.grow_scales import GrowScales
from zoo.callbacks.growing import GrowResolution
from zoo.callbacks.metrics import Metrics
from zoo.callbacks.progress import Progress
from zoo.callbacks.rates import FadeRates
from zoo.callbacks.run_folder import RunFolder
from zoo.callbacks.samples import SampleGrids
from zoo.callbacks.staging import EnterStage, FreezeNetworks

__all__ = [
    "AdaptiveLambda",
    "Checkpoints",
    "Dashboards",
    "EnterStage",
    "FadeRates",
    "FreezeNetworks",
    "GrowResolution",
    "GrowScales",
    "Metrics",
    "Progress",
    "RunFolder",
    "SampleGrids",
]

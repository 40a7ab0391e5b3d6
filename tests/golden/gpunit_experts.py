"""GP-UNIT's experts against numbers recorded from the official code."""

from torch.nn import functional as F

from golden.golden import Golden, GoldenMismatchError, Kinds
from golden.recipe import recipe_state
from zoo.experts.ir_se50 import IRSE50


def check_id_loss(golden: Golden) -> None:
    if golden.config["args"] != {"backbone": "ir_se 50, 112"}:
        raise GoldenMismatchError("config", f"has {golden.config['args']}, which this test does not know how to follow")
    expert = IRSE50().to(golden.dtype)
    assert set(golden.config["keys"]) <= expert.own_state().keys()
    expert.load_weights(recipe_state(expert, golden.config["recipe_seed"]))
    pictures = {
        (name, size): F.interpolate(golden.given(f"in/{name}_seed"), size=size, mode="bilinear", align_corners=False)
        for name in ("y", "yhat")
        for size in (256, 320)
    }
    for key in golden.keys(r"out/feat_\w+"):
        name, _, size = key.removeprefix("out/feat_").partition("_")
        golden.compare(key, expert(pictures[name, int(size or 256)]))
    golden.compare("out/loss", expert.identity_loss(pictures["yhat", 256], pictures["y", 256]))


EXPERT_KINDS: Kinds = {"id_loss": check_id_loss}

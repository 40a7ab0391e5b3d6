"""StarGAN v2 against numbers recorded from the official code."""

from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn

from datamodules.domain_crops import Crop, CropAndResize
from datamodules.domains import DomainFiles, balance_weights
from datamodules.pictures import decode
from golden.golden import Golden, GoldenMismatchError, check, every_file, fit
from golden.starganv2_numbers import image, normal, probe, weights
from zoo.blocks.adversarial import adversarial_loss, r1_penalty
from zoo.core.images import from_uint8, to_unit
from zoo.experts.face_alignment import align, horizontal, scaling, similarity, with_mirrored_border
from zoo.experts.fan import FAN
from zoo.experts.fan_masks import cut_small, decode_landmarks, shift_up, skip_masks, stretch
from zoo.experts.inception import prepare
from zoo.experts.lpips import LPIPS
from zoo.metrics.domain_protocol import group_distance
from zoo.metrics.frechet import Gaussian
from zoo.starganv2 import StarGANv2
from zoo.starganv2.inference import (
    Networks,
    cycle_grid,
    interpolation_frames,
    interpolation_weights,
    latent_grid,
    mean_style,
    reference_grid,
    sliding_frames,
)
from zoo.starganv2.model import NETWORKS
from zoo.starganv2.networks import (
    AdaIN,
    Discriminator,
    Generator,
    HighPass,
    MappingNetwork,
    ResidualBlock,
    StyledBlock,
    StyleEncoder,
)

OFFICIAL_WIDTH = 2**14
OFFICIAL_CAP = 512


def loaded(network: nn.Module, state: Mapping[str, Tensor]) -> Any:
    """A network in float64 with all of a file's weights."""
    network.double().load_state_dict(dict(state))
    return network


def reads(golden: Golden, *known: str) -> dict[str, Any]:
    """What a file says about itself, of which nothing may be passed over."""
    about = {"description", "dtype", "tolerance", "torch", "source", "kind", "rtol", "atol", "params", "base_num"}
    if strange := sorted(set(golden.config) - about - set(known)):
        raise GoldenMismatchError("config", f"has {strange}, which this test does not know how to follow")
    return golden.config


# Networks ------------------------------------------------------------------------------------------------------------

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "ResBlk": lambda **c: ResidualBlock(
        c["dim_in"], c["dim_out"], c.get("normalize", False), c.get("downsample", False)
    ),
    "AdaIN": lambda **c: AdaIN(c["style_dim"], c["num_features"]),
    "AdainResBlk": lambda style, **c: StyledBlock(
        c["dim_in"], c["dim_out"], style, c["w_hpf"] == 0, c.get("upsample", False)
    ),
    "HighPass": lambda **c: HighPass(c["w_hpf"]),
}


def check_blocks(golden: Golden) -> None:
    config = reads(golden, "cases", "style_dim")
    for case in config["cases"]:
        tag, arguments = case["tag"], dict(case)
        if case["cls"] == "AdainResBlk":
            arguments["style"] = config["style_dim"]
        state = golden.state(f"{tag}/state/")
        block = BLOCKS[case["cls"]](**{k: v for k, v in arguments.items() if k not in {"tag", "cls", "note"}})
        if case["cls"] == "HighPass":  # a constant of the file, which ours has to equal by itself
            torch.testing.assert_close(block.double().get_buffer("filter"), state["filter"], rtol=1e-6, atol=0)
        styles = [golden.given(key) for key in golden.keys(f"{tag}/in/s")]
        golden.compare(f"{tag}/out/y", loaded(block, state)(golden.given(f"{tag}/in/x"), *styles))


def check_generator(golden: Golden) -> None:
    config = reads(
        golden, "net", "img_size", "dim_in", "max_conv_dim", "style_dim", "w_hpf", "batch", "feed_size", "mask_size"
    )
    generator = Generator(
        config["img_size"], config["dim_in"], config["max_conv_dim"], config["style_dim"], config["w_hpf"]
    )
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, __, output: seen.__setitem__(name, output)

    loaded(generator, golden.state())
    x, style = golden.given("in/x"), golden.given("in/s")
    places = {key.partition("/")[2] for key in golden.keys(r"(probe|shape)/.*")}
    hooks = [generator.get_submodule(place).register_forward_hook(keep(place)) for place in places]
    golden.compare("out/y", generator(x, style))
    for hook in hooks:
        hook.remove()
    for key in golden.keys(r"probe/.*"):
        golden.compare(key, probe(seen[key.partition("/")[2]], golden.layout(key).numel()))
    for key in golden.keys(r"shape/.*"):
        golden.compare(key, torch.tensor(seen[key.partition("/")[2]].shape))
    if golden.keys(r"out/y_masks"):
        masks = [golden.given("in/mask0"), golden.given("in/mask1")]
        golden.compare("out/y_masks", generator(x, style, masks))


def check_mapping(golden: Golden) -> None:
    config = reads(golden, "net", "latent_dim", "hidden_dim", "style_dim", "num_domains")
    network = loaded(
        MappingNetwork(config["latent_dim"], config["hidden_dim"], config["style_dim"], config["num_domains"]),
        golden.state(),
    )
    latent = golden.given("in/z")
    golden.compare("out/s", network(latent, golden.given("in/y")))
    golden.compare("out/all", network.branches(latent))
    golden.compare("out/shared", network.shared(latent))


def check_style_encoder(golden: Golden) -> None:
    config = reads(golden, "net", "img_size", "dim_in", "max_conv_dim", "style_dim", "num_domains")
    network = loaded(
        StyleEncoder(
            config["img_size"], config["dim_in"], config["max_conv_dim"], config["style_dim"], config["num_domains"]
        ),
        golden.state(),
    )
    x = golden.given("in/x")
    golden.compare("out/s", network(x, golden.given("in/y")))
    golden.compare("out/all", network.branches(x))
    golden.compare("out/shared", network.shared(x).flatten(1))


def check_discriminator(golden: Golden) -> None:
    config = reads(golden, "net", "img_size", "dim_in", "max_conv_dim", "num_domains")
    network = loaded(
        Discriminator(config["img_size"], config["dim_in"], config["max_conv_dim"], config["num_domains"]),
        golden.state(),
    )
    x = golden.given("in/x")
    golden.compare("out/logit", network(x, golden.given("in/y")))
    golden.compare("out/all", network.branches(x))


def check_default(golden: Golden) -> None:
    config = reads(golden, "weights", "weight_seed", "img_size", "w_hpf", "num_domains", "latent_dim", "style_dim")
    seed, size = config["weight_seed"], config["img_size"]
    shape = (size, OFFICIAL_WIDTH // size, OFFICIAL_CAP)
    style, domains, y = config["style_dim"], config["num_domains"], golden.given("in/y")
    large = image("in/x_large", (1, 3, size, size), seed).double()

    def filled(name: str, network: nn.Module) -> nn.Module:
        assert sum(p.numel() for p in network.parameters()) == config["params"][name]
        return loaded(network, weights(network.state_dict(), name, seed))

    with torch.no_grad():
        generator = filled("generator", Generator(*shape, style, config["w_hpf"]))
        x, s = golden.given("in/x_small"), golden.given("in/s")
        golden.compare("out/generator", generator(x, s))
        if golden.keys("out/generator_masks"):
            golden.compare("out/generator_masks", generator(x, s, [golden.given("in/mask0"), golden.given("in/mask1")]))
        mapping = filled("mapping_network", MappingNetwork(config["latent_dim"], 512, style, domains))
        golden.compare("out/mapping_network", mapping(golden.given("in/z"), y))
        golden.compare("out/style_encoder", filled("style_encoder", StyleEncoder(*shape, style, domains))(large, y))
        golden.compare("out/discriminator", filled("discriminator", Discriminator(*shape, domains))(large, y))


# Losses and training -------------------------------------------------------------------------------------------------

MODEL = ("img_size", "dim_in", "max_conv_dim", "hidden_dim", "num_domains", "style_dim", "latent_dim", "w_hpf")
LAMBDAS = ("ds", "sty", "cyc", "reg")
ADAM_EPS = 1e-8  # PyTorch's own
ALIASES = ("cap", "domains", "style", "latent", "hidden", "batch", "seed", "y_src", "y_ref")
WEIGHTS = (*(f"lambda_{name}" for name in LAMBDAS), "lambdas", "ds_iter", "lr", "f_lr", "iters")


def model_of(golden: Golden, *known: str) -> StarGANv2:
    """The room as a file says, with its weights; where it has high-pass skips, with the recording's stub of FAN."""
    config = reads(golden, *MODEL, *ALIASES, *WEIGHTS, *known)
    lambdas = {name: config["lambdas"][name] if "lambdas" in config else config[f"lambda_{name}"] for name in LAMBDAS}
    more: dict[str, Any] = {}
    if "optim" in config:
        optimiser = dict(config["optim"])
        if optimiser.pop("eps") != ADAM_EPS or set(optimiser) != {"lr", "f_lr", "betas", "weight_decay"}:
            raise GoldenMismatchError("config", f"has the optimiser {config['optim']}, which this test cannot follow")
        more = {"learning_rate": optimiser["lr"], "mapping_learning_rate": optimiser["f_lr"]}
        more |= {"betas": tuple(optimiser["betas"]), "weight_decay": optimiser["weight_decay"]}
    if "ema_beta" in config:
        more["ema_decay"] = config["ema_beta"]
    model = StarGANv2(
        image_size=config["img_size"],
        domains=[f"domain{number}" for number in range(config["num_domains"])],
        channels=config["dim_in"],
        max_channels=config["max_conv_dim"],
        style_channels=config["style_dim"],
        latent_channels=config["latent_dim"],
        mapping_channels=config["hidden_dim"],
        w_hpf=config["w_hpf"],
        landmarks="random",
        lambda_style=lambdas["sty"],
        lambda_diversity=lambdas["ds"],
        diversity_iterations=config["ds_iter"],
        lambda_cycle=lambdas["cyc"],
        lambda_r1=lambdas["reg"],
        **more,
    ).double()
    for name in (*NETWORKS, "discriminator"):
        if state := golden.state(f"state/{name}."):
            model.get_submodule(name).load_state_dict(state)
    if config["w_hpf"] > 0:
        model.masks = stub_masks  # type: ignore[method-assign, assignment]
    return model


def stub_masks(x: Tensor) -> tuple[Tensor, Tensor]:
    mask = ((x.mean(1, keepdim=True) + 1) / 2).clamp(0, 1).detach()
    return mask, mask / 2


NAMES = {
    "real": "real",
    "fake": "fake",
    "reg": "r1",
    "adv": "adversarial",
    "sty": "style",
    "ds": "diversity",
    "cyc": "cycle",
}
KINDS_OF_STYLE = {"latent": "latent", "ref": "reference"}
PLAYERS = {"d": "discriminator", "g": "generator"}


def batch_of(golden: Golden, prefix: str) -> dict[str, Tensor]:
    names = {
        "x_src": "image",
        "y_src": "domain",
        "x_ref": "reference",
        "x_ref2": "reference2",
        "y_ref": "reference_domain",
    }
    return {ours: golden.given(f"{prefix}{theirs}") for theirs, ours in names.items()}


def check_losses(golden: Golden) -> None:
    model = model_of(golden, "param_keys")
    config, batch = golden.config, batch_of(golden, "in/")
    named = dict(model.named_parameters())
    parameters = [named[key] for key in config["param_keys"]]
    guides = {
        "latent": (model.mapping_network, [golden.given("in/z_trg"), golden.given("in/z_trg2")]),
        "ref": (model.style_encoder, [batch["reference"], batch["reference2"]]),
    }
    masks = model.masks(batch["image"])
    for step in ("d_latent", "d_ref", "g_latent", "g_ref"):
        player, _, kind = step.partition("_")
        encode, both = guides[kind]
        if player == "d":
            terms, total = model.discriminator_losses(batch, masks, encode, both[0])
        else:
            terms, total = model.generator_losses(batch, masks, encode, both)
        for key in golden.keys(f"loss/{step}/\\w+"):
            name = key.rpartition("/")[2]
            golden.compare(key, total if name == "total" else terms[NAMES[name]])
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        norms = [torch.tensor(-1.0, dtype=torch.float64) if g is None else g.norm() for g in gradients]
        golden.compare(f"grad/{step}", torch.stack(norms))
    logits = golden.given("in/logits")
    golden.compare("loss/adv_real", adversarial_loss(logits, real=True))
    golden.compare("loss/adv_fake", adversarial_loss(logits, real=False))
    real = batch["image"].requires_grad_()
    golden.compare("loss/r1", r1_penalty(model.discriminator(real, batch["domain"]), real))


class Norms(Callback):
    """The norm of all of a network's weights after each iteration."""

    def __init__(self) -> None:
        self.norms: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        networks = {name: pl_module.get_submodule(name) for name in (*NETWORKS, "discriminator")}
        vectors = {name: nn.utils.parameters_to_vector(n.parameters()) for name, n in networks.items()}
        self.norms.append({name: vector.detach().norm() for name, vector in vectors.items()})


def check_training(golden: Golden) -> None:
    model = model_of(golden, "param_keys", "ema_keys", "optim", "ema_beta")
    config = golden.config
    steps = range(len(golden.keys(r"in/\d+/x_src")))
    for name in NETWORKS:  # of the recording: a wrong direction shows
        for average, start in zip(model.ema[name].parameters(), model.get_submodule(name).parameters(), strict=True):
            average.data.copy_(0.5 * start.data)
    ours = {"z_trg": "latent", "z_trg2": "latent2"}
    tape = {k: [(ours[name], value) for name, value in golden.tape(f"noise/{k}/")] for k in steps}
    watch = Norms()
    record = fit(model, [batch_of(golden, f"in/{k}/") for k in steps], tape, watch)
    for k, terms in enumerate(record.terms):
        for key in golden.keys(rf"step{k}/[dg]_\w+/\w+"):
            _, step, name = key.split("/")
            player, _, kind = step.partition("_")
            ours_name = PLAYERS[player] if name == "total" else NAMES[name]
            golden.compare(key, terms[f"{ours_name}_{KINDS_OF_STYLE[kind]}"])
        golden.compare(f"step{k}/lambda_ds", torch.tensor(model.diversity_weight(k), dtype=torch.float64))
        torch.testing.assert_close(terms["lambda_diversity"].double(), torch.tensor(model.diversity_weight(k)).double())
        for key in golden.keys(rf"step{k}/norm/\w+"):
            golden.compare(key, watch.norms[k][key.rpartition("/")[2]])
    golden.compare("final/lambda_ds", torch.tensor(model.diversity_weight(len(steps)), dtype=torch.float64))
    named = dict(model.named_parameters())

    def rows(values: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack([value.norm(), value.mean()]) for value in values]).detach()

    golden.compare("final/params", rows([named[key] for key in config["param_keys"]]))
    golden.compare("final/params_ema", rows([named[f"ema.{key}"] for key in config["ema_keys"]]))
    for key in golden.keys(r"final/tensor/.*"):
        golden.compare(key, named[key.removeprefix("final/tensor/")])


# FAN -----------------------------------------------------------------------------------------------------------------


def check_fan(golden: Golden) -> None:
    config = reads(golden, "weights", "weight_prefix", "weight_seed")
    fan = FAN().double()
    state = weights(fan.own_state(), config["weight_prefix"], config["weight_seed"])
    fan.load_weights({**state, **golden.state()})
    assert sum(p.numel() for p in fan.parameters()) == config["params"]
    x = golden.given("in/x")
    maps = fan.heatmaps(x)
    golden.compare("out/heatmap_shape", torch.tensor(maps.shape))
    golden.compare("out/heatmap_probe", probe(maps, golden.layout("out/heatmap_probe").numel()))
    golden.compare("out/heatmap_mean", maps.mean((2, 3)))
    golden.compare("out/heatmap_max", maps.amax((2, 3)))
    for number, mask in enumerate(fan.masks(x)):
        golden.compare(f"out/mask{number}", mask)
        golden.compare(f"out/mask{number}_mean", mask.mean())
    golden.compare("out/landmarks", fan.landmarks(x))


def check_fan_masks(golden: Golden) -> None:
    config = reads(golden, "size", "sigma")
    columns, rows = golden.given("in/landmarks").unbind(1)
    places = torch.arange(config["size"], dtype=torch.float64)
    distance = (places[None, None, :] - columns[:, None, None]) ** 2 + (
        places[None, :, None] - rows[:, None, None]
    ) ** 2
    maps = torch.exp(-distance / (2 * config["sigma"] ** 2))[None]
    for number, mask in enumerate(skip_masks(maps)):
        golden.compare(f"out/mask{number}_probe", probe(mask, golden.layout(f"out/mask{number}_probe").numel()))
        golden.compare(f"out/mask{number}_rows", mask[0, 0].sum(1))
        golden.compare(f"out/mask{number}_cols", mask[0, 0].sum(0))
    x = golden.given("shift/in/x")
    for key in golden.keys(r"shift/out/(plus|minus)\d+"):
        name = key.rpartition("/")[2]
        up = int(name.removeprefix("plus")) if name.startswith("plus") else -int(name.removeprefix("minus"))
        golden.compare(key, shift_up(x, up))
    golden.compare("normalize/out", stretch(x))
    golden.compare("truncate/out", cut_small(x))


def check_fan_landmarks(golden: Golden) -> None:
    config = reads(golden, "seed", "size")
    peaks, size = golden.given("in/peaks_row_col"), config["size"]
    maps = normal("hm", (1, len(peaks), size, size), config["seed"]).float()
    for number, (row, column) in enumerate(peaks.tolist()):
        maps[0, number, row, column] += 8
    golden.compare("out/landmarks", decode_landmarks(maps))


# Inference -----------------------------------------------------------------------------------------------------------


def check_inference(golden: Golden) -> None:
    model = model_of(golden, "psi", "video", "z_many_first_video", "y_inf")
    config = golden.config
    networks = Networks(*(model.get_submodule(name) for name in NETWORKS), masks=model.masks)
    images, references, domains = golden.given("in/x_src"), golden.given("in/x_ref"), golden.given("in/y_ref")
    latents = [golden.given(key) for key in golden.keys(r"in/z\d+")]
    everyone = range(config["num_domains"])
    with torch.no_grad():
        cells, columns = reference_grid(networks, images, references, domains)
        golden.compare("out/grid_reference", cells)
        golden.compare("out/grid_reference_ncol", torch.tensor(columns))
        raise_unless_same_rows(latents)
        shape = (10_000, config["latent_dim"])
        means = [
            mean_style(
                model.mapping_network, normal(f"z_many.{k}", shape, config["seed"]).float().double(), torch.tensor(k)
            )
            for k in everyone
        ]
        rows = torch.stack([latent[0] for latent in latents])
        cells, columns = latent_grid(networks, images, rows, [torch.tensor(k) for k in everyone], means, config["psi"])
        golden.compare("out/grid_latent", cells)
        golden.compare("out/grid_latent_ncol", torch.tensor(columns))
        count = len(images)
        sources = torch.tensor(config["y_src"][0][:count])
        cells, columns = cycle_grid(networks, images, sources, references[:count], domains[:count])
        golden.compare("out/grid_rec", cells)
        golden.compare("out/grid_rec_ncol", torch.tensor(columns))
        golden.compare("out/alphas", interpolation_weights())
        styles = model.style_encoder(references[:2], domains[:1].expand(2))
        frames = torch.stack(list(interpolation_frames(networks, images, *styles)))
    for name, shown in (("interp", frames), ("slide", torch.stack(list(sliding_frames(*references[:2]))))):
        golden.compare(f"out/{name}_shape", torch.tensor(shown.shape))
        probes = golden.layout(f"out/{name}_probe")
        golden.compare(f"out/{name}_probe", torch.stack([probe(frame, probes.shape[1]) for frame in shown]))


def raise_unless_same_rows(latents: list[Tensor]) -> None:
    if any(not torch.equal(latent, latent[:1].expand_as(latent)) for latent in latents):
        raise GoldenMismatchError("in/z0", "has another latent in each row, which no grid of ours has")


# Faces, data and figures ---------------------------------------------------------------------------------------------


def check_align(golden: Golden) -> None:
    size = reads(golden, "size")["size"]
    landmarks, wanted = (golden.given(f"in/{name}").float().numpy() for name in ("landmarks", "reference"))
    golden.compare("out/xaxis", torch.from_numpy(horizontal(landmarks)))
    golden.compare("out/S", torch.diag(torch.tensor([*2 * [scaling(landmarks, wanted)], 1.0], dtype=torch.float64)))
    golden.compare("out/matrix", torch.from_numpy(similarity(landmarks, wanted)))
    channels, rows, columns = torch.meshgrid(
        *(torch.arange(count, dtype=torch.float64) for count in (3, size, size)), indexing="ij"
    )
    picture = torch.sin(0.05 * (channels + 1) * rows + 0.03 * columns)

    def in_bytes(picture: Tensor) -> Any:  # as the official code makes them: fractions are cut off
        return ((picture.permute(1, 2, 0) * 0.5 + 0.5) * 255).to(torch.uint8).numpy()

    padded = with_mirrored_border(in_bytes(picture))
    golden.compare("out/pad_shape", torch.tensor(padded.shape))
    golden.compare("out/pad_landmarks", torch.from_numpy(landmarks + size // 2))
    probes = golden.layout("out/pad_probe").numel()
    golden.compare("out/pad_probe", probe(torch.from_numpy(padded), probes))
    aligned = align(in_bytes(picture.float()), landmarks, wanted)  # there the recording took float32's numbers
    golden.compare("out/aligned_probe", probe(aligned, golden.layout("out/aligned_probe").numel()))


def check_data(golden: Golden) -> None:
    config = reads(golden, "img_size", "crop_prob", "crop_scale", "crop_ratio", "domain_order", "seen", "output_dtype")
    prepare_square = CropAndResize(
        config["img_size"], config["crop_prob"], tuple(config["crop_scale"]), tuple(config["crop_ratio"])
    )
    assert prepare_square == CropAndResize(config["img_size"])  # our defaults are the official ones

    def prepared(name: str, **options: Any) -> Tensor:
        path = tmp / f"{name.replace('/', '_')}.png"
        Image.fromarray(golden.layout(name).numpy()).save(path)
        pixels = decode(path)
        golden.compare(name, torch.from_numpy(pixels.copy()))  # what the file says comes back from a folder
        return from_uint8(torch.from_numpy(prepare_square(pixels, **options).copy()).permute(2, 0, 1))

    with TemporaryDirectory() as folder:
        tmp = Path(folder)
        for key in golden.keys(r"train\d+/out"):
            case = key.partition("/")[0]
            used, *box = golden.layout(f"{case}/crop").tolist()
            height, width = golden.layout(f"{case}/image").shape[:2]
            dice = Dice(bool(used), Crop(*box), bool(golden.layout(f"{case}/flip")), height * width)
            crop, flip = prepare_square.draw(height, width, dice)  # type: ignore[arg-type]
            golden.compare(
                f"{case}/crop", torch.tensor([crop is not None, *(crop or Crop(0, 0, 0, 0))], dtype=torch.int64)
            )
            golden.compare(f"{case}/flip", torch.tensor(flip))
            golden.compare(key, prepared(f"{case}/image", crop=crop, flip=flip))
        square = prepared("eval/image")
    for key in ("eval/test_out", "eval/eval_out"):
        golden.compare(key, square)
    pixels = golden.layout("eval/image").permute(2, 0, 1)[None]
    seen = prepare(pixels, config["img_size"])[0]
    golden.compare("eval/imagenet_probe", probe(seen, golden.layout("eval/imagenet_probe").numel()))
    golden.compare("eval/imagenet_mean", seen.mean((1, 2)))
    for kind in ("", "ref_"):
        counts = golden.layout(f"sampler/{kind}labels").bincount().tolist()
        named = {
            n: [Path(f"{n}/{i}.png") for i in range(c)] for n, c in zip(config["domain_order"], counts, strict=True)
        }
        files = DomainFiles(named, seed=0, max_bad_share=0.0)
        golden.compare(f"sampler/{kind}labels", torch.from_numpy(files.labels))
        golden.compare(f"sampler/{kind}weights", torch.from_numpy(balance_weights(files.labels)))
    golden.compare("sampler/num_samples", torch.tensor(len(files)))
    golden.compare("denorm/out", to_unit(golden.given("denorm/in")))


class Dice:
    """Random numbers that lead to a given crop and flip."""

    def __init__(self, used: bool, crop: Crop, flip: bool, area: int) -> None:
        self.units = [0.0 if used else 0.999, 0.0 if flip else 0.999]
        self.ranges = [crop.height * crop.width / area, log(crop.width / crop.height)] if used else []
        self.places = [crop.top, crop.left] if used else []

    def random(self) -> float:
        return self.units.pop(0)

    def uniform(self, least: float, most: float) -> float:
        return self.ranges.pop(0)

    def integers(self, end: int) -> int:
        place = self.places.pop(0)
        assert 0 <= place < end
        return place


def check_metrics(golden: Golden) -> None:
    config = reads(golden, "weights", "weight_prefix", "weight_seed")
    lpips = LPIPS().double()
    layers = lpips.features.own_state()
    official = {key.replace("features.", "alexnet.layers."): value for key, value in layers.items()}
    made = weights(official, config["weight_prefix"], config["weight_seed"])
    lpips.features.load_weights({key.replace("alexnet.layers.", "features."): value for key, value in made.items()})
    lpips.load_weights(golden.state())
    images = [golden.given(key) for key in golden.keys(r"in/img\d+")]
    for key in golden.keys(r"out/lpips_\d+_\d+"):
        one, other = (images[int(number)] for number in key.split("_")[1:])
        golden.compare(key, lpips(one, other).mean())
    golden.compare("out/lpips_group", group_distance(lpips, images))
    real, generated = Gaussian(), Gaussian()
    for side, key in ((real, "in/act_a"), (generated, "in/act_b")):
        for rows in golden.given(key).split(3):
            side.add(rows)
    golden.compare("out/fid", torch.tensor(real.distance(generated), dtype=torch.float64))


KINDS = {
    "blocks": check_blocks,
    "generator": check_generator,
    "mapping": check_mapping,
    "style_encoder": check_style_encoder,
    "discriminator": check_discriminator,
    "default": check_default,
    "losses": check_losses,
    "train": check_training,
    "fan_forward": check_fan,
    "fan_masks": check_fan_masks,
    "fan_landmarks": check_fan_landmarks,
    "inference": check_inference,
    "align": check_align,
    "data": check_data,
    "metrics": check_metrics,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("starganv2"))
def test_golden(path: Path) -> None:
    check(path, KINDS)

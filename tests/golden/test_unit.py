"""UNIT against numbers recorded from both generations of the official code, and from an independent computation."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.preprocess import Transform
from golden.golden import Golden, GoldenMismatchError, Record, check, every_file, fit, norms_and_means
from golden.unit_digits import DIGIT_KINDS
from golden.unit_dropout import Queue, masked
from golden.unit_readers import READER_KINDS
from zoo.core.images import from_uint8
from zoo.experts.vgg import VGGFeatures
from zoo.metrics.map_accuracy import pixel_accuracy
from zoo.unit import UNIT
from zoo.unit.discriminators import (
    BlurredDiscriminators,
    MultiScaleDiscriminator,
    PlainDiscriminators,
    SharedDiscriminators,
    blur,
    halve,
)
from zoo.unit.generators import CoupledGenerators, munit_style_generators, paper_generators
from zoo.unit.losses import adversarial_loss, caffe_picture, discriminator_loss, perceptual_loss
from zoo.weights.unit import later_generator_names, paper_discriminator_names, paper_generator_names, renamed

DOMAINS = {"a": "source", "b": "target"}
NORMS = {"none": "none", "in": "instance", "ln": "layer"}
GAN_TYPES = {"lsgan": "lsgan", "nsgan": "bce"}
DISCRIMINATORS = {"COCODis": "plain", "COCOSharedDis": "shared", "COCOMsDis": "blurred"}
FRONT_NORMS = {"COCOResGen": "instance", "COCOResGen2": "none"}


def known(arguments: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Arguments of which nothing is overlooked."""
    if unknown := set(arguments) - names:
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    return dict(arguments)


def loaded(network: Any, state: dict[str, Tensor]) -> Any:
    network.double().load_state_dict(state, strict=True)
    return network.train()


class Outputs:
    """The last output of every module of a network, by its name."""

    def __init__(self, network: nn.Module) -> None:
        self.seen: dict[str, Tensor] = {}
        for name, module in network.named_modules():
            # Cloned, because activations work in place.
            module.register_forward_hook(lambda _, __, x, name=name: self.keep(name, x))

    def keep(self, name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            self.seen[name] = output.detach().clone()


# The later official code ---------------------------------------------------------------------------------------------------------

LATER_GENERATOR = {"dim", "n_downsample", "n_res", "activ", "pad_type"}
LATER_DISCRIMINATOR = {"dim", "norm", "activ", "n_layer", "gan_type", "num_scales", "pad_type"}


def make_later_generators(params: dict[str, Any], channels: int) -> CoupledGenerators:
    params = known(params, LATER_GENERATOR)
    widths, blocks = (params["dim"], params["n_downsample"]), (params["n_res"], params["n_res"], 0, 0)
    return munit_style_generators(channels, channels, *widths, *blocks, params["activ"], params["pad_type"])


def check_master_generator(golden: Golden) -> None:
    """The same weights in both domains: each gives the recorded numbers."""
    network = make_later_generators(golden.config["params"], golden.config["input_dim"])
    state = golden.state()
    names = {domain: later_generator_names(state, domain) for domain in ("source", "target")}
    loaded(network, renamed(state, names["source"]) | renamed(state, names["target"]))
    outputs = Outputs(network)
    image = golden.given("in/x")
    mean = network.encode(image, "source")
    assert torch.equal(mean, network.encode(image, "target"))
    both = network.encode_both(image, image)
    torch.testing.assert_close(torch.cat(both), torch.cat([mean, mean]), rtol=1e-9, atol=1e-11)
    golden.compare("out/hiddens", mean)
    ((_, noise),) = golden.tape("noise/encode/")
    golden.compare("out/decoded_from_hiddens_plus_noise", network.decode(mean + noise, "source"))
    decoded = network.decode(mean, "target")
    assert torch.equal(decoded, network.decode(mean, "source"))
    golden.compare("out/decoded_from_hiddens", decoded)
    blocks = golden.config["params"]["n_res"]
    first_residual = golden.config["params"]["n_downsample"] + 1
    for key in golden.keys(r"out/enc\.model\.\d+"):
        place = int(key.rpartition(".")[2])
        last = f"encoders.source.{place}" if place < first_residual else "encoders.source"
        golden.compare(key, outputs.seen[last])
    for key in golden.keys(r"out/dec\.model\.\d+"):
        place = int(key.rpartition(".")[2])
        golden.compare(key, outputs.seen[f"decoders.source.{blocks - 1 + place}"] if blocks or place else mean)


def check_master_discriminator(golden: Golden) -> None:
    params = known(golden.config["params"], LATER_DISCRIMINATOR)
    shape = (golden.config["input_dim"], params["dim"], params["n_layer"], params["num_scales"])
    network = MultiScaleDiscriminator(*shape, NORMS[params["norm"]], params["activ"], params["pad_type"])
    loaded(network, golden.state())
    real, fake = golden.given("in/real"), golden.given("in/fake")
    for name, image in (("real", real), ("fake", fake)):
        for number, logits in enumerate(network(image)):
            golden.compare(f"out/{name}_scale{number}", logits)
    for gan_type, ours in GAN_TYPES.items():
        network.zero_grad()
        loss = discriminator_loss(ours, network(torch.cat([real, fake])))
        loss.backward()
        golden.compare(f"loss/dis_{gan_type}", loss)
        golden.compare(f"loss/gen_{gan_type}", adversarial_loss(ours, network(fake), real=True))
        for name, parameter in network.named_parameters():
            if f"gradnorm/{gan_type}/{name}" in golden.expected:
                golden.compare(f"gradnorm/{gan_type}/{name}", parameter.grad.norm())


def vgg_by_formula() -> VGGFeatures:
    """VGG-16 whose weights a formula gives: see the golden file's description."""
    vgg = VGGFeatures(16, ["relu5_3"], normalised_input=True, without_pools=["pool4"]).double()
    for number, parameter in enumerate(vgg.features.parameters()):
        place = torch.arange(parameter.numel(), dtype=torch.float64)
        if parameter.ndim == 4:
            values = torch.sin(0.37 * place + number) * math.sqrt(6 / parameter[0].numel())
        else:
            values = 0.05 * torch.cos(0.9 * place + number)
        parameter.data.copy_(values.view_as(parameter))
    return vgg


def check_master_perceptual(golden: Golden) -> None:
    image = golden.given("in/img").requires_grad_()
    golden.compare("out/preprocessed", caffe_picture(image))
    incoming = golden.layout("out/preprocessed").shape[1]
    state = {key.removeprefix("standin."): value for key, value in golden.state().items()}
    widths = [state[f"{place}.weight"].shape[0] for place in (0, 3)]
    standin = nn.Sequential(
        nn.Conv2d(incoming, widths[0], 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(*widths, 3, padding=1),
    )
    loaded(standin, state)
    loss = perceptual_loss(standin(caffe_picture(image)), standin(caffe_picture(golden.given("in/target"))))
    golden.compare("loss/perceptual", loss)
    golden.compare("gradnorm/img", torch.autograd.grad(loss, image)[0].norm())
    features = vgg_by_formula()(golden.given("in/vgg_x"))["relu5_3"]
    assert features.shape[-1] * 8 == golden.given("in/vgg_x").shape[-1]
    golden.compare("out/vgg_relu5_3", features)


def check_master_data(golden: Golden) -> None:
    picture = golden.given("in/image_uint8_hwc").numpy()
    pixels = Transform("shorter_side", load_size=golden.config["new_size"], interpolation="bilinear").resize(picture)
    golden.compare("out/tensor", from_uint8(torch.from_numpy(pixels.copy()).permute(2, 0, 1)))


def tiny(**arguments: Any) -> UNIT:
    return UNIT(
        generator_channels=1,
        discriminator_channels=1,
        residual_blocks=0,
        shared_blocks=0,
        discriminator_layers=1,
        **arguments,
    )


def check_master_lr_schedule(golden: Golden) -> None:
    config = golden.config
    steps = len(golden.layout("out/lr_from_scratch"))
    model = tiny(learning_rate=config["lr"], decay_interval=config["step_size"], decay_factor=config["gamma"])
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    rates = torch.tensor(fit(model, [{"source": image, "target": image}] * steps).rates)
    assert torch.equal(rates.amin(1), rates.amax(1))  # of both players
    golden.compare("out/lr_from_scratch", rates[:, 0])


LATER_PLUMBING = {"display_size", "recon_h_w"}  # the latter is never read


def make_later_model(options: dict[str, Any], shared_blocks: int) -> UNIT:
    rest = {key: value for key, value in options.items() if key not in LATER_PLUMBING}
    generator, discriminator = known(rest.pop("gen"), LATER_GENERATOR), known(rest.pop("dis"), LATER_DISCRIMINATOR)
    policy = rest.pop("lr_policy")
    assert policy in {"step", "constant"}, policy
    assert rest.pop("init") == "kaiming"
    assert rest.pop("vgg_w") == 0, "the weights of the official VGG are not in these files"
    model = UNIT(
        variant="munit_style",
        source_channels=rest.pop("input_dim_a"),
        target_channels=rest.pop("input_dim_b"),
        generator_channels=generator["dim"],
        downsamplings=generator["n_downsample"],
        residual_blocks=generator["n_res"],
        shared_blocks=shared_blocks,
        activation=generator["activ"],
        padding=generator["pad_type"],
        discriminator="pooled",
        discriminator_channels=discriminator["dim"],
        discriminator_layers=discriminator["n_layer"],
        discriminator_scales=discriminator["num_scales"],
        discriminator_norm=NORMS[discriminator["norm"]],
        discriminator_activation=discriminator["activ"],
        discriminator_padding=discriminator["pad_type"],
        adversarial=GAN_TYPES[discriminator["gan_type"]],
        lambda_adversarial=rest.pop("gan_w"),
        lambda_reconstruction=rest.pop("recon_x_w"),
        lambda_kl=rest.pop("recon_kl_w"),
        lambda_cycle=rest.pop("recon_x_cyc_w"),
        lambda_cycle_kl=rest.pop("recon_kl_cyc_w"),
        kl_of="mean",
        learning_rate=rest.pop("lr"),
        betas=(rest.pop("beta1"), rest.pop("beta2")),
        weight_decay=rest.pop("weight_decay"),
        decay_interval=rest.pop("step_size", 0) if policy == "step" else 0,
        decay_factor=rest.pop("gamma", 1.0),
    )
    known(rest, {"step_size"})
    return model


def later_names(golden: Golden, shared_blocks: int) -> dict[str, str]:
    """Our name of every official key of a training's state."""
    names = {}
    for letter, domain in DOMAINS.items():
        state = golden.state(f"state/gen_{letter}.")
        ours = later_generator_names(state, domain, shared_blocks, shared_blocks)
        names |= {f"gen_{letter}.{key}": f"generators.{name}" for key, name in ours.items()}
        judging = golden.state(f"state/dis_{letter}.")
        names |= {f"dis_{letter}.{key}": f"discriminators.{domain}.{key}" for key in judging}
    return names


def compare_training(golden: Golden, model: nn.Module, record: Record, names: dict[str, str]) -> None:
    """Gradients' norms of the first iterations, and the weights after the last one."""
    for key in golden.keys(r"gradnorm_step\d+/.*"):
        place, _, name = key.partition("/")
        step = int(place.removeprefix("gradnorm_step"))
        golden.compare(key, record.gradient_norms[step][names[name]])
    golden.compare("final/l2norm_mean", norms_and_means(model, [names[key] for key in golden.config["final_keys"]]))


def batches_of(golden: Golden) -> list[dict[str, Tensor]]:
    keys = golden.keys(r"in/step\d+_x_a")
    return [{"source": golden.given(key), "target": golden.given(key.removesuffix("a") + "b")} for key in keys]


def check_master_train(golden: Golden) -> None:
    batches, shared_blocks = batches_of(golden), golden.config.get("shared_blocks", 0)
    model = make_later_model(golden.config["hyperparameters"], shared_blocks)
    names = later_names(golden, shared_blocks)
    model.load_state_dict(renamed(golden.state(), names), strict=True)
    tape = {}
    for step in range(len(batches)):  # n_a, n_b and the like by turns
        draws = golden.tape(f"noise/step{step}/")
        tape[step] = [(f"noise_{('source', 'target')[i % 2]}", value) for i, (_, value) in enumerate(draws)]
    record = fit(model, batches, tape)
    ours = {
        "loss_dis_total": "discriminators",
        "loss_gen_total": "generators",
        "loss_gen_recon_kl_cyc_aba": "cycle_kl_source",
        "loss_gen_recon_kl_cyc_bab": "cycle_kl_target",
    }
    for letter, domain in DOMAINS.items():
        ours |= {f"loss_dis_{letter}": f"discriminator_{domain}", f"loss_gen_adv_{letter}": f"adversarial_{domain}"}
        ours |= {
            f"loss_gen_recon_x_{letter}": f"reconstruction_{domain}",
            f"loss_gen_cyc_x_{letter}": f"cycle_{domain}",
        }
        ours |= {f"loss_gen_recon_kl_{letter}": f"kl_{domain}", f"loss_gen_vgg_{letter}": f"perceptual_{domain}"}
    for step, terms in enumerate(record.terms):
        assert len(set(record.rates[step])) == 1
        golden.compare(f"step{step}/lr", torch.tensor(record.rates[step][0]))
        for key in golden.keys(rf"step{step}/loss_\w+"):
            name = ours[key.partition("/")[2]]
            golden.compare(key, torch.zeros(()) if name.startswith("perceptual") else terms[name])
    compare_training(golden, model, record, names)
    golden.compare("out/eval_x_ab", model.translate(golden.given("in/eval_x_a")))
    golden.compare("out/eval_x_ba", model.translate(golden.given("in/eval_x_b"), to="source"))


# The paper's code ------------------------------------------------------------------------------------------------------------------

PAPER_BLOCKS = {
    "n_enc_front_blk",
    "n_enc_res_blk",
    "n_enc_shared_blk",
    "n_gen_shared_blk",
    "n_gen_res_blk",
    "n_gen_front_blk",
}
PAPER_GENERATOR = {"name", "ch", "input_dim_a", "input_dim_b", "res_dropout", "res_dropout_ratio"} | PAPER_BLOCKS


def paper_settings(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `UNIT` that an official generator's say."""
    params = known(params, PAPER_GENERATOR)
    assert params["n_enc_front_blk"] == params["n_gen_front_blk"], "pictures would come out at another size"
    return {
        "source_channels": params["input_dim_a"],
        "target_channels": params["input_dim_b"],
        "generator_channels": params["ch"],
        "downsamplings": params["n_enc_front_blk"] - 1,
        "residual_blocks": params["n_enc_res_blk"] + params["n_enc_shared_blk"],
        "shared_blocks": params["n_enc_shared_blk"],
        "decoder_residual_blocks": params["n_gen_res_blk"] + params["n_gen_shared_blk"],
        "decoder_shared_blocks": params["n_gen_shared_blk"],
        "front_norm": FRONT_NORMS[name],
        "residual_dropout": params.get("res_dropout", params.get("res_dropout_ratio", 0.0)),
    }


def check_paper_generator(golden: Golden) -> None:
    s = paper_settings(golden.config["cls"], golden.config["params"])
    blocks = (s["residual_blocks"], s["decoder_residual_blocks"], s["shared_blocks"], s["decoder_shared_blocks"])
    widths = (s["source_channels"], s["target_channels"], s["generator_channels"], s["downsamplings"])
    network = paper_generators(*widths, *blocks, s["front_norm"], s["residual_dropout"])
    state = golden.state()
    loaded(network, renamed(state, paper_generator_names(state)))
    x_a, x_b = golden.given("in/x_a"), golden.given("in/x_b")

    # In training mode: the recorded masks are in the order of this composition, with the noise between the shared parts.
    queue = Queue(golden.tape("noise/train_forward/"))
    with masked(network, lambda *_: queue.take("dropout")):
        mean = torch.cat(network.encode_both(x_a, x_b))
        code = mean + queue.take("randn")
        made = network.decode_both(*code.chunk(2))
    queue.finish()
    golden.compare("out/train_shared", code)
    for name, image in zip(("aa", "ba", "ab", "bb"), made, strict=True):
        golden.compare(f"out/train_x_{name}", image)

    network.eval()
    outputs = Outputs(network)
    means = network.encode_both(x_a, x_b)
    golden.compare("out/eval_shared", torch.cat(means))
    for name, image in zip(("aa", "ba", "ab", "bb"), network.decode_both(*means), strict=True):
        golden.compare(f"out/eval_x_{name}", image)
    mean_a = network.encode(x_a, "source")
    golden.compare("out/eval_shared_a", mean_a)
    golden.compare("out/eval_encode_A", outputs.seen["encoders.source"])
    golden.compare("out/eval_a2b", network.decode(mean_a, "target"))
    golden.compare("out/eval_dec_shared_a", outputs.seen["shared_decoder"])
    golden.compare("out/eval_b2a", network.decode(network.encode(x_b, "target"), "source"))


PAPER_DISCRIMINATOR = {"name", "ch", "n_layer", "n_front_layer", "n_shared_layer", "input_dim_a", "input_dim_b"}


def discriminator_settings(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `UNIT` that an official discriminator's say."""
    params = known(params, PAPER_DISCRIMINATOR)
    settings = {"discriminator": DISCRIMINATORS[name], "discriminator_channels": params["ch"]}
    if name == "COCOSharedDis":
        shared = params["n_shared_layer"]
        return settings | {
            "discriminator_layers": params["n_front_layer"] + shared,
            "discriminator_shared_layers": shared,
        }
    return settings | {"discriminator_layers": params["n_layer"], "crop_to_height": name == "COCOMsDis"}


def check_paper_discriminator(golden: Golden) -> None:
    params, name = golden.config["params"], golden.config["cls"]
    settings = discriminator_settings(name, params)
    shape = (params["input_dim_a"], params["input_dim_b"], params["ch"], settings["discriminator_layers"])
    network: nn.Module
    if name == "COCODis":
        network = PlainDiscriminators(*shape)
    elif name == "COCOSharedDis":
        network = SharedDiscriminators(*shape, settings["discriminator_shared_layers"])
    else:
        network = BlurredDiscriminators(*shape, crop_to_height=True)
    state = golden.state()
    loaded(network, renamed(state, paper_discriminator_names(state)))
    x_a, x_b = golden.given("in/x_a"), golden.given("in/x_b")
    for letter, of_domain in zip("ab", network(x_a, x_b), strict=True):
        for scale, logits in enumerate(of_domain):
            golden.compare(f"out/{letter}{scale}", logits.flatten())
    if golden.keys("in/blur_kernel"):
        kernel = golden.given("in/blur_kernel")
        impulse = torch.zeros(1, len(kernel), 5, 5, dtype=torch.float64)
        impulse[:, :, 2, 2] = 1
        assert torch.equal(blur(impulse)[0, :, 1:4, 1:4], kernel[:, 0])
        golden.compare("out/blurred", blur(x_a))
        golden.compare("out/half", halve(x_a, crop_to_height=True))


class PaperMasks:
    """The masks of an official iteration, for passes that are put together in another way.

    The official generator decodes every code in both domains, where the discriminators need the translations alone; and it encodes
    translations one domain after the other, where ours share a pass.
    """

    def __init__(self, draws: list[tuple[str, Tensor]], network: CoupledGenerators) -> None:
        queue = Queue(draws)
        self.masks: dict[str, list[Tensor]] = defaultdict(list)
        self.noise: list[tuple[str, Tensor]] = []
        drops = [name for name, layer in network.named_modules() if isinstance(layer, nn.Dropout) and layer.p > 0]

        def pass_of(*parts: str) -> None:
            for part in parts:
                for name in drops:
                    if name.startswith(f"{part}."):
                        self.masks[name].append(queue.take("dropout"))

        for _ in ("discriminators", "generators"):
            pass_of("encoders.source", "encoders.target", "shared_encoder")
            self.noise += zip(("noise_source", "noise_target"), queue.take("randn").chunk(2), strict=True)
            pass_of("shared_decoder", "decoders.source", "decoders.target")
        for encoder, decoder in (("source", "target"), ("target", "source")):
            pass_of(f"encoders.{encoder}", "shared_encoder")
            self.noise.append((f"noise_{encoder}", queue.take("randn")))
            pass_of("shared_decoder", f"decoders.{decoder}")
        queue.finish()

    def __call__(self, name: str, samples: int) -> Tensor:
        mask = self.masks[name].pop(0)
        if len(mask) == 2 * samples:  # of a pass that decodes translations alone: each domain decodes the other's codes
            return mask.chunk(2)[1 if ".source." in f".{name}" else 0]
        if 2 * len(mask) == samples:  # of translations, which share a pass here
            return torch.cat([mask, self.masks[name].pop(0)])
        return mask


def check_paper_train(golden: Golden) -> None:
    batches, rest = batches_of(golden), dict(golden.config["hyperparameters"])
    assert rest.pop("trainer") == "COCOGANTrainer"
    generator, discriminator = rest.pop("gen"), rest.pop("dis")
    model = UNIT(
        **paper_settings(generator["name"], generator),
        **discriminator_settings(discriminator["name"], discriminator),
        lambda_adversarial=rest.pop("gan_w"),
        lambda_reconstruction=rest.pop("ll_direct_link_w"),
        lambda_kl=rest.pop("kl_direct_link_w"),
        lambda_cycle=rest.pop("ll_cycle_link_w"),
        lambda_cycle_kl=rest.pop("kl_cycle_link_w"),
        learning_rate=rest.pop("lr"),
    )
    known(rest, set())
    names = {f"gen.{k}": f"generators.{v}" for k, v in paper_generator_names(golden.state("state/gen.")).items()}
    judging = paper_discriminator_names(golden.state("state/dis."))
    names |= {f"dis.{k}": f"discriminators.{v}" for k, v in judging.items()}
    model.load_state_dict(renamed(golden.state(), names), strict=True)

    steps = [PaperMasks(golden.tape(f"noise/step{step}/"), model.generators) for step in range(len(batches))]
    judgements: list[tuple[list[Tensor], list[Tensor]]] = []
    model.discriminators.register_forward_hook(lambda _, __, logits: judgements.append(logits))
    with masked(model.generators, lambda name, samples: steps[model.iteration](name, samples)):
        record = fit(model, batches, {step: masks.noise for step, masks in enumerate(steps)})
    for masks in steps:
        assert not any(masks.masks.values()), "masks were left over"

    ours = {"dis_loss": "discriminators", "gen_total_loss": "generators"}
    ours |= {"gen_enc_aba_loss": "cycle_kl_source", "gen_enc_bab_loss": "cycle_kl_target"}
    ours |= {"gen_ll_loss_aba": "cycle_source", "gen_ll_loss_bab": "cycle_target"}
    for letter, domain in DOMAINS.items():
        ours |= {f"gen_ad_loss_{letter}": f"adversarial_{domain}", f"gen_ll_loss_{letter}": f"reconstruction_{domain}"}
    for step, terms in enumerate(record.terms):
        for key in golden.keys(rf"step{step}/\w+"):
            name = key.partition("/")[2]
            if name == "gen_enc_loss":  # of both codes at once
                golden.compare(key, (terms["kl_source"] + terms["kl_target"]) / 2)
            elif name.startswith(("dis_true_acc", "dis_fake_acc")):
                scale = int(name.rpartition("_")[2])
                golden.compare(key, judged_rightly(judgements[2 * step], scale, real="true" in name))
            else:
                golden.compare(key, terms[ours[name]])
    compare_training(golden, model, record, names)


def judged_rightly(judgements: tuple[list[Tensor], list[Tensor]], scale: int, *, real: bool) -> Tensor:
    """The share of a turn's logits, of both domains, that say what is true; in each batch real pictures come first."""
    logits = torch.cat([of_domain[scale].chunk(2)[0 if real else 1].flatten() for of_domain in judgements])
    probabilities = F.sigmoid(logits)
    return ((probabilities >= 0.5) if real else (probabilities <= 0.5)).double().mean()


# The map experiment ------------------------------------------------------------------------------------------------------------------


def check_map_accuracy(golden: Golden) -> None:
    made, true = golden.given("in/pred_uint8"), golden.given("in/gt_uint8")
    golden.compare("out/acc_all_channels", pixel_accuracy(made, true, reading="all_channels"))
    golden.compare("out/acc_per_channel", pixel_accuracy(made, true, reading="per_channel"))
    golden.compare("out/acc_euclid", pixel_accuracy(made, true, reading="euclidean"))


KINDS = {
    "master_generator": check_master_generator,
    "master_discriminator_losses": check_master_discriminator,
    "master_perceptual": check_master_perceptual,
    "master_data": check_master_data,
    "master_lr_schedule": check_master_lr_schedule,
    "master_train": check_master_train,
    "paper_generator": check_paper_generator,
    "paper_discriminator": check_paper_discriminator,
    "paper_train": check_paper_train,
    "map_accuracy": check_map_accuracy,
    **DIGIT_KINDS,
    **READER_KINDS,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("unit"))
def test_golden(path: Path) -> None:
    check(path, KINDS)

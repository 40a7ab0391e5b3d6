"""Official files of UNIT, built here in the published layouts with random weights by networks that are written down apart from ours."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.unit import UNIT
from zoo.unit.digits import UNITDigits
from zoo.weights.fetch import read_catalogue
from zoo.weights.unit import caffe_vgg, load_weights, read_weights


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def old_state(network: nn.Module, counters: bool = False) -> dict[str, Tensor]:
    """The state dict as PyTorch before 0.4 wrote it: instance norms with running statistics."""
    state = dict(network.state_dict())
    for name, layer in network.named_modules():
        if isinstance(layer, nn.InstanceNorm2d):
            state[f"{name}.running_mean"] = torch.zeros(layer.num_features)
            state[f"{name}.running_var"] = torch.ones(layer.num_features)
            if counters:
                state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


# The published networks -----------------------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """The paper's code keeps every block's layers under `model`."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.model(x) if self.residual else self.model(x)


class PaperGenerator(nn.Module):
    """COCOResGen (`normed`) and COCOResGen2, of 3 sizes, with two residual blocks each way of which one is shared."""

    def __init__(self, c: int, normed: bool) -> None:
        super().__init__()

        def block() -> nn.Module:
            convs = [nn.Conv2d(4 * c, 4 * c, 3, 1, 1) for _ in range(2)]
            norms = [nn.InstanceNorm2d(4 * c) for _ in range(2)]
            return Wrapped(convs[0], norms[0], nn.ReLU(), convs[1], norms[1], residual=True)

        def resize(conv: Any) -> nn.Module:
            return (
                Wrapped(conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU())
                if normed
                else Wrapped(conv, nn.LeakyReLU())
            )

        def encoder() -> nn.Sequential:
            down = [resize(nn.Conv2d(c * i, 2 * c * i, 3, 2, 1)) for i in (1, 2)]
            return nn.Sequential(Wrapped(nn.Conv2d(3, c, 7, 1, 3), nn.LeakyReLU()), *down, block())

        def decoder() -> nn.Sequential:
            up = [resize(nn.ConvTranspose2d(2 * c * i, c * i, 3, 2, 1, 1)) for i in (2, 1)]
            return nn.Sequential(block(), *up, nn.ConvTranspose2d(c, 3, 1), nn.Tanh())

        self.encode_A, self.encode_B = encoder(), encoder()
        self.enc_shared, self.dec_shared = nn.Sequential(block()), nn.Sequential(block())
        self.decode_A, self.decode_B = decoder(), decoder()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """a to b, b to a."""
        code_a, code_b = self.enc_shared(self.encode_A(x)), self.enc_shared(self.encode_B(x))
        return self.decode_B(self.dec_shared(code_a)), self.decode_A(self.dec_shared(code_b))


def paper_judge(c: int, kernel: int = 3) -> list[nn.Module]:
    first = Wrapped(nn.Conv2d(3, c, kernel, 2, kernel // 2), nn.LeakyReLU())
    return [first, Wrapped(nn.Conv2d(c, 2 * c, 3, 2, 1), nn.LeakyReLU())]


class PaperDiscriminator(nn.Module):
    """COCODis, COCOSharedDis and COCOMsDis, of few layers."""

    def __init__(self, kind: str, c: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "shared":
            self.model_A, self.model_B = (nn.Sequential(paper_judge(c, 7)[0]) for _ in range(2))
            self.model_S = nn.Sequential(paper_judge(c)[1], nn.Conv2d(2 * c, 1, 1))
        elif kind == "plain":
            self.model_A, self.model_B = (nn.Sequential(*paper_judge(c), nn.Conv2d(2 * c, 1, 1)) for _ in range(2))
        else:
            for size in (1, 2, 4):
                for letter in "AB":
                    network = nn.Sequential(*paper_judge(c), nn.Conv2d(2 * c, 1, 1))
                    setattr(self, f"model_{size}_{letter}", network)

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        parts = dict(self.named_children())
        if self.kind == "shared":
            return [parts["model_S"](parts["model_A"](a)), parts["model_S"](parts["model_B"](b))]
        if self.kind == "plain":
            return [parts["model_A"](a), parts["model_B"](b)]
        weights = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(weights, weights).repeat(3, 1, 1, 1)
        found: dict[str, list[Tensor]] = {"A": [], "B": []}
        for letter, image in (("A", a), ("B", b)):
            for size in (1, 2, 4):
                if size > 1:
                    image = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)[:, :, ::2, ::2]
                found[letter].append(parts[f"model_{size}_{letter}"](image))
        return found["A"] + found["B"]


class LaterNorm(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(c)), nn.Parameter(torch.randn(c))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        x = (x - flat.mean(1).view(-1, 1, 1, 1)) / (flat.std(1).view(-1, 1, 1, 1) + 1e-5)
        return x * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class LaterBlock(nn.Module):
    def __init__(
        self, incoming: int, out: int, kernel: int, stride: int, pad: int, norm: str, active: nn.Module | None
    ) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(pad)
        self.norm = {"in": nn.InstanceNorm2d, "ln": LaterNorm, "none": nn.Identity}[norm](out)
        self.activation = nn.Identity() if active is None else active
        self.conv = nn.Conv2d(incoming, out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(self.pad(x))))


class LaterResidual(Wrapped):
    def __init__(self, c: int) -> None:
        blocks = [LaterBlock(c, c, 3, 1, 1, "in", nn.PReLU()), LaterBlock(c, c, 3, 1, 1, "in", None)]
        super().__init__(*blocks, residual=True)


class LaterGenerator(nn.Module):
    """VAEGen of 3 sizes and two residual blocks each way, with PReLUs, which have weights of their own."""

    def __init__(self, c: int) -> None:
        super().__init__()
        down = [LaterBlock(c * i, 2 * c * i, 4, 2, 1, "in", nn.PReLU()) for i in (1, 2)]
        encoder = nn.Sequential(LaterBlock(3, c, 7, 1, 3, "in", nn.PReLU()), *down, self.blocks(4 * c))
        up = [[nn.Upsample(scale_factor=2), LaterBlock(2 * c * i, c * i, 5, 1, 2, "ln", nn.PReLU())] for i in (2, 1)]
        decoder = nn.Sequential(self.blocks(4 * c), *up[0], *up[1], LaterBlock(c, 3, 7, 1, 3, "none", nn.Tanh()))
        self.enc, self.dec = Wrapped(*encoder), Wrapped(*decoder)

    @staticmethod
    def blocks(c: int) -> nn.Module:
        return Wrapped(LaterResidual(c), LaterResidual(c))


class LaterDiscriminator(nn.Module):
    """MsImageDis of two layers at two sizes."""

    def __init__(self, c: int) -> None:
        super().__init__()
        layers = [(3, c), (c, 2 * c)]
        self.cnns = nn.ModuleList(
            nn.Sequential(
                *(LaterBlock(*pair, 4, 2, 1, "none", nn.LeakyReLU(0.2)) for pair in layers), nn.Conv2d(2 * c, 1, 1)
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.cnns[0](x), self.cnns[1](F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))]


# Loading --------------------------------------------------------------------------------------------------------------------------


PAPER: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
}
LATER: dict[str, Any] = {
    **PAPER,
    "variant": "munit_style",
    "shared_blocks": 0,
    "activation": "prelu",
    "discriminator": "pooled",
    "discriminator_scales": 2,
}


def written(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("form", ["today", "before_0.4", "with_counters", "data_parallel"])
@pytest.mark.parametrize("normed", [True, False])
def test_generators_of_the_papers_code_give_equal_pictures(
    tmp_path: Path, form: str, normed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    theirs = PaperGenerator(2, normed)
    state = dict(theirs.state_dict())
    if form in {"before_0.4", "with_counters"}:
        state = old_state(theirs, counters=form == "with_counters")
    if form == "data_parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    model = UNIT(**PAPER, front_norm="instance" if normed else "none", ema_decay=0.9)
    load_weights(model, written(state, tmp_path / "cat2tiger_gen_00500000.pkl"))
    picture = noise(2, 3, 16, 16)
    to_b, to_a = theirs(picture)
    torch.testing.assert_close(model.translate(picture), to_b)  # by the moving average, which starts from them, too
    torch.testing.assert_close(model.translate(picture, to="source"), to_a)
    model.ema = None
    torch.testing.assert_close(model.translate(picture), to_b)
    said = capsys.readouterr().out
    if form in {"before_0.4", "with_counters"}:
        count = (3 if form == "with_counters" else 2) * sum(isinstance(m, nn.InstanceNorm2d) for m in theirs.modules())
        assert f"{count} running statistics of instance norms were left out (" in said
        assert "instance norm uses each picture's own" in said
    else:
        assert said == ""


@pytest.mark.parametrize("kind", ["plain", "shared", "blurred"])
def test_discriminators_of_the_papers_code_give_equal_logits(tmp_path: Path, kind: Any) -> None:
    torch.manual_seed(0)
    theirs, model = PaperDiscriminator(kind, 2), UNIT(**PAPER, discriminator=kind, discriminator_shared_layers=1)
    load_weights(model, written(theirs.state_dict(), tmp_path / "dis.pkl"))
    a, b = noise(2, 3, 32, 48), noise(2, 3, 32, 48, seed=1)
    of_source, of_target = model.discriminators(a, b)
    for ours, expected in zip((*of_source, *of_target), theirs(a, b), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("form", ["today", "before_0.4"])
def test_generators_of_the_later_code_give_equal_pictures(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    theirs = {letter: LaterGenerator(2) for letter in "ab"}
    states = {letter: old_state(n) if form == "before_0.4" else n.state_dict() for letter, n in theirs.items()}
    model = UNIT(**LATER)
    load_weights(model, written(states, tmp_path / "unit_gta2city.pt"))
    picture = noise(2, 3, 16, 16)
    torch.testing.assert_close(model.translate(picture), theirs["b"].dec(theirs["a"].enc(picture)))
    torch.testing.assert_close(model.translate(picture, to="source"), theirs["a"].dec(theirs["b"].enc(picture)))
    torch.testing.assert_close(model.reconstruct(picture), theirs["a"].dec(theirs["a"].enc(picture)))
    assert ("running statistics" in capsys.readouterr().out) == (form == "before_0.4")


def test_discriminators_of_the_later_code_give_equal_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs, model = {letter: LaterDiscriminator(2) for letter in "ab"}, UNIT(**LATER)
    states = {letter: network.state_dict() for letter, network in theirs.items()}
    load_weights(model, written(states, tmp_path / "dis_00010000.pt"))
    a, b = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
    of_source, of_target = model.discriminators(a, b)
    for ours, expected in zip((*of_source, *of_target), (*theirs["a"](a), *theirs["b"](b)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_generators_that_share_nothing_do_not_become_shared_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = {letter: LaterGenerator(2) for letter in "ab"}
    path = written({letter: network.state_dict() for letter, network in theirs.items()}, tmp_path / "gen.pt")
    with pytest.raises(
        ZooError, match=r"share nothing, that this model does not fit. To load it: --model.shared_blocks 0$"
    ):
        load_weights(UNIT(**{**LATER, "shared_blocks": 1}), path)
    tied = {
        key: value
        for key, value in theirs["a"].state_dict().items()
        if key.startswith(("enc.model.3.model.1", "dec.model.0.model.0"))
    }
    theirs["b"].load_state_dict(tied, strict=False)
    written({letter: network.state_dict() for letter, network in theirs.items()}, path)
    model, picture = UNIT(**{**LATER, "shared_blocks": 1}), noise(1, 3, 16, 16)
    load_weights(model, path)
    torch.testing.assert_close(model.translate(picture), theirs["b"].dec(theirs["a"].enc(picture)))


# Digits ----------------------------------------------------------------------------------------------------------------------------


class DigitBlock(Wrapped):
    def __init__(self, conv: Any) -> None:
        shift = nn.Module()
        shift.bias = nn.Parameter(torch.randn(conv.out_channels))
        super().__init__(conv, nn.BatchNorm2d(conv.out_channels, affine=False), shift)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.model[1](self.model[0](x)) + self.model[2].bias.view(1, -1, 1, 1))


class PublishedVAE(nn.Module):
    """CoVAE32x32."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.g_en_conv0_a, self.g_en_conv0_b = (
            DigitBlock(nn.Conv2d(5, c, 5, 2, 2)),
            DigitBlock(nn.Conv2d(3, c, 5, 2, 2)),
        )
        self.g_en_conv1 = DigitBlock(nn.Conv2d(c, 2 * c, 5, 2, 2))
        self.g_en_conv2 = DigitBlock(nn.Conv2d(2 * c, 4 * c, 8))
        self.g_en_conv3 = DigitBlock(nn.Conv2d(4 * c, 8 * c, 1))
        self.g_vae = nn.ModuleDict({"en_mu": nn.Conv2d(8 * c, 8 * c, 1), "en_sigma": nn.Conv2d(8 * c, 8 * c, 1)})
        self.g_de_conv0 = DigitBlock(nn.ConvTranspose2d(8 * c, 8 * c, 4, 2))
        self.g_de_conv1 = DigitBlock(nn.ConvTranspose2d(8 * c, 4 * c, 4, 2, 1))
        self.g_de_conv2 = DigitBlock(nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, 1))
        self.g_de_conv3_a, self.g_de_conv3_b = (DigitBlock(nn.ConvTranspose2d(2 * c, c, 4, 2, 1)) for _ in range(2))
        self.de_conv4_a, self.de_conv4_b = nn.ConvTranspose2d(c, 3, 1), nn.ConvTranspose2d(c, 1, 1)


class PublishedReader(nn.Module):
    """CoDis32x32."""

    def __init__(self, c: int) -> None:
        super().__init__()

        def layer(incoming: int, out: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(incoming, out, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2))

        self.conv0_a, self.conv0_b = layer(3, c), layer(1, c)
        self.conv1, self.conv2, self.conv3 = layer(c, 2 * c), layer(2 * c, 4 * c), layer(4 * c, 8 * c)
        self.conv4, self.conv_cl = nn.Conv2d(8 * c, 2, 2), nn.Conv2d(8 * c, 10, 2)


@pytest.mark.parametrize("counted", [True, False])
def test_files_of_the_digits_networks(tmp_path: Path, counted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    vae, reader = PublishedVAE(2), PublishedReader(2)
    for network in vae.modules():
        if isinstance(network, nn.BatchNorm2d):
            nn.init.uniform_(network.running_mean)
            nn.init.uniform_(network.running_var, 0.5, 1.5)
    state = {key: value for key, value in vae.state_dict().items() if counted or not key.endswith("tracked")}
    model = UNITDigits(generator_channels=2, discriminator_channels=2).eval()
    load_weights(model, written(state, tmp_path / "svhn2mnist_gen.pkl"))
    load_weights(model, written(reader.state_dict(), tmp_path / "svhn2mnist_dis.pkl"))
    assert capsys.readouterr().out == ""  # these norms' statistics are weights
    digit = noise(2, 3, 32, 32)
    grid = (torch.arange(32.0) - 16) / 16
    rows, columns = grid.view(-1, 1).expand(32, 32), grid.expand(32, 32)
    context = torch.stack([rows, columns]).expand(2, 2, 32, 32)
    vae.eval()
    high = vae.g_en_conv3(vae.g_en_conv2(vae.g_en_conv1(vae.g_en_conv0_a(torch.cat([digit, context], 1)))))
    mean, deviation = vae.g_vae["en_mu"](high), F.softplus(vae.g_vae["en_sigma"](high))
    for ours, expected in zip(model.generator.encode(digit, "source"), (mean, deviation), strict=True):
        torch.testing.assert_close(ours, expected)
    decoded = vae.de_conv4_b(vae.g_de_conv3_b(vae.g_de_conv2(vae.g_de_conv1(vae.g_de_conv0(mean))))).tanh()
    torch.testing.assert_close(model.generator.decode(mean, "target"), decoded)
    features = reader.conv3(reader.conv2(reader.conv1(reader.conv0_b(decoded))))
    torch.testing.assert_close(model.classify(decoded), reader.conv_cl(features).flatten(1))
    lowest = model.discriminator.look(decoded, "target")
    torch.testing.assert_close(model.discriminator.judge(lowest), reader.conv4(features).flatten(1))


# What does not fit -------------------------------------------------------------------------------------------------------------------


def refusal(model: nn.Module, content: Any, folder: Path) -> str:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError) as error:
        load_weights(model, written(content, folder / "x.pkl"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(error.value)


def test_a_model_that_does_not_fit_is_told_its_options(tmp_path: Path) -> None:
    said = refusal(UNIT(**LATER), old_state(PaperGenerator(4, True)), tmp_path)
    assert "generators of the paper's code" in said
    for option in ("variant paper", "generator_channels 4", "shared_blocks 1", "front_norm instance"):
        assert f"--model.{option}" in said
    assert "residual_blocks" not in said  # fits
    said = refusal(UNIT(**PAPER), PaperDiscriminator("shared", 4).state_dict(), tmp_path)
    for option in ("discriminator shared", "discriminator_channels 4", "discriminator_shared_layers 1"):
        assert f"--model.{option}" in said
    said = refusal(UNIT(**PAPER), PaperDiscriminator("blurred", 2).state_dict(), tmp_path)
    assert "--model.discriminator blurred" in said
    later = {letter: LaterGenerator(4).state_dict() for letter in "ab"}
    said = refusal(UNIT(**PAPER, downsamplings=3), later, tmp_path)
    for option in ("variant munit_style", "generator_channels 4", "downsamplings 2", "shared_blocks 0"):
        assert f"--model.{option}" in said
    judges = {letter: LaterDiscriminator(2).state_dict() for letter in "ab"}
    assert "--model.discriminator_scales 2" in refusal(UNIT(**{**LATER, "discriminator_scales": 3}), judges, tmp_path)
    said = refusal(UNITDigits(generator_channels=4, coordinates=False), PublishedVAE(2).state_dict(), tmp_path)
    assert "--model.generator_channels 2 --model.coordinates True" in said
    said = refusal(UNITDigits(1, 1, 2, 2), PublishedReader(2).state_dict(), tmp_path)
    assert "--model.source_channels 3" in said
    grey = UNIT(**PAPER, source_channels=1)
    assert refusal(grey, PaperGenerator(2, False).state_dict(), tmp_path).endswith(
        "To load it: --model.source_channels 3"
    )


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    model = UNIT(**PAPER)
    assert "checkpoint of this project" in refusal(
        model, {"state_dict": {}, "pytorch-lightning_version": "2"}, tmp_path
    )
    assert "no network of UNIT's official codes: it has features.0.weight" in refusal(
        model, {"features.0.weight": torch.zeros(1)}, tmp_path
    )
    assert "it has encode_A.zebra" in refusal(model, {"encode_A.zebra": torch.zeros(1)}, tmp_path)
    assert "it has epoch" in refusal(model, {"epoch": 3}, tmp_path)
    assert "a UNIT has no generator." in refusal(model, PublishedVAE(2).state_dict(), tmp_path)
    assert "a UNITDigits has no generators." in refusal(
        UNITDigits(1, 1, 2, 2), PaperGenerator(2, True).state_dict(), tmp_path
    )
    cut = PaperGenerator(2, True).state_dict()
    del cut["decode_B.3.bias"]
    assert "decoders.target.3.conv.bias is not there in the file" in refusal(
        UNIT(**PAPER, front_norm="instance"), cut, tmp_path
    )


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    found = read_weights(written(PaperGenerator(2, False).state_dict(), tmp_path / "a.pkl"))
    assert (found.network, found.stale) == ("generators", [])
    assert found.settings == {
        "variant": "paper",
        "source_channels": 3,
        "target_channels": 3,
        "generator_channels": 2,
        "downsamplings": 2,
        "residual_blocks": 2,
        "shared_blocks": 1,
    }


# The network of the perceptual loss ----------------------------------------------------------------------------------------------------


def test_caffes_vgg_takes_blue_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = VGGFeatures(16, ["relu5_3"], base_channels=2, normalised_input=True)  # of red, green and blue
    state = {f"features.{key.removeprefix('features.')}": value for key, value in published.own_state().items()}
    state["classifier.0.weight"] = torch.full((2, 2), torch.nan)
    path = written(state, tmp_path / "vgg16_features-amdegroot-88682ab5.pth")
    ours = VGGFeatures(16, ["relu5_3"], base_channels=2, normalised_input=True)
    ours.load_weights(caffe_vgg(path))
    picture = 100 * noise(1, 3, 32, 32)
    expected = published(picture)["relu5_3"]
    torch.testing.assert_close(ours(picture.flip(1))["relu5_3"], expected)
    assert not torch.allclose(ours(picture)["relu5_3"], expected)
    with pytest.raises(ZooError, match="does not hold a VGG"):
        caffe_vgg(written({"epoch": 3}, tmp_path / "x.pth"))


def test_the_catalogue_names_the_published_files() -> None:
    catalogue = read_catalogue()
    names = {"unit_gta2city", "unit_cat2tiger", "unit_corgi2husky", "unit_synthia2cityscape"}
    assert names <= catalogue.keys()
    assert all("non-commercial" in catalogue[name].licence for name in names)
    assert catalogue["vgg16_caffe"].sha256_prefix in catalogue["vgg16_caffe"].file

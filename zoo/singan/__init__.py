"""SinGAN: Learning a Generative Model from a Single Natural Image.

Tamar Rott Shaham, Tali Dekel, Tomer Michaeli. ICCV 2019. https://arxiv.org/abs/1905.01164

A pyramid of small GANs learns from one picture, each at one scale of it: it adds to the enlarged picture of the scale below what is
missing there, from noise. Each sees patches of 11x11 pixels alone, so that the coarse ones learn the layout and the fine ones texture.
Trained once, the pyramid makes pictures of any size; a composite, an edited picture or a rough painting that is put in at some scale is
painted anew by the scales from there on.

Names:
    here              official code     paper
    generators        Gs                G_N, ..., G_0: the coarsest first, which is 0 here
    discriminator     netD              D_n
    reals             reals             x_n
    fixed             Zs, z_opt         z^rec: noise at the coarsest scale, 0 above
    amplitudes        NoiseAmp          sigma_n
    ratio             scale_factor      1/r

Losses:
    x is the picture at the present scale, f a generated one, r the reconstruction by the fixed noise maps; m(.) is a mean over
    patches or pixels; h = u x + (1 - u) f with one u of U(0, 1); n is the norm of the gradient of the sum of D(h), over the
    channels of each pixel.
    discriminator     -m(D(x)) + m(D(f)) + lambda_gradient m((n - 1)^2)
    generator         -m(D(f)) + lambda_reconstruction m((r - x)^2)

Training:
    Scales are callbacks of the recipe: `GrowScales`; how many there are follows from the picture. A scale's networks begin as copies of
    those below, and anew where they get wider, every fourth scale. Lower scales are fixed, with their running statistics.
    Between scales a picture is cut to 8 bits, which no gradient passes.

Tasks:
    samples of any size           `sample`, and `start` for the first scale that draws
    harmonisation and editing     `translate`, at a fine scale, with a mask for all that stays
    paint to image                `translate` with the task `paint`, at a coarse scale
    super-resolution              `enlarge`: recipe zoo/singan_enlarge.yaml
    animation                     `animate`: trained with min_size 20 and noise_border

Differences:
    - The three generator steps of an iteration share one fake whose gradients meet weights that have moved, as PyTorch allowed up to 1.4:
      `stale_fake`. Other ports make the fake anew, as `stale_fake: false` does.
    - The critic does not move meanwhile: its three equal passes over the fake are one here, with running statistics moved three times.
      What the scales below reconstruct is made once per scale, as in the official code.
    - The official code moves running statistics once more when it saves a picture; here that is `picture_interval`.
    - Samples from a `start` above the first scale begin with 0, where the official script hands on a picture of a size that fails.
    - Super-resolution counts its scales by the picture's height, as the official code does.
    - Paint whose colours are first reduced to those of the picture is not here. The official option takes three neighbouring values of
      one channel for a colour.
    - Transparent pictures are laid on white; the official code drops the alpha channel.
    - Ranks of a multi-GPU run draw their own noise around the same picture: more processes are larger batches.

Checkpoints:
    The authors published none. `zoo.weights.single_image` reads the state dicts in the folders that their code writes; tested on
    folders built in that layout.

State:
    trains, makes and changes pictures, equals the official code's numbers; not compared with the paper's figures

Cite::

    @inproceedings{rottshaham2019singan,
      title     = {SinGAN: Learning a Generative Model from a Single Natural Image},
      author    = {Rott Shaham, Tamar and Dekel, Tali and Michaeli, Tomer},
      booktitle = {International Conference on Computer Vision},
      year      = {2019}
    }
"""

from zoo.singan.model import SinGAN
from zoo.singan.networks import Discriminator, Generator

__all__ = ["Discriminator", "Generator", "SinGAN"]

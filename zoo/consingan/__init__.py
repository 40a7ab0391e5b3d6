"""ConSinGAN: Improved Techniques for Training Single-Image GANs.

Tobias Hinz, Matthew Fisher, Oliver Wang, Stefan Wermter. WACV 2021. https://arxiv.org/abs/2003.11512

A GAN learns from one picture, coarse to fine. The generator gains a stage at a time: it is given what the stages below made of noise,
as features and not as a picture, and adds to it. The newest three stages learn together, the older of them at smaller rates, so that six
stages do where SinGAN needs eight to ten. Trained on changed versions of its picture, the same network harmonises what is pasted into
it, or blends what was moved.

Names:
    here             official code, paper
    generator        netG, G               head, body (a part per stage), tail
    discriminator    netD, D               one network, that goes on from stage to stage
    reals            reals                 the picture at each stage
    fixed            fixed_noise, z_opt    noise maps that the reconstruction starts from; the
                                           first is the coarsest picture
    amplitudes       noise_amp
    lr_scale         lr_scale, delta

Losses:
    x is the picture at the present stage, f = G(z) one generated of noise, r = G(z*) the reconstruction of the fixed maps z*;
    m(.) is a mean over patches or pixels; h = u x + (1 - u) f with one u of U(0, 1); n is the norm of the gradient of the sum of
    D(h), over the channels of each pixel.
    discriminator    -m(D(x)) + m(D(f)) + lambda_gradient m((n - 1)^2)
    generator        -m(D(f)) + lambda_reconstruction m((r - x)^2)

Training:
    Stages are callbacks of the recipe: `GrowScales`. A stage begins as a copy of the one before; optimisers are new. Per iteration the
    discriminator takes three steps; the generator takes three on one gradient. The stages below the newest learn at `lr_scale` and
    `lr_scale`^2 times the rate, and older ones no more. Noise is given in proportion to what the stages below leave unexplained of the
    picture, measured once, when a stage begins.

Tasks:
    generation       samples; noise reaches beyond borders, so that these vary, too
    retarget         samples of other heights and widths than the picture's
    animation        as generation; the first fixed map is noise
    harmonization    changes of colour and holes are undone; SinGAN's pyramid; batch norm
    editing          moved patches are undone; batch norm

Differences:
    - The paper takes three generator steps; the code, and this, three steps on one gradient.
    - In the released code four of harmonisation's changes of colour give black (a library takes floats for values up to 1): 8.7 % of all
      inputs. Here they are what they were meant to be; `as_released` gives the others.
    - The critic's three steps leave the generator alone: its three equal passes are one here, with running statistics moved three
      times. What stages give that learn no more is made without gradients, and for the reconstruction once per stage: the same numbers.
    - The released code computes gradients of a head that no optimiser holds from the fourth stage on. Left out.
    - The rate drops at `decay_iteration` of a stage. The released code drops it at 0.8 of its length, and never where that is no whole
      number.
    - Masks mark whatever is not black, as there; `base` chooses between its two ways of compositing.
    - Fine-tuning and compositing need no GPU. Samples come from the newest stage that was trained, at any time.
    - Transparent pictures are laid on white; the code drops the alpha channel.
    - Ranks of a multi-GPU run draw their own noise around the same picture: more processes are larger batches.

Checkpoints:
    The authors published none. `zoo.weights.single_image` reads the folders that their code writes; those hold whole objects, of which the
    state dicts alone are read. Tested on files built in that layout.

State:
    trains, makes and harmonises pictures, equals the official code's numbers; not compared with the paper's figures

Cite::

    @inproceedings{hinz2021improved,
      title     = {Improved Techniques for Training Single-Image GANs},
      author    = {Hinz, Tobias and Fisher, Matthew and Wang, Oliver and Wermter, Stefan},
      booktitle = {Winter Conference on Applications of Computer Vision},
      year      = {2021}
    }
"""

from zoo.consingan.model import ConSinGAN
from zoo.consingan.networks import Discriminator, Generator

__all__ = ["ConSinGAN", "Discriminator", "Generator"]

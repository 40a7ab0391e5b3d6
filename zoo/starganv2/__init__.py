"""StarGAN v2: Diverse Image Synthesis for Multiple Domains.

Yunjey Choi, Youngjung Uh, Jaejun Yoo, Jung-Woo Ha. CVPR 2020. https://arxiv.org/abs/1912.01865

One generator for any number of domains, and for any number of translations into each. A translation takes the content of its source
and a style code, which belongs to a domain: a mapping network makes codes of random latents, a style encoder reads them off
reference pictures, and both have an output for each domain, as the discriminator has. A diversity-sensitive loss pushes translations in
different styles apart; it fades while the training goes on. On faces, fine features skip the bottleneck where landmarks allow it.

Names:
    here             official code     paper
    generator        generator         G
    mapping_network  mapping_network   F
    style_encoder    style_encoder     E
    discriminator    discriminator     D
    reference        x_ref             the style of `image` (x_src) comes from it
    lambda_r1        lambda_reg        likewise lambda_style: lambda_sty, lambda_cycle: lambda_cyc
    lambda_diversity lambda_ds
    w_hpf            w_hpf             divides the high-pass filter: larger is weaker

Losses:
    x is of domain y, its target domain is t; z, z' are latents, r, r' references of domain t; D_k is the logit of domain k. A style c is
    F_t(z) or E_t(r), and another one, c', is F_t(z') or E_t(r'); nothing flows into G(x, c'). s(a) = log(1 + exp(a)), and |.| is the
    mean absolute difference.
    discriminator    mean s(-D_y(x)) + mean s(D_t(G(x, c)))
                     + lambda_r1 1/2 mean ||dD_y(x)/dx||^2
    generator        mean s(-D_t(G(x, c)))
                     + lambda_style |E_t(G(x, c)) - c|
                     - lambda_diversity |G(x, c) - G(x, c')|
                     + lambda_cycle |G(G(x, c), E_y(x)) - x|

Training:
    An iteration is four steps: the discriminator's with c of a latent, then of a reference; the generator's with c of the same latent,
    in which mapping network and style encoder step along; the generator's with c of the reference, in which it steps alone: an author
    reports that training the style encoder there, too, made results worse. Each network has an Adam of its own. lambda_diversity
    falls to 0 on a straight line.

Differences:
    - The style encoder has no gradient in the fourth step: the official code computes one and drops it. Real pictures ask for a gradient
      under the penalty alone.
    - Moving averages start apart from the networks, from PyTorch's own initial weights, as the official code's do: an oversight that some
      thousand iterations forget. Weights that a training begins from (`--init_from`) are put into both.
    - lambda_diversity follows from the iteration, so a resumed run goes on where it was; the official one begins again. Past
      `diversity_iterations` it stays 0, where rounding may leave the official one below 0 for good.
    - `discriminator_warmup` is ours. The published weights, from which a training can begin (`--init_from starganv2_afhq`), lack the
      discriminator. One that knows nothing would spoil the generator: let it learn alone for some hundreds or thousands of
      iterations, in which nothing else moves and averages and lambda_diversity wait.
    - Pictures of any size can be translated. Features skip at heights of 32, 64 and 128 alone, so a model with skips translates pictures
      whose height is no power of two at the one next to it, and resizes back. References are resized to the model's size.
    - `last_norm: false` is ours: the generator does without the instance norm in front of its last layer, which takes away the colour of a
      plain background. Shortcuts, which generators with `w_hpf` lack, carry that colour past all the others.
    - The reference's partner is another picture of its domain by an order that is drawn once, as in the official code; which pairs
      come when follows from the seed and the sample's number alone.
    - A course (`film`) through styles stays within a domain, as the official one; where two references in a row are of different
      domains it goes on with the next pair.

Checkpoints:
    The authors published moving averages for CelebA-HQ and AFHQ at 256x256, without discriminator: `lightning download starganv2_afhq`,
    `starganv2_celeba_hq`, and for faces `starganv2_fan`. `python -m zoo.weights.starganv2 FILE --output CHECKPOINT` converts them, and
    whole trainings of the official code. This was tested on files built in that layout: the published ones were never seen here. Their
    licence (CC BY-NC 4.0) is non-commercial.

State:
    trains, translates by reference and by chance, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{choi2020starganv2,
      title     = {StarGAN v2: Diverse Image Synthesis for Multiple Domains},
      author    = {Choi, Yunjey and Uh, Youngjung and Yoo, Jaejun and Ha, Jung-Woo},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2020}
    }
"""

from zoo.starganv2.model import StarGANv2

__all__ = ["StarGANv2"]

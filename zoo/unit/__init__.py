"""UNIT: Unsupervised Image-to-Image Translation Networks.

Ming-Yu Liu, Thomas Breuel, Jan Kautz. NeurIPS 2017. https://arxiv.org/abs/1703.00848

Pictures of two domains that show the same thing have the same code, so that a picture is translated by encoding it in its own domain
and decoding it in the other. Each domain has a variational autoencoder; the last layers of the encoders and the first ones of the decoders
are one and the same, which is what makes the codes common. Discriminators judge translations, and the way there and back
has to end where it began. Codes are feature maps of a quarter of the size.

Names:
    here             official code   paper
    source, target   a, b            1, 2   letters after x: where it comes from, where it is decoded
    generators       gen             E and G of both domains, and what they share
    discriminators   dis             D of both domains
    translations     x_ab, x_ba      x^{1->2}, x^{2->1}
    there and back   x_aba, x_bab    x^{1->2->1}, x^{2->1->2}

Losses:
    z is a code's mean plus normal noise; |.| is the mean absolute difference, m(.) the mean of squares; b(l, t) is the mean
    cross-entropy of logits l with real (t = 1) or fake (t = 0), or the mean of (l - t)^2 (`lsgan`), summed over the sizes at which
    discriminators look; P, in the later code alone, is m of the difference of VGG-16's features relu5_3, each channel normalised.

    generators       lambda_adversarial (b(D_a(x_ba), 1) + b(D_b(x_ab), 1))
                     + lambda_reconstruction (|x_aa - x_a| + |x_bb - x_b|)
                     + lambda_kl (m(z_a) + m(z_b))
                     + lambda_cycle (|x_aba - x_a| + |x_bab - x_b|)
                     + lambda_cycle_kl (m(z of x_ab) + m(z of x_ba))
                     + lambda_perceptual (P(x_ab, x_a) + P(x_ba, x_b))
    discriminators   lambda_adversarial (b(D_a(x_a), 1) + b(D_a(x_ba), 0)
                     + b(D_b(x_b), 1) + b(D_b(x_ab), 0))

Variants:
    paper          the paper's code (branch version_02): a shared residual block each way, BCE,
                   the divergence of noisy codes; recipe zoo/unit.yaml
    munit_style    the code of 2018: nothing shared, LSGAN, discriminators at three sizes, the
                   divergence of means, a falling rate; recipe zoo/unit_munit_style.yaml
    digits         domain adaptation, a model of its own: `zoo.unit.digits`

Differences:
    - The divergence is a mean of squares, the variance being 1, as in both codes; the paper's formula counts the direct codes' twice,
      its code once. The paper's appendix has residual blocks of 512 channels; its code and this have 256.
    - `shared_blocks` with `munit_style` is ours; the authors say that sharing helps where the domains are hard to match, as with faces.
    - Encodings of real pictures serve both turns, because no generator moves in between; the codes compute them twice, with the same
      result. Reconstructions that no loss of the discriminators reads are not decoded for them. Shared parts see both domains at once.
    - `crop_to_height`: the paper's code loses the right part of wide pictures when its third discriminator halves them; off here.
    - The later code's rate falls one iteration before each multiple of 100,000, here too.
    - With `lambda_cycle` 0 that code stops; here the cycle is left out.
    - The perceptual loss takes Caffe's VGG from torchvision's copy; the official one is a file of Lua's Torch.
    - A moving average of the generators (`ema_decay`) is ours, as is a common start of both domains (`same_start`).

Checkpoints:
    The authors published generators of both codes (unit_gta2city.pt; cat2tiger, corgi2husky, synthia2cityscape): `lightning download
    unit_gta2city`. `zoo.weights.unit` reads their layouts, tested on files built in them: the published ones were never seen here. Their
    licence (CC BY-NC-SA 4.0) is non-commercial.

State:
    trains, translates both ways, equals the official codes' numbers; not trained to the paper's figures

Cite::

    @inproceedings{liu2017unsupervised,
      title     = {Unsupervised Image-to-Image Translation Networks},
      author    = {Liu, Ming-Yu and Breuel, Thomas and Kautz, Jan},
      booktitle = {Advances in Neural Information Processing Systems (NIPS)},
      year      = {2017}
    }
"""

from zoo.unit.model import UNIT

__all__ = ["UNIT"]

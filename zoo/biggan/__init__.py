"""BigGAN: Large Scale GAN Training for High Fidelity Natural Image Synthesis.

Andrew Brock, Jeff Donahue, Karen Simonyan. ICLR 2019. https://arxiv.org/abs/1809.11096

A GAN that draws a picture of a given class from a latent code. Large batches and wide networks carry it far: a code per class is
shared by all conditional batch norms, every stage of the generator is told a chunk of the latent code of its own, and latent codes near
zero trade variety for quality. One latent code drawn under two classes gives two pictures of one layout: from such pairs GP-UNIT
distils its content encoder. BigGAN-deep (`deep: true`) is the paper's second design: thinner and deeper blocks, and the whole latent code
everywhere.

Names:
    here                  official code   paper
    generator             G               G     the moving average of it is G_ema
    discriminator         D               D     a projection discriminator
    latent                z               z     0.5 and 1.0 are the truncations that GP-UNIT's pairs were drawn with
    label, domain         y               y     the class; `domain` in batches

Files:
    layers.py             spectral norm on layers, class-conditional batch norm, self-attention
    generator.py          both generators
    discriminator.py      both discriminators
    losses.py             hinge loss, orthogonal regularisation
    sampling.py           truncation, standing statistics, interpolation
    pairs.py              pictures by number and class, for `lightning generate pairs` and `datamodules.BigGANPairs`
    model.py              the training

Losses:
    x is a picture of the class y, G(z, y') a generated one; means are over the batch.
    discriminator    mean relu(1 - D(x, y)) + mean relu(1 + D(G(z, y'), y'))
                     + lambda_orthogonal_discriminator R(D)
    generator        -mean D(G(z, y'), y') + lambda_orthogonal_generator R(G without the classes' codes)
                     R is half the sum of the squared scalar products of different rows of a weight, over all weights; its gradient is
                     2 (W W^T o (1 - I)) W, which is what the official code adds.

Differences:
    - The figures are those of the official PyTorch code's released run, which departs from the paper on purpose: learning rates 1e-4 and
      4e-4 (paper: 5e-5 and 2e-4), one discriminator step (two), no orthogonal regularisation (1e-4 on the generator), and batches of 2048
      as 8 accumulations of 256.
    - A batch of the data is an iteration: discriminator_steps x discriminator_accumulations
      parts, each seen once, as with the official loader.
    - Batch norms take the statistics of one accumulation on one process, as in the official PyTorch code; the paper's are of the whole
      batch over all devices. Running statistics move in each of these passes, those of the discriminator's turn among them, and are
      averaged over processes after an iteration. The official code's own multi-GPU batch norms are left out: there they hurt.
    - Spectral norm takes a power step in eval mode too, from vectors that stay (`zoo.blocks.live_spectral_norm`). TF-Hub's networks
      use the stored vectors; converted weights are divided by the singular values once and for all.
    - The last batch norm's epsilon stays 1e-5 whatever the others' is, as in the official code. `output_norm_eps` is for TF-Hub's (1e-4).
    - In the official discriminator for 32x32 pictures, attention at 16 means attention after every block; kept.
    - Standing statistics are averaged in the weights' precision (official: float32). The official running variance under `mybn` is biased,
      ours the unbiased one of its default batch norm. The official truncation in PyTorch scales latent codes; `generate` does, and uses
      the statistics fitted for that truncation, as TF-Hub's networks do.
    - 1x1 shortcuts come before the doubling and after the halving: the same numbers for a quarter of the work.

Checkpoints:
    Three layouts are read by `zoo.weights.biggan`: the official PyTorch code's (G_ema.pth, G.pth, D.pth), those that its converter makes of
    TF-Hub's BigGAN (and what it makes them from), and the port of TF-Hub's BigGAN-deep at 128, 256 and 512, the networks that GP-UNIT drew
    its pairs with: `lightning download biggan_deep_128`. Tested on files built in these layouts: the published ones were never seen here.

State:
    trains, draws, equals the official code's numbers; not trained on ImageNet

Cite::

    @inproceedings{brock2019large,
      title     = {Large Scale {GAN} Training for High Fidelity Natural Image Synthesis},
      author    = {Brock, Andrew and Donahue, Jeff and Simonyan, Karen},
      booktitle = {International Conference on Learning Representations (ICLR)},
      year      = {2019}
    }
"""

from zoo.biggan.model import BigGAN

__all__ = ["BigGAN"]

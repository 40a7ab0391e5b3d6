"""ALAE: Adversarial Latent Autoencoders.

Stanislav Pidhorskyi, Donald A. Adjeroh, Gianfranco Doretto. CVPR 2020. https://arxiv.org/abs/2004.04467

An autoencoder that never compares pictures. A GAN's generator is cut in two, a mapping to codes w and a painter of codes; its
discriminator is cut in two as well, an encoder of pictures into the same space and a critic of codes. Beside the game, a painted code has
to be encoded as that code: reciprocity in latent space. Nothing says what codes are distributed like, so they come out disentangled enough
to edit: a real picture is encoded, its code moved along the direction of an attribute, or mixed with another picture's, and painted again.
StyleALAE has StyleGAN's generator, an encoder that reads a style off every layer, and grows from 4x4 pixels on.

Names:
    here              official code, checkpoints   paper
    encoder           encoder, discriminator       E   checkpoints call E alone the discriminator
    critic            mapping_d, mapping_tl        D   linear; one of its outputs is the logit
    mapping           mapping_f, mapping_fl        F
    generator         decoder, generator           G   of codes w and noise eta
    average_latent    dlatent_avg                  the tracked mean of w
    level, stage      lod                          pictures of 4 * 2^level pixels
    makers, judges    decoder, encoder optimizer   F and G; E and D

Files:
    layers.py             equalised steps, blur, norms, convolutions that change the size
    networks.py           F, D, E, G
    mlp_networks.py       E and G of perceptrons
    losses.py, optimizer.py
    game.py               the three updates, for both models
    editing.py            truncation, mixing, interpolation, directions
    model.py, mlp.py      StyleALAE; the model for digits (`lightning card alae_mnist`)

Losses:
    z is normal, w = F(z), x a real picture, s(t) = log(1 + exp(t)); means are over the batch.
    1. judges (E, D)    s(D(E(G(w)))) + s(-D(E(x))) + lambda_r1 1/2 |gradient of D(E(x)) at x|^2
    2. makers (F, G)    s(-D(E(G(w))))
    3. both             lambda_latent mean (E(G(w)) - [w])^2
                        [w] is fixed, the w that is painted is not;
                        a step of the judges' optimiser, then one of the makers'
    In 1 and 2 most batches take their styles from two codes each, from a drawn layer on.

Training:
    `GrowResolution` in the recipe sets level, blend, batch and rate; a level is blended in along a cosine during half of its epochs,
    real pictures likewise. LREQAdam has no first moment and scales the step of each weight by what its layer's initial deviation is.

Differences:
    - The paper's third step moves E and G; the code's, and ours, also F, whose code is painted, and it takes the mean over a code, too.
    - Optimisers forget their state when a level begins, as in the code (`reset_optimizers` of GrowResolution); the code forgets it at a
      resume, too, and we don't.
    - In the third update the critic has no gradient. With today's PyTorch its optimiser passes it over; in the paper's time it stepped with
      zeros, which made its steps about 1.4 times as large: `zero_absent_gradients`.
    - The encoder's deviations have no epsilon: constant feature maps give NaN, and training stops with a sentence. `least_variance` 1e-8
      mends that; where no variance is below it nothing changes.
    - Moving averages start as networks of their own (`ema_start`), without an average code; inference uses the trained one's.
    - The official `generate` moves the average code even in inference; ours leaves the model alone.
    - Kept as they are: a double activation behind the encoder's first layer, two epsilons of instance norms, noise of the first layer that
      a whole batch shares, unused outputs of the critic, a critic without any activation.
    - `noise: off` gives what the code adds in its place, a bell of the features' own values; no official script uses it.
    - Smaller pictures of a level are made in the workers, equal to the official records' (`datamodules.pyramid`).
    - Processes draw mixing and noise apart, and track the average code on rank 0's batches alone, as the official ones do.

Checkpoints:
    FFHQ at 1024, CelebA at 128, CelebA-HQ and LSUN bedrooms at 256: `lightning download alae_ffhq`. `zoo.weights.alae` reads their layout,
    tested on files built in it: the published ones were never seen here, nor is a licence of theirs stated. Published directions load
    (`read_directions`); they fit the FFHQ checkpoint alone.

State:
    trains, grows, reconstructs and edits, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{pidhorskyi2020adversarial,
      title     = {Adversarial Latent Autoencoders},
      author    = {Pidhorskyi, Stanislav and Adjeroh, Donald A. and Doretto, Gianfranco},
      booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2020}
    }
"""

from zoo.alae.model import StyleALAE

__all__ = ["StyleALAE"]

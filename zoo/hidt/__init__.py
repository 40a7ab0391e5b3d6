"""HiDT: High-Resolution Daytime Translation Without Domain Labels.

Ivan Anokhin, Pavel Solovev, Denis Korzhenkov, Alexey Kharlamov, Taras Khakhulin, Alexey Silvestrov, Sergey Nikolenko, Victor Lempitsky,
Gleb Sterkin. CVPR 2020. https://arxiv.org/abs/2003.08791

A landscape is repainted in other light: that of an exemplar, of a random style or of a stored one. Training pictures carry no labels
of domain or time; any two of one pile exchange their styles. The generator is an Adaptive U-Net: a content encoder, whose thin skip
connections pass through adaptive norms, so that detail comes through without the source's light, a style encoder of three numbers, and a
decoder that also paints a segmentation, which has to be the one that another network gave the source. A second network
(`zoo.hidt.enhancement`) merges translations of 16 shifted crops into a picture four times as large.

Names:
    here                official code      paper
    content_encoder     content_encoder    E_c    a code at a quarter of the size, two thin skips
    style_encoder       style_encoder      E_s    three numbers; twelve for paintings
    decoder             decoder            G      the Adaptive U-Net, pictures and masks
    discriminators      not published      D      unconditional, and by projection of the style

Losses:
    x, x' are two pictures, c, s = E_c(x), E_s(x) and s' = E_s(x'); s_r is drawn from N(0, I); (x^, m^) = G(c, s') is the swap,
    (x_r, m_r) = G(c, s_r) the random picture, x~ = G(c, s) the reconstruction; c^, s^ = E(x^); c~, s~ = E(x_r); s^' is the style of
    the swap of x'; m are the labels of x; |.| is the mean absolute difference, H the cross-entropy; means are over x and x' alike.

    generator        lambda_adversarial sum over D of mean (D(x^) - 1)^2 + mean (D(x_r) - 1)^2
                     + lambda_reconstruction (|x~ - x| + |G(c~, s~) - x_r| + |G(c^, s^') - x|)
                     + lambda_mask (H(m^, m) + H(m_r, m))
                     + lambda_content (|c^ - c| + |c~ - c|)
                     + lambda_style |s^ - s'|
                     + lambda_style_random |s~ - s_r|
                     + lambda_distribution (|mean|_1 + |cov - I|_1 + |diag cov - 1|_1)
    discriminators   sum over D of 2 mean (D(x) - 1)^2 + mean D(x^)^2 + mean D(x_r)^2
    enhancer         see `zoo.hidt.enhancement`

Choices:
    The authors published inference alone, so no source settles the following; each is an argument.
    - The weights lambda are those of an unofficial re-implementation; lambda_distribution above all is doubtful.
    - The distribution loss, over the styles of the last 100 pictures and the batch's; its gradient reaches the batch's alone. Each
      process has a pool of its own, so this loss is no mean over processes.
    - Both discriminators: FUNIT's patch trunk. Styles that condition one learn nothing from it.
    - Masks: cross-entropy of as many channels as there are classes. The published model has three channels under a tanh, whatever they
      show; `mask_output: tanh` builds it, and trains by the distance from 1 in the channel of the class.
    - Adam's betas, and that a batch of 4 are two pairs.

Differences:
    - Content and styles of an iteration are computed once for both players; the generator does not move in between.
    - Skips are taken in front of each downsampling, as in the code; a sentence of the paper says behind.
    - De-quantisation noise is added in training alone; `inference_noise` adds it as the official inference does, whose results differ
      from run to run.
    - `translate` leaves pictures at their size; the official inference brings their shorter side to 256 (`--size 256`). Exemplars
      always are (`inference_size`). Results are PNG files, rounded instead of cut down to whole values.
    - A moving average of the generator (`ema_decay`) is ours, off as it stands.

Checkpoints:
    The authors published daytime.pt, wikiart.pt and enhancer.pth: `lightning download hidt_daytime`. `zoo.weights.hidt` reads their
    layouts, tested on files built in them: the published ones were never seen here. They hold no discriminators. Licence: BSD
    3-Clause, that of the repository.

State:
    trains, translates by exemplar, by chance and by name, enlarges, equals the official inference's numbers and an independent computation
    of its training; not trained on landscapes to its end

Cite::

    @inproceedings{anokhin2020high,
      title     = {High-Resolution Daytime Translation Without Domain Labels},
      author    = {Anokhin, Ivan and Solovev, Pavel and Korzhenkov, Denis and Kharlamov, Alexey and Khakhulin, Taras and
                   Silvestrov, Alexey and Nikolenko, Sergey and Lempitsky, Victor and Sterkin, Gleb},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2020}
    }
"""

from zoo.hidt.model import HiDT

__all__ = ["HiDT"]

"""GP-UNIT: Unsupervised Image-to-Image Translation with Generative Prior.

Shuai Yang, Liming Jiang, Ziwei Liu, Chen Change Loy. CVPR 2022. https://arxiv.org/abs/2204.03641

A picture takes on the look of another domain, a certain exemplar's or one by chance, and keeps its layout, even where the
domains are as far apart as birds and cars. Two stages: `zoo.gpunit.prior` distils a content encoder, whose output is one
channel of 8x8 numbers, from pairs of pictures that a class-conditional GAN drew from one latent code. It is frozen here, and a
generator learns to draw pictures of the target domain from it. Finer features of the encoder reach the generator by dynamic skip
connections: gates that open where these help.

Names:
    here             official code   paper
    content_encoder  netEC           E_c   one channel of 8x8 numbers, finer features; frozen
    generator        netG            G     with the style encoder E_s inside
    discriminator    netD            D     whose f_D is the mean over the picture of a layer's output
    sampler          netT                  codes by chance, fitted after the training
    ema.generator    netG_ema              the generator's moving average, which translates

Losses:
    x is of the source, y of the target domain; y' is y, or the whole batch mirrored, by one draw; G(x, y') is the translation and
    G(y, y') the reconstruction, without skip connections; m are the skips' masks; |.| is the mean absolute difference, s the softplus,
    V the features of VGG-19 at relu1_1, 2_1, 3_1, 4_1, 5_1, R those of IR-SE50.

    generator      lambda_adversarial mean s(-D(G(x, y')))
                   + lambda_content |E_c(G(x, y')) - E_c(x)|
                   + lambda_style |f_D(G(x, y')) - f_D(y)|
                   + lambda_mask sum of the means of m
                   + lambda_reconstruction |G(y, y') - y|
                   + lambda_perceptual 0.3 sum |V(G(y, y')) - V(y)|
                   + lambda_identity mean (1 - cos(R(G(x, y')), R(y))), where faces come out
    discriminator  mean s(-D(y)) + mean s(D(G(x, y'))), with the generator after its step
                   + lambda_r1 1/2 mean ||dD(y)/dy||^2
    sampler T      mean (T(e) - E_s(y))^2; e is the noise whose T(e) is nearest to E_s(y)

Differences:
    - As in the official code, the content encoder runs in training mode: its spectral norms move, its weights do not. The mirror is drawn
      once for the batch (of each process), and the identity loss compares with the exemplar, not with the source.
    - The official code's one pass of the discriminator over translations and targets is split: what no loss reads is not computed, and each
      spectral norm still moves once. Style codes and features that the official code computes twice alike are computed once.
    - A list for `style_layer` sums over layers; the official code accepts one, and then compares wrong halves of the batch.
    - `image_size` may be 64, 128, 512, ...; at 256 all networks are the official ones.
    - `correspondence`, a factor of the skips' masks when translating, is ours: the journal version (IEEE TPAMI 2023) announces an
      intensity of this kind; its additions, this one and the semi-supervised training, are not in the official code.
    - The sampler translates with standing statistics; the official inference, with those of the latents at hand, which a single latent
      cannot have: `sampler_batch_statistics`. It is fitted once, at the end; the official code fits one for each checkpoint.
    - `discriminator_learning_rate`, another rate for the discriminator, and rates that fall towards the end (`decay_begin`,
      `decay_iterations`) are ours; the official rate is one for both, and stays. So is `discriminator_norm: none`: small
      discriminators get stuck under spectral norm, some with one seed and not with another; the penalty alone holds them.
    - Codes' nearest samples are searched in float64 instead of by the faiss library; both are exact.
    - Levels of the generator below the finest have colours that nothing trains; they are kept, so that official files fit.

Checkpoints:
    The authors published content_encoder.pt and, per task (cat2dog, face2cat, bird2car, ...), a file with the generator's average and the
    sampler, without discriminator: `lightning download gpunit_cat2dog`. Files of these layouts are read by `zoo.weights.gpunit`, tested
    on files built in that layout: the published ones were never seen here. Their licence (S-Lab 1.0) is non-commercial.

State:
    trains, translates by exemplar and by chance, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{yang2022gpunit,
      title     = {Unsupervised Image-to-Image Translation with Generative Prior},
      author    = {Yang, Shuai and Jiang, Liming and Liu, Ziwei and Loy, Chen Change},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2022}
    }
"""

from zoo.gpunit.model import GPUNIT

__all__ = ["GPUNIT"]

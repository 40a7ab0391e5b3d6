"""StarGAN v2: Diverse Image Synthesis for Multiple Domains.

Yunjey Choi, Youngjung Uh, Jaejun Yoo, Jung-Woo Ha. CVPR 2020. https://arxiv.org/abs/1912.01865
"""

from zoo.starganv2.model import StarGANv2

__all__ = ["StarGANv2"]

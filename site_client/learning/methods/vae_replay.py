"""Generated replay from a variational autoencoder: `diffusion-replay` with a plainer generator.

L(theta; I) + L(theta; G) with G drawn by `site_client/learning/vae.py`, after deep generative
replay (Shin et al. 2017, arXiv:1705.08690; van de Ven et al. 2020 with an autoencoder).
"""

from wardround.site_client.learning.generators import VAE
from wardround.site_client.learning.methods.diffusion_replay import replay_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

VAE_REPLAY = Method(
    name="vae-replay",
    replay=ReplaySource.GENERATED,
    begin=memoryless(replay_gradient),
    generator=VAE,
)

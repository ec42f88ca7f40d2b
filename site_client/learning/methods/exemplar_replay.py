"""Exemplar replay: K real cases of each earlier site beside the site's own. Simulation only.

The natural control for generated replay, and a breach of the privacy rule: real images are kept.
"""

from wardround.site_client.learning.methods.diffusion_replay import replay_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

EXEMPLAR_REPLAY = Method(
    name="exemplar-replay", replay=ReplaySource.EXEMPLARS, begin=memoryless(replay_gradient)
)

"""Joint training on every site's real cases at once: the upper bound. Simulation only."""

from wardround.site_client.learning.methods.finetune import incoming_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

JOINT = Method(name="joint", replay=ReplaySource.POOLED, begin=memoryless(incoming_gradient))

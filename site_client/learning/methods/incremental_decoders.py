"""Continual segmentation with growing label sets (Ji et al. 2023, arXiv:2302.00162).

The first site trains an encoder, which no later site changes. Each site trains a decoder of its own
on it, for the classes that it labels, and trims it (`trimming`); what it finds is merged with what
the other sites' decoders find (`merging`). So nothing is forgotten, no case and no image is kept or
drawn, and a checkpoint grows by one small decoder a site. The paper published no code: what is
searched, distilled and merged how is a reconstruction from its abstract and its successor's code.
"""

from wardround.site_client.learning.methods.finetune import incoming_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

INCREMENTAL_DECODERS = Method(
    name="incremental-decoders",
    replay=ReplaySource.NONE,
    begin=memoryless(incoming_gradient),
    grows_decoders=True,
)

"""SAMCL with generated replay: the steps of `samcl`, and no case is kept.

The last step of the way is on pairs drawn from the denoiser under earlier sites' prompts.
"""

from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless
from wardround.site_client.learning.methods.samcl import sharpness_aware_gradient

SAMCL_GENERATED = Method(
    name="samcl-generated",
    replay=ReplaySource.GENERATED,
    begin=memoryless(sharpness_aware_gradient),
)

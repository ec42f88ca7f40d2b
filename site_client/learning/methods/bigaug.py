"""BigAug: fine-tuning under a stack of strong augmentations, against unseen scanners.

Zhang et al. 2020 (arXiv:1906.03347). By definition here: `finetune` with the plan's intensity stack
on (`site_client/data/augment.py`), whatever `augmentation.intensity` says; of the paper's spatial
changes only the flips of the plan.
"""

from wardround.site_client.learning.methods.finetune import incoming_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

BIGAUG = Method(
    name="bigaug",
    replay=ReplaySource.NONE,
    begin=memoryless(incoming_gradient),
    has_intensity_stack=True,
)

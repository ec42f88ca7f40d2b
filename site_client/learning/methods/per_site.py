"""One model per site: each site trains the study's untrained network on its own cases alone.

Nothing is shared, so nothing is forgotten and nothing is passed on. The segmenter as it left a site
travels as `labeller.SITE` and judges that site from then on; a site that was not visited yet has
none and is judged by the one that left the last visited site.
"""

from wardround.site_client.learning.methods.finetune import incoming_gradient
from wardround.site_client.learning.methods.method import Method, ReplaySource, memoryless

PER_SITE = Method(
    name="per-site",
    replay=ReplaySource.NONE,
    begin=memoryless(incoming_gradient),
    keeps_segmenters=True,
    is_per_site=True,
)

"""The table of continual methods; one file each.

A method is a source of replay and a way to learn. Adding one is a file and a line here.
"""

from wardround.shared.errors import PlanError
from wardround.site_client.learning.methods.agem import AGEM
from wardround.site_client.learning.methods.bigaug import BIGAUG
from wardround.site_client.learning.methods.derpp import DERPP
from wardround.site_client.learning.methods.diffusion_replay import DIFFUSION_REPLAY
from wardround.site_client.learning.methods.ewc import EWC
from wardround.site_client.learning.methods.exemplar_replay import EXEMPLAR_REPLAY
from wardround.site_client.learning.methods.finetune import FINETUNE
from wardround.site_client.learning.methods.fish import FISH
from wardround.site_client.learning.methods.incremental_decoders import INCREMENTAL_DECODERS
from wardround.site_client.learning.methods.joint import JOINT
from wardround.site_client.learning.methods.lwf import LWF
from wardround.site_client.learning.methods.mas import MAS
from wardround.site_client.learning.methods.mer import MER
from wardround.site_client.learning.methods.method import Method
from wardround.site_client.learning.methods.mldg import MLDG
from wardround.site_client.learning.methods.per_site import PER_SITE
from wardround.site_client.learning.methods.samcl import SAMCL
from wardround.site_client.learning.methods.samcl_generated import SAMCL_GENERATED
from wardround.site_client.learning.methods.sga import SGA
from wardround.site_client.learning.methods.si import SI
from wardround.site_client.learning.methods.smd import SMD
from wardround.site_client.learning.methods.vae_replay import VAE_REPLAY

METHODS: dict[str, Method] = {
    "finetune": FINETUNE,
    "joint": JOINT,
    "per-site": PER_SITE,
    "incremental-decoders": INCREMENTAL_DECODERS,
    "bigaug": BIGAUG,
    "ewc": EWC,
    "mas": MAS,
    "si": SI,
    "lwf": LWF,
    "exemplar-replay": EXEMPLAR_REPLAY,
    "derpp": DERPP,
    "agem": AGEM,
    "mer": MER,
    "mldg": MLDG,
    "fish": FISH,
    "sga": SGA,
    "vae-replay": VAE_REPLAY,
    "diffusion-replay": DIFFUSION_REPLAY,
    "smd": SMD,
    "samcl": SAMCL,
    "samcl-generated": SAMCL_GENERATED,
}


def find_method(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        PlanError: There is none; the message lists those that exist.
    """
    if name not in METHODS:
        raise PlanError(f"method '{name}' does not exist. Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]

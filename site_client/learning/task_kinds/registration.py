"""Registration: a network says how a moving image must move to lie on a fixed one."""

from wardround.site_client.learning.registration.network import build_registrar, innermost
from wardround.site_client.learning.registration.pairs import pair_pool, pairing, training_pairs
from wardround.site_client.learning.task_kinds.kind import TaskKind

REGISTRATION = TaskKind(
    build=build_registrar,
    innermost=innermost,
    specimens=training_pairs,
    pool=pair_pool,
    facts=pairing,
    can_label=False,
)

"""The outer step: at the end of a later visit the weights go a part of the way back.

    theta <- theta_arrived + s (theta_trained - theta_arrived)

This is the outer step of Reptile (Nichol et al. 2018, arXiv:1803.02999, Algorithm 1) over whole
visits; s is `method.outer_step`. Between weights that serve one distribution and weights fine-tuned
to another lie such that serve both, and others (Wortsman et al. 2022, arXiv:2109.01903).

What was trained knows the visited site best: it is the site's labeller. What travels on as the
segmenter follows from it and from what arrived, so the labeller tells nothing more.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.methods import find_method


def outer_step_of(plan: StudyPlan, visited: Sequence[str]) -> float:
    """Return the share of the way that is gone, in (0, 1]: all of it at the first site.

    Args:
        plan: The study plan.
        visited: The sites before this one.
    """
    takes_it = find_method(plan.method.name).takes_outer_step and visited
    return plan.method.outer_step if takes_it else 1.0


def stepped(
    arrived: Mapping[str, Tensor], trained: Mapping[str, Tensor], size: float
) -> dict[str, Tensor]:
    """Return the weights that travel on; with a size of 1 they are the trained ones, bit for bit.

    Args:
        arrived: Weights by name, as a visit began.
        trained: The same, as training left them.
        size: Share of the way between them.
    """
    if size == 1:
        return dict(trained)
    return {name: arrived[name] + size * (trained[name] - arrived[name]) for name in trained}

"""Can one tell who was in the training set by the denoiser's loss? A test of membership.

A denoiser that has learnt its cases by heart restores them better than others of the same kind. So
each case is noised at fixed levels, with the same noise for all cases, and restored under the
site's prompt; its number is the mean squared error over its samples and the levels, each level in
units of its mean (loss threshold, Yeom et al. 2018; for diffusion models Carlini et al. 2023,
arXiv:2301.13188). Slices of one volume are one case, as one person is in both or in neither. How
well the numbers of training cases and of held-out cases are told apart is the answer.

What the denoiser that arrived makes of the same cases tells how hard each is; divided by it, the
attack is stronger (difficulty calibration, Watson et al. 2022, arXiv:2111.08440). Who holds two
checkpoints of a lineage can do that; `benchmarks/membership.py` does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.methods import find_method

# N samples, C channels (image then classes), X spatial axes, P prompt tokens, W prompt width

LEVELS = (0.15, 0.3, 0.5, 0.7)  # of the noise schedule
BATCH = 32


@torch.no_grad()
def case_errors(
    network: nn.Module,
    prompt_PW: Tensor,
    cases: Sequence[Tensor],
    plan: StudyPlan,
    generator: torch.Generator,
) -> list[float]:
    """Return the error of restoring each case, mean over the cases 1.

    Args:
        network: As the plan's method draws with, in evaluation mode.
        prompt_PW: The site's prompt (P, W).
        cases: Each case's joined samples (n, C, *X) in [-1, 1].
        plan: The method, the noise schedule and the precision.
        generator: The stream of the noise.
    """
    restore, samples_NCX = find_method(plan.method.name).generator.restore, torch.cat(list(cases))
    sizes = [len(case) for case in cases]
    total = torch.zeros(len(cases), dtype=torch.float64)
    for level in LEVELS:
        noise_CX = torch.randn(samples_NCX.shape[1:], generator=generator)
        errors = [
            (restore(network, batch, prompt_PW, noise_CX, level, plan) - batch)
            .pow(2)
            .flatten(1)
            .mean(1)
            for batch in samples_NCX.split(BATCH)
        ]
        of_case = torch.stack([part.double().mean() for part in torch.cat(errors).split(sizes)])
        total += of_case / of_case.mean().clamp(min=1e-12)
    return [float(value) for value in total / len(LEVELS)]

"""Measure what a step of `smd` costs: processor time of a step, methods in turn, made-up samples.

    python benchmarks/step_cost.py deploy/studies/benchmark.toml

The last number is that of `smd` over that of plain replay of the same batch; the bar is 3.3.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from wardround.shared import plan as plans
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.method import Arrival
from wardround.site_client.learning.pool import Pool, labelled
from wardround.site_client.learning.segmenter import build_segmenter
from wardround.site_client.learning.segmenter_training import step_samples

METHODS = ("finetune", "diffusion-replay", "smd")
EARLIER = 5  # sites that are replayed
SAMPLES = 40
WARM_UP = 10


def main() -> None:
    """Print the median milliseconds of a step of each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="study file: networks, sizes, batch")
    parser.add_argument("--steps", type=int, default=60, help="timed steps of each method (60)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = plans.load(given.study)
    generator = torch.Generator().manual_seed(0)
    pools = [_pool(plan, generator) for _ in range(1 + EARLIER)]
    steps = {name: _step(plan, name, pools[:1], pools[1:], generator) for name in METHODS}
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(WARM_UP + given.steps):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    medians = {name: median(taken[WARM_UP:]) for name, taken in times.items()}
    for name, seconds in medians.items():
        print(f"{name:18} {1000 * seconds:7.1f} ms")
    print(f"{'smd / replay':18} {medians['smd'] / medians['diffusion-replay']:7.2f}")


def _pool(plan: StudyPlan, generator: torch.Generator) -> Pool:
    task = plan.task
    size = (SAMPLES, task.input_channels, *task.sample_size)
    images_NCX = torch.randn(size, generator=generator).clamp(-1, 1)
    return labelled(images_NCX, (images_NCX[:, 0] > 0).long(), len(task.classes))


def _step(
    plan: StudyPlan, name: str, own: list[Pool], replay: list[Pool], generator: torch.Generator
) -> Callable[[], None]:
    segmenter = build_segmenter(plan.task, plan.segmenter, 0)
    parameters = list(segmenter.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    draw = partial(step_samples, own, replay, plan)
    learner = find_method(name).begin(
        Arrival(segmenter=segmenter, state={}, is_first=False, plan=plan, draw=draw)
    )

    def step() -> None:
        tensors = learner.gradient(*draw(generator), generator).tensors
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.grad = tensor
        optimiser.step()

    return step


if __name__ == "__main__":
    main()

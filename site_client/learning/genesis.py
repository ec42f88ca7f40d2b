"""The checkpoint a study starts from: untrained networks whose weights follow from the plan's seed.

Anyone with the plan computes the same bytes, and from them the manifest of every later checkpoint.
"""

from dataclasses import dataclass

import torch
from torch import nn

from wardround.shared import seeds
from wardround.shared.checkpoint import Manifest
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.method import ReplaySource
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import PROMPT_TENSOR, manifest_of, pack, pack_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The starting parts (name to safetensors bytes) and the manifest of the whole study."""

    parts: dict[str, bytes]
    manifest: Manifest


def make_genesis(plan: StudyPlan) -> Genesis:
    """Return the starting checkpoint of a study."""
    segmenter = untrained_segmenter(plan)
    parts = {"segmenter": pack_network(segmenter)}
    prompt = labeller = None
    if uses_denoiser(plan):
        denoiser = find_method(plan.method.name).generator.build(
            plan.task, plan.denoiser, seeds.derive(plan.seed, "genesis", "denoiser")
        )
        parts["denoiser"] = pack_network(denoiser)
        prompt = pack(
            {PROMPT_TENSOR: torch.zeros(plan.denoiser.prompt_tokens, plan.denoiser.prompt_width)}
        )
    if keeps_segmenters(plan):
        labeller = parts["segmenter"]
    state = find_method(plan.method.name).blank(plan, segmenter)
    if state:
        parts["method"] = pack(state)
    return Genesis(parts=parts, manifest=manifest_of(parts, prompt, labeller))


def untrained_segmenter(plan: StudyPlan) -> nn.Module:
    """Return the segmenter that the study starts from."""
    return kind_of(plan.task).build(plan, seeds.derive(plan.seed, "genesis", "segmenter"))


def keeps_segmenters(plan: StudyPlan) -> bool:
    """Say whether the segmenter as it left each site travels along, as `labeller.SITE`."""
    by_site = uses_denoiser(plan) and plan.replay.labels == "site"
    return by_site or find_method(plan.method.name).keeps_segmenters


def uses_denoiser(plan: StudyPlan) -> bool:
    """Say whether the plan's method replays generated pairs."""
    return find_method(plan.method.name).replay is ReplaySource.GENERATED

"""The checkpoint a study starts from: untrained networks whose weights follow from the plan's seed.

Anyone with the plan computes the same bytes, and from them the manifest of every later checkpoint.
"""

from dataclasses import dataclass

import torch
from torch import nn

from wardround.shared import seeds
from wardround.shared.checkpoint import ENCODER, Form, Manifest, read_header
from wardround.shared.errors import CheckpointError
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import GROWS_DECODERS
from wardround.site_client.learning.methods import find_method
from wardround.site_client.learning.methods.method import ReplaySource
from wardround.site_client.learning.split_network import (
    Decoder,
    Encoder,
    build_decoder,
    build_encoder,
)
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.learning.weights import PROMPT_TENSOR, manifest_of, pack, pack_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The starting parts (name to safetensors bytes) and the manifest of the whole study."""

    parts: dict[str, bytes]
    manifest: Manifest


def make_genesis(plan: StudyPlan) -> Genesis:
    """Return the starting checkpoint of a study."""
    if plan.method.name == GROWS_DECODERS:
        return _encoder_alone(plan)
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


def _encoder_alone(plan: StudyPlan) -> Genesis:
    parts = {ENCODER: pack_network(untrained_encoder(plan))}
    widths = (1.0, *plan.method.decoder_widths)
    decoders = [read_header(pack_network(untrained_decoder(plan, width))) for width in widths]
    # Two widths may be one after rounding to whole channels.
    return Genesis(
        parts=parts,
        manifest=Manifest(
            parts={name: read_header(data) for name, data in parts.items()},
            decoder=tuple(dict.fromkeys(decoders)),
        ),
    )


def untrained_encoder(plan: StudyPlan) -> Encoder:
    """Return the encoder that a study with decoders for each site starts from."""
    seed = seeds.derive(plan.seed, "genesis", "encoder")
    return build_encoder(plan.task, plan.segmenter, seed)


def untrained_decoder(plan: StudyPlan, width: float) -> Decoder:
    """Return the decoder that training starts from at every site.

    Args:
        plan: The study plan.
        width: Share of the encoder's, in (0, 1].
    """
    seed = seeds.derive(plan.seed, "genesis", "decoder")
    return build_decoder(plan.task, plan.segmenter, width, seed)


def decoder_like(plan: StudyPlan, form: Form) -> Decoder:
    """Return the untrained decoder that has the tensors of a file.

    Raises:
        CheckpointError: No width of the plan has them.
    """
    for width in (1.0, *plan.method.decoder_widths):
        decoder = untrained_decoder(plan, width)
        if {s.name: s.shape for s in form} == {
            name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()
        }:
            return decoder
    raise CheckpointError(
        "a decoder has none of the widths of the plan. Use the plan that the study was created "
        "with."
    )


def untrained_segmenter(plan: StudyPlan) -> nn.Module:
    """Return the segmenter that the study starts from."""
    return kind_of(plan.task).build(plan, seeds.derive(plan.seed, "genesis", "segmenter"))


def keeps_segmenters(plan: StudyPlan) -> bool:
    """Say whether the segmenter trained at each site travels along, as `labeller.SITE`."""
    by_site = uses_denoiser(plan) and plan.replay.labels == "site"
    return by_site or find_method(plan.method.name).keeps_segmenters


def uses_denoiser(plan: StudyPlan) -> bool:
    """Say whether the plan's method replays generated pairs."""
    return find_method(plan.method.name).replay is ReplaySource.GENERATED

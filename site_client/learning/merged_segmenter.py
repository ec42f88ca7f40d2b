"""One encoder and the decoders of all sites visited so far, as a single segmenter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wardround.shared.checkpoint import DECODER, ENCODER, read_header
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.familiarity import summary, trust
from wardround.site_client.learning.genesis import decoder_like, untrained_encoder
from wardround.site_client.learning.merging import Answer, merged
from wardround.site_client.learning.split_network import Decoder, Encoder
from wardround.site_client.learning.weights import fill_network

# B batch, C channels, K background and classes, X spatial axes
SMALLEST = 1e-12  # a probability of nought has no logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """A decoder and the numbers of the classes that its site labels, ascending."""

    decoder: Decoder
    classes: tuple[int, ...]


class MergedSegmenter(nn.Module):
    """Images (B, C, *X) to logits (B, 1 + num_classes, *X): logarithms of merged probabilities.

    Without any decoder everything is background.

    Args:
        encoder: Of all decoders.
        experts: In the order in which equals are heard.
        num_classes: Of the plan.
    """

    def __init__(self, encoder: Encoder, experts: Sequence[Expert], num_classes: int) -> None:
        super().__init__()
        self.encoder, self.experts, self.num_classes = encoder, tuple(experts), num_classes

    @torch.no_grad()
    def forward(self, images_BCX: Tensor) -> Tensor:
        """Return the logits."""
        if not self.experts:
            said_BKX = images_BCX.new_zeros(
                (len(images_BCX), 1 + self.num_classes, *images_BCX.shape[2:])
            )
            said_BKX[:, 0] = 1
            return said_BKX.clamp(min=SMALLEST).log()
        features = self.encoder(images_BCX)
        summaries_BC = summary(features)
        answers = [
            Answer(
                classes=expert.classes,
                probabilities_BKX=torch.softmax(
                    expert.decoder(features)[:, [0, *expert.classes]], dim=1
                ),
                trust_B=trust(expert.decoder, summaries_BC),
            )
            for expert in self.experts
        ]
        return merged(answers, self.num_classes).clamp(min=SMALLEST).log()


def merged_segmenter(parts: Mapping[str, bytes], plan: StudyPlan) -> MergedSegmenter:
    """Return the single network of a checkpoint, in evaluation mode.

    Args:
        parts: Part name -> safetensors file: the encoder and every decoder.
        plan: The study plan.
    """
    task = plan.task
    encoder = untrained_encoder(plan)
    fill_network(encoder, parts[ENCODER])
    experts = []
    for name in sorted(name for name in parts if name.startswith(DECODER)):
        decoder = decoder_like(plan, read_header(parts[name]))
        fill_network(decoder, parts[name])
        known = task.classes_of(name.removeprefix(DECODER))
        classes = tuple(1 + task.classes.index(label) for label in known)
        experts.append(Expert(decoder=decoder, classes=classes))
    segmenter = MergedSegmenter(encoder, experts, len(task.classes))
    segmenter.eval()
    return segmenter

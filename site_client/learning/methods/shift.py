"""Simulated shift: the samples that a look-ahead is judged by, as another site might have had them.

A step that serves samples whose look has changed serves, one hopes, sites not yet visited.
"""

from dataclasses import replace
from typing import Literal

import torch

from wardround.site_client.data.amplitude import amplitude_mixed
from wardround.site_client.data.augment import intensity_stack
from wardround.site_client.learning.pool import Batch

Shift = Literal["none", "stack", "amplitude"]


def shifted(batch: Batch, others: Batch, shift: Shift, generator: torch.Generator) -> Batch:
    """Return a batch under simulated shift; labels stay as they are.

    Args:
        batch: What is changed.
        others: Samples of other sites; "amplitude" takes each look from one of them.
        shift: "stack" is the intensity stack, "amplitude" mixes slow amplitudes of the spectra.
        generator: The stream of every draw; "none" draws nothing.
    """
    match shift:
        case "none":
            return batch
        case "stack":
            images = intensity_stack(batch.images_BCX, generator)
        case "amplitude":
            whose_B = torch.randint(len(others), (len(batch),), generator=generator)
            share_B = torch.rand(len(batch), generator=generator)
            images = amplitude_mixed(batch.images_BCX, others.images_BCX[whose_B], share_B)
    return replace(batch, images_BCX=images)

"""A labeller may leave a site as what the segmenter of its visit was made from, and not else."""

import numpy as np
import pytest
import torch

from wardround.shared import plan as plans
from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.errors import EgressRefused
from wardround.shared.messages import CheckpointUpload, VisitOrder
from wardround.shared.trail import Trail
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.learning.outer_step import stepped
from wardround.site_client.learning.weights import pack, unpack
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.egress import EgressGuard
from wardround.site_client.privacy.image_search import ImageSearch

NOISE = np.random.default_rng(0).uniform(-1, 1, (48, 48)).astype(np.float32)
REACH = 4 * 2 * 0.01  # ADAM_STEP, two steps, a learning rate of 0.01
SIZE = 0.25


class Leaving:
    """What ben lets out in the visit after ada's."""

    def __init__(self, plan, parent, guard):
        self.plan, self.parent, self.guard = plan, parent, guard
        self.trained = trained(parent["segmenter"], seed=1)
        self.segmenter = self.made_from(self.trained, SIZE)

    def made_from(self, labeller, size):
        return pack(stepped(unpack(self.parent["segmenter"]), unpack(labeller), size))

    def announce(self, **parts):
        """Release the parts, then say that they are the checkpoint with those that arrived."""
        own = {name.replace("_", "."): data for name, data in parts.items()}
        for name, data in own.items():
            self.guard.release_part(name, data)
        checkpoint = ref_of(part_ref(*part) for part in (self.parent | own).items())
        upload = CheckpointUpload(visit=2, site_id="ben", checkpoint=checkpoint)
        return self.guard.release(upload)


@pytest.fixture
def leaving(tiny_plan, tmp_path):
    content = tiny_plan.model_dump(mode="json", exclude_none=True)
    content["segmenter"]["learning_rate"] = 0.01
    content["method"]["outer_step"] = SIZE
    plan = plans.parse(content, origin="test")
    genesis = make_genesis(plan)
    prompt = {"prompt": torch.randn((2, 8), generator=torch.Generator().manual_seed(3))}
    parent = genesis.parts | {
        "prompt.ada": pack(prompt),
        "prompt.ben": pack(prompt),  # as if it had been released
        "labeller.ada": genesis.parts["segmenter"],
    }
    trail = Trail(tmp_path, holder="wardround://site/ben")
    guard = EgressGuard(plan, genesis.manifest, site_id="ben", trail=trail)
    guard.begin(
        VisitOrder(
            study_id="tiny",
            plan_digest=plan.digest(),
            visit=2,
            site_id="ben",
            parent=ref_of(part_ref(name, data) for name, data in parent.items()),
            visited=("ada",),
        )
    )
    guard.look_into_parts(ContentCheck(plan, "ben", parent, ImageSearch([NOISE], [NOISE])))
    return Leaving(plan, parent, guard)


def trained(segmenter, *, seed, by=REACH / 2):
    """The file of a segmenter that was moved as training might move it."""
    stream = torch.Generator().manual_seed(seed)
    return pack(
        {
            name: tensor + by * (2 * torch.rand(tensor.shape, generator=stream) - 1)
            for name, tensor in unpack(segmenter).items()
        }
    )


def test_what_the_segmenter_was_made_from_leaves(leaving):
    upload = leaving.announce(labeller_ben=leaving.trained, segmenter=leaving.segmenter)
    assert leaving.guard.release_part("labeller.ben", leaving.trained).digest.encode() in upload


def test_the_order_of_release_does_not_matter(leaving):
    assert leaving.announce(segmenter=leaving.segmenter, labeller_ben=leaving.trained)


@pytest.mark.parametrize(
    "segmenter",
    [
        pytest.param(lambda leaving: leaving.trained, id="no-step"),
        pytest.param(lambda leaving: leaving.made_from(leaving.trained, 0.5), id="another-step"),
        pytest.param(
            lambda leaving: leaving.made_from(trained(leaving.parent["segmenter"], seed=2), SIZE),
            id="another-training",
        ),
    ],
)
def test_a_segmenter_that_was_not_made_from_it_does_not_leave(leaving, segmenter):
    with pytest.raises(EgressRefused, match=r"'labeller\.ben' is not the network that the seg"):
        leaving.announce(labeller_ben=leaving.trained, segmenter=segmenter(leaving))


def test_unless_somebody_looks_it_must_be_the_segmenter_itself(leaving):
    leaving.guard.look_into_parts(None)
    with pytest.raises(EgressRefused, match="nothing has looked whether"):
        leaving.announce(labeller_ben=leaving.trained, segmenter=leaving.segmenter)
    assert leaving.announce(labeller_ben=leaving.trained, segmenter=leaving.trained)


def test_a_millionth_of_one_weight_tells(leaving):
    other = unpack(leaving.trained)
    next(iter(other.values())).view(-1)[0] *= 1 + 1e-6
    with pytest.raises(EgressRefused, match="Both must come from one training"):
        leaving.announce(labeller_ben=pack(other), segmenter=leaving.segmenter)


def test_a_labeller_lies_no_farther_than_training_goes(leaving):
    far = trained(leaving.parent["segmenter"], seed=1, by=3 * REACH)
    with pytest.raises(EgressRefused, match=r"'labeller\.ben'.*from where the visit began"):
        leaving.guard.release_part("labeller.ben", far)

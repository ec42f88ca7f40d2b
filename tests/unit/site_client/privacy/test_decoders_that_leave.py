"""Which decoders and encoders may leave a site: by form, by owner, by how far they moved."""

import numpy as np
import pytest
import torch

from wardround.shared import plan as plans
from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.errors import EgressRefused
from wardround.shared.messages import VisitOrder
from wardround.shared.trail import Trail
from wardround.site_client.learning.genesis import make_genesis, untrained_decoder
from wardround.site_client.learning.weights import pack, pack_network, unpack
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.egress import EgressGuard
from wardround.site_client.privacy.image_search import ImageSearch

NOISE = np.random.default_rng(0).uniform(-1, 1, (48, 48)).astype(np.float32)
REACH = 4 * 2 * 0.01  # ADAM_STEP, two steps, a learning rate of 0.01


@pytest.fixture
def plan():
    return plans.parse(
        {
            "study_id": "growing",
            "sites": ["ada", "ben"],
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "segmenter": {"features": [8, 16], "steps": 2, "learning_rate": 0.01},
            "method": {"name": "incremental-decoders", "decoder_widths": [0.5, 0.25]},
        },
        origin="test",
    )


@pytest.fixture
def visiting(plan, tmp_path):
    """Return a guard of ben's, in a visit after those of the sites given."""

    def guard(*visited):
        genesis = make_genesis(plan)
        decoder = pack_network(untrained_decoder(plan, 0.5))
        parent = genesis.parts | {f"decoder.{site}": decoder for site in visited}
        made = EgressGuard(
            plan,
            genesis.manifest,
            site_id="ben",
            trail=Trail(tmp_path, holder="wardround://site/ben"),
        )
        made.begin(
            VisitOrder(
                study_id="growing",
                plan_digest=plan.digest(),
                visit=1 + len(visited),
                site_id="ben",
                parent=ref_of(part_ref(name, data) for name, data in parent.items()),
                visited=visited,
            )
        )
        made.look_into_parts(ContentCheck(plan, "ben", parent, ImageSearch([NOISE], [NOISE])))
        return made

    return guard


def moved(data, by, key):
    """A file whose tensor `key` has moved in its first number."""
    tensors = unpack(data)
    tensors[key].view(-1)[0] += by
    return pack(tensors)


def a_decoder(plan, width):
    return pack_network(untrained_decoder(plan, width))


@pytest.mark.parametrize("width", [1.0, 0.5, 0.25])
def test_the_own_decoder_leaves_in_any_width_of_the_plan(plan, visiting, width):
    data = a_decoder(plan, width)
    assert visiting("ada").release_part("decoder.ben", data) == part_ref("decoder.ben", data)


def test_a_decoder_of_another_width_or_of_another_site_does_not_leave(plan, visiting):
    guard = visiting("ada")
    with pytest.raises(EgressRefused, match=r"tensors, in any of 3 forms: "):
        guard.release_part("decoder.ben", a_decoder(plan, 0.75))
    with pytest.raises(EgressRefused, match=r"part 'decoder\.ada' is of another site"):
        guard.release_part("decoder.ada", a_decoder(plan, 0.5))


def test_the_weights_of_a_decoder_lie_within_reach_of_an_untrained_one(plan, visiting):
    guard, data = visiting("ada"), a_decoder(plan, 0.25)
    key = "readers.0.conv.weight"
    guard.release_part("decoder.ben", moved(data, 0.9 * REACH, key))
    with pytest.raises(EgressRefused, match=r"the plan's training can move a weight by 0\.08"):
        guard.release_part("decoder.ben", moved(data, 1.2 * REACH, key))


def test_what_a_decoder_has_seen_may_be_any_ordinary_number(plan, visiting):
    data = moved(a_decoder(plan, 0.25), 100.0, "seen_mean")
    assert visiting("ada").release_part("decoder.ben", data).name == "decoder.ben"
    tensors = unpack(data)
    tensors["seen_mean"] = torch.full_like(tensors["seen_mean"], -0.0)
    tensors["seen_variance"] = torch.full_like(tensors["seen_mean"], float("nan"))
    with pytest.raises(EgressRefused, match="not finite"):
        visiting("ada").release_part("decoder.ben", pack(tensors))


def test_the_encoder_leaves_the_first_site_alone(plan, visiting):
    encoder = make_genesis(plan).parts["encoder"]
    trained = moved(encoder, 0.5 * REACH, "levels.0.residual.weight")
    assert visiting().release_part("encoder", trained).name == "encoder"
    with pytest.raises(EgressRefused, match="can move a weight by 0"):
        visiting("ada").release_part("encoder", trained)

"""What the coordinator takes of a visit that grows a decoder, and what not."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.server import acceptance
from wardround.server.state import MakeVisit, fold
from wardround.shared.checkpoint import Manifest, part_ref, ref_of
from wardround.shared.errors import CheckpointError
from wardround.shared.messages import CheckpointUpload, TensorSpec

WIDE, NARROW = (TensorSpec(name="w", shape=(side,), dtype="F32") for side in (4, 2))
MANIFEST = Manifest(parts={"encoder": (WIDE,)}, decoder=((WIDE,), (NARROW,)))
ENCODER, OTHER = (part_ref("encoder", save({"w": np.full(4, n, np.float32)})) for n in (0, 1))


def a_decoder(site_id, number):
    return part_ref(f"decoder.{site_id}", save({"w": np.full(2, number, np.float32)}))


def expected(world, site_id, visited, parent, announced):
    state = replace(fold(world.events()[:4]), manifest=MANIFEST)
    action = MakeVisit(
        visit=1 + len(visited), site_id=site_id, parent=ref_of(parent), visited=visited
    )
    upload = CheckpointUpload(visit=action.visit, site_id=site_id, checkpoint=ref_of(announced))
    return acceptance.expected_parts(state, world.plan, action, upload)


def test_a_decoder_may_have_any_form_of_the_manifest(world):
    first = expected(world, "ada", (), [ENCODER], [OTHER, a_decoder("ada", 1)])
    assert first == {"encoder": ((WIDE,),), "decoder.ada": ((WIDE,), (NARROW,))}


def test_after_the_first_visit_nobody_changes_the_encoder(world):
    parent = [ENCODER, a_decoder("ada", 1)]
    assert expected(world, "ben", ("ada",), parent, [*parent, a_decoder("ben", 2)])
    with pytest.raises(CheckpointError, match="changed the encoder"):
        expected(world, "ben", ("ada",), parent, [OTHER, parent[1], a_decoder("ben", 2)])


def test_nobody_changes_the_decoder_of_another_site(world):
    parent = [ENCODER, a_decoder("ada", 1)]
    with pytest.raises(CheckpointError, match=r"changed 'decoder\.ada', a part of another site"):
        expected(
            world, "ben", ("ada",), parent, [ENCODER, a_decoder("ada", 3), a_decoder("ben", 2)]
        )

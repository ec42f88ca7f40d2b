"""What a site must not let out: more than five hundred attempts, none of which passes the guard.

Each attempt is a structured change of an honest message or part. An attempt counts where it was
refused; one that comes back as bytes fails the test with its own name.
"""

import io
import itertools
import json
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from wardround.shared import codec, trail
from wardround.shared.checkpoint import Manifest, part_ref, ref_of
from wardround.shared.errors import CheckpointError, EgressRefused, WireError
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Metric,
    Phase,
    Progress,
    TensorSpec,
    VisitOrder,
    VisitReport,
)
from wardround.shared.tensor_check import verify_part
from wardround.shared.trail import Trail
from wardround.site_client.data.mock.habits import MOCK_SITES
from wardround.site_client.data.mock.scan import make_case
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.egress import EgressGuard
from wardround.site_client.privacy.image_search import ImageSearch

SIDE = 48
SHAPES = {"conv": (32, 16, 3, 3), "head": (64, 64), "bias": (64,)}
SPECS = tuple(TensorSpec(name=name, shape=shape, dtype="F32") for name, shape in SHAPES.items())
MANIFEST = Manifest(
    parts={
        "segmenter": SPECS,
        "denoiser": (TensorSpec(name="block", shape=(160, 160), dtype="F32"),),
    },
    prompt=(TensorSpec(name="prompt", shape=(4, 64), dtype="F32"),),
    labeller=SPECS,
)
DRAW = np.random.default_rng(7)
PARENT = {
    "segmenter": {n: DRAW.normal(0, 0.05, s).astype(np.float32) for n, s in SHAPES.items()},
    "denoiser": {"block": DRAW.normal(0, 0.05, (160, 160)).astype(np.float32)},
}
HONEST = {
    part: {n: w + DRAW.normal(0, 1e-3, w.shape).astype(np.float32) for n, w in tensors.items()}
    for part, tensors in PARENT.items()
} | {"prompt.ada": {"prompt": DRAW.normal(0, 1, (4, 64)).astype(np.float32)}}
LEAST = {"messages": 270, "announcements": 75, "files": 125, "images": 120}  # attempts
NOT_PLAIN = (
    "runmc_007",
    "Jansen, P.",
    "MRN 4711",
    "na\u00efve \u00dcnicode",
    "x" * 5000,
    "a\x00b",
    "\ud800",
)


def _images():
    """Slices of made-up cases as they are stored, and as a network sees them."""
    stored = [make_case(MOCK_SITES[0], 3, number)[0].astype(np.float32) for number in range(2)]
    slices = [volume[:SIDE, :SIDE, volume.shape[2] // 2] for volume in stored]
    working = []
    for image in slices:
        low, high = image.min(), image.max()
        working.append(((image - low) / (high - low) * 2 - 1).astype(np.float32))
    return stored, [np.pad(w, [(0, SIDE - s) for s in w.shape], mode="edge") for w in working]


STORED, WORKING = _images()
SEARCH = ImageSearch(STORED, WORKING)


@dataclass
class Attempts:
    """A guard in a visit or an evaluation, and how many attempts it has refused."""

    visiting: EgressGuard
    evaluating: EgressGuard
    refused: int = 0

    def message(self, message, *, evaluating=False):
        guard = self.evaluating if evaluating else self.visiting
        with pytest.raises(EgressRefused):
            guard.release(message)
        self.refused += 1

    def part(self, name, data):
        with pytest.raises(EgressRefused):
            self.visiting.release_part(name, data)
        self.refused += 1


@pytest.fixture
def attempts(tmp_path, tiny_plan):
    def guard(name):
        own = Trail(tmp_path / name, holder="wardround://site/ada")
        return EgressGuard(tiny_plan, MANIFEST, site_id="ada", trail=own)

    made = Attempts(guard("visiting"), guard("evaluating"))
    parent = {name: save(tensors) for name, tensors in PARENT.items()}
    genesis = ref_of(part_ref(name, data) for name, data in parent.items())
    made.visiting.begin(
        VisitOrder(
            study_id="tiny",
            plan_digest=tiny_plan.digest(),
            visit=1,
            site_id="ada",
            parent=genesis,
            visited=(),
        )
    )
    made.visiting.look_into_parts(ContentCheck(tiny_plan, "ada", parent, SEARCH))
    made.evaluating.begin(
        EvaluationOrder(
            study_id="tiny",
            plan_digest=tiny_plan.digest(),
            visit=0,
            site_id="ada",
            checkpoint=genesis,
        )
    )
    return made


PROGRESS = Progress(visit=1, site_id="ada", phase=Phase.SEGMENTER, step=1, total=2)
REPORT = VisitReport(
    visit=1,
    site_id="ada",
    num_train=10,
    metrics={Metric.DICE_AFTER: 0.5, Metric.SEGMENTER_LOSS: 0.25},
    phase_seconds={Phase.SEGMENTER: 2.0},
)
SCORE = ClassScore(class_name="organ", dice=0.5, hd95_mm=2.0, asd_mm=None, num_undefined=0)


def _evaluation(attempts):
    return EvaluationReport(
        visit=0,
        site_id="ada",
        checkpoint_digest=attempts.evaluating._order.checkpoint.digest,
        num_cases=10,
        classes=(SCORE,),
        data_digest="ab" * 32,
    )


def _honest(name):
    return save(HONEST[name])


def test_the_honest_release_passes(attempts):
    refs = {name: attempts.visiting.release_part(name, _honest(name)) for name in HONEST}
    refs["labeller.ada"] = attempts.visiting.release_part("labeller.ada", _honest("segmenter"))
    upload = CheckpointUpload(visit=1, site_id="ada", checkpoint=ref_of(refs.values()))
    for message in (upload, REPORT, PROGRESS):
        attempts.visiting.release(message)
    attempts.evaluating.release(_evaluation(attempts))


def _hostile_messages(attempts):
    numbers = (float("nan"), float("inf"), -1.0, 1e300, "0.5", None, b"x", [1.0], 2**80, True)
    evaluation = _evaluation(attempts)
    for text in NOT_PLAIN:
        yield text, False
        yield text.encode("utf-8", "replace"), False
        yield ValueError(text), False
        yield {"message": text}, False
        for honest in (PROGRESS, REPORT):
            yield replace(honest, site_id=text), False
        yield replace(PROGRESS, phase=text), False
        yield replace(PROGRESS, step=text), False
        yield replace(REPORT, metrics={text: 0.5}), False
        yield replace(REPORT, metrics={Metric.DICE_AFTER: text}), False
        yield replace(REPORT, phase_seconds={text: 1.0}), False
        yield replace(REPORT, phase_seconds={Phase.SEGMENTER: text}), False
        yield replace(REPORT, num_train=text), False
        for field in ("site_id", "checkpoint_digest", "num_cases", "data_digest"):
            yield replace(evaluation, **{field: text}), True
        for field in ("class_name", "dice", "hd95_mm", "asd_mm", "num_undefined"):
            yield replace(evaluation, classes=(replace(SCORE, **{field: text}),)), True
        yield replace(evaluation, classes=(SCORE, replace(SCORE, class_name=text))), True
    for value in numbers:
        for metric in Metric:
            if not (metric.value.startswith("gradient_cosine") and value == -1):
                yield replace(REPORT, metrics={metric: value}), False
        yield replace(REPORT, phase_seconds={Phase.FETCH: value}), False
        yield replace(evaluation, classes=(replace(SCORE, dice=value),)), True
        if value is not None:
            yield replace(evaluation, classes=(replace(SCORE, hd95_mm=value),)), True
            yield replace(evaluation, classes=(replace(SCORE, asd_mm=value),)), True
    for phase, total in itertools.product(Phase, (7, 400, 123_456_789, 2**31 - 1)):
        if phase not in (Phase.EVALUATE, Phase.EVALUATE_PARENT) or total > 400:
            yield replace(PROGRESS, phase=phase, total=total), False
    for step, total in ((-1, 2), (3, 2), (1.5, 2), (2**40, 2**40)):
        yield replace(PROGRESS, step=step, total=total), False
    for metric in (Metric.DICE_BEFORE, Metric.DICE_AFTER, Metric.REPLAY_AGREEMENT):
        yield replace(REPORT, metrics={metric: 1.5}), False
    yield replace(REPORT, metrics={Metric.REPLAYED_PAIRS: 4.0}), False  # the plan asks for none
    yield replace(evaluation, classes=(replace(SCORE, num_undefined=11),)), True
    yield replace(evaluation, classes=()), True
    yield _evaluation(attempts), False
    yield REPORT, True


def test_no_hostile_message_passes(attempts):
    for message, evaluating in _hostile_messages(attempts):
        attempts.message(message, evaluating=evaluating)
    assert attempts.refused >= LEAST["messages"]
    for guard in ("visiting", "evaluating"):
        written = (getattr(attempts, guard)._trail.folder / trail.LINES_FILE).read_text()
        assert not any(text in written for text in NOT_PLAIN[:3])


def test_no_hostile_announcement_passes(attempts):
    refs = {name: attempts.visiting.release_part(name, _honest(name)) for name in HONEST}
    other = save(HONEST["segmenter"] | {"bias": HONEST["segmenter"]["bias"] * 1.01})
    refs["labeller.ada"] = attempts.visiting.release_part("labeller.ada", other)
    honest = ref_of(refs.values())

    def announce(checkpoint):
        attempts.message(CheckpointUpload(visit=1, site_id="ada", checkpoint=checkpoint))

    announce(honest)  # its labeller is not its segmenter: as many bytes again, of anything
    for text in NOT_PLAIN:
        announce(replace(honest, digest=text))
        for position, part in enumerate(honest.parts):
            for changed in (replace(part, name=text), replace(part, digest=text)):
                parts = list(honest.parts)
                parts[position] = changed
                announce(replace(honest, parts=tuple(parts)))
    for part in honest.parts:
        announce(ref_of(other for other in honest.parts if other != part))
        announce(ref_of([*honest.parts, replace(part, name="prompt.ben")]))
        announce(replace(honest, parts=(*honest.parts, part)))
    assert attempts.refused >= LEAST["announcements"]


def _rewritten(data, change):
    """A file with another header: `change` is given its text and returns another."""
    length = int.from_bytes(data[:8], "little")
    header = change(data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _padded(text):
    return text + b" " * (-len(text) % 8)


def _hostile_files():
    data = _honest("segmenter")
    tensors = HONEST["segmenter"]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for text in NOT_PLAIN:
        plain = text.encode("utf-8", "replace")
        yield data + plain
        yield plain + data
        yield plain
        yield save(tensors, metadata={"note": text.encode("ascii", "replace").decode()})
        yield save(tensors | {text.encode("ascii", "replace").decode(): tensors["bias"]})
        renamed = json.dumps({("bias", text)[k == "bias"]: v for k, v in header.items()})
        yield _rewritten(data, lambda _, renamed=renamed: _padded(renamed.encode()))
    for length in (0, 1, 7, 2**20 + 1, 2**31, 2**63, 2**64 - 1):
        yield length.to_bytes(8, "little") + data[8:]
    for name, values in tensors.items():
        yield save({n: w for n, w in tensors.items() if n != name})
        for kind in (np.float64, np.float16, np.int32, np.int64, np.uint8):
            yield save(tensors | {name: values.astype(kind)})
        yield save(tensors | {name: values.ravel()[:-1]})
        yield save(tensors | {name: values.reshape(-1, 2)})
        for bits in (0x7FC00000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFDEADBE):
            odd = values.copy()
            odd.ravel().view(np.uint32)[DRAW.integers(values.size)] = bits
            yield save(tensors | {name: odd})
        yield save(tensors | {name: np.full_like(values, 1e-41)})
        yield save(tensors | {name: np.full_like(values, -0.0)})
        yield save(tensors | {name: values * np.float32(1e6)})
        yield save(tensors | {name: values + np.float32(50)})
    text = json.dumps(header, separators=(",", ":")).encode()
    yield _rewritten(data, lambda _: json.dumps(header).encode())
    yield _rewritten(data, lambda _: text.replace(b'"conv"', b'"\\u0063onv"'))
    yield _rewritten(data, lambda _: _padded(text[:-1] + b',"bias":' + text[9:]))
    yield _rewritten(data, lambda old: old + b" " * 8)
    yield _rewritten(data, lambda old: old.rstrip(b" ") + b" " * 3)
    yield _rewritten(data, lambda old: old.replace(b"[64]", b"[64,1]"))
    yield _rewritten(data, lambda old: b"[" * 5000)
    for order in list(itertools.permutations(header))[1:]:
        shuffled = json.dumps({n: header[n] for n in order}, separators=(",", ":")).encode()
        yield _rewritten(data, lambda _, shuffled=shuffled: _padded(shuffled))
    for keys in list(itertools.permutations(["dtype", "shape", "data_offsets"]))[1:]:
        spelled = {n: {key: entry[key] for key in keys} for n, entry in header.items()}
        shuffled = json.dumps(spelled, separators=(",", ":")).encode()
        yield _rewritten(data, lambda _, shuffled=shuffled: _padded(shuffled))


def test_no_hostile_file_passes(attempts):
    for data in _hostile_files():
        attempts.part("segmenter", data)
    for name in ("prompt.ben", "labeller.ben", "images", "segmenter.ada", *NOT_PLAIN):
        attempts.part(name, _honest("segmenter"))
    assert attempts.refused >= LEAST["files"]


def _filled(tensor, raw):
    """`tensor` with its first bytes replaced by `raw`."""
    filled = tensor.copy()
    view = filled.reshape(-1).view(np.uint8)
    raw = np.frombuffer(raw, np.uint8)[: view.size]
    view[: raw.size] = raw
    return filled


def _png(image):
    stream = io.BytesIO()
    Image.fromarray(np.rint((image + 1) * 127.5).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _disguised():
    """Tensors of the right name, shape and type that carry an image of the site."""
    block = HONEST["denoiser"]["block"]
    for image in WORKING:
        share = (image + 1) / 2
        for crop in (image, image[8:24, 8:24], image[16:32, 16:32]):
            part = (crop + 1) / 2
            for raw in (
                crop.tobytes(),
                crop.byteswap().tobytes(),
                crop.astype(np.float16).tobytes(),
                np.rint(part * 255).astype(np.uint8).tobytes(),
                np.rint(part * 65535).astype(np.uint16).tobytes(),
                (crop.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
                part.astype(np.float32).tobytes(),
            ):
                yield _filled(block, raw)
                yield _filled(block, b"\x3d" * 3 + raw)  # at an odd place
        for raw in (_png(image), zlib.compress(share.tobytes()), zlib.compress(image.tobytes())):
            yield _filled(block, raw)
        for turned in (image, image[::-1], image[:, ::-1], image.T, -image, np.rot90(image)):
            for scale, offset in ((1.0, 0.0), (0.05, 0.0), (1e-3, 0.02)):
                flat = (np.ascontiguousarray(turned) * scale + offset).astype(np.float32)
                yield _filled(block, flat.tobytes())
        for strength in (0.1, 0.02):  # as a change of the parent
            changed = PARENT["denoiser"]["block"].copy()
            changed.reshape(-1)[: image.size] += strength * image.ravel()
            yield changed
    for volume in STORED:
        flat = volume[:, :, volume.shape[2] // 2]
        yield _filled(block, flat.astype(np.uint16).tobytes())
        yield _filled(block, flat.astype(np.float32).tobytes())


def test_no_image_disguised_as_weights_passes(attempts):
    for tensor in _disguised():
        attempts.part("denoiser", save({"block": tensor.astype(np.float32)}))
    assert attempts.refused >= LEAST["images"]


@given(data=st.data())
def test_no_changed_header_passes(data):
    """Whatever byte of a header is another one, the file is not the manifest's any more."""
    honest = bytearray(_honest("segmenter"))
    end = 8 + int.from_bytes(honest[:8], "little")
    place = data.draw(st.integers(0, end - 1))
    honest[place] ^= data.draw(st.integers(1, 255))
    changed = bytes(honest)
    with pytest.raises(CheckpointError):
        verify_part(part_ref("segmenter", changed), changed, SPECS)


@given(st.binary(max_size=400))
def test_no_bytes_are_a_message_of_another_spelling(raw):
    for decode in (codec.decode_visit_report, codec.decode_progress):
        try:
            message = decode(raw)
        except WireError:
            continue
        assert codec.encode(message) == raw


def test_more_than_five_hundred_attempts_are_made():
    """Each test above counts its own; those that hypothesis makes come on top."""
    assert sum(LEAST.values()) >= 500

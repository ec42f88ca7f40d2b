import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from wardround.shared import checkpoint
from wardround.shared.checkpoint import Manifest
from wardround.shared.errors import CheckpointError
from wardround.shared.messages import PartRef, TensorSpec

WEIGHT = TensorSpec(name="weight", shape=(2, 3), dtype="F32")
BIAS = TensorSpec(name="bias", shape=(3,), dtype="F32")


def _file(header: dict | str, body: bytes = b"", *, padding: int = 0) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    text += " " * padding
    return len(text).to_bytes(8, "little") + text.encode() + body


def _entry(dtype: str, shape: list, start: int, stop: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def _layer(**changed) -> bytes:
    tensors = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}
    return save({**tensors, **changed})


def test_the_header_of_a_file_that_safetensors_wrote_is_read():
    assert set(checkpoint.read_header(_layer())) == {WEIGHT, BIAS}


def test_a_header_is_read_from_a_path_as_from_bytes(tmp_path):
    path = tmp_path / "part"
    path.write_bytes(_layer())
    assert checkpoint.read_header(path) == checkpoint.read_header(_layer())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        checkpoint.read_header(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        (2**63).to_bytes(8, "little") + b"{}",
        _file("no json"),
        _file("[]"),
        _file('{"a":' * 5000),
        _file({"__metadata__": {"patient": "name"}}),
        _file({"a": _entry("F32", [1], 0, 4)}, bytes(3)),
        _file({"a": _entry("F32", [1], 0, 4)}, bytes(5)),
        _file({"a": _entry("F32", [2], 0, 4)}, bytes(4)),
        _file({"a": _entry("F32", [-1], 0, 4)}, bytes(4)),
        _file({"a": _entry("F32", [True], 0, 4)}, bytes(4)),
        _file({"a": _entry("F32", [1.0], 0, 4)}, bytes(4)),
        _file({"a": _entry("F8_E4M3", [4], 0, 4)}, bytes(4)),
        _file({"a": _entry("F32", [1], 4, 8)}, bytes(8)),
        _file({"a": _entry("F32", [1], 0, 4), "b": _entry("F32", [1], 0, 4)}, bytes(4)),
        _file({"a": {**_entry("F32", [1], 0, 4), "note": 1}}, bytes(4)),
        _file(json.dumps({"a": _entry("F32", [1], 0, 4)}), bytes(4)),
        _file({"a": _entry("F32", [1], 0, 4)}, bytes(4), padding=8),
        _file(
            '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            bytes(1),
        ),
    ],
)
def test_a_file_with_anything_beside_its_tensors_is_refused(data):
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.read_header(data)


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_a_checkpoint_error(data):
    with pytest.raises(CheckpointError):
        checkpoint.read_header(data)


@given(st.integers(0, len(_layer()) - 1), st.integers(1, 255))
def test_a_changed_byte_of_the_header_raises_nothing_but_a_checkpoint_error(place, change):
    data = bytearray(_layer())
    data[place] ^= change
    try:
        checkpoint.read_header(bytes(data))
    except CheckpointError:
        return


def test_a_part_with_the_manifests_tensors_passes():
    checkpoint.verify_header("segmenter", _layer(), (BIAS, WEIGHT))


def test_a_part_that_differs_is_refused_naming_missing_extra_and_changed():
    data = save({"weight": np.ones((3, 2), np.float32), "extra": np.ones(1, np.float32)})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.verify_header("segmenter", data, (BIAS, WEIGHT))
    text = str(caught.value)
    assert "part 'segmenter'" in text
    assert "missing 'bias'" in text
    assert "unexpected 'extra'" in text
    assert "'weight' is F32 [3, 2], expected F32 [2, 3]" in text


def test_another_dtype_is_refused():
    with pytest.raises(CheckpointError, match=r"F64 \[3\], expected F32 \[3\]"):
        checkpoint.verify_header("segmenter", _layer(bias=np.zeros(3)), (BIAS, WEIGHT))


def test_bytes_that_give_the_digest_pass_and_others_are_refused_at_the_end():
    data = _layer()
    part = checkpoint.part_ref("segmenter", data)
    assert b"".join(checkpoint.verified(part, [data[:7], data[7:]])) == data
    for other in (data[:-1], data[:-1] + b"x", data + b"x"):
        with pytest.raises(CheckpointError, match="arrived with digest"):
            list(checkpoint.verified(part, [other]))


def test_more_bytes_than_a_part_has_are_not_waited_for():
    data = _layer()
    endless = iter(lambda: data, b"")
    with pytest.raises(CheckpointError, match="more than"):
        list(checkpoint.verified(checkpoint.part_ref("segmenter", data), endless))


def test_a_header_that_is_longer_than_any_is_refused_unread(tmp_path):
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        file.write((2**40).to_bytes(8, "little"))
        file.truncate(2**41)
    with pytest.raises(CheckpointError, match="do not begin with a header"):
        checkpoint.read_header(path)


def test_a_checkpoints_digest_is_that_of_its_parts_whatever_their_order():
    first = PartRef(name="a", digest="1" * 64, size_bytes=1)
    second = PartRef(name="b", digest="2" * 64, size_bytes=2)
    assert checkpoint.digest_of([first, second]) == checkpoint.digest_of([second, first])
    # sha256 of [["a","1111...",1],["b","2222...",2]] with no blanks
    assert checkpoint.digest_of([first, second]) == (
        "649733a7a8deeb6fb6b50d6ae9ac7c3e7d8461a82aa630c63302961362cf0776"
    )
    renamed = PartRef(name="c", digest="2" * 64, size_bytes=2)
    assert checkpoint.digest_of([first, renamed]) != checkpoint.digest_of([first, second])


def test_a_checkpoint_must_list_exactly_the_expected_parts():
    part = checkpoint.part_ref("segmenter", _layer())
    extra = checkpoint.part_ref("thumbnail", _layer())
    checkpoint.verify_parts(checkpoint.ref_of([part]), ["segmenter"])
    with pytest.raises(CheckpointError, match="unexpected 'thumbnail'"):
        checkpoint.verify_parts(checkpoint.ref_of([part, extra]), ["segmenter"])
    with pytest.raises(CheckpointError, match=r"missing 'prompt\.bmc'"):
        checkpoint.verify_parts(checkpoint.ref_of([part]), ["segmenter", "prompt.bmc"])


def test_a_manifest_expects_one_prompt_for_each_visited_site():
    manifest = Manifest(parts={"segmenter": (WEIGHT, BIAS)}, prompt=(WEIGHT,))
    assert set(manifest.expected(())) == {"segmenter"}
    expected = manifest.expected(("bmc", "hk"))
    assert expected == {
        "segmenter": ((BIAS, WEIGHT),),
        "prompt.bmc": ((WEIGHT,),),
        "prompt.hk": ((WEIGHT,),),
    }


def test_a_manifest_without_prompts_expects_none():
    manifest = Manifest(parts={"segmenter": (WEIGHT,)})
    assert set(manifest.expected(("bmc", "hk"))) == {"segmenter"}


def test_a_manifest_with_labellers_expects_one_of_each_visited_site():
    manifest = Manifest(parts={"segmenter": (BIAS,)}, prompt=(WEIGHT,), labeller=(BIAS,))
    assert manifest.expected(("bmc",)) == {
        "segmenter": ((BIAS,),),
        "prompt.bmc": ((WEIGHT,),),
        "labeller.bmc": ((BIAS,),),
    }
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_a_sites_decoder_has_one_of_the_forms_of_the_manifest():
    manifest = Manifest(parts={"encoder": (BIAS,)}, decoder=((WEIGHT, BIAS), (BIAS,)))
    assert manifest.expected(("bmc",)) == {
        "encoder": ((BIAS,),),
        "decoder.bmc": ((BIAS, WEIGHT), (BIAS,)),
    }
    assert manifest.forms_of("encoder") == ((BIAS,),)
    assert manifest.forms_of("decoder.hk") == manifest.decoder
    assert manifest.forms_of("prompt.hk") == ()
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert manifest.digest() != Manifest(parts={"encoder": (BIAS,)}, decoder=((BIAS,),)).digest()


def test_a_file_of_any_form_is_taken_and_one_of_none_is_compared_with_the_nearest():
    wide, narrow = (BIAS, WEIGHT), (BIAS,)
    checkpoint.verify_header("decoder.bmc", _layer(), narrow, wide)
    checkpoint.verify_header("decoder.bmc", save({"bias": np.zeros(3, np.float32)}), narrow, wide)
    with pytest.raises(CheckpointError, match=r"in any of 2 forms: missing 'bias'\."):
        checkpoint.verify_header("decoder.bmc", save({}), narrow, wide)


def test_a_manifest_without_labellers_keeps_the_digest_it_had_before_there_were_any():
    manifest = Manifest(parts={"segmenter": (BIAS,)}, prompt=(WEIGHT,))
    assert set(manifest.to_json()) == {"parts", "prompt"}


def test_a_manifest_comes_back_from_its_json_whatever_the_order_it_was_given_in():
    first = Manifest(parts={"segmenter": (WEIGHT, BIAS), "denoiser": (BIAS,)}, prompt=(BIAS,))
    second = Manifest(parts={"denoiser": (BIAS,), "segmenter": (BIAS, WEIGHT)}, prompt=(BIAS,))
    assert first == second
    assert first.digest() == second.digest()
    assert Manifest.from_json(json.loads(json.dumps(first.to_json()))) == first


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"parts": {}, "prompt": [], "code": "x"},
        {"parts": {"segmenter": [["w", [1]]]}, "prompt": []},
        {"parts": {"segmenter": [["w", [-1], "F32"]]}, "prompt": []},
        {"parts": {"segmenter": [["w", [1], "PICKLE"]]}, "prompt": []},
    ],
)
def test_a_manifest_of_another_form_is_refused(content):
    with pytest.raises(CheckpointError, match="manifest"):
        Manifest.from_json(content)

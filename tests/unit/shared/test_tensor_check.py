"""Parts in which something is not as it must be, given in pieces of every size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from wardround.shared import checkpoint
from wardround.shared.checkpoint import part_ref
from wardround.shared.errors import CheckpointError
from wardround.shared.messages import TensorSpec
from wardround.shared.tensor_check import TensorCheck, verify_part

WEIGHT = TensorSpec(name="weight", shape=(2, 3), dtype="F32")
BIAS = TensorSpec(name="bias", shape=(3,), dtype="F32")


def layer(**changed) -> bytes:
    tensors = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}
    return save({**tensors, **changed})


def look_at(data: bytes, *, step: int = 2**20, expected=None) -> None:
    """Check `data`, which declares the right tensors where `expected` is left out."""
    expected = checkpoint.read_header(data) if expected is None else expected
    check = TensorCheck(part_ref("segmenter", data), expected)
    for start in range(0, len(data), step):
        check.update(data[start : start + step])
    check.finish()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_value_that_is_not_finite_is_refused_naming_the_tensor(dtype, value):
    bias = np.zeros(3, dtype)
    look_at(layer(bias=bias))
    bias[2] = value
    with pytest.raises(CheckpointError, match="tensor 'bias'"):
        look_at(layer(bias=bias))


@given(st.integers(1, 40), st.integers(0, 8))
def test_it_is_found_however_the_bytes_are_cut(step, place):
    values = np.zeros(9, np.float64)
    odd = np.zeros(3, np.uint8)  # no number behind it begins at a multiple of its size
    look_at(save({"a": odd, "b": values}), step=step)
    values[place] = np.nan
    with pytest.raises(CheckpointError, match="tensor 'b'"):
        look_at(save({"a": odd, "b": values}), step=step)


def _file(header, body):
    padded = header + b" " * (-len(header) % 8)
    return len(padded).to_bytes(8, "little") + padded + body


@given(st.integers(1, 40))
def test_numbers_that_begin_anywhere_are_cut_where_they_begin(step):
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
    )
    # Cut anywhere else, the bytes of 1.0 and of the zeros around it would make other numbers.
    for bad, values in ((False, [1.0, 1.0]), (True, [1.0, np.inf])):
        body = b"\xff\xff\x7f\x7f" + np.array(values, "<f4").tobytes()
        data = _file(header, body)
        if bad:
            with pytest.raises(CheckpointError, match="tensor 'b'"):
                look_at(data, step=step)
        else:
            look_at(data, step=step)


@pytest.mark.parametrize(("bits", "is_finite"), [(0x7F7F, True), (0x7F80, False), (0xFFC1, False)])
def test_bfloat16_is_judged_by_its_bits(bits, is_finite):
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    body = np.array([0, bits], "<u2").tobytes()
    data = _file(header, body)
    if is_finite:
        look_at(data)
    else:
        with pytest.raises(CheckpointError, match="tensor 'a'"):
            look_at(data)


def test_integers_that_look_like_a_nan_are_finite():
    look_at(layer(steps=np.full(2, -1, np.int32)))


def test_tensors_without_numbers_are_passed_over():
    look_at(save({"a": np.zeros((0, 3), np.float32), "b": np.ones(2, np.float32)}))


def test_the_last_value_of_a_tensor_of_many_chunks_is_looked_at():
    big = np.zeros(checkpoint.CHUNK_BYTES // 4 + 3, np.float32)
    big[-1] = np.nan
    with pytest.raises(CheckpointError, match="tensor 'big'"):
        look_at(save({"big": big}))


@pytest.mark.parametrize("step", [1, 7, 2**20])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (layer(extra=np.ones(1, np.float32)), "unexpected 'extra'"),
        (layer(weight=np.ones((3, 2), np.float32)), "'weight' is F32 .3, 2., expected F32 .2, 3."),
        (save({"weight": np.ones((2, 3), np.float32)}), "missing 'bias'"),
        (b"short", "do not begin with a header"),
        ((2**40).to_bytes(8, "little") + bytes(100), "do not begin with a header"),
        ((5000).to_bytes(8, "little") + b"[" * 5000, "header cannot be read"),
    ],
    ids=["extra", "shape", "missing", "short", "long header", "nested header"],
)
def test_a_part_with_other_tensors_is_refused_when_it_ends(step, data, words):
    with pytest.raises(CheckpointError, match=words):
        look_at(data, step=step, expected=(BIAS, WEIGHT))


def test_a_header_bomb_is_not_kept_in_memory():
    check = TensorCheck(
        checkpoint.PartRef(name="segmenter", digest="0" * 64, size_bytes=2**40), (BIAS,)
    )
    check.update((2**39).to_bytes(8, "little"))
    for _ in range(4):
        check.update(bytes(checkpoint.CHUNK_BYTES))
    assert len(check._beginning) <= 2 * checkpoint.CHUNK_BYTES
    with pytest.raises(CheckpointError, match="do not begin with a header"):
        check.finish()


def test_a_part_of_another_size_is_refused():
    data = layer()
    part = part_ref("segmenter", data)
    verify_part(part, data, (BIAS, WEIGHT))
    with pytest.raises(CheckpointError, match="bytes, expected"):
        verify_part(part, data + b"\0", (BIAS, WEIGHT))

"""What one Flower message carries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from wardround.deploy.flower.records import (
    OrderRecord,
    ResultRecord,
    key_of,
    pack_order,
    pack_result,
    unpack_order,
    unpack_result,
)
from wardround.shared.errors import WireError

parts = st.dictionaries(st.text(min_size=1), st.binary(), max_size=4)


def sent(content: RecordDict) -> RecordDict:
    """Take a message's content apart and put it together again, as Flower does on the way."""
    return RecordDict.inflate(
        content.deflate(),
        {
            record.object_id: type(record).inflate(
                record.deflate(),
                {
                    array.object_id: Array.inflate(
                        array.deflate(), {c.object_id: c for c in array.children.values()}
                    )
                    for array in record.values()
                }
                if isinstance(record, ArrayRecord)
                else None,
            )
            for record in content.values()
        },
    )


@given(st.builds(OrderRecord, site_id=st.text(), order=st.binary(), parts=parts))
def test_an_order_arrives_as_it_was_sent(record: OrderRecord) -> None:
    assert unpack_order(sent(pack_order(record))) == record


@given(
    st.builds(
        ResultRecord,
        key=st.text(),
        status=st.integers(0, 99),
        progress=st.lists(st.binary()).map(tuple),
        report=st.binary(),
        upload=st.binary(),
        parts=parts,
        refusal=st.binary(),
    )
)
def test_a_result_arrives_as_it_was_sent(record: ResultRecord) -> None:
    assert unpack_result(sent(pack_result(record))) == record


def test_each_part_is_one_array_of_its_very_bytes() -> None:
    record = OrderRecord(site_id="ada", order=b"", parts={"ab": b"12345"}, trail=b"")
    (array,) = pack_order(record).array_records["parts"].values()
    assert (array.dtype, array.shape, array.data) == ("uint8", (5,), b"12345")


def test_the_key_of_an_order_is_its_digest() -> None:
    assert key_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert key_of(b"a") != key_of(b"b")


GOOD = {"key": "k", "status": 0, "progress": [b"p"], "report": b"r", "upload": b"u"} | {
    "refusal": b""
}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "it holds"),
        ({"result": ConfigRecord(GOOD)}, "it holds"),
        ({"result": ConfigRecord(GOOD), "parts": ConfigRecord()}, "it holds"),
        (
            {"result": ConfigRecord(GOOD), "parts": ArrayRecord(), "more": ConfigRecord()},
            "it holds",
        ),
        ({"result": ConfigRecord(GOOD | {"text": "x"}), "parts": ArrayRecord()}, "'text'"),
        ({"result": ConfigRecord(GOOD | {"status": True}), "parts": ArrayRecord()}, "types"),
        ({"result": ConfigRecord(GOOD | {"progress": ["x"]}), "parts": ArrayRecord()}, "progress"),
        (
            {
                "result": ConfigRecord(GOOD),
                "parts": ArrayRecord({"a": Array("uint8", (1,), "numpy.ndarray", b"1")}),
            },
            "not a safetensors file",
        ),
    ],
)
def test_a_message_of_another_shape_is_refused(content: dict, why: str) -> None:
    with pytest.raises(WireError, match=why):
        unpack_result(RecordDict(content))

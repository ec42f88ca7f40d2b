"""The memo: computed once for equal inputs, and never trusted when damaged."""

from pathlib import Path

import torch

from wardround.site_client.memo import Memo, Result


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Result:
        self.calls += 1
        return Result(tensors={"x": torch.tensor([1.0, 2.0])}, numbers={"loss": 0.25})


def test_an_equal_key_is_computed_once_even_by_another_memo_on_the_folder(tmp_path: Path) -> None:
    compute = Counter()
    Memo(tmp_path).recall({"a": 1, "b": [2]}, compute)
    kept = Memo(tmp_path).recall({"b": [2], "a": 1}, compute)
    assert compute.calls == 1
    assert torch.equal(kept.tensors["x"], torch.tensor([1.0, 2.0]))
    assert kept.numbers == {"loss": 0.25}


def test_another_key_is_another_result(tmp_path: Path) -> None:
    compute = Counter()
    for key in ({"a": 1}, {"a": 2}):
        Memo(tmp_path).recall(key, compute)
    assert compute.calls == 2


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    compute = Counter()
    Memo(tmp_path).recall({"a": 1}, compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    Memo(tmp_path).recall({"a": 1}, compute)
    assert compute.calls == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_what_was_made_from_a_withdrawn_site_is_deleted(tmp_path):
    memo = Memo(tmp_path)

    def result():
        return Result(tensors={"w": torch.ones(1)}, numbers={})

    for lineage in (["ada"], ["ada", "ben"], ["ben"]):
        memo.recall({"lineage": lineage}, result)
    memo.recall({"of": "unknown"}, result)
    (tmp_path / "cut.part").write_bytes(b"half a result")
    assert memo.forget([]) == 0
    assert memo.forget(["ada"]) == 4  # both of ada, what does not tell, and what was cut
    assert len(list(tmp_path.iterdir())) == 1
    assert memo.forget(["ada"]) == 0

from pathlib import Path

import pytest

from wardround.site_client.data.listing import CaseFiles, Listing
from wardround.site_client.data.split import divide


def listing(*ids: str, heldout: tuple[str, ...] = ()) -> Listing:
    cases = tuple(
        CaseFiles(case_id=i, image_files=(Path(i),), label_file=Path(i)) for i in sorted(ids)
    )
    return Listing(layout="plain", cases=cases, heldout_ids=frozenset(heldout))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ada").mkdir()
    return tmp_path / "ada"


def problems(split) -> str:
    return "\n".join(fault.problem for fault in split.faults)


def test_without_a_file_the_share_is_kept_and_the_choice_is_stable(folder):
    ids = [f"case_{n}" for n in range(20)]
    split = divide(listing(*ids), folder, 0.25)
    assert len(split.heldout) == 5
    assert sorted([*split.train, *split.heldout]) == sorted(ids)
    assert divide(listing(*reversed(ids)), folder.parent, 0.25) == split


def test_a_further_case_moves_at_most_one_other(folder):
    ids = [f"case_{n}" for n in range(20)]
    before = set(divide(listing(*ids), folder, 0.25).heldout)
    after = set(divide(listing(*ids, "case_x"), folder, 0.25).heldout)
    assert len(before - after) <= 1


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_either_side_has_at_least_one_case(folder, fraction):
    split = divide(listing("a", "b", "c"), folder, fraction)
    assert split.train
    assert split.heldout
    assert not split.faults


def test_val_is_trained_on_where_test_rows_exist(folder):
    (folder / "split.csv").write_text("case,split\na,train\nb,val\nc,test\n")
    split = divide(listing("a", "b", "c"), folder, 0.25)
    assert (split.train, split.heldout) == (("a", "b"), ("c",))


def test_val_is_held_out_where_no_test_row_exists(folder):
    (folder / "split.csv").write_text("case,split\na,train\nb,val\nc,train\n")
    split = divide(listing("a", "b", "c"), folder, 0.25)
    assert (split.train, split.heldout) == (("a", "c"), ("b",))


def test_the_parents_file_is_read_for_this_site_alone(folder):
    text = "case,site,split\na,ada,test\nb,ada,train\na,ben,train\nz,ben,test\n"
    (folder.parent / "split.csv").write_text(text)
    split = divide(listing("a", "b"), folder, 0.25)
    assert (split.train, split.heldout, split.faults) == (("b",), ("a",), ())


def test_the_sites_own_file_goes_before_the_parents(folder):
    (folder.parent / "split.csv").write_text("case,site,split\na,ada,train\nb,ada,test\n")
    (folder / "split.csv").write_text("case,split\na,test\nb,train\n")
    assert divide(listing("a", "b"), folder, 0.25).heldout == ("a",)


def test_a_layouts_own_heldout_cases_are_kept(folder):
    split = divide(listing("a", "b", "c", heldout=("c",)), folder, 0.9)
    assert (split.train, split.heldout) == (("a", "b"), ("c",))


def test_a_byte_order_mark_and_capital_words_are_no_fault(folder):
    (folder / "split.csv").write_bytes(b"\xef\xbb\xbfcase,split\r\na,Train\r\nb, TEST\r\n")
    assert divide(listing("a", "b"), folder, 0.25).heldout == ("b",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("case,split\na,train\nb,test\nz,test\n", "case 'z' has a row"),
        ("case,split\na,train\n", "case 'b' has no row"),
        ("case,split\na,train\nb,tset\n", "line 3: split is 'tset'"),
        ("case,split\na,train\nb,test\nb,test\n", "case 'b' has a second row"),
        ("case,part\na,train\nb,test\n", "columns case, split are needed, found case, part"),
        ("", "found no row"),
        ("case,split\na,train\nb,train\n", "no held-out case is left of 2"),
        ("case,split\na,test\nb,test\n", "no training case is left of 2"),
        ("case,split\na\nb,test\n", "line 2: split is ''"),
    ],
)
def test_each_fault_of_a_split_file_is_named(folder, text, expected):
    (folder / "split.csv").write_text(text)
    split = divide(listing("a", "b"), folder, 0.25)
    assert expected in problems(split)
    assert all(fault.file == folder / "split.csv" for fault in split.faults)


def test_a_parents_file_without_this_site_names_the_sites_it_has(folder):
    (folder.parent / "split.csv").write_text("case,site,split\na,ben,train\n")
    split = divide(listing("a", "b"), folder, 0.25)
    assert "no row for site 'ada'" in problems(split)
    assert "ben" in split.faults[0].remedy


def test_a_split_file_that_is_not_text_is_a_fault(folder):
    (folder / "split.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert "cannot be read" in problems(divide(listing("a", "b"), folder, 0.25))

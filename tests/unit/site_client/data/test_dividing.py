import re

import numpy as np
import pytest

from wardround.shared.errors import DataError
from wardround.shared.plan import Data, Task
from wardround.site_client.data.cases import load_site
from wardround.site_client.data.dividing import deal, divide_folder

PATIENT = re.compile(r"p([0-9]+)_")


@pytest.fixture
def folder(tmp_path, write_png):
    """Four patients of two cases each; patient n has images of the value n."""
    for patient in (1, 2, 3, 4):
        for phase in ("ed", "es"):
            name = f"p{patient}_{phase}.png"
            write_png(tmp_path / "hospital/images" / name, np.full((8, 8), patient, np.uint8))
            write_png(tmp_path / "hospital/labels" / name, np.eye(8, dtype=np.uint8))
    return tmp_path / "hospital"


def write_split(folder, words):
    rows = [f"p{n}_{phase},{word}" for n, word in words.items() for phase in ("ed", "es")]
    (folder / "split.csv").write_text("\n".join(["case,split", *rows]) + "\n")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_groups_are_dealt_in_turn_each_split_word_for_itself():
    words = {"a": "train", "b": "test", "c": "train", "d": "train", "e": "test"}
    # In order: b, e (test), a, c, d (train).
    assert deal(words, ["one", "two"]) == {"one": ("b", "a", "d"), "two": ("e", "c")}
    with pytest.raises(DataError, match="1 groups cannot be dealt to 2 sites"):
        deal({"a": ""}, ["one", "two"])


def test_cases_of_one_patient_stay_together_and_keep_their_words(folder, tmp_path):
    write_split(folder, {1: "train", 2: "test", 3: "test", 4: "train"})
    shares = divide_folder(folder, ["ada", "ben"], PATIENT, tmp_path / "sites")
    assert {site: (s.num_groups, s.num_cases) for site, s in shares.items()} == {
        "ada": (2, 4),
        "ben": (2, 4),
    }
    ada = tmp_path / "sites/ada"
    assert names(ada / "images") == ["p1_ed.png", "p1_es.png", "p2_ed.png", "p2_es.png"]
    assert names(ada / "labels") == names(ada / "images")
    assert (ada / "split.csv").read_text() == (
        "case,split\np1_ed,train\np1_es,train\np2_ed,test\np2_es,test\n"
    )
    copied = (ada / "images/p1_ed.png").read_bytes()
    assert copied == (folder / "images/p1_ed.png").read_bytes()
    site = load_site("ada", ada, Task(classes=("x",), working_size=(16, 16)), Data())
    assert [case.case_id for case in site.train] == ["p1_ed", "p1_es"]


def test_without_words_no_split_is_written(folder, tmp_path):
    divide_folder(folder, ["ada", "ben", "cai"], PATIENT, tmp_path / "sites")
    assert names(tmp_path / "sites/cai") == ["images", "labels"]
    assert names(tmp_path / "sites/ada/images") == [
        f"p{n}_{phase}.png" for n in (1, 4) for phase in ("ed", "es")
    ]


@pytest.mark.parametrize(
    ("pattern", "words", "message"),
    [
        ("q([0-9])", None, "case 'p1_ed' has no group: 'q"),
        ("_(e[ds])", {1: "train", 2: "test", 3: "test", 4: "train"}, "group 'ed' has cases of sev"),
        ("p", None, "1 groups cannot be dealt to 2 sites"),
    ],
)
def test_what_cannot_be_kept_together_is_told(folder, tmp_path, pattern, words, message):
    if words:
        write_split(folder, words)
    with pytest.raises(DataError, match=message):
        divide_folder(folder, ["ada", "ben"], re.compile(pattern), tmp_path / "sites")
    assert not (tmp_path / "sites").exists()


def test_a_site_that_is_there_is_not_touched(folder, tmp_path):
    (tmp_path / "sites/ben").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already"):
        divide_folder(folder, ["ada", "ben"], PATIENT, tmp_path / "sites")
    assert names(tmp_path / "sites") == ["ben"]


def test_faults_of_the_folder_are_told_before_anything_is_written(folder, tmp_path):
    (folder / "labels/p1_ed.png").unlink()
    with pytest.raises(DataError, match=r"'images/p1_ed\.png' is there"):
        divide_folder(folder, ["ada"], PATIENT, tmp_path / "sites")
    assert not (tmp_path / "sites").exists()


def test_key_points_go_with_their_case(folder, tmp_path):
    (folder / "keypoints").mkdir()
    (folder / "keypoints/p1_ed.csv").write_text("1,2\n")

    divide_folder(folder, ["ada", "ben"], PATIENT, tmp_path / "sites")

    assert (tmp_path / "sites/ada/keypoints/p1_ed.csv").read_text() == "1,2\n"
    assert not (tmp_path / "sites/ben/keypoints").exists()

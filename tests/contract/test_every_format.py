"""Every layout, written as its own documentation describes it, gives the same cases."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from wardround.shared.errors import DataError
from wardround.shared.plan import Data, Task
from wardround.site_client.data.cases import SiteData, load_site
from wardround.site_client.data.readers import READERS

NAMES = ("case_1", "case_2", "p.03.v1", "case_4")
TASK = Task(classes=("inner", "outer"), working_size=(16, 16))
SHAPES = {".nii.gz": (6, 5, 3), ".nii": (6, 5, 3), ".png": (6, 5)}


def body(name: str, ending: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(NAMES.index(name))
    shape = SHAPES[ending]
    image = rng.integers(0, 255, shape).astype(np.uint8)
    label = rng.integers(0, 3, shape).astype(np.uint8)
    return image, label


def save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".png"):
        Image.fromarray(values).save(file)
    else:
        nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 3.0, 1.0])), file)


def write_plain(folder: Path, ending: str) -> None:
    for name in NAMES:
        image, label = body(name, ending)
        save(folder / "images" / f"{name}{ending}", image)
        save(folder / "labels" / f"{name}{ending}", label)


def write_nnunet(folder: Path, ending: str) -> None:
    for name in NAMES:
        image, label = body(name, ending)
        save(folder / "imagesTr" / f"{name}_0000{ending}", image)
        save(folder / "labelsTr" / f"{name}{ending}", label)
    describe(
        folder,
        channel_names={"0": "T2"},
        labels={"background": 0, "inner": 1, "outer": 2},
        numTraining=len(NAMES),
        file_ending=ending,
    )


def write_decathlon(folder: Path, ending: str) -> None:
    training = []
    for name in NAMES:
        image, label = body(name, ending)
        save(folder / "imagesTr" / f"{name}{ending}", image)
        save(folder / "labelsTr" / f"{name}{ending}", label)
        pair = {"image": f"./imagesTr/{name}{ending}", "label": f"./labelsTr/{name}{ending}"}
        training.append(pair)
    describe(
        folder,
        modality={"0": "MRI"},
        labels={"0": "background", "1": "inner", "2": "outer"},
        numTraining=len(NAMES),
        training=training,
        test=["./imagesTs/x.nii.gz"],
    )


def describe(folder: Path, **content: object) -> None:
    (folder / "dataset.json").write_text(json.dumps(content))


def amend(folder: Path, **content: object) -> None:
    described = json.loads((folder / "dataset.json").read_text())
    describe(folder, **(described | content))


WRITERS: dict[str, Callable[[Path, str], None]] = {
    "plain": write_plain,
    "nnU-Net v2": write_nnunet,
    "Decathlon": write_decathlon,
}


def load(folder: Path, task: Task = TASK) -> SiteData:
    return load_site("ada", folder, task, Data())


def message(folder: Path, task: Task = TASK) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, task)
    return str(caught.value)


def test_every_reader_is_tested_here():
    assert len(WRITERS) == len(READERS)


@pytest.mark.parametrize("ending", SHAPES)
@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_and_ending_gives_the_bodies_that_were_written(tmp_path, layout, ending):
    WRITERS[layout](tmp_path, ending)
    loaded = load(tmp_path)
    cases = {case.case_id: case for case in (*loaded.train, *loaded.heldout)}
    assert sorted(cases) == sorted(NAMES)
    for name, case in cases.items():
        image, label = body(name, ending)
        np.testing.assert_array_equal(case.image_CHWD.squeeze(), image)
        np.testing.assert_array_equal(case.label_HWD.squeeze(), label)
        assert case.spacing_mm == ((1.0, 1.0, 1.0) if ending == ".png" else (0.5, 0.5, 3.0))


def test_the_same_bodies_have_the_same_digest_in_every_layout(tmp_path):
    digests = set()
    for number, layout in enumerate(WRITERS):
        for ending in (".nii", ".nii.gz"):
            folder = tmp_path / f"site{number}{ending}"
            folder.mkdir()
            WRITERS[layout](folder, ending)
            digests.add(load(folder).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_honours_a_split_file(tmp_path, layout):
    WRITERS[layout](tmp_path, ".png")
    rows = [f"{name},{'test' if name == NAMES[2] else 'train'}" for name in NAMES]
    (tmp_path / "split.csv").write_text("\n".join(["case,split", *rows]))
    assert [case.case_id for case in load(tmp_path).heldout] == [NAMES[2]]


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_every_layout_names_a_missing_file(tmp_path, layout, kind):
    WRITERS[layout](tmp_path, ".nii.gz")
    (file,) = tmp_path.glob(f"{kind}s*/case_2*")
    file.unlink()
    text = message(tmp_path)
    assert "1 fault" in text
    assert f"{file.relative_to(tmp_path)}: " in text
    assert "missing" in text


def test_nnunet_test_cases_with_labels_are_held_out(tmp_path):
    write_nnunet(tmp_path, ".png")
    image, label = body(NAMES[0], ".png")
    save(tmp_path / "imagesTs" / "late_0000.png", image)
    assert "late" not in [case.case_id for case in load(tmp_path).heldout]
    save(tmp_path / "labelsTs" / "late.png", label)
    loaded = load(tmp_path)
    assert [case.case_id for case in loaded.heldout] == ["late"]
    assert len(loaded.train) == len(NAMES)


def test_nnunet_channel_files_are_stacked_in_order(tmp_path):
    write_nnunet(tmp_path, ".nii.gz")
    for name in NAMES:
        image, _ = body(name, ".nii.gz")
        save(tmp_path / "imagesTr" / f"{name}_0001.nii.gz", image // 2)
        save(tmp_path / "imagesTr" / f"{name}_0002.nii.gz", image // 3)
    amend(tmp_path, channel_names={"0": "T2", "1": "ADC", "2": "DWI"})
    task = TASK.model_copy(update={"channels": 3})
    case = load(tmp_path, task).train[0]
    image, _ = body(case.case_id, ".nii.gz")
    np.testing.assert_array_equal(case.image_CHWD, np.stack([image, image // 2, image // 3]))
    (tmp_path / "imagesTr" / "case_2_0001.nii.gz").unlink()
    assert "case 'case_2' has channel files [0, 2]" in message(tmp_path, task)
    (tmp_path / "imagesTr" / "case_2_0002.nii.gz").unlink()
    assert "the image has 1 channels, the plan's task.channels says 3" in message(tmp_path, task)


def test_nnunet_natural_images_keep_their_channels_in_one_file(tmp_path):
    write_nnunet(tmp_path, ".png")
    for name in NAMES:
        image, _ = body(name, ".png")
        save(tmp_path / "imagesTr" / f"{name}_0000.png", np.stack([image] * 3, axis=-1))
    amend(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"})
    task = TASK.model_copy(update={"channels": 3})
    assert load(tmp_path, task).train[0].image_CHWD.shape == (3, 6, 5, 1)


def test_label_names_of_the_site_decide_which_class_a_value_is(tmp_path):
    write_nnunet(tmp_path, ".png")
    swapped = Task(classes=("Outer", "Inner"), working_size=(16, 16))
    case = load(tmp_path, swapped).train[0]
    _, label = body(case.case_id, ".png")
    np.testing.assert_array_equal(case.label_HWD[..., 0], np.array([0, 2, 1])[label])


def test_labels_the_plan_does_not_name_are_a_fault_where_names_agree(tmp_path):
    write_nnunet(tmp_path, ".png")
    text = message(tmp_path, Task(classes=("outer",), working_size=(16, 16)))
    assert "label values 0, 1, 2 found, allowed are 0, 2 (classes: outer)" in text


def test_names_that_contradict_the_plan_are_a_fault(tmp_path):
    write_decathlon(tmp_path, ".png")
    text = message(tmp_path, Task(classes=("outer", "rim"), working_size=(16, 16)))
    assert "dataset.json: labels" in text
    assert "share some names under different numbers" in text


def test_names_that_have_nothing_in_common_leave_the_values_as_they_are(tmp_path):
    write_decathlon(tmp_path, ".png")
    case = load(tmp_path, Task(classes=("a", "b"), working_size=(16, 16))).train[0]
    np.testing.assert_array_equal(case.label_HWD[..., 0], body(case.case_id, ".png")[1])


def test_decathlon_modalities_are_the_last_axis(tmp_path):
    write_decathlon(tmp_path, ".nii")
    for name in NAMES:
        image, _ = body(name, ".nii")
        save(tmp_path / "imagesTr" / f"{name}.nii", np.stack([image] * 3, axis=-1))
    amend(tmp_path, modality={"0": "T2", "1": "ADC", "2": "DWI"})
    task = TASK.model_copy(update={"channels": 3})
    assert load(tmp_path, task).train[0].image_CHWD.shape == (3, 6, 5, 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"numTraining": 9}, "'numTraining' is 9, but imagesTr and labelsTr hold 4 cases"),
        ({"file_ending": ".mha"}, "'file_ending' is '.mha'"),
        ({"channel_names": None}, "'channel_names' is missing"),
        ({"labels": None}, "'labels' is missing"),
        ({"labels": {"background": 0, "all": [1, 2]}}, "label 'all' has the value [1, 2]"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "two labels share a value"),
    ],
)
def test_nnunet_descriptions_are_checked(tmp_path, content, expected):
    write_nnunet(tmp_path, ".png")
    amend(tmp_path, **content)
    text = message(tmp_path)
    assert expected in text
    assert "dataset.json: " in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"training": []}, "'training' is empty"),
        ({"training": ["x.nii"]}, "training[0] is not an object"),
        ({"training": [{"image": "../x.png", "label": "/y.png"}]}, "'../x.png' is not a"),
        ({"labels": {"0": "background", "x": "inner"}}, "label 'inner' has the value 'x'"),
        ({"labels": {"1": "inner", "2": "inner"}}, "two labels share a name"),
        ({"modality": {"0": "T2", "1": "ADC"}}, "the image has 1 channels, dataset.json says 2"),
    ],
)
def test_decathlon_descriptions_are_checked(tmp_path, content, expected):
    write_decathlon(tmp_path, ".png")
    amend(tmp_path, **content)
    assert expected in message(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_description_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    assert "dataset.json: " in message(tmp_path)


def test_an_nnunet_folder_without_its_description_says_so(tmp_path):
    write_nnunet(tmp_path, ".png")
    (tmp_path / "dataset.json").unlink()
    assert "dataset.json: the file cannot be read (No such file or directory)" in message(tmp_path)


def test_an_nnunet_image_without_a_channel_number_is_named(tmp_path):
    write_nnunet(tmp_path, ".png")
    (tmp_path / "imagesTr" / "case_1_0000.png").rename(tmp_path / "imagesTr" / "case_1.png")
    assert "imagesTr/case_1.png: the file name has no channel number" in message(tmp_path)


def test_the_first_nnunet_layout_is_told_from_the_decathlon(tmp_path):
    write_decathlon(tmp_path, ".nii")
    for file in list((tmp_path / "imagesTr").iterdir()):
        file.rename(file.with_name(file.name.replace(".nii", "_0000.nii")))
    text = message(tmp_path)
    assert "imagesTr/case_1.nii: image of training[0] is missing" in text
    assert "describe it as nnU-Net v2 does" in text

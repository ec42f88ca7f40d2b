"""A written plan is the plan, with every key explained."""

import tomllib
from pathlib import Path

import pytest

from wardround.deploy import plan_text
from wardround.shared import plan as plans


def study() -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "three",
            "sites": ["north", "south"],
            "task": {"classes": ["left ventricle", "myo_card-1"], "channels": 3},
            "method": {"name": "finetune"},
            "simulation": {"data_root": 'a "quoted" \\ path', "data": {"north": "x/y"}},
        },
        origin="test",
    )


def test_what_was_written_loads_as_the_same_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(plan_text.write(study(), heading="A heading\nof two lines"), encoding="utf-8")
    assert plans.load(path) == study()


def test_every_key_is_there_unset_ones_as_comments() -> None:
    text = plan_text.write(study())
    for name in plans.StudyPlan.model_fields:
        assert f"[{name}]" in text or f"{name} = " in text
    assert "# patch_size =" in text
    assert "patch_size" not in tomllib.loads(text)["task"]


def test_remarks_stand_above_their_key() -> None:
    text = plan_text.write(study(), {"segmenter.steps": "first line\nsecond line", "seed": "luck"})
    assert "# first line\n# second line\nsteps = " in text
    assert "# luck\nseed = " in text


@pytest.mark.parametrize("path", sorted((Path(plan_text.__file__).parent / "studies").glob("*")))
def test_packaged_studies_survive_being_written(path: Path, tmp_path: Path) -> None:
    plan = plans.load(path)
    copy = tmp_path / "copy.toml"
    copy.write_text(plan_text.write(plan), encoding="utf-8")
    assert plans.load(copy) == plan

"""Where a study's data are looked for, and what is said when they are not there."""

from pathlib import Path

import pytest

from wardround.deploy.site_folders import Places, find, without_mock
from wardround.shared import plan as plans
from wardround.shared.errors import DataError


def study(**simulation: object) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "s",
            "sites": ["north", "south"],
            "task": {"classes": ["a"]},
            "simulation": simulation,
        },
        origin="test",
    )


def places(tmp_path: Path, **given: Path | str) -> Places:
    data, variable = given.get("data"), given.get("variable")
    return Places(
        study_dir=tmp_path / "studies",
        data=Path(data) if data else None,
        variable=str(variable) if variable else None,
        working_dir=tmp_path / "project",
    )


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_the_plan_s_root_starts_at_the_study_file(tmp_path: Path) -> None:
    root = make(tmp_path / "studies" / "mine", "north", "south")
    found = find(study(data_root="mine"), places(tmp_path))
    assert found == {"north": root / "north", "south": root / "south"}


def test_the_variable_comes_before_the_folder_beside_the_project(tmp_path: Path) -> None:
    make(tmp_path / "shared" / "data" / "mine", "north", "south")
    assert (
        find(study(data_root="mine"), places(tmp_path))["north"]
        .resolve()
        .is_relative_to((tmp_path / "shared").resolve())
    )
    root = make(tmp_path / "elsewhere", "mine/north", "mine/south")
    found = find(study(data_root="mine"), places(tmp_path, variable=root))
    assert found["north"] == root / "mine" / "north"


def test_the_command_s_folder_wins_with_or_without_the_plan_s_root(tmp_path: Path) -> None:
    make(tmp_path / "studies" / "mine", "north", "south")
    root = make(tmp_path / "given", "north", "south")
    found = find(study(data_root="mine"), places(tmp_path, data=root))
    assert found["south"] == root / "south"


def test_a_folder_named_for_one_site_is_used_for_it_alone(tmp_path: Path) -> None:
    root = make(tmp_path / "studies" / "mine", "south")
    odd = make(tmp_path / "studies", "Odd_Name") / "Odd_Name"
    found = find(study(data_root="mine", data={"north": "Odd_Name"}), places(tmp_path))
    assert found == {"north": odd, "south": root / "south"}


def test_the_command_s_folder_wins_over_absolute_ones_in_the_plan(tmp_path: Path) -> None:
    plan = study(data={"north": str(make(tmp_path / "before", "north") / "north")})
    root = make(tmp_path / "given", "north", "south")
    found = find(plan, places(tmp_path, data=root))
    assert found == {"north": root / "north", "south": root / "south"}


def test_every_place_that_was_tried_is_listed(tmp_path: Path) -> None:
    make(tmp_path / "studies" / "mine", "north")
    with pytest.raises(DataError) as caught:
        find(study(data_root="mine"), places(tmp_path, variable=tmp_path / "v"))
    message = str(caught.value)
    assert "no folder south" in message
    assert str(tmp_path / "v" / "mine") in message
    assert "WARDROUND_DATA" in message


def test_a_named_folder_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not exist"):
        find(study(data={"north": "gone", "south": "gone-too"}), places(tmp_path))


def test_a_folder_for_a_site_that_is_not_in_the_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not among the sites"):
        find(study(data={"west": "x"}), places(tmp_path))


def test_the_command_s_folder_wins_over_mock_sites(tmp_path: Path) -> None:
    plan = study(mock=4)
    assert without_mock(plan, places(tmp_path)) == plan
    assert without_mock(plan, places(tmp_path, data=tmp_path)) == study()

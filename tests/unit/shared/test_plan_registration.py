"""What a plan may ask of registration, and what it is told where it asks for more."""

import pytest

from wardround.shared import plan as plans
from wardround.shared.errors import PlanError


def a_plan(**tables: dict[str, object]) -> plans.StudyPlan:
    content = {
        "study_id": "pairs",
        "sites": ["ada", "ben"],
        "task": {"kind": "registration", "classes": ["organ", "wall"]},
        "replay": {"labels": "joint"},
        "method": {"name": "samcl-generated"},
    }
    for name, table in tables.items():
        content[name] = {**content.get(name, {}), **table}
    return plans.parse(content, origin="test")


def test_a_sample_has_the_channels_of_two_images_and_a_map_a_class_and_image() -> None:
    registering = a_plan().task
    segmenting = a_plan(task={"kind": "segmentation", "dims": "2.5d"}).task

    assert (registering.num_images, registering.input_channels) == (2, 2)
    assert registering.drawn_channels == 2 + 2 * 2
    assert (segmenting.num_images, segmenting.input_channels) == (1, 3)
    assert segmenting.drawn_channels == 3 + 2


@pytest.mark.parametrize(
    ("tables", "remedy"),
    [
        ({"registration": {"window": 4}}, "must be odd"),
        ({"registration": {"within": {"cai": 2}}}, r"registration.within names \['cai'\]"),
        ({"registration": {"within": {"ada": 0}}}, "greater than or equal to 1"),
        ({"task": {"dims": "2.5d"}}, "set task.dims to '2d' or '3d'"),
        ({"task": {"patch_size": [16, 16]}}, "leave out task.patch_size"),
        ({"task": {"dims": "3d", "working_size": [16, 16, 3]}}, "must be at least 4"),
        ({"denoiser": {"mode": "frozen"}, "privacy": {"dp": True}}, "privacy.dp .* leave it out"),
        ({"method": {"name": "lwf"}}, "choose another method, such as 'samcl'"),
        ({"replay": {"labels": "arriving"}}, "set replay.labels = 'joint'"),
        ({"replay": {"keep_share": 0.5}}, "leave it out"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(tables, remedy: str) -> None:
    with pytest.raises(PlanError, match=remedy):
        a_plan(**tables)


def test_labels_of_a_segmenter_do_not_matter_where_nothing_is_drawn() -> None:
    plan = a_plan(method={"name": "samcl"}, replay={"labels": "site"})

    assert plan.method.name == "samcl"

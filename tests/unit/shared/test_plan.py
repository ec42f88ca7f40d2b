import hashlib
import json

import pytest

from wardround.shared import plan
from wardround.shared.errors import PlanError

SMALL = {"study_id": "trial", "sites": ["ada", "ben"], "task": {"classes": ["organ"]}}
TOML = """
study_id = "trial"
sites = ["ada", "ben"]
[task]
classes = ["organ"]
"""


def _with(path: str, value: object) -> dict:
    content = json.loads(json.dumps(SMALL))
    *tables, key = path.split(".")
    table = content
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value
    return content


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    return path


def test_a_small_plan_is_filled_with_defaults(study):
    loaded = plan.load(study)
    assert loaded.sites == ("ada", "ben")
    assert loaded.seed == 0
    assert loaded.method.name == "smd"
    assert loaded.task.sample_size == (64, 64)
    assert loaded == plan.parse(SMALL, origin="here")


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("colour", 1, "allowed here: absence, audit, augmentation, compute, data"),
        ("segmenter.step", 1, "allowed here: batch_size, features, learning_rate, steps"),
        ("simulation.mok", 1, "allowed here: data, data_root, mock, mock_heldout"),
    ],
)
def test_an_unknown_key_is_refused_naming_what_is_allowed(path, value, allowed):
    with pytest.raises(PlanError) as caught:
        plan.parse(_with(path, value), origin="study.toml")
    assert f"'{path}' (= 1) is not a known key; {allowed}" in str(caught.value)
    assert "'study.toml'" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 1.5, "must be a whole number"),
        ("seed", "7", "must be a whole number"),
        ("seed", True, "must be a whole number"),
        ("study_id", "A study", "must match"),
        ("sites", [], "must not be empty"),
        ("sites", "ada", "must be a list"),
        ("task.classes", [], "must not be empty"),
        ("task.dims", "4d", "must be one of '2d', '2.5d' or '3d'"),
        ("task.channels", 2, "must be one of 1 or 3"),
        ("segmenter", 3, "must be a table"),
        ("segmenter.features", [16], "must have 2 values or more"),
        ("segmenter.features", [16] * 7, "must have 6 values or fewer"),
        ("segmenter.steps", 0, "greater than or equal to 1"),
        ("segmenter.learning_rate", 0.0, "greater than 0"),
        ("segmenter.learning_rate", float("nan"), "must be"),
        (
            "method.name",
            "magic",
            "'vae-replay', 'diffusion-replay', 'smd', 'samcl' or 'samcl-generated'",
        ),
        ("method.alpha", 2, "less than or equal to 1"),
        ("method.clip", float("inf"), "finite"),
        ("augmentation.flip", "yes", "must be true or false"),
        ("data.heldout_fraction", 1.0, "less than 1"),
        ("release.byte_budget", 0, "greater than or equal to 1"),
        ("simulation.mock", 2, "greater than or equal to 3"),
    ],
)
def test_a_wrong_value_is_refused_naming_key_value_and_what_is_allowed(path, value, rule):
    with pytest.raises(PlanError) as caught:
        plan.parse(_with(path, value), origin="study.toml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "plan 'study.toml' is not valid:"
    assert len(lines) == 2
    assert lines[1].startswith(f"  '{path}' (= {value!r}): ")
    assert rule in lines[1]


def test_a_wrong_value_in_a_list_is_one_fault_at_its_place():
    with pytest.raises(PlanError) as caught:
        plan.parse(_with("sites", ["ada", "Ben B"]), origin="study.toml")
    assert str(caught.value).splitlines()[1:] == [
        "  'sites.1' (= 'Ben B'): must match ^[a-z][a-z0-9-]{0,31}$"
    ]


def test_every_fault_is_named_at_once():
    content = _with("seed", -1) | {"colour": "red"}
    del content["task"]["classes"]
    with pytest.raises(PlanError) as caught:
        plan.parse(content, origin="study.toml")
    for part in (
        "'seed'",
        "'colour'",
        "'task.classes' is missing and has no default: foreground names",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("sites", ["ada", "ada"], "sites must differ"),
        ("task.classes", ["organ", "organ"], "classes must differ"),
        ("task.working_size", [64], "working_size must have 2 numbers for dims = '2d'"),
        ("task.working_size", [60, 60], "multiples of 8"),
        ("task.working_size", [8, 64], "at least 16"),
        ("task.patch_size", [128, 128], "larger than working_size"),
        ("denoiser.channels", [17, 32], "multiples of 16"),
        (
            "denoiser",
            {"timesteps": 10, "sampling_steps": 11},
            "must not be more than denoiser.timest",
        ),
        ("simulation", {"mock": 4, "mock_heldout": 3}, "must leave two of the mock cases"),
        ("simulation", {"mock_heldout": 3}, "must leave two of the mock cases"),
        ("simulation", {"mock": 4, "data_root": "d"}, "data_root and data would not be read"),
        ("simulation", {"mock": 4, "data": {"ada": "d"}}, "data_root and data would not be read"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(path, value, fault):
    content = _with(path, value)
    if path == "task.working_size" and value == [72, 64]:
        content["denoiser"] = {"fold": 4, "channels": [16, 16, 16]}
    with pytest.raises(PlanError, match=fault):
        plan.parse(content, origin="study.toml")


def test_overrides_come_before_validation(study):
    loaded = plan.load(
        study,
        (
            "seed=3",
            "method.name=finetune",
            'method.order="second"',
            "segmenter.features=[8, 16]",
            "simulation.data.ada=/elsewhere",
        ),
    )
    assert loaded.seed == 3
    assert loaded.method.name == "finetune"
    assert loaded.method.order == "second"
    assert loaded.segmenter.features == (8, 16)
    assert loaded.simulation.data == {"ada": "/elsewhere"}


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("seed", "not KEY=VALUE"),
        ("=3", "not KEY=VALUE"),
        ("method..name=smd", "not KEY=VALUE"),
        ("study_id.x=3", "'study_id' is a value, not a table"),
        ("seed=many", "'seed' (= 'many'): must be a whole number"),
        ("metod.name=smd", "'metod'"),
    ],
)
def test_an_override_that_cannot_be_is_refused(study, override, fault):
    with pytest.raises(PlanError) as caught:
        plan.load(study, (override,))
    assert fault in str(caught.value)


def test_a_file_that_is_missing_or_no_toml_is_refused_by_name(study, tmp_path):
    with pytest.raises(PlanError, match=r"gone\.toml' cannot be read"):
        plan.load(tmp_path / "gone.toml")
    study.write_text("sites = [")
    with pytest.raises(PlanError, match=r"study\.toml' is not valid TOML"):
        plan.load(study)
    study.write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"study\.toml' is not valid TOML"):
        plan.load(study)
    study.write_text(TOML.replace("[task]", "seed = 2030-01-01\n[task]"))
    with pytest.raises(PlanError, match="dates"):
        plan.load(study)


def test_the_digest_is_over_canonical_json_without_the_simulation():
    parsed = plan.parse(SMALL, origin="here")
    content = json.loads(parsed.canonical())
    assert "simulation" not in content
    assert content["task"]["classes"] == ["organ"]
    assert parsed.canonical() == json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert parsed.digest() == hashlib.sha256(parsed.canonical()).hexdigest()


def test_where_the_data_lie_does_not_change_the_digest_and_everything_else_does():
    digest = plan.parse(SMALL, origin="here").digest()
    moved = plan.parse(_with("simulation.data_root", "/elsewhere"), origin="here")
    assert moved.digest() == digest
    for path, value in (
        ("seed", 1),
        ("sites", ["ben", "ada"]),
        ("release.min_count", 4),
        ("method.alpha", 0.0),
    ):
        assert plan.parse(_with(path, value), origin="here").digest() != digest


def test_a_written_default_gives_the_same_digest_as_a_left_out_one():
    assert plan.parse(_with("seed", 0), origin="a") == plan.parse(SMALL, origin="b")
    assert plan.parse(_with("method.alpha", 0), origin="a").digest() == (
        plan.parse(_with("method.alpha", 0.0), origin="a").digest()
    )


def test_a_canonical_plan_parses_to_itself():
    parsed = plan.parse(SMALL, origin="here")
    again = plan.parse(json.loads(parsed.canonical()), origin="journal")
    assert again.canonical() == parsed.canonical()


def test_two_and_a_half_dimensions_stack_three_slices():
    assert plan.parse(_with("task.dims", "2.5d"), origin="here").task.input_channels == 3
    assert plan.parse(_with("task.channels", 3), origin="here").task.input_channels == 3


def test_a_prompt_that_could_hold_an_image_is_refused():
    content = {
        "study_id": "s",
        "sites": ["a"],
        "task": {"classes": ["organ"], "working_size": [32, 48]},
        # 1536 bytes, as many as 32 x 48 pixels
        "denoiser": {"prompt_tokens": 4, "prompt_width": 96},
    }
    plan.parse(content, origin="test")
    content["denoiser"]["prompt_width"] = 97
    with pytest.raises(PlanError, match=r"could hold 1\.01 images of working_size \[32, 48\]"):
        plan.parse(content, origin="test")
    content["release"] = {"prompt_images": 1.1}
    plan.parse(content, origin="test")


def test_a_prompt_of_the_default_size_fits_the_smallest_images_unless_the_plan_is_stricter():
    small = {"study_id": "s", "sites": ["a"], "task": {"classes": ["o"], "working_size": [16, 16]}}
    plan.parse(small, origin="test")
    with pytest.raises(PlanError, match=r"could hold 5 images .* allows 1024 bytes"):
        plan.parse(small | {"denoiser": {"prompt_tokens": 5}}, origin="test")
    with pytest.raises(PlanError, match=r"could hold 4 images .* allows 256 bytes"):
        plan.parse(small | {"release": {"prompt_images": 1.0}}, origin="test")


def test_a_site_labels_the_classes_that_the_plan_names_for_it_in_the_plans_order():
    content = _with("task.classes", ["left", "wall", "right"])
    content["task"]["labels"] = {"ada": {"right": 1, "left": 9}}
    task = plan.parse(content, origin="here").task
    assert task.classes_of("ada") == ("left", "right")
    assert task.classes_of("ben") == ("left", "wall", "right")


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"ada": {"liver": 1}}, r"labels.ada names \['liver'\], which are not among the classes"),
        ({"eve": {"organ": 1}}, r"task.labels names \['eve'\], which are not among the sites"),
        ({"ada": {}}, r"task.labels.ada. \(= {}\): must not be empty"),
    ],
)
def test_labels_of_what_the_plan_does_not_have_are_refused(labels, fault):
    with pytest.raises(PlanError, match=fault):
        plan.parse(_with("task.labels", labels), origin="here")


def test_one_value_for_two_classes_is_refused():
    content = _with("task.classes", ["left", "right"])
    content["task"]["labels"] = {"ada": {"left": 1, "right": 1}}
    with pytest.raises(PlanError, match="gives two classes one value"):
        plan.parse(content, origin="here")

"""The command line as a person meets it: help, exit statuses, messages without tracebacks."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wardround.deploy import cli
from wardround.shared import plan as plans

Run = Callable[..., tuple[int, str, str]]

PLAN = """
study_id = "tiny"
sites = ["north", "south"]
[task]
classes = ["gland"]
working_size = [16, 16]
[denoiser]
prompt_width = 16
[simulation]
data_root = "hospitals"
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wardround", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def write_site(folder: Path, cases: int = 4, top: int = 1) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        label = np.zeros((24, 20), dtype=np.uint8)
        for value in range(1, top + 1):
            label[4 * value : 4 * value + 3, 5:15] = value
        image = rng.integers(0, 255, label.shape, dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"c{number}.png")
        Image.fromarray(label).save(folder / "labels" / f"c{number}.png")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("simulate",),
        ("compare",),
        ("report",),
        ("data", "make"),
        ("data", "divide"),
        ("data", "check"),
        ("data", "fingerprint"),
        ("plan", "new"),
        ("plan", "check"),
        ("plan", "show"),
        ("plan", "approve"),
        ("plan", "revoke"),
        ("plan", "list"),
        ("audit", "verify"),
    ],
)
def test_every_command_explains_itself_with_an_example(run: Run, words: tuple[str, ...]) -> None:
    status, out, _ = run(*words, "--help")
    assert status == 0
    assert "wardround " + " ".join(words) in " ".join(out.split())


def test_an_unknown_option_is_wrong_usage(run: Run) -> None:
    status, _, err = run("simulate", "--bogus")
    assert status == 2
    assert "bogus" in err


def test_a_study_file_that_is_not_there_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    status, _, err = run("simulate", tmp_path / "gone.toml", "--out", tmp_path / "out")
    assert status == 2
    assert err.startswith("error: there is no study file")
    assert not (tmp_path / "out").exists()


def test_an_unknown_key_ends_with_3_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN + "\n[segmenter]\nstep = 3\n", encoding="utf-8")
    status, _, err = run("simulate", study, "--out", tmp_path / "out")
    assert status == 3
    assert "segmenter.step" in err
    assert not (tmp_path / "out").exists()


def test_faults_of_all_sites_are_listed_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN, encoding="utf-8")
    north = write_site(tmp_path / "hospitals" / "north")
    write_site(tmp_path / "hospitals" / "south", cases=2)
    (north / "labels" / "c1.png").unlink()
    status, _, err = run("simulate", study, "--out", tmp_path / "out")
    assert status == 4
    assert "site 'north'" in err
    assert "c1" in err
    assert "site 'south'" in err
    assert not (tmp_path / "out").exists()


def test_programs_get_errors_as_json(run: Run, tmp_path: Path) -> None:
    status, out, err = run("simulate", "no-such-study", "--format", "json")
    assert status == 2
    assert out == ""
    assert json.loads(err)["error"] == "UsageError"


def test_a_folder_with_other_files_is_left_alone(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    status, _, err = run("simulate", study, "--out", out, "--fresh")
    assert status == 2
    assert "thesis.txt" in err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_resume_and_fresh_exclude_each_other(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN, encoding="utf-8")
    status, _, err = run("simulate", study, "--out", tmp_path / "o", "--resume", "--fresh")
    assert status == 2
    assert "one of them" in err


def test_a_new_plan_fits_the_data_it_was_made_from(run: Run, tmp_path: Path) -> None:
    write_site(tmp_path / "hospitals" / "North Clinic", top=3)
    write_site(tmp_path / "hospitals" / "south", top=3)
    out = tmp_path / "study.toml"
    status, printed, _ = run("plan", "new", tmp_path / "hospitals", "--out", out)
    assert status == 0
    assert "wardround simulate" in printed
    plan = plans.load(out)
    assert plan.sites == ("north-clinic", "south")
    assert plan.task.dims == "2d"
    assert plan.task.channels == 1
    assert plan.task.classes == ("class-1", "class-2", "class-3")
    assert plan.task.working_size == (24, 16)
    assert plan.simulation.data == {"north-clinic": "hospitals/North Clinic"}
    assert run("plan", "check", out)[0] == 0
    assert run("data", "check", tmp_path / "hospitals", "--plan", out)[0] == 0


def test_a_new_plan_is_refused_where_data_are_at_fault(run: Run, tmp_path: Path) -> None:
    site = write_site(tmp_path / "hospitals" / "north")
    (site / "images" / "c0.png").write_bytes(b"not a picture")
    out = tmp_path / "study.toml"
    status, _, err = run("plan", "new", tmp_path / "hospitals", "--out", out)
    assert status == 4
    assert "c0.png" in err
    assert not out.exists()


def test_a_plan_is_never_written_over(run: Run, tmp_path: Path) -> None:
    write_site(tmp_path / "hospitals" / "north")
    out = tmp_path / "study.toml"
    out.write_text("mine", encoding="utf-8")
    assert run("plan", "new", tmp_path / "hospitals", "--out", out)[0] == 2
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_folder_without_sites_says_which_layouts_are_known(run: Run, tmp_path: Path) -> None:
    status, _, err = run("plan", "new", tmp_path, "--out", tmp_path / "s.toml")
    assert status == 4
    assert "imagesTr" in err


def test_a_shown_plan_is_a_plan_with_the_override_in_it(run: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN, encoding="utf-8")
    status, printed, _ = run("plan", "show", study, "--toml", "--set", "method.name=finetune")
    assert status == 0
    copy = tmp_path / "copy.toml"
    copy.write_text(printed, encoding="utf-8")
    assert plans.load(copy).method.name == "finetune"


def test_data_check_lists_faults_and_ends_with_4(run: Run, tmp_path: Path) -> None:
    write_site(tmp_path / "hospitals" / "north")
    write_site(tmp_path / "hospitals" / "south", top=2)
    status, out, err = run("data", "check", tmp_path / "hospitals", "--classes", "1")
    assert status == 4
    assert "label values 0, 1, 2" in out
    assert "1 of 2 sites have faults: south" in err


def test_data_check_names_sites_of_the_plan_that_a_folder_of_sites_lacks(
    run: Run, tmp_path: Path
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(PLAN, encoding="utf-8")
    north = write_site(tmp_path / "hospitals" / "north")
    status, out, _ = run("data", "check", tmp_path / "hospitals", "--plan", study)
    assert status == 0
    assert "the plan also names south" in out
    status, out, _ = run("data", "check", north, "--plan", study)
    assert status == 0
    assert "south" not in out


def test_data_check_counts_faults_in_words_that_agree(run: Run, tmp_path: Path) -> None:
    north = write_site(tmp_path / "north")
    (north / "labels" / "c1.png").unlink()
    assert "north 1 fault " in run("data", "check", north)[1]
    (north / "labels" / "c2.png").unlink()
    assert "north 3 faults " in run("data", "check", north)[1]


def test_data_on_the_command_line_win_over_mock_sites_of_the_plan(run: Run, tmp_path: Path) -> None:
    given = tmp_path / "gone"
    status, _, err = run("simulate", "demo", "--data", given, "--out", tmp_path / "out")
    assert status == 4
    assert f"{given}  (no such folder)" in err
    assert not (tmp_path / "out").exists()


def test_a_fingerprint_is_json_for_programs(run: Run, tmp_path: Path) -> None:
    write_site(tmp_path / "north")
    status, out, _ = run("data", "fingerprint", tmp_path / "north", "--format", "json")
    assert status == 0
    assert json.loads(out)["north"]["num_train"] == 3


def test_a_folder_is_divided_into_sites_that_a_study_can_read(run, tmp_path):
    folder, sites = write_site(tmp_path / "all", cases=8), tmp_path / "sites"
    options = ("--out", sites, "--into", "north, south")
    status, out, _ = run("data", "divide", folder, *options, "--group", "[0-9]+")
    assert status == 0
    assert [line.split()[:6] for line in out.splitlines()] == [
        ["north", "4", "cases", "of", "4", "groups"],
        ["south", "4", "cases", "of", "4", "groups"],
    ]
    assert run("data", "check", sites)[0] == 0
    status, _, err = run("data", "divide", folder, *options, "--group", "[0-9]+")
    assert (status, "is there already" in err) == (4, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--into", "north,north", "expected different names"),
        ("--into", "North,south", "expected different names"),
        ("--group", "(", "is no regular expression"),
    ],
)
def test_what_divide_cannot_do_is_told_in_a_sentence(run, tmp_path, option, value, message):
    words = {"--into": "north,south", "--out": str(tmp_path / "sites"), option: value}
    given = [word for pair in words.items() for word in pair]
    status, _, err = run("data", "divide", write_site(tmp_path / "all"), *given)
    assert status == 4
    assert message in " ".join(err.split())


def test_a_report_of_a_folder_without_a_study_ends_with_8(run: Run, tmp_path: Path) -> None:
    assert run("report", tmp_path)[0] == 8
    assert run("report")[0] == 2


def test_the_published_schema_is_what_the_command_prints(run: Run) -> None:
    status, out, _ = run("report", "--schema")
    published = Path(__file__).parents[3] / "docs" / "report.schema.json"
    assert status == 0
    assert json.loads(out) == json.loads(published.read_text(encoding="utf-8"))

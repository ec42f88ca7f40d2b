from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from wardround.deploy import cli_flower, flower, plan_text
from wardround.deploy.flower import bundle
from wardround.shared.errors import IdentityError, PlanError, UsageError


def test_the_bundle_is_told_by_digest_and_by_folder(capsys: pytest.CaptureFixture[str]) -> None:
    cli_flower.bundle(folder=False)
    cli_flower.bundle(folder=True)
    assert capsys.readouterr().out.split() == [bundle.digest(), str(bundle.FOLDER)]


def test_the_bundle_of_a_simulation_is_on_no_sites_list(capsys: pytest.CaptureFixture[str]) -> None:
    cli_flower.bundle(folder=True, simulation=True)
    assert capsys.readouterr().out.split() == [str(bundle.SIMULATION)]
    assert bundle.digest(bundle.SIMULATION) != bundle.digest()


def test_a_certificate_that_is_not_there_has_no_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        cli_flower.key(certificate=tmp_path / "utrecht.crt")


@pytest.mark.parametrize(
    ("name", "method", "error", "why"),
    [
        ("dora", "smd", PlanError, "site 'dora' is not in the plan"),
        ("ada", "joint", PlanError, "never leave a site"),
        ("ada", "smd", IdentityError, "credentials"),
    ],
)
def test_a_site_is_checked_before_it_dials(
    tmp_path: Path, tiny_plan, name: str, method: str, error: type[Exception], why: str
) -> None:
    plan = tiny_plan.model_copy(
        update={"method": tiny_plan.method.model_copy(update={"name": method})}
    )
    study = tmp_path / "study.toml"
    study.write_text(plan_text.write(plan, heading=""), encoding="utf-8")
    with pytest.raises(error, match=why):
        cli_flower.site(
            study=str(study),
            name=name,
            data=tmp_path,
            workspace=tmp_path / "work",
            credentials=tmp_path / "credentials",
            superlink="127.0.0.1:1",
        )
    assert not (tmp_path / "work").exists()


def test_what_is_not_installed_is_named_with_its_remedy() -> None:
    with pytest.raises(UsageError, match=r"needs no_such.*'wardround\[flower\]'"):
        flower.expect_installed("flower", "flwr", "no_such")

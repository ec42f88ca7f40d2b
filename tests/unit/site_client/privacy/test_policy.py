"""A site's policy can only tighten, and is read as strictly as a plan."""

import pytest

from wardround.shared.errors import NotPermitted, PlanError
from wardround.site_client.privacy import policy
from wardround.site_client.privacy.policy import SitePolicy


@pytest.fixture
def file(tmp_path):
    return tmp_path / "site.toml"


def test_a_site_without_a_policy_demands_nothing_but_a_closed_network(file):
    assert policy.load(file) == SitePolicy()
    assert SitePolicy().network == "coordinator-only"


def test_every_key_is_read(file):
    file.write_text(
        "min_cases = 20\nmin_count = 10\nbyte_budget = 1000\nepsilon_budget = 2.5\n"
        'network = "open"\n'
        'max_copy_rate = 0.05\nmax_membership_auc = 0.75\nfew_cases = "refuse"\n'
        'probe_addresses = ["10.0.0.1:53", "[::1]:443"]\nprobe_names = ["example.org"]\n'
    )
    assert policy.load(file) == SitePolicy(
        min_cases=20,
        min_count=10,
        byte_budget=1000,
        max_copy_rate=0.05,
        max_membership_auc=0.75,
        few_cases="refuse",
        epsilon_budget=2.5,
        network="open",
        probe_addresses=("10.0.0.1:53", "[::1]:443"),
        probe_names=("example.org",),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("min_case = 3", "'min_case'"),
        ("min_cases = 0", "'min_cases'"),
        ("min_cases = '20'", "'min_cases'"),
        ("network = 'closed'", "'network'"),
        ("probe_addresses = ['10.0.0.1']", "'probe_addresses.0'"),
        ("min_cases = 2026-11-26", "dates"),
        ("min_cases = ", "not valid TOML"),
    ],
)
def test_what_is_not_allowed_is_named(file, text, named):
    file.write_text(text)
    with pytest.raises(PlanError, match=named):
        policy.load(file)


def test_a_policy_that_cannot_be_read_is_not_passed_over(file):
    file.mkdir()
    with pytest.raises(PlanError, match="nothing is done without it"):
        policy.load(file)


def test_the_stricter_of_plan_and_policy_holds(tiny_plan):
    release = tiny_plan.release
    assert SitePolicy(min_count=1).smallest_count(tiny_plan) == release.min_count
    assert SitePolicy(min_count=50).smallest_count(tiny_plan) == 50
    assert SitePolicy(byte_budget=10**12).most_bytes(tiny_plan) == release.byte_budget
    assert SitePolicy(byte_budget=7).most_bytes(tiny_plan) == 7
    assert SitePolicy(epsilon_budget=100.0).most_epsilon(tiny_plan) == 8.0
    assert SitePolicy(epsilon_budget=0.5).most_epsilon(tiny_plan) == 0.5


def test_a_site_with_too_few_cases_takes_no_part():
    SitePolicy(min_cases=20).expect_enough_cases("ada", 20)
    with pytest.raises(NotPermitted, match="min_cases = 20"):
        SitePolicy(min_cases=20).expect_enough_cases("ada", 19)


def test_the_stricter_limit_of_the_memorisation_audit_holds(tiny_plan):
    audit = tiny_plan.audit.model_copy(update={"max_copy_rate": 0.2, "max_membership_auc": 0.8})
    planned = tiny_plan.model_copy(update={"audit": audit})
    strict = SitePolicy(max_copy_rate=0.05, max_membership_auc=0.7, few_cases="refuse")
    lax = SitePolicy(max_copy_rate=0.9, max_membership_auc=0.95)
    assert (strict.most_copies(planned), strict.most_membership(planned)) == (0.05, 0.7)
    assert (lax.most_copies(planned), lax.most_membership(planned)) == (0.2, 0.8)
    assert SitePolicy().may_release_untold(planned)
    assert not strict.may_release_untold(planned)
    refusing = planned.model_copy(
        update={"audit": audit.model_copy(update={"few_cases": "refuse"})}
    )
    assert not SitePolicy().may_release_untold(refusing)

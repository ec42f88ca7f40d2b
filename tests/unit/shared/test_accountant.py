"""Our accountant against Opacus's, against closed forms, and that spendings add up."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import norm

from wardround.shared.accountant import Spending, epsilon_of, noise_for

DELTA = 1e-5
# Cases a step (share), noise, steps: from one step of all cases to many of few.
TRAININGS = [(0.25, 5.9, 400), (1.0, 7.4, 50), (0.1, 1.0, 100), (0.05, 2.0, 2), (0.01, 0.6, 1000)]
OPACUS_ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))


@pytest.fixture(scope="module")
def opacus() -> ModuleType:
    """Return the one file of Opacus that computes; the package would load torch first."""
    found = importlib.util.find_spec("opacus")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "accountants" / "analysis" / "rdp.py"
    spec = importlib.util.spec_from_file_location("opacus_rdp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_spending(rate: float, noise: float, steps: int) -> Spending:
    return Spending(noise_multiplier=noise, sampling_rate=rate, steps=steps)


def exact_delta(epsilon: float, noise: float) -> float:
    """The delta of one release with Gaussian noise (Balle and Wang 2018, theorem 8)."""
    left, right = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
    return float(norm.cdf(left) - math.exp(epsilon) * norm.cdf(right))


@pytest.mark.parametrize(("rate", "noise", "steps"), TRAININGS)
def test_the_accountant_agrees_with_that_of_opacus_to_one_percent(opacus, rate, noise, steps):
    curve = opacus.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=OPACUS_ORDERS)
    theirs, _order = opacus.get_privacy_spent(orders=OPACUS_ORDERS, rdp=curve, delta=DELTA)
    assert epsilon_of([a_spending(rate, noise, steps)], DELTA) == pytest.approx(theirs, rel=0.01)


def test_trainings_that_differ_add_up_as_those_of_opacus(opacus):
    curve = sum(
        opacus.compute_rdp(q=q, noise_multiplier=s, steps=n, orders=OPACUS_ORDERS)
        for q, s, n in TRAININGS[:2]
    )
    theirs, _order = opacus.get_privacy_spent(orders=OPACUS_ORDERS, rdp=curve, delta=DELTA)
    ours = epsilon_of([a_spending(*one) for one in TRAININGS[:2]], DELTA)
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours > max(epsilon_of([a_spending(*one)], DELTA) for one in TRAININGS[:2])


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (7.4, 50), (40.0, 400)])
def test_what_is_found_is_never_below_the_exact_epsilon(noise, steps):
    found = epsilon_of([a_spending(1.0, noise, steps)], DELTA)
    # All cases in every step: as one step with less noise.
    assert exact_delta(found, noise / math.sqrt(steps)) <= DELTA
    assert exact_delta(found / 1.3, noise / math.sqrt(steps)) > DELTA


def test_who_spends_nothing_has_spent_nothing():
    assert epsilon_of([], DELTA) == 0


def test_more_noise_fewer_steps_and_fewer_cases_spend_less():
    most = epsilon_of([a_spending(0.25, 2.0, 100)], DELTA)
    assert epsilon_of([a_spending(0.25, 3.0, 100)], DELTA) < most
    assert epsilon_of([a_spending(0.25, 2.0, 50)], DELTA) < most
    assert epsilon_of([a_spending(0.20, 2.0, 100)], DELTA) < most


@pytest.mark.parametrize("epsilon", [0.5, 4.0, 8.0])
def test_the_noise_found_spends_what_is_allowed_and_hardly_less(epsilon):
    noise = noise_for(epsilon, DELTA, 0.25, 400)
    assert 0.99 * epsilon < epsilon_of([a_spending(0.25, noise, 400)], DELTA) <= epsilon


def test_no_noise_that_could_be_used_is_an_error():
    with pytest.raises(ValueError, match="no noise"):
        noise_for(1e-9, 1e-12, 1.0, 10**9)

"""Fixtures that many tests share; nothing clever."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from wardround.shared import plan

# No deadline: a busy machine is no fault of the code.
settings.register_profile("wardround", deadline=None, max_examples=50)
settings.load_profile("wardround")


@pytest.fixture
def repository() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def tiny_plan() -> plan.StudyPlan:
    """Return a valid plan of three sites, as small as the schema allows."""
    return plan.parse(
        {
            "study_id": "tiny",
            "sites": ["ada", "ben", "cai"],
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": 2, "batch_size": 2},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": 2,
                "steps": 2,
                "batch_size": 2,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 2},
            "compute": {"threads": 1},
        },
        origin="tests/conftest.py",
    )


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Hear Ctrl-C, and let processes that are started hear it, where a shell has switched it off.

    A shell without job control lets what it runs in the background ignore the signal.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

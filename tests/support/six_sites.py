"""A plan of six sites, as small as the schema allows, for tiny sites and for real networks."""

from wardround.shared import plan as plans

SITES = ["runmc", "bmc", "hk", "i2cvb", "ucl", "bidmc"]


def a_plan(steps: int = 2) -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "six",
            "sites": SITES,
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "segmenter": {"features": [4, 8], "steps": steps, "batch_size": 2},
            "denoiser": {
                "channels": [16, 16],
                "prompt_tokens": 2,
                "prompt_width": 8,
                "first_steps": steps,
                "steps": steps,
                "batch_size": 2,
                "timesteps": 10,
                "sampling_steps": 2,
            },
            "replay": {"samples_per_site": 2},
            "compute": {"threads": 1},
            "simulation": {"mock": 4},
        },
        origin="test",
    )

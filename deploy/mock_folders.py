"""Make the mock sites that a plan asks for, or find those that are there already."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from wardround.shared.errors import PlanError
from wardround.shared.plan import StudyPlan
from wardround.site_client.data.mock import write_mock_sites
from wardround.site_client.data.mock.habits import MOCK_SITES

MOCK_SEED = 0


def make(plan: StudyPlan, parent: Path, note: Callable[[str], None]) -> dict[str, Path]:
    """Return the folder of each site of a plan with `simulation.mock`.

    Args:
        plan: How many cases a site has, and how many of them are held out.
        parent: Folder that holds the mock sites, in one folder for each number of cases.
        note: Is told that they are being made.

    Raises:
        PlanError: The plan names a site that is no mock site.
    """
    known = [habits.site_id for habits in MOCK_SITES]
    unknown = [site for site in plan.sites if site not in known]
    if unknown:
        raise PlanError(
            f"simulation.mock makes the sites {', '.join(known)}; the plan also names "
            f"{', '.join(unknown)}. Use these names, or give real data."
        )
    num_cases, num_heldout = plan.simulation.mock or 0, plan.simulation.mock_heldout
    root = parent / (f"mock-{num_cases}" + (f"-{num_heldout}" if num_heldout is not None else ""))
    if not root.is_dir():
        note(f"making {len(MOCK_SITES)} mock sites with {num_cases} cases each")
        root.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and moved, so that a cut run leaves no half data set that looks whole.
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".making-") as draft:
            write_mock_sites(Path(draft) / "sites", num_cases, MOCK_SEED, num_heldout=num_heldout)
            try:
                (Path(draft) / "sites").rename(root)
            except OSError:
                if not root.is_dir():  # else another study of the comparison was quicker
                    raise
    return {site: root / site for site in plan.sites}

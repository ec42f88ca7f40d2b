"""Find the folder of each site's data on this machine; say where was looked when it is absent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.shared.errors import DataError
from wardround.shared.plan import StudyPlan

VARIABLE = "WARDROUND_DATA"
BESIDE = Path("shared") / "data"  # in the parent folder of where one works


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a study's data may lie.

    Attributes:
        study_dir: The folder of the study file; relative paths in the plan start here.
        data: The command's `--data`, if given: then nothing else is tried.
        variable: The value of `$WARDROUND_DATA`, if set.
        working_dir: The current folder.
    """

    study_dir: Path
    data: Path | None
    variable: str | None
    working_dir: Path

    def roots(self, data_root: str | None) -> tuple[Path, ...]:
        """Return the folders to look in for one folder per site, the likeliest first."""
        bases = self._bases()
        if data_root is None:
            return bases
        inside = tuple(base / data_root for base in bases)
        return (*inside, self.data) if self.data is not None else inside

    def _bases(self) -> tuple[Path, ...]:
        if self.data is not None:
            return (self.data,)
        bases = [self.study_dir]
        if self.variable:
            bases.append(Path(self.variable))
        bases += [self.working_dir.parent / BESIDE, self.study_dir.parent / BESIDE]
        return tuple(dict.fromkeys(bases))


def without_mock(plan: StudyPlan, places: Places) -> StudyPlan:
    """Return the plan as it is where `--data` was given: without mock sites.

    Reports show cases of mock sites, so a plan that keeps the mark would show real ones.
    """
    if places.data is None or plan.simulation.mock is None:
        return plan
    simulation = plan.simulation.model_copy(update={"mock": None})
    return plan.model_copy(update={"simulation": simulation})


def find(plan: StudyPlan, places: Places) -> dict[str, Path]:
    """Return the folder of each site.

    `simulation.data` names a site's folder outright; the others lie under the first place that has
    them all.

    Raises:
        DataError: A folder is not there; the message lists every place that was tried.
    """
    listed = plan.simulation.data
    unknown = sorted(listed.keys() - set(plan.sites))
    if unknown:
        raise DataError(
            f"simulation.data names {unknown}, which are not among the sites {list(plan.sites)}. "
            f"Use the ids of the sites."
        )
    named = {
        site: _named(places, text)
        for site, text in listed.items()
        if places.data is None or not Path(text).is_absolute()  # --data wins
    }
    missing = [f"site '{site}': '{path}'" for site, path in named.items() if not path.is_dir()]
    if missing:
        raise DataError(
            "simulation.data names folders that do not exist:\n  "
            + "\n  ".join(missing)
            + "\nCorrect the plan."
        )
    others = [site for site in plan.sites if site not in named]
    return {**_under_one_root(plan, others, places), **named}


def _named(places: Places, text: str) -> Path:
    candidates = [base / text for base in places.roots(None)]
    return next((path for path in candidates if path.is_dir()), candidates[0])


def _under_one_root(plan: StudyPlan, sites: Sequence[str], places: Places) -> Mapping[str, Path]:
    if not sites:
        return {}
    tried = []
    for root in places.roots(plan.simulation.data_root):
        folders = {site: root / site for site in sites}
        absent = [site for site, folder in folders.items() if not folder.is_dir()]
        if not absent:
            return folders
        why = f"no folder {', '.join(absent)}" if root.is_dir() else "no such folder"
        tried.append(f"{root}  ({why})")
    raise DataError(
        f"the data of study '{plan.study_id}' (sites {', '.join(sites)}) were not found. "
        "Looked in:\n  "
        + "\n  ".join(tried)
        + f"\nSet simulation.data_root in the plan, give --data DIR, or set {VARIABLE}."
    )

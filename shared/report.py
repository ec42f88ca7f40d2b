"""`report.json`: what one study ended with, in a form that programs can rely on.

The JSON Schema of this model is published as `docs/report.schema.json`; a change that an older
reader would stumble over raises `schema_version`. Everything but `timing` is a function of the plan
and the data: two runs with one seed give equal reports once `without_timing` has been applied.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from wardround.shared import continual_metrics, report_audit
from wardround.shared.errors import JournalError
from wardround.shared.formal_dp import note_of, promise_of
from wardround.shared.messages import EvaluationReport, VisitReport
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import KEEPS_REAL_CASES
from wardround.shared.report_surface import (
    Dice,
    Finite,
    Length,
    Part,
    SurfaceCell,
    Whole,
    clip,
    surface_of,
)

SCHEMA_ID = "https://wardround.example/report.schema.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_FIRST_VERSION = b'"schema_version": 1,'


class Summary(Part):
    """The figures of `wardround.shared.continual_metrics`; null where not defined."""

    average: Finite | None = Field(description="mean Dice over all sites after the last visit")
    bwt: Finite | None = Field(description="backward transfer: negative means forgetting")
    fwt: Finite | None = Field(description="forward transfer, against the starting model")
    forgetting: Finite | None = Field(description="mean fall from each site's best earlier score")
    unseen: Finite | None = Field(description="mean Dice over all cells not yet visited")
    memorizability: Finite | None = Field(description="mean Dice over the sites already left")
    generalizability: Finite | None = Field(
        description="mean over the visits of the mean Dice on sites not yet visited"
    )


class Curves(Part):
    """One value per visit, the starting model first; null where not defined."""

    average: tuple[Finite | None, ...] = Field(description="over all sites")
    seen: tuple[Finite | None, ...] = Field(description="over the sites visited so far")
    memorizability: tuple[Finite | None, ...] = Field(description="over the sites already left")
    generalizability: tuple[Finite | None, ...] = Field(description="over the sites still ahead")


class Audit(Part):
    """Whether generated images copy training images."""

    copies_found: Whole | None = Field(description="over all visits; null where no audit tells")
    note: str


class FormalDp(Part):
    """Differential privacy of what a visit made, for one case more or less."""

    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    delta: Annotated[float, Field(gt=0, lt=1)]


class VisitNumbers(Part):
    """What a visit reported about itself."""

    visit: Annotated[int, Field(ge=1)]
    site: str
    num_train: Whole | None = Field(description="training cases; null where suppressed")
    metrics: dict[str, Finite]
    formal_dp: FormalDp | None = Field(
        None,
        description="of the visit's prompt, or of all that left but scores, as `privacy` says; "
        "null where it has no such guarantee",
    )


class VisitTiming(Part):
    """Where the time of one visit went."""

    visit: Annotated[int, Field(ge=1)]
    site: str
    phases: dict[str, Length] = Field(description="seconds per phase")
    seconds: Length


class Timing(Part):
    """Seconds per visit and phase; the one part in which two equal runs differ."""

    visits: tuple[VisitTiming, ...]
    total: Length = Field(description="seconds, all visits together")
    wall: Length | None = Field(
        description="seconds the command ran, evaluations included; null where not known"
    )


class Traffic(Part):
    """Bytes between coordinator and site in one visit."""

    visit: Annotated[int, Field(ge=1)]
    site: str
    to_site: Whole
    from_site: Whole


class CheckpointDigest(Part):
    """The checkpoint that a visit left behind; visit 0 is the starting model."""

    visit: Whole
    digest: Digest


class Privacy(Part):
    """What the study promises, and what it does not."""

    formal_dp: str = Field(
        pattern="^(no|yes)",
        description="no, or yes with epsilon, delta and what they hold for; see "
        "visits[].formal_dp for each visit",
    )
    keeps_real_cases: bool = Field(description="the method hands real cases on: simulation only")
    note: str


class LeftOut(Part):
    """A site that makes no visit, or is asked for nothing any more."""

    site: str
    how: Literal["skipped", "withdrawn"] = Field(
        description="skipped: no visit, scores while it was there; withdrawn: nothing any more"
    )
    by: str | None = Field(description="the operator; null for the plan's absence policy")


class Report(Part):
    """The results of one study."""

    schema_version: Literal[2] = 2
    status: Literal["complete", "interrupted", "stopped"]
    study: str
    plan_digest: Digest
    method: str
    engine: str
    seed: Whole
    sites: tuple[str, ...] = Field(
        description="in the order of the sequence; those that make no visit come last"
    )
    left_out: tuple[LeftOut, ...]
    matrix: tuple[tuple[Dice | None, ...], ...] = Field(
        description="R[visit, site]: Dice on each site after each visit; row 0 the starting model; "
        "null where the site was not there to score it"
    )
    summary: Summary
    curves: Curves
    surface: tuple[SurfaceCell, ...]
    visits: tuple[VisitNumbers, ...]
    audit: Audit
    timing: Timing
    bytes: tuple[Traffic, ...]
    versions: dict[str, str]
    data_digests: dict[str, str] = Field(description="site -> SHA-256 over its held-out cases")
    checkpoints: tuple[CheckpointDigest, ...]
    plan: dict[str, Any] = Field(description="the canonical plan, defaults filled in")
    privacy: Privacy

    @property
    def num_planned(self) -> int:
        """Return how many visits the study has when it is complete."""
        visited = {visit.site for visit in self.visits}
        return len(self.sites) - len({out.site for out in self.left_out} - visited)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a report is made of.

    Attributes:
        plan: The study plan.
        status: Whether the study is complete, was stopped, or may go on.
        engine: How messages moved, such as "in-process".
        sites: The columns of the matrix, in the order of the sequence.
        num_rows: How many rows of the matrix are settled, the starting model's included.
        evaluations: Cells of the matrix in any order.
        visits: Reports of the committed visits, in order.
        checkpoints: Visit -> checkpoint digest; 0 is the starting model.
        traffic: Visit -> (bytes to the site, bytes from the site).
        versions: Package -> version.
        skipped: Site that makes no visit -> the operator, None for the absence policy.
        withdrawn: Site that is asked for nothing any more -> the operator.
        wall_seconds: How long the command ran, if known.
    """

    plan: StudyPlan
    status: Literal["complete", "interrupted", "stopped"]
    engine: str
    sites: Sequence[str]
    num_rows: int
    evaluations: Sequence[EvaluationReport]
    visits: Sequence[VisitReport]
    checkpoints: Mapping[int, str]
    traffic: Mapping[int, tuple[int, int]]
    versions: Mapping[str, str]
    skipped: Mapping[str, str | None] = field(default_factory=dict)
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    wall_seconds: float | None = None


def build(facts: Facts) -> Report:
    """Return the report of a study from what its journal says.

    Raises:
        JournalError: Not even the starting model has been scored at every site.
    """
    cells = {(e.visit, e.site_id): e for e in facts.evaluations}
    rows = [
        tuple(
            clip(cells[visit, site].dice) if (visit, site) in cells else None
            for site in facts.sites
        )
        for visit in range(facts.num_rows)
    ]
    if not rows:
        raise JournalError(
            f"study '{facts.plan.study_id}' has no full row of results yet: the starting model has "
            f"not been scored at every site. Run the study on with --resume, then ask again."
        )
    keeps = facts.plan.method.name in KEEPS_REAL_CASES
    return Report(
        status=facts.status,
        study=facts.plan.study_id,
        plan_digest=facts.plan.digest(),
        method=facts.plan.method.name,
        engine=facts.engine,
        seed=facts.plan.seed,
        sites=tuple(facts.sites),
        left_out=(
            *(LeftOut(site=site, how="skipped", by=by) for site, by in facts.skipped.items()),
            *(LeftOut(site=site, how="withdrawn", by=by) for site, by in facts.withdrawn.items()),
        ),
        matrix=tuple(rows),
        summary=Summary(**asdict(continual_metrics.summarise(rows))),
        curves=Curves(**asdict(continual_metrics.curves(rows))),
        surface=tuple(
            surface_of(cells[visit, site])
            for visit in range(len(rows))
            for site in facts.sites
            if (visit, site) in cells
        ),
        visits=tuple(_numbers(report) for report in facts.visits),
        audit=Audit(
            copies_found=report_audit.copies_of(facts.visits, facts.plan.audit.samples),
            note=report_audit.note_of(facts.visits),
        ),
        timing=_timing(facts.visits, facts.wall_seconds),
        bytes=_traffic(facts),
        versions=dict(sorted(facts.versions.items())),
        data_digests={e.site_id: e.data_digest for e in facts.evaluations},
        checkpoints=tuple(
            CheckpointDigest(visit=visit, digest=digest)
            for visit, digest in sorted(facts.checkpoints.items())
        ),
        plan=json.loads(facts.plan.canonical()),
        privacy=Privacy(
            formal_dp=promise_of(facts.plan), keeps_real_cases=keeps, note=note_of(facts.plan)
        ),
    )


def without_timing(report: Report) -> Report:
    """Return the report with its seconds removed: what two runs with one seed agree on."""
    return report.model_copy(update={"timing": Timing(visits=(), total=0.0, wall=None)})


def to_json(report: Report) -> str:
    """Return the report as indented JSON with a final line break; floats keep every digit."""
    return json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def read(path: Path) -> Report:
    """Return the report in a `report.json` file, also of schema version 1.

    Raises:
        JournalError: The file cannot be read or is no report of a known schema version.
    """
    try:
        content = path.read_bytes()
        if _FIRST_VERSION in content[:100]:
            # It knew no site that was left out, and is the same in all else.
            return Report.model_validate(
                {**json.loads(content), "schema_version": 2, "left_out": []}
            )
        return Report.model_validate_json(content)
    except OSError as error:
        raise JournalError(
            f"report '{path}' cannot be read: {error.strerror}. Name a study that ran."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(document)"
        raise JournalError(
            f"report '{path}' is not a report of schema version 2: '{where}': {first['msg']}. "
            f"Rebuild it from the study's journal with 'wardround report {path.parent}'."
        ) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that every `report.json` satisfies."""
    schema = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def _numbers(report: VisitReport) -> VisitNumbers:
    return VisitNumbers(
        visit=report.visit,
        site=report.site_id,
        num_train=report.num_train,
        metrics={metric.value: value for metric, value in report.metrics.items()},
        formal_dp=FormalDp(**asdict(report.guarantee)) if report.guarantee else None,
    )


def _timing(visits: Sequence[VisitReport], wall_seconds: float | None) -> Timing:
    rows = tuple(
        VisitTiming(
            visit=report.visit,
            site=report.site_id,
            phases={phase.value: seconds for phase, seconds in report.phase_seconds.items()},
            seconds=sum(report.phase_seconds.values()),
        )
        for report in visits
    )
    return Timing(visits=rows, total=sum(row.seconds for row in rows), wall=wall_seconds)


def _traffic(facts: Facts) -> tuple[Traffic, ...]:
    site_of = {report.visit: report.site_id for report in facts.visits}
    return tuple(
        Traffic(visit=visit, site=site_of[visit], to_site=to_site, from_site=from_site)
        for visit, (to_site, from_site) in sorted(facts.traffic.items())
        if visit in site_of
    )

"""What the coordinator's audit trail says of the journal: a signed line for every event.

The line follows the event. Where a crash came between the two, it is written when the study is
opened next; so is the whole trail of a study that an earlier release began. From then on no event
can be taken out of the journal, or changed, without the trail knowing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from wardround.server import events
from wardround.server.events import Event
from wardround.server.journal import Journal
from wardround.shared import codec
from wardround.shared.errors import TrailError
from wardround.shared.messages import Anchor, EvaluationReport, VisitReport
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import Fact, LineKind


class TrailOfJournal:
    """The trail of one study's journal.

    Args:
        trail: The coordinator's; made where it is missing.
        journal: Open for appending.

    Raises:
        TrailError: The trail is broken, or tells of another journal.
    """

    def __init__(self, trail: Trail, journal: Journal) -> None:
        self._trail, self._journal = trail, journal
        self._num_told = _num_told(trail, journal)
        self.catch_up()

    def head(self) -> Anchor:
        """Return what names the trail's last line."""
        return self._trail.head()

    def catch_up(self) -> None:
        """Write a line for every event that has none.

        Raises:
            TrailError: It cannot be written.
        """
        checks, happened = self._journal.checks, self._journal.events
        for number in range(self._num_told, len(happened)):
            facts = {"journal": number + 1, "check": checks[number], **facts_of(happened[number])}
            self._trail.append(LineKind.JOURNALLED, facts)
            self._num_told = number + 1


def facts_of(event: Event) -> Mapping[str, Fact]:
    """Return what a line says of an event: names, numbers and digests."""
    kind = type(event).__name__
    match event:
        case events.StudyCreated():
            return {
                "event": kind,
                "study": json.loads(event.plan)["study_id"],
                "plan": event.plan_digest,
                "checkpoint": event.genesis.digest,
                "engine": event.engine,
            }
        case events.VisitCommitted():
            return {
                "event": kind,
                "checkpoint": event.checkpoint.digest,
                **_report_facts(event.report),
            }
        case events.SiteEvaluated():
            return {
                "event": kind,
                "checkpoint": event.report.checkpoint_digest,
                **_report_facts(event.report),
            }
        case _:
            return {"event": kind, **asdict(event)}


def _report_facts(report: VisitReport | EvaluationReport) -> Mapping[str, Fact]:
    anchor = report.trail
    return {
        "visit": report.visit,
        "site_id": report.site_id,
        # The bytes as they arrived: a message has one spelling.
        "report": hashlib.sha256(codec.encode(report)).hexdigest(),
        "anchor": None if anchor is None else [anchor.seq, anchor.digest],
    }


def _num_told(trail: Trail, journal: Journal) -> int:
    trail.head()  # opens a trail that is missing
    told = [line for line in trail.lines() if line.kind == LineKind.JOURNALLED]
    checks = journal.checks
    for line in told:
        number = line.facts["journal"]
        if number > len(checks) or line.facts["check"] != checks[number - 1]:
            raise TrailError(
                f"line {line.seq} of the audit trail in '{trail.folder}' tells of another event "
                f"{number} than journal '{journal.path}' holds, which has {len(checks)}. The "
                f"journal was changed or cut off; restore it from a copy."
            )
    return len(told)

"""From the lines of a site's trail to one dossier per study and visit; pure.

A line belongs to the plan that it names, else to that of the order taken last, and to the visit
that it names. No release is left out: what names no visit is in the dossier of none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wardround.deploy.dossier.model import (
    Approval,
    Charge,
    Dossier,
    KeptIn,
    Left,
    Order,
    Probe,
    Totals,
    TrailHead,
    Verdict,
)
from wardround.shared.formal_dp import coverage_of
from wardround.shared.trail_lines import Line, LineKind, Reading

_PART = "part "
_PROGRESS = "Progress"
_CONTEXT = (LineKind.OPENED, LineKind.APPROVED, LineKind.REVOKED, LineKind.PROBED)
_Key = tuple[str, str, int | None]  # study, plan digest, visit


def gather(reading: Reading, policy: Mapping[str, Any]) -> tuple[Dossier, ...]:
    """Return the dossiers of a site, in the order of the first line of each.

    Args:
        reading: The site's whole trail, without a fault.
        policy: The site's policy as plain values.
    """
    lines = reading.lines
    studies = {
        str(line.facts["plan"]): str(line.facts["study"])
        for line in lines
        if "plan" in line.facts and "study" in line.facts
    }
    by_key: dict[_Key, list[Line]] = {}
    current = ""
    for line in lines:
        named = str(line.facts.get("plan", ""))
        if line.kind == LineKind.ORDERED or not current:
            current = named
        if line.kind not in _CONTEXT:
            plan = named or current
            key = (studies.get(plan, ""), plan, line.facts.get("visit"))
            by_key.setdefault(key, []).append(line)
    opened = lines[0].facts if lines else {}
    trail = TrailHead(
        holder=str(opened.get("holder", "")),
        public_key=str(opened.get("public_key", "")),
        lines=len(lines),
        head=reading.head.digest,
    )
    return tuple(
        _dossier(key, own, lines, trail=trail, policy=policy) for key, own in by_key.items()
    )


def _dossier(
    key: _Key,
    own: Sequence[Line],
    lines: Sequence[Line],
    *,
    trail: TrailHead,
    policy: Mapping[str, Any],
) -> Dossier:
    study, plan, visit = key
    last = own[-1].seq
    left = _left(own)
    charges = tuple(_charge(line) for line in own if line.kind == LineKind.SPENT)
    known = {LineKind.ORDERED, LineKind.RELEASED, LineKind.REFUSED, LineKind.SPENT}
    return Dossier(
        study=study,
        plan_digest=plan,
        visit=visit,
        trail=trail,
        formal_dp=_formal_dp(charges),
        orders=tuple(_order(line) for line in own if line.kind == LineKind.ORDERED),
        left=left,
        totals=_totals(left),
        kept_in=tuple(
            KeptIn(
                line=line.seq,
                at=line.at,
                what=str(line.facts.get("what", "")),
                why=str(line.facts.get("why", "")),
            )
            for line in own
            if line.kind == LineKind.REFUSED
        ),
        verdicts=tuple(
            Verdict(line=line.seq, at=line.at, kind=line.kind, facts=dict(line.facts))
            for line in own
            if line.kind not in known
        ),
        charges=charges,
        approvals=tuple(
            Approval(
                line=line.seq,
                at=line.at,
                is_approved=line.kind == LineKind.APPROVED,
                by=str(line.facts["by"]),
            )
            for line in lines[:last]
            if line.kind in (LineKind.APPROVED, LineKind.REVOKED) and line.facts["plan"] == plan
        ),
        probes=tuple(
            Probe(
                line=line.seq,
                at=line.at,
                network=str(line.facts["network"]),
                reached=tuple(map(str, line.facts["reached"])),
            )
            for line in lines[:last]
            if line.kind == LineKind.PROBED
        ),
        policy=dict(policy),
    )


def _order(line: Line) -> Order:
    anchor = line.facts.get("anchor")
    return Order(
        line=line.seq,
        at=line.at,
        what=str(line.facts["what"]),
        checkpoint=str(line.facts["checkpoint"]),
        coordinator_line=anchor[0] if anchor else None,
    )


def _left(own: Sequence[Line]) -> tuple[Left, ...]:
    seen: set[tuple[str, str]] = set()
    left = []
    for line in own:
        if line.kind == LineKind.RELEASED:
            what, digest = str(line.facts["what"]), str(line.facts["digest"])
            left.append(
                Left(
                    line=line.seq,
                    at=line.at,
                    what=what,
                    size_bytes=line.facts["size_bytes"],
                    digest=digest,
                    is_repeat=(what, digest) in seen,
                )
            )
            seen.add((what, digest))
    return tuple(left)


def _totals(left: Sequence[Left]) -> Totals:
    first = [one for one in left if not one.is_repeat]
    parts = [one.size_bytes for one in first if one.what.startswith(_PART)]
    progress = [one.size_bytes for one in first if one.what == _PROGRESS]
    said = [
        one.size_bytes for one in first if one.what != _PROGRESS and not one.what.startswith(_PART)
    ]
    return Totals(
        parts=len(parts),
        part_bytes=sum(parts),
        messages=len(said),
        message_bytes=sum(said),
        progress_messages=len(progress),
        progress_bytes=sum(progress),
    )


def _charge(line: Line) -> Charge:
    names = set(Charge.model_fields) - {"line", "at"}
    told = {name: line.facts[name] for name in names if name in line.facts}
    return Charge(line=line.seq, at=line.at, **told)


def _formal_dp(charges: Sequence[Charge]) -> str:
    if not charges:
        return "no"
    last = charges[-1]
    covered, others = coverage_of(last.segmenter)
    return f"yes (epsilon {last.epsilon:.4g}, delta {last.delta:g}) for {covered}; no for {others}"

"""What a dossier holds; its JSON Schema is published as `docs/dossier.schema.json`."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_ID = "https://wardround.example/dossier.schema.json"

Whole = Annotated[int, Field(ge=0)]
Line = Annotated[int, Field(ge=1, description="number of the line of the trail that says so")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Told(_Part):
    """What one line of the trail tells."""

    line: Line
    at: str = Field(description="when the line was written: ISO 8601, UTC")


class Order(_Told):
    """An order that the site took."""

    what: str = Field(description="visit or evaluation")
    checkpoint: str = Field(description="digest of the checkpoint that it is about")
    coordinator_line: Whole | None = Field(
        description="line of the coordinator's trail that it was sent under; null: not told"
    )


class Left(_Told):
    """One release of the egress guard."""

    what: str = Field(description="'part NAME' for a file of the checkpoint, else a message")
    size_bytes: Whole
    digest: str = Field(description="SHA-256 of the bytes that left")
    is_repeat: bool = Field(description="the same bytes were released before in this visit")


class KeptIn(_Told):
    """Something that the egress guard refused, or an order that it did not take."""

    what: str
    why: str = Field(description="class of the error")


class Totals(_Part):
    """Sums over what left, repeats left out."""

    parts: Whole
    part_bytes: Whole
    messages: Whole = Field(description="reports and announcements, without progress")
    message_bytes: Whole
    progress_messages: Whole
    progress_bytes: Whole


class Charge(_Told):
    """What a prompt that left cost of the site's privacy budget."""

    epsilon: float
    delta: float
    total_epsilon: float = Field(description="of all prompts up to this one, at that delta")
    budget: float
    noise_multiplier: float
    sampling_rate: float
    steps: Whole
    prompt: str = Field(description="digest of the prompt's file")
    segmenter: str = Field(
        "cases", description="what the segmenter trained on; 'drawn': the guarantee covers it too"
    )


class Approval(_Told):
    """The site's staff approved the plan, or ended the approval."""

    is_approved: bool
    by: str


class Probe(_Told):
    """What the site's machine could reach besides the coordinator, when it was started."""

    network: str
    reached: tuple[str, ...]


class Verdict(_Told):
    """Any other line about the visit, such as a verdict of an audit."""

    kind: str
    facts: dict[str, Any]


class TrailHead(_Part):
    """The trail that the dossier was made from; every line of it was checked."""

    holder: str
    public_key: str
    lines: Whole
    head: Digest


class Dossier(_Part):
    """Everything that left a site in one visit, and in scoring the checkpoint that it made."""

    schema_version: Literal[1] = 1
    study: str
    plan_digest: str
    visit: Whole | None = Field(
        description="0: scoring the starting model; null: what was said outside any order"
    )
    trail: TrailHead
    formal_dp: str = Field(
        pattern="^(no|yes)", description="of the prompt that left; nothing else ever has it"
    )
    orders: tuple[Order, ...]
    left: tuple[Left, ...]
    totals: Totals
    kept_in: tuple[KeptIn, ...]
    verdicts: tuple[Verdict, ...]
    charges: tuple[Charge, ...]
    approvals: tuple[Approval, ...]
    probes: tuple[Probe, ...]
    policy: dict[str, Any] = Field(description="the site's, as it is when the dossier is made")


def to_json(dossier: Dossier) -> str:
    """Return a dossier as indented JSON with a final line break."""
    return json.dumps(dossier.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that every dossier satisfies."""
    schema = Dossier.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}

"""Every message between a site and the coordinator, as frozen values.

`wardround.shared.codec` turns them into bytes of the wire contract and back; nothing else does.
What leaves a site is one of: Progress, VisitReport, EvaluationReport, CheckpointUpload, Refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a site is doing, in the order of a visit."""

    FETCH = "fetch"
    EVALUATE_PARENT = "evaluate-parent"
    REPLAY = "replay"
    SEGMENTER = "segmenter"
    TRIM = "trim"
    DENOISER = "denoiser"
    AUDIT = "audit"
    EVALUATE = "evaluate"
    RELEASE = "release"


class Metric(Enum):
    """Every number that a visit report may carry; anything else is refused."""

    DICE_BEFORE = "dice_before"  # [0, 1], own held-out cases, checkpoint as it arrived
    DICE_AFTER = "dice_after"  # [0, 1], own held-out cases, checkpoint as it leaves
    SEGMENTER_LOSS = "segmenter_loss"  # mean of the last tenth of the steps
    DENOISER_LOSS = "denoiser_loss"  # mean of the last tenth of the steps
    GRADIENT_COSINE_FIRST = "gradient_cosine_first"  # [-1, 1], incoming against replay, first tenth
    GRADIENT_COSINE_LAST = "gradient_cosine_last"  # [-1, 1], last tenth
    REPLAYED_PAIRS = "replayed_pairs"  # count
    REPLAY_AGREEMENT = "replay_agreement"  # [0, 1], Dice of drawn labels and the arriving segmenter
    # What the memorisation audit found in the denoiser that left; a bound holds with 95 %.
    AUDIT_TELLS = "audit_tells"  # 1; 0 where the site has too few cases to tell, and the rest lacks
    AUDIT_RETRAININGS = "audit_retrainings"  # count: how often an earlier denoiser did not pass
    COPY_RATE = "copy_rate"  # [0, 1], of pairs drawn under the own prompt, compared in pixels
    COPY_RATE_AT_LEAST = "copy_rate_at_least"
    COPY_RATE_AT_MOST = "copy_rate_at_most"
    FEATURE_COPY_RATE = "feature_copy_rate"  # [0, 1], the same in the segmenter's features
    FEATURE_COPY_RATE_AT_LEAST = "feature_copy_rate_at_least"
    FEATURE_COPY_RATE_AT_MOST = "feature_copy_rate_at_most"
    SAME_CASE_SHARE = "same_case_share"  # [0, 1], of drawn pairs with one case as their nearest
    MEMBERSHIP_AUC = "membership_auc"  # [0, 1], training cases told from others by their loss
    MEMBERSHIP_AUC_AT_LEAST = "membership_auc_at_least"
    MEMBERSHIP_AUC_AT_MOST = "membership_auc_at_most"
    DECODER_SIZE_SHARE = "decoder_size_share"  # [0, 1], weights of the decoder / of a full one


class RefusalReason(Enum):
    """Why a site carries out no order of a plan."""

    NOT_APPROVED = "not-approved"  # its staff did not approve the plan, or no longer do
    BUDGET_SPENT = "budget-spent"  # its privacy budget is spent
    POLICY = "policy"  # its own policy stands against it
    AUDIT_FAILED = "audit-failed"  # its memorisation audit let nothing of a visit leave


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and dtype of one tensor; dtype as safetensors spells it ("F32", "BF16")."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRef:
    """One safetensors file of a checkpoint: name ("segmenter", "prompt.runmc"), SHA-256, size."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """A checkpoint: its parts in name order. `checkpoint.digest_of(parts)` gives the digest."""

    digest: str
    parts: tuple[PartRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The head of an audit trail: the number of its last line and the SHA-256 of that line."""

    seq: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitOrder:
    """Coordinator to site: make visit `visit` (from 1) starting from `parent`."""

    study_id: str
    plan_digest: str
    visit: int
    site_id: str
    parent: CheckpointRef
    visited: tuple[str, ...]  # sites already visited, in lineage order
    withdrawn: tuple[str, ...] = ()  # sites whose data nothing may be made from any more


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOrder:
    """Coordinator to site: score `checkpoint`, which visit `visit` made (0: the starting model)."""

    study_id: str
    plan_digest: str
    visit: int
    site_id: str
    checkpoint: CheckpointRef
    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Site to coordinator: where it is. `step` of `total` within the phase."""

    visit: int
    site_id: str
    phase: Phase
    step: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Site to coordinator: it carries out no order of a plan."""

    site_id: str
    plan_digest: str
    reason: RefusalReason


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointUpload:
    """Site to coordinator: announces the parts that follow as chunks."""

    visit: int
    site_id: str
    checkpoint: CheckpointRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """(epsilon, delta) differential privacy of a prompt, for one case more or less."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitReport:
    """Site to coordinator: what a visit did, in numbers."""

    visit: int
    site_id: str
    num_train: int | None  # None where suppressed (below the plan's min_count)
    metrics: Mapping[Metric, float]
    phase_seconds: Mapping[Phase, float]
    trail: Anchor | None = None  # the egress guard puts it in
    guarantee: Guarantee | None = None  # likewise; None: the prompt has none


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """Means over the held-out cases of one site for one class.

    Surface distances are means over the cases where they are defined (both masks non-empty); None
    where no case is. `num_undefined` counts the others; None where suppressed.
    """

    class_name: str
    dice: float
    hd95_mm: float | None
    asd_mm: float | None
    num_undefined: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Site to coordinator: one cell of the results matrix."""

    visit: int
    site_id: str
    checkpoint_digest: str
    num_cases: int | None  # None where suppressed
    classes: tuple[ClassScore, ...]
    data_digest: str  # SHA-256 over the site's held-out cases, keyed by the plan digest
    trail: Anchor | None = None  # the egress guard puts it in
    folds: float | None = None  # [0, 1], share of the image that is folded; None: not deformed
    tre_mm: float | None = None  # target registration error; None: no key points

    @property
    def dice(self) -> float:
        """Return the mean Dice over the classes, in [0, 1]."""
        return sum(score.dice for score in self.classes) / len(self.classes)

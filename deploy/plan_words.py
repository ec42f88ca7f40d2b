"""A study plan in plain words: what a site's staff read before they approve it."""

import textwrap
from collections.abc import Sequence
from math import prod

from wardround.shared.checkpoint import ITEM_BYTES, Manifest
from wardround.shared.formal_dp import covers_segmenter, guarantee_of, promise_of
from wardround.shared.messages import TensorSpec
from wardround.shared.plan import StudyPlan

_WIDTH = 100


def write(plan: StudyPlan) -> str:
    """Return what a plan asks of each of its sites, section by section."""
    from wardround.site_client.learning.genesis import make_genesis  # loads torch

    manifest = make_genesis(plan).manifest
    sections = {
        f"Study {plan.study_id}": _study(plan),
        "What is trained here, on what": _training(plan, manifest),
        "What leaves this site": _leaving(plan, manifest),
        "How often": _often(plan),
        "Who sees it": _seen(plan),
        "What protects patients, and what does not": _protection(plan, manifest),
    }
    lines = []
    for heading, facts in sections.items():
        lines.append(heading)
        for fact in facts:
            lines += textwrap.wrap(fact, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
        lines.append("")
    return "\n".join([*lines, f"digest {plan.digest()}"]) + "\n"


def _study(plan: StudyPlan) -> list[str]:
    late = "may join later" if plan.late_sites else "cannot join"
    sites, classes = ", ".join(plan.sites), ", ".join(plan.task.classes)
    size = " x ".join(map(str, plan.task.working_size))
    return [
        f"{len(plan.sites)} site(s), visited in this order at first: {sites}. Others {late}.",
        f"The task: find {classes} in images of {size} ({plan.task.dims}).",
        f"The method: {plan.method.name}.",
    ]


def _training(plan: StudyPlan, manifest: Manifest) -> list[str]:
    own = "this site's own training cases"
    if covers_segmenter(plan, plan.sites):
        own += " if it is the first, else images generated under its own prompt alone,"
    facts = [
        f"A segmenter, {plan.segmenter.steps} steps on {own}"
        + (" and on images generated for earlier sites." if manifest.prompt else "."),
    ]
    if manifest.decoder:
        facts.append(
            f"Of it a decoder of this site's own, and narrower ones, at most "
            f"{plan.trimming_steps} steps; one of these leaves. The encoder is trained at the "
            f"first site alone."
        )
    if manifest.prompt:
        steps = max(plan.denoiser.first_steps, plan.denoiser.steps)
        facts.append(
            f"A denoiser, at most {steps} steps, and a prompt of this site's own: together they "
            f"learn to draw images that look like this site's."
        )
    facts.append("Held-out cases are used for scores alone. No code arrives; a plan is data.")
    return facts


def _leaving(plan: StudyPlan, manifest: Manifest) -> list[str]:
    facts = ["No image, label map, file name or case identifier."]
    parts = {name: _size(specs) for name, specs in manifest.parts.items()}
    parts |= {
        "prompt": _size(manifest.prompt),
        "labeller": _size(manifest.labeller),
        "decoder (at most)": max(map(_size, manifest.decoder), default=0),
    }
    facts.append(
        "Weights, after each visit: "
        + ", ".join(f"{name} {size:,} bytes" for name, size in parts.items() if size)
        + f"; {sum(parts.values()):,} bytes in all, never more than {plan.release.byte_budget:,}."
    )
    if manifest.decoder:
        facts.append(
            "With the decoder, what this site's images are like: mean and variance of what the "
            "encoder makes of them, one of each a channel."
        )
    facts.append(
        f"Numbers: scores, losses, durations, progress, case counts. Counts below "
        f"{plan.release.min_count} stay here."
    )
    return facts


def _often(plan: StudyPlan) -> list[str]:
    scores = f"Scores {len(plan.sites) + 1} times: before the first visit and after each site's"
    return ["Weights once, when it is this site's turn.", f"{scores}; less if sites are left out."]


def _seen(plan: StudyPlan) -> list[str]:
    return [
        "The coordinator stores weights and numbers, and passes the weights on.",
        f"Sites that are visited later receive the weights: of those named, {len(plan.sites) - 1}.",
        "The study's operators see the numbers.",
    ]


def _protection(plan: StudyPlan, manifest: Manifest) -> list[str]:
    from wardround.site_client.learning.methods import find_method

    promise = promise_of(plan)
    facts = [
        f"Formal DP: {promise}. Who holds the weights may try to tell who was among the cases."
    ]
    if guarantee_of(plan, plan.sites):
        facts += _dp(plan)
    if manifest.prompt:
        facts.append(
            "Images are generated from denoiser and prompt, at sites visited later. They may "
            "resemble training images."
        )
        facts.append(_audit(plan))
    if find_method(plan.method.name).keeps_real_cases:
        facts.append(
            f"The method '{plan.method.name}' BREAKS the rule that no image leaves a site: it "
            f"hands real cases on. It runs in a simulation alone, and no site can approve it."
        )
    return facts


def _dp(plan: StudyPlan) -> list[str]:
    privacy = plan.privacy
    noise = privacy.spending(plan.denoiser.steps).noise_multiplier
    how = (
        f"Protected is a case (one image with its label), not a patient who has several. Each step "
        f"takes each case with probability {privacy.sampling_rate:g}, clips what it gives to "
        f"{privacy.max_grad_norm:g} and adds noise of {noise:g} times that, drawn from a secret "
        f"that stays here."
    )
    budget = (
        f"Prompts of this site may add up to epsilon {privacy.epsilon_budget:g}; a visit that "
        f"would exceed it is refused before anything is trained. The site's policy can lower that."
    )
    first = (
        f"The first site of the sequence, {plan.sites[0]}, trains the denoiser itself: nothing "
        f"that leaves it has a guarantee. Let it be one whose cases are public."
    )
    drawn = (
        "Segmenters train on pairs drawn under the site's own prompt, not on its cases, but for "
        "the first site's: so the guarantee covers them too."
    )
    return [how, budget, first, *([drawn] if covers_segmenter(plan, plan.sites) else [])]


def _audit(plan: StudyPlan) -> str:
    audit = plan.audit
    if not audit.samples:
        return "They are NOT audited before they leave (audit.samples = 0)."
    untold = "leave" if audit.few_cases == "release" else "do not leave"
    membership = (
        "is reported alone"
        if audit.max_membership_auc == 1
        else f"may not be told with an AUC above {audit.max_membership_auc:g}"
    )
    return (
        f"Before they leave, {audit.samples} generated images are compared with this site's "
        f"cases: they leave unless more than {audit.max_copy_rate:.0%} are certainly copies. Who "
        f"was among the training cases {membership}. With too few cases to tell they {untold}."
    )


def _size(specs: Sequence[TensorSpec]) -> int:
    return sum(prod(spec.shape) * ITEM_BYTES[spec.dtype] for spec in specs)

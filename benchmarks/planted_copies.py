"""Does the memorisation audit stop planted copies, and let honest visits pass?

Works on finished studies. A *planted* trial takes what a visit left, trains denoiser and prompt
on for a few steps with one of the site's training cases as the only one (any case, any seed), and
audits that. An *honest* trial audits what the visit left, with draws of its own and, where the site
has more than ten held-out cases, with another random ten of them to judge by. Trials share the
trainings of the studies: what differs is the case, the draws, the held-out cases.

    python benchmarks/planted_copies.py out/smd/seed-0 --data out/data/mock-70-40
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from audited_study import VisitMade, visits_of

from wardround.site_client.learning.diffusion import train_denoiser
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.segmenter import build_segmenter
from wardround.site_client.learning.weights import fill_network
from wardround.site_client.privacy.memorisation import Findings, Limits, Verdict, judge, look

HELDOUT = 10


def main() -> None:
    """Print every trial, then both rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", type=Path, help="folders of finished studies")
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a site")
    parser.add_argument("--planted", type=int, default=100, help="trials (100)")
    parser.add_argument("--honest", type=int, default=100, help="trials (100)")
    parser.add_argument("--steps", type=int, default=60, help="of training on the one case (60)")
    parser.add_argument("--frozen", action="store_true", help="train the prompt alone on it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    visits = [visit for study in given.studies for visit in visits_of(study, given.data)]
    passed = sum(_trial(visits, number, 0, given.frozen) for number in range(given.honest))
    caught = sum(
        not _trial(visits, number, given.steps, given.frozen) for number in range(given.planted)
    )
    print(f"honest visits that pass: {passed} of {given.honest}")
    print(f"planted copies that are caught: {caught} of {given.planted}")


def _trial(visits: list[VisitMade], number: int, steps: int, frozen: bool) -> bool:
    """Return whether the audit lets this trial pass; 0 `steps` plant nothing."""
    start_s = time.process_time()
    visit, generator = visits[number % len(visits)], torch.Generator().manual_seed(number)
    denoiser, prompt_PW = visit.denoiser(), visit.prompt_PW
    if steps:
        index = int(torch.randint(len(visit.data.train), (1,), generator=generator))
        denoiser.requires_grad_(True)
        settings = visit.plan.denoiser.model_copy(update={"first_steps": steps})
        if frozen:
            settings = settings.model_copy(update={"learning_rate": 1e-30})
        denoiser, prompt_PW, _ = train_denoiser(
            denoiser,
            prompt_PW,
            own=case_pool([visit.data.train[index]], visit.plan.task),
            earlier=[],
            plan=visit.plan.model_copy(update={"denoiser": settings}),
            generator=generator,
            watch=lambda _step, _steps: None,
        )
    segmenter = build_segmenter(visit.plan.task, visit.plan.segmenter, seed=0)
    kept = torch.randperm(len(visit.data.heldout), generator=generator)[:HELDOUT].sort().values
    findings = look(
        denoiser,
        prompt_PW,
        fill_network(segmenter, visit.parts["segmenter"]),
        data=replace(visit.data, heldout=tuple(visit.data.heldout[n] for n in kept.tolist())),
        plan=visit.plan,
        generator=generator,
    )
    passes = judge(findings, _limits(visit)) is Verdict.RELEASE
    kind = "planted" if steps else "honest"
    print(
        f"{kind} {number} {visit.site_id}: {'passes' if passes else 'stopped'}, "
        f"{_text(findings)}, {time.process_time() - start_s:.1f} s",
        flush=True,
    )
    return passes


def _limits(visit: VisitMade) -> Limits:
    audit = visit.plan.audit
    return Limits(
        max_copy_rate=audit.max_copy_rate,
        max_membership_auc=audit.max_membership_auc,
        may_release_untold=True,
    )


def _text(found: Findings) -> str:
    return (
        f"copies {found.copies.value:.2f} in pixels, {found.feature_copies.value:.2f} in features, "
        f"same case {found.same_case.value:.2f}, AUC {found.membership.value:.2f}"
    )


if __name__ == "__main__":
    main()

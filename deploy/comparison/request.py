"""What a comparison is asked for, and the studies that this makes; nothing is run here."""

import random
from dataclasses import dataclass
from pathlib import Path

from wardround.shared import seeds
from wardround.shared.errors import UsageError
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to compare.

    Attributes:
        study: The study file that the children read.
        plan: The same, loaded with `overrides`.
        methods: Their names.
        against: The one of them that each other is paired with; None for no paired tests.
        num_seeds: How many seeds, from the plan's on.
        num_orders: How many site orders: the plan's, its reverse, then drawn ones.
        overrides: KEY=VALUE for every study.
        data: The command's `--data`.
        out: Folder of the comparison.
        jobs: Studies at a time.
    """

    study: Path
    plan: StudyPlan
    methods: tuple[str, ...]
    against: str | None
    num_seeds: int
    num_orders: int
    overrides: tuple[str, ...]
    data: Path | None
    out: Path
    jobs: int

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(self.plan.seed + n for n in range(self.num_seeds))

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """Return the orders, without repetition, so fewer where there are no more."""
        sites = self.plan.sites
        orders = dict.fromkeys([sites, sites[::-1]][: self.num_orders])
        for attempt in range(50 * self.num_orders):
            if len(orders) == self.num_orders:
                break
            drawn = list(sites)
            # The standard library's shuffle is stable across its releases for one seed.
            random.Random(seeds.derive(self.plan.seed, "order", attempt)).shuffle(drawn)  # noqa: S311
            orders[tuple(drawn)] = None
        return tuple(orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study of a comparison."""

    method: str
    seed: int
    order: tuple[str, ...]
    folder: Path


def studies_of(request: Request) -> list[Study]:
    """Return every study, those of one order together."""
    orders = request.orders
    studies = []
    for number, order in enumerate(orders, start=1):
        for method in request.methods:
            for seed in request.seeds:
                folder = request.out / method / f"seed-{seed}"
                if len(orders) > 1:
                    folder /= f"order-{number}"
                studies.append(Study(method=method, seed=seed, order=order, folder=folder))
    return studies


def check(request: Request) -> None:
    """Check the names of the methods.

    Raises:
        UsageError: One is not known, none is named, or the reference is not among them.
    """
    known = Method.model_fields["name"].annotation.__args__  # type: ignore[union-attr]
    unknown = [method for method in request.methods if method not in known]
    if unknown or not request.methods:
        raise UsageError(
            f"--methods: {', '.join(unknown) or 'nothing'} is not known. "
            f"Choose from {', '.join(known)}, separated by commas."
        )
    if request.against is not None and request.against not in request.methods:
        raise UsageError(
            f"--against: '{request.against}' is not among the methods that are run. "
            f"Choose from {', '.join(request.methods)}, or add it to --methods."
        )

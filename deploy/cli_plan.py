"""`wardround plan`: write a plan for data on this disk, check, show, approve one."""

from pathlib import Path
from typing import Annotated

import typer

from wardround.deploy.cli_options import STUDIES, Dims, find_study
from wardround.shared import plan as plans
from wardround.shared.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Write a study plan for data on this disk; check, show, approve one.",
    rich_markup_mode="markdown",
)


@app.command()
def new(
    data_root: Annotated[
        Path, typer.Argument(help="Folder with one folder per site, or one site's own folder.")
    ],
    out: Annotated[Path, typer.Option(help="The plan to write; must not exist.")],
    dims: Annotated[
        Dims | None,
        typer.Option(help="2d, 2.5d or 3d; chosen from the data if left out.", show_default=False),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Pixels per side of the working grid, a multiple of 8.", show_default=False
        ),
    ] = None,
) -> None:
    """Look at the sites' folders and write a commented plan that fits them.

    DATA_ROOT is a folder with one folder per site, or one site's own folder. A site's files lie as
    in nnU-Net v2 (dataset.json, imagesTr, labelsTr), as in the Medical Segmentation Decathlon, or
    as plain images/ and labels/ with matching names.

    Dimensions, channels, classes and grid come from the files; everything else is a default with
    its meaning beside it. Works for PNG and NIfTI, 2-D and 3-D, one class or several.

    Try:

    `wardround plan new data/hospitals --out study.toml`

    `wardround plan new data/cardiac --dims 3d --out cardiac.toml`
    """
    from wardround.deploy import new_plan

    if out.exists():
        raise UsageError(f"'{out}' exists already. Name another file with --out.")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"the folder of '{out}' does not exist. Make it first.")
    sites = new_plan.look(data_root)
    text = new_plan.propose(sites, out, dims=dims.value if dims else None, side=size)
    out.write_text(text, encoding="utf-8")
    plan = plans.load(out)
    print(f"{out}: {_describe(plan)}")
    print(f"next: wardround simulate {out} --out out/{plan.study_id}")


@app.command()
def check(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for `simulate`.", show_default=False),
    ] = None,
) -> None:
    """Check a plan: every key known, every value allowed. Ends with status 3 if not.

    Prints the plan's digest, which is what a site approves.

    Try:

    `wardround plan check study.toml`
    """
    plan = _load(study, overrides)
    print(f"{study}: sound. {_describe(plan)}")
    print(f"digest {plan.digest()}")


@app.command()
def show(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for `simulate`.", show_default=False),
    ] = None,
    as_plan: Annotated[
        bool,
        typer.Option("--toml", help="As a plan instead, every default filled in and explained."),
    ] = False,
) -> None:
    """Say in plain words what a plan asks of a site: what is trained, what leaves, how much.

    This is what a site's staff read before they approve it.

    Try:

    `wardround plan show demo`

    `wardround plan show study.toml --toml --set method.name=finetune > finetune.toml`
    """
    from wardround.deploy import plan_text, plan_words

    plan = _load(study, overrides)
    print(plan_text.write(plan) if as_plan else plan_words.write(plan), end="")


@app.command()
def approve(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    name: Annotated[str, typer.Option("--site", help="This site's name in the plan.")],
    workspace: Annotated[Path, typer.Option(help="The site's folder, as for `site start`.")],
    by: Annotated[str, typer.Option(help="Who of the site's staff approves it.")],
) -> None:
    """Approve a plan at a site: from now on the site works for it, and for no other.

    Writes who, when and the plan's digest into the site's audit trail, signed with the site's key.
    Any change of the plan gives another digest, which needs another approval.

    Try:

    `wardround plan approve study.toml --site utrecht --workspace work --by "A. de Vries"`
    """
    from wardround.deploy.own_site import approved_plan, trail_of
    from wardround.site_client.privacy import approval

    plan = approved_plan(find_study(study), name)
    approval.approve(trail_of(name, workspace), plan, by)
    print(f"site {name} works for study {plan.study_id}, plan {plan.digest()}")


@app.command()
def revoke(
    study: Annotated[str, typer.Argument(metavar="STUDY.toml", help="The plan.")],
    name: Annotated[str, typer.Option("--site", help="This site's name in the plan.")],
    workspace: Annotated[Path, typer.Option(help="The site's folder, as for `site start`.")],
    by: Annotated[str, typer.Option(help="Who of the site's staff revokes it.")],
) -> None:
    """End the approval of a plan at a site: it carries out no further order, even where it runs.

    What left before stays where it is; ask the study's operator to withdraw the site.

    Try:

    `wardround plan revoke study.toml --site utrecht --workspace work --by "A. de Vries"`
    """
    from wardround.deploy.own_site import approved_plan, trail_of
    from wardround.site_client.privacy import approval

    plan = approved_plan(find_study(study), name)
    approval.revoke(trail_of(name, workspace), plan, by)
    print(f"site {name} works for study {plan.study_id} no longer, plan {plan.digest()}")


@app.command("list")
def list_studies() -> None:
    """List the packaged studies, whose names can stand for a file everywhere.

    Try:

    `wardround plan list`
    """
    for path in sorted(STUDIES.glob("*.toml")):
        print(f"{path.stem:<22}{_describe(plans.load(path))}")


def _load(study: str, overrides: list[str] | None) -> plans.StudyPlan:
    return plans.load(find_study(study), tuple(overrides or ()))


def _describe(plan: plans.StudyPlan) -> str:
    task = plan.task
    return (
        f"{len(plan.sites)} site(s) in the order {', '.join(plan.sites)}; {task.dims}, "
        f"{task.channels} channel(s), {' x '.join(map(str, task.working_size))}, "
        f"classes {', '.join(task.classes)}; method {plan.method.name}"
    )

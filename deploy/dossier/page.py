"""Fill a dossier's page; everything that it is given is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wardround.deploy.dossier.model import Dossier


def render(dossier: Dossier) -> str:
    """Return a dossier as HTML without any other file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(dossier=dossier)

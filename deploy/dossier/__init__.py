"""The egress dossier: for one visit, everything that left a site, and what it left under.

It is made off-line from the site's own workspace: from the audit trail, whose every line is checked
first, and from the policy. The same facts are written for people (HTML, without any other file) and
for programs (JSON).
"""

from wardround.deploy.dossier.gather import gather
from wardround.deploy.dossier.model import Dossier, json_schema, to_json
from wardround.deploy.dossier.page import render

__all__ = ["Dossier", "gather", "json_schema", "render", "to_json"]

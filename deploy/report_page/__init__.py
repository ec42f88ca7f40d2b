"""`report.html`: one self-contained page with everything a study showed.

No script, no font, no image comes from elsewhere, so the page can be mailed, printed and kept; a
content security policy in its head makes the browser hold it to that.
"""

from wardround.deploy.report_page.page import render, write_page
from wardround.deploy.report_page.pictures import (
    NO_PICTURES,
    Example,
    Gallery,
    Pictures,
    read_pictures,
    write_pictures,
)

__all__ = [
    "NO_PICTURES",
    "Example",
    "Gallery",
    "Pictures",
    "read_pictures",
    "render",
    "write_page",
    "write_pictures",
]

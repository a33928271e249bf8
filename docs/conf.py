"""Settings of Sphinx: pages in reStructuredText, the reference from docstrings.

Nothing is fetched, neither to build the pages nor to view them: no inventories of other projects, and a theme
that brings all it needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from click import Context
from sphinx.application import Sphinx

from activity_tracker_hll import __version__

project = "activity-tracker-hll"
release = version = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
highlight_language = "none"
smartquotes_action = "D"  # only dashes: quotes are those of Python

html_theme = "furo"
html_title = project
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name for name in ("AggregateBuckets", "Buckets", "Id", "PeriodKind", "Row", "RowWithGaps")
}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every name that looks like a link has to be one, but for types of others, type variables and private ones.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|datetime|dt|numpy|os|pathlib|prometheus_client|types|uuid|wsgiref)\..*"),
    ("py:.*", "DataFrame|ImproperlyConfigured|WSGIApplication|WSGIEnvironment|multiprocessing"),
    ("py:.*", r"activity_tracker_hll\..*\.([A-Z]|_\w+)"),
]


def _for_pages(_app: Sphinx, _context: Context, lines: list[str]) -> None:
    """Fit help for terminals to pages: options are code, and no directory is that of who builds them."""
    for index, line in enumerate(lines):
        shown = line.replace(str(Path.home()), "~")
        directive = line.lstrip().startswith("..")
        lines[index] = shown if directive else re.sub(r"(?<!\S)--[a-z][\w-]*", r"``\g<0>``", shown)


def _name_types(*event: Any) -> tuple[str | None, str | None]:
    """Names of types as they stand in the code; Sphinx 9.0 shows an object of its own in place of some."""
    *_, signature, returned = event
    with_names = (
        part and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", part) for part in (signature, returned)
    )
    return next(with_names), next(with_names)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _name_types)
    for part in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _for_pages)

"""Settings of Sphinx: pages in reStructuredText, the reference from docstrings.

Nothing is fetched, neither to build the pages nor to view them: no inventories of other projects, and a theme
that brings all it needs.
"""

from __future__ import annotations

import re
from pathlib import Path

from click import Context
from sphinx.application import Sphinx

from activity_tracker_hll import __version__

project = "activity-tracker-hll"
release = version = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
highlight_language = "none"
smartquotes = False  # of options and Python

html_theme = "furo"
html_title = project
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every name that looks like a link has to be one, but for types of others, type variables and private ones.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|datetime|dt|numpy|os|prometheus_client|uuid|wsgiref)\..*"),
    ("py:.*", "ImproperlyConfigured|WSGIApplication|WSGIEnvironment"),
    ("py:.*", r"activity_tracker_hll\..*\.([A-Z]|_\w+)"),
]


def _show_home(_app: Sphinx, _context: Context, lines: list[str]) -> None:
    """Directories of whoever builds the pages are nobody else's."""
    lines[:] = [re.sub(re.escape(str(Path.home())), "~", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("sphinx-click-process-options", _show_home)

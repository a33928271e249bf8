"""The report: one HTML file of what a reader's public calls answer. Needs the extra ``report``.

It stands around the public calls and uses nothing else: whoever has them can be reported on.
"""

from .facts import Source
from .making import Report

__all__ = ["Report", "Source"]

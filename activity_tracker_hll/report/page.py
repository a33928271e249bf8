"""The page: facts to HTML, by Jinja2, which escapes all that is put in. Needs the extra ``report``."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache, partial
from pathlib import Path

from ..errors import MissingExtraError
from ..words import many
from .facts import Facts
from .groups import lifecycle, overlap, retention
from .panels import buckets, reach, tiles
from .wording import Named, full, limits, long_day, safe

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError(
        "a report needs jinja2, of the extra 'report': pip install 'activity-tracker-hll[report]'"
    ) from error

__all__ = ["page"]

_FOLDER = Path(__file__).parent
# Nothing is loaded, and no script runs but the page's own, whatever got into it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'"


def page(facts: Facts) -> str:
    """The whole file."""
    template, style, script, policy = _parts()
    shown = {
        "tiles": tiles(facts),
        "buckets": buckets(facts),
        "reach": reach(facts),
        "retention": retention(facts),
        "lifecycle": lifecycle(facts),
        "shares": overlap(facts) if len(facts.shares.buckets) > 1 else None,
        "shared_days": (facts.shares.end - facts.shares.start).days,
        "plain": len(facts.counts) - len(facts.aggregates),
        "of_one": None if facts.reach.together else _one(facts, facts.reach.bucket),
        "of_group": _one(facts, facts.groups.bucket),
    }
    return template.render(
        facts=facts, style=style, script=script, policy=policy, **(shown if facts.days else {})
    )


def _one(facts: Facts, bucket: str | None) -> Named | None:
    """Whose numbers they are, if there are others."""
    return Named.of(bucket) if len(facts.counts) > 1 else None


@cache
def _parts() -> tuple[Template, Markup, Markup, str]:
    """The template, and what stands in it as it is: our own style, script and policy."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "full": full,
        "limits": limits,
        "long_day": long_day,
        "many": partial(many, noun="bucket"),
        "safe_text": safe,
        "as_name": Named.of,
    }
    environment.tests["a_name"] = lambda value: isinstance(value, Named)
    style, script = ((_FOLDER / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html"), Markup(style), Markup(script), _POLICY.format(digest)  # noqa: S704

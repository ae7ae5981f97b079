"""Renders the HTML pages of reports: one jinja2 set-up, in which every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence


def render_html(template: str, **values: object) -> str:
    """A page from a template of this folder; what the template names and is not given raises."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("speechmm.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["interval"] = _interval
    return environment.get_template(template).render(**values)


def _percent(fraction: float | None, decimals: int = 2) -> str:
    return "–" if fraction is None else f"{100 * fraction:.{decimals}f}"


def _interval(ends: Sequence[float] | None, decimals: int = 2) -> str:
    if ends is None:
        return "–"
    return f"{100 * ends[0]:.{decimals}f} to {100 * ends[1]:.{decimals}f}"

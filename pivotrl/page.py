"""One self-contained HTML file out of sections: tables, figures, examples. It loads nothing.

Everything in it is text that others wrote (policies, tools, file names), so every value is escaped
by the template; figures are our own. This module must never know what is shown.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5fbf", "#c98a00", "#555555")
LONGEST = 1_500
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message, or what was done in its place."""

    who: str
    text: str
    verdict: str = ""
    accepted: bool | None = None
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A turn: what came before, what the demonstration did, what the policy did."""

    title: str
    before: Sequence[Said]
    last: Sequence[Said]
    """The messages right before the turn, shown at once; those before them are folded."""
    demonstration: Said
    actions: Sequence[Said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    note: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figure: str = ""
    """SVG."""
    examples: Sequence[Example] = ()


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The page; same sections, same bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pivotrl", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.jinja")
    return page.render(title=title, sections=sections, shorten=shorten)


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Its tables."""
    lines = [f"# {title}"]
    for section in sections:
        if section.columns:
            lines += ["", f"## {section.title}", "", section.note, ""]
            lines += [f"| {' | '.join(section.columns)} |", "|" + "---|" * len(section.columns)]
            lines += [f"| {' | '.join(row)} |" for row in section.rows]
    return "\n".join(lines) + "\n"


def figure_of(width: float, height: float, rows: int = 1, columns: int = 1) -> Figure:
    """Empty, in inches, with its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.subplots(rows, columns)
    return figure


def svg(figure: Figure) -> str:
    """As an element of HTML: same data, same bytes."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "pivotrl"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    found = text.getvalue()
    return found[found.index("<svg") :]


def shorten(text: str) -> str:
    cut = len(text) - LONGEST
    return text if cut <= 0 else f"{text[:LONGEST]} … {cut:,} more characters"


def number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"

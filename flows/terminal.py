"""Consoles that nothing printed on them can command.

Tables, logs and errors hold what models, tools and files said. This module must never know what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on which control characters of a text are shown as a mark, its own work."""
    made = Console(stderr=stderr, quiet=quiet)
    made.push_render_hook(_Plain())
    return made


def plain(text: str) -> str:
    """Without characters that a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


class _Plain(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(one) for one in renderables]


@dataclass(frozen=True, slots=True)
class _Shown:
    of: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.of, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

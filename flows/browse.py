"""`pivotrl browse`: walk profiled turns in the terminal, read what was judged, mark what is wrong.

A snapshot of the list; each turn is read when it is shown. What policies and tools wrote is shown
as plain text, without control characters.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Header, Input, Static

from flows.terminal import plain
from pivotrl.marks import mark_wrong
from pivotrl.store import Store
from pivotrl.types import JSON, PivotRLError

LONGEST = 4_000
"""Characters of a message that are shown."""
SHOWN = ("domain", "turn", "mean", "n", "selected", "candidate_id")


def turns(store: Store, where: str, limit: int) -> list[dict[str, Any]]:
    """Rows of `pivot_stats` for which the SQL condition holds, hardest first."""
    return store.rows(
        f"select {', '.join(SHOWN)}, policy from pivot_stats where {where or 'true'} "
        "order by mean, candidate_id limit ?",
        [limit],
    )


class Note(ModalScreen[str | None]):
    """Asks why the verdict is wrong; Escape leaves it as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "leave it")]
    DEFAULT_CSS = "Note { align: center middle } Note Input { width: 80% }"

    def compose(self) -> ComposeResult:
        yield Input(placeholder="Why is this verdict wrong? Enter keeps it, Escape does not")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class Browser(App[None]):
    TITLE = "pivotrl browse"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("tab", "focus_next", "turns / actions"),
        Binding("w", "mark", "this verdict is wrong"),
    ]
    CSS = """
    #turns { width: 46 } #state { height: auto; padding: 0 1 } #actions { height: 40% }
    """

    def __init__(self, home: Path, found: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.home = home
        self.store = Store(home / "pivotrl.duckdb")
        self.found = found
        self.rollouts: list[str] = []

    def compose(self) -> ComposeResult:
        yield Header()
        with Horizontal():
            yield DataTable(id="turns", cursor_type="row", zebra_stripes=True)
            with Vertical():
                with VerticalScroll():
                    yield Static(id="state", markup=False)
                yield DataTable(id="actions", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one("#turns", DataTable)
        table.add_columns(*SHOWN[:5])
        for row in self.found:
            table.add_row(*(_cell(row[name]) for name in SHOWN[:5]))
        self.query_one("#actions", DataTable).add_columns("reward", "verdict", "marked", "action")
        self.sub_title = f"{len(self.found):,} turns"

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "turns":
            self._show(self.found[event.cursor_row])

    def action_mark(self) -> None:
        row = self.query_one("#actions", DataTable).cursor_row
        if self.rollouts:
            self.push_screen(Note(), lambda note: self._mark(self.rollouts[row], note))

    def _mark(self, rollout_id: str, note: str | None) -> None:
        if note is None:
            return
        try:
            mark_wrong(self.home, rollout_id, note, getpass.getuser())
        except PivotRLError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.notify(f"kept in marks and in {self.home / 'marks.jsonl'}", markup=False)
        self._show(self.found[self.query_one("#turns", DataTable).cursor_row])

    def _show(self, turn: Mapping[str, Any]) -> None:
        _, ((messages, number, demonstration),) = self.store.query(
            "select t.messages, c.turn, c.demonstration from candidates c "
            "join trajectories t using (trajectory_id) where c.candidate_id = ?",
            [turn["candidate_id"]],
        )
        state = json.loads(messages)[:number]
        parts = [_said(message) for message in state]
        parts.append("── demonstration ──\n" + _said(json.loads(demonstration)))
        self.query_one("#state", Static).update("\n\n".join(parts))
        self.call_after_refresh(self.query_one(VerticalScroll).scroll_end, animate=False)
        _, samples = self.store.query(
            "select r.rollout_id, v.reward, v.category, coalesce(m.mark, ''), r.text "
            "from rollouts r join judged_verdicts v using (rollout_id) "
            "left join (select rollout_id, any_value(mark) mark from marks group by all) m "
            "using (rollout_id) where r.candidate_id = ? and r.policy = ? order by r.sample_index",
            [turn["candidate_id"], turn["policy"]],
        )
        table = self.query_one("#actions", DataTable)
        table.clear()
        self.rollouts = [rollout_id for rollout_id, *_ in samples]
        for _, *cells in samples:
            table.add_row(*(_cell(cell) for cell in cells))


def _said(message: Mapping[str, JSON]) -> str:
    parts = [str(message.get("content") or "")]
    for call in message.get("tool_calls") or ():
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        parts.append(f"{call['function']['name']}({arguments})")
    text = plain("\n".join(part for part in parts if part))
    return f"[{message['role']}]\n{text[:LONGEST]}"


def _cell(value: object) -> Any:
    from rich.text import Text

    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return Text(plain(text).replace("\n", " ⏎ ")[:300])

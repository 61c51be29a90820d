"""Tables on Prefect's pages, which show cells as Markdown and load the pictures in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from prefect.artifacts import create_table_artifact

from pivotrl.types import JSON


def show_table(key: str, table: Sequence[Mapping[str, JSON]], description: str) -> None:
    """An artifact whose texts are text, whoever chose them."""
    cells = [{name: text_of(value) for name, value in row.items()} for row in table]
    create_table_artifact(key=key, table=cells, description=description)


def text_of(value: JSON) -> JSON:
    """With wide signs for those that Markdown or HTML may mean something by; names are as is."""
    return re.sub(r"[^\w .,+=%-]", _harmless, value) if isinstance(value, str) else value


def _harmless(sign: re.Match[str]) -> str:
    if "!" <= sign[0] <= "~":
        return chr(ord(sign[0]) + 0xFEE0)
    return sign[0] if sign[0].isprintable() else "\ufffd"

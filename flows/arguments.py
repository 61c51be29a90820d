"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[Path, typer.Argument(help="One TOML an experiment; see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, e.g. train.steps=20", metavar="KEY=VALUE")
]
Execute = Annotated[
    bool, typer.Option("--execute", help="Run commands of rows with `files` in a sandbox.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

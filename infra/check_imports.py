"""Says at once whether the installation is whole, and what to do when it is not."""

import importlib
import sys

MODULES = (
    "torch",
    "transformers",
    "prefect",
    "mlflow",
    "duckdb",
    "pandera.polars",
    "polars",
    "typer",
    "pivotrl",
    "flows.cli",
)

for module in MODULES:
    try:
        importlib.import_module(module)
    except Exception as error:
        sys.exit(
            f"set-up is not whole: importing {module} failed ({error}); "
            "remove .venv and run `make setup` again"
        )
from transformers import Qwen3ForCausalLM  # noqa: E402, F401  a broken torchvision shows here

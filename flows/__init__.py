"""The stories: what runs, in which order. Prefect flows and the `pivotrl` command.

Importing this package points Prefect at `PIVOTRL_HOME` before Prefect itself is imported.
"""

import os
import secrets
from pathlib import Path


def home() -> Path:
    """The folder that everything a run leaves is under: `PIVOTRL_HOME`, default `.pivotrl`."""
    return Path(os.environ.get("PIVOTRL_HOME", ".pivotrl")).resolve()


_DEFAULTS = {
    "PREFECT_HOME": str(home() / "prefect"),
    "PREFECT_LOCAL_STORAGE_PATH": str(home() / "results"),
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLIENT_MAX_RETRIES": "6",  # each twice as late as the one before: two minutes
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # another page in the browser may neither read answers nor, unread, send what it likes
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
if "RAY_ADDRESS" not in os.environ:
    # A local Ray listens on every interface, so nobody without the token may speak; it reads this
    # when it is imported, which vLLM does too.
    _DEFAULTS |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)

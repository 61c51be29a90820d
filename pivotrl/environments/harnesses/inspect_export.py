"""`python inspect_export.py LOG_FOLDER ROWS STORE_PREFIX`: an Inspect log as small JSON lines.

Run by the harness's own interpreter, for it has inspect_ai and with it the log's compression. A log
holds each sample's databases over and over, some 30 MB a sample; a row has the scores, the
messages, what of the store begins with STORE_PREFIX, and how each call of a model ended. Source:
inspect_ai 0.3, `log/_recorders/eval.py`. This file must never import this project.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from inspect_ai.log import read_eval_log  # also teaches zipfile the log's zstd


def row(sample: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        "id": sample["id"],
        "epoch": sample["epoch"],
        "error": sample.get("error"),
        "messages": sample["messages"],
        "completion": sample["output"]["completion"],
        "scores": sample["scores"],
        "store": {key: held for key, held in sample["store"].items() if key.startswith(prefix)},
        "calls": [
            {
                "model": event["model"],
                "error": event.get("error"),
                "stop_reasons": [choice["stop_reason"] for choice in event["output"]["choices"]],
                "said": event["output"].get("completion", ""),
            }
            for event in sample["events"]
            if event["event"] == "model"
        ],
    }


def main() -> None:
    folder, rows, prefix = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    (log,) = folder.glob("*.eval")
    status = read_eval_log(str(log), header_only=True).status
    with zipfile.ZipFile(log) as members, rows.open("w") as out:
        for name in members.namelist():
            if name.startswith("samples/"):
                print(json.dumps(row(json.loads(members.read(name)), prefix)), file=out)
        print(json.dumps({"status": status}), file=out)


if __name__ == "__main__":
    main()

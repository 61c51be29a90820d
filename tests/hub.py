"""The parts of the hub that reading a data set asks for, on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from loopback import Handler, serving_with

NAME, COMMIT, BLOB = "team/runs", "0123456789" * 4, "a" * 40


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """The endpoint of a hub that holds one data set with one file, `train.jsonl`."""
    info = {
        **{"id": NAME, "sha": COMMIT, "private": False, "gated": False, "disabled": False},
        **{"tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": "train.jsonl"}]},
    }
    tree = [{"type": "file", "oid": BLOB, "size": len(content), "path": "train.jsonl"}]

    class Hub(Handler):
        def do_GET(self) -> None:
            head = {"etag": f'"{BLOB}"', "x-repo-commit": COMMIT}
            if self.path.startswith(f"/api/datasets/{NAME}/tree/{COMMIT}?"):
                self.answer(200, json.dumps(tree).encode())
            elif self.path.startswith(f"/api/datasets/{NAME}") and "/tree/" not in self.path:
                self.answer(200, json.dumps(info).encode())
            elif self.path.endswith(f"/datasets/{NAME}/resolve/{COMMIT}/train.jsonl"):
                self.answer(200, content, head)
            else:
                self.answer(404, b"{}", {"x-error-code": "EntryNotFound"})

        do_HEAD = do_GET

    with serving_with(Hub) as url:
        yield url

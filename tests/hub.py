"""The parts of the hub that reading a data set asks for, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, COMMIT, BLOB = "team/runs", "0123456789" * 4, "a" * 40


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """The endpoint of a hub that holds one data set with one file, `train.jsonl`."""
    info = {
        **{"id": NAME, "sha": COMMIT, "private": False, "gated": False, "disabled": False},
        **{"tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": "train.jsonl"}]},
    }
    tree = [{"type": "file", "oid": BLOB, "size": len(content), "path": "train.jsonl"}]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            head = {"etag": f'"{BLOB}"', "x-repo-commit": COMMIT}
            if self.path.startswith(f"/api/datasets/{NAME}/tree/{COMMIT}?"):
                self.answer(200, json.dumps(tree).encode(), {})
            elif self.path.startswith(f"/api/datasets/{NAME}") and "/tree/" not in self.path:
                self.answer(200, json.dumps(info).encode(), {})
            elif self.path.endswith(f"/datasets/{NAME}/resolve/{COMMIT}/train.jsonl"):
                self.answer(200, content, head)
            else:
                self.answer(404, b"{}", {"x-error-code": "EntryNotFound"})

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, head: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (head | {"content-length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

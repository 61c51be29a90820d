"""Pictures of a finished run's pages, for the README.

    python bench/screenshots.py .pivotrl docs/images

Starts both servers over that home on free ports if none run, takes the latest flow run's graph, its
artifacts, and MLflow's runs, charts and model, and ends them.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flows.servers import HOST, down, up
from pivotrl.tracking.client import EXPERIMENT

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# MLflow opens its assistant over a third of the page on the first visit
CLOSE_ASSISTANT = """
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
"""
WAIT_MILLISECONDS = 60_000
DRAW_MILLISECONDS = 2_500
"""Graphs and charts are drawn on canvases, which show no text to wait for."""


def screenshot(
    url: str, path: Path, wait_text: str, *, click: str | None = None, height: int = 800
) -> str:
    """The page's text; its picture goes to `path` once `wait_text` is visible.

    `click` is the text of a tab or button to press before.
    """
    from playwright.sync_api import sync_playwright

    path.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": height})
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.add_init_script(CLOSE_ASSISTANT)
        page.goto(url)
        if click is not None:
            page.get_by_text(click, exact=True).first.click()
        page.get_by_text(wait_text).locator("visible=true").first.wait_for()
        page.wait_for_timeout(DRAW_MILLISECONDS)
        page.screenshot(path=path)
        text = page.inner_text("body")
        browser.close()
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def ask(url: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    """The decoded answer of a GET, or of a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ask_prefect(server: str, path: str, body: dict[str, Any]) -> Any:
    """A POST as Prefect's own clients send it: with a token, which other sites cannot read."""
    token = ask(f"{server}/api/csrf-token?client=pivotrl")["token"]
    headers = {"Prefect-Csrf-Client": "pivotrl", "Prefect-Csrf-Token": token}
    return ask(f"{server}/api/{path}", body, **headers)


def take_all(home: Path, folder: Path) -> None:
    prefect, mlflow, *_ = up(home, free_port(), free_port(), worker=False)
    try:
        newest = {"sort": "START_TIME_DESC", "limit": 1, "flows": {"name": {"any_": ["retrain"]}}}
        (run,) = ask_prefect(prefect.url, "flow_runs/filter", newest)
        page = f"{prefect.url}/runs/flow-run/{run['id']}"
        screenshot(page, folder / "prefect-run.png", run["name"])
        of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        for artifact in ask_prefect(prefect.url, "artifacts/filter", of_run):
            if artifact["type"] == "table":
                page = f"{prefect.url}/artifacts/artifact/{artifact['id']}"
                picture = folder / f"prefect-artifact-{artifact['key']}.png"
                screenshot(page, picture, artifact["key"])

        api = f"{mlflow.url}/api/2.0/mlflow"
        query = urlencode({"experiment_name": EXPERIMENT})
        experiment = ask(f"{api}/experiments/get-by-name?{query}")["experiment"]["experiment_id"]
        page = f"{mlflow.url}/#/experiments/{experiment}"
        found = ask(f"{api}/runs/search", {"experiment_ids": [experiment], "max_results": 1})
        info, outputs = found["runs"][0]["info"], found["runs"][0]["outputs"]
        name, model = info["run_name"], outputs["model_outputs"][0]["model_id"]
        screenshot(f"{page}/runs", folder / "mlflow-runs.png", name)
        charts = f"{page}/runs/{info['run_id']}/model-metrics"
        screenshot(charts, folder / "mlflow-charts.png", name)
        screenshot(f"{page}/models/{model}", folder / "mlflow-model.png", "Model versions")
    finally:
        down(home)


if __name__ == "__main__":
    take_all(Path(sys.argv[1]), Path(sys.argv[2]))

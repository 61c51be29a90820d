"""The paper's experiment, a domain at a time: docs/results/compare/<domain>.json, then the pages.

    python bench/compare.py --config configs/mini.toml --seeds 0,1,2
    python bench/compare.py --pages         # assemble again what the domains left

Resumable: what a stopped comparison had done is cached in its home. `compare.json`, `.md` and
`.html` are made of all domains that have been run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from pivotrl.comparison import assembled
from pivotrl.comparison_page import sections
from pivotrl.page import as_html, as_markdown

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("stages", "config", "name")


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's experiment, a domain at a time.")
    parser.add_argument("--config", default="configs/mini.toml")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--home", type=Path, default=ROOT / ".pivotrl" / "bench-compare")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--pages", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    folder = options.out / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    if not options.pages:
        words = ["compare", options.config, "--seeds", options.seeds, *options.overrides]
        environment = os.environ | {"PIVOTRL_HOME": str(options.home)}
        subprocess.run(
            [sys.executable, "-m", "flows.cli", *words], check=True, env=environment, cwd=ROOT
        )
        report = json.loads((options.home / "report.json").read_text())
        kept = {key: value for key, value in report.items() if key not in LEFT_OUT}
        kept["command"] = " ".join(["pivotrl", *words])
        (folder / f"{report['domain']}.json").write_text(json.dumps(kept, indent=1) + "\n")
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = list(sections(reports))
    title = "Ways to train, side by side (miniature)"
    commands = "\n".join(f"- `{report['command']}`" for report in reports)
    page = as_markdown(title, found) + f"\nMade by `python bench/compare.py`:\n{commands}\n"
    (options.out / "compare.json").write_text(json.dumps(assembled(reports), indent=1) + "\n")
    (options.out / "compare.md").write_text(page)
    (options.out / "compare.html").write_text(as_html(title, found))
    print(page)


if __name__ == "__main__":
    main()

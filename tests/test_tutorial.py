"""The tutorial's own commands, in its order, in a folder like a newcomer's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from line import ROOT, environment, pivotrl


@pytest.mark.slow
@pytest.mark.long
def test_the_tutorial_runs_as_it_is_written(tmp_path: Path, prefect_server: str) -> None:
    text = (ROOT / "docs/tutorial.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "first.toml").write_text(toml)
    (tmp_path / "pivotrl" / "mini").mkdir(parents=True)
    (tmp_path / "pivotrl" / "mini" / "model").symlink_to(ROOT / "pivotrl/mini/model")
    lines = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len(lines) > 10
    said = {}
    for line in lines:
        program, *arguments = shlex.split(line)
        home = tmp_path / ".pivotrl"
        if program == "pivotrl":
            said[line] = pivotrl(home, *arguments, cwd=tmp_path, server=prefect_server).stdout
            continue
        done = subprocess.run(
            [{"python": sys.executable}.get(program, program), *arguments],
            env=environment(home) | {"PYTHONSAFEPATH": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / ".pivotrl/report.html").is_file()
    assert "select" in said["pivotrl run first.toml --dry-run"]
    trained = said["pivotrl run first.toml"]
    assert re.search(r"• sample first|• sample retail", trained), "the profile was kept"
    harder = said["pivotrl run first.toml select.lambda_diff=0.4"]
    assert "✓ select" in harder and "✓ sample" not in harder
    assert "champion" in said[lines[-1]]

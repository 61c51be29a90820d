"""Pins every line of infra/lock.txt, `name==version`, by hash of the file that pip would take here.

    .venv/bin/python infra/lock.py

Hashes that a pin had stay, so that runs on several platforms, or against several indexes, add up;
change a version and its old hashes go: delete the rest of its line.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("lock.txt")


def main() -> None:
    hashes = {}
    for line in LOCK.read_text().splitlines():
        pin, *had = line.split()
        hashes[pin] = {one.removeprefix("--hash=sha256:") for one in had}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--no-deps", "--quiet", "--disable-pip-version-check", "--report", "-"]
    done = subprocess.run([*command, *hashes], stdout=subprocess.PIPE, check=True)
    pins = {_name(pin): pin for pin in hashes}
    for one in json.loads(done.stdout)["install"]:
        pin = pins[_name(one["metadata"]["name"])]
        hashes[pin].add(one["download_info"]["archive_info"]["hashes"]["sha256"])
    lines = (
        " ".join([pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[pin]))])
        for pin in sorted(hashes, key=_name)
    )
    LOCK.write_text("\n".join(lines) + "\n")


def _name(pin: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", re.split("[=[]", pin)[0]).lower()


if __name__ == "__main__":
    main()

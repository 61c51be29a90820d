"""Whether the last `\\boxed{...}` of an output equals the expected answer (AIME25, MATH-500).

Integers and equal strings are decided here; everything else goes to math-verify in a worker
process that is killed when it takes too long, because SymPy can hang on hostile input. This module
must never parse model output as anything but text.
"""

from __future__ import annotations

import atexit
import re
import select
import subprocess
import sys
import threading

import orjson

from pivotrl.benchmarks.base import Score
from pivotrl.types import PivotRLError

_INTEGER = re.compile(r"[+-]?\d{1,40}")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_MAX_ANSWER = 300
_MAX_OUTPUT = 200_000
_TIMEOUT_SECONDS = 5.0
_START_SECONDS = 60.0


def last_boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}`, braces balanced; None without one."""
    text = text[-_MAX_OUTPUT:]
    end = len(text)
    while (start := text.rfind("\\boxed{", 0, end)) >= 0:
        depth = 0
        for i in range(start + 6, end):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                return text[start + 7 : i].strip()
        end = start
    return None


def _integer(answer: str) -> int | None:
    plain = answer.replace("\\!", "").strip(" $").rstrip(".")
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain
    return int(plain) if _INTEGER.fullmatch(plain) else None


def score_boxed(expected: str, output: str) -> Score:
    answer = last_boxed(output)
    if answer is None:
        return Score(value=0.0, extracted=None)
    return Score(value=float(equal(expected, answer)), extracted=answer)


def equal(expected: str, answer: str) -> bool:
    """True if the two LaTeX answers are the same; undecidable in time is False."""
    if expected.strip() == answer:
        return True
    wanted, got = _integer(expected), _integer(answer)
    if wanted is not None and got is not None:
        return wanted == got
    if not answer or len(answer) > _MAX_ANSWER:
        return False
    return _WORKER.ask(expected, answer)


class _Worker:
    """One math-verify process for this process, started when first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, expected: str, answer: str) -> bool:
        with self._lock:
            for _ in range(2):  # a worker may have died before; one that dies again dies of this
                try:
                    return self._ask(orjson.dumps([expected, answer]) + b"\n")
                except TimeoutError:
                    self.stop()
                    return False
                except (OSError, ValueError):
                    self.stop()
            return False

    def _ask(self, question: bytes) -> bool:
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(question)
        process.stdin.flush()
        return bool(orjson.loads(self._line(process, _TIMEOUT_SECONDS)))

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pivotrl.benchmarks.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = self._line(self._process, _START_SECONDS) == b"ready\n"
        except TimeoutError:
            ready = False
        if not ready:
            self.stop()
            raise PivotRLError(
                "math-verify did not start in its worker process; run `pip install math-verify`"
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], seconds)
        if not readable:
            raise TimeoutError
        return process.stdout.readline()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_WORKER = _Worker()
atexit.register(_WORKER.stop)

"""The process that asks math-verify: a pair of LaTeX answers a line in, true or false a line out.

It ends with its standard input, and may be killed at any time. It must never be imported by
anything else.
"""

from __future__ import annotations

import resource
import sys

import orjson

_MEMORY_BYTES = 4 * 1024**3
_CPU_SECONDS = 1800
"""A worker whose parent was killed while it hung ends by itself; a living parent starts another."""


def main() -> None:
    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        expected, answer = (
            # The parent's clock decides; math-verify's own alarm would hide a timeout.
            parse(f"\\boxed{{{latex}}}", parsing_timeout=None)
            for latex in orjson.loads(line)
        )
        same = bool(expected and answer and verify(expected, answer, timeout_seconds=None))
        print("true" if same else "false", flush=True)


if __name__ == "__main__":
    main()

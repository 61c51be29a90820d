"""Python programs in the sandbox: how they end, and what a hostile one cannot do."""

from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_sandbox, why_not

from pivotrl import sandbox
from pivotrl.sandbox import Exit, Limits, Run, check_python, run_python, run_tests
from pivotrl.types import ConfigError, PivotRLError

WHY_NOT = why_not(check_python)
in_sandbox = needs_sandbox(WHY_NOT)
SPARE = 20.0
"""Seconds over a limit that a busy machine may take."""


def attempt(code: str, stdin: str = "", seconds: float = 10.0, **limits: Any) -> Run:
    """A program's run; however it ends, in time and with nothing of it left running."""
    start, mark = time.monotonic(), uuid.uuid4().hex
    source = f"import ctypes\nctypes.CDLL(None).prctl(15, b'{mark[:15]}')\n{code}"
    run = run_python(source, stdin, Limits(**{"seconds": seconds, "memory": 2**29} | limits))
    while any(p.info["name"] == mark[:15] for p in psutil.process_iter(["name"])):
        assert time.monotonic() - start < seconds + SPARE, "it goes on"
    assert time.monotonic() - start < seconds + SPARE
    return run


@in_sandbox
@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(input()[::-1])", "cba\n"),
        ("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())", "abc\nd\n"),
        ("print(open(0).read().split())", "['abc', 'd']\n"),
        ("print(1)\nraise SystemExit(3)", "1\n"),
        ("import threading\nthreading.Thread(target=lambda: print('late')).start()", "late\n"),
        ("import atexit\natexit.register(print, 'bye')", "bye\n"),
        ("import __main__\nx = 5\nprint(__main__.x, __name__)", "5 __main__\n"),
        ("from __future__ import annotations\nprint(1)", "1\n"),
        ("def f(n):\n    return n and f(n - 1)\nimport sys\nsys.setrecursionlimit(9999)\n"
         "print(f(9000))", "0\n"),
        ("import numpy\nprint(numpy.arange(3).sum())", "3\n"),
        ("open('/tmp/a', 'w').write('é')\nprint(open('/tmp/a').read())", "é\n"),
        ("import os\nprint(1, flush=True)\nos._exit(0)", "1\n"),
    ],
)  # fmt: skip
def test_programs_run_as_programs_do(code: str, printed: str) -> None:
    run = run_python(code, "abc\nd\n", Limits(memory=2**32, seconds=20.0))
    assert (run.exit, run.stdout.decode()) == (Exit.OK, printed)


@in_sandbox
@pytest.mark.parametrize(
    ("code", "exit"),
    [
        ("while True: pass", Exit.TIMEOUT),
        ("import time\ntime.sleep(60)", Exit.TIMEOUT),
        ("import signal, time\nsignal.pthread_sigmask(0, range(1, 64))\ntime.sleep(60)",
         Exit.TIMEOUT),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nwhile True: pass",
         Exit.TIMEOUT),
        ("while True: print('x' * 9999)", Exit.OUTPUT),
        ("x = bytearray(2 << 30)", Exit.MEMORY),
        ("x = []\nwhile True: x.append(' ' * 10**6)", Exit.MEMORY),
        ("import os\nwhile True: os.fork()", None),
        ("import os\nos.kill(-1, 9)", Exit.ERROR),
        ("import os\nos.kill(os.getppid(), 9)", Exit.ERROR),
        ("import subprocess\nsubprocess.Popen(['setsid', 'sleep', '60'])", Exit.OK),
        ("import ctypes\nctypes.string_at(0)", Exit.ERROR),
        ("import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nf()", None),
        ("(" * 10**5, Exit.ERROR),
        ("x = \ud800", Exit.ERROR),
        ("\0", Exit.ERROR),
        ("raise ValueError", Exit.ERROR),
        ("open('a', 'wb').truncate(2**40)", Exit.ERROR),
    ],
)  # fmt: skip
def test_a_hostile_program_ends_in_time(code: str, exit: Exit | None) -> None:
    run = attempt(code, seconds=3.0)
    assert run.exit is exit or (exit is None and run.exit is not Exit.OK)
    assert run.exit is Exit.OK or not run.stdout


@in_sandbox
def test_memory_and_processes_are_bounded_together() -> None:
    grown = "import os, time\nfor _ in range(6):\n    if os.fork(): continue\n"
    grown += "    x = bytes(1) * (64 << 20)\n    time.sleep(60)\ntime.sleep(60)"
    assert attempt(grown, seconds=30.0, memory=2**28).exit is Exit.MEMORY
    forks = "import os, time\nn = 0\ntry:\n    while n < 99:\n        n += 1\n"
    forks += "        if not os.fork(): time.sleep(60)\nexcept OSError: print(n)"
    run = attempt(forks, processes=20)
    assert run.exit is Exit.OK and 5 < int(run.stdout) < 20


@in_sandbox
def test_the_machine_is_not_seen_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    places = [str(tmp_path / "secret"), "/etc/passwd", "/etc/hostname", __file__]
    seen = attempt(
        f"import os\nfor place in {places}:\n    try: print(open(place).read())\n"
        "    except OSError: print('nothing')\n"
        "print(sorted(os.environ))\nprint([p for p in os.listdir('/proc') if p.isdigit()])\n"
        "import socket\nprint(os.getuid(), socket.gethostname())"
    ).stdout.decode()
    assert seen.splitlines()[:4] == ["nothing"] * 4
    assert "PIVOTRL" not in seen and "secret" not in seen
    assert seen.splitlines()[-1] == "1000 sandbox"
    assert len(seen.splitlines()[-2].split(",")) < 5
    for place in (tmp_path / "made", "/x", "/etc/x", "/usr/x", "/dev/x", sys.prefix + "/x"):
        assert attempt(f"open({str(place)!r}, 'w')").exit is Exit.ERROR, place
    assert [*tmp_path.iterdir()] == [tmp_path / "secret"]
    fds = attempt("import os\nprint(os.listdir('/proc/self/fd'))").stdout
    assert fds == b"['0', '1', '2', '3', '4']\n"  # 3 leads nowhere, 4 is the listing's own


@in_sandbox
def test_links_and_roads_of_proc_lead_to_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    places = ["", "/proc/1/root", "/proc/self/root", "/proc/2/cwd/../../../../.."]
    printed = attempt(
        f"import os\nfor n, road in enumerate({places}):\n"
        f"    os.symlink(road + {str(tmp_path / 'secret')!r}, f'/tmp/{{n}}')\n"
        "    try: print(open(f'/tmp/{n}').read())\n    except OSError: print('nothing')\n"
        "    try: open(f'/tmp/{n}', 'w')\n    except OSError: print('nothing')\n"
        "print(os.path.exists('/proc/1/root/etc/passwd'))"
    )
    assert printed.exit is Exit.OK
    assert printed.stdout.split() == [b"nothing"] * 8 + [b"False"]
    assert (tmp_path / "secret").read_text() == "secret"


@in_sandbox
def test_there_is_no_network() -> None:
    run = attempt(
        "import socket\nprint([name for _, name in socket.if_nameindex()])\n"
        "for host in ('127.0.0.1', '192.0.2.1', '::1'):\n"
        "    try: socket.create_connection((host, 53), 2)\n"
        "    except OSError as error: print(error.strerror)"
    )
    assert run.stdout.splitlines()[0] == b"['lo']" and b"unreachable" in run.stdout
    assert run.stdout.count(b"\n") == 4


@in_sandbox
def test_each_input_has_a_process_and_the_first_failure_is_the_last() -> None:
    code = "import os\nx = int(input())\nprint(10 // x, len(globals()), os.path.exists('left'))\n"
    runs = list(run_tests(code + "open('/tmp/x', 'w')\ny = 1", ["5", "2", "0", "1"]))
    assert [r.exit for r in runs] == [Exit.OK, Exit.OK, Exit.ERROR]
    assert [r.stdout.split()[0] for r in runs[:2]] == [b"2", b"5"]
    assert runs[0].stdout.split()[1:] == runs[1].stdout.split()[1:]
    slow = run_tests("import time\nprint(1, flush=True)\ntime.sleep(1)", ["1"] * 99)
    start = time.monotonic()
    assert next(slow).stdout == b"1\n"
    slow.close()
    assert time.monotonic() - start < SPARE


@in_sandbox
def test_after_has_a_channel_that_prints_do_not_reach() -> None:
    (run,) = run_tests("print('noise')\nx = 3", [""], before="y = 4", after="give(str(x + y))")
    assert run.stdout == b"7"
    (run,) = run_tests("raise SystemExit", [""], after="give('1')")
    assert run.stdout == b""


@in_sandbox
def test_nothing_reaches_the_driver() -> None:
    forge = (
        "import os\nfor p in (os.getppid(), 1, 2):\n    for fd in range(16):\n"
        "        for flags in (os.O_WRONLY, os.O_RDONLY):\n"
        "            try: other = os.open(f'/proc/{p}/fd/{fd}', flags)\n"
        "            except OSError: continue\n"
        "            if flags: os.write(other, b'ok 2\\n5\\n')\n"
        "            elif p != 1: print('opened', p, fd)\n"
        "for fd in range(3, 16):\n"
        "    try: os.write(fd, b'ok 2\\n5\\n')\n    except OSError: pass\n"
        "try: open(f'/proc/{os.getppid()}/mem', 'rb')\nexcept OSError: print('closed')\n"
    )
    runs = list(run_tests(forge, ["a", "b"]))
    assert runs == [Run(exit=Exit.OK, stdout=b"closed\n")] * 2


@in_sandbox
@settings(max_examples=15, deadline=None)
@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_is_a_program_that_ends(code: str, stdin: str) -> None:
    assert run_python(code, stdin, Limits(seconds=5.0)).exit in Exit


@in_sandbox
def test_a_user_who_is_not_root_has_the_same_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_python("import numpy, os\nprint(os.getuid())", limits=Limits(memory=2**32)) == Run(
        exit=Exit.OK, stdout=b"1000\n"
    )


def test_without_a_sandbox_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check_python.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"bwrap is not installed.*apt-get install bubblewrap"):
        check_python()
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ConfigError, match=r"no namespaces.*allow user namespaces"):
        check_python()
    with pytest.raises(PivotRLError, match="the sandbox does not start"):
        run_python("print(1)")
    check_python.cache_clear()


@in_sandbox
def test_a_package_that_is_not_here_is_no_wrong_answer() -> None:
    with pytest.raises(ConfigError, match="imports no_such_package"):
        check_python("no_such_package")


def test_records_of_no_driver_are_refused() -> None:
    assert sandbox._record(b"ok 3\nabcd", Limits()) == Run(exit=Exit.OK, stdout=b"abc")
    assert sandbox._record(b"ok 3\nab", Limits()) is None
    for said in (b"x" * 40, b"ok 99999999\n" + b"x" * 40, b"ok -1\n" + b"x" * 40):
        with pytest.raises(sandbox.NoOutcome):
            sandbox._record(said, Limits())


@in_sandbox
def test_what_one_run_leaves_behind_takes_nothing_from_the_next() -> None:
    """Its dying processes would count against the limit of the next one."""
    code = "import os, time\nfor _ in range(28):\n    if not os.fork(): time.sleep(60)\nprint('ok')"
    runs = list(run_tests(code, [""] * 60, Limits(memory=2**29)))
    assert [run.exit for run in runs] == [Exit.OK] * 60


@in_sandbox
def test_a_driver_that_cannot_start_a_run_is_no_wrong_answer() -> None:
    with pytest.raises(PivotRLError, match="no more processes or files"):
        run_python("print(1)", limits=Limits(processes=0))

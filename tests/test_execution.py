"""Commands in the sandbox: what is equal, what proves nothing, and what a hostile one cannot do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_sandbox, why_not
from typer.testing import CliRunner

from flows.cli import app
from pivotrl.config import load_config
from pivotrl.manifest import Manifest
from pivotrl.trajectories import BadRow, Trajectory, from_row, read, to_row
from pivotrl.types import (
    Action,
    Candidate,
    ConfigError,
    Message,
    Role,
    ToolCall,
    Verdict,
    VerdictStatus,
)
from pivotrl.verifiers import verifier_for
from pivotrl.verifiers.execution import (
    HOME,
    WORK,
    Limits,
    NoOutcome,
    Outcome,
    check_sandbox,
    run_in_sandbox,
)
from pivotrl.verifiers.software import SoftwareVerifier
from pivotrl.verifiers.terminal import TerminalVerifier
from tasks.verify import check_domains

ROOT = Path(__file__).parents[1]


WHY_NOT = why_not(check_sandbox)
in_sandbox = needs_sandbox(WHY_NOT)
FILES = {"notes.txt": "one\ntwo\nthree\n", "src/run.sh": "#!/bin/sh\necho ran\n"}
SPARE = 3.0
"""Seconds over a limit that a busy machine may take."""


def call(command: str, **arguments: Any) -> ToolCall:
    return ToolCall(name="bash", arguments={"command": command} | arguments)


def candidate(
    *commands: str, files: dict[str, str] | None = FILES, said: str = "Go on.", **arguments: Any
) -> Candidate:
    """The first command is the demonstration, the others are accepted actions."""
    first, *others = (
        Message(role=Role.ASSISTANT, tool_calls=(call(c, **arguments),)) for c in commands
    )
    trajectory = Trajectory(
        id="t",
        messages=(Message(role=Role.USER, content=said), first),
        accepted_actions={1: tuple(others)},
        files={} if files is None else {1: files},
    )
    return Candidate(id="c", trajectory=trajectory, turn=1)


def verdict(of: Candidate, command: str, *, execute: bool = True, **arguments: Any) -> Verdict:
    verifier = TerminalVerifier(execute=execute)
    return verifier.verify(of, Action(tool_calls=(call(command, **arguments),)))


def attempt(command: str, seconds: float = 5.0, **limits: Any) -> Outcome | NoOutcome:
    """What becomes of a command; however it ends, in time and with nothing left running."""
    start, mark = time.monotonic(), uuid.uuid4().hex
    found: Outcome | NoOutcome
    try:
        limit = Limits(seconds=seconds, **limits)
        found = run_in_sandbox(f": {mark}\n{command}", FILES, limits=limit)
    except NoOutcome as reason:
        found = reason
    while any(mark in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() - start < seconds + SPARE, "it goes on"
    assert time.monotonic() - start < seconds + SPARE
    return found


@in_sandbox
@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (
            "sed -i s/two/2/ notes.txt",
            "python3 -c \"p = 'notes.txt'; t = open(p).read().replace('two', '2');"
            " open(p, 'w').write(t)\"",
        ),
        ("cat notes.txt | awk /t/", "awk 'index($0, \"t\")' notes.txt"),
        ("src/run.sh > out", "echo ran > out"),
        ("mkdir -p a/b && cp notes.txt a/b", "mkdir a; mkdir a/b; cat notes.txt > a/b/notes.txt"),
        ("ln -s notes.txt link", "cd src; ln -s notes.txt ../link"),
        ("cp notes.txt ~/kept", "cat notes.txt > $HOME/kept"),
    ],
)
def test_the_same_done_otherwise_is_accepted(wanted: str, given: str) -> None:
    of = candidate(wanted)
    assert verdict(of, given, execute=False).category == "different_command"
    assert verdict(of, given).category == "accepted"
    assert verdict(of, given).details["execution"] == "same outcome"
    reverse = verdict(candidate("true", given), wanted)  # found among the accepted actions
    assert (reverse.reward, reverse.details["reference"]) == (1.0, 1)


@in_sandbox
@pytest.mark.parametrize(
    ("wanted", "given", "why"),
    [
        ("sed -i s/two/2/ notes.txt", "sed -i s/two/II/ notes.txt", "another file"),
        ("head -n 1 notes.txt", "echo two", "another output"),
        ("cat notes.txt", "cat notes.txt >&2; echo", "another output"),
        ("cp notes.txt a", "install -m 700 notes.txt a", "another file: f"),
        ("ln -s notes.txt a", "ln -s src a", "another file: l"),
        ("mkdir new", "touch new", "another file"),
        ("cp notes.txt /tmp/a", "cp src/run.sh /tmp/a", "another file"),
        ("cat notes.txt", "cat nothing", "exit code 1, not 0"),
        ("cat nothing", "ls nothing", "both fail"),
        ("touch -c nothing", "test -f notes.txt", "neither prints or changes"),
        ("echo $RANDOM $RANDOM", "echo 1 2", "not do the same twice"),
        ("date +%N > now", "echo 1 > now", "not do the same twice"),
        ("echo 1", "echo 1; kill -9 -1", "did not end well"),
        ("cat notes.txt", "cat notes.txt \0", "no argument"),
    ],
)
def test_what_differs_or_proves_nothing_stays_rejected(wanted: str, given: str, why: str) -> None:
    found = verdict(candidate(wanted), given)
    assert (found.reward, found.category) == (0.0, "different_command")
    assert why in found.details["execution"]


@in_sandbox
def test_nothing_runs_without_files_or_without_being_asked(tmp_path: Path) -> None:
    for of, execute in ((candidate("echo 1", files=None), True), (candidate("echo 1"), False)):
        found = verdict(of, "expr 1", execute=execute)
        assert found.reward == 0.0 and "execution" not in found.details
    assert verdict(candidate("echo 1", files={}), "expr 1").reward == 1.0
    equal = verdict(candidate("cat  'notes.txt'"), "cat notes.txt")
    assert equal.reward == 1.0 and "execution" not in equal.details
    action = Action(tool_calls=(call("awk 'index($0, \"t\")' notes.txt"),))
    of = candidate("cat notes.txt | awk /t/")
    assert SoftwareVerifier(execute=True).verify(of, action).reward == 1.0
    assert SoftwareVerifier().verify(of, action).reward == 0.0


@in_sandbox
def test_the_copy_lies_where_the_state_says_that_the_shell_is() -> None:
    told = candidate("sed -n /t/p /app/notes.txt", said="(Current directory: /app)")
    assert verdict(told, "cat notes.txt | awk /t/").reward == 1.0
    named = candidate("awk 'index($0, \"t\")' notes.txt", workdir="/app")
    assert verdict(named, "cat notes.txt | awk /t/", workdir="/app").reward == 1.0
    assert verdict(named, "cat notes.txt | awk /t/", workdir="/app/src").reward == 0.0
    with pytest.raises(NoOutcome, match="null byte"):
        run_in_sandbox("pwd", FILES, "/a\0b")
    for folder, place in (
        ("/tmp/x", "/tmp/x"),
        ("/home", "/home"),
        ("~/a b", f"{HOME}/a b"),
        ("/usr/src", WORK),
        ("/", WORK),
        ("/x/../proc", WORK),
        ("relative", WORK),
    ):
        assert run_in_sandbox("pwd; cat notes.txt", FILES, folder).stdout == (
            f"{place}\n{FILES['notes.txt']}".encode()
        )


@in_sandbox
def test_the_machine_is_not_seen_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    seen = attempt(
        f"cat {tmp_path}/secret /etc/passwd /etc/hostname {Path.home()}/.bashrc /proc/1/environ;"
        " env; ls /root /var /home/* /mnt; id -u; hostname; ls -d /proc/[0-9]* | wc -l"
    )
    assert isinstance(seen, Outcome)
    assert b"secret" not in seen.stdout and b"root:" not in seen.stdout
    assert os.environ["PATH"].encode() not in seen.stdout
    assert seen.stdout.split()[-3:-1] == [b"1000", b"sandbox"]
    assert int(seen.stdout.split()[-1]) < 8
    attempt(f"mkdir -p {tmp_path}; echo > {tmp_path}/made; rm -rf {tmp_path}/secret")
    assert [*tmp_path.iterdir()] == [tmp_path / "secret"]
    for place in ("/x", "/etc/x", "/usr/x", "/dev/x", "/dev/shm/x", "/proc/x"):
        found = attempt(f"echo > {place}")
        assert isinstance(found, Outcome) and found.exit_code == 1, place
    own = attempt("ls /proc/self/fd")
    assert isinstance(own, Outcome) and own.stdout == b"0\n1\n2\n3\n"
    inner = attempt("unshare --user --map-root-user true")
    assert isinstance(inner, Outcome) and inner.exit_code != 0


@in_sandbox
def test_links_are_told_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    found = attempt(f"ln -s {tmp_path} out; ln -s {tmp_path}/secret s; ln -s /proc/self/fd fds")
    assert isinstance(found, Outcome)
    assert found.after - found.before == {
        f"l 777 ./out {tmp_path}".encode(),
        f"l 777 ./s {tmp_path}/secret".encode(),
        b"l 777 ./fds /proc/self/fd",
    }


@in_sandbox
def test_there_is_no_network() -> None:
    found = attempt(
        "python3 - <<'EOF'\nimport socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "for host in ('127.0.0.1', '192.0.2.1', '::1'):\n"
        "    try:\n        socket.create_connection((host, 53), 2)\n"
        "    except OSError as error:\n        print(error.strerror)\nEOF"
    )
    assert isinstance(found, Outcome) and found.exit_code == 0
    assert found.stdout.splitlines()[0] == b"['lo']" and b"unreachable" in found.stdout
    assert found.stdout.count(b"\n") == 4


@in_sandbox
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("while :; do :; done", "over 1 s"),
        ("sleep 60 & setsid sleep 60 & wait", "over 1 s"),
        ("trap '' TERM INT HUP; sleep 60", "over 1 s"),
        ("bomb() { bomb | bomb & }; bomb; sleep 60", "over 1 s"),
        ("yes", "bytes of output"),
        ("cat /dev/zero >&2", "bytes of output"),
        ("for i in $(seq 9999); do : > a-name-that-is-not-short-$i; done", "bytes of output"),
        ("kill -9 -1", "did not end well"),
        ("kill -9 $PPID", "did not end well"),
    ],
)
def test_a_hostile_command_has_no_outcome_and_soon_ends(command: str, why: str) -> None:
    found = attempt(command, seconds=5.0 if "output" in why else 1.0)
    assert isinstance(found, NoOutcome) and why in str(found)


@in_sandbox
@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([*"abc;|&()<>{}$`'\"\\\n -/=!#*?[]\x00é\ud800", "cat ", "EOF"])))
def test_any_command_is_judged(pieces: list[str]) -> None:
    found = verdict(candidate("cat notes.txt"), "echo " + "".join(pieces))
    assert found.status is VerdictStatus.OK and found.reward == 0.0


@in_sandbox
def test_what_is_left_running_ends_with_its_command() -> None:
    found = attempt("(sleep 2; echo late > late) & echo now", seconds=4.0)
    assert isinstance(found, Outcome)
    assert (found.stdout, found.after) == (b"now\n", found.before)


@in_sandbox
def test_memory_processes_and_files_are_bounded() -> None:
    hog = attempt("python3 -c 'bytearray(2 << 30)'")
    assert isinstance(hog, Outcome) and b"MemoryError" in hog.stderr
    grown = "python3 -c 'import time; x = bytes(1) * (64 << 20); time.sleep(60)' & "
    together = attempt(grown * 6 + "wait", seconds=20.0, memory=2**28)
    assert isinstance(together, NoOutcome) and "of memory" in str(together)
    forks = "import os, time\nn = 0\ntry:\n    while n < 99:\n        n += 1\n"
    forks += "        if not os.fork(): time.sleep(60)\nexcept OSError: print(n)"
    forked = attempt(f"python3 -c '{forks}'", processes=20)
    assert isinstance(forked, Outcome) and 5 < int(forked.stdout) < 20
    for filled in ("head -c 99M /dev/zero > a", "truncate -s 99M a", "head -c 99M /dev/zero > ~/a",
                   "for i in 1 2 3; do head -c 15M /dev/zero > /tmp/$i || exit; done"):  # fmt: skip
        found = attempt(filled)
        assert isinstance(found, Outcome) and found.exit_code != 0, filled


@in_sandbox
def test_an_unprivileged_user_has_the_same_sandbox() -> None:
    child = os.fork()
    if not child:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            check_sandbox()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_sandbox_a_run_that_needs_one_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = ["verify.execute=true", f"data.trajectories={tmp_path}"]
    config = load_config(ROOT / "configs/mini.toml", overrides)
    candidates = Manifest(kind="x", key="k", parts={}, counts={"domains": ["retail"]})
    verifier_for.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"bwrap is not installed.*apt-get install bubblewrap"):
        check_domains(config, candidates.model_copy(update={"counts": {"domains": ["terminal"]}}))
    check_domains(config, candidates)
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ConfigError, match=r"no sandbox here.*allow user namespaces"):
        verifier_for("software", execute=True)


@in_sandbox
def test_a_sandbox_that_does_not_start_is_no_reward_and_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of, real = candidate("cat notes.txt"), shutil.which("bwrap")
    broken = tmp_path / "bwrap"
    for script in ("echo no namespaces >&2; exit 1", "sleep 60"):
        broken.write_text(f"#!/bin/sh\n{script}\n")
        broken.chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
            found = verdict(of, "head -n 99 notes.txt | tee -a new")
            assert (found.status, found.reward) == (VerdictStatus.ERROR, None)
            assert "the sandbox did not start" in found.details["reason"]
    # The action's run starts, the reference's does not; the next time both do.
    broken.write_text(
        f"#!/bin/sh\nn=$(ls {tmp_path} | wc -l); touch {tmp_path}/$n\n"
        f'[ $n -gt 1 ] && exit 1; exec {real} "$@"\n'
    )
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert verdict(of, "head -n 99 notes.txt | cat").status == VerdictStatus.ERROR
    assert verdict(of, "head -n 99 notes.txt | cat").reward == 1.0


def row(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "```bash\nls\n```"}
    return {"messages": [{"role": "user", "content": "Go on."}, message]} | changes


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ([], "<message index>"),
        ({"1": "a.txt"}, "<message index>"),
        ({"1": {"a.txt": 1}}, "<message index>"),
        ({"0": {"a.txt": ""}}, "'0' is not the index"),
        ({"x": {}}, "'x' is not the index"),
        ({"1": {"/etc/passwd": ""}}, "'/etc/passwd'"),
        ({"1": {"a/../../b": ""}}, "'a/../../b'"),
        ({"1": {"./a": ""}}, "'./a'"),
        ({"1": {"": ""}}, "''"),
        ({"1": {"a\0": ""}}, "relative path"),
        ({"1": {"é" * 128: ""}}, "relative path"),
        ({"1": {"a": "", "a/b": ""}}, "'a' of message 1 is a file and a folder"),
        ({"1": {f"{n}": "" for n in range(201)}}, "201 files of 0 bytes"),
        ({"1": {"a": "é" * 500_001}}, "1 files of 1,000,002 bytes"),
    ],
)
def test_files_that_are_no_snapshot_are_a_bad_row(tmp_path: Path, files: Any, place: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(orjson.dumps(row(files=files)) + b"\n" + orjson.dumps(row()))
    bad, good = read([path])
    assert isinstance(good, Trajectory) and isinstance(bad, BadRow)
    assert bad.reason == "unreadable files" and place in bad.remedy


def test_files_come_back_from_their_columns_and_belong_to_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(orjson.dumps(row(files={"1": FILES | {"ü/\n": "é\0"}})))
    (found,) = read([path])
    assert isinstance(found, Trajectory)
    assert found.files == {1: FILES | {"ü/\n": "é\0"}}
    assert from_row(to_row(found)) == found
    assert [Candidate(id="c", trajectory=found, turn=t).files for t in (0, 1)] == [
        None,
        found.files[1],
    ]


@in_sandbox
def test_a_row_of_files_is_judged_from_the_command_line(tmp_path: Path) -> None:
    def said(command: str) -> dict[str, str]:
        return {"role": "assistant", "content": f"```bash\n{command}\n```"}

    value = row()
    value |= {"messages": value["messages"][:1], "domain": "terminal", "files": FILES}
    value["demonstration"] = said("awk /t/ notes.txt")
    value["action"] = said("awk 'index($0, \"t\")' notes.txt")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(orjson.dumps(value))
    rewards = []
    for options in ([], ["--execute"]):
        command = [sys.executable, "-m", "flows.cli", "verify", "--jsonl", str(path), *options]
        done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
        rewards.append(orjson.loads(done.stdout)["verdict"]["reward"])
    assert rewards == [0.0, 1.0]


@in_sandbox
def test_a_labelled_case_with_files_may_be_run(tmp_path: Path) -> None:
    def said(command: str) -> dict[str, Any]:
        function = {"name": "bash", "arguments": {"command": command}}
        return {"role": "assistant", "tool_calls": [{"function": function}]}

    case = {
        "domain": "terminal",
        "messages": [{"role": "user", "content": "How many lines?"}],
        "demonstration": said("wc -l < a.txt"),
        "action": said("python3 -c 'print(len(open(0).readlines()))' < a.txt"),
        "files": {"a.txt": "x\ny\n"},
        "accepted": True,
    }
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(case))
    recall = [
        json.loads(CliRunner().invoke(app, ["verdicts", str(path), "--json", *how]).stdout)
        for how in ([], ["--execute"])
    ]
    assert [found["domains"]["terminal"]["recall"] for found in recall] == [0.0, 1.0]

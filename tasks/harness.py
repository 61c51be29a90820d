"""A harness of others run on a policy: our own model is served to it, an endpoint is passed on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pivotrl.config import Config, EngineConfig
from pivotrl.environments.harnesses import HARNESSES, Endpoint, HarnessSettings, run
from pivotrl.environments.harnesses.serving import served
from pivotrl.scores import EvaluationItem
from pivotrl.types import ConfigError
from tasks.policy import context_of


def check_harness(config: Config, name: str) -> None:
    """Raises ConfigError with all that is missing: packages, Docker, keys, endpoints."""
    nobody = Endpoint(url="http://127.0.0.1:1/v1", model="policy")
    if missing := HARNESSES[name].missing(harness_settings(config, nobody, Path())):
        raise ConfigError(f"{name} cannot run (section [harness]): {'; '.join(missing)}")


def harness_items(
    config: Config, engine: EngineConfig, model: Path, name: str, folder: Path
) -> list[EvaluationItem]:
    """The items of the policy in `model`; all that is written is under `folder`."""
    shutil.rmtree(folder, ignore_errors=True)  # a harness starts over
    with _agent(config, engine, model, folder / "agent") as agent:
        return run(HARNESSES[name], harness_settings(config, agent, folder / "run"))


def harness_settings(config: Config, agent: Endpoint, folder: Path) -> HarnessSettings:
    asked, judge = config.harness, config.judge
    user = judging = None
    if asked.user_url and asked.user_model:
        user = Endpoint(url=asked.user_url, model=asked.user_model, key_env=asked.user_api_key_env)
    if judge.url and judge.model:
        judging = Endpoint(url=judge.url, model=judge.model, key_env=judge.api_key_env)
    return HarnessSettings(
        folder=folder,
        agent=agent,
        user=user,
        judge=judging,
        python=(asked.python or Path(sys.executable)).absolute(),  # it runs in another folder
        tasks=asked.tasks,
        limit=asked.limit,
        repeats=config.evaluate.repeats or 1,
        concurrency=asked.concurrency,
        options=asked.options,
    )


@contextmanager
def _agent(config: Config, engine: EngineConfig, model: Path, folder: Path) -> Iterator[Endpoint]:
    if engine.name == "server":
        assert engine.url and engine.model  # the configuration sees to it
        yield Endpoint(url=engine.url, model=engine.model, key_env=engine.api_key_env)
        return
    length = ("--max-model-len", str(context_of(config.model, model)))
    with served(
        model,
        folder,
        tool_parser=config.harness.tool_parser,
        options=("--dtype", config.model.dtype, *length, *config.harness.serve_options),
    ) as endpoint:
        yield endpoint

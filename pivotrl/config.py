"""One TOML an experiment: every key, its meaning and its bounds. Importable in milliseconds.

Unknown keys are refused with the nearest known name. Relative paths are taken from the folder
where the command runs. This module must never know Prefect, a model or a database.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pivotrl.types import JSON, ConfigError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")


def _listed(value: JSON) -> JSON:
    return value if isinstance(value, list | tuple) else [value]


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address is http://host/... or https://host/...")
    if "@" in value or parts.query:
        raise ValueError("a key in an address would be stored; name a variable that holds it")
    return value


def _variable(value: str) -> str:
    if not re.fullmatch("[A-Z_][A-Z0-9_]*", value):
        raise ValueError("the NAME of a variable is wanted, as in MY_KEY; a key would be stored")
    return value


Address = Annotated[str, AfterValidator(_address)]
Variable = Annotated[str, AfterValidator(_variable)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class RunConfig(Section):
    name: str = Field(
        pattern=r"^\w[\w .-]*$", description="Names the run in the terminal, Prefect and MLflow."
    )
    seed: int = Field(0, ge=0, description="The one seed; every random number follows from it.")


class DataConfig(Section):
    trajectories: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(
        description="Files, folders, saved data sets or `hf:owner/name`, of any known format."
    )
    tools: Path | None = Field(
        None, description="JSON list of tools, for files whose rows declare none."
    )
    domain: str | None = Field(
        None, description="Domain of all rows, whatever they name; chooses the verifier."
    )
    min_reward: float | None = Field(
        1.0,
        description="Trajectories with a known lower reward are left out, counted; -inf keeps all.",
    )
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of split groups (tasks) held out, decided by hash."
    )
    shard_turns: Count = Field(
        2048,
        description="Assistant turns a shard, the unit of caching and resuming; a trajectory is "
        "never split. Larger ones take more memory, and more is repeated after a kill.",
    )


class ModelConfig(Section):
    path: Path = Field(description="Folder in Hugging Face layout: weights, tokenizer, template.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the weights.")
    device: str = Field("cpu", description="Where torch computes: cpu, cuda, cuda:0.")
    batch_rows: Count = Field(256, description="Sequences decoded at once.")
    max_length: Count | None = Field(
        None, description="Longest sequence in tokens; without, the model's own."
    )


class EngineConfig(Section):
    name: Literal["hf", "vllm", "server"] = Field(
        "hf",
        description="Where completions come from: transformers in this process, vLLM in this "
        "process, or an OpenAI-compatible server, which profiles the base policy.",
    )
    replicas: Count = Field(
        1, description="Engines on a Ray cluster that share the profiling (docs/profiling.md)."
    )
    tensor_parallel: Count = Field(1, description="vLLM: GPUs that hold one model together.")
    memory_share: Share = Field(0.9, description="vLLM: share of the GPU's memory.")
    batch_invariant: bool = Field(
        False, description="vLLM: numbers that do not depend on the batch; slower, newer GPUs only."
    )
    url: Address | None = Field(None, description="Server: its address, `http://host/v1`.")
    model: str | None = Field(None, description="Server: the name under which it serves.")
    api_key_env: Variable | None = Field(
        None, description="Server: environment variable that holds its key; never stored."
    )
    concurrency: Count = Field(32, description="Server: requests at once.")
    timeout: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Seconds that one sample may take, whichever the engine; without, 120 at a "
        "server and any time elsewhere.",
    )

    @model_validator(mode="after")
    def _server_is_named(self) -> EngineConfig:
        if self.name == "server" and not (self.url and self.model):
            raise ValueError("a server needs engine.url and engine.model")
        return self


class ProfileConfig(Section):
    samples: int = Field(16, ge=2, description="K, rollouts a candidate of the reference policy.")
    certainty: Share | None = Field(
        None,
        description="A candidate's sampling ends when what the rule `pivots` (or `mixed`, if "
        "`select.rule` is) would say of it after K is so certain; without, it always samples K "
        "(docs/profiling.md).",
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    top_p: Share = Field(1.0, description="Nucleus share.")
    max_tokens: Count = Field(256, description="Longest action in tokens.")
    share: Share = Field(
        1.0, description="Share of candidates profiled, decided by hash; the others are unprofiled."
    )


class VerifyConfig(Section):
    mode: Literal["functional", "tool_name", "strict"] = Field(
        "functional",
        description="Functional; or the paper's coarse rule, tool names; or its control, equality.",
    )
    execute: bool = Field(
        False,
        description="Functional: shell commands that compare as different are run in a sandbox, "
        "where the row carries `files`.",
    )
    mask: tuple[Literal["truncated", "malformed"], ...] = Field(
        (),
        description="Actions cut at the length limit, or of unreadable markup, that have no reward "
        "instead of 0, in profile and training (docs/profiling.md).",
    )


class JudgeConfig(Section):
    url: Address | None = Field(
        None,
        description="OpenAI-compatible endpoint (`http://host/v1`), asked where rules cannot tell "
        "(a text, a search, a call's text, a command or an edit that may do the same); without, "
        "they reject.",
    )
    model: str | None = Field(None, description="Model that it serves; required with `url`.")
    api_key_env: Variable | None = Field(
        None, description="Environment variable that holds its key; the key is never stored."
    )
    budget: Count = Field(
        10_000,
        description="Requests that profiling may make in a run, retries included, and again each "
        "round of training; the next run goes on where it ends.",
    )
    concurrency: Count = Field(8, description="Requests at once.")


class SelectConfig(Section):
    lambda_diff: Share = Field(0.6, description="λ: a pivot's mean reward is below it.")
    minimum_valid: Share = Field(
        0.5, description="A candidate with a smaller share of valid rollouts is unprofiled."
    )
    rule: str = Field(
        "pivots",
        description="`pivots`: variance > 0 AND mean < λ; `mixed`: variance > 0; `all`; an SQL "
        "condition; or a query `SELECT candidate_id FROM pivot_stats …`.",
    )
    limit: Count | None = Field(None, description="At most so many, by `order`.")
    limit_per_domain: Count | None = Field(None, description="At most so many of a domain.")
    order: Literal["variance", "random"] = Field(
        "variance",
        description="Who comes first under a limit: the largest variance, or by hash of run.seed "
        '(`rule = "all"` with a limit is the random control).',
    )


class TrainConfig(Section):
    start: Literal["base", "champion"] = Field(
        "base",
        description="Policy that is profiled and trained further: `model.path`, or the registered "
        "model's `champion`; the base stays the reference of KL and scores.",
    )
    rounds: Count = Field(
        1,
        description="At most so many; where one ends early, by `stale_share` or `patience`, and "
        "better than it began, the next profiles again with the new policy.",
    )
    steps: Count = Field(100, description="Optimiser batches a round.")
    pivots_per_step: Count = Field(16, description="B, pivots a step.")
    group_size: int = Field(16, ge=2, description="G, actions sampled at a pivot.")
    max_pivots_per_trajectory: Count = Field(
        4, description="Pivots of a trajectory that come together in a step and share its history."
    )
    replacements: int = Field(
        1, ge=0, description="Times that a step replaces groups without a signal."
    )
    updates_per_batch: Count = Field(1, description="Optimiser steps on one sampled batch.")
    learning_rate: float = Field(1e-6, gt=0, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up, in steps.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "gspo"] = Field(
        "dapo", description="The objective, by TRL's names (docs/training.md)."
    )
    clip_low: float = Field(0.2, gt=0, lt=1, description="ε below 1 of the probability ratio.")
    clip_high: float = Field(0.2, gt=0, description="ε above 1 of the probability ratio.")
    kl_beta: float = Field(0.0, ge=0, description="β of KL(π‖π₀); 0 keeps no reference model.")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights that is validated and saved; 0 "
        "saves the weights themselves.",
    )
    advantage: Literal["population", "sample", "leave_one_out", "no_std"] = Field(
        "population", description="How rewards are normalised within the group."
    )
    importance_correction: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ] = Field("token_truncate", description="Of a sampler that disagrees with the trainer.")
    importance_cap: float = Field(2.0, gt=1, description="Bound of the correcting weight.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    max_tokens: Count = Field(256, description="Longest action in tokens.")
    micro_batch_tokens: Count = Field(16384, description="Tokens of one forward and backward.")
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice and keep few: less memory, a third more work."
    )
    processes: Count = Field(
        1, description="Processes that hold one model in shards (FSDP2): the GPUs of this machine."
    )
    nodes: Count = Field(1, description="Machines with so many each; they share PIVOTRL_HOME.")
    master: str = Field(
        "127.0.0.1:29500", description="HOST:PORT where the other machines find this one."
    )
    freeze: tuple[str, ...] = Field(
        (), description="Parts of names of parameters not to train; `mlp.gate.` freezes routers."
    )
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA adapters; 0 trains all weights.")
    lora_alpha: Count = Field(32, description="Their scale, over the rank.")
    validate_every: Count = Field(25, description="Steps between validations.")
    validation_pivots: int = Field(64, ge=0, description="Held-out candidates validated on.")
    validation_samples: Count = Field(4, description="Actions sampled at each of them.")
    patience: int = Field(
        0, ge=0, description="Validations without a new best that end a round; 0 never does."
    )
    checkpoint_every: Count = Field(10, description="Steps between checkpoints (resume points).")
    stale_share: float = Field(
        1 / 3,
        ge=0,
        lt=1,
        description="A round ends when reward std falls to this share of its first.",
    )

    @model_validator(mode="after")
    def _rounds_can_end(self) -> TrainConfig:
        if self.rounds > 1 and self.validation_pivots and not self.patience:
            raise ValueError(
                "rounds follow one that validation no longer improves; set train.patience, say to 3"
            )
        return self

    @property
    def devices(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes


class SFTConfig(Section):
    enabled: bool = Field(False, description="Also train the SFT control and show it beside.")
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-5,), description="Swept; every setting is scored and shown."
    )
    epochs: tuple[Count, ...] = Field((2,), description="Swept with every learning rate.")
    batch_size: Count = Field(16, description="Trajectories a step.")


class EndToEndConfig(Section):
    enabled: bool = Field(
        False,
        description="Also train the control that plays whole episodes and learns from their end "
        "alone, and show it beside; what is not said here is as in [train].",
    )
    domain: Literal["retail", "shell", "repo", "web"] = Field(
        "retail", description="Live domain that it plays in."
    )
    horizon: Count | None = Field(
        None, description="How long its tasks are, as evaluate.horizon has it."
    )
    tasks: Count = Field(300, description="Tasks that it meets again and again.")
    validation_tasks: Count = Field(64, description="Held-out tasks validated on.")
    steps: Count = Field(50, description="Optimiser batches.")
    tasks_per_step: Count = Field(8, description="Tasks a step.")
    group_size: int = Field(8, ge=2, description="G, episodes of a task.")
    learning_rate: float = Field(1e-6, gt=0, description="Peak learning rate of AdamW.")


class InstrumentsConfig(Section):
    candidates: int = Field(
        0,
        ge=0,
        description="Profiled turns on which gradients and drift are held against the theory "
        "(docs/comparison.md); 0 leaves it out.",
    )


class EvaluateConfig(Section):
    domains: tuple[str, ...] = Field(
        (),
        description="Live domains to score in: retail, shell, repo, web; or by the harness of "
        "others: tau2_airline, tau2_retail, tau2_telecom, swe_bench, terminal_bench, "
        "browsecomp (docs/evaluation.md).",
    )
    tasks: int = Field(400, ge=2, description="Fresh test tasks of each live domain of ours.")
    horizon: Count | None = Field(
        None, description="How long their tasks are; without, as the domain draws them."
    )
    max_tokens: Count = Field(256, description="Longest answer and action in tokens.")
    benchmarks: tuple[str, ...] = Field((), description="Out-of-domain benchmarks to run.")
    data: str = Field(
        "real",
        description="Their rows: `real` (fetched once from the hub), `miniature`, or a folder with "
        "one <benchmark>.jsonl each.",
    )
    items: Annotated[int, Field(ge=2)] | None = Field(
        None, description="So many rows of each benchmark, drawn by their ids' hash; without, all."
    )
    temperature: float = Field(0.0, ge=0, description="Of benchmarks; 0 is greedy.")
    top_p: Share = Field(1.0, description="Nucleus share, of benchmarks.")
    repeats: Count | None = Field(
        None,
        description="Responses to each row; without, as many as NVIDIA's harness takes of real "
        "rows, one of miniature ones and where decoding is greedy.",
    )


class HarnessConfig(Section):
    python: Path | None = Field(
        None, description="Interpreter of the environment that has the harness; without, this one."
    )
    user_url: Address | None = Field(
        None, description="OpenAI-compatible endpoint that plays the user."
    )
    user_model: str | None = Field(None, description="Model that it serves.")
    user_api_key_env: Variable | None = Field(
        None, description="Environment variable that holds its key; never stored."
    )
    limit: Count | None = Field(None, description="The first so many tasks; without, all.")
    tasks: tuple[str, ...] = Field((), description="Only these, by the benchmark's own ids.")
    concurrency: Count = Field(4, description="Tasks at once.")
    tool_parser: str = Field(
        "hermes", description="vLLM's name of the form in which the model writes calls."
    )
    serve_options: tuple[str, ...] = Field((), description="More words for `vllm serve`.")
    options: tuple[str, ...] = Field((), description="More words for the harness's command.")


class RegisterConfig(Section):
    model: str = Field(
        "pivotrl",
        pattern=r"^[\w-][\w -]*$",
        description="Registered model in MLflow, which takes no dot, slash, colon or quote.",
    )
    alias: str = Field(
        "challenger",
        pattern=r"^(?!(latest|v\d+)$)[A-Za-z][\w-]*$",
        description="Alias that the new version takes; MLflow keeps `latest` and `v1` for itself.",
    )


class PromoteConfig(Section):
    automatic: bool = Field(
        False, description="A model that passes the gate becomes `champion` at once."
    )
    min_gain: float = Field(
        0.0,
        description="Points: the lower end of the 95 % interval of the gain in every live domain "
        "must be above it.",
    )
    max_drop: float = Field(
        5.0,
        ge=0,
        description="Points: the lower end of the interval of any benchmark's change may be so "
        "far below 0.",
    )
    max_kl: float | None = Field(
        None,
        gt=0,
        description="Nats a token to π₀ in the step after the model's own, or its last; without, "
        "not asked.",
    )
    max_malformed: float = Field(
        0.05, ge=0, le=1, description="Share of malformed actions in that step."
    )


class Config(Section):
    run: RunConfig
    data: DataConfig
    model: ModelConfig
    engine: EngineConfig = EngineConfig()
    profile: ProfileConfig = ProfileConfig()
    verify: VerifyConfig = VerifyConfig()
    judge: JudgeConfig = JudgeConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    sft: SFTConfig = SFTConfig()
    end_to_end: EndToEndConfig = EndToEndConfig()
    instruments: InstrumentsConfig = InstrumentsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    harness: HarnessConfig = HarnessConfig()
    register_: RegisterConfig = Field(RegisterConfig(), alias="register")
    promote: PromoteConfig = PromoteConfig()

    @property
    def verifier(self) -> dict[str, JSON]:
        """Options of `verifier_for`; where a judge is, rules leave to it what they cannot tell."""
        own: dict[str, JSON] = self.verify.model_dump(mode="json", exclude={"mask"})
        return own | {"ask": self.judge.url is not None}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The checked configuration in the TOML file `path`, with `key=value` overrides on top.

    A value is read as TOML and, where that fails, as a plain string.
    Raises ConfigError, one line naming the file, the key and the remedy.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file; see configs/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from None
    return make_config(tree, overrides, str(path))


def make_config(tree: dict[str, Any], overrides: Sequence[str], source: str) -> Config:
    """The same of a tree that is read already; `source` names it in errors."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r}: an override is written key=value, e.g. run.seed=1")
        _set(tree, key.split("."), _value(text))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from None


def _value(text: str) -> JSON:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _set(tree: dict[str, Any], keys: Sequence[str], value: JSON) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{'.'.join(keys)}: {key} is a value, not a section")
    tree[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}{more}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; add it to the file or type {key}=VALUE{more}"
    # scheduled runs log it
    given = "***" if key.endswith(("_env", "url")) else repr(first["input"])
    return f"{key} = {given}: {first['msg'].lower()}{more}"


def _known(place: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in place:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        if field is None or not isinstance(field.annotation, type):
            return []
        model = field.annotation
    return [f.alias or n for n, f in model.model_fields.items()]


def flatten(config: Config) -> dict[str, JSON]:
    """`{"section.key": value}`, as MLflow parameters and the documentation list them."""
    tree: Mapping[str, Mapping[str, JSON]] = config.model_dump(mode="json", by_alias=True)
    return {f"{s}.{k}": v for s, section in tree.items() for k, v in section.items()}


def describe() -> str:
    """Every key with its default and meaning as Markdown: `docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "Written by `python infra/reference.py`. One TOML an experiment; on the command line any",
        "key is `section.key=value`.",
    ]
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, Section)
        lines += [
            "",
            f"## {field.alias or name}",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        for key, leaf in section.model_fields.items():
            default = "required" if leaf.is_required() else f"`{leaf.default}`"
            lines.append(f"| `{key}` | {default} | {leaf.description} |")
    return "\n".join(lines) + "\n"

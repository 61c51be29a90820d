"""The paper's experiment at full size: what can be known of it without the cards.

Each configuration is planned from its shape; and its whole DAG runs for real on a tiny model of the
same architecture: the embedded default with every MLP split into experts, which is exact.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from line import ROOT, SMALL, pivotrl, report
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

from pivotrl.config import load_config

CONFIGS = sorted((ROOT / "configs/paper").glob("*.toml"))
BASE = ROOT / "pivotrl/mini/model"


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded default as a mixture: every expert is its MLP, so any routing gives the same."""
    folder = tmp_path_factory.mktemp("experts")
    dense = AutoModelForCausalLM.from_pretrained(BASE)
    known = {
        name: value
        for name, value in dense.config.to_dict().items()
        if name not in ("architectures", "model_type", "layer_types", "max_window_layers")
    }
    config = Qwen3MoeConfig(
        **known,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        moe_intermediate_size=dense.config.intermediate_size,
        decoder_sparse_step=1,
    )
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(config)
    own = dict(dense.state_dict())
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "experts" not in name and "mlp.gate" not in name:
                value.copy_(own[name])
        for sparse, plain in zip(model.model.layers, dense.model.layers, strict=True):
            mlp = plain.mlp
            both = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            sparse.mlp.experts.gate_up_proj.copy_(both.expand(4, -1, -1))
            sparse.mlp.experts.down_proj.copy_(mlp.down_proj.weight.expand(4, -1, -1))
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=1e-4)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return folder


def test_the_four_domains_hold_the_published_settings() -> None:
    assert [path.stem for path in CONFIGS] == ["browsecomp", "swe_bench", "tau2", "terminal_bench"]
    for path in CONFIGS:
        config = load_config(path, [])
        assert (config.profile.samples, config.train.group_size) == (16, 16)
        assert (config.train.pivots_per_step, config.train.learning_rate) == (64, 1e-6)
        assert (config.select.lambda_diff, config.train.kl_beta) == (0.6, 0.0)
        assert len(config.evaluate.benchmarks) == 8
        assert config.harness.serve_options[0] == "--reasoning-parser", "it thinks"
        assert config.model.max_length and config.evaluate.max_tokens < config.model.max_length
    swe = load_config(ROOT / "configs/paper/swe_bench.toml", [])
    assert (swe.train.clip_high, swe.verify.mode, swe.model.max_length) == (
        0.28,
        "tool_name",
        131_072,
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_is_planned(path: Path, tmp_path: Path) -> None:
    found = json.loads(pivotrl(tmp_path, "plan", str(path), "--card", "H200", "--json").stdout)
    assert (found["parameters"], found["devices"], found["fits"]) == (30_532_122_624, 16, True)
    assert found["device_hours"] > 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_runs_whole_on_a_tiny_mixture_of_experts(
    path: Path, tmp_path: Path, data: Path, experts: Path, prefect_server: str
) -> None:
    home = tmp_path / "home"
    arguments = [
        *("run", str(path), f"data.trajectories={data / 'retail.jsonl'}", f"model.path={experts}"),
        *("data.domain=retail", "model.dtype=float32", "model.device=cpu", "engine.name=hf"),
        *("train.processes=1", "train.nodes=1", "model.max_length=1000"),
        *("profile.max_tokens=64", "train.max_tokens=64", "train.micro_batch_tokens=4800"),
        *("evaluate.domains=['retail']", f"evaluate.data={data / 'benchmarks'}"),
        *("evaluate.max_tokens=96", "evaluate.temperature=0", *SMALL, "train.steps=2"),
    ]
    pivotrl(home, *arguments, server=prefect_server)
    made = report(home)
    assert made["outcome"] == "trained" and made["training"]["steps"] == 2
    assert len(made["scores"]["trained"]) == 2 + 8
    published = next(home.glob("checkpoints/train/*/config.json"))
    assert json.loads(published.read_text())["model_type"] == "qwen3_moe"

"""Configuration: every key documented, unknown ones refused with the nearest name, bounds held."""

from __future__ import annotations

from pathlib import Path

import pytest

from pivotrl.config import Config, Section, flatten, load_config, make_config
from pivotrl.suites import suites
from pivotrl.types import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["mini.toml", "own.toml"])
def test_shipped_configurations_load(name: str) -> None:
    config = load_config(ROOT / "configs" / name)
    assert config.run.name == name.removesuffix(".toml")
    assert flatten(config)["select.lambda_diff"] == 0.6


def test_overrides_are_toml_or_text() -> None:
    overrides = ["run.seed=3", "model.path=some/folder", "sft.epochs=[1, 2]", "data.domain=retail"]
    config = load_config(ROOT / "configs/own.toml", overrides)
    assert config.run.seed == 3
    assert config.model.path == Path("some/folder")
    assert config.sft.epochs == (1, 2)
    assert config.data.domain == "retail"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("select.lamda_diff=0.5", ["select.lamda_diff", "did you mean 'lambda_diff'"]),
        ("trian.steps=5", ["trian", "did you mean 'train'"]),
        ("select.lambda_diff=0", ["select.lambda_diff", "greater than 0"]),
        ("select.lambda_diff=1.5", ["select.lambda_diff", "less than or equal to 1"]),
        ("profile.samples=1", ["profile.samples", "greater than or equal to 2"]),
        ("train.group_size=1", ["train.group_size", "greater than or equal to 2"]),
        ("model.dtype=float8", ["model.dtype", "float32"]),
        ("noequals", ["key=value"]),
        ("run.name=team/exp", ["run.name", "pattern"]),
        ("register.model=qwen2.5-7b", ["register.model", "pattern"]),
        ("register.alias=v2", ["register.alias"]),
        ("sft.epochs=[0]", ["sft.epochs", "greater than or equal to 1"]),
        ("evaluate.items=1", ["evaluate.items", "greater than or equal to 2"]),
        ("run.name.deeper=1", ["name is a value"]),
        ("judge.url=https://host/v1?key=sk-abc", ["would be stored"]),
        ("judge.url=ftp://host", ["judge.url", "is http://host/"]),
        ("judge.api_key_env=sk-abc", ["judge.api_key_env = ***", "would be stored"]),
        ("judge.url=https://me:sk-abc@host/v1", ["judge.url = ***", "would be stored"]),
        ("judge.url=host/v1?key=sk-abc", ["judge.url = ***", "is http://host/"]),
    ],
)
def test_a_wrong_key_or_value_is_one_line_with_the_remedy(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "configs/own.toml", [override])
    message = str(caught.value)
    assert "\n" not in message and "sk-abc" not in message
    for word in words:
        assert word in message


def test_a_missing_file_broken_toml_and_missing_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("[run\n")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        load_config(tmp_path / "broken.toml")
    (tmp_path / "short.toml").write_text("[run]\nname = 'x'\n[model]\npath = 'm'\n")
    with pytest.raises(ConfigError, match=r"data' is missing"):
        load_config(tmp_path / "short.toml")


def test_every_key_says_what_it_means() -> None:
    for field in Config.model_fields.values():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        for key, leaf in field.annotation.model_fields.items():
            assert leaf.description, key


def test_longer_tasks_are_a_suite_of_their_own() -> None:
    tree = {"run": {"name": "x"}, "data": {"trajectories": "t.jsonl"}, "model": {"path": "m"}}
    settings = ["evaluate.domains=['retail']", "evaluate.horizon=4"]
    labels = [suite.label for suite in suites(make_config(tree, settings, "x"))]
    assert labels == ["retail x4 T=1", "retail x4 greedy"]

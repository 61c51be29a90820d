"""Adaptive against fixed profiling, replayed on stored rewards: docs/results/adaptive.md.

    python bench/adaptive.py [--home HOME] [--json]

Pools of K = 16 rewards a candidate: a simulated one (40 % p = 0, 22 % p = 1, the rest
Beta(.7, .7)), that of `make demo` (demo_rewards.txt: four hexadecimal digits a candidate, sample 0
is the highest bit) and, with --home, what runs with a fixed K left in that store. All are replayed
in the order of `sample_index` and in random ones; a range is the central 95 % of orders.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from pathlib import Path

import duckdb
import numpy as np

from pivotrl.adaptive import is_open, is_pivot, looks
from pivotrl.profiling import profile_sql
from pivotrl.store.connection import connection
from pivotrl.types import PivotRLError

ROOT = Path(__file__).parents[1]
K, LAMBDA, ADVISED = 16, 0.6, 0.99
CURVE = (1.0, 0.995, ADVISED, 0.97, 0.95, 0.93, 0.9, 0.8)
RATES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PIVOT = np.array([[is_pivot(right, n, LAMBDA) for right in range(K + 1)] for n in range(K + 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    rewards: np.ndarray
    """Candidates × K, 0 or 1."""
    rates: np.ndarray
    """True success rate of each candidate, or what stands for it."""


def simulated(candidates: int = 10_000, seed: int = 0) -> Pool:
    """The fixed pool that the targets name."""
    random = np.random.default_rng(seed)
    kind, rates = random.random(candidates), random.beta(0.7, 0.7, candidates)
    rates = np.where(kind < 0.4, 0.0, np.where(kind < 0.62, 1.0, rates))
    return Pool(rewards=(random.random((candidates, K)) < rates[:, None]).astype(int), rates=rates)


def demo() -> Pool:
    """The profile that `make demo` makes; the mean of all K stands for the rate."""
    words = (ROOT / "bench" / "demo_rewards.txt").read_text().split()
    rewards = np.array([[int(bit) for bit in f"{int(word, 16):0{K}b}"] for word in words])
    return Pool(rewards=rewards, rates=rewards.mean(1))


def stored(home: Path) -> Pool:
    """A store's profiles; the mean of all K stands for the rate, which nobody knows.

    Raises PivotRLError where profiles are shorter than K, or rewards are missing or graded.
    """
    with connection(home / "pivotrl.duckdb", read_only=True, wait_seconds=60) as store:
        rows = store.execute(
            "SELECT list(reward ORDER BY sample_index) FROM judged_verdicts JOIN rollouts"
            " USING (rollout_id) GROUP BY rollouts.candidate_id, rollouts.policy ORDER BY ALL"
        ).fetchall()
    if not rows or any(len(row) != K or not set(row) <= {0, 1} for (row,) in rows):
        raise PivotRLError(f"{home}: not {K} rewards of 0 or 1 everywhere; run with a fixed K")
    rewards = np.array([row for (row,) in rows], dtype=int)
    return Pool(rewards=rewards, rates=rewards.mean(1))


@lru_cache
def open_at(certainty: float) -> np.ndarray:
    """[n, right]: whether a candidate goes on after n rewards."""
    table = np.zeros((K + 1, K + 1), dtype=bool)
    for n in looks(K):
        for right in range(n + 1):
            rewards = [1.0] * right + [0.0] * (n - right)
            table[n, right] = is_open(rewards, samples=K, lambda_diff=LAMBDA, certainty=certainty)
    return table


def replay(rewards: np.ndarray, rates: np.ndarray, certainty: float | None) -> list[float]:
    """Recall, precision, share of rollouts, true pivots kept, others kept; None is fixed K = 8."""
    right = np.cumsum(np.pad(rewards, ((0, 0), (1, 0))), axis=1)
    n = np.full(len(rewards), K if certainty is not None else 8)
    if certainty is not None:
        table = open_at(certainty)
        for look in reversed(looks(K)):
            n = np.where(table[look, right[:, look]], n, look)
    kept = PIVOT[n, right[np.arange(len(n)), n]]
    reference, true = PIVOT[K, right[:, K]], (rates > 0.1) & (rates < LAMBDA)
    both = (kept & reference).sum()
    shares = [both / reference.sum(), both / kept.sum(), n.mean() / K]
    return [*map(float, shares), float((kept & true).sum()), float((kept & ~true).sum())]


def curve(pool: Pool, orders: int, seed: int = 0) -> dict[float | None, np.ndarray]:
    """Certainty -> orders × the numbers of `replay`, the stored order first."""
    random = np.random.default_rng(seed)
    shuffled = [random.permuted(pool.rewards, axis=1) for _ in range(orders - 1)]
    return {
        certainty: np.array([replay(r, pool.rates, certainty) for r in (pool.rewards, *shuffled)])
        for certainty in (*CURVE, None)
    }


def summary(points: dict[float | None, np.ndarray]) -> dict[str, float]:
    """Means over orders: at the advised certainty, and at the highest one within half the cost."""
    means = {certainty: values.mean(0) for certainty, values in points.items()}
    half = max((c for c in CURVE if means[c][2] <= 0.5), default=min(CURVE))
    recall, precision, share = means[ADVISED][:3]
    return {
        "recall": recall,
        "precision": precision,
        "rollout_share": share,
        "true_pivots_half": means[half][3],
        "true_pivots_k8": means[None][3],
    }


@lru_cache
def stops(certainty: float | None) -> dict[tuple[int, int], int]:
    """(right, n) where a candidate closes -> sequences that lead there; None is fixed K."""
    table = open_at(certainty) if certainty else None
    closed: dict[tuple[int, int], int] = {}
    reached, before = Counter({0: 1}), 0
    for look in looks(K) if certainty else (K,):
        here: Counter[int] = Counter()
        for right, ways in reached.items():
            for more in range(look - before + 1):
                here[right + more] += ways * comb(look - before, more)
        goes_on = {right for right in here if table is not None and table[look, right]}
        closed |= {(right, look): ways for right, ways in here.items() if right not in goes_on}
        reached, before = Counter({right: here[right] for right in goes_on}), look
    return closed


@lru_cache
def intervals() -> dict[tuple[int, int], tuple[float, float]]:
    """(right, n) -> the interval that `pivot_stats` gives."""
    rows = [
        (f"{right}/{n}", float(number < right))
        for n in looks(K)
        for right in range(n + 1)
        for number in range(n)
    ]
    with duckdb.connect(":memory:") as database:
        database.execute(
            "CREATE TABLE verdicts AS SELECT unnest($1) AS candidate_id, unnest($2) AS reward,"
            " 'p' AS policy, 'v' AS verifier, '1' AS verifier_version, 'ok' AS status",
            [list(column) for column in zip(*rows, strict=True)],
        )
        found = database.execute(
            f"SELECT candidate_id, interval_low, interval_high FROM ({profile_sql('verdicts')})"
        ).fetchall()
    return {tuple(map(int, name.split("/"))): (low, high) for name, low, high in found}  # type: ignore[misc]


def estimates(rate: float, certainty: float | None) -> list[float]:
    """Exact at a true rate: mean n, bias of the mean, of kept ones, coverage of the interval."""
    states = stops(certainty).items()
    chance = {s: ways * rate ** s[0] * (1 - rate) ** (s[1] - s[0]) for s, ways in states}
    kept = {s: p for s, p in chance.items() if PIVOT[s[1], s[0]]}
    known = intervals()
    return [
        sum(p * n for (_, n), p in chance.items()),
        sum(p * right / n for (right, n), p in chance.items()) - rate,
        sum(p * right / n for (right, n), p in kept.items()) / sum(kept.values()) - rate,
        sum(p for s, p in chance.items() if known[s][0] <= rate <= known[s][1]),
    ]


def page(pools: dict[str, Pool], orders: int) -> tuple[list[str], dict[str, dict[str, float]]]:
    lines = [
        "# Adaptive profiling, replayed",
        "",
        f"`python bench/adaptive.py{' --home HOME' * ('home' in pools)} --orders {orders}`;"
        f" K = {K}, λ = {LAMBDA}, looks at {', '.join(map(str, looks(K)))}; rule, prior and",
        "estimators: [../profiling.md](../profiling.md). Recall and precision are against fixed",
        f"K = {K} on the same rewards: mean of {orders} orders [central 95 %]. True pivots have",
        "0.1 < p < λ; others kept are all the rest. In a stored pool p is unknown, and the mean",
        "of the same 16 rewards stands for it: there fixed K = 16 is right by definition.",
    ]
    result = {}
    for name, pool in pools.items():
        points = curve(pool, orders)
        result[name] = summary(points)
        lines += [
            "",
            f"## {name}: {len(pool.rates)} candidates, {PIVOT[K, pool.rewards.sum(1)].sum()}"
            f" pivots at K = {K}",
            "",
            "| certainty | recall | precision | rollouts, % | true pivots | others kept |",
            "|---|---|---|---|---|---|",
        ]
        for certainty, values in points.items():
            mean, (low, high) = values.mean(0), np.quantile(values, (0.025, 0.975), axis=0)
            shares = [f"{mean[i]:.3f} [{low[i]:.3f}, {high[i]:.3f}]" for i in (0, 1)]
            label = "fixed K = 8" if certainty is None else f"{certainty:g}"
            label += " (advised)" if certainty == ADVISED else ""
            lines.append(
                f"| {label} | {' | '.join(shares)} | {100 * mean[2]:.1f} | {mean[3]:.0f}"
                f" [{low[3]:.0f}, {high[3]:.0f}] | {mean[4]:.0f} |"
            )
    return lines, result


def estimator_table() -> list[str]:
    lines = [
        "",
        f"## What stopping does to the mean: certainty {ADVISED}, exact, beside fixed K = {K}",
        "",
        "| p | mean n | bias | bias of kept | the same, fixed | interval covers, % | fixed |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in RATES:
        n, bias, of_kept, covers = estimates(rate, ADVISED)
        *_, fixed_kept, fixed_covers = estimates(rate, None)
        lines.append(
            f"| {rate} | {n:.1f} | {bias:+.3f} | {of_kept:+.3f} | {fixed_kept:+.3f}"
            f" | {100 * covers:.1f} | {100 * fixed_covers:.1f} |"
        )
    grid = (np.arange(500) + 0.5) / 500
    adaptive, fixed = (np.array([estimates(p, c) for p in grid]) for c in (ADVISED, None))
    lines += [
        "",
        f"p uniform on (0, 1): bias {adaptive[:, 1].min():+.3f} to {adaptive[:, 1].max():+.3f};"
        f" the 95 % interval covers {100 * adaptive[:, 3].mean():.1f} %",
        f"(least {100 * adaptive[:, 3].min():.1f}), under fixed K = {K}"
        f" {100 * fixed[:, 3].mean():.1f} % (least {100 * fixed[:, 3].min():.1f}).",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Adaptive against fixed profiling, replayed.")
    parser.add_argument("--home", type=Path, help="PIVOTRL_HOME of a run with a fixed K = 16")
    parser.add_argument("--orders", type=int, default=100, help="orders of each pool's rewards")
    parser.add_argument("--json", action="store_true", help="the targets' numbers alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "adaptive.md")
    options = parser.parse_args()
    pools = {"simulated": simulated(), "demo": demo()}
    if options.home:
        pools["home"] = stored(options.home)
    lines, result = page(pools, options.orders)
    if options.json:
        print(json.dumps({"pools": result}))
        return
    text = "\n".join([*lines, *estimator_table()]) + "\n"
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Trees of rows: every row once, whole, with its own history; and what a pass over them costs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import random_model

from pivotrl.training.flops import row_flops, shape_of, tree_flops
from pivotrl.training.tree import Layout, Row, bins, in_order

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    """Prompts that continue each other, share a beginning or nothing."""
    prompts = [draw(tokens)]
    for _ in range(draw(st.integers(0, 4))):
        known = draw(st.sampled_from(prompts))
        prompts.append(known[: draw(st.integers(0, len(known)))] + draw(tokens))
    completions = st.lists(st.integers(0, 2), max_size=4).map(tuple)
    return [
        Row(
            sample=number,
            prompt=draw(st.sampled_from(prompts)),
            completion=draw(completions),
            is_shared=draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 10)))
    ]


def check_layout(layout: Layout) -> None:
    """Walks from every predicting token back through what it sees: that must be its row."""
    place_of = iter(layout.predicting)
    node_of = {place: node for node in layout.nodes for place in range(node.start, node.stop)}
    assert len(node_of) == len(layout.ids) == len(layout.positions)
    for row in layout.rows:
        for length in range(len(row.prompt), len(row.inputs) + 1):
            place = next(place_of)
            node = node_of[place]
            seen = [i for span in node.seen for i in range(*span)]
            seen += range(node.start, place + 1)
            assert tuple(layout.ids[i] for i in seen) == row.inputs[:length]
            assert [layout.positions[i] for i in seen] == [*range(length)]
    assert next(place_of, None) is None


@settings(deadline=None, max_examples=300)
@given(some_rows(), st.integers(1, 30))
def test_every_row_is_there_once_with_its_own_history(rows: list[Row], limit: int) -> None:
    layouts = [*bins(rows, limit)]
    for layout in layouts:
        check_layout(layout)
        most = max(limit, 2 * len(layout.rows[0].prompt), len(layout.rows[0].inputs))
        assert len(layout.ids) <= most
    met = sorted(row.sample for layout in layouts for row in layout.rows)
    assert met == [row.sample for row in rows if row.completion]
    apart = [*bins(rows, limit, is_tree=False)]
    assert sorted(row.sample for layout in apart for row in layout.rows) == met


@settings(deadline=None)
@given(some_rows())
def test_what_rows_share_is_read_once(rows: list[Row]) -> None:
    rows = [row for row in rows if row.completion]
    if not rows:
        return
    layout = Layout(in_order(rows))
    trunks = {row.trunk[: len(row.inputs)][:n] for row in rows for n in range(1, 99)}
    rest = sum(len(row.inputs) - len(row.trunk) for row in rows if not row.is_shared)
    # Two copies of one turn end one token before their trunk does; nothing else is read twice.
    assert len(layout.ids) <= len(trunks) + rest + len(rows)


def test_a_group_is_one_prompt_and_its_completions() -> None:
    prompt = tuple(range(10))
    rows = [Row(sample=i, prompt=prompt, completion=(20 + i, 1, 2, 3)) for i in range(4)]
    layout = Layout(in_order(rows))
    assert len(layout.ids) == 10 + 4 * 3
    assert layout.row_tokens == 4 * 13
    assert [node.depth for node in layout.nodes] == [0, 10, 10, 10]


def test_pivots_of_a_trajectory_read_its_longest_prompt_once() -> None:
    history = tuple(range(100))
    rows = [
        Row(sample=i, prompt=history[: 25 * (1 + i // 8)], completion=(200 + i, 1, 1))
        for i in range(32)
    ]
    layout = Layout(in_order(rows))
    assert len(layout.ids) == 100 + 32 * 2
    assert layout.nodes[0].seen == ()
    assert {node.seen for node in layout.nodes[1:]} == {((0, n),) for n in (25, 50, 75, 100)}


def test_the_turns_of_a_trajectory_are_one_sequence() -> None:
    turns = [((1, 2), (3, 4)), ((1, 2, 3, 4, 5), (6,)), ((1, 2, 3, 4, 5, 6, 7, 8), (9, 9, 9))]
    rows = [
        Row(sample=i, prompt=prompt, completion=completion, is_shared=True)
        for i, (prompt, completion) in enumerate(turns)
    ]
    layout = Layout(in_order(rows))
    assert layout.ids == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert len(layout.nodes) == 1
    check_layout(layout)


def test_flops_are_those_of_the_formula() -> None:
    model = random_model(vocabulary=50, hidden=32, layers=2)
    shape = shape_of(model)
    per_layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64
    assert shape.weights == 2 * per_layer
    assert shape.head == 50 * 32
    assert shape.pair == 4 * 8 * 4 * 2
    rows = [Row(sample=i, prompt=(1,) * 9, completion=(2 + i, 5)) for i in range(2)]
    layout = Layout(in_order(rows))
    assert len(layout.ids) == 11
    head = 2 * 50 * 32 * 4
    assert tree_flops(shape, layout) == pytest.approx(
        2 * shape.weights * 11 + shape.pair * (10 * 11 / 2 + 10) + head
    )
    assert row_flops(shape, layout) == pytest.approx(
        2 * (2 * shape.weights * 10 + shape.pair * 10 * 11 / 2) + head
    )

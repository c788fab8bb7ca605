"""Paired differences against plain loops, and which row a distilled one is held against."""

import math

import pytest
from test_comparison import body_of, line_of

from torch_geometric_ddp.comparison import (
    paired_differences,
    paired_markdown,
    pool_splits,
    summarize,
)


def rows_of(values, **common):
    """Rows of one seed a figure; those called DDP are distilled."""
    return [
        line_of(name, value, seed=seed, **{**({"steps": 7} if name == "DDP" else {}), **common})
        for name, figures in values.items()
        for seed, value in enumerate(figures)
    ]


def table_of(runs):
    return body_of(paired_markdown(summarize(runs)))


def test_differences_are_those_of_a_loop():
    runs = rows_of({"random": [0.1, 0.5, 0.3, 0.2], "DDP": [0.4, 0.3, 0.6]})
    random, ddp = summarize(runs)
    assert paired_differences(ddp, random) == pytest.approx([0.3, -0.2, 0.3])
    # The other way round the seed that only one of them has is left out.
    assert paired_differences(random, ddp) == pytest.approx([-0.3, 0.2, -0.3])
    (line,) = table_of(runs)
    spread = math.sqrt(sum((d - 40 / 3) ** 2 for d in (30, -20, 30)) / 2)
    assert line["above it"] == f"+13.3 ± {spread:.1f}"
    assert line["seeds above"] == "2 of 3"
    assert [*line] == ["method", "strongest not distilled", "above it", "seeds above"]


def test_the_strongest_row_without_steps_is_the_one():
    runs = rows_of(
        {"weak": [0.1, 0.2], "strong": [0.6, 0.7], "even": [0.3, 0.3], "DDP": [0.5, 0.5]}
    )
    runs += rows_of({"whole": [0.9, 0.9]}, budget_bits=None)
    (line,) = table_of(runs)
    assert (line["method"], line["strongest not distilled"]) == ("DDP", "strong")
    assert (line["above it"], line["seeds above"]) == ("-15.0 ± 7.1", "0 of 2")
    # One figure has no spread, and no difference is no lead.
    (line,) = table_of(rows_of({"strong": [0.5], "DDP": [0.5]}))
    assert (line["above it"], line["seeds above"]) == ("+0.0", "0 of 1")


@pytest.mark.parametrize(
    "other",
    [
        {"ppc": 3},
        {"backbone": "Norm"},
        {"protocol": {"name": "other"}},
        {"num_networks": 3},
        {"source": "other"},
        {"budget_bits": None},
        {"steps": 5},
        {"seed": 9},
    ],
)
def test_rows_that_are_not_alike_are_not_held_against_each_other(other):
    runs = [line_of("random", 0.1, **other), line_of("DDP", 0.5, steps=7)]
    assert paired_markdown(summarize(runs)) == ""


def test_every_budget_has_a_strongest_of_its_own():
    runs = rows_of({"random": [0.1], "quantised": [0.2], "DDP": [0.5]})
    runs += rows_of({"random": [0.6], "quantised": [0.3], "DDP": [0.5]}, ppc=3)
    found = [(line["PPC"], line["strongest not distilled"]) for line in table_of(runs)]
    assert found == [("1", "quantised"), ("3", "random")]
    assert paired_markdown([]) == ""


def test_splits_are_paired_too():
    runs = [
        *rows_of({"random": [0.1, 0.3], "DDP": [0.4, 0.4]}, data={"split": 0}),
        *rows_of({"random": [0.5, 0.5], "DDP": [0.4, 0.8]}, data={"split": 1}),
    ]
    runs = [{**run, "id": str(place)} for place, run in enumerate(runs)]
    random, ddp = summarize(pool_splits(runs))
    assert paired_differences(ddp, random) == pytest.approx([0.3, 0.1, -0.1, 0.3])
    assert table_of(pool_splits(runs))[0]["seeds above"] == "3 of 4"

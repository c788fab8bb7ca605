"""The storage constraint, in bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from torch_geometric_ddp.budget import StorageBudget, tensor_bits
from torch_geometric_ddp.parameterization import Float64, FullResolution, ShapeMorphing


def morphing(groups, num_anchors, anchor_points, num_morphs, num_classes, adaptive=True):
    anchors = torch.zeros(groups, num_anchors, anchor_points, 3)
    return ShapeMorphing(anchors, num_classes, num_morphs, adaptive=adaptive)


@pytest.mark.parametrize(
    ("num_morphs", "anchor_points"), [(16, 252), (4, 255), (0, 256), (1, 255), (256, 192)]
)
def test_published_anchor_points(num_morphs, anchor_points):
    budget = StorageBudget(num_points=1024, num_classes=10)
    assert ShapeMorphing.largest_anchor_points(budget, 4, num_morphs) == anchor_points


@pytest.mark.parametrize(("ppc", "num_classes"), [(1, 1), (1, 10), (3, 40)])
def test_bits(ppc, num_classes):
    budget = StorageBudget(1024, num_classes, ppc)
    assert budget.bits_per_group == 98304
    assert budget.bits == 98304 * ppc * num_classes


def test_published_setting_fills_the_budget_to_the_bit():
    budget = StorageBudget(1024, 10)
    assert morphing(10, 4, 252, 16, 10).check_budget(budget) == 983040 == budget.bits


@given(
    num_points=st.integers(1, 300),
    num_classes=st.integers(1, 3),
    ppc=st.integers(1, 3),
    num_anchors=st.integers(1, 6),
    num_morphs=st.integers(0, 20),
)
def test_largest_anchor_points_fit_and_one_more_does_not(
    num_points, num_classes, ppc, num_anchors, num_morphs
):
    budget = StorageBudget(num_points, num_classes, ppc)
    room = 96 * num_points - 32 * num_morphs * (num_anchors - 1)
    assume(room >= 96 * num_anchors)
    largest = ShapeMorphing.largest_anchor_points(budget, num_anchors, num_morphs)
    groups = num_classes * ppc
    stored = morphing(groups, num_anchors, largest, num_morphs, num_classes).check_budget(budget)
    assert stored <= budget.bits
    with pytest.raises(ValueError, match="more than the budget"):
        morphing(groups, num_anchors, largest + 1, num_morphs, num_classes).check_budget(budget)


def test_static_weights_cost_nothing():
    budget = StorageBudget(1024, 2)
    assert morphing(2, 4, 256, 16, 2, adaptive=False).check_budget(budget) == budget.bits


def test_full_resolution_fills_the_budget():
    assert FullResolution(torch.zeros(6, 50, 3), 2).check_budget(StorageBudget(50, 2, 3)) == 28800


def test_what_does_not_fit_is_refused_with_the_numbers():
    message = (
        r"ShapeMorphing\(C=10, K=1, M=4, N2=253, L=16\) stores 986880 bits, which is 3840 more "
        r"than the budget of 983040 bits \(ppc=1 clouds of 1024 points for each of 10 classes\)"
    )
    with pytest.raises(ValueError, match=message):
        morphing(10, 4, 253, 16, 10).check_budget(StorageBudget(1024, 10))


def test_double_precision_counts_twice():
    clouds = FullResolution(torch.zeros(2, 50, 3), 2, codec=Float64())
    with pytest.raises(ValueError, match="stores 19200 bits, which is 9600 more"):
        clouds.check_budget(StorageBudget(50, 2))


def test_weights_that_leave_no_room():
    message = (
        r"'num_anchors'=4 and 'num_morphs'=10 do not fit: their weights take 960 of the 960 bits "
        r"of a group \(ppc=1 clouds of 10 points\)"
    )
    with pytest.raises(ValueError, match=message):
        ShapeMorphing.largest_anchor_points(StorageBudget(10, 2), 4, 10)


def test_more_anchors_than_points():
    with pytest.raises(ValueError, match=r"leaves no room for 11 anchors of even one point"):
        ShapeMorphing.largest_anchor_points(StorageBudget(10, 2), 11, 0)


def test_other_number_of_classes():
    with pytest.raises(ValueError, match=r"is for 3 classes, but FullResolution\(.*\) has 2"):
        FullResolution(torch.zeros(2, 10, 3), 2).check_budget(StorageBudget(10, 3))


@pytest.mark.parametrize("name", ["num_points", "num_classes", "ppc"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_bad_size(name, value, error):
    sizes = {"num_points": 10, "num_classes": 2, "ppc": 1, name: value}
    with pytest.raises(error, match=f"'{name}' must be"):
        StorageBudget(**sizes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 0.0])
def test_bad_ppc(value):
    with pytest.raises(ValueError, match="'ppc' must be finite and above 0, got"):
        StorageBudget(10, 2, value)


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.array(0.5), True, "1"])
def test_ppc_that_is_no_number(value):
    with pytest.raises(TypeError, match="'ppc' must be a number, got"):
        StorageBudget(10, 2, value)
    assert StorageBudget(10, 2, torch.tensor(2)) == StorageBudget(10, 2, np.int64(2))


@pytest.mark.parametrize(
    ("ppc", "bits"), [(1 / 16, 61440), (0.3, 294912), (1.5, 1474560), (1 / 3, 327680), (1e-9, 0)]
)
def test_part_of_a_cloud(ppc, bits):
    # 0.3 is three tenths, 1 / 3 a third, and what is no whole number of bits is rounded down.
    assert StorageBudget(1024, 10, ppc).bits == bits
    assert StorageBudget(1024, 10, ppc).num_groups == max(1, int(ppc))


@given(st.integers(1, 2000), st.integers(1, 60), st.integers(0, 10**6), st.floats(1e-3, 1e4))
def test_bits_of_any_part(num_points, num_classes, label_bits, ppc):
    budget = StorageBudget(num_points, num_classes, ppc, label_bits)
    whole = 96 * num_points * num_classes + label_bits
    exact = Fraction(repr(ppc)) * whole
    assert exact - budget.bits < 1
    # A third that was meant is beyond its float, by no more than a float is off.
    assert budget.bits <= (Fraction(ppc) + Fraction(math.ulp(ppc)) / 2) * whole


@given(st.integers(1, 2000), st.integers(1, 60), st.integers(1, 10**10))
def test_bits_of_decimals_are_exact(num_points, num_classes, millionths):
    budget = StorageBudget(num_points, num_classes, millionths / 10**6)
    assert budget.bits == millionths * 96 * num_points * num_classes // 10**6


@given(st.integers(1, 2000), st.integers(1, 60), st.integers(1, 500), st.integers(1, 500))
def test_bits_of_fractions_are_exact(num_points, num_classes, above, below):
    budget = StorageBudget(num_points, num_classes, above / below)
    assert budget.bits == above * 96 * num_points * num_classes // below


@pytest.mark.parametrize("one", [3, 3.0, np.int64(3), np.float64(3)])
def test_whole_number_is_one_budget(one):
    budget = StorageBudget(10, 2, one)
    assert (budget, type(budget.ppc)) == (StorageBudget(10, 2, 3), int)


def test_part_of_a_cloud_has_one_group_and_no_whole_cloud():
    budget = StorageBudget(1024, 10, 1 / 16)
    largest = ShapeMorphing.largest_anchor_points(budget, 4, 16)
    assert largest == 12
    assert morphing(10, 4, largest, 16, 10).check_budget(budget) <= budget.bits
    assert FullResolution.clouds_that_fit(budget, 64) == 1
    with pytest.raises(ValueError, match=r"'num_points'=1024 does not fit .* at most 64 points"):
        FullResolution.clouds_that_fit(budget)
    with pytest.raises(ValueError, match=r"'num_points' must be at most the 1024 .*, got 1025"):
        FullResolution.clouds_that_fit(budget, 1025)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 9), st.floats(0.1, 9))
def test_most_groups_fit_and_one_more_does_not(num_anchors, points, num_morphs, ppc):
    budget = StorageBudget(100, 2, ppc)
    sizes = (num_anchors, points, num_morphs)
    one = morphing(2, num_anchors, points, num_morphs, 2).storage_bits()
    if one > budget.bits:
        with pytest.raises(ValueError, match=f"takes {one} of the {budget.bits} bits"):
            ShapeMorphing.most_groups(budget, *sizes)
        return
    most = ShapeMorphing.most_groups(budget, *sizes)
    assert most * one <= budget.bits < (most + 1) * one


@pytest.mark.parametrize(
    ("name", "args"), [("num_anchors", (0, 4)), ("num_anchors", (1.0, 4)), ("num_morphs", (4, -1))]
)
def test_bad_number(name, args):
    with pytest.raises((TypeError, ValueError), match=f"'{name}' must be"):
        ShapeMorphing.largest_anchor_points(StorageBudget(100, 2), *args)


@pytest.mark.parametrize(
    ("dtype", "bits"), [(torch.float64, 64), (torch.float16, 16), (torch.uint8, 8)]
)
def test_bits_of_tensors(dtype, bits):
    tensors = {"a": torch.zeros(3, 5, dtype=dtype), "b": torch.zeros(2, dtype=dtype)}
    assert tensor_bits(tensors) == 17 * bits


@given(st.integers(2, 30), st.integers(1, 400))
def test_most_morphs(num_anchors, num_points):
    budget = StorageBudget(num_points, 3)
    if num_anchors > num_points:
        with pytest.raises(ValueError, match="do not fit"):
            ShapeMorphing.most_morphs(budget, num_anchors)
        return
    most = ShapeMorphing.most_morphs(budget, num_anchors)
    assert ShapeMorphing.largest_anchor_points(budget, num_anchors, most) >= 1
    with pytest.raises(ValueError, match="do not fit"):
        ShapeMorphing.largest_anchor_points(budget, num_anchors, most + 1)


def test_morphs_of_one_anchor_cost_nothing():
    assert ShapeMorphing.most_morphs(StorageBudget(5, 3), 1) is None


@pytest.mark.parametrize("parts", [3, 6, 7, 9, 12])
def test_a_part_of_a_cloud_holds_what_fits_exactly(parts):
    """No float is a third."""
    assert StorageBudget(8 * parts, 10, 1 / parts).bits == 96 * 8 * 10
    assert StorageBudget(8 * parts, 10, Fraction(1, parts)).bits == 96 * 8 * 10
    assert StorageBudget(1000, 10, 0.1234567).bits == 96 * 10 * 1000 * 1234567 // 10**7

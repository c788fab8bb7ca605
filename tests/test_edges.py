"""Neighbours and edges against plain loops, and the order from coarse to fine."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.edges import ball_query, edge_index, knn
from torch_geometric_ddp.ops import (
    farthest_point_order,
    farthest_point_partition,
    farthest_point_sample,
    gather_points,
)


def rand(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def filled(sizes, channels=3, dtype=torch.float64, device="cpu"):
    """Clouds of different sizes, filled up with copies of their last point."""
    clouds = [rand(n, channels, seed=i, dtype=dtype, device=device) for i, n in enumerate(sizes)]
    pos = [torch.cat([c, c[-1:].expand(max(sizes) - len(c), -1)]) for c in clouds]
    return clouds, torch.stack(pos), torch.tensor(sizes, device=device)


def knn_loop(cloud, k, query):
    return torch.stack([(cloud - q).square().sum(dim=1).argsort(stable=True)[:k] for q in query])


def ball_loop(cloud, radius, k, query):
    rows = []
    for q in query:
        dist = (cloud - q).norm(dim=1)
        inside = (dist <= radius).nonzero()[:k, 0].tolist() or [int(dist.argmin())]
        rows.append(inside + inside[:1] * (k - len(inside)))
    return torch.tensor(rows, device=cloud.device)


# Nearest neighbours ###############################################################################


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_knn_is_the_plain_loop(channels, k, device, dtype):
    pos, query = rand(3, 12, channels, dtype=dtype, device=device), None
    index = knn(pos, k)
    assert index.dtype == torch.int64
    for i, cloud in enumerate(pos):
        assert torch.equal(index[i], knn_loop(cloud, k, cloud))
    query = rand(3, 5, channels, seed=1, dtype=dtype, device=device)
    index = knn(pos, k, query)
    assert torch.equal(index[2], knn_loop(pos[2], k, query[2]))


@pytest.mark.parametrize("channels", [3, 5])
def test_knn_of_small_clouds_gives_all_points(channels, device):
    pos = rand(2, 4, channels, device=device)
    index = knn(pos, 9)
    assert index.shape == (2, 4, 4)
    assert torch.equal(index.sort(dim=-1).values, torch.arange(4, device=device).expand(2, 4, 4))
    assert torch.equal(knn(pos[:, :1], 9), torch.zeros(2, 1, 1, dtype=torch.long, device=device))


@pytest.mark.parametrize("channels", [3, 5])
def test_knn_of_filled_clouds_is_that_of_each(channels, device, dtype):
    clouds, pos, sizes = filled([7, 2, 11, 1], channels, dtype, device)
    index = knn(pos, 4, sizes=sizes)
    for i, cloud in enumerate(clouds):
        expected = knn(cloud[None], 4)[0]
        num = expected.size(1)
        assert torch.equal(index[i, : len(cloud), :num], expected)
        nearest = expected[:, :1].expand(-1, 4 - num)
        assert torch.equal(index[i, : len(cloud), num:], nearest)


def test_knn_does_not_depend_on_the_place(device):
    """Also of points of many channels, whose squares are large there, and whatever fills up."""
    pos = 0.01 * rand(2, 50, 8, dtype=torch.float32, device=device) + 1000
    query = 0.01 * rand(2, 9, 8, seed=1, dtype=torch.float32, device=device) + 1000
    assert torch.equal(knn(pos, 6), knn(pos.double() - 1000, 6))
    assert torch.equal(knn(pos, 6, query), knn(pos.double() - 1000, 6, query.double() - 1000))
    pos[0, 30:], sizes = 0, torch.tensor([30, 50], device=device)
    assert torch.equal(knn(pos, 6, sizes=sizes)[0, :30], knn(pos[:1, :30], 6)[0])


@pytest.mark.parametrize("pairs", [1, 20, 80])
def test_blocks_are_as_the_whole_and_no_larger(pairs, monkeypatch, device):
    """Of clouds, and of queries where one cloud alone has more pairs."""
    pos, query = rand(5, 6, 7, device=device), rand(5, 9, 7, seed=1, device=device)
    sizes = torch.tensor([6, 3, 6, 1, 2], device=device)
    balls = (pos[..., :3], 0.8, 3, query[..., :3], sizes)
    whole = knn(pos, 3), knn(pos, 3, query, sizes), ball_query(*balls)
    monkeypatch.setattr("torch_geometric_ddp.edges._CPU_PAIRS", pairs)
    monkeypatch.setattr("torch_geometric_ddp.edges._PAIRS", pairs)
    held, topk = [], torch.Tensor.topk
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda d, *a, **k: held.append(d.numel()) or topk(d, *a, **k)
    )
    found = knn(pos, 3), knn(pos, 3, query, sizes), ball_query(*balls)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, whole, strict=True))
    assert max(held) <= max(pairs, 6)


def test_knn_in_half_precision(device):
    pos = rand(2, 9, 3, device=device).half()
    assert torch.equal(knn(pos, 3), knn(pos.double(), 3))


@given(seed=st.integers(0, 2**16), channels=st.sampled_from([3, 4]))
def test_knn_follows_the_order_of_the_points(seed, channels):
    pos = rand(2, 10, channels, seed=seed)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(order[knn(pos[:, order], 4)], knn(pos, 4)[:, order])


# Balls ############################################################################################


@pytest.mark.parametrize("radius", [0.1, 0.8, 2.0, 100.0])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_ball_query_is_the_plain_loop(radius, k, device, dtype):
    pos = rand(3, 12, 3, dtype=dtype, device=device)
    query = rand(3, 5, 3, seed=1, dtype=dtype, device=device)  # With balls that are empty.
    index, other = ball_query(pos, radius, k), ball_query(pos, radius, k, query)
    for i, cloud in enumerate(pos):
        assert torch.equal(index[i], ball_loop(cloud, radius, k, cloud))
        assert torch.equal(other[i], ball_loop(cloud, radius, k, query[i]))


def test_ball_query_of_filled_clouds_is_that_of_each(device, dtype):
    clouds, pos, sizes = filled([7, 2, 11, 1], 3, dtype, device)
    index = ball_query(pos, 1.5, 5, sizes=sizes)
    for i, cloud in enumerate(clouds):
        assert torch.equal(index[i, : len(cloud)], ball_loop(cloud, 1.5, 5, cloud))


def test_surface_belongs_to_the_ball():
    pos = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]])
    assert ball_query(pos, 1.0, 3, pos[:, :1]).tolist() == [[[0, 1, 0]]]


# Edges ############################################################################################


@given(sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4), k=st.integers(1, 5))
def test_edges_stay_in_their_cloud_and_come_once(sizes, k):
    batch = Batch.from_data_list([Data(pos=rand(n, 3, seed=i)) for i, n in enumerate(sizes)])
    layout = Layout.of(batch)
    edges = edge_index(knn(layout.dense(batch.pos), k, sizes=layout.sizes), layout)
    expected, start = set(), 0
    for i, n in enumerate(sizes):
        near = knn_loop(batch[i].pos, k, batch[i].pos)
        expected |= {(int(j) + start, t + start) for t in range(n) for j in near[t]}
        start += n
    assert len(edges.T) == len(expected)
    assert {tuple(edge) for edge in edges.T.tolist()} == expected
    assert bool((edges[1].diff() >= 0).all())


def test_edges_from_points_to_centers(device):
    batch = Batch.from_data_list([Data(pos=rand(n, 3, seed=n)) for n in (3, 6)]).to(device)
    layout = Layout.of(batch)
    centers = layout.first(4)
    pos = layout.dense(batch.pos)
    index = ball_query(pos, 10.0, 6, pos[:, :4], layout.sizes)
    source, target = edge_index(index, layout, centers)
    # Every point of a cloud, to its 3 and to its 4 centres.
    assert torch.equal(target.bincount(), torch.tensor([3] * 3 + [6] * 4, device=device))
    assert torch.equal(source.bincount(), torch.tensor([3] * 3 + [4] * 6, device=device))
    assert torch.equal(batch.batch[source], (target >= 3).long())


# The order from coarse to fine ####################################################################


def test_order_begins_with_the_farthest_points(device, dtype):
    pos = rand(4, 30, 3, dtype=dtype, device=device)
    order = farthest_point_order(pos, 12)
    assert torch.equal(order.sort(dim=1).values, torch.arange(30, device=device).expand(4, 30))
    assert torch.equal(order[:, 0], pos.norm(dim=2).argmax(dim=1))
    ordered = gather_points(pos, order)
    sample = farthest_point_sample(ordered, 12)  # Which starts at the first.
    assert torch.equal(sample, torch.arange(12, device=device).expand(4, 12))
    rest = torch.cdist(ordered[:, 12:], ordered[:, :12]).amin(dim=2)
    assert bool((rest.diff(dim=1) <= 0).all())


@pytest.mark.parametrize("num", [1, 4, 40])
def test_order_of_filled_clouds_is_that_of_each(num, device):
    clouds, pos, sizes = filled([7, 2, 11, 1], device=device)
    order = farthest_point_order(pos, num, sizes)
    for i, cloud in enumerate(clouds):
        size = len(cloud)
        assert torch.equal(order[i, :size], farthest_point_order(cloud[None], num)[0])
        assert torch.equal(order[i, size:], torch.arange(size, 11, device=device))


@pytest.mark.parametrize(
    "function",
    [
        lambda pos, sizes: knn(pos, 2, sizes=sizes),
        lambda pos, sizes: ball_query(pos, 0.5, 2, sizes=sizes),
        lambda pos, sizes: farthest_point_order(pos, 2, sizes),
        lambda pos, sizes: farthest_point_partition(pos, 1, 2, sizes),
    ],
)
def test_sizes_that_do_not_fit_are_refused(function):
    pos = rand(2, 8, 3)
    for sizes, got in (([3], r"shape \[1\]"), ([9, 0], r"\[9, 0\]"), ([8, 0], r"\[8, 0\]")):
        with pytest.raises(ValueError, match=f"'sizes' must be 2 numbers from 1 to 8, got {got}"):
            function(pos, torch.tensor(sizes))
    with pytest.raises(TypeError, match=r"'sizes' must be a tensor of shape \[B\], got list"):
        function(pos, [3, 4])


@given(seed=st.integers(0, 2**16), num=st.integers(1, 12))
def test_order_does_not_depend_on_the_order(seed, num):
    pos = rand(2, 10, 3, seed=seed, dtype=torch.float32)
    shuffled = pos[:, torch.randperm(10, generator=torch.Generator().manual_seed(seed))]
    ours = gather_points(shuffled, farthest_point_order(shuffled, num))
    assert torch.equal(ours, gather_points(pos, farthest_point_order(pos, num)))


def test_order_of_points_that_coincide(device):
    order = farthest_point_order(torch.ones(2, 5, 3, device=device), 3)
    assert torch.equal(order.sort(dim=1).values, torch.arange(5, device=device).expand(2, 5))


# Layouts of levels ################################################################################


def test_first_points_of_a_layout(device):
    sizes = torch.tensor([5, 2, 9], device=device)
    layout = Layout.of_sizes(sizes)
    assert torch.equal(layout.sizes, sizes)
    assert layout.first(4).sizes.tolist() == [4, 2, 4]
    assert layout.first(2) == Layout(3, 2)
    assert layout.first(2).sizes is None
    assert Layout(3, 7).first(4) == Layout(3, 4)
    assert Layout(3, 7).first(9) == Layout(3, 7)


def test_rows_are_where_the_points_lie(device):
    index = torch.tensor([[[0, 1]], [[1, 0]]], device=device)
    assert Layout(2, 7).rows(index).tolist() == [[[0, 1]], [[8, 7]]]
    layout = Layout.of_sizes(torch.tensor([3, 2], device=device))
    assert layout.rows(index).tolist() == [[[0, 1]], [[4, 3]]]


# Bad input ########################################################################################


@pytest.mark.parametrize(
    "search", [lambda *a: knn(a[0], 2, *a[1:]), lambda *a: ball_query(a[0], 1.0, 2, *a[1:])]
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([np.zeros((2, 3, 3))], "'pos' must be a floating point tensor .* got ndarray"),
        ([torch.zeros(5, 3)], r"'pos' must be .* got \[5, 3\]"),
        ([torch.zeros(2, 5, 3, dtype=torch.long)], "'pos' must be a floating point tensor"),
        ([torch.zeros(2, 0, 3)], "'pos' must have at least 1 point per cloud, got 0"),
        ([torch.full((1, 2, 3), torch.nan)], "'pos' must be finite, got 6 NaN"),
        ([torch.zeros(2, 5, 3), torch.zeros(1, 5, 3)], r"'query' must fit 'pos' of shape \[2, 5"),
        ([torch.zeros(2, 5, 3), torch.full((2, 1, 3), torch.inf)], "'query' must be finite"),
    ],
)
def test_bad_points(search, arguments, message):
    with pytest.raises(ValueError, match=message):
        search(*arguments)


def test_bad_numbers():
    pos = torch.zeros(1, 3, 3)
    with pytest.raises(ValueError, match="'k' must be at least 1, got 0"):
        knn(pos, 0)
    with pytest.raises(ValueError, match="'radius' must be finite and above 0, got 0"):
        ball_query(pos, 0.0, 2)
    with pytest.raises(ValueError, match=r"'pos' must have shape \[B N 3\]"):
        ball_query(torch.zeros(1, 3, 4), 1.0, 2)
    with pytest.raises(TypeError, match="'num' must be an integer"):
        farthest_point_order(pos, 1.5)


@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize("channels", [3, 7])
def test_no_clouds_have_no_neighbours(filled_up, channels):
    pos, query = torch.zeros(0, 20, channels), torch.zeros(0, 5, channels)
    sizes = torch.zeros(0, dtype=torch.long) if filled_up else None
    assert knn(pos, 4, sizes=sizes).shape == (0, 20, 4)
    assert knn(pos, 4, query, sizes).shape == (0, 5, 4)
    if channels == 3:
        assert ball_query(pos, 0.5, 4, query, sizes).shape == (0, 5, 4)
    assert knn(pos, 4, sizes=sizes).dtype == torch.int64


@pytest.mark.parametrize("channels", [3, 8])
def test_queries_of_another_type(channels):
    pos = torch.rand(1, 9, channels)
    query = pos[:, :4].double()
    assert torch.equal(knn(pos, 1, query)[0, :, 0], torch.arange(4))


def test_sizes_are_integers():
    with pytest.raises(TypeError, match="'sizes' must have an integer type, got"):
        knn(torch.rand(1, 9, 3), 2, sizes=torch.tensor([4.5]))

"""The geometry against plain loops, and what must hold for any cloud."""

import sys
import types
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torch_geometric_ddp import ops

EXACT = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def grid_clouds(min_points=1, max_points=24, num_clouds=3, extent=4):
    """Clouds on a small integer grid, with many ties and duplicates, exact in every type."""
    points = st.integers(min_points, max_points)
    cells = st.integers(-extent, extent)
    return points.flatmap(lambda n: hnp.arrays(np.int64, (num_clouds, n, 3), elements=cells)).map(
        torch.from_numpy
    )


def random_clouds(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64).to(dtype)


def sample_loop(pos, num, left=None, start=0):
    """Farthest point sampling of one cloud among the points ``left``, and the next in order."""
    pos, left = np.asarray(pos, dtype=np.float64), list(range(len(pos)) if left is None else left)
    nearest = {i: np.inf for i in left}
    taken, current = [], start
    while len(taken) < num:
        taken.append(current)
        del nearest[current]
        for i in nearest:
            nearest[i] = min(nearest[i], ((pos[i] - pos[current]) ** 2).sum())
        current = max(nearest, key=lambda i: (nearest[i], -i), default=None)
    return taken, current


def partition_loop(pos, num_subsets, num_points):
    left, subsets, current = list(range(len(pos))), [], 0
    for _ in range(num_subsets):
        subset, current = sample_loop(pos, num_points, left, current)
        left = [i for i in left if i not in subset]
        subsets.append(subset)
    return subsets


def distance_loop(cloud, k):
    cloud = np.asarray(cloud, dtype=np.float64)
    return np.stack([np.sort(np.linalg.norm(cloud - point, axis=1))[:k] for point in cloud])


def score_loop(cloud, k):
    dist = distance_loop(cloud, k)
    mean = dist.mean(axis=1)
    ratio = np.divide(dist.std(axis=1, ddof=1), mean, out=np.zeros_like(mean), where=mean > 0)
    return ratio.mean()


# Farthest point sampling ##########################################################################


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@given(pos=grid_clouds(), share=st.floats(0, 1))
def test_sample_is_the_loop(device, dtype, pos, share):
    num = 1 + int(share * (pos.size(1) - 1))
    index = ops.farthest_point_sample(pos.to(device, dtype), num)
    assert index.tolist() == [sample_loop(cloud, num)[0] for cloud in pos]


def test_sample_of_real_numbers_is_the_loop(device, dtype):
    pos = random_clouds(4, 100, dtype=dtype)
    index = ops.farthest_point_sample(pos.to(device), 60)
    assert index.tolist() == [sample_loop(cloud, 60)[0] for cloud in pos]


@given(pos=grid_clouds(extent=1))
def test_sample_of_all_points_is_a_permutation_from_zero(device, pos):
    index = ops.farthest_point_sample(pos.to(device).float(), pos.size(1)).cpu()
    assert index[:, 0].tolist() == [0, 0, 0]
    assert index.sort(dim=1).values.tolist() == [list(range(pos.size(1)))] * 3


def test_sample_of_coinciding_points_goes_by_index(device):
    index = ops.farthest_point_sample(torch.ones(2, 5, 3, device=device), 5)
    assert index.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_sample_takes_the_lowest_index_of_a_tie(device):
    pos = torch.tensor([[[0, 0, 0], [0, 1, 0], [3, 0, 0], [-3, 0, 0], [0, 3, 0]]], device=device)
    assert ops.farthest_point_sample(pos.float(), 3).tolist() == [[0, 2, 3]]


def test_sample_of_one_point(device, dtype):
    index = ops.farthest_point_sample(torch.zeros(2, 1, 3, device=device, dtype=dtype), 1)
    assert index.tolist() == [[0], [0]]
    assert index.dtype == torch.int64


def test_sample_of_many_clouds_is_that_of_each(device):
    # So many points that they are worked on in several blocks.
    pos = random_clouds(300, 500, dtype=torch.float32).to(device)
    index = ops.farthest_point_sample(pos, 3)
    for i in (0, 130, 131, 262, 299):
        assert torch.equal(index[i], ops.farthest_point_sample(pos[i : i + 1], 3)[0])


def test_sample_ignores_the_gradient(device):
    pos = random_clouds(1, 8).to(device).requires_grad_()
    assert torch.equal(
        ops.farthest_point_sample(pos, 4), ops.farthest_point_sample(pos.detach(), 4)
    )


# Partition ########################################################################################


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@given(pos=grid_clouds(), num_subsets=st.integers(1, 4), share=st.floats(0, 1))
def test_partition_is_the_loop(device, dtype, pos, num_subsets, share):
    num_subsets = min(num_subsets, pos.size(1))
    num_points = 1 + int(share * (pos.size(1) // num_subsets - 1))
    index = ops.farthest_point_partition(pos.to(device, dtype), num_subsets, num_points)
    assert index.tolist() == [partition_loop(cloud, num_subsets, num_points) for cloud in pos]


@given(pos=grid_clouds(min_points=6, extent=1))
def test_subsets_are_disjoint(device, pos):
    index = ops.farthest_point_partition(pos.to(device).float(), 3, pos.size(1) // 3)
    for cloud in index.flatten(1).tolist():
        assert len(set(cloud)) == len(cloud)


def test_first_part_is_the_sample(device, dtype):
    pos = random_clouds(3, 50, dtype=dtype).to(device)
    index = ops.farthest_point_partition(pos, 4, 12)
    sample = ops.farthest_point_sample(pos, 13)
    assert torch.equal(index[:, 0], sample[:, :12])
    assert torch.equal(index[:, 1, 0], sample[:, 12])


def test_one_part_of_all_points_is_the_sample(device):
    pos = random_clouds(2, 20).to(device)
    index = ops.farthest_point_partition(pos, 1, 20)
    assert torch.equal(index[:, 0], ops.farthest_point_sample(pos, 20))


# Neighbours and uniformity ########################################################################


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@given(pos=grid_clouds(), share=st.floats(0, 1))
def test_distances_are_the_loop(device, dtype, pos, share):
    k = 1 + int(share * (pos.size(1) - 1))
    dist = ops.knn_distance(pos.to(device, dtype), k)
    expected = torch.from_numpy(np.stack([distance_loop(cloud, k) for cloud in pos]))
    assert dist.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(dist.cpu().double(), expected, rtol=tolerance, atol=0)


def test_nearest_neighbour_is_the_point_itself(device, dtype):
    dist = ops.knn_distance(random_clouds(2, 30, dtype=dtype).to(device), 2)
    assert bool((dist[..., 0] == 0).all())
    assert bool((dist[..., 1] > 0).all())


def test_distances_of_close_points_far_from_the_origin(device):
    # The expansion |a|² - 2ab + |b|² would give nothing but rounding here.
    cloud = torch.tensor([[1000.0, 0, 0], [1000.0078125, 0, 0], [1000.0, 0.5, 0]], device=device)
    assert ops.knn_distance(cloud[None], 2)[0, 0].tolist() == [0.0, 0.0078125]


@pytest.mark.parametrize("k", [2, 5, 16])
@given(pos=grid_clouds())
def test_score_is_the_loop(device, k, pos):
    score = ops.uniformity_score(pos.to(device).double(), k)
    if pos.size(1) == 1:
        assert score.tolist() == [0.0, 0.0, 0.0]
    else:
        expected = [score_loop(cloud, k) for cloud in pos]
        assert score.tolist() == pytest.approx(expected, rel=1e-12)


def test_score_of_real_numbers_is_the_loop(device, dtype):
    pos = random_clouds(3, 64, dtype=dtype)
    expected = [score_loop(cloud, 16) for cloud in pos]
    score = ops.uniformity_score(pos.to(device))
    assert score.dtype == dtype
    assert score.tolist() == pytest.approx(expected, rel=10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_score_in_half_precision(device, dtype):
    pos = random_clouds(3, 64, dtype=dtype)
    expected = [score_loop(cloud.float(), 16) for cloud in pos]
    score = ops.uniformity_score(pos.to(device))
    assert score.dtype == dtype
    assert score.tolist() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)


def test_score_of_coinciding_points_is_zero(device, dtype):
    assert ops.uniformity_score(torch.ones(1, 20, 3, device=device, dtype=dtype)).tolist() == [0.0]


def test_score_of_fewer_points_than_neighbours_uses_all(device):
    pos = random_clouds(2, 5).to(device)
    assert torch.equal(ops.uniformity_score(pos, 16), ops.uniformity_score(pos, 5))


def rotation(seed):
    return torch.linalg.qr(random_clouds(3, seed=seed))[0]


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3))
def test_score_ignores_order_scale_place_and_rotation(device, seed, scale):
    pos = random_clouds(1, 40, seed=seed)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    other = scale * pos[:, order] @ rotation(seed) + scale * random_clouds(1, 1, seed=seed + 1)
    scores = [ops.uniformity_score(cloud.to(device)).item() for cloud in (pos, other)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


def test_even_cloud_scores_lower_than_clustered_one(device):
    line = torch.linspace(0, 1, 9, dtype=torch.float64)
    even = torch.cartesian_prod(line, line, line)[None].to(device)
    assert ops.uniformity_score(even) < 0.8 * ops.uniformity_score(even**4)


# Alignment ########################################################################################


@given(seed=st.integers(0, 2**16), num_points=st.integers(1, 6))
def test_alignment_is_the_best_of_all_permutations(device, seed, num_points):
    pos = random_clouds(3, num_points, seed=seed)
    aligned = ops.align_points(pos.to(device)).cpu()
    for cloud, found in zip(pos, aligned, strict=True):
        costs = [
            (pos[0] - cloud[list(order)]).norm(dim=1).sum().item()
            for order in permutations(range(num_points))
        ]
        assert (pos[0] - found).norm(dim=1).sum().item() == pytest.approx(min(costs), rel=1e-12)


def test_alignment_only_reorders(device, dtype):
    pos = random_clouds(3, 20, dtype=dtype).to(device)
    index = ops.alignment(pos)
    assert index[0].tolist() == list(range(20))
    assert index.sort(dim=1).values.tolist() == [list(range(20))] * 3
    assert torch.equal(ops.align_points(pos), ops.gather_points(pos, index))
    assert torch.equal(ops.align_points(pos)[0], pos[0])


def test_alignment_undoes_a_shuffle(device):
    cloud = random_clouds(1, 30)[0]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    aligned = ops.align_points(torch.stack([cloud, cloud[order]]).to(device))
    assert torch.equal(aligned[1], aligned[0])


def test_aligned_points_carry_the_gradient(device):
    pos = random_clouds(3, 10).to(device).requires_grad_()
    (ops.align_points(pos) * 2).sum().backward()
    assert torch.equal(pos.grad, torch.full_like(pos, 2))


# Morphs ###########################################################################################


def test_morph_is_the_sum(device, dtype):
    anchors = random_clouds(2, 3, 7, dtype=dtype).to(device)
    weights = torch.rand(2, 5, 3, dtype=dtype, device=device)
    out = ops.morph(anchors, weights)
    for g in range(2):
        for m in range(5):
            expected = sum(weights[g, m, a] * anchors[g, a] for a in range(3))
            torch.testing.assert_close(out[g, m], expected)


@pytest.mark.parametrize(
    ("anchors", "weights"), [((2, 40, 3), (3, 5)), ((40, 3), (3, 40)), ((2, 40, 3), (2,))]
)
def test_morph_refuses_weights_of_other_clouds(anchors, weights):
    with pytest.raises(ValueError, match=r"must have shapes \[\*, M, N, 3\] and \[\*, L, M\]"):
        ops.morph(torch.rand(anchors), torch.rand(weights))


def test_morph_gradient():
    anchors = random_clouds(2, 3, 4).requires_grad_()
    weights = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.morph, (anchors, weights))


def test_gather_points(device):
    pos = random_clouds(2, 5).to(device)
    index = torch.tensor([[[0, 4], [1, 1]], [[2, 3], [3, 0]]], device=device)
    out = ops.gather_points(pos, index)
    for b in range(2):
        for p in range(2):
            assert torch.equal(out[b, p], pos[b, index[b, p]])


# Errors ###########################################################################################

CALLS = {
    "farthest_point_sample": lambda pos: ops.farthest_point_sample(pos, 1),
    "farthest_point_partition": lambda pos: ops.farthest_point_partition(pos, 1, 1),
    "knn_distance": lambda pos: ops.knn_distance(pos, 1),
    "uniformity_score": ops.uniformity_score,
    "align_points": ops.align_points,
    "alignment": ops.alignment,
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 2), (1, 2, 5, 3)])
def test_wrong_shape(call, shape):
    with pytest.raises(ValueError, match=r"'pos' must have shape \[. N 3\], got"):
        call(torch.zeros(shape))


def test_cloud_without_points(call):
    with pytest.raises(ValueError, match=r"'pos' must have at least 1 point"):
        call(torch.zeros(2, 0, 3))


def test_integer_points(call):
    with pytest.raises(TypeError, match=r"'pos' must have a floating point dtype, got torch.int64"):
        call(torch.zeros(2, 5, 3, dtype=torch.long))


def test_array_instead_of_tensor(call):
    with pytest.raises(TypeError, match=r"'pos' must be a tensor .* got ndarray"):
        call(np.zeros((2, 5, 3)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_points_that_are_not_finite(call, bad):
    pos = torch.zeros(2, 5, 3)
    pos[1, 2, 0] = bad
    with pytest.raises(ValueError, match=r"'pos' must be finite, got 1 NaN or infinite"):
        call(pos)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("num", ops.farthest_point_sample),
        ("num_points", lambda pos, value: ops.farthest_point_partition(pos, 1, value)),
        ("num_subsets", lambda pos, value: ops.farthest_point_partition(pos, value, 1)),
        ("k", ops.knn_distance),
        ("k", lambda pos, value: ops.uniformity_score(pos, value)),
    ],
)
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True, None])
def test_bad_number(name, function, value):
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error, match=f"'{name}' must be"):
        function(torch.zeros(1, 5, 3), value)


def test_more_points_than_there_are():
    pos = torch.zeros(1, 5, 3)
    with pytest.raises(ValueError, match=r"'num' asks for 6 points, but the clouds have 5"):
        ops.farthest_point_sample(pos, 6)
    with pytest.raises(ValueError, match=r"'num_points' asks for 2 subsets of 3 points, .* have 5"):
        ops.farthest_point_partition(pos, 2, 3)
    with pytest.raises(ValueError, match=r"'k' asks for 6 points, but the clouds have 5"):
        ops.knn_distance(pos, 6)


def test_score_needs_two_neighbours():
    with pytest.raises(ValueError, match=r"'k' must be at least 2, got 1"):
        ops.uniformity_score(torch.zeros(1, 5, 3), 1)


# What is compiled #################################################################################


def documented_knn(x, y, k=1, ptr_x=None, ptr_y=None, cosine=False, num_workers=1):
    """As pyg-lib documents its search: queries `y` in the first row, their neighbours in `x`."""
    assert ptr_x is None
    assert ptr_y is None
    order = torch.cdist(y, x).topk(k, largest=False).indices
    rows = torch.arange(len(y)).repeat_interleave(k)
    # In no order among the neighbours of a query.
    return torch.stack([rows, order.flip(1).flatten()])


def package(name, **functions):
    """A stand-in for a compiled package."""
    module = types.ModuleType(name)
    vars(module).update(functions)
    return module


def without_compiled(monkeypatch):
    for name in ("pyg_lib", "pyg_lib.ops", "torch_cluster"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("name", ["pyg_lib", "torch_cluster"])
@pytest.mark.parametrize("k", [1, 8, 64])
def test_distances_by_a_compiled_search(name, k, monkeypatch):
    without_compiled(monkeypatch)
    monkeypatch.setattr(ops, "_compiled_knn", ops._find_knn())
    assert ops._compiled_knn is None
    pos = random_clouds(2, 64, dtype=torch.float32)
    plain = ops.knn_distance(pos, k)
    inner = "pyg_lib.ops" if name == "pyg_lib" else name
    monkeypatch.setitem(sys.modules, name, package(name))
    monkeypatch.setitem(sys.modules, inner, package(inner, knn=documented_knn))
    monkeypatch.setattr(ops, "_compiled_knn", ops._find_knn())
    assert ops._compiled_knn is documented_knn
    torch.testing.assert_close(ops.knn_distance(pos, k), plain)
    torch.testing.assert_close(ops.knn_distance(1e20 * pos, k), 1e20 * plain)


def test_pyg_lib_comes_before_torch_cluster_unless_it_is_old(monkeypatch):
    without_compiled(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch_cluster", package("torch_cluster", knn=len))
    monkeypatch.setitem(sys.modules, "pyg_lib", package("pyg_lib"))
    monkeypatch.setitem(sys.modules, "pyg_lib.ops", package("pyg_lib.ops", knn=documented_knn))
    assert ops._find_knn() is documented_knn
    monkeypatch.setitem(sys.modules, "pyg_lib.ops", package("pyg_lib.ops"))
    assert ops._find_knn() is len


def test_sample_is_that_of_torch_cluster():
    cluster = pytest.importorskip("torch_cluster")
    pos = random_clouds(1, 64, dtype=torch.float32)
    index = cluster.fps(pos[0], ratio=0.5, random_start=False)
    assert torch.equal(ops.farthest_point_sample(pos, 32)[0], index)


def test_distances_are_those_of_torch_cluster():
    cluster = pytest.importorskip("torch_cluster")
    pos = random_clouds(1, 64, dtype=torch.float32)
    row, col = cluster.knn(pos[0], pos[0], 8)
    dist = (pos[0][row] - pos[0][col]).norm(dim=1).view(64, 8).sort(dim=1).values
    torch.testing.assert_close(ops.knn_distance(pos, 8)[0], dist)


# What is given ####################################################################################


def test_no_clouds_have_no_scores():
    assert ops.knn_distance(torch.zeros(0, 20, 3), 4).shape == (0, 20, 4)
    assert ops.uniformity_score(torch.zeros(0, 20, 3)).shape == (0,)
    assert ops._dense_knn_distance(torch.zeros(0, 20, 3), 4).shape == (0, 20, 4)


def test_no_clouds_have_no_order():
    assert ops.alignment(torch.zeros(0, 8, 3)).shape == (0, 8)
    assert ops.align_points(torch.zeros(0, 8, 3)).shape == (0, 8, 3)


def test_parts_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match=r"'part' must be a tensor of shape \[N\], got list"):
        ops.align_points(torch.zeros(2, 3, 3), part=[0, 0, 1])

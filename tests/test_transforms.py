"""The transforms on PyG's data, and what they do to attributes other than the points."""

import copy

import pytest
import torch
from helpers import check_labelled, toy_arrays, toy_set
from torch.utils.data.datapipes.iter import IterableWrapper
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from torch_geometric_ddp import ops
from torch_geometric_ddp.batching import Layout, from_dense
from torch_geometric_ddp.datasets import ParametricShapes
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.transforms import (
    AlignPoints,
    FarthestPointPartition,
    FarthestPointSample,
    MorphAnchors,
    NormalizeSphere,
    UniformityScore,
)
from torch_geometric_ddp.transforms._single import take_points

SINGLE = {
    "farthest_point_sample": FarthestPointSample(5),
    "farthest_point_partition": FarthestPointPartition(2, 4),
    "uniformity_score": UniformityScore(4),
    "normalize_sphere": NormalizeSphere(),
}


def cloud(num_points=12, seed=0, **attributes):
    """A cloud whose every point knows its number and its place."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(num_points, 3, generator=generator)
    return Data(pos=pos, place=pos.clone(), number=torch.arange(num_points), **attributes)


@pytest.fixture
def data():
    return cloud(
        y=torch.tensor([7]),
        name="chair",
        scale=2.5,
        matrix=torch.eye(4),
        normal=torch.ones(12, 3),
    )


@pytest.fixture(params=SINGLE)
def transform(request):
    return SINGLE[request.param]


def check_cloud_level(data):
    assert data.y.tolist() == [7]
    assert data.name == "chair"
    assert data.scale == 2.5
    assert torch.equal(data.matrix, torch.eye(4))


# One cloud ########################################################################################


def test_attributes_of_the_cloud_stay(transform, data):
    check_cloud_level(transform(data))


def test_input_is_left_alone(transform, data):
    before = data.clone()
    transform(data)
    assert data.keys() == before.keys()
    assert torch.equal(data.pos, before.pos)
    assert torch.equal(data.number, before.number)


def test_attributes_of_the_points_stay_in_step(transform, data):
    place = cloud().pos
    out = transform(data)
    assert torch.equal(out.place, place[out.number])
    assert out.normal.shape == out.pos.shape == out.place.shape


def test_sample(data):
    out = FarthestPointSample(5)(data)
    assert out.number.tolist() == ops.farthest_point_sample(data.pos[None], 5)[0].tolist()
    assert torch.equal(out.pos, out.place)
    assert out.num_nodes == 5


def test_partition(data):
    out = FarthestPointPartition(2, 4)(data)
    index = ops.farthest_point_partition(data.pos[None], 2, 4)[0]
    for subset in range(2):
        own = (out.subset == subset).nonzero().flatten()
        assert own.tolist() == index[subset].sort()[0].tolist()
    assert (out.subset == -1).sum() == 4
    assert torch.equal(out.pos, data.pos)


def test_score(data):
    out = UniformityScore(4)(data)
    assert torch.equal(out.uniformity, ops.uniformity_score(data.pos[None], 4))
    batch = Batch.from_data_list([out, out])
    assert batch.uniformity.shape == (2,)


def test_normalize(data):
    out = NormalizeSphere()(data)
    torch.testing.assert_close(out.pos.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-6)
    assert out.pos.norm(dim=1).max().item() == pytest.approx(1, rel=1e-6)
    centred = data.pos - data.pos.mean(dim=0)
    torch.testing.assert_close(out.pos, centred / centred.norm(dim=1).max())


def test_normalize_one_point():
    assert NormalizeSphere()(Data(pos=torch.full((1, 3), 5.0))).pos.tolist() == [[0, 0, 0]]


def test_normalize_ragged_clouds_at_once(device, dtype):
    clouds = [cloud(n, seed=n).pos.to(device, dtype) for n in (3, 1, 9)]
    sizes = torch.tensor([3, 1, 9], device=device)
    expected = [NormalizeSphere()(Data(pos=pos)).pos for pos in clouds]
    torch.testing.assert_close(NormalizeSphere.apply(torch.cat(clouds), sizes), torch.cat(expected))


def test_label_of_a_single_point_is_no_attribute_of_the_point():
    out = FarthestPointSample(1)(Data(pos=torch.ones(1, 3), y=torch.tensor([7])))
    assert out.y.tolist() == [7]


def test_label_survives_the_way_to_a_single_point():
    out = FarthestPointSample(1)(FarthestPointSample(1)(cloud(y=torch.tensor([7]))))
    assert out.y.tolist() == [7]
    assert out.pos.shape == (1, 3)


def test_list_with_an_entry_for_every_point_stays_in_step():
    data = Data(pos=cloud(4).pos, tags=["a", "b", "c", "d"])
    out = FarthestPointSample(2)(data)
    index = ops.farthest_point_sample(data.pos[None], 2)[0].tolist()
    assert out.tags == ["abcd"[i] for i in index]


def test_edges_are_refused(data):
    data.edge_index = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="'data' must not have edges yet"):
        FarthestPointSample(5)(data)


def test_faces_are_refused(data):
    """They would name vertices that are gone."""
    data.face = torch.tensor([[0], [1], [11]])
    with pytest.raises(ValueError, match="'data' must not have faces: sample points of them"):
        FarthestPointSample(5)(data)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"'reference' must be a tensor of shape \[N 3\]"):
        AlignPoints([[0, 0, 0]])
    anchors = Batch.from_data_list([cloud(), cloud()])
    anchors.weight = [[0.5, 0.5]]
    with pytest.raises(TypeError, match=r"'data.weight' must be a tensor of shape \[L 2\]"):
        MorphAnchors()(anchors)


def test_edges_may_come_after():
    out = Compose([FarthestPointSample(5), _Edges()])(cloud())
    assert out.edge_index.max() < 5
    assert out.num_edges == 20


class _Edges:
    """All pairs; PyG's own neighbour search may lack its library."""

    def __call__(self, data):
        n = data.num_nodes
        pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))
        data.edge_index = pairs[pairs[:, 0] != pairs[:, 1]].T
        return data


# In PyG ###########################################################################################


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("farthest_point_sample", (5,)),
        ("farthest_point_partition", (2, 4)),
        ("uniformity_score", (4,)),
        ("normalize_sphere", ()),
    ],
)
def test_functional_name(name, args, data):
    # The names are methods of PyG's datapipes.
    (out,) = getattr(IterableWrapper([data]), name)(*args)
    expected = type(SINGLE[name])(*args)(data)
    assert sorted(out.keys()) == sorted(expected.keys())
    assert all(
        torch.equal(torch.as_tensor(out[key]), torch.as_tensor(expected[key]))
        for key in set(out.keys()) - {"name"}
    )


def test_functional_names_of_batches(weighted):
    weighted.number = torch.zeros(18, dtype=torch.long)
    (out,) = IterableWrapper([weighted]).align_points().morph_anchors()
    assert torch.equal(out.pos, MorphAnchors()(AlignPoints()(weighted)).pos)


def test_compose(data):
    out = Compose([NormalizeSphere(), FarthestPointSample(8), UniformityScore(4)])(data)
    assert out.pos.shape == (8, 3)
    assert out.uniformity.shape == (1,)
    check_cloud_level(out)


def test_pre_transform_of_an_in_memory_dataset():
    pre_transform = Compose([FarthestPointSample(8), FarthestPointPartition(2, 4)])
    dataset = toy_set(pre_transform=pre_transform)
    assert dataset[4].pos.shape == (8, 3)
    assert dataset[4].subset.sort().values.tolist() == [0] * 4 + [1] * 4
    points, _ = toy_arrays()
    index = ops.farthest_point_sample(torch.from_numpy(points[4:5]), 8)[0]
    assert torch.equal(dataset[4].pos, torch.from_numpy(points[4])[index])


def test_transform_at_every_access():
    dataset = toy_set(transform=FarthestPointSample(8))
    assert dataset[0].pos.shape == (8, 3)
    dataset.transform = None
    assert dataset[0].pos.shape == (32, 3)


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (FarthestPointSample(5), "FarthestPointSample(5)"),
        (FarthestPointPartition(2, 4), "FarthestPointPartition(2, 4)"),
        (UniformityScore(4), "UniformityScore(k=4)"),
        (NormalizeSphere(), "NormalizeSphere()"),
        (AlignPoints(), "AlignPoints()"),
        (MorphAnchors(), "MorphAnchors()"),
    ],
)
def test_repr(transform, text):
    assert repr(transform) == text


@pytest.mark.parametrize("shape", [(12,), (12, 2), (2, 12, 3)])
def test_wrong_shape(transform, shape):
    with pytest.raises(ValueError, match=r"'data.pos' must have shape \[N 3\]"):
        transform(Data(pos=torch.zeros(shape)))


def test_batch_is_refused(transform):
    with pytest.raises(ValueError, match="'data' must be one cloud, got a batch of 2"):
        transform(Batch.from_data_list([cloud(), cloud(seed=1)]))


def test_no_points(transform):
    with pytest.raises(TypeError, match=r"'data.pos' must be a tensor .* got NoneType"):
        transform(Data(x=torch.zeros(12, 3)))


def test_empty_cloud(transform):
    with pytest.raises(ValueError, match=r"'data.pos' must have at least 1 point"):
        transform(Data(pos=torch.zeros(0, 3)))


def test_integer_points(transform):
    with pytest.raises(TypeError, match=r"'data.pos' must have a floating point dtype"):
        transform(Data(pos=torch.zeros(12, 3, dtype=torch.long)))


def test_too_few_points(data):
    with pytest.raises(ValueError, match="'num' asks for 13 points, but the clouds have 12"):
        FarthestPointSample(13)(data)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("num", lambda: FarthestPointSample(0)),
        ("num_subsets", lambda: FarthestPointPartition(0, 4)),
        ("num_points", lambda: FarthestPointPartition(2, 0)),
        ("k", lambda: UniformityScore(1)),
    ],
)
def test_bad_argument(name, make):
    with pytest.raises(ValueError, match=f"'{name}' must be at least"):
        make()


# Labels of the points #############################################################################


def labelled(num_points=12, seed=0):
    """A cloud in PyG's convention of ShapeNet, whose label says which point it belongs to."""
    return cloud(num_points, seed, y=torch.arange(num_points) % 5, category=torch.tensor([3]))


@pytest.mark.parametrize("num_points", [1, 2, 5, 12])
def test_labels_follow_the_sampled_points(num_points):
    for num in range(1, num_points + 1):
        out = FarthestPointSample(num)(labelled(num_points))
        assert torch.equal(out.pos, out.place)
        assert out.y.tolist() == [number % 5 for number in out.number.tolist()]
        assert (len(out.pos), out.category.tolist()) == (num, [3])


@pytest.mark.parametrize("num_points", [1, 12])
def test_normalising_leaves_labels_and_category_alone(num_points):
    data = labelled(num_points)
    out = NormalizeSphere()(data)
    assert torch.equal(out.y, data.y)
    assert out.category.tolist() == [3]
    assert out.pos.norm(dim=1).max().item() == pytest.approx(float(num_points > 1))


def test_only_point_taken_again_takes_its_label_along():
    out = take_points(labelled(1), torch.tensor([0, 0, 0]))
    assert (out.pos.shape, out.y.tolist(), out.category.tolist()) == ((3, 3), [0, 0, 0], [3])
    out = take_points(cloud(1, y=torch.tensor([7])), torch.tensor([0, 0, 0]))
    assert (out.pos.shape, out.y.tolist()) == ((3, 3), [7])


@pytest.mark.parametrize(("before", "after"), [(12, 5), (12, 12), (12, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize(
    "batch_of",
    [
        lambda data: Batch.from_data_list([data]),
        lambda data: Batch.from_data_list([Data(**data.to_dict(), num_nodes=len(data.pos))]),
        lambda data: next(iter(DataLoader([data]))),
        lambda data: from_dense(data.pos[None], y=data.category),
        lambda data: Data(pos=data.pos, num_nodes=len(data.pos)),
    ],
)
def test_a_batch_of_one_cloud_tells_its_new_size(batch_of, before, after):
    data = batch_of(labelled(before))
    index = torch.arange(after) % before
    out = take_points(copy.copy(data), index)  # As PyG's transforms copy what they are given.
    assert (len(out.pos), out.num_nodes) == (after, after)
    assert torch.equal(out.pos, labelled(before).pos[index])
    if out.batch is not None:
        assert out.ptr.tolist() == [0, after]
        assert out.batch.tolist() == [0] * after
    if hasattr(out, "_slice_dict"):
        (alone,) = out.to_data_list()
        assert alone.num_nodes == after
        for key in ("pos", "y", "category"):
            assert torch.equal(alone[key], out[key])
        assert torch.equal(data.to_data_list()[0].pos, labelled(before).pos)
    layout = Layout.of(out)
    assert (layout.num_clouds, layout.num_points) == (1, after)
    assert layout.dense(out.pos).shape == (1, after, 3)


def test_a_network_takes_a_sampled_batch_of_one_cloud():
    network = PointNet(3).eval()
    data = FarthestPointSample(16)(Batch.from_data_list([cloud(64)]))
    alone = Batch.from_data_list([Data(pos=data.pos)])
    torch.testing.assert_close(network(data), network(alone))


def test_sampled_data_set_of_labelled_shapes():
    transform = Compose([NormalizeSphere(), FarthestPointSample(16)])
    dataset = ParametricShapes(num_per_class=1, num_points=64, segmentation=True)
    sampled = ParametricShapes(
        num_per_class=1, num_points=64, segmentation=True, pre_transform=transform
    )
    check_labelled(sampled)
    for data, whole in zip(sampled, dataset, strict=True):
        index = torch.cdist(data.pos, NormalizeSphere()(whole).pos).argmin(dim=1)
        assert index.unique().numel() == 16
        assert torch.equal(data.y, whole.y[index])


def test_labels_follow_the_aligned_points():
    batch = Batch.from_data_list([labelled(6, seed) for seed in range(3)])
    out = AlignPoints()(batch)
    assert out.y.tolist() == [number % 5 for number in out.number.tolist()]
    assert out.category.tolist() == [3, 3, 3]


# Alignment ########################################################################################


@pytest.fixture
def anchors():
    names = ("chair", "bench", "stool")
    return Batch.from_data_list(
        [cloud(6, seed, y=torch.tensor([7]), name=names[seed]) for seed in range(3)]
    )


def test_align_a_batch(anchors):
    out = AlignPoints()(anchors)
    expected = ops.align_points(anchors.pos.view(3, 6, 3))
    assert torch.equal(out.pos.view(3, 6, 3), expected)


def test_align_keeps_attributes_in_step(anchors):
    out = AlignPoints()(anchors)
    assert torch.equal(out.pos, out.place)
    numbers = out.number.view(3, 6)
    assert numbers[0].tolist() == list(range(6))
    assert numbers.sort(dim=1).values.tolist() == [list(range(6))] * 3
    assert numbers[1].tolist() != list(range(6))


def test_align_keeps_the_batch(anchors):
    out = AlignPoints()(anchors)
    assert torch.equal(out.batch, anchors.batch)
    assert torch.equal(out.ptr, anchors.ptr)
    assert out.y.tolist() == [7, 7, 7]
    assert [data.name for data in out.to_data_list()] == ["chair", "bench", "stool"]
    assert torch.equal(out[1].pos, out.pos[6:12])


def test_align_one_cloud_changes_nothing(data):
    out = AlignPoints()(data)
    assert torch.equal(out.pos, data.pos)
    check_cloud_level(out)


def test_align_one_cloud_to_a_reference():
    data = cloud(6)
    reference = data.pos.flip(0) + 0.001
    out = AlignPoints(reference)(data)
    assert out.number.tolist() == [5, 4, 3, 2, 1, 0]


def test_align_a_batch_to_a_reference(anchors):
    reference = cloud(6, seed=9).pos
    out = AlignPoints(reference)(anchors).pos.view(3, 6, 3)
    expected = ops.align_points(torch.cat([reference[None], anchors.pos.view(3, 6, 3)]))
    assert torch.equal(out, expected[1:])


def test_align_a_batch_of_one_cloud_of_two_points():
    # Here ptr is as long as the points.
    batch = Batch.from_data_list([cloud(2)])
    out = AlignPoints(batch.pos.flip(0))(batch)
    assert out.number.tolist() == [1, 0]
    assert out.ptr.tolist() == [0, 2]


def test_align_clouds_of_one_point():
    batch = Batch.from_data_list([cloud(1, seed, y=torch.tensor([seed])) for seed in range(3)])
    out = AlignPoints()(batch)
    assert torch.equal(out.pos, batch.pos)
    assert out.y.tolist() == [0, 1, 2]


def test_align_refuses_different_sizes():
    with pytest.raises(ValueError, match="'data' must hold clouds of one size"):
        AlignPoints()(Batch.from_data_list([cloud(6), cloud(7)]))


def test_align_refuses_a_reference_of_another_size(anchors):
    with pytest.raises(ValueError, match=r"'reference' must have as many points .* \[5, 3\]"):
        AlignPoints(torch.zeros(5, 3))(anchors)


# Morphing #########################################################################################


@pytest.fixture
def weighted(anchors):
    anchors.weight = torch.tensor([[1.0, 0, 0], [0.25, 0.25, 0.5], [0, 1, 0], [0.2, 0.7, 0.1]])
    return anchors


def test_morphs_are_the_loop(weighted):
    out = MorphAnchors()(weighted)
    pos = weighted.pos.view(3, 6, 3)
    assert out.num_graphs == 4
    for morph, row in zip(out.to_data_list(), weighted.weight, strict=True):
        expected = sum(w * anchor for w, anchor in zip(row, pos, strict=True))
        torch.testing.assert_close(morph.pos, expected)
        torch.testing.assert_close(morph.place, expected)


def test_morphs_keep_integer_attributes_and_the_label(weighted):
    out = MorphAnchors()(weighted)
    assert out.number.tolist() == list(range(6)) * 4
    assert out.number.dtype == torch.int64
    assert out.y.tolist() == [7, 7, 7, 7]


def test_morphs_are_a_batch_like_any_other(weighted):
    out = MorphAnchors()(weighted)
    assert out.batch.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    assert out.ptr.tolist() == [0, 6, 12, 18, 24]
    assert "weight" not in out
    assert len(out.to_data_list()) == 4
    assert torch.equal(out[2].pos, weighted[1].pos)


def test_morphs_of_aligned_anchors(weighted):
    del weighted.number  # The alignment would make them disagree.
    aligned = AlignPoints()(weighted)
    out = Compose([AlignPoints(), MorphAnchors()])(weighted)
    expected = ops.morph(aligned.pos.view(3, 6, 3), weighted.weight)
    torch.testing.assert_close(out.pos.view(4, 6, 3), expected)


def test_morphs_of_one_anchor_of_two_points():
    # Here ptr is as long as the points.
    batch = Batch.from_data_list([cloud(2)])
    batch.weight = torch.ones(3, 1)
    out = MorphAnchors()(batch)
    assert out.ptr.tolist() == [0, 2, 4, 6]
    assert torch.equal(out.pos, batch.pos.repeat(3, 1))


def test_morphs_of_attributes_of_any_shape(weighted):
    weighted.frame = torch.randn(18, 2, 2)
    out = MorphAnchors()(weighted)
    expected = torch.einsum("lm,mnij->lnij", weighted.weight, weighted.frame.view(3, 6, 2, 2))
    torch.testing.assert_close(out.frame.view(4, 6, 2, 2), expected)


def test_morphs_keep_labels_that_agree(weighted):
    weighted.part = torch.tensor([0, 0, 1, 1, 2, 2] * 3)
    assert MorphAnchors()(weighted).part.tolist() == [0, 0, 1, 1, 2, 2] * 4


def test_morphs_keep_labels_of_points_and_the_category():
    batch = Batch.from_data_list([labelled(6, seed) for seed in range(2)])
    batch.weight = torch.full((3, 2), 0.5)
    out = MorphAnchors()(batch)
    assert out.y.tolist() == [0, 1, 2, 3, 4, 0] * 3
    assert out.category.tolist() == [3, 3, 3]


def test_labels_that_disagree_are_refused(weighted):
    weighted.part = torch.tensor([0, 0, 1, 1, 2, 2] * 2 + [0, 1, 1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"'data.part' must agree between the aligned anchors"):
        MorphAnchors()(weighted)


@pytest.mark.parametrize("weight", [torch.full((2, 2), 0.5), torch.full((3,), 1 / 3), None])
def test_weights_of_another_shape_are_refused(anchors, weight):
    if weight is not None:
        anchors.weight = weight
    with pytest.raises(ValueError, match=r"'data.weight' must have shape \[L, 3\]"):
        MorphAnchors()(anchors)


@pytest.mark.parametrize(
    "row", [[0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [float("nan"), 0.5, 0.5], [0.0, 0.0, 0.0]]
)
def test_weights_that_are_not_convex_are_refused(anchors, row):
    anchors.weight = torch.tensor([[1.0, 0, 0], row])
    with pytest.raises(ValueError, match=r"'data.weight' must be convex"):
        MorphAnchors()(anchors)


def test_morphs_need_clouds_of_one_size():
    batch = Batch.from_data_list([cloud(6), cloud(7)])
    batch.weight = torch.tensor([[0.5, 0.5]])
    with pytest.raises(ValueError, match="'data' must hold aligned clouds of one size"):
        MorphAnchors()(batch)


def test_morphs_on_a_device(device):
    batch = Batch.from_data_list([Data(pos=cloud(6, seed).pos) for seed in range(2)]).to(device)
    batch.weight = torch.tensor([[0.5, 0.5]], device=device)
    aligned = AlignPoints(cloud(6, seed=5).pos)(batch)  # A reference from the CPU.
    out = MorphAnchors()(aligned)
    assert out.pos.device.type == device.type
    torch.testing.assert_close(out.pos, aligned.pos.view(2, 6, 3).mean(dim=0))


def test_morphs_of_single_points_have_the_label_of_the_first():
    """Which as many numbers as points are not of the points."""
    anchors = Batch(
        pos=torch.rand(2, 3),
        batch=torch.tensor([0, 1]),
        ptr=torch.tensor([0, 1, 2]),
        y=torch.tensor([4, 7]),
        weight=torch.tensor([[0.5, 0.5]]),
    )
    (morph,) = MorphAnchors()(anchors).to_data_list()
    assert morph.y.tolist() == [4]
    torch.testing.assert_close(morph.pos, anchors.pos.mean(dim=0, keepdim=True))

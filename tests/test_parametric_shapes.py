"""Tests of the procedural data set: its objects, its random streams, and its behaviour in PyG."""

import inspect

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers import check_labelled
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_ddp.datasets import ParametricShapes, _objects
from torch_geometric_ddp.datasets import _surfaces as shapes

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def dataset() -> ParametricShapes:
    return ParametricShapes(num_per_class=3, num_points=256)


@pytest.fixture(scope="module")
def many() -> ParametricShapes:
    return ParametricShapes(num_per_class=60, num_points=256, seed=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The data set #####################################################################################


def test_defaults() -> None:
    parameters = inspect.signature(ParametricShapes).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults == {
        "train": True,
        "num_per_class": 100,
        "num_points": 1024,
        "seed": 0,
        "transform": None,
        "pre_transform": None,
        "pre_filter": None,
        "segmentation": False,
    }


def test_shapes_and_dtypes(dataset: ParametricShapes) -> None:
    assert len(dataset) == 30
    for i, data in enumerate(dataset):
        assert sorted(data.keys()) == ["part_label", "pos", "y"]
        assert data.num_nodes == 256
        assert (data.pos.shape, data.pos.dtype) == ((256, 3), torch.float32)
        assert (data.y.shape, data.y.dtype) == ((1,), torch.int64)
        assert (data.part_label.shape, data.part_label.dtype) == ((256,), torch.int64)
        assert data.y.item() == i // 3


def test_names_and_parts_agree(dataset: ParametricShapes) -> None:
    assert len(set(dataset.class_names)) == dataset.num_classes == 10
    assert list(dataset.category_parts) == dataset.class_names
    labels = [label for parts in dataset.category_parts.values() for label in parts]
    assert labels == list(range(len(dataset.part_names)))
    for name, parts in dataset.category_parts.items():
        assert 2 <= len(parts) <= 5
        assert all(dataset.part_names[label].startswith(f"{name}/") for label in parts)


def test_centred_and_scaled_to_the_unit_ball(dataset: ParametricShapes) -> None:
    for data in dataset:
        assert data.pos.isfinite().all()
        torch.testing.assert_close(data.pos.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
        assert data.pos.norm(dim=1).max().item() == pytest.approx(1.0, abs=1e-5)


def test_every_class_has_all_of_its_parts_and_no_others(many: ParametricShapes) -> None:
    seen: dict[int, set[int]] = {label: set() for label in range(10)}
    for data in many:
        found = set(data.part_label.tolist())
        assert len(found) >= 2
        seen[data.y.item()] |= found
    for label, name in enumerate(many.class_names):
        assert seen[label] == set(many.category_parts[name]), name


def test_same_seed_gives_the_same_objects(dataset: ParametricShapes) -> None:
    torch.manual_seed(7)
    again = ParametricShapes(num_per_class=3, num_points=256)
    for a, b in zip(dataset, again, strict=True):
        assert all(value.equal(b[key]) for key, value in a)


def test_global_random_states_are_neither_read_nor_changed() -> None:
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].tobytes()  # noqa: NPY002
    ParametricShapes(num_per_class=1, num_points=8)
    assert torch_state.equal(torch.get_rng_state())
    assert np.random.get_state()[1].tobytes() == numpy_state  # noqa: NPY002


def test_objects_do_not_depend_on_num_per_class(dataset: ParametricShapes) -> None:
    larger = ParametricShapes(num_per_class=5, num_points=256)
    for label in range(10):
        for i in range(3):
            a, b = dataset[label * 3 + i], larger[label * 5 + i]
            assert all(value.equal(b[key]) for key, value in a)


def test_splits_seeds_classes_and_indices_all_differ(dataset: ParametricShapes) -> None:
    test = ParametricShapes(train=False, num_per_class=3, num_points=256)
    other = ParametricShapes(num_per_class=3, num_points=256, seed=1)
    clouds = {data.pos.numpy().tobytes() for part in (dataset, test, other) for data in part}
    assert len(clouds) == 90


def test_proportions_vary_within_every_class(many: ParametricShapes) -> None:
    spread = torch.stack([data.pos.std(dim=0) for data in many]).view(10, 60, 3)
    ratio = spread[..., 2] / spread[..., :2].norm(dim=-1)  # Height by width: free of the yaw.
    assert (ratio.std(dim=1) > 0.1 * ratio.mean(dim=1)).all()


def test_yaw_is_uniform_over_the_full_circle(many: ParametricShapes) -> None:
    # The back of a seat lies in one direction of the object: its direction is the yaw.
    turns = []
    for name in ("chair", "sofa"):
        back = many.part_names.index(f"{name}/back")
        for data in many:
            if (data.part_label == back).any():
                x, y, _ = data.pos[data.part_label == back].mean(dim=0).tolist()
                turns.append(np.arctan2(y, x) / (2 * np.pi) % 1.0)
    assert len(turns) == 120
    assert stats.kstest(turns, "uniform").pvalue > 0.01


@pytest.mark.parametrize("num_points", [1, 2, 5])
def test_fewer_points_than_pieces(num_points: int) -> None:
    for data in ParametricShapes(num_per_class=3, num_points=num_points):
        assert data.pos.shape == (num_points, 3)
        assert data.part_label.shape == (num_points,)
        assert data.pos.isfinite().all()
        assert data.pos.norm(dim=1).max().item() == pytest.approx(float(num_points > 1), abs=1e-5)


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("num_per_class", 0, ValueError, "'num_per_class' must be at least 1, got 0"),
        ("num_points", 0, ValueError, "'num_points' must be at least 1, got 0"),
        ("seed", -1, ValueError, "'seed' must be at least 0, got -1"),
        ("num_per_class", 1.0, TypeError, "'num_per_class' must be an integer, got float"),
        ("num_points", "9", TypeError, "'num_points' must be an integer, got str"),
        ("num_points", True, TypeError, "'num_points' must be an integer, got bool"),
        ("seed", None, TypeError, "'seed' must be an integer, got NoneType"),
        ("train", "test", TypeError, "'train' must be True or False, got str"),
        ("segmentation", 1, TypeError, "'segmentation' must be True or False, got int"),
        ("pre_filter", lambda data: False, ValueError, "'pre_filter' must keep at least one"),
    ],
)
def test_bad_arguments(argument: str, value: object, error: type[Exception], message: str) -> None:
    arguments: dict[str, object] = {"num_per_class": 1, "num_points": 4, argument: value}
    with pytest.raises(error, match=message):
        ParametricShapes(**arguments)  # type: ignore[arg-type]


def test_segmentation_names_the_labels_as_pyg_does(dataset: ParametricShapes) -> None:
    labelled = ParametricShapes(num_per_class=3, num_points=256, segmentation=True)
    check_labelled(labelled)
    assert labelled.category_parts == dataset.category_parts
    for a, b in zip(labelled, dataset, strict=True):
        assert a.pos.equal(b.pos)
        assert a.y.equal(b.part_label)
        assert a.category.equal(b.y)
    assert labelled[:2].num_classes == len(dataset.part_names)
    (batch,) = DataLoader(labelled[[0, 29]], batch_size=2)
    assert (batch.y.shape, batch.category.tolist()) == ((512,), [0, 9])


def test_filters_see_the_labels_of_segmentation() -> None:
    dataset = ParametricShapes(
        num_per_class=2,
        num_points=1,
        pre_filter=lambda data: data.category.item() == 3,
        segmentation=True,
    )
    assert [data.category.item() for data in dataset] == [3, 3]
    check_labelled(dataset)


def test_numpy_integers_are_accepted() -> None:
    dataset = ParametricShapes(num_per_class=np.int64(1), num_points=np.int64(4), seed=np.int64(3))
    assert dataset[0].pos.equal(ParametricShapes(num_per_class=1, num_points=4, seed=3)[0].pos)


def test_pre_filter_and_pre_transform_run_once_and_transform_at_access() -> None:
    calls = {"filter": 0, "pre": 0, "access": 0}

    def keep(data: Data) -> bool:
        calls["filter"] += 1
        return data.y.item() != 0

    def pre(data: Data) -> Data:
        calls["pre"] += 1
        assert data.y.item() != 0
        data.pos = data.pos * 2
        return data

    def access(data: Data) -> Data:
        calls["access"] += 1
        data.extra = data.pos.new_zeros(1)
        return data

    dataset = ParametricShapes(
        num_per_class=2,
        num_points=16,
        transform=access,
        pre_transform=pre,
        pre_filter=keep,
    )
    assert (len(dataset), dataset.num_classes) == (18, 10)
    assert calls == {"filter": 20, "pre": 18, "access": 0}
    assert dataset[0].pos.norm(dim=1).max().item() == pytest.approx(2.0, abs=1e-5)
    assert "extra" in dataset[3]
    assert calls["access"] == 2


def test_a_filter_may_leave_a_single_object() -> None:
    seen: list[int] = []

    def first(data: Data) -> bool:
        seen.append(0)
        return len(seen) == 1

    dataset = ParametricShapes(num_per_class=1, num_points=4, pre_filter=first)
    assert (len(dataset), dataset.num_classes, dataset[0].pos.shape) == (1, 10, (4, 3))


def test_indexing_copying_and_splitting(dataset: ParametricShapes) -> None:
    mask = dataset.y == 4
    subset = dataset[mask]
    assert (len(subset), subset.num_classes) == (3, 10)
    assert all(data.y.item() == 4 for data in subset)
    assert len(dataset[2:5]) == 3
    copied = dataset.copy(torch.tensor([1, 29]))
    assert copied[1].pos.equal(dataset[29].pos)
    assert copied.num_classes == 10
    assert copied.class_names == dataset.class_names
    assert sorted(data.y.item() for data in dataset.shuffle()) == sorted(dataset.y.tolist())
    parts = torch.utils.data.random_split(dataset, [20, 10], torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [20, 10]
    summary = dataset.get_summary()
    assert (summary.num_graphs, summary.num_nodes.mean) == (30, 256)


def test_data_loader_round_trip(dataset: ParametricShapes) -> None:
    pos, labels = [], []
    for batch in DataLoader(dataset, batch_size=8):
        assert batch.pos.shape == (batch.num_graphs * 256, 3)
        assert batch.batch.bincount().tolist() == [256] * batch.num_graphs
        pos.append(batch.pos)
        labels.append(batch.part_label)
    assert torch.cat(pos).equal(torch.cat([data.pos for data in dataset]))
    assert torch.cat(labels).equal(torch.cat([data.part_label for data in dataset]))


# The primitives and the sampler ###################################################################


def sample(mesh: shapes.Array, num_points: int = 4000) -> shapes.Array:
    return shapes.sample_surface(mesh, num_points, rng(5))[0]


def area(mesh: shapes.Array) -> float:
    sides = np.cross(mesh[:, 1] - mesh[:, 0], mesh[:, 2] - mesh[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum() / 2)


def test_box_points_lie_on_its_faces_uniformly_by_area() -> None:
    size = np.array([1.0, 2.0, 3.0])
    mesh = shapes.box((1, -1, 2), size)
    assert area(mesh) == pytest.approx(2 * (2 + 3 + 6))
    local = (sample(mesh) - (1, -1, 2)) / (size / 2)
    np.testing.assert_allclose(np.abs(local).max(axis=1), 1.0)
    face = np.abs(local).argmax(axis=1)
    np.testing.assert_allclose(np.bincount(face) / 4000, np.array([6, 3, 2]) / 11, atol=0.005)
    for axis in range(3):
        side = local[face == axis][:, [i for i in range(3) if i != axis]]
        for coordinate in side.T:
            assert stats.kstest((coordinate + 1) / 2, "uniform").pvalue > 0.01


def test_tapered_and_leaning_box() -> None:
    points = sample(shapes.box((0, 0, 0.5), (1, 1, 1), taper=0.5, lean=(0.2, 0.0)))
    local = points[:, :2] - points[:, 2:] * (0.2, 0.0)
    assert (np.abs(local).max(axis=1) <= 0.5 - 0.25 * points[:, 2] + 1e-12).all()
    np.testing.assert_allclose(points[:, 2].max(), 1.0, atol=0.01)


def test_tube_points_lie_on_its_cylinder() -> None:
    sides, radius, length = 48, 0.5, 3.0
    mesh = shapes.tube([(0, 0, 0), (length, 0, 0)], radius, sides)
    assert area(mesh) == pytest.approx(2 * np.pi * radius * (length + radius), rel=0.01)
    points = sample(mesh)
    distance = np.hypot(points[:, 1], points[:, 2])
    cap = np.isin(points[:, 0], (0.0, length)) | (distance < radius * np.cos(np.pi / sides) - 1e-9)
    assert (distance <= radius + 1e-9).all()
    assert stats.kstest(points[~cap, 0] / length, "uniform").pvalue > 0.01
    assert cap.mean() == pytest.approx(radius / (radius + length), abs=0.01)
    angle = np.arctan2(points[~cap, 1], points[~cap, 2]) / (2 * np.pi) % 1.0
    assert stats.kstest(angle, "uniform").pvalue > 0.01
    disc = (distance[cap] / radius) ** 2
    assert stats.kstest(disc, "uniform").pvalue > 0.01


def test_tube_follows_a_curved_path_at_its_radius() -> None:
    x, y = shapes.arc((2.0, 2.0), 0, 2 * np.pi, 65).T
    points = sample(shapes.tube(np.stack([x, y, 0 * x], axis=1), 0.3, sides=32))
    ring = np.hypot(np.hypot(points[:, 0], points[:, 1]) - 2.0, points[:, 2])
    # The two caps lie inside the tube, where it closes on itself: the tube covers 4 pi of the
    # surface in units of its radius, the caps 0.3.
    assert ring.max() < 0.305
    assert (ring > 0.295).mean() == pytest.approx(4 * np.pi / (4 * np.pi + 0.3), abs=0.02)
    # Outside of the torus there is more surface than inside: the area grows with the radius.
    outer = (np.hypot(points[:, 0], points[:, 1]) > 2.0).mean()
    assert outer == pytest.approx(0.5 + 0.3 / (np.pi * 2.0), abs=0.02)


def test_lathe_cone_and_disc() -> None:
    mesh = shapes.lathe([(1.0, 0.0), (0.0, 2.0)], sides=64)
    points = sample(mesh)
    radius = np.hypot(points[:, 0], points[:, 1])
    np.testing.assert_allclose(radius, 1 - points[:, 2] / 2, atol=0.002)
    # The area of a cone up to a distance from its apex grows with the distance squared.
    assert stats.kstest((1 - points[:, 2] / 2) ** 2, "uniform").pvalue > 0.01
    assert area(shapes.lathe([(1.0, 0.0), (1.0, 0.1)], 64, capped=True)) == pytest.approx(
        2 * np.pi * 1.1, rel=0.01
    )


def test_lathe_sphere_matches_archimedes() -> None:
    radius, z = shapes.arc((1.0, 1.0), -np.pi / 2, np.pi / 2, 65).T
    points = sample(shapes.lathe(np.stack([radius, z], axis=1), sides=64))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=0.005)
    assert stats.kstest((points[:, 2] + 1) / 2, "uniform").pvalue > 0.01


def test_blade_lies_between_its_ends() -> None:
    points = sample(shapes.blade((0, 0, 0), (-1, 2, 0), (1.0, 0.5)))
    share = points[:, 1] / 2
    assert ((share >= 0) & (share <= 1)).all()
    chord = 1.0 - 0.5 * share
    assert (np.abs(points[:, 0] + share) <= chord / 2 + 1e-9).all()
    assert (np.abs(points[:, 2]) <= 0.06 * chord + 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, name=st.sampled_from(list(_objects.CLASSES)))
def test_builders_return_finite_surfaces_of_declared_parts(seed: int, name: str) -> None:
    builder, part_names = _objects.CLASSES[name]
    for part, mesh in builder(rng(seed)):
        assert part in part_names
        assert mesh.shape[1:] == (3, 3)
        assert np.isfinite(mesh).all()
        assert area(mesh) > 1e-4


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, num_points=st.integers(1, 300), name=st.sampled_from(list(_objects.CLASSES)))
def test_sampler_allots_points_in_proportion_to_area(seed: int, num_points: int, name: str) -> None:
    pieces = _objects.CLASSES[name][0](rng(seed))
    areas = np.array([area(mesh) for _, mesh in pieces])
    mesh = np.concatenate([triangles for _, triangles in pieces])
    points, index = shapes.sample_surface(mesh, num_points, rng(seed))
    owner: npt.NDArray[np.int64] = np.repeat(
        np.arange(len(pieces)), [len(triangles) for _, triangles in pieces]
    )[index]
    assert points.shape == (num_points, 3)
    counts = np.bincount(owner, minlength=len(pieces))
    assert (np.abs(counts - num_points * areas / areas.sum()) < 2).all()


def test_samples_come_in_random_order() -> None:
    index = shapes.sample_surface(shapes.box((0, 0, 0), (1, 1, 1)), 500, rng())[1]
    order = stats.spearmanr(np.arange(500), index)
    assert abs(order.statistic) < 0.15

"""What is stored, what it costs, and what it unfolds to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_ddp import ops
from torch_geometric_ddp.parameterization import FullResolution, PointMixup, Rotation, ShapeMorphing

C, K, M, N, L = 3, 2, 4, 10, 5


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def full(device="cpu"):
    return FullResolution(rand(C * K, N, 3).to(device), C)


def morphing(device="cpu", adaptive=True, **kwargs):
    weights = rand(C * K, L, M, seed=1).to(device) if adaptive else None
    anchors = rand(C * K, M, N, 3).to(device)
    return ShapeMorphing(anchors, C, L, weights, adaptive, **kwargs)


MAKERS = {
    "FullResolution": full,
    "PointMixup": lambda device="cpu": PointMixup(rand(C * K, M, N, 3).to(device), C, L),
    "ShapeMorphing": morphing,
    "static": lambda device="cpu": morphing(device, adaptive=False),
}


@pytest.fixture(params=MAKERS)
def parameterization(request, device):
    return MAKERS[request.param](device)


# All of them ######################################################################################


def test_batch(parameterization):
    batch, size = parameterization(), parameterization.num_clouds
    assert size == C * K * parameterization.clouds_per_group
    assert batch.num_graphs == size
    assert batch.num_points == N
    assert torch.equal(batch.pos.view(size, N, 3), parameterization.unfold())


def test_labels_are_class_by_class(parameterization):
    per_class = K * parameterization.clouds_per_group
    assert parameterization().y.tolist() == [c for c in range(C) for _ in range(per_class)]


@pytest.mark.parametrize("classes", [slice(0, 1), slice(1, 3), slice(2, 9), slice(None)])
def test_some_classes_are_a_slice_of_all(parameterization, classes):
    batch, whole = parameterization(classes), parameterization()
    keep = torch.isin(whole.y, torch.arange(C, device=whole.y.device)[classes])
    assert torch.equal(batch.y, whole.y[keep])
    assert torch.equal(batch.pos, whole.pos.view(-1, N, 3)[keep].flatten(0, 1))


def test_storage_there_and_back(parameterization):
    other = type(parameterization).from_storage(
        parameterization.storage(), parameterization.config(), C, K
    )
    torch.testing.assert_close(other.unfold(), parameterization.unfold())
    # What was stored once is stored again to the bit.
    again = type(other).from_storage(other.storage(), other.config(), C, K)
    assert torch.equal(again.unfold(), other.unfold())
    assert other.config() == parameterization.config()
    assert other.storage_bits() == parameterization.storage_bits()


def test_bits_are_those_of_the_stored_tensors(parameterization):
    stored = parameterization.storage().values()
    assert parameterization.storage_bits() == sum(8 * tensor.nbytes for tensor in stored)


def test_storage_carries_no_gradient(parameterization):
    assert not any(tensor.requires_grad for tensor in parameterization.storage().values())


def test_parameter_groups_are_what_is_learned(parameterization):
    groups = parameterization.parameter_groups()
    learned = [p for p in parameterization.parameters() if p.requires_grad]
    assert [id(p) for group in groups for p in group["params"]] == [id(p) for p in learned]


def test_every_parameter_has_a_gradient(parameterization):
    parameterization().pos.square().sum().backward()
    for group in parameterization.parameter_groups():
        for parameter in group["params"]:
            assert parameter.grad.abs().sum() > 0


def test_storage_of_another_shape_is_refused(parameterization):
    storage, config = parameterization.storage(), parameterization.config()
    with pytest.raises(ValueError, match=r"the tensor '.*' must be floating point of shape"):
        type(parameterization).from_storage(storage, config, C + 1, K)


def test_storage_that_lacks_a_tensor_is_refused(parameterization):
    with pytest.raises(ValueError, match=r"the tensor '.*' is missing, there is \['other'\]"):
        type(parameterization).from_storage(
            {"other": torch.zeros(1)}, parameterization.config(), C, K
        )


def test_storage_that_is_not_finite_is_refused(parameterization):
    storage = {key: value.clone() for key, value in parameterization.storage().items()}
    next(iter(storage.values())).view(-1)[3] = float("inf")
    with pytest.raises(ValueError, match=r"the tensor '.*' must be finite"):
        type(parameterization).from_storage(storage, parameterization.config(), C, K)


def test_storage_of_integers_is_refused(parameterization):
    storage = {key: value.long() for key, value in parameterization.storage().items()}
    with pytest.raises(ValueError, match=r"must be floating point of shape .* got torch.int64"):
        type(parameterization).from_storage(storage, parameterization.config(), C, K)


# Full resolution ##################################################################################


def test_full_resolution():
    pos = rand(C * K, N, 3)
    clouds = FullResolution(pos, C)
    assert torch.equal(clouds.unfold(), pos)
    assert clouds.storage_bits() == 96 * N * C * K
    assert clouds.is_morph().tolist() == [False] * (C * K)
    assert clouds.describe() == "FullResolution(C=3, K=2, N=10)"


def test_full_resolution_copies_its_clouds():
    pos = rand(C * K, N, 3)
    clouds = FullResolution(pos, C)
    pos.zero_()
    assert clouds.pos.abs().sum() > 0


@pytest.mark.parametrize("size", [0, 4, 7])
def test_full_resolution_needs_as_many_clouds_of_every_class(size):
    with pytest.raises(ValueError, match=f"'pos' must hold as many clouds .* got {size}"):
        FullResolution(torch.zeros(size, N, 3), C)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: FullResolution(torch.zeros(2, N, 3), n),
        lambda n: ShapeMorphing(torch.zeros(2, M, N, 3), n, L),
    ],
)
@pytest.mark.parametrize("num_classes", [0, -1])
def test_bad_number_of_classes(make, num_classes):
    with pytest.raises(ValueError, match="'num_classes' must be at least 1"):
        make(num_classes)


# Shape morphing ###################################################################################


def test_anchors_come_first(device):
    shape = morphing(device)
    groups = shape.unfold().view(C * K, M + L, N, 3)
    assert torch.equal(groups[:, :M], shape.anchors)
    assert shape.is_morph().tolist() == ([False] * M + [True] * L) * (C * K)


def test_morphs_are_the_weighted_sum(device):
    shape = morphing(device)
    groups = shape.unfold().view(C * K, M + L, N, 3)
    for g in range(C * K):
        for m in range(L):
            share = shape.weights[g, m].exp() / shape.weights[g, m].exp().sum()
            expected = sum(s * anchor for s, anchor in zip(share, shape.anchors[g], strict=True))
            torch.testing.assert_close(groups[g, M + m], expected)


@given(seed=st.integers(0, 2**16), sharpness=st.floats(0, 50))
def test_morphs_stay_between_the_anchors(seed, sharpness):
    anchors, weights = rand(2, M, N, 3, seed=seed), sharpness * rand(2, L, M, seed=seed + 1)
    groups = ShapeMorphing(anchors, 1, L, weights).unfold().detach().view(2, M + L, N, 3)
    low, high = anchors.amin(dim=1, keepdim=True), anchors.amax(dim=1, keepdim=True)
    assert bool((groups >= low - 1e-6).all())
    assert bool((groups <= high + 1e-6).all())


def test_static_morphs_are_the_mean(device):
    shape = morphing(device, adaptive=False)
    groups = shape.unfold().view(C * K, M + L, N, 3)
    mean = shape.anchors.mean(dim=1, keepdim=True).expand(-1, L, -1, -1)
    torch.testing.assert_close(groups[:, M:], mean)


def test_static_morphing_stores_and_learns_no_weights():
    shape = morphing(adaptive=False)
    assert list(shape.storage()) == ["anchors"]
    assert shape.storage_bits() == 96 * M * N * C * K
    assert len(shape.parameter_groups()) == 1
    assert not shape.weights.requires_grad


@given(
    num_classes=st.integers(1, 4),
    ppc=st.integers(1, 3),
    num_anchors=st.integers(1, 5),
    anchor_points=st.integers(1, 6),
    num_morphs=st.integers(0, 7),
)
def test_bits_are_the_formula(num_classes, ppc, num_anchors, anchor_points, num_morphs):
    anchors = torch.zeros(num_classes * ppc, num_anchors, anchor_points, 3)
    bits = ShapeMorphing(anchors, num_classes, num_morphs).storage_bits()
    groups = ppc * num_classes
    assert bits == (96 * num_anchors * anchor_points + 32 * num_morphs * (num_anchors - 1)) * groups


def test_published_group_takes_the_room_of_a_cloud():
    assert ShapeMorphing(torch.zeros(1, 4, 252, 3), 1, 16).storage_bits() == 98304


def test_weights_are_stored_less_the_first():
    shape = morphing()
    stored = shape.storage()["weights"]
    assert stored.shape == (C * K, L, M - 1)
    torch.testing.assert_close(stored, shape.weights[..., 1:] - shape.weights[..., :1])


def test_learning_rates():
    default = [group["lr"] for group in morphing().parameter_groups()]
    assert default == [2.5, 0.25]
    own = morphing(anchor_lr=3.0, weight_lr=0.1).parameter_groups()
    assert [group["lr"] for group in own] == [3.0, 0.1]
    # A tenth of the anchors', whatever that is.
    tenth = morphing(anchor_lr=3.0).parameter_groups()
    assert [group["lr"] for group in tenth] == [3.0, 3.0 / 10]


def test_describe():
    assert morphing().describe() == "ShapeMorphing(C=3, K=2, M=4, N2=10, L=5)"


def test_no_morphs():
    shape = ShapeMorphing(rand(C * K, M, N, 3), C, 0)
    assert torch.equal(shape.unfold(), shape.anchors.flatten(0, 1))
    other = ShapeMorphing.from_storage(shape.storage(), shape.config(), C, K)
    assert torch.equal(other.unfold(), shape.unfold())


def test_one_anchor_gives_copies():
    shape = ShapeMorphing(rand(2, 1, N, 3), 2, 2)
    groups = shape.unfold().view(2, 3, N, 3)
    assert torch.equal(groups, shape.anchors.expand(-1, 3, -1, -1))


# From clouds ######################################################################################


def test_from_clouds_samples_and_aligns():
    pos = rand(C, K * M, 30, 3)
    shape = ShapeMorphing.from_clouds(pos, M, N, L)
    assert (shape.num_classes, shape.ppc, shape.num_anchors) == (C, K, M)
    for c in range(C):
        for k in range(K):
            clouds = pos[c, k * M : (k + 1) * M]
            clouds = ops.gather_points(clouds, ops.farthest_point_sample(clouds, N))
            assert torch.equal(shape.anchors[c * K + k], ops.align_points(clouds))


def test_from_clouds_draws_standard_normal_weights():
    generator = torch.Generator().manual_seed(3)
    shape = ShapeMorphing.from_clouds(rand(C, K * M, 30, 3), M, N, L, generator)
    expected = torch.randn(C * K, L, M, generator=torch.Generator().manual_seed(3))
    assert torch.equal(shape.weights, expected)


def test_from_clouds_static():
    shape = ShapeMorphing.from_clouds(rand(C, K * M, 30, 3), M, N, L, adaptive=False)
    assert bool((shape.weights == 0).all())
    assert not shape.adaptive


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((rand(C, 5, 30, 3), M, N, L), "'pos' must hold a multiple of 4 clouds a class, got 5"),
        ((rand(C, 0, 30, 3), M, N, L), "'pos' must hold a multiple of 4 clouds a class, got 0"),
        ((rand(C, 8, 30), M, N, L), r"'pos' must have shape \[C K\*M N1 3\]"),
        ((rand(C, 8, 30, 3), 0, N, L), "'num_anchors' must be at least 1"),
        ((rand(C, 8, 30, 3), M, 31, L), "31 points, but the clouds have 30"),
        ((rand(C, 8, 30, 3), M, N, -1), "'num_morphs' must be at least 0, got -1"),
    ],
)
def test_from_clouds_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ShapeMorphing.from_clouds(*args)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"anchors": torch.zeros(5, M, N, 3)}, "'anchors' must hold as many groups .* got 5"),
        ({"anchors": torch.zeros(0, M, N, 3)}, "'anchors' must hold as many groups .* got 0"),
        ({"anchors": torch.zeros(6, N, 3)}, r"'anchors' must have shape \[G M N2 3\]"),
        ({"num_morphs": -1}, "'num_morphs' must be at least 0"),
        ({"weights": torch.zeros(6, M, L)}, r"'weights' must have shape \[6, 5, 4\]"),
        ({"weights": [[1.0]]}, r"'weights' must be a tensor of shape \[G L M\], got list"),
        ({"anchor_lr": -1.0}, "'anchor_lr' must be finite and at least 0"),
        ({"weight_lr": float("nan")}, "'weight_lr' must be finite and at least 0"),
    ],
)
def test_shape_morphing_refuses(kwargs, message):
    arguments = {"anchors": torch.zeros(6, M, N, 3), "num_classes": C, "num_morphs": L}
    with pytest.raises((TypeError, ValueError), match=message):
        ShapeMorphing(**{**arguments, **kwargs})


# Turns ############################################################################################


def turned(kind, lr=0.01):
    if kind == "full":
        return FullResolution(torch.randn(4, 9, 3), 2, rotation_lr=lr)
    return ShapeMorphing(torch.randn(4, 2, 9, 3), 2, 3, torch.randn(4, 3, 2), rotation_lr=lr)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_turn_by_a_right_angle(up):
    """About x: y goes to z and z to minus y; and so on around."""
    rotation = Rotation(torch.zeros(1, 1, 3), up=up)
    rotation.angle.data.fill_(math.pi / 2)
    for axis in range(3):
        unit = torch.eye(3)[axis].view(1, 1, 3)
        turned = rotation(unit).flatten()
        if axis == up:
            expected = torch.eye(3)[axis]
        elif axis == (up + 1) % 3:
            expected = torch.eye(3)[(up + 2) % 3]
        else:
            expected = -torch.eye(3)[(up + 1) % 3]
        torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["full", "morphing"])
def test_no_angle_is_no_turn(kind):
    torch.manual_seed(0)
    parameterization = turned(kind)
    before = parameterization.unfold()
    parameterization.rotation = None
    torch.testing.assert_close(before, parameterization.unfold())


@pytest.mark.parametrize("kind", ["full", "morphing"])
def test_turned_clouds_are_stored_turned(kind):
    torch.manual_seed(0)
    parameterization = turned(kind)
    plain_bits = parameterization.storage_bits()
    parameterization.rotation.angle.data.normal_()
    parameterization.rotation.tilt.data.normal_()
    clouds = parameterization.unfold().detach()
    assert parameterization.storage_bits() == plain_bits
    assert set(parameterization.storage()) <= {"pos", "anchors", "weights"}
    read = type(parameterization).from_storage(
        parameterization.storage(), parameterization.config(), 2, 2
    )
    torch.testing.assert_close(read.unfold().detach(), clouds)
    # Distances within a stored cloud stay.
    stored = next(iter(parameterization.storage().values()))
    own = next(parameterization.parameters()).detach()
    torch.testing.assert_close(torch.cdist(stored, stored), torch.cdist(own, own))
    # Some groups are turned as all of them are.
    some = parameterization.unfold(slice(1, 3)).detach()
    size = parameterization.clouds_per_group
    torch.testing.assert_close(some, clouds[size : 3 * size])


@pytest.mark.parametrize("kind", ["full", "morphing"])
def test_angles_are_learned(kind):
    torch.manual_seed(0)
    parameterization = turned(kind, lr=0.3)
    angle, tilt = parameterization.parameter_groups()[-2:]
    assert (angle["lr"], angle["halve_every"]) == (0.3, 100)
    assert (tilt["lr"], tilt["halve_every"]) == (0.3 / 10, 100)
    parameterization.unfold()[..., 0].square().sum().backward()
    assert float(parameterization.rotation.angle.grad.abs().min()) > 0
    assert float(parameterization.rotation.tilt.grad.abs().max()) > 0


def test_turn_gradcheck():
    torch.manual_seed(0)
    rotation = Rotation(torch.zeros(2, 4, 3, dtype=torch.float64))
    pos = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    rotation.angle.data.normal_()
    rotation.tilt.data.normal_()

    def turn(pos, angle, tilt):
        return torch.func.functional_call(rotation, {"angle": angle, "tilt": tilt}, (pos,))

    assert torch.autograd.gradcheck(turn, (pos, rotation.angle, rotation.tilt))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lr", -1.0, "'rotation_lr' must be finite and at least 0"),
        ("up", 3, "'up' must be 0, 1 or 2, got 3"),
        ("halve_every", 0, "'halve_every' must be at least 1"),
    ],
)
def test_bad_turn(name, value, error):
    with pytest.raises(ValueError, match=error):
        Rotation(torch.zeros(1, 2, 3), **{name: value})

"""What is stored, what it costs, and what it unfolds to."""

import pickle

import pytest
import torch

from torch_geometric_ddp.parameterization import (
    Float16,
    FullResolution,
    PointMixup,
    ShapeMorphing,
)

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


def test_workers_of_a_loader_are_sent_it(parameterization):
    again = pickle.loads(pickle.dumps(parameterization))
    assert torch.equal(again.unfold(), parameterization.unfold())
    assert again.config() == parameterization.config()


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


@pytest.mark.parametrize("codec", ["Float16", Float16, None])
def test_codecs_that_are_none(codec):
    with pytest.raises(TypeError, match="'codec' must be a Codec, such as Float16"):
        FullResolution(torch.rand(3, 4, 3), 3, codec=codec)
    for align in (True, False):
        with pytest.raises(TypeError, match="'codec' must be a Codec, such as Float16"):
            ShapeMorphing.from_clouds(torch.rand(3, 2, 9, 3), 2, 4, 1, align=align, codec=codec)


def test_labels_that_are_none():
    with pytest.raises(TypeError, match="'labels' must be PartLabels, got str"):
        FullResolution(torch.rand(3, 4, 3), 3, labels="parts")


def test_classes_that_do_not_follow_each_other():
    synthetic = FullResolution(torch.rand(3, 4, 3), 3)
    for classes in (slice(0, 3, 2), slice(2, 0, -1)):
        with pytest.raises(ValueError, match="'classes' must be a slice of step 1, got slice"):
            synthetic(classes)
    with pytest.raises(TypeError, match="'classes' must be a slice, got int"):
        synthetic(1)
    for classes in (slice(2, 1), slice(3, None)):
        assert synthetic(classes).pos.shape == (0, 3)

"""The named methods, and pairs that no paper has tried."""

import copy
import dataclasses
import functools
import itertools

import pytest
import torch
from helpers import NormNet, TinyNet, toy_set

from torch_geometric_ddp import (
    Method,
    StorageBudget,
    SyntheticPointCloudDataset,
    distill,
    ops,
)
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    UniformityAwareSADM,
)
from torch_geometric_ddp.methods import METHODS as BY_NAME
from torch_geometric_ddp.methods import (
    CloudStoring,
    chosen_by_regression,
    dc,
    ddp,
    dm,
    find_method,
    full_resolution,
    morphing,
    pcc,
    pkr,
    sadm,
)
from torch_geometric_ddp.methods.networks import NetworkSource
from torch_geometric_ddp.methods.starts import JointStart, chosen_clouds, real_clouds, tanh_noise
from torch_geometric_ddp.parameterization import FullResolution

SMALL = {"num_anchors": 2, "num_morphs": 3}
TINY = {"num_points": 8, "visits": 2, "ages": (0, 2), "num_trained": 1, "real_per_class": 4}
METHODS = {
    "DM": dm(),
    "DC": dc(),
    "PCC": pcc(lambda bank, num: bank.smallest(torch.arange(float(len(bank))), num)),
    "SADM": sadm(),
    "DDP": ddp(**SMALL),
    "DDP-static": ddp(**SMALL, adaptive=False),
    "PKR": pkr(**TINY),
}
STORED = {
    "full": full_resolution(0.1),
    "turned": full_resolution(0.1, rotation_lr=0.1),
    "morphing": morphing(**SMALL),
    "turned morphing": morphing(**SMALL, rotation_lr=0.1),
}
MATCHED = {
    "DM": DistributionMatching,
    "DC": GradientMatching,
    "SADM": functools.partial(SADM, absolute=False, weight=2.0, top_weight=1.0),
    "DDP": UniformityAwareSADM,
}


def bank_of(device="cpu"):
    return PointCloudBank.from_dataset(toy_set(), device).normalize()


def run(method, dataset=None, network=TinyNet, **kwargs):
    dataset = toy_set() if dataset is None else dataset
    return method.distill(dataset, network=network, **{"steps": 3, "progress": False, **kwargs})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["DM", "DC", "SADM", "DDP", "PKR"])
def test_clouds_in_half_precision(name, dtype):
    bank = PointCloudBank.from_dataset(toy_set(), dtype=dtype).normalize()
    if name == "PKR":
        with pytest.raises(ValueError, match="'dataset' must be in single or double precision"):
            METHODS[name].begin(bank, 1, 0, progress=False)
        return
    loop = METHODS[name].begin(bank, 1, 0, progress=False)
    loop.run(3, progress=False)
    single = METHODS[name].begin(bank_of(), 1, 0, progress=False)
    assert loop.losses[0] == pytest.approx(single.step(), rel=0.1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("ppc", [1, 3])
def test_method(name, ppc, tmp_path, device):
    synthetic = run(METHODS[name], ppc=ppc, device=device)
    assert synthetic.provenance["method"] == name
    assert synthetic.provenance["steps"] == 3
    assert synthetic.storage_bits <= StorageBudget(32, 3, ppc).bits
    assert [synthetic[i].y.item() for i in (0, -1)] == [0, 2]
    synthetic.save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    for ours, theirs in zip(synthetic, read, strict=True):
        torch.testing.assert_close(ours.pos, theirs.pos)


@pytest.mark.parametrize("name", METHODS)
def test_steps_move_the_clouds_and_a_seed_repeats_them(name):
    before, after, again = (run(METHODS[name], steps=steps) for steps in (0, 3, 3))
    assert not torch.equal(before._data.pos, after._data.pos)
    assert torch.equal(after._data.pos, again._data.pos)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("matched", MATCHED)
@pytest.mark.parametrize("network", [TinyNet, NormNet])
def test_every_pair(stored, matched, network, device):
    """Among them gradient matching on morphs, and SADM with turns of the anchors."""
    method = Method("pair", STORED[stored], MATCHED[matched], 10)
    loop = method.begin(bank_of(device), 2, network=network)
    first = {name: p.detach().clone() for name, p in loop.parameterization.named_parameters()}
    loop.run(2, progress=False)
    for name, parameter in loop.parameterization.named_parameters():
        assert not torch.equal(parameter.detach(), first[name]), name


def test_published_steps_are_the_default():
    published = {"DM": 20000, "DC": 1000, "PCC": 1000, "SADM": 1500, "DDP": 2000}
    assert {name: METHODS[name].steps for name in published} == published
    assert len(run(Method("two", full_resolution(), SADM, 2), steps=None)) == 3


def test_sadm_as_published():
    """The loss has weights of 0.002 and 0.001 there, with learning rates of 10 and 0.01."""
    loop = sadm().begin(bank_of(), network=TinyNet)
    config = loop.config()
    assert (config["absolute"], config["weight"], config["top_weight"]) == (False, 2.0, 1.0)
    assert config["learning_rates"] == [10 * 0.001, 0.01 * 0.001, 0.01 * 0.001 / 10]
    assert loop.optimizer.defaults["momentum"] == 0.5


def test_distill_takes_a_method_or_its_name():
    kwargs = {"network": TinyNet, "steps": 2, "progress": False, "seed": 3}
    own = distill(toy_set(), 1, ddp(**SMALL), **kwargs)
    assert torch.equal(own._data.pos, run(ddp(**SMALL), steps=2, seed=3)._data.pos)
    assert distill(toy_set(), **kwargs).provenance["method"] == "DDP"
    named = distill(toy_set(), 1, "sadm", **kwargs)
    assert torch.equal(named._data.pos, run(sadm(), steps=2, seed=3)._data.pos)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_name_is_the_method_with_its_defaults(name):
    assert find_method(name).name.lower() == name
    assert find_method(name).steps == METHODS[find_method(name).name].steps


def test_a_name_of_ones_own_is_found(monkeypatch):
    """Also that of a method that has none here."""
    monkeypatch.setitem(BY_NAME, "pcc", lambda: METHODS["PCC"])
    assert find_method("pcc") is METHODS["PCC"]


SAME = Method("same", full_resolution(), SADM, 1, within=lambda budget: SAME)
AGAIN = Method("again", full_resolution(), SADM, 1, within=lambda _: dataclasses.replace(AGAIN))


@pytest.mark.parametrize(
    ("method", "got"),
    [
        (SAME, "itself"),
        (AGAIN, "itself"),
        (dataclasses.replace(SAME, within=lambda budget: None), r"NoneType \(None\)"),
    ],
)
def test_within_gives_another_method(method, got):
    message = f"'within' must give another Method for a budget, got {got}"
    with pytest.raises(TypeError, match=message):
        method.begin(bank_of(), network=TinyNet)
    nested = dataclasses.replace(method, within=lambda budget: pkr(**{**TINY, "num_points": None}))
    assert nested.begin(bank_of(), network=TinyNet).parameterization.ppc > 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("pcc", "'method' must not be 'pcc' by name, as PCC starts from the features"),
        (
            "DDP",
            r"'method' must be a Method or one of \['ddp', 'sadm', 'dm', 'dc', 'pkr'\], got 'DDP'",
        ),
    ],
)
def test_no_method(method, message):
    with pytest.raises(ValueError, match=message):
        distill(toy_set(), 1, method)


@pytest.mark.parametrize("method", [ddp, 3, None])
def test_what_is_no_name_of_a_method(method):
    with pytest.raises(TypeError, match=r"'method' must be a Method or one of .*, got "):
        distill(toy_set(), 1, method)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({}, [2.5, 0.25]),
        ({"anchor_lr": 0.5}, [0.5, 0.05]),
        ({"weight_lr": 3.0}, [2.5, 3.0]),
        ({"anchor_lr": 0.5, "weight_lr": 0.0}, [0.5, 0.0]),
    ],
)
def test_weights_learn_at_a_tenth_of_the_rate_of_the_anchors(settings, rates):
    loop = ddp(**SMALL, **settings).begin(bank_of(), network=TinyNet)
    assert loop.config()["learning_rates"] == rates
    storing = morphing(**SMALL, **settings)
    loop = Method("own", storing, UniformityAwareSADM, 1).begin(bank_of(), network=TinyNet)
    assert loop.config()["learning_rates"] == rates


def test_classes_per_chunk_is_recorded_where_it_is_given():
    whole = run(ddp(**SMALL), steps=1)
    chunked = run(ddp(**SMALL), steps=1, classes_per_chunk=2)
    assert "classes_per_chunk" not in whole.provenance
    assert chunked.provenance["classes_per_chunk"] == 2
    torch.testing.assert_close(chunked._data.pos, whole._data.pos)


def test_starts(device):
    bank, generator = bank_of(device), torch.Generator().manual_seed(0)
    clouds = bank.dense()
    real = real_clouds(bank, 4, generator)
    assert real.shape == (3, 4, 32, 3)
    for c in range(3):
        own = clouds[bank.y == c]
        assert all(any(torch.equal(cloud, other) for other in own) for cloud in real[c])
    noise = tanh_noise(bank, 50, generator)
    assert noise.shape == (3, 50, 32, 3)
    assert noise.device == clouds.device
    assert float(noise.abs().max()) < 1
    # The variance of the hyperbolic tangent of a standard normal variable.
    assert abs(float(noise.var()) - 0.3943) < 0.02
    chosen = chosen_clouds(lambda bank, num: bank.smallest(-torch.arange(18.0), num))
    assert torch.equal(chosen(bank, 2, generator)[0], clouds[[5, 4]])


def test_start_of_the_anchors():
    synthetic = run(ddp(**SMALL, start=tanh_noise), steps=0)
    assert float(synthetic._data.pos.abs().max()) < 1


def test_updates_with_one_network():
    """Five updates a step for three clouds a class, and a network that is trained in between."""
    seen = []

    class Spy(GradientMatching):
        def forward(self, network, real, synthetic):
            weight = next(network.parameters())
            seen.append((id(network), weight.detach().clone(), weight.requires_grad))
            return super().forward(network, real, synthetic)

    method = Method("DC", full_resolution(0.1), Spy, 1000, loops=dc().loops)
    loop = method.begin(bank_of(), 3, network=TinyNet)
    assert (loop.outer_loops, loop.inner_epochs) == (5, 1)
    loop.step()
    assert len(seen) == 5
    assert len({network for network, _, _ in seen}) == 1
    assert not any(learns for _, _, learns in seen)
    for (_, before, _), (_, after, _) in itertools.pairwise(seen):
        assert 0 < float((before - after).abs().max()) < 1
    assert loop.num_steps == 1


def test_the_loop_trains_for_the_epochs_that_it_is_told():
    epochs = []

    class Source(NetworkSource):
        def train(self, network, clouds, num):
            epochs.append(num)
            super().train(network, clouds, num)

    method = Method(
        "DC", full_resolution(0.1), GradientMatching, 1, loops=lambda ppc: (3, 4), networks=Source
    )
    method.begin(bank_of(), 1, network=TinyNet).step()
    assert epochs == [4, 4]


def test_training_between_updates_is_at_a_constant_rate():
    """As published, for any number of epochs: against a plain loop."""
    bank, generator = bank_of(), torch.Generator().manual_seed(0)
    source = NetworkSource(TinyNet, bank, 8, generator)
    network = source.fresh()
    ours = copy.deepcopy(network).requires_grad_(True)
    seeds = torch.Generator()
    seeds.set_state(generator.get_state())
    source.train(network, bank, 6)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.01, momentum=0.5)
    order = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=seeds)))
    for _ in range(6):
        for index in torch.randperm(18, generator=order).split(8):
            batch = bank.batch(index)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(ours(batch), batch.y).backward()
            optimizer.step()
    for mine, its in zip(ours.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(its.detach(), mine.detach())


@pytest.mark.parametrize(("ppc", "loops"), [(1, (1, 1)), (3, (5, 1)), (10, (5, 1)), (50, (50, 10))])
def test_loops_of_gradient_matching(ppc, loops):
    assert dc().loops(ppc) == loops
    assert ddp().loops(ppc) == (1, 1)


@pytest.mark.parametrize("name", ["PCC", "SADM", "DDP"])
def test_resumed_run_is_the_same_to_the_bit(name, tmp_path):
    """Also with several updates a step, and with learning rates that halve."""
    method, path = METHODS[name], tmp_path / "checkpoint"
    whole = run(method, ppc=3, steps=4)
    run(method, ppc=3, steps=2, checkpoint=path)
    assert torch.equal(run(method, ppc=3, steps=4, checkpoint=path)._data.pos, whole._data.pos)


@pytest.mark.parametrize("make", [dm, functools.partial(ddp, **SMALL)])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda clouds: clouds[:, :-1], ValueError, "'start' must give clouds of shape .*, got"),
        (lambda clouds: clouds[:2], ValueError, "'start' must give clouds of shape .*, got"),
        (lambda clouds: clouds[:, :, :16], ValueError, r"shape \[3, \d, 32, 3\], got .*16, 3\]"),
        (lambda clouds: clouds.flatten(0, 1), ValueError, "'start' must give clouds of shape"),
        (lambda clouds: clouds.double(), TypeError, "a tensor of torch.float32, got torch.float64"),
        (lambda clouds: clouds.numpy(), TypeError, "a tensor of torch.float32, got ndarray"),
    ],
)
def test_what_a_start_gives_is_looked_at(make, change, error, message):
    def start(bank, num, generator):
        return change(real_clouds(bank, num, generator))

    with pytest.raises(error, match=message):
        run(make(start=start), ppc=2)


def test_what_a_joint_start_gives_is_looked_at():
    def of_each(bank, counts, generator):
        return bank.dense()[: sum(counts) - 1]

    message = r"'start' must give clouds of shape \[6, 32, 3\], got \[5, 32, 3\]"
    with pytest.raises(ValueError, match=message):
        run(dm(start=JointStart(of_each)), ppc=2)


def first_clouds(bank, num):
    return bank.smallest(torch.arange(float(len(bank))), num)


def last_clouds(bank, num):
    return bank.smallest(-torch.arange(float(len(bank))), num)


def of_first_points(pos):
    return pos[:, :16]


def of_last_points(pos):
    return pos[:, 16:]


def own_cloudwise(reduce):
    """A storing of one's own that takes 16 points of every cloud."""

    def make(pos, num_classes, labels):
        return FullResolution(pos, num_classes)

    return CloudStoring(lambda budget: (1, 16), make, reduce)


def own_storing(sign):
    """One that starts from turned clouds."""

    def store(bank, budget, start, generator, task):
        return FullResolution(sign * start(bank, 1, generator).flatten(0, 1), bank.num_classes)

    return store


class OtherNetworks(NetworkSource):
    """Networks of one's own with the settings of others."""


FROM = dataclasses.replace(dm(), steps=1)
STARTS = {
    "start": (dm(start=real_clouds), dm(start=tanh_noise)),
    "its captures": (pcc(first_clouds), pcc(last_clouds)),
    "no start": (dc(0.001), pcc(first_clouds)),
    "align": (ddp(**SMALL), ddp(**SMALL, align=False)),
    "choose": (pkr(**{**TINY, "visits": 0}), pkr(**TINY)),
    "storing": (
        dataclasses.replace(FROM, storing=own_storing(1)),
        dataclasses.replace(FROM, storing=own_storing(-1)),
    ),
    "storing of clouds": (
        dataclasses.replace(FROM, storing=own_cloudwise(of_first_points)),
        dataclasses.replace(FROM, storing=own_cloudwise(of_last_points)),
    ),
    "networks": (FROM, dataclasses.replace(FROM, networks=OtherNetworks)),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_checkpoint_knows_where_its_run_started(name, tmp_path):
    first, other = STARTS[name]
    path = tmp_path / "checkpoint"
    made = run(first, checkpoint=path, steps=1)
    with pytest.raises(ValueError, match="is of another run: it differs in "):
        run(other, checkpoint=path, steps=1)
    again = run(first, checkpoint=path, steps=1)
    assert again.provenance == made.provenance
    assert run(other, steps=1).provenance != made.provenance


def test_usual_starts_are_not_told():
    """So that checkpoints of before are of the same runs."""
    for method in (dm(), sadm(), ddp(**SMALL), Method("full", full_resolution(), SADM, 1)):
        told = run(method, steps=0).provenance
        assert not {"start", "choose", "align", "storing", "networks"} & told.keys()
    assert run(dc(), steps=0).provenance["start"] == "tanh_noise"
    assert run(METHODS["PKR"], steps=0).provenance["choose"] == {
        "object": "ChosenByRegression",
        "settings": {"visits": 2, "candidates": 64, "ridge": 0.01, "weigh": "size"},
    }


def test_forms_of_ones_own_are_told():
    first, other = (
        chosen_by_regression(form, visits=0) for form in (of_first_points, of_last_points)
    )
    assert describe(first) != describe(other)
    assert "form" not in describe(chosen_by_regression(full_resolution().form))["settings"]


def test_learning_rates_of_turns_halve():
    loop = sadm(rotation_lr=0.5).begin(bank_of(), network=TinyNet)
    rates = []
    for skipped in (98, 0, 0):  # The first, the hundredth and the next one.
        loop.step()
        rates.append([group["lr"] for group in loop.optimizer.param_groups])
        loop.losses += [0.0] * skipped
    assert rates == [[0.01, 0.5, 0.05], [0.01, 0.5, 0.05], [0.01, 0.25, 0.025]]
    assert loop.config()["learning_rates"] == [0.01, 0.5, 0.05]


def test_subsets_and_scores_are_shared_between_runs(monkeypatch):
    """By runs that differ in what does not matter to them."""
    bank, partitions, scores = bank_of(), [], []
    partition, score = PointCloudBank.partition, ops.uniformity_score
    monkeypatch.setattr(
        PointCloudBank,
        "partition",
        lambda self, *args: partitions.append(args[:2]) or partition(self, *args),
    )
    monkeypatch.setattr(
        ops, "uniformity_score", lambda pos, k: scores.append(len(pos)) or score(pos, k)
    )
    for method in (
        ddp(**SMALL),
        ddp(**SMALL, uniformity_lambda=5.0),
        ddp(**SMALL, uniformity_lambda=0.0),
        ddp(**SMALL, anchor_points=9),
    ):
        method.begin(bank, network=TinyNet).step()
    assert partitions == [(2, 15), (3, 9)]
    assert scores == [18, 36, 54]


def test_unfinished_set_leaves_the_loop_alone():
    method = ddp(**SMALL)
    loop = method.begin(bank_of(), network=TinyNet)
    loop.step()
    early = method.finish(loop)
    before = early._data.pos.clone()
    loop.run(3, progress=False)
    assert torch.equal(early.parameterization().pos.detach(), before)
    assert early.provenance["steps"] == 1
    assert loop.num_steps == 3


def test_a_set_beyond_the_budget_is_refused():
    def greedy(bank, budget, start, generator, task):
        return full_resolution()(bank, StorageBudget(32, 3, 2), start, generator, task)

    with pytest.raises(ValueError, match="more than the budget of"):
        run(Method("greedy", greedy, SADM, 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ddp(num_anchors=2, num_morphs=3, anchor_points=16), ValueError, "at most 15"),
        (lambda: ddp(uniformity_lambda=-1.0), ValueError, "'uniformity_lambda' must be finite"),
        (lambda: dm(lr=-1.0), ValueError, "'lr' must be finite and at least 0"),
        (lambda: sadm(rotation_lr=-1.0), ValueError, "'rotation_lr' must be finite"),
        (lambda: Method("none", full_resolution(), SADM, -1), ValueError, "'steps' must be"),
        (lambda: ddp(batch_size=0), ValueError, "'batch_size' must be at least 1"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        run(make())

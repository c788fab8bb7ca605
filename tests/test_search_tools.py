"""Samplers by name, the pruner of seeds, artifacts, importances and what a search says first."""

import json

import optuna
import pytest
from matplotlib.figure import Figure
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna.trial import TrialState, create_trial
from test_tuning import search, states

from torch_geometric_ddp import StorageBudget, SyntheticPointCloudDataset
from torch_geometric_ddp.programs import command, search_report, tune
from torch_geometric_ddp.tuning import (
    SAMPLERS,
    Objective,
    SearchSpace,
    TuningResult,
    auto,
    keep_artifacts,
    pictures,
)

# Samplers ########################################################################################


def test_the_program_knows_the_samplers():
    assert tuple(SAMPLERS) == tune.SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_by_name_draws_what_its_seed_says(name):
    first, second = (search(None, 3, sampler=name, seed=4).study.trials for _ in range(2))
    assert [trial.params for trial in first] == [trial.params for trial in second]
    assert all(trial.state == TrialState.COMPLETE for trial in first)


def kind_of(sampler, study):
    sampler.infer_relative_search_space(study, study.get_trials()[0])
    return type(sampler._drawing).__name__


def test_auto_takes_the_process_for_few_numbers():
    space, budget = SearchSpace(), StorageBudget(64, 3)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for value in range(12):
        trial = study.ask()
        space.sample(trial, budget)
        study.tell(trial, float(value))
    assert kind_of(auto(0), study) == "GPSampler"
    study.sampler = auto(1)
    space.sample(study.ask(), budget)  # And it draws.
    study.add_trials([study.trials[0]] * 250)
    assert kind_of(auto(0), study) == "TPESampler"
    for directions, more in ((["maximize"] * 2, {}), (["maximize"], {"no_penalty": True})):
        other = optuna.create_study(directions=directions)
        trial = other.ask()
        SearchSpace(**more).sample(trial, budget)
        other.tell(trial, [1.0] * len(directions))
        assert kind_of(auto(0), other) == "TPESampler"


# The pruner of seeds #############################################################################


def scores(monkeypatch, of):
    """Every seed has a score that depends on its trial."""
    seen = []

    def score(self, synthetic, seed, share=1.0):
        seen.append(seed)
        return of(len(seen), seed)

    monkeypatch.setattr(Objective, "_score", score)
    return seen


def test_a_trial_that_is_worse_seed_by_seed_is_given_up(monkeypatch):
    # The first trial is far better than the second, by noise that the seeds share.
    seen = scores(monkeypatch, lambda count, seed: (0.9 if count <= 6 else 0.2) + seed / 100)
    result = search(None, 2, seeds=6, looks=(0.5,), seed_by_seed=True)
    assert states(result) == ["COMPLETE", "PRUNED"]
    assert seen == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert isinstance(result.study.pruner, optuna.pruners.WilcoxonPruner)
    values = result.study.trials[0].intermediate_values
    assert values == {i: pytest.approx(0.9 + i / 100) for i in range(6)}


def test_a_trial_as_good_is_not(monkeypatch):
    seen = scores(monkeypatch, lambda count, seed: 0.5 + (count * 7 % 5) / 100)
    assert states(search(None, 2, seeds=6, seed_by_seed=True)) == ["COMPLETE", "COMPLETE"]
    assert len(seen) == 12


def test_a_trial_of_all_seeds_is_not_given_up(monkeypatch):
    """There is nothing left to save."""

    class Late(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.last_step == 2

    scores(monkeypatch, lambda count, seed: 0.5)
    result = search(None, 1, seeds=3, pruner=Late(), seed_by_seed=True)
    assert states(result) == ["COMPLETE"]


def test_seed_by_seed_is_part_of_a_study(tmp_path):
    search(tmp_path / "study.journal", 1)
    with pytest.raises(ValueError, match="it differs in seed_by_seed"):
        search(tmp_path / "study.journal", 1, seed_by_seed=True)


def test_too_few_runs_for_the_pruner():
    words = ["tune", "--pruner", "wilcoxon", "--trial-runs", "4"]
    with pytest.raises(SystemExit, match="--pruner wilcoxon needs --trial-runs 5 or more, got 4"):
        command.main(words)


# Artifacts #######################################################################################


def test_files_stand_beside_the_study_once(tmp_path):
    result = search(tmp_path / "study.journal", 2)
    files = [tmp_path / "set.safetensors", tmp_path / "set.png"]
    for file in files:
        file.write_bytes(file.name.encode())
    folder = tmp_path / "new" / "artifacts"
    assert keep_artifacts(result, files, folder) == ["set.safetensors", "set.png"]
    again = search(tmp_path / "study.journal", 2)
    assert keep_artifacts(again, files, folder) == []
    files[1].write_bytes(b"other")
    assert keep_artifacts(again, files, folder) == ["set.png"]
    metas = get_all_artifact_meta(again.study)
    assert sorted(meta.filename for meta in metas) == ["set.png", "set.png", "set.safetensors"]
    assert {meta.mimetype for meta in metas} == {"image/png", "application/octet-stream"}
    store = FileSystemArtifactStore(str(folder))
    kept = set()
    for meta in metas:
        with store.open_reader(meta.artifact_id) as file:
            kept.add(file.read())
    assert kept == {b"set.safetensors", b"set.png", b"other"}


def test_bad_artifacts(tmp_path):
    result = search(None, 1)
    (tmp_path / "a").write_text("")
    for files in ("a", 1, [tmp_path / "none"], [tmp_path / "a"] * 2):
        with pytest.raises((TypeError, ValueError), match="'files'"):
            keep_artifacts(result, files, tmp_path)
    with pytest.raises(ValueError, match="'folder'"):
        keep_artifacts(result, [], "/dev/null/x")


# Importances #####################################################################################


def result_of(count, seed=0):
    """A study in which one setting decides and another does not."""
    import numpy as np

    draw = np.random.default_rng(seed).uniform(size=(count, 2))
    kinds = dict.fromkeys("ab", optuna.distributions.FloatDistribution(0, 1))
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            create_trial(params={"a": a, "b": b}, distributions=kinds, value=a)
            for a, b in draw.tolist()
        ]
    )
    return TuningResult(study, StorageBudget(32, 3), ("score",))


def test_importances_have_a_spread_that_falls_with_the_trials():
    few, many = result_of(8), result_of(200)
    assert many.importances()["a"] > 0.8
    assert set(few.importance_spread()) == {"a", "b"}
    assert few.importance_spread() == few.importance_spread()
    assert 0 < many.importance_spread()["a"] < few.importance_spread()["a"]
    assert result_of(3).importance_spread() == {}


@pytest.mark.parametrize("count", [8, 40])
def test_picture_of_importances_shows_their_spread(count):
    result, axes = result_of(count), Figure().add_subplot()
    pictures._importances(axes, result)
    (bars, errors) = axes.containers
    values, spread = result.importances(), result.importance_spread()
    assert [label.get_text() for label in axes.get_yticklabels()] == [*reversed(values)]
    assert [bar.get_width() for bar in bars] == [*reversed(values.values())]
    # No bar reaches beyond what an importance can be.
    (line,) = errors.lines[2]
    ends = [segment[:, 0].tolist() for segment in line.get_segments()]
    pairs = [(value, spread[name]) for name, value in reversed(values.items())]
    assert ends == [pytest.approx([max(0, v - e), min(1, v + e)]) for v, e in pairs]
    assert [text.get_text() for text in axes.texts] == [f"{v:.2f} ± {e:.2f}" for v, e in pairs]
    assert ("hardly more than a guess" in axes.get_xlabel()) == (count < 20)


def test_few_trials_are_said_to_be_few(capsys):
    search_report._print_importances(
        {"num_anchors": 0.7, "b": 0.3}, {"num_anchors": 0.2, "b": 0.1}, 19
    )
    text = capsys.readouterr().out
    assert "0.70 ± 0.20" in text
    assert "Of 19 trials importances are hardly more than a guess" in text
    search_report._print_importances({"b": 1.0}, {"b": 0.0}, 20)
    assert "guess" not in capsys.readouterr().out


# What a search says, and what it leaves ##########################################################


def test_the_program_says_what_it_does_and_keeps_artifacts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)
    out = tmp_path / "out"
    words = ["tune", "--num-per-class", "4", "--num-points", "32", "--preset", "smoke"]
    words += ["--steps", "1", "--seeds", "0", "--trials", "2", "--sampler", "random"]
    out.mkdir()
    for name in ("distilled-1.png", "pareto.png", "distilled-shown.png"):  # The last is of show.
        (out / name).write_text("of another set")
    assert command.main([*words, "--hold-out", "0.3", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    said = f"To do: 2 trials of the study in {out / 'study.journal'}, less those that are there, "
    assert said in text
    assert (
        "one run each of 1 steps and a network (protocol smoke: 2 epochs). "
        "Sampler random, no pruner.\n" in text
    )
    assert (out / "distilled-shown.png").read_text() == "of another set"
    assert not [path for path in ("distilled-1.png", "pareto.png") if (out / path).exists()]
    told = json.loads((out / "results.json").read_text())
    assert (told["study"], told["storage"]) == ("tune", "study.journal")
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for more in (["--study", "b"], ["--storage", f"sqlite:///{tmp_path / 'study.db'}"]):
        with pytest.raises(SystemExit, match="--out must be a folder without results of another"):
            command.main([*words, "--hold-out", "0.3", "--out", str(out), *more])
    assert before == {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    message = r"differs in --hold-out \(0.3, now 0.5\); choose another '--study' or '--storage'"
    with pytest.raises(SystemExit, match=message):
        command.main([*words, "--hold-out", "0.5", "--out", str(out)])
    assert f"--artifact-dir {out / 'artifacts'}" in text
    assert len([*(out / "artifacts").iterdir()]) == 2
    told = SyntheticPointCloudDataset(out / "distilled.safetensors").provenance["command"]
    assert told.startswith(f"distill3d {' '.join(words)} --hold-out 0.3 --out ")
    assert (out / "artifacts").exists()


def test_trials_that_are_there_took_no_time_of_the_bar(tmp_path, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **kwargs):
            bars.append(kwargs)
            self.n = 0

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def set_postfix(self, **words):
            pass

        def refresh(self):
            pass

    search(tmp_path / "study.journal", 2)
    monkeypatch.setattr("torch_geometric_ddp.tuning.study.tqdm", Bar)
    search(tmp_path / "study.journal", 3)
    assert bars[0]["initial"] == 2
    assert bars[0]["total"] == 3

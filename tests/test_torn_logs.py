"""Journals of studies and logs of comparisons that a crash has torn, or that are something else."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from torch_geometric_ddp.comparison.runs import RunLog
from torch_geometric_ddp.tuning.storage import find_storage, open_study

IDENTITY = {"data": "some"}
ODD = {
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "text": b'"x"',
    "empty object": b"{}",
    "no utf-8": b'{"id": "\xff", "op_code": 1}',
    "deep": b'{"id":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "nested nothing": b"[" * 200_000,
    "binary": bytes(range(1, 10)) + bytes(range(11, 256)),
}


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def study_of(path):
    return open_study(
        find_storage(path)[0](), "tune", ["score"], optuna.samplers.RandomSampler(), None, IDENTITY
    )


def add_trial(study, value):
    trial = study.ask()
    trial.suggest_int("m", 1, 4)
    trial.set_user_attr("reason", "ä")
    study.tell(trial, value)


def values(study):
    return [trial.value for trial in study.trials if trial.state.is_finished()]


@pytest.fixture(scope="module")
def journal():
    """Always the same one, with its number of a worker and its times, so that a test repeats."""
    return (Path(__file__).parent / "golden" / "study.journal").read_bytes()


# Journals #########################################################################################


def test_the_kept_journal_is_as_new_ones_are(journal, tmp_path):
    """If not, write `tests/golden/study.journal` anew as here."""
    path = tmp_path / "study.journal"
    study = study_of(path)
    for value in range(4):
        add_trial(study, float(value))

    def told(content):
        own = ("worker_id", "datetime_start", "datetime_complete", "param_value_internal")
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            line.get("user_attr", {}).pop("versions", None)
        return [{k: type(v) if k in own else v for k, v in line.items()} for line in lines]

    assert told(path.read_bytes()) == told(journal)


@pytest.mark.parametrize("zeros", [0, 100])
def test_a_journal_that_was_torn_anywhere_goes_on(journal, zeros, tmp_path):
    path = tmp_path / "study.journal"
    last = journal[:-1].rindex(b"\n") + 1
    ends = [last, last + 1, last + 12, len(journal) - 1]
    places = [*ends, *random.Random(0).sample(range(1, last), 10)]
    for place in places:
        torn = b"" if journal[place - 1 : place] == b"\n" else bytes(zeros)
        path.write_bytes(journal[:place] + torn)
        study = study_of(path)
        before = values(study)
        assert before == [0.0, 1.0, 2.0, 3.0][: len(before)]
        add_trial(study, 9.0)
        add_trial(study_of(path), 10.0)  # Another process reads it, too.
        assert values(study_of(path)) == [*before, 9.0, 10.0]
        for line in path.read_bytes().splitlines():
            json.loads(line)


def test_a_line_that_is_torn_while_others_work_is_taken_away(journal, tmp_path):
    path = tmp_path / "study.journal"
    path.write_bytes(journal)
    study = study_of(path)
    with open(path, "ab") as file:
        file.write(b'{"op_code":4,"worker')
    add_trial(study, 9.0)
    assert values(study_of(path)) == values(study) == [0.0, 1.0, 2.0, 3.0, 9.0]


def test_no_line_is_lost_while_several_write(journal, tmp_path):
    path = tmp_path / "study.journal"
    path.write_bytes(journal)

    def work(number):
        study = study_of(path)
        for value in range(5):
            add_trial(study, float(100 * number + value))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 5)))
    expected = [100.0 * number + value for number in range(1, 5) for value in range(5)]
    assert sorted(values(study_of(path))) == [0.0, 1.0, 2.0, 3.0, *expected]


@pytest.mark.parametrize("line", ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", [1, 5])
def test_an_odd_line_in_a_journal_names_the_file_and_the_line(journal, line, place, tmp_path):
    path = tmp_path / "study.journal"
    lines = journal.splitlines()
    path.write_bytes(b"\n".join([*lines[: place - 1], line, *lines[place - 1 :], b""]))
    before = path.read_bytes()
    if line == ODD["no utf-8"]:
        message = "study.journal' is damaged"
    else:
        message = rf"line {place} of '.*study.journal' is damaged .* choose another file"
    with pytest.raises(ValueError, match=message):
        study_of(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"no line", b"SQLite format 3\0", b"\xff"])
def test_a_file_that_is_no_journal_stays_as_it_is(content, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'storage' must be the journal of a study, but line 1"):
        study_of(path)
    assert path.read_bytes() == content


def test_a_damaged_journal_is_read_or_refused(journal, tmp_path):
    """What no checksum guards may be read with other values; nothing else may come of it."""
    path, rng = tmp_path / "study.journal", random.Random(1)
    messages = []
    for _ in range(300):
        content = bytearray(journal)
        for _ in range(rng.choice([1, 1, 4])):
            kind, place = rng.randrange(3), rng.randrange(len(content))
            if kind == 0:
                content[place] = rng.randrange(256)
            elif kind == 1:
                del content[place : place + rng.randrange(1, 50)]
            else:
                content[place:place] = content[: rng.randrange(50)]
        path.write_bytes(content)
        try:
            study_of(path).get_trials()
        except ValueError as error:
            messages.append(str(error))
    assert 100 < len(messages) < 300
    assert [m for m in messages if "study.journal" not in m and "another search" not in m] == []


# Logs of comparisons ##############################################################################

RUN = {
    "id": "a",
    "method": "random",
    "backbone": "PointNet",
    "ppc": 1,
    "seed": 0,
    "value": 0.5,
    "metric": "accuracy",
    "budget_bits": None,
    "settings": {"lr": {"x": 1}},
}


def test_a_log_that_was_torn_anywhere_is_read(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(RUN)
    log.append({**RUN, "id": "b"})
    content = log.path.read_bytes()
    first = content.index(b"\n") + 1
    for zeros in (0, 100):
        for place in range(first, len(content)):
            log.path.write_bytes(content[:place] + bytes(zeros))
            whole = place == len(content) - 1
            assert list(log.read()) == (["a", "b"] if whole else ["a"])
            log.append({**RUN, "id": "c"})
            assert list(log.read()) == (["a", "b", "c"] if whole else ["a", "c"])


@pytest.mark.parametrize("line", ODD.values(), ids=ODD)
def test_an_odd_line_in_a_log_names_the_file_and_the_line(line, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(RUN)
    log.path.write_bytes(log.path.read_bytes() + line + b"\n")
    log.append({**RUN, "id": "b"})
    with pytest.raises(ValueError, match=r"line 2 of '.*runs.jsonl' is no run .* remove that line"):
        log.read()


@pytest.mark.parametrize("key", [key for key in RUN if key != "settings"])
def test_a_run_without_what_tables_need(key, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append({k: v for k, v in RUN.items() if k != key})
    with pytest.raises(ValueError, match=rf"line 1 of .* \(it has no \['{key}'\]"):
        log.read()


@pytest.mark.parametrize("wrong", [{"id": 1}, {"value": "0.5"}, {"value": None}, {"id": []}])
def test_a_run_of_another_type(wrong, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append({**RUN, **wrong})
    with pytest.raises(ValueError, match=r"line 1 of .* 'id' must be text"):
        log.read()

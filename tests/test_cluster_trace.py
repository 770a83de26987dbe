"""A timeline of all ranks, on ranks that are threads of this process. tests/test_cluster_trace_mpi.py has MPI's."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from cluster_threads import fine, on_ranks, with_sessions
from parallel_runs import data, job
from timelines import Ranks

import pyconv
from pyconv import nn
from pyconv.cluster import flow, rounds
from pyconv.cluster.tracing import Clock, Sample, Tape, Trace, clocks, tape
from pyconv.cluster.tracing.rows import rows_of
from pyconv.cluster.tracing.tape import NUMBER, RECEIVES, SENDS
from pyconv.cluster.tracing.timeline import Timeline
from pyconv.errors import InputError
from pyconv.loop import fitting

pytestmark = pytest.mark.timeout(120)


def model():
    layers = [
        nn.Conv2D(4, 3, padding="same", activation="relu"), nn.BatchNorm(), nn.MaxPool2D(2),
        nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dense(3),
    ]  # fmt: skip
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)


@pytest.fixture
def fit(monkeypatch, tmp_path):
    """``fit(ranks, **settings)``: fit() on ranks with a timeline; each rank's history or error, and the timeline."""
    play = with_sessions(monkeypatch, fitting)
    monkeypatch.setattr(flow, "FIRST_BYTES", 400)
    monkeypatch.setattr(flow, "MOST_BYTES", 900)

    def run(ranks, before=lambda session, network: None, **settings):
        def body(session):
            network = model()
            before(session, network)
            given = {"epochs": 2, "batch_size": 20, "progress": "off", "trace": tmp_path / "t.json", **settings}
            return pyconv.fit(network, *data(), **given)

        return play(ranks, body)

    return run


WAYS = {
    "sync": (3, {"workers": 2}, {"data", "forward", "backward", "update", "wait", "look"}),
    "sync apart": (2, {"workers": 1, "overlap": False}, {"data", "forward", "backward", "update", "wait"}),
    "float16": (2, {"workers": 1, "wire": "float16"}, {"data", "forward", "backward", "update", "wait", "look"}),
    "micro": (2, {"workers": 1, "micro_batches": 2}, {"data", "forward", "backward", "update", "wait"}),
    "local": (2, {"workers": 2, "update": "local"}, {"data", "forward", "backward", "update", "wait"}),
    "async": (3, {"workers": 1, "update": "async"}, {"data", "forward", "backward", "push", "wait"}),
    "ssp": (2, {"workers": 2, "update": "ssp"}, {"data", "forward", "backward", "push", "wait"}),
    "hogwild": (2, {"workers": 1, "update": "hogwild"}, {"data", "forward", "backward", "push", "wait"}),
    "easgd": (2, {"workers": 1, "update": "easgd"}, {"data", "forward", "backward", "update", "wait"}),
    "1f1b": (2, {"pipeline_stages": 2, "cut": [3], "micro_batches": 4}, {"forward", "backward", "update", "wait"}),
    "gpipe": (
        4,
        {"pipeline_stages": 2, "cut": [3], "micro_batches": 4, "pipeline_schedule": "gpipe"},
        {"forward", "backward", "update", "wait"},
    ),
    "rows": (2, {"split": "rows"}, {"data", "forward", "backward", "update", "wait"}),
    "filters": (3, {"split": "filters"}, {"data", "forward", "backward", "update", "wait"}),
}


@pytest.mark.covering("way", most=1)
@pytest.mark.parametrize("way", WAYS)
def test_a_timeline_shows_all_ranks_and_every_message_from_its_send_to_its_receive(way, fit, tmp_path):
    ranks, settings, work = WAYS[way]
    fine(fit(ranks, **settings))
    found = Ranks(tmp_path / "t.json").check(ranks)
    assert found.processes == [f"rank {rank} on here" for rank in range(ranks)]
    lane = {"1f1b": "stage", "gpipe": "stage", "rows": "computing", "filters": "computing"}.get(way, "worker")
    for rank in range(ranks):
        names = {each["name"] for each in found.named(rank, lane)}
        assert work <= names, (rank, names)
        waits = [each["args"] for each in found.named(rank, lane) if each["name"] == "wait"]
        assert {each["for"] for each in waits} <= {"a round", "messages", "pieces on their way"}
        assert all(each["cpu_us"] >= 0 and each["looks"] >= 0 for each in waits)
    assert not [each for each in found.entries if "lost" in each["name"]]


def test_what_is_noted_of_a_run_with_overlap(fit, tmp_path, monkeypatch):
    fine(fit(2, workers=1, epochs=1))
    found = Ranks(tmp_path / "t.json").check(2)
    sent = {each["name"] for rank in (0, 1) for each in found.named(rank, "sends")}
    assert {"gradient", "parameters", "array"} <= sent
    for rank in (0, 1):
        work = found.named(rank, f"worker {rank}")
        turns = [each["args"]["mini-batch"] for each in work if each["name"] == "forward"]
        assert turns == list(range(6))
        # A layer's gradients leave while the layers before it are computed: some within each backward pass, once
        # ranks know what the others need.
        passes = [each for each in work if each["name"] == "backward"][2:]
        gradients = [each["ts"] for each in found.named(rank, "sends") if each["name"] == "gradient"]
        for each in passes:
            assert any(each["ts"] <= ts <= each["ts"] + each["dur"] for ts in gradients)


def test_stages_and_their_micro_batches_are_named(fit, tmp_path):
    fine(fit(4, pipeline_stages=2, cut=[3], micro_batches=4, epochs=1))
    found = Ranks(tmp_path / "t.json").check(4)
    assert {name for _, name in found.rows if name.startswith("stage")} == {
        f"stage {stage} of pipeline {replica}" for stage in (0, 1) for replica in (0, 1)
    }
    for rank in range(4):
        for name in ("forward", "backward"):
            passes = [each["args"] for each in found.named(rank, "stage") if each["name"] == name]
            assert [each["micro-batch"] for each in passes] == [0, 1, 2, 3] * 6
            assert [each["mini-batch"] for each in passes] == [step for step in range(6) for _ in range(4)]


def test_without_a_timeline_nothing_is_noted(fit, monkeypatch):
    made = []
    for kind in (Tape, Trace):
        monkeypatch.setattr(kind, "__init__", lambda self, *given: made.append(given))
    worlds = []

    def before(session, network):
        network.between_passes = None
        worlds.append((session.rounds, session.world))

    fine(fit(2, before, workers=1, trace=None, epochs=1))
    assert not made
    assert all(rounds.world is world and rounds.trace is None for rounds, world in worlds)


def test_after_a_run_the_ranks_note_nothing_and_another_run_has_its_own_timeline(fit, tmp_path):
    worlds = []
    fine(fit(2, lambda session, network: worlds.append((session.rounds, session.world)), workers=1, epochs=2))
    first = Ranks(tmp_path / "t.json").check(2)
    assert all(rounds.world is world and rounds.trace is None for rounds, world in worlds)
    fine(fit(2, workers=1, epochs=1))  # over the older one
    assert len(Ranks(tmp_path / "t.json").check(2).spans) < len(first.spans)


@pytest.mark.parametrize("guilty", [0, 1])
@pytest.mark.parametrize("way", ["sync", "ssp", "1f1b", "filters"])
def test_a_run_that_fails_leaves_its_timeline_up_to_the_fault(way, guilty, fit, tmp_path):
    ranks, settings, _ = WAYS[way]
    threads = []

    def schedule(step, total):
        if threading.get_ident() in threads and step >= 5:
            raise ValueError("planted")
        return 1.0

    def before(session, network):
        if session.rank == guilty:
            threads.append(threading.get_ident())

    errors = fit(ranks, before, batch_size=8, **settings, schedule=schedule)
    assert all("planted" in str(error) for error in errors)
    found = Ranks(tmp_path / "t.json").check(ranks, whole=way != "ssp")
    passes = [sum(each["pid"] == rank and each["name"] == "forward" for each in found.spans) for rank in range(ranks)]
    assert sum(passes) >= 5 if way == "ssp" else min(passes) >= 3  # under ssp steps are all workers' mini-batches


def test_a_rank_that_fails_before_it_keeps_a_timeline_ends_all(fit, monkeypatch):
    monkeypatch.setattr(rounds, "PATIENCE_S", 60.0)  # nobody may wait for it

    def before(session, network):
        prepare = session.prepare

        def slowly(plan):
            prepare(plan)
            time.sleep(0.3)  # rank 0 is at its engine by then
            raise InputError("planted")

        if session.rank == 1:
            session.prepare = slowly

    began = time.monotonic()
    errors = fit(2, before, workers=1)
    assert time.monotonic() - began < 30
    assert [str(error).rpartition(": ")[2] for error in errors] == ["planted", "planted"]


def test_a_file_that_cannot_be_a_timeline_is_refused_on_all_ranks(fit, tmp_path):
    (tmp_path / "mine.json").write_text('[\n{"name":"mine"}\n]\n')
    errors = fit(2, workers=1, trace=tmp_path / "mine.json", out=tmp_path / "run")
    assert all(isinstance(error, InputError) for error in errors)
    assert "holds something that is no trace of pyconv's" in str(errors[0])
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "mine.json").read_text() == '[\n{"name":"mine"}\n]\n'


def test_ranks_that_disagree_on_a_timeline_are_refused(monkeypatch, tmp_path):
    play = with_sessions(monkeypatch, fitting)

    def body(session):
        trace = tmp_path / "t.json" if session.leads else None
        return pyconv.fit(model(), *data(), workers=1, batch_size=20, epochs=1, progress="off", trace=trace)

    for error in play(2, body):
        assert isinstance(error, InputError) and "was given another trace" in str(error)
    assert not (tmp_path / "t.json").exists()


def test_memory_is_bounded_and_what_is_lost_is_told(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(tape, "MOST", 40)
    monkeypatch.setattr("pyconv.cluster.tracing.trace.MOST", 10**9)  # rank 0 does not notice that it is full
    fine(fit(2, workers=1))
    found = Ranks(tmp_path / "t.json")
    found._check_nesting()
    told = [each["name"] for each in found.entries if each["ph"] == "i"]
    assert len(told) == 2
    assert all(text.endswith("were lost: too many between two times that rank 0 took them") for text in told)


def test_a_tape_keeps_the_latest_and_counts_what_it_drops(monkeypatch):
    monkeypatch.setattr(tape, "MOST", 5)
    mine = Tape()
    for number in range(8):
        mine.add(0, 1, number, number + 1)
    assert mine.take()[:, 2].tolist() == [3, 4, 5, 6, 7]
    assert (mine.take_lost(), mine.take_lost(), len(mine)) == (3, 0, 0)
    assert mine.take().shape == (0, 8)


# ---- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-(10**15), 0, 12_345_678_901])
def test_the_offset_is_found_by_ping_pong(offset):
    def body(session):
        clock = (lambda: time.monotonic_ns() - offset) if session.rank else time.monotonic_ns
        return [clocks.ping(session.world, other, 20, clock) for other in (1, 2) if session.rank in (0, other)]

    first, second = on_ranks(3, body)[0]
    for sample in (first, second):
        assert abs(sample.offset - offset) <= sample.uncertainty < 1e8
        words = Sample.read(sample.words())
        assert abs(words.offset - offset) <= words.uncertainty + 1


def test_the_middle_of_a_round_trip_counts():
    assert Sample.of(100, 7_000, 400) == Sample(7_000, 250 - 7_000, 150)


def test_an_offset_that_a_rank_has_measured_at_the_desk_is_its_own(tmp_path, monkeypatch):
    """Here rank 0's clock, as the desk gives it, is 3 seconds ahead of this rank's."""
    run = job(workers=2, trace=str(tmp_path / "t.json"))
    heard = []

    class Desk:
        def clock(self):
            return time.monotonic_ns() + 3 * 10**9

        def events(self, words, events, lost):
            heard.append((Sample.read(words), events, lost))

    def body(session):
        mine = Trace(session.world, run, ["rank 0 on a", "rank 1 on b"])
        mine.tape.add(1, 1, 10, 20)
        if session.rank:
            mine._tell(Desk())
        mine.close()

    assert on_ranks(2, body) == [None, None]
    ((sample, events, lost),) = heard
    assert abs(sample.offset - 3e9) <= sample.uncertainty + 1 < 1e8
    assert abs(sample.at - time.monotonic_ns()) < 60e9
    assert events[:, 2].tolist() == [10] and lost == 0


def test_a_clock_that_drifts_is_followed(rng):
    """A clock that gains 30 millionths; samples are as wrong as they may be."""
    clock, true, worst = Clock(), lambda at: 5e9 - 30e-6 * at, 0.0
    for second in range(60):
        at = int(second * 1e9)
        doubt = float(rng.uniform(1e3, 3e7 if second % 7 == 3 else 2e5))  # now and then a rank was not on its CPU
        clock.take(Sample(at, true(at) + float(rng.uniform(-doubt, doubt)), doubt))
        assert abs(clock.last.offset - true(at)) <= clock.last.uncertainty
        assert clock.last.uncertainty <= doubt + 1e-3
        if second:
            times = np.arange(at - 10**9, at, 10**8)
            errors = np.abs(clock.on_rank_0(times) - times - true(times))
            assert errors.max() <= clock.uncertainty + 1
            worst = max(worst, errors.max())
    assert worst < 3e5 + 1e5 * 7  # the bad samples do not count


def test_a_step_of_a_clock_is_believed():
    clock = Clock()
    clock.take(Sample(0, 0.0, 1e3))
    clock.take(Sample(10**9, 5e8, 1e3))
    assert clock.last.offset == 5e8


def test_times_of_another_clock_are_rank_0s_in_the_file(tmp_path):
    rows = rows_of(job(workers=2), ["rank 0 on a", "rank 1 on b"])
    timeline = Timeline(tmp_path / "t.json", rows)
    start = time.monotonic_ns()
    shift, gain = 7 * 10**15, 1 + 50e-6

    def theirs(now):
        return int((now - start) * gain) + start - shift

    def event(row, what, began, ended, *rest):
        return [row, NUMBER[what], began, ended, *rest, *[0] * (4 - len(rest))]

    for second in range(1, 5):
        at = start + second * 10**9
        sent, came = at - 600_000_000, at - 599_000_000
        timeline.take(0, None, np.array([event(SENDS, "array", sent, sent + 1000, 1, 64, second)]))
        arrived = event(RECEIVES, "array", theirs(sent), theirs(came), 0, 64, second)
        timeline.take(1, Sample(theirs(at), at - theirs(at), 10.0), np.array([arrived]))
    timeline.close()
    found = Ranks(tmp_path / "t.json")
    sends, receives = found.named(0, "sends"), found.named(1, "receives")
    assert len(sends) == len(receives) == 4
    for sent, came in list(zip(sends, receives))[1:]:  # before the second measurement the drift is not known
        assert abs(sent["ts"] - came["ts"]) < 0.1
        assert abs(came["dur"] - 1000) < 0.2
        assert sent["bind_id"] == came["bind_id"]
    assert [each["uncertainty_us"] for each in found.clocks[1]] == [0.01] * 4


def test_messages_that_overlap_have_rows_of_their_own(tmp_path):
    timeline = Timeline(tmp_path / "t.json", rows_of(job(workers=2), ["rank 0 on a", "rank 1 on a"]))
    start = time.monotonic_ns()
    spans = [(0, 10), (1, 12), (2, 5), (6, 20), (11, 13), (30, 40)]
    events = [
        [SENDS, NUMBER["gradient"], start + 1000 * began, start + 1000 * ended, 1, 8, number, 0]
        for number, (began, ended) in enumerate(spans, 1)
    ]
    timeline.take(0, None, np.array(sorted(events, key=lambda event: event[3])))
    timeline.close()
    found = Ranks(tmp_path / "t.json")
    found._check_nesting()
    rows = [each["tid"] - found.rows[0, "sends"] for each in sorted(found.spans, key=lambda each: each["ts"])]
    assert rows == [0, 1, 2, 2, 0, 0]
    assert {name for _, name in found.rows if name.startswith("sends")} == {"sends", "sends 2", "sends 3"}


def test_a_full_disk_ends_the_timeline_and_not_the_run(fit, tmp_path, monkeypatch, caplog):
    from pyconv.parallel.trace_file import TraceFile

    put, calls = TraceFile._put, [0]

    def full(self, content):
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        put(self, content)

    monkeypatch.setattr(TraceFile, "_put", full)
    fine(fit(2, workers=1))
    assert any("the timeline ends here: No space left on device" in text for text in caplog.messages)
    json.loads((tmp_path / "t.json").read_text())

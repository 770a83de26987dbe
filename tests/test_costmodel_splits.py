"""What a step asks of the ranks of a cluster, by split: against what is really sent, and plays of schedules."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cluster_threads import on_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

import pyconv
from pyconv import nn, optim
from pyconv.cluster.by_rows import RowMember
from pyconv.cluster.pipeline.schedule import FORWARD, exchanges, passes
from pyconv.costmodel.profile import LayerTime, Profile
from pyconv.costmodel.silent import measured_part
from pyconv.costmodel.splits import Links, Overlapped, Phases, Piped, by_filters, by_images, by_rows
from pyconv.costmodel.splits.overlapped import Pass
from pyconv.costmodel.splits.phases import Phase
from pyconv.costmodel.splits.piped import StageWork
from pyconv.errors import InputError
from pyconv.parallel import Job, rule_for

pytestmark = pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")

TIMES = st.floats(1e-6, 1e-1)
FREE = Links(0.0, 0.0)


def unit(model: nn.Sequential, batch: int) -> Profile:
    """A profile of made-up times."""
    layers = tuple(LayerTime(number, 1.0, 2.0, 0, 0) for number in range(len(model.layers)))
    return Profile(batch, layers, 0.5, 0.25)


def sent(phases: Phases) -> list[float]:
    """Bytes that a rank sends in each exchange."""
    found: list[float] = []
    for phase in phases.phases:
        if phase.move == "sum" and phase.size > 1 << 14:
            found += [phase.sent(phases.ranks) / 2] * 2
        elif phase.sent(phases.ranks):
            found.append(phase.sent(phases.ranks))
    return found


# ---- rows and filters: what is really sent ---------------------------------------------------------


def rows_network(draw: st.DrawFn) -> nn.Sequential:
    layers: list[nn.Layer] = []
    for _ in range(draw(st.integers(1, 3))):
        kernel = draw(st.sampled_from([1, 3, 5]))
        layers.append(nn.Conv2D(draw(st.sampled_from([2, 4])), kernel, padding="same"))
        layers += draw(st.sampled_from([[], [nn.ReLU()], [nn.BatchNorm()], [nn.BatchNorm(), nn.ReLU()]]))
    layers += draw(st.sampled_from([[], [nn.MaxPool2D(2)]]))
    return nn.Sequential([*layers, nn.Flatten(), nn.Dense(3)], (16, 8, draw(st.sampled_from([1, 3]))))


@settings(max_examples=15, deadline=None)
@given(data=st.data(), ranks=st.sampled_from([2, 4]))
def test_a_rank_with_rows_sends_what_the_phases_say(data, ranks):
    model = rows_network(data.draw)
    part = measured_part(model, "rows", ranks // 2, ranks, 2, backend="serial", seconds=0)
    phases = by_rows.phases(model, unit(model, 2), ranks)
    real = [(out, came) for out, came in part.exchanges if out or came]
    assert [out for out, _ in real] == pytest.approx(sent(phases))
    assert [came for _, came in real] == pytest.approx(sent(phases))


@settings(max_examples=10, deadline=None)
@given(height=st.integers(9, 40), ranks=st.integers(2, 5), kernel=st.sampled_from([2, 3, 7]), stride=st.integers(1, 2))
def test_no_rank_with_uneven_rows_sends_more_than_the_phases_say(height, ranks, kernel, stride):
    conv = nn.Conv2D(2, kernel, padding="same", stride=stride)
    model = nn.Sequential([conv, nn.Conv2D(2, 3, padding="same"), nn.Flatten(), nn.Dense(3)], (height, 6, 1))
    most = sum(sent(by_rows.phases(model, unit(model, 2), ranks)))
    for rank in range(ranks):
        part = measured_part(model, "rows", rank, ranks, 2, backend="serial", seconds=0)
        assert sum(came for _, came in part.exchanges) <= most * (1 + 1e-9)


def filters_network(draw: st.DrawFn) -> nn.Sequential:
    layers: list[nn.Layer] = [nn.Conv2D(8, 3, padding="same")]
    kinds = {
        "conv": lambda: [nn.Conv2D(4, 3, padding="same", activation="relu")],
        "groups": lambda: [nn.Conv2D(8, 1), nn.Conv2D(8, 3, padding="same", groups=4)],
        "pool": lambda: [nn.Conv2D(4, 3, padding="same"), nn.ReLU(), nn.MaxPool2D(2)],
        "norm": lambda: [nn.BatchNorm(), nn.AvgPool2D(2)],
        "separable": lambda: [nn.Conv2D(4, 1), nn.SeparableConv2D(8, 3, padding="same")],
    }
    for kind in draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2)):
        layers += kinds[kind]()
    return nn.Sequential([*layers, nn.Flatten(), nn.Dense(12), nn.Dense(4)], (8, 8, 1))


@settings(max_examples=15, deadline=None)
@given(data=st.data(), ranks=st.sampled_from([2, 4]))
def test_a_rank_with_filters_sends_what_the_phases_say(data, ranks):
    model = filters_network(data.draw)
    part = measured_part(model, "filters", 1, ranks, 2, backend="serial", seconds=0)
    phases = by_filters.phases(model, unit(model, 2), ranks, backend="serial")
    real = [out for out, came in part.exchanges if out or came]
    assert sorted(real) == pytest.approx(sorted(sent(phases)))


def test_threads_that_train_by_rows_send_what_the_phases_say():
    model = nn.Sequential([nn.Conv2D(4, 5, padding="same"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)], (16, 6, 1))
    x, labels = np.random.default_rng(0).random((4, 16, 6, 1), np.float32), np.array([0, 1, 2, 0])

    def body(session):
        job = Job(optim.SGD(1e-3), 4, 1, backend="serial", split="rows", threads_per_worker=1)
        member = RowMember(nn.Sequential(model.layers, model.input_shape), x, labels, job, session.world, 1)
        before = session.world.swapped
        next(member.epoch(0))
        return session.world.swapped - before

    found = on_ranks(2, body)
    assert found == pytest.approx([sum(sent(by_rows.phases(model, unit(model, 4), 2)))] * 2)


def test_shares_of_the_work_and_one_rank():
    model = nn.Sequential([nn.Conv2D(8, 3, padding="same"), nn.Flatten(), nn.Dense(12)], (16, 8, 1))
    profile = unit(model, 2)
    for phases in (by_rows.phases, functools.partial(by_filters.phases, backend="serial")):
        one = phases(model, profile, 1).time(Links(1.0, 1.0))
        assert one.seconds == one.compute_s == profile.gradient_s + profile.update_s and one.sent == 0
        assert phases(model, profile, 1, 7.0).time(FREE).seconds == 7.0
        assert phases(model, profile, 4, 7.0).time(FREE).seconds == pytest.approx(7.0)  # as it was measured
    beside = 0.5 + 0.25
    # Rows: a quarter of the convolution, and all of the others. Filters: a quarter of the two with filters.
    assert by_rows.phases(model, profile, 4).time(FREE).seconds == pytest.approx(beside + 3 / 4 + 2 * 3)
    made = by_filters.phases(model, profile, 4, backend="serial").time(FREE).seconds
    assert made == pytest.approx(beside + 2 * 3 / 4 + 3)


@given(p=st.integers(1, 64), charges=st.tuples(TIMES, st.floats(1e-12, 1e-8), st.floats(1e-12, 1e-8)),
       works=st.lists(st.tuples(TIMES, st.sampled_from(["", "meet", "neighbours", "gather", "sum", "wait"]),
                                st.floats(1, 1e6)), min_size=1, max_size=6))  # fmt: skip
def test_phases_that_are_played_with_even_ranks_take_the_time_of_the_equations(p, charges, works):
    links = Links(*charges)
    phases = Phases(p, [Phase(*work) for work in works])
    clocks = links.clocks(p)
    phases.play(clocks, np.ones(p))
    made = phases.time(links)
    assert clocks.now.max() == pytest.approx(made.seconds)
    assert clocks.computed == pytest.approx(p * made.compute_s)


# ---- images, with overlap ---------------------------------------------------------------------------


def byte_by_byte(p: int, passes_: list[Pass], n: int, update_s: float, links: Links) -> float:
    """A step whose link passes the bytes one by one, in the order of the vector."""
    meeting = 2 * (p - 1).bit_length() * links.t_s
    stretch = n // p
    now = meeting
    for each in passes_:
        reads = int(each.reads)
        arrivals = [0.0]
        for owner in range(p):  # an owner's link sends each byte of its stretch p - 1 times
            free = meeting
            for byte in range(owner * stretch, (owner + 1) * stretch):
                free += (p - 1) * links.t_b
                if byte < reads:
                    arrivals.append(free + links.t_s)
        now = max(now, max(arrivals) if p > 1 and reads else 0.0) + each.forward_s
    ready = [0.0] * n
    end = n
    for each in reversed(passes_):
        now += each.backward_s
        for byte in range(int(each.left), end):
            ready[byte] = now
        end = min(end, int(each.left))
    last = now
    for owner in range(p):
        out = into = 0.0
        for byte in reversed(range(n)):
            if byte // stretch == owner:
                for _ in range(p - 1):
                    into = max(into, ready[byte]) + links.t_b
            else:
                out = max(out, ready[byte]) + links.t_b
        last = max(last, out + links.t_s, into + links.t_s) if p > 1 else last
    return last + meeting + (links.t_a * n if p > 1 else 0.0) + update_s / p


@settings(max_examples=60, deadline=None)
@given(
    p=st.integers(1, 5), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), data=st.data(),
    charges=st.tuples(TIMES, TIMES, TIMES), update_s=TIMES,
)  # fmt: skip
def test_overlap_is_what_links_that_pass_byte_after_byte_take(p, sizes, data, charges, update_s):
    sizes = [p * size for size in sizes]
    times = [data.draw(st.tuples(TIMES, TIMES)) for _ in sizes]
    made, place = [], 0
    for size, (forward, backward) in zip(sizes, times):
        made.append(Pass(forward, backward, place + size if size else 0, place))
        place += size
    links = Links(*charges)
    if place:
        step = Overlapped(p, 1, made, place, update_s)
        assert step.time(links).seconds == pytest.approx(byte_by_byte(p, made, place, update_s, links))


@given(p=st.integers(1, 40), lanes=st.integers(1, 3), charges=st.tuples(TIMES, st.floats(1e-12, 1e-5)), update_s=TIMES)
def test_overlap_hides_some_of_what_is_sent_and_never_more_than_all(p, lanes, charges, update_s):
    layers = tuple(LayerTime(k, 1e-3 * (k + 1), 2e-3 * (k + 1), 500 * (k + 1), 500 * k) for k in range(4))
    profile, links = Profile(8, layers, 1e-3, update_s), Links(*charges)
    how = (profile, 2000, 4, rule_for("sync"), p, lanes, links)
    hidden, plain = by_images.step(*how), by_images.step(*how, overlap=False)
    assert isinstance(hidden, Overlapped) and isinstance(plain, Phases)
    least = lanes * profile.gradient_s + update_s / p
    assert hidden.time(links).compute_s == pytest.approx(least) == pytest.approx(plain.time(links).compute_s)
    assert least <= hidden.time(links).seconds * (1 + 1e-9)
    assert hidden.time(links).seconds <= plain.time(links).seconds * (1 + 1e-9)
    assert hidden.time(FREE).seconds == pytest.approx(least) == pytest.approx(plain.time(FREE).seconds)
    assert hidden.time(links).sent == pytest.approx(plain.time(links).sent)
    slower = Links(links.t_s, 2 * links.t_b)
    assert hidden.time(links).seconds <= hidden.time(slower).seconds


def test_messages_take_turns_on_cpus_that_ranks_share():
    made = [Pass(1.0, 2.0, 100.0, 0.0)]
    links = Links(0.0, 1e-9, t_p=0.01)
    alone, shared = (Overlapped(4, 1, made, 100.0, 0.0, crowd=crowd).time(links).seconds for crowd in (1, 2))
    taken = 2 * 100 * 3 / 4 * 0.01  # gradients leave, and parameters come
    assert alone == pytest.approx(3 + taken, rel=1e-6)
    assert shared == pytest.approx(3 + 2 * taken, rel=1e-6)


@pytest.mark.parametrize("update", ["local", "easgd", "async", "hogwild"])
def test_other_rules_meet_rarely_or_share_rank_0s_link(update):
    profile, links = Profile(8, (LayerTime(0, 1.0, 2.0, 1000, 0),), 0.0, 0.5), Links(1e-3, 1e-6)
    how = (profile, 1000, 4, rule_for(update))
    assert by_images.step(*how, 1, 2, links).time(links).seconds == pytest.approx(2 * 3.5)
    two = by_images.step(*how, 2, 1, links, every=1).time(links).seconds
    if update == "local":
        sending = 2e-3 + 2 * (1e-3 + 4e-3 / 2)
        assert two == pytest.approx(3.5 + sending)
        assert by_images.step(*how, 2, 1, links, every=10).time(links).seconds == pytest.approx(3.5 + sending / 10)
    else:
        many = by_images.step(*how, 5000, 1, links).time(links).seconds
        assert 3.5 < two < 4 and many == pytest.approx(4999 * 4e-3)


# ---- pipelines ----------------------------------------------------------------------------------------

SCHEDULE = st.sampled_from(["1f1b", "gpipe"])


def played(piped: Piped, links: Links = FREE) -> float:
    return piped.time(links).seconds


@given(stages=st.integers(1, 8), micro=st.integers(1, 16), schedule=SCHEDULE, f=TIMES, b=TIMES)
def test_equal_stages_and_free_messages_leave_the_bubble(stages, micro, schedule, f, b):
    piped = Piped([StageWork(f, b, 0.0)] * stages, micro, schedule)
    seconds = played(piped)
    assert seconds == pytest.approx((micro + stages - 1) * (f + b))
    made = piped.time(FREE)
    assert 1 - made.compute_s / made.seconds == pytest.approx((stages - 1) / (micro + stages - 1))
    assert piped.bubble == pytest.approx((stages - 1) / (micro + stages - 1))


def by_recursion(works: list[StageWork], micro: int, schedule: str, links: Links) -> float:
    """When the last stage ends, from what each moment depends on."""
    count = len(works)
    orders = [passes(schedule, count, stage, micro) for stage in range(count)]
    ways = [exchanges(order, count, stage, [stage > 0 for stage in range(count)]) for stage, order in enumerate(orders)]
    place = {}  # of each end of a message: the exchange that it is in
    for stage in range(count):
        turns: dict[tuple[int, int], int] = {}
        for number, each in enumerate(ways[stage]):
            for way in [(stage, each.to)] * (each.to is not None) + [(each.source, stage)] * (each.source is not None):
                turns[way] = turns.get(way, -1) + 1
                place[stage, way, turns[way]] = number

    @functools.cache
    def ready(stage: int, number: int) -> float:
        if number == 0:
            return 0.0
        work, way = works[stage], orders[stage][number - 1].way
        return over(stage, number - 1) + (work.forward_s if way == FORWARD else work.backward_s)

    @functools.cache
    def over(stage: int, number: int) -> float:
        ends = [ready(stage, number)]
        for (who, way, turn), mine in place.items():
            if who == stage and mine == number:
                size = works[min(way)].passed
                other = way[0] if way[1] == stage else way[1]
                both = max(ready(stage, number), ready(other, place[other, way, turn]))
                if not 0 < size <= links.eager:
                    ends.append(both + links.t_s + links.t_b * size)
                else:
                    held = links.t_s + links.t_b * links.eager if stage == way[0] else 0.0
                    ends.append(passed(way, turn) - held)
        return max(ends)

    @functools.cache
    def passed(way: tuple[int, int], turn: int) -> float:
        sent = ready(way[0], place[way[0], way, turn])
        free = passed(way, turn - 1) if turn else 0.0
        return max(sent, free) + links.t_s + links.t_b * works[min(way)].passed

    return max(over(stage, len(orders[stage])) for stage in range(count))


@settings(max_examples=60, deadline=None)
@given(
    works=st.lists(st.tuples(TIMES, TIMES, st.floats(0, 1e6)), min_size=1, max_size=5), micro=st.integers(1, 6),
    schedule=SCHEDULE, charges=st.tuples(TIMES, st.floats(1e-12, 1e-7)), eager=st.sampled_from([0.0, 3e5, 1e6]),
)  # fmt: skip
def test_a_played_schedule_ends_when_what_it_depends_on_has(works, micro, schedule, charges, eager):
    stages = [StageWork(*work) for work in works]
    links = Links(*charges, eager=eager)
    meeting = 2 * (len(stages) - 1).bit_length() * links.t_s
    assert played(Piped(stages, micro, schedule), links) == pytest.approx(
        meeting + by_recursion(stages, micro, schedule, links)
    )


def test_results_that_fit_into_buffers_leave_while_the_next_stage_computes():
    stages, micro = [StageWork(1.0, 1.0, 10.0), StageWork(1.0, 1.0, 0.0)], 4
    # Both ends wait for each of eight messages of a tenth of a second, or for the first and the last alone.
    waited, eager = (played(Piped(stages, micro, "gpipe"), Links(0.0, 0.01, eager=size)) for size in (0, 10))
    assert waited == pytest.approx(10 + 0.8) and eager == pytest.approx(10 + 0.2)
    # Over a slow link one message follows the other: a pass, four results, two passes, four gradients, a pass.
    assert played(Piped(stages, micro, "gpipe"), Links(0.0, 1.0, eager=10)) == pytest.approx(1 + 40 + 2 + 40 + 1)


def test_messages_take_some_of_shared_cpus():
    stages, links = [StageWork(1.0, 2.0, 10.0), StageWork(1.0, 2.0, 0.0)], Links(0.0, 0.0, t_p=0.01)
    assert played(Piped(stages, 4), links) == played(Piped(stages, 4))
    # 4 micro-batches there and back; the last gradient arrives before an exchange that no pass follows.
    taken = played(Piped(stages, 4, cpus=1), links) - played(Piped(stages, 4, cpus=1))
    assert 0.7 * (1 - 1e-9) < taken < 0.8 * (1 + 1e-9)


def test_a_stage_that_has_waited_is_late_by_half_of_its_sleep():
    stages = [StageWork(1.0, 1.0, 0.0), StageWork(1e-9, 1e-9, 0.0)]
    plain, late = (played(Piped(stages, 1), Links(0.0, 0.0, t_l=late)) for late in (0.0, 0.01))
    # The second stage waits for a second, and its own passes; then the first for nothing that counts.
    assert late - plain == pytest.approx(0.01, rel=0.1)
    assert played(Piped(stages, 1), Links(0.0, 0.0, t_l=1.0)) - plain == pytest.approx(1 / 12 * (1 + 1 / 12), rel=1e-6)


@given(
    works=st.lists(st.tuples(TIMES, TIMES, st.just(0.0)), min_size=1, max_size=6), micro=st.integers(1, 8),
    schedule=SCHEDULE, replicas=st.integers(1, 3),
)  # fmt: skip
def test_ranks_that_share_cpus_take_turns(works, micro, schedule, replicas):
    stages = [StageWork(*work) for work in works]
    total = replicas * micro * sum(stage.forward_s + stage.backward_s for stage in stages)
    seconds = {cpus: played(Piped(stages, micro, schedule, replicas, cpus)) for cpus in (None, 1, 2, 100)}
    assert seconds[1] == pytest.approx(total)  # somebody always can go on
    assert seconds[100] == pytest.approx(seconds[None])
    assert max(total / 2, seconds[None]) <= seconds[2] * (1 + 1e-9) and seconds[2] <= seconds[1] * (1 + 1e-9)


@given(replicas=st.integers(1, 6), size=st.floats(0, 1e6), charges=st.tuples(TIMES, st.floats(1e-12, 1e-7)))
def test_pipelines_side_by_side_average_and_update(replicas, size, charges):
    links = Links(*charges)
    stages = [StageWork(1.0, 2.0, 0.0, size, 0.5)] * 2
    alone, beside = (Piped(stages, 4, replicas=count).time(links) for count in (1, replicas))
    p = replicas
    sums = 2 * (links.t_s + links.t_b * size * (p - 1) / p) if p > 1 else 0.0
    meeting = 2 * links.t_s * ((2 * p - 1).bit_length() - 1)
    assert beside.seconds == pytest.approx(alone.seconds + sums + meeting)
    assert beside.compute_s == pytest.approx(4 * 3 + 0.5)


def test_a_network_that_cannot_be_split_by_rows_is_refused():
    model = nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), nn.Dense(3)], (4, 4, 1))
    with pytest.raises(InputError, match="there are 5 ranks"):
        by_rows.phases(model, unit(model, 2), 5)

"""Mistakes in timelines of ranks, and in how ranks wait."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "cluster/tracing/clocks.py",
        "return cls(theirs, (sent + came) / 2 - theirs, (came - sent) / 2)",
        "return cls(theirs, sent - theirs, (came - sent) / 2)",
        "a clock's offset is that of the sending, not of the middle of the round trip",
        "cluster_trace",
        "middle",
    ),
    Mutation(
        "cluster/tracing/clocks.py",
        "known = old.uncertainty + DRIFT * abs(new.at - old.at)",
        "known = old.uncertainty",
        "a clock that drifts is held where it was",
        "cluster_trace",
    ),
    Mutation(
        "cluster/tracing/clocks.py",
        "offsets = np.interp(times - one.at, [0, max(two.at - one.at, 1)], [one.offset, two.offset])",
        "offsets = np.full(times.shape, one.offset)",
        "between two measurements the older one counts",
        "cluster_trace",
    ),
    Mutation(
        "cluster/tracing/world.py",
        "numbers = self._sent if row == SENDS else self._received",
        "numbers = self._sent",
        "sends and receives of a rank are numbered together",
        "cluster_trace",
    ),
    Mutation(
        "cluster/tracing/timeline.py",
        "slot = next((slot for slot, last in enumerate(slots) if last <= began), len(slots))",
        "slot = 0",
        "messages that overlap are on one row",
        "cluster_trace",
        "overlap",
    ),
    Mutation(
        "cluster/tracing/trace.py",
        "sample = Sample(round(best.at + best.offset), -best.offset, best.uncertainty)",
        "sample = Sample(round(best.at + best.offset), best.offset, best.uncertainty)",
        "an offset that a rank has measured itself is taken the wrong way round",
        "cluster_trace",
        "desk",
    ),
    Mutation(
        "cluster/rounds.py",
        "            if verdict.overlap:\n                self.settle()\n            self._bring_trace(verdict)\n",
        "            if verdict.overlap:\n                self.settle()\n",
        "the timeline of a run that fails lacks what was done since it was last written",
        "cluster_trace",
        "fails_leaves",
    ),
    Mutation(
        "cluster/patience.py",
        "if not self.allowed or waiting.passive():",
        "if waiting.passive():",
        "ranks that share CPUs look without a pause",
        "cluster_patience",
    ),
    Mutation(
        "cluster/rounds.py",
        "            if self.ended:  # it is the error that all know of\n                raise\n",
        "            raise\n",
        "a second error leaves the other ranks waiting",
        "cluster",
        "second_error",
    ),
]

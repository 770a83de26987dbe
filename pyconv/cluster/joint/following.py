"""The part of another rank than 0 in a network that all ranks compute together: it does what rank 0 says."""

from __future__ import annotations

import json
from typing import Any

from ...errors import RunError
from .. import rounds as r
from .member import Member


def follow(rounds: r.Rounds, member: Member) -> list[dict[str, Any]]:
    """Do as rank 0 says, to the end of the run.

    Parameters
    ----------
    rounds : Rounds
    member : Member
        This rank's; its network holds the result at the end, as at rank 0.

    Returns
    -------
    list of dict
        The history, as rank 0 has it.
    """
    while True:
        verdict = rounds.ask(rounds.header(r.REST))
        if verdict.action == r.BEGIN:
            steps, step = member.epoch(verdict.epoch, verdict.step), verdict.step
            member.begin()
            while rounds.ask(member.header(rounds, step)).action == r.GO:
                with member.together():
                    next(steps)
                step += 1
            steps.close()
            member.end()
        elif verdict.action == r.COLLECT:
            member.collect(bool(verdict.what))
        elif verdict.action == r.LOAD:
            member.exchange()
        elif verdict.action == r.FINISH:
            member.world.swap([], [(0, member.whole.flat), (0, member.whole.flat_buffers)])
            member.close()
            history: list[dict[str, Any]] = json.loads(verdict.text)
            return history
        else:
            raise RunError(f"this rank is told {verdict.action} while it is at rest")

"""The command on the ranks of a cluster: an error on one rank ends the command on all, and rank 0 alone prints."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..cluster import CHOICES, Session, load, session
from ..cluster.joining import COMMAND_S, leave, write
from ..cluster.siblings import Siblings, siblings
from ..datasets import Dataset
from ..errors import InputError, Interrupted, PyconvError
from ..interrupts import NOTHING
from ..invocation import follows
from .group import DEFAULTS


def cluster(argv: Sequence[str] | None) -> str:
    """The value of --cluster, read without the other flags: ranks must meet before one refuses its arguments."""
    words, said = sys.argv[1:] if argv is None else argv, "auto"
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--cluster" or word.startswith("--cluster="):
            said = word.partition("=")[2] or following
    return said if said in CHOICES else "auto"


SEEN_S = 1.0
"""Seconds in which the ranks on a host see each other's command."""


def alone_or_together(near: Siblings, own: Sequence[str] | None) -> None:
    """Check that either all ranks on this host train by themselves or none, before some wait for others in vain.

    Raises
    ------
    InputError
        On all of them, if --cluster off was given to some.
    """
    end = time.monotonic() + SEEN_S
    while len(near.present()) < (near.count or 0) and time.monotonic() < end:
        time.sleep(0.01)
    words = {rank: near.words(process) for rank, process in near.present().items()}
    words[near.launch.rank] = ["pyconv", *(sys.argv[1:] if own is None else own)]
    off = {rank: cluster(each) == "off" for rank, each in words.items() if any("pyconv" in word for word in each)}
    if len(set(off.values())) > 1:
        time.sleep(SEEN_S)  # the others have to see this one's
        given, not_given = (min(rank for rank, said in off.items() if said is each) for each in (True, False))
        raise InputError(
            f"rank {given} was started with --cluster off, and rank {not_given} without: give it to all ranks, and "
            "each trains by itself, or to none"
        )


@contextlib.contextmanager
def _before_they_meet(near: Siblings | None) -> Iterator[None]:
    """Within it, an error of one rank ends all, although they do not know each other yet."""
    try:
        yield
    except KeyboardInterrupt:
        error = Interrupted(NOTHING)
        error.told = follows()  # a launcher passes a signal on to all ranks
        raise error from None
    except PyconvError as error:
        error.told = near is not None and not near.first
        if near is not None and near.count != near.launch.size:  # ranks on other hosts may wait
            write("" if error.told else f"pyconv: error: {error}\n")
            leave(error.exit_status)
        raise


def on_ranks(body: Callable[[Sequence[str] | None], int]) -> Callable[[Sequence[str] | None], int]:
    """On several ranks, an error that ends `body` on one rank ends it on all, and rank 0 alone prints."""

    @functools.wraps(body)
    def whole(argv: Sequence[str] | None) -> int:
        near = siblings()
        with _before_they_meet(near):
            if near is not None:
                alone_or_together(near, argv)
            ranks = session(cluster(argv), COMMAND_S)
        if ranks is None:
            return body(argv)
        with ranks.together(), contextlib.nullcontext() if ranks.leads else contextlib.redirect_stdout(io.StringIO()):
            status = body(argv)
            ranks.end()
            return status

    return whole


def same_flags(ranks: Session, given: Mapping[str, Any]) -> None:
    """Check that all ranks were given the same flags, before any of them acts on one.

    Where the data lie may differ between hosts; that all have the same is checked when they are read.

    Raises
    ------
    InputError
        On all ranks, if flags differ; it names the first.
    """
    ranks.agree({f"--{name.replace('_', '-')}": value for name, value in given.items() if name != "data"})


def shard_for(split: str | None) -> str:
    """The default of ``--shard``: ranks that compute every step together need all images."""
    return str(DEFAULTS["shard"]) if split is None else "off"


def data_on_rank(ranks: Session | None, how: str, read: Callable[[], Dataset]) -> Dataset:
    """The data; on several ranks this one's part of the training images, as ``--shard`` says."""
    return read() if ranks is None else load(ranks, read, how)

"""The command on the ranks of a cluster: an error on one rank ends the command on all, and rank 0 alone prints."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cluster import CHOICES, Session, load, session
from ..datasets import Dataset
from .group import DEFAULTS


def cluster(argv: Sequence[str] | None) -> str:
    """The value of --cluster, read without the other flags: ranks must meet before one refuses its arguments."""
    words, said = sys.argv[1:] if argv is None else argv, "auto"
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--cluster" or word.startswith("--cluster="):
            said = word.partition("=")[2] or following
    return said if said in CHOICES else "auto"


def on_ranks(body: Callable[[Sequence[str] | None], int]) -> Callable[[Sequence[str] | None], int]:
    """On several ranks, an error that ends `body` on one rank ends it on all, and rank 0 alone prints."""

    @functools.wraps(body)
    def whole(argv: Sequence[str] | None) -> int:
        ranks = session(cluster(argv))
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

"""What an update rule is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ...errors import InputError
from ...values import flag, integer
from ..kernels import kernels

if TYPE_CHECKING:
    from ..lane import Action, Lane
    from ..store import Store

Default = TypeVar("Default")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a rule needs of learning rate, momentum and warm-up, for a run whose user gave none.

    Attributes
    ----------
    pushes : int
        Steps that the shared parameters make while every worker does one mini-batch: 1 where gradients or parameters
        are averaged. They share one step's learning rate.
    momentum : float
        Of SGD, at most.
    nesterov : bool
        Whether SGD's momentum has to look ahead.
    warmup : float
        Share of the run over which the learning rate rises, at least.
    """

    pushes: int = 1
    momentum: float = 1.0
    nesterov: bool = False
    warmup: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the workers' gradients or parameters meet. A subclass is a rule; its dataclass fields are its options.

    A rule is a script: :meth:`step` yields what a lane (a logical worker) does for one mini-batch, one action
    after the other, and its kernels say what happens to the numbers. Whoever carries the script out takes care
    of transactions, waiting, death and restart, so a rule needs to know nothing of them.

    Attributes
    ----------
    name : str
        By which ``update=`` knows it.
    lockstep : bool
        True: lane w takes the w-th share of every step, and a step that begins with ``lane.everyone()`` is
        begun by all lanes or by none; the run is then bit for bit the same each time. A step that waits for
        everyone anywhere must begin with it. False: each lane takes the next free mini-batch whenever it is
        ready.
    replicas, replica_state : bool
        Whether each lane has parameters of its own, and optimizer state of its own.
    formerly : mapping
        Values of options in runs whose folders do not record them: what was usual before it changed.

    Examples
    --------
    The whole of ``sync``::

        @dataclasses.dataclass(frozen=True)
        class Sync(Rule):
            name = "sync"
            lockstep = True

            def step(self, lane):
                yield lane.everyone()
                yield lane.gradient("centre")
                yield lane.everyone()
                yield lane.sweep(self.average, share=True)

            @kernel(writes=("centre", "state"))
            def average(self, c):
                c.optimise(c.centre, c.mean(c.gradients, c.weights), c.state)
    """

    name: ClassVar[str] = ""
    lockstep: ClassVar[bool] = False
    replicas: ClassVar[bool] = False
    replica_state: ClassVar[bool] = False
    formerly: ClassVar[Mapping[str, Any]] = {}

    def begin(self, lane: Lane) -> Iterator[Action]:
        """What a lane does at the start of an epoch and after a restart; not for lockstep rules, which just go on.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            What to do, in order.
        """
        return iter(())

    def step(self, lane: Lane) -> Iterator[Action]:
        """What a lane does for one mini-batch.

        A lockstep rule's script must depend on nothing but its options, the number of the step and the number
        of workers: after a restart it is run again from the beginning of the step, and what had been done is
        skipped.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            What to do, in order.
        """
        raise InputError(f"{type(self).__name__} is not an update rule: it has no step()")

    def finish(self, lane: Lane) -> Iterator[Action]:
        """What a lane does at the end of an epoch; lockstep rules only.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            What to do, in order.
        """
        return iter(())

    def learning_rate(self, lr: float, staleness: int) -> float:
        """Learning rate of a push of a gradient.

        Parameters
        ----------
        lr : float
            After the schedule.
        staleness : int
            Pushes of others since the pull that the gradient was computed at.

        Returns
        -------
        float
        """
        return lr

    def needs(self, workers: int) -> Needs:
        """What learning rate, momentum and warm-up have to be like, where the user gives none.

        By default: as for one worker where gradients or parameters are averaged. Where each worker's gradient steps
        the shared parameters by itself, W - 1 steps of others come between its pull and its push. With a state of its
        own for each worker these are the same steps as one worker's, cut in W, and looking ahead along its momentum a
        worker is only as far behind as the others' last gradients. With one state for all the delay itself acts as
        momentum, and leaves no room for more.

        Parameters
        ----------
        workers : int
            W, 2 or more.

        Returns
        -------
        Needs

        References
        ----------
        Hakimi et al., "Taming momentum in a distributed asynchronous environment" (2019), section 4; Mitliagkas et
        al., "Asynchrony begets momentum, with an application to deep learning" (2016), theorem 3.
        """
        if not any(each.kernel.push for each in kernels(self)):
            return Needs()
        if self.replica_state:
            return Needs(pushes=workers, nesterov=True, warmup=0.2)
        return Needs(pushes=workers, momentum=0.0, warmup=0.2)

    def result(self, store: Store, out: np.ndarray) -> None:
        """Write the parameters that the run has come to; by default the centre.

        Parameters
        ----------
        store : Store
            What the workers share; read.
        out : (n,) ndarray
            Written.
        """
        out[...] = store.centre

    def options(self) -> dict[str, Any]:
        """Its options.

        Returns
        -------
        dict of str to object
            By name.
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def describe(self) -> str:
        """Name and options in a few words, for the log.

        Returns
        -------
        str
            Such as ``"ssp (staleness=3)"``.
        """
        options = ", ".join(f"{name}={value}" for name, value in self.options().items() if value is not None)
        return f"{self.name} ({options})" if options else self.name


def option(default: Default, help: str) -> Default:
    """A dataclass field that is an option of a rule.

    Parameters
    ----------
    default : int, float, bool or None
        The value when it is not given.
    help : str
        What ``--help`` says of it.

    Returns
    -------
    dataclasses.Field
        Typed as the value that the field will hold, as :func:`dataclasses.field` is.
    """
    field: Any = dataclasses.field(default=default, metadata={"help": help})
    return field


MOST = 2**62
"""Of an option that is a number of steps: sums of it and of steps are int64."""


def at_least(rule: Rule, name: str, minimum: int) -> None:
    """Check that an option is an int of at least `minimum`, or raise an `InputError` that names it."""
    value = integer(getattr(rule, name), f"{name} of update {rule.name!r}", minimum=minimum, maximum=MOST)
    object.__setattr__(rule, name, value)


#: Help of the option `shared_state`.
SHARED_STATE = "one state of the optimizer for all workers, instead of one for each"


def own_state(rule: Any) -> None:
    """Give each lane a state of its own, unless the rule's option `shared_state` says otherwise."""
    object.__setattr__(rule, "shared_state", flag(rule.shared_state, "shared_state"))
    object.__setattr__(rule, "replica_state", not rule.shared_state)

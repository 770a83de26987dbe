"""Rule: the base class of update rules, with its options and what a rule needs of the learning rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ...errors import InputError
from ...values import flag, integer
from ..kernels import kernels

if TYPE_CHECKING:
    from ..communicator import Communicator
    from ..lane import Action, Lane

Default = TypeVar("Default")


@dataclasses.dataclass(frozen=True)
class Needs:
    """The learning rate, momentum and warm-up that a rule needs, for a run whose user gave none.

    Attributes
    ----------
    pushes : int
        Steps of the shared parameters while every worker does one mini-batch; 1 if gradients or parameters are
        averaged. The steps share one step's learning rate.
    momentum : float
        The largest momentum of SGD.
    nesterov : bool
        Whether SGD needs Nesterov momentum.
    warmup : float
        The least share of the run over which the learning rate rises.
    """

    pushes: int = 1
    momentum: float = 1.0
    nesterov: bool = False
    warmup: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the workers' gradients or parameters meet. A subclass is a rule; its dataclass fields are its options.

    A rule is a script and kernels. :meth:`step` is the script: it yields, one after the other, the actions of a lane (a
    logical worker) for one mini-batch. The kernels say how the numbers change. The code that runs the script takes care
    of transactions, waiting, death and restart, so a rule need not.

    Attributes
    ----------
    name : str
        The name for ``update=``.
    lockstep : bool
        True: lane w takes the w-th share of every step, and all lanes or none begin a step that begins with
        ``lane.everyone()``; then every run gives the same bits. A step that waits for everyone anywhere must also begin
        with ``lane.everyone()``. False: each lane takes the next free mini-batch whenever it is ready.
    replicas, replica_state : bool
        Whether each lane has parameters of its own, and optimizer state of its own.
    clips_mean : bool
        Whether the mean of the gradients is clipped, by ``c.clipped(mean)`` in a kernel; else each lane's own gradient
        is clipped.
    formerly : mapping
        Values of options in older runs, whose folders do not record them, if the default has changed since.

    Examples
    --------
    The whole of ``sync``::

        @dataclasses.dataclass(frozen=True)
        class Sync(Rule):
            name = "sync"
            lockstep = True
            clips_mean = True

            def step(self, lane):
                yield lane.everyone()
                yield lane.gradient("centre")
                yield lane.everyone()
                yield lane.sweep(self.average, share=True)

            @kernel(writes=("centre", "state"))
            def average(self, c):
                c.optimise(c.centre, c.clipped(c.mean(c.gradients, c.weights)), c.state)
    """

    name: ClassVar[str] = ""
    lockstep: ClassVar[bool] = False
    replicas: ClassVar[bool] = False
    replica_state: ClassVar[bool] = False
    clips_mean: ClassVar[bool] = False
    formerly: ClassVar[Mapping[str, Any]] = {}

    def begin(self, lane: Lane) -> Iterator[Action]:
        """The script at the start of an epoch and after a restart; not for lockstep rules, which simply go on.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            The actions, in order.
        """
        return iter(())

    def step(self, lane: Lane) -> Iterator[Action]:
        """The script for one mini-batch.

        A lockstep rule's script may depend only on its options, the number of the step and the number of workers. After
        a restart it is run again from the beginning of the step, and the actions that were done are skipped.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            The actions, in order.
        """
        raise InputError(f"{type(self).__name__} is not an update rule: it has no step()")

    def finish(self, lane: Lane) -> Iterator[Action]:
        """The script at the end of an epoch; lockstep rules only.

        Parameters
        ----------
        lane : Lane
            Makes the actions, and knows its number, step and turn.

        Returns
        -------
        iterator of Action
            The actions, in order.
        """
        return iter(())

    def learning_rate(self, lr: float, staleness: int) -> float:
        """The learning rate for the push of a gradient.

        Parameters
        ----------
        lr : float
            After the schedule.
        staleness : int
            Pushes of others since the parameters were pulled at which the gradient was computed.

        Returns
        -------
        float
        """
        return lr

    def needs(self, workers: int) -> Needs:
        """The learning rate, momentum and warm-up that the rule needs if the user gives none.

        By default: if gradients or parameters are averaged, the same as for one worker. Otherwise each worker's
        gradient steps the shared parameters by itself, and W - 1 steps of other workers come between its pull and its
        push. If each worker has a state of its own, these are one worker's steps divided by W; with Nesterov momentum a
        worker is late only by the others' last gradients. If all share one state, the delay itself acts as momentum,
        and the optimizer can have none.

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

    def result(self, shared: Communicator, out: np.ndarray) -> None:
        """Write the parameters that the run has reached; by default the centre.

        Parameters
        ----------
        shared : Communicator
            What the workers share; read.
        out : (n,) ndarray
            Written.
        """
        out[...] = shared.centre

    def options(self) -> dict[str, Any]:
        """The rule's options.

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
        The value if none is given.
    help : str
        The option's text for ``--help``.

    Returns
    -------
    dataclasses.Field
        Its static type is that of the value, as with :func:`dataclasses.field`.
    """
    field: Any = dataclasses.field(default=default, metadata={"help": help})
    return field


MOST = 2**62
"""The largest number of steps in an option: it is added to other steps in an int64."""


def at_least(rule: Rule, name: str, minimum: int) -> None:
    """Check that an option is an int of at least `minimum`, or raise an `InputError` that names it."""
    value = integer(getattr(rule, name), f"{name} of update {rule.name!r}", minimum=minimum, maximum=MOST)
    object.__setattr__(rule, name, value)


#: Help of the option `shared_state`.
SHARED_STATE = "one state of the optimizer for all workers, instead of one for each"


def own_state(rule: Any) -> None:
    """Give each lane a state of its own, unless the option `shared_state` is set."""
    object.__setattr__(rule, "shared_state", flag(rule.shared_state, "shared_state"))
    object.__setattr__(rule, "replica_state", not rule.shared_state)

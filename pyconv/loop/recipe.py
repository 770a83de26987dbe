"""The recipe: batch size, learning rate, momentum, warm-up and the rule's options, where the user gave none.

What one worker needs is the reference. With several, the reference batch is shared out over them, and the rule says
how it steps (:class:`~pyconv.parallel.Needs`); learning rate, momentum and warm-up follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import optim
from ..errors import InputError, shown
from ..optim import Optimizer
from ..parallel import Job, Needs, Rule, rule_for, smallest_batch
from ..threads import counted
from ..values import integer, mapping
from . import inputs

BATCH = 64
"""Images of a step of all workers together, which the learning rates below are for."""
OPTIMIZER, SCHEDULE = "sgd", "cosine"
LEARNING_RATES = {"sgd": 0.02, "adagrad": 0.01, "adadelta": 1.0, "adam": 1e-3, "adamw": 1e-3, "adamax": 2e-3}
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Of SGD. The learning rate above is for this momentum; another one gets the rate that moves as far."""
WARMUP, LONG_WARMUP = 0.05, 0.2
"""Shares of the run over which the learning rate rises: usually, and where steps are large or gradients stale."""
MOST, MOST_STALE = 4.0, 2.0
"""Times the reference's learning rate that a larger batch may take at most: averaged, and at stale gradients."""


@dataclass(frozen=True)
class Asked:
    """What the user gave; None, or a setting that is left out of a mapping, is the recipe's to choose.

    Attributes
    ----------
    batch_size : int or None
        Images of one worker's step.
    optimizer : Optimizer, mapping or None
        A mapping has a ``name`` and some settings.
    schedule : callable, mapping or None
        As `optimizer`.
    options : mapping
        The update rule's.
    """

    batch_size: int | None
    optimizer: Optimizer | Mapping[str, Any] | None
    schedule: Callable[[int, int], float] | Mapping[str, Any] | None
    options: Mapping[str, Any]

    @property
    def chooses_rate(self) -> bool:
        """Whether the learning rate is left to the recipe."""
        return self.optimizer is None or (isinstance(self.optimizer, Mapping) and "lr" not in self.optimizer)

    @classmethod
    def of(cls, batch_size: int | None, optimizer: Any, schedule: Any, options: Any) -> Asked:
        """Check what :func:`pyconv.fit` was given."""
        if isinstance(optimizer, str):
            optimizer = {"name": optimizer}
        if isinstance(optimizer, Mapping):
            optimizer = {"name": OPTIMIZER, **mapping(optimizer, "optimizer", "{'name': 'sgd', 'lr': 0.1}")}
            optim.by_name(**optimizer)
        elif not (optimizer is None or isinstance(optimizer, Optimizer)):
            raise InputError(f"optimizer must be one of pyconv.optim, such as optim.Adam(1e-3), not {shown(optimizer)}")
        if isinstance(schedule, str):
            schedule = {"name": schedule}
        if isinstance(schedule, Mapping):
            schedule = {"name": SCHEDULE, **mapping(schedule, "schedule", "{'name': 'cosine', 'warmup': 0.1}")}
            optim.schedule(**schedule)
        elif schedule is not None:
            schedule = inputs.schedule(schedule)
        if batch_size is not None:
            batch_size = integer(batch_size, "batch_size", minimum=1)
        return cls(batch_size, optimizer, schedule, mapping(options, "update_options", "{'staleness': 4}"))

    def as_in(self, config: Mapping[str, Any], update: str | Rule) -> Asked:
        """With what the run has whose ``config.toml`` holds `config`, where the user gave nothing."""
        training, optimizer, schedule = (config[name] for name in ("training", "optimizer", "schedule"))
        recorded: dict[str, Any] = {}
        if training.get("workers") != 1 and not isinstance(update, Rule):
            recorded = as_recorded(update, config.get("update_options", {}))
        return Asked(
            training.get("batch_size") if self.batch_size is None else self.batch_size,
            _known(optimizer, optim.OPTIMIZERS) if self.optimizer is None else self.optimizer,
            _known(schedule, optim.SCHEDULES) if self.schedule is None else self.schedule,
            {**recorded, **self.options},
        )


def _known(settings: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any] | None:
    """Recorded settings of something that can be made by its name; None for what is of the user's own making."""
    return settings if settings.get("name") in names else None


@dataclass(frozen=True)
class Recipe:
    """What a run is made with: all numbers, and in words why they are what they are.

    Attributes
    ----------
    batch_size : int
        Images of one worker's step.
    optimizer : Optimizer
    schedule : callable
    options : dict
        The update rule's, all of them, for several workers.
    said : list of str
        Lines for the log.
    """

    batch_size: int
    optimizer: Optimizer
    schedule: Callable[[int, int], float]
    options: dict[str, Any]
    said: list[str] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        """The numbers, for a :class:`~pyconv.parallel.Job`."""
        return {name: getattr(self, name) for name in ("batch_size", "optimizer", "schedule", "options")}


def choose(asked: Asked, update: str | Rule, workers: int, images: int, least: int = 1) -> Recipe:
    """Complete what the user asked for.

    Parameters
    ----------
    asked : Asked
    update : str or Rule
    workers : int
    images : int
        In an epoch.
    least : int
        Images that a batch of the network needs at least.

    Returns
    -------
    Recipe

    Raises
    ------
    UnknownNameError, InputError
        If the rule or one of its options is not known or possible.
    """
    rule = rule_for(update, asked.options)
    batch = asked.batch_size or smallest_batch(images, max(min(BATCH, images) // workers, 1), workers, least)
    choice = _Choice(rule, workers, batch)
    optimizer = choice.optimizer(asked.optimizer)
    schedule = choice.schedule(asked.schedule)
    options = dict(asked.options)
    if workers > 1 and not isinstance(update, Rule):  # one that is given is complete
        options = set_options(rule)
    recipe = Recipe(batch, optimizer, schedule, options)
    return replace(recipe, said=choice.said(asked, recipe))


def set_options(rule: Rule) -> dict[str, Any]:
    """A rule's options that are set."""
    return {name: value for name, value in rule.options().items() if value is not None}


def as_recorded(update: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a run whose folder holds `options`: what is not there had the value that was usual then."""
    return set_options(rule_for(update, {**type(rule_for(update)).formerly, **options}))


def usual_rate(job: Job) -> float | None:
    """The learning rate that `job` would have if none had been given; None for an optimizer of the user's own."""
    given = job.optimizer
    if type(given) not in optim.OPTIMIZERS.values():
        return None
    momentum = {"momentum": given.momentum} if isinstance(given, optim.SGD) else {}
    choice = _Choice(rule_for(job.update, job.options), job.workers, job.batch_size)
    return choice.optimizer({"name": given.name, **momentum}).lr


@dataclass(frozen=True)
class _Choice:
    """What a rule with so many workers and such batches gets."""

    rule: Rule
    workers: int
    batch: int

    @property
    def together(self) -> int:
        """Images while each worker does one mini-batch."""
        return self.workers * self.batch

    @property
    def needs(self) -> Needs:
        """The rule's; one worker's are nobody's."""
        return Needs() if self.workers == 1 else self.rule.needs(self.workers)

    def factor(self, power: float) -> float:
        """Of the reference's learning rate, for an optimizer whose rate goes with this power of the batch.

        A step over more images than the reference batch may be larger (Goyal et al., 2017), up to a limit. Where each
        worker's gradient steps the shared parameters by itself, all their steps together go as far as one would. And
        where workers step replicas, an optimizer that divides by the gradients' root mean square sees the noise of one
        worker's images, and makes smaller steps for it.
        """
        share = self.together / BATCH
        if share <= 1:
            larger = share**0.5
        else:
            larger = min(share, MOST if self.needs.pushes == 1 else MOST_STALE) ** power
        if self.workers > 1 and self.needs.pushes == 1 and self.rule.replica_state:
            larger *= self.workers ** (1 - power)
        return larger / self.needs.pushes**power

    def optimizer(self, asked: Optimizer | Mapping[str, Any] | None) -> Optimizer:
        """The optimizer that was asked for, its settings chosen where they were left out."""
        if isinstance(asked, Optimizer):
            return asked
        given = {"name": OPTIMIZER, **(asked or {})}
        kind = optim.OPTIMIZERS[str(given["name"]).lower()]
        rate = LEARNING_RATES.get(kind.__name__.lower(), 1e-3)
        if kind is optim.SGD:
            given = {"momentum": min(MOMENTUM, self.needs.momentum), "weight_decay": WEIGHT_DECAY, **given}
            rate *= (1 - given["momentum"]) / (1 - MOMENTUM)
            given = {"nesterov": self.needs.nesterov and given["momentum"] > 0, **given}
        return optim.by_name(**{"lr": _rounded(rate * self.factor(kind.batch_power)), **given})

    def schedule(self, asked: Callable[[int, int], float] | Mapping[str, Any] | None) -> Callable[[int, int], float]:
        """The schedule that was asked for, its warm-up chosen where that was left out."""
        if asked is not None and not isinstance(asked, Mapping):
            return asked
        warmup = max(LONG_WARMUP if self.together > BATCH else WARMUP, self.needs.warmup)
        return optim.schedule(**{"name": SCHEDULE, "warmup": warmup, **(asked or {})})

    def said(self, asked: Asked, recipe: Recipe) -> list[str]:
        """What was chosen, and why, in words; nothing of the reference."""
        workers, together = self.workers, self.together
        if workers == 1 and together == BATCH:
            return []
        lines = []
        if workers > 1:
            shared = asked.batch_size is None and together <= BATCH
            what = f"{counted(together, 'image')} shared out" if shared else f"{counted(together, 'image')} together"
            lines.append(f"batch {self.batch} of each of {workers} workers: {what}")
        if asked.chooses_rate:
            lines.append(f"{self._why()}: {_settings(recipe.optimizer, recipe.schedule)}")
        elif workers > 1:
            lines += self._larger_than_chosen(recipe.optimizer)
        return lines

    def _why(self) -> str:
        """What learning rate and momentum follow from."""
        if self.needs.pushes > 1:
            return f"{self.rule.name} steps {self.needs.pushes} times for {counted(self.together, 'image')}"
        if self.rule.replica_state and self.workers > 1:
            return f"{self.rule.name} averages workers that step by themselves"
        return f"a step averages {counted(self.together, 'image')}"

    def _larger_than_chosen(self, given: Optimizer) -> list[str]:
        """Say so where the user's own steps are much larger than those that would have been chosen."""
        if type(given) not in optim.OPTIMIZERS.values():
            return []
        chosen = self.optimizer({"name": given.name})
        reach, usual = (each.lr / (1 - getattr(each, "momentum", 0.0)) for each in (given, chosen))
        if reach <= 1.5 * usual:
            return []
        momentum = f" and momentum {chosen.momentum:g}" if isinstance(chosen, optim.SGD) else ""
        return [
            f"lr {given.lr:g} is yours: its steps are {reach / usual:.3g} times as large as those of "
            f"lr {chosen.lr:g}{momentum}, which {self.rule.name} gets here where none is given"
        ]


def _settings(optimizer: Optimizer, schedule: Callable[[int, int], float]) -> str:
    """Learning rate, momentum and warm-up in words."""
    words = [f"lr {optimizer.lr:g}"]
    if isinstance(optimizer, optim.SGD):
        ahead = " (nesterov)" if optimizer.nesterov else ""
        words.append(f"momentum {optimizer.momentum:g}{ahead}" if optimizer.momentum else "no momentum")
    warmup = getattr(schedule, "warmup", 0)
    if warmup:
        words.append(f"warm-up over {100 * warmup:g} % of the run" if warmup < 1 else f"warm-up of {warmup} steps")
    return ", ".join(words)


def _rounded(rate: float) -> float:
    """A learning rate to three digits, as people write it."""
    return float(f"{rate:.3g}")

"""Chooses batch size, learning rate, momentum, warm-up and the rule's options where the user gave none.

One worker's settings are the reference. Several workers divide the reference batch among them. The update rule says how
it steps (:class:`~pyconv.parallel.Needs`), and learning rate, momentum and warm-up follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import optim
from ..errors import InputError, shown
from ..optim import Optimizer
from ..parallel import Job, Needs, Rule, rule_for, smallest_batch
from ..parallel.rules import made
from ..threads import counted
from ..values import integer, mapping
from . import inputs

BATCH = 64
"""Images of a step of all workers together; the learning rates below are for this number."""
OPTIMIZER, SCHEDULE = "sgd", "cosine"
LEARNING_RATES = {"sgd": 0.02, "adagrad": 0.01, "adadelta": 1.0, "adam": 1e-3, "adamw": 1e-3, "adamax": 2e-3}
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""SGD's momentum. The learning rate above is for this one; with another momentum, the rate makes steps as long."""
WARMUP, LONG_WARMUP = 0.05, 0.2
"""Shares of the run over which the learning rate rises: usually; and with large steps or stale gradients."""
MOST, MOST_STALE = 4.0, 2.0
"""How many times the reference's learning rate a larger batch may get at most: if averaged; with stale gradients."""


@dataclass(frozen=True)
class Asked:
    """The user's settings; the recipe chooses what is None, or is left out of a mapping.

    Attributes
    ----------
    batch_size : int or None
        Images of one worker's step.
    optimizer : Optimizer, mapping or None
        A mapping has a ``name`` and some settings.
    schedule : callable, mapping or None
        As `optimizer`.
    rule : Rule
        The update rule, with the options that the user gave.
    options : mapping or None
        Those options, if the rule was given by name; None if the user gave a Rule object, which has them all.
    """

    batch_size: int | None
    optimizer: Optimizer | Mapping[str, Any] | None
    schedule: Callable[[int, int], float] | Mapping[str, Any] | None
    rule: Rule
    options: Mapping[str, Any] | None

    @property
    def chooses_rate(self) -> bool:
        """Whether the recipe chooses the learning rate."""
        return self.optimizer is None or (isinstance(self.optimizer, Mapping) and "lr" not in self.optimizer)

    @classmethod
    def of(
        cls, batch_size: int | None, optimizer: Any, schedule: Any, update: str | Rule = "sync", options: Any = None
    ) -> Asked:
        """Check the arguments of :func:`pyconv.fit`, and look the update rule up if it is given by name."""
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
        options = mapping(options, "update_options", "{'staleness': 4}")
        rule = rule_for(update, options)
        return cls(batch_size, optimizer, schedule, rule, None if isinstance(update, Rule) else options)

    def as_in(self, config: Mapping[str, Any]) -> Asked:
        """The settings, completed from the run whose ``config.toml`` holds `config`."""
        training, optimizer, schedule = (config[name] for name in ("training", "optimizer", "schedule"))
        rule = self.rule
        if training.get("workers") != 1 and self.options is not None:
            recorded = as_recorded(rule, config.get("update_options", {}))
            rule = made(type(rule), {**recorded, **self.options})
        return Asked(
            training.get("batch_size") if self.batch_size is None else self.batch_size,
            _known(optimizer, optim.OPTIMIZERS) if self.optimizer is None else self.optimizer,
            _known(schedule, optim.SCHEDULES) if self.schedule is None else self.schedule,
            rule,
            self.options,
        )


def _known(settings: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any] | None:
    """Recorded settings of something that is made by name; None if the user's program made it."""
    return settings if settings.get("name") in names else None


@dataclass(frozen=True)
class Recipe:
    """All settings of a run, and in words the reasons for those that were chosen.

    Attributes
    ----------
    batch_size : int
        Images of one worker's step.
    optimizer : Optimizer
    schedule : callable
    rule : Rule
        The update rule, with its options.
    said : list of str
        Lines for the log.
    """

    batch_size: int
    optimizer: Optimizer
    schedule: Callable[[int, int], float]
    rule: Rule
    said: list[str] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        """The settings, as arguments of a :class:`~pyconv.parallel.Job`."""
        return {
            "batch_size": self.batch_size,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "update": self.rule,
        }


def choose(asked: Asked, workers: int | None, images: int, least: int = 1) -> Recipe:
    """Choose the settings that the user did not give.

    Parameters
    ----------
    asked : Asked
    workers : int or None
        None if the number is not chosen yet; the settings are then those of one worker.
    images : int
        Images in an epoch.
    least : int
        Fewest images that a batch of the network may have.

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        If an option of the update rule was given for one worker.
    """
    if workers == 1 and asked.options:
        raise InputError(
            f"{next(iter(asked.options))} is for several workers: leave it out, or take workers of 2 or more"
        )
    count = workers or 1
    batch = asked.batch_size or smallest_batch(images, max(min(BATCH, images) // count, 1), count, least)
    choice = _Choice(asked.rule, count, batch)
    recipe = Recipe(batch, choice.optimizer(asked.optimizer), choice.schedule(asked.schedule), asked.rule)
    return replace(recipe, said=choice.said(asked, recipe))


def set_options(rule: Rule) -> dict[str, Any]:
    """A rule's options that have a value."""
    return {name: value for name, value in rule.options().items() if value is not None}


def as_recorded(rule: Rule, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a run under `rule` whose folder holds `options`: a missing one had the default of that time."""
    return set_options(made(type(rule), {**rule.formerly, **options}))


def usual_rate(job: Job) -> float | None:
    """The learning rate that `job` would have if the user had given none; None for the user's own optimizer class."""
    given = job.optimizer
    if type(given) not in optim.OPTIMIZERS.values():
        return None
    momentum = {"momentum": given.momentum} if isinstance(given, optim.SGD) else {}
    choice = _Choice(job.rule, job.workers, job.batch_size)
    return choice.optimizer({"name": given.name, **momentum}).lr


@dataclass(frozen=True)
class _Choice:
    """The settings for a rule, a number of workers and a batch size."""

    rule: Rule
    workers: int
    batch: int

    @property
    def together(self) -> int:
        """Images of all workers while each does one mini-batch."""
        return self.workers * self.batch

    @property
    def needs(self) -> Needs:
        """What the rule needs; with one worker, the defaults."""
        return Needs() if self.workers == 1 else self.rule.needs(self.workers)

    def factor(self, power: float) -> float:
        """The learning rate over the reference's, for an optimizer whose rate goes with this power of the batch size.

        A step over more images than the reference batch may be larger (Goyal et al., 2017), up to a limit. If each
        worker's gradient steps the shared parameters by itself, all these steps together are as long as one. If workers
        step replicas, an optimizer that divides by the gradients' root mean square sees the noise of one worker's
        images, and so makes smaller steps.
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
        """The optimizer that the user asked for, with the settings chosen that were left out."""
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
        """The schedule that the user asked for, with the warm-up chosen if it was left out."""
        if asked is not None and not isinstance(asked, Mapping):
            return asked
        warmup = max(LONG_WARMUP if self.together > BATCH else WARMUP, self.needs.warmup)
        return optim.schedule(**{"name": SCHEDULE, "warmup": warmup, **(asked or {})})

    def said(self, asked: Asked, recipe: Recipe) -> list[str]:
        """What was chosen, and why, in words; nothing if it is the reference."""
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
        """The reason for learning rate and momentum."""
        if self.needs.pushes > 1:
            return f"{self.rule.name} steps {self.needs.pushes} times for {counted(self.together, 'image')}"
        if self.rule.replica_state and self.workers > 1:
            return f"{self.rule.name} averages workers that step by themselves"
        return f"a step averages {counted(self.together, 'image')}"

    def _larger_than_chosen(self, given: Optimizer) -> list[str]:
        """A line, if the user's steps are much larger than those that would have been chosen."""
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
    """A learning rate to three digits."""
    return float(f"{rate:.3g}")

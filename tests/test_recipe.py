"""The recipe: settings that are chosen if the user gave none, by rule and number of workers; given ones are kept."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import parallel_runs
import pytest
from test_loop import At, data, send, small

import pyconv
from pyconv import optim, train
from pyconv.checkpoint import Checkpoint
from pyconv.errors import InputError, Interrupted, UnknownNameError
from pyconv.loop import chance, recipe
from pyconv.parallel import RULES, Needs, Rule, engine, rule_for
from pyconv.parallel.rules import Local

PUSHING = ("async", "ssp", "hogwild")


def chosen(update: Any = "sync", workers: int = 1, images: int = 6000, least: int = 1, **given: Any) -> recipe.Recipe:
    asked = {"batch_size": None, "optimizer": None, "schedule": None, "options": None, **given}
    return recipe.choose(recipe.Asked.of(update=update, **asked), workers, images, least)


@pytest.mark.parametrize("workers", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("update", RULES)
def test_64_images_are_shared_out_and_move_the_parameters_as_far_as_one_worker(update: str, workers: int) -> None:
    made = chosen(update, workers)
    assert made.batch_size == 64 // workers
    sgd = made.optimizer
    assert isinstance(sgd, optim.SGD) and sgd.weight_decay == 5e-4
    pushes = workers if update in PUSHING else 1
    assert sgd.lr / (1 - sgd.momentum) * pushes == pytest.approx(0.2, rel=0.01)
    assert sgd.momentum == 0.9 and sgd.nesterov == (update in PUSHING and workers > 1)
    assert made.schedule == optim.schedule(
        "cosine", warmup=0.2 if update in (*PUSHING, "easgd") and workers > 1 else 0.05
    )
    assert (workers == 1) == (made.said == []) or update == "sync"
    for number in (f"lr {sgd.lr:g}", f"batch {made.batch_size} "):
        assert workers == 1 or number in "; ".join(made.said)


@pytest.mark.parametrize(("images", "workers", "least", "batch"), [
    (6000, 100, 1, 1), (200, 16, 1, 4), (50, 1, 1, 50), (50, 4, 1, 12), (20, 16, 1, 1), (6000, 16, 2, 4),
    (6000, 64, 2, 2),
])  # fmt: skip
def test_little_data_and_many_workers(images: int, workers: int, least: int, batch: int) -> None:
    assert chosen("sync", workers, images, least).batch_size == batch


def test_what_the_user_gave_is_kept() -> None:
    made = chosen("async", 4, batch_size=64, optimizer={"name": "sgd", "lr": 0.3, "momentum": 0.5},
                  schedule={"name": "step", "warmup": 7}, options={"shared_state": True})  # fmt: skip
    assert made.batch_size == 64
    assert (made.optimizer.lr, made.optimizer.momentum) == (0.3, 0.5)
    assert made.schedule == optim.schedule("step", warmup=7)
    assert recipe.set_options(made.rule) == {"staleness_aware": False, "shared_state": True}
    adam, halving = optim.Adam(1e-3), parallel_runs.Faults({}, "")
    made = chosen("hogwild", 16, optimizer=adam, schedule=halving)
    assert made.optimizer is adam and made.schedule is halving


def test_the_rest_follows_from_what_was_given() -> None:
    assert chosen("sync", 2, batch_size=64).optimizer.lr == pytest.approx(0.04)
    assert chosen("sync", 16, batch_size=64).optimizer.lr == pytest.approx(0.08)  # at most 4 times
    assert chosen("sync", 16, batch_size=64).schedule.warmup == 0.2
    assert chosen("sync", 2, batch_size=64, optimizer="adam").optimizer.lr == pytest.approx(2**0.5 * 1e-3, rel=0.01)
    assert chosen("async", 16, optimizer="adam").optimizer.lr == pytest.approx(1e-3 / 4)
    assert chosen("local", 4, optimizer="adam").optimizer.lr == pytest.approx(2e-3)  # a replica sees more noise
    assert chosen("easgd", 16, optimizer="adagrad").optimizer.lr == pytest.approx(4e-2)
    assert chosen("hogwild", 16, batch_size=64).optimizer.lr == pytest.approx(2 * 0.02 / 16)
    assert chosen("sync", optimizer={"name": "sgd", "momentum": 0.0}).optimizer.lr == pytest.approx(0.2)
    none = chosen("async", 4, optimizer={"momentum": 0.0}).optimizer
    assert none.lr == pytest.approx(0.05) and not none.nesterov
    downpour = chosen("async", 4, options={"shared_state": True}).optimizer  # staleness acts as momentum
    assert downpour.momentum == 0 and downpour.lr == pytest.approx(0.05)


def test_a_learning_rate_that_is_far_too_large_is_told_of() -> None:
    (_, line) = chosen("sync", 16, optimizer={"lr": 0.32}).said
    assert "lr 0.32 is yours" in line and "16 times as large" in line and "lr 0.02 and momentum 0.9" in line
    assert not any("yours" in line for line in chosen("sync", 16, optimizer={"lr": 0.02}).said)
    assert not any("yours" in line for line in chosen("sync", 16, optimizer=optim.Adam(1e-3)).said)


@dataclasses.dataclass(frozen=True)
class Careful(parallel_runs.MajorityVote):
    """A rule with needs of its own."""

    def needs(self, workers: int) -> Needs:
        return Needs(momentum=0.5, warmup=0.3)


def test_a_rule_of_the_users_own_inherits_or_says_what_it_needs() -> None:
    vote = parallel_runs.MajorityVote()
    inherited = chosen(vote, 4)
    assert inherited.optimizer == optim.SGD(0.02, momentum=0.9, weight_decay=5e-4) and inherited.rule is vote
    said = chosen(Careful(), 4)
    assert said.optimizer.momentum == 0.5 and said.schedule.warmup == 0.3
    assert Rule().needs(4) == Needs()


@pytest.mark.parametrize(("given", "error", "match"), [
    ({"optimizer": "adan"}, UnknownNameError, "adam"),
    ({"optimizer": {"name": "adam", "momentum": 0.9}}, UnknownNameError, "momentum"),
    ({"optimizer": optim.Adam}, InputError, "optimizer must be"),
    ({"schedule": "cosine "}, UnknownNameError, "cosine"),
    ({"schedule": {"warm_up": 3}}, UnknownNameError, "warmup"),
    ({"batch_size": 0}, InputError, "batch_size"),
    ({"options": {"stale": 3}}, UnknownNameError, "staleness"),
])  # fmt: skip
def test_what_cannot_be_is_named(given: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        chosen("ssp", 2, **given)


@pytest.mark.covering("how", most=1)
@pytest.mark.parametrize("how", [{}, {"workers": 2}, {"workers": 2, "update": "hogwild"}])
def test_fit_and_the_command_have_the_same_defaults(tmp_path: Path, how: dict[str, Any]) -> None:
    x, y = data(300)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "net.toml").write_text(
        'input_shape = [8, 8, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    flags = [text for name, value in how.items() for text in (f"--{name}", str(value))]
    place = ["--data", str(tmp_path / "data.npz"), "--model", str(tmp_path / "net.toml"), "--out", str(tmp_path / "a")]
    assert train.main([*place, *flags, "--progress", "off"]) == 0
    pyconv.fit(small(), x, y, out=tmp_path / "b", progress="off", **how)
    one, other = (tomllib.loads((tmp_path / run / "config.toml").read_text()) for run in "ab")
    for section in ("optimizer", "schedule"):
        assert one[section] == other[section]
    assert one.get("update_options", {}) == other.get("update_options", {})
    names = ("epochs", "workers", "update", "seed", "on_worker_failure", "checkpoint_every")
    assert [one["training"][name] for name in names] == [other["training"][name] for name in names]


OLD = [("local", {"sync_every": 0}), ("easgd", {"sync_every": 4, "moving_rate": 0.0}),
       ("async", {"shared_state": True}), ("hogwild", {"shared_state": True})]  # fmt: skip


@pytest.mark.covering("update", most=1)
@pytest.mark.parametrize(("update", "former"), OLD)
def test_a_run_from_before_options_were_recorded_goes_on_as_it_was(tmp_path: Path, update: str, former: dict) -> None:
    """Such a folder holds no options of the rule; it means the defaults of that time."""
    out, how = tmp_path / "run", {"workers": 2, "update": update, "batch_size": 8}
    x, y = data()
    with pytest.raises(Interrupted):
        pyconv.fit(small(), x, y, out=out, update_options=former, optimizer=optim.SGD(0.01, momentum=0.9),
                   progress=At(7, send(signal.SIGINT)), epochs=2, schedule="constant", **how)  # fmt: skip
    config = (out / "config.toml").read_text()
    (out / "config.toml").write_text(re.sub(r"\[update_options\][^\[]*", "", config))
    path = out / "checkpoint" / "last.safetensors"
    old = Checkpoint.load(path)
    dataclasses.replace(old, settings={**old.settings, "update_options": {}}).save(path)
    history = pyconv.fit(small(), x, y, out=out, resume=True, epochs=2, workers=2, update=update, progress="off")
    assert len(history) == 2
    resumed = tomllib.loads((out / "config.toml").read_text())
    assert former.items() <= resumed["update_options"].items()
    assert resumed["training"]["batch_size"] == 8 and resumed["optimizer"]["lr"] == 0.01
    assert resumed["schedule"]["name"] == "constant"


def test_options_that_an_older_run_of_one_worker_recorded_do_not_matter(tmp_path: Path) -> None:
    out, (x, y) = tmp_path / "run", data()
    pyconv.fit(small(), x, y, out=out, update=Local(sync_every=3), epochs=1, progress="off")
    assert tomllib.loads((out / "config.toml").read_text())["update_options"] == {}
    path = out / "checkpoint" / "last.safetensors"
    old = Checkpoint.load(path)
    dataclasses.replace(old, settings={**old.settings, "update_options": {"sync_every": 3}}).save(path)
    history = pyconv.fit(small(), x, y, out=out, resume=True, update=Local(sync_every=4), epochs=2, progress="off")
    assert len(history) == 2


def test_options_are_for_several_workers(tmp_path: Path) -> None:
    x, y = data()
    how = {"update": "local", "update_options": {"sync_every": 3}, "progress": "off"}
    with pytest.raises(InputError, match="sync_every is for several workers"):
        pyconv.fit(small(), x, y, epochs=1, out=tmp_path / "run", **how)
    with pytest.raises(InputError, match="sync_every is for several workers"):
        pyconv.find_lr(small(), x, y, **how)
    assert not (tmp_path / "run").exists()


def test_the_name_of_a_rule_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    def counting(update: Any, options: Any = None) -> Rule:
        names.append(update) if isinstance(update, str) else None
        return rule_for(update, options)

    for module in (recipe, engine):
        monkeypatch.setattr(module, "rule_for", counting)
    x, y = data()
    pyconv.fit(small(), x, y, epochs=1, update="local", update_options={"sync_every": 2}, workers=2, progress="off")
    assert names == ["local"]


def test_chance_is_what_guessing_the_commonest_class_gives() -> None:
    labels = np.array([0] * 700 + [1] * 300)
    assert chance.guessing(0.70, labels) == chance.guessing(0.72, labels) == pytest.approx(0.7)
    assert chance.guessing(0.74, labels) is None
    assert chance.guessing(0.8, labels[690:710]) is None  # two errors of 20 images would be 22 points
    assert chance.guessing(1.0, labels[:700]) is None
    assert "try more epochs, or a smaller batch: it took 20" in chance.warning("training", 0.1, 0.1, 20, 64, 0.1, None)
    assert "try more epochs: it took 1 step only" in chance.warning("training", 0.1, 0.1, 1, 4, 0.1, None)


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_ends_at_chance_says_so(tmp_path: Path, validated: bool) -> None:
    x, y = data(300)
    how = {"validation": (x, y)} if validated else {}
    still = {"name": "sgd", "lr": 1e-9}
    pyconv.fit(small(), x, y, epochs=1, optimizer=still, out=tmp_path / "bad", progress="off", **how)
    kind = "validation" if validated else "training"
    said = (tmp_path / "bad" / "log.txt").read_text()
    assert re.search(
        rf"WARNING .*ends at chance: {kind} accuracy .* commonest class, 33.33 %; try lr 0.02, which", said
    )
    history = pyconv.fit(small(), x, y, epochs=4, out=tmp_path / "good", progress="off", **how)
    assert json.dumps(history) and "ends at chance" not in (tmp_path / "good" / "log.txt").read_text()

"""How OpenMP's threads wait: the rule, the switch, another busy process, and the user's own choice."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pyconv import threads, waiting

_waiting = pytest.importorskip("pyconv._waiting")
needs_switch = pytest.mark.skipif(not _waiting.can_watch, reason="this build's threads wait as OpenMP's library has it")

CLEAN = {name: text for name, text in os.environ.items() if not name.startswith(("GOMP", "OMP", "KMP", "PYCONV"))}


def _run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process, without environment variables about threads but `variables`."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**CLEAN, **variables}, timeout=120
    )


# The rule ----------------------------------------------------------------------------------------------------------


def test_threads_sleep_at_the_first_sign_and_spin_after_a_second_of_calm() -> None:
    rule = _waiting.Rule()
    assert not any(rule.look(0.1, 0.05) for _ in range(100)), "the system's own work"
    assert rule.look(0.1, 0.3)
    assert all(rule.look(0.1, 0) for _ in range(9))
    assert rule.look(0.1, 0.3), "a step beside a neighbour waits for CPUs although its threads sleep"
    assert [rule.look(0.25, 0) for _ in range(4)] == [True, True, True, False]
    assert rule.tries == 1


def test_tries_that_fail_are_further_and_further_apart() -> None:
    rule, seconds = _waiting.Rule(), []
    for _ in range(8):
        assert rule.look(0.1, 0.5)
        looks = 1
        while rule.look(0.1, 0):
            looks += 1
        seconds.append(round(looks / 10))
    assert seconds == [1, 2, 4, 8, 16, 32, 32, 32]
    for _ in range(400):
        assert not rule.look(0.1, 0)
    assert rule.look(0.1, 0.5), "another neighbour, much later"
    assert [rule.look(0.5, 0) for _ in range(2)] == [True, False]


# The switch --------------------------------------------------------------------------------------------------------

SWITCH = """
import os, sys, time
import pyconv
from pyconv import _waiting

def count():
    return len(os.listdir("/proc/self/task"))

def idle():  # CPU time of a thread that has nothing to do, in milliseconds
    spent = []
    for _ in range(8):
        _waiting.share_waited(2)
        before = time.process_time()
        time.sleep(0.03)
        spent.append(1e3 * (time.process_time() - before))
    return sorted(spent)

def soon(true):
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()

_waiting.stop()  # looking: the machine's load is not to decide
spinning = idle()
before = count()
for _ in range(2):
    _waiting.sleep_now(True)
    assert soon(lambda: count() > before)
    time.sleep(0.1)
    assert idle()[2] < 0.3, idle()
    _waiting.sleep_now(False)
    assert soon(lambda: count() == before), (count(), before)
assert idle()[-1] > 0.5 and spinning[-1] > 0.5, (idle(), spinning)
"""


@needs_switch
def test_threads_sleep_and_spin_when_they_are_told_to() -> None:
    if threads.affinity() < 2:
        pytest.skip("needs 2 CPUs: with one, OpenMP's library never spins")
    done = _run(SWITCH)
    assert done.returncode == 0, done.stderr


FORK = """
import os, sys
import numpy as np, pyconv
from pyconv import _waiting

x, weight = np.ones((8, 32, 32, 8), np.float32), np.ones((3, 3, 8, 64), np.float32)
expected = pyconv.conv2d(x, weight, threads=2)
_waiting.sleep_now(True)
slept = pyconv.conv2d(x, weight, threads=2)
child = os.fork()
same = np.array_equal(pyconv.conv2d(x, weight, threads=2), expected) and np.array_equal(slept, expected)
if child == 0:
    sys.exit(0 if same else 3)  # by way of what is registered for the exit
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert same
print("ended")
"""


@needs_switch
def test_a_process_that_sleeps_forks_and_ends() -> None:
    done = _run(FORK)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


NEIGHBOURS = """
import os, subprocess, sys, time
cpus = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, cpus)
import numpy as np, pyconv
from pyconv import _waiting, waiting

x, weight = np.ones((2, 24, 24, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)
before = pyconv.conv2d(x, weight, threads=2)

def until(sleeping, seconds):
    end = time.monotonic() + seconds
    while _waiting.state()[0] != sleeping and time.monotonic() < end:
        assert np.array_equal(pyconv.conv2d(x, weight, threads=2), before)
    return _waiting.state()[0] == sleeping

hog = "import os; os.sched_setaffinity(0, {%d})\\nwhile True: pass"
hogs = [subprocess.Popen([sys.executable, "-c", hog % cpu]) for cpu in cpus]
try:
    found = [until(True, 20), "sleep now" in waiting.describe()]
finally:
    for each in hogs:
        each.kill()
        each.wait()
print(*found, until(False, 10))
"""


@pytest.mark.slow
@needs_switch
def test_beside_a_neighbour_threads_sleep_until_it_is_gone() -> None:
    if threads.affinity() < 2:
        pytest.skip("needs 2 CPUs: with one, OpenMP's library never spins")
    done = _run(NEIGHBOURS)
    assert done.returncode == 0, done.stderr
    asleep, said, awake = done.stdout.split()
    assert (asleep, said) == ("True", "True")
    if awake != "True":
        pytest.skip("other programs kept the CPUs busy: threads went on sleeping")


# The user's choice --------------------------------------------------------------------------------------------------

SHOW = "import os, pyconv, pyconv._naive; print(sorted(k for k in os.environ if k.startswith(('GOMP', 'OMP'))))"


def _shown(program: str = SHOW, **variables: str) -> tuple[str, str]:
    """What a fresh process prints, and how OpenMP's library says that its threads wait."""
    done = _run(program, OMP_DISPLAY_ENV="verbose", **variables)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    if not found:
        pytest.skip("this OpenMP library does not say how its threads wait")
    return done.stdout.strip(), found[0]


def test_threads_spin_as_usual_and_the_environment_stays_as_it_was() -> None:
    assert _shown() == ("['OMP_DISPLAY_ENV']", waiting.SPINS)


@pytest.mark.parametrize(
    ("name", "value", "spins"), [("OMP_WAIT_POLICY", "passive", "0"), ("GOMP_SPINCOUNT", "7", "7")]
)
def test_how_threads_wait_is_the_users_choice_first(name: str, value: str, spins: str) -> None:
    assert _shown(**{name: value}) == (str(sorted([name, "OMP_DISPLAY_ENV"])), spins)
    done = _run("from pyconv import waiting; print(waiting.describe())", **{name: value})
    assert done.stdout == f"as {name} says: how threads wait does not change\n"


def test_children_find_the_users_environment() -> None:
    show = SHOW.replace(", pyconv, pyconv._naive", "")
    child = f"import pyconv, subprocess, sys; subprocess.run([sys.executable, '-c', {show!r}])"
    assert _shown(child)[0] == "['OMP_DISPLAY_ENV']"

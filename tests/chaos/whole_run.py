"""``python -m chaos.whole_run SEED FOLDER``: begin or resume the run of a plan; prints a line for each step."""

from __future__ import annotations

import signal
import sys

from parallel_runs import Faults

import pyconv
from pyconv.errors import Interrupted
from pyconv.loop.progress import Progress

from .plan import BATCH, EPOCHS, OPTIMIZERS, OPTIONS, WORKERS, draw, images, model


class Steps(Progress):
    """Tells the campaign of each step."""

    def step(self, *, epoch: int, step: int, images: int, loss: float, images_per_s: float) -> None:
        """Print the step, or nothing once the campaign no longer reads."""
        try:
            print(epoch, step, flush=True)
        except BrokenPipeError:
            sys.stdout = sys.stderr


def main(seed: int, folder: str) -> int:
    """Run; gives the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell ignores them for what it runs in the background
        signal.signal(number, signal.default_int_handler)
    plan = draw(seed)
    try:
        pyconv.fit(
            model(),
            *images(),
            epochs=EPOCHS,
            batch_size=BATCH,
            optimizer=OPTIMIZERS[plan.optimizer],
            workers=WORKERS,
            threads_per_worker=1,
            update=plan.update,
            update_options=OPTIONS.get(plan.update, {}),
            on_worker_failure=plan.policy,
            schedule=Faults(plan.inside, folder),
            out=f"{folder}/run",
            resume=True,
            checkpoint_every=0.3,
            progress=Steps(),
        )
    except Interrupted:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))

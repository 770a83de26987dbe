"""A process that tries cases within limits of memory and time; its parent sees when the process dies."""

from __future__ import annotations

import faulthandler
import importlib
import json
import math
import os
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path


def main(kind: str, first: int, last: int, seconds: float, memory: int, report: Path) -> None:
    """Try the cases from `first` on, before `last`, and write what fails to `report`.

    Before each case the line ``{"begins": number}`` is written. If a case kills the process, the last such line
    names that case.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    from . import cases

    folder = cases.own_folder()
    cases.watch_warnings()
    with report.open("w", buffering=1) as file:
        place = file.tell()
        armed = -math.inf
        make = importlib.import_module(f".{kind}", __package__).maker(folder)
        for number in range(first, last):
            file.seek(place)
            file.write(json.dumps({"begins": number}) + " " * 20 + "\n")
            file.flush()
            if time.monotonic() - armed > 1:  # it starts a thread, which would take too long for every case
                faulthandler.dump_traceback_later(seconds + 1, exit=True)
                armed = time.monotonic()
            case = make(number)
            wrong = cases.judge(case)
            if wrong is not None:
                file.seek(place)
                file.write(json.dumps({"case": number, "words": case.words, "wrong": wrong}) + "\n")
                place = file.tell()
        faulthandler.cancel_dump_traceback_later()
        file.seek(place)
        file.truncate()
        file.write(json.dumps({"done": last}) + "\n")
    os.chdir("/")
    shutil.rmtree(folder.parent.parent, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]), float(sys.argv[4]), int(sys.argv[5]), Path(sys.argv[6]))

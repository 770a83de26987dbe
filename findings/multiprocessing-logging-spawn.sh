#!/usr/bin/env bash
# multiprocessing-logging 0.4.0: install_mp_handler refuses every start method but fork, with an assertion.
#
# Python's own default is spawn on macOS and Windows, and forkserver on Linux from 3.14 on.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64:
#   fork: installed
#   spawn: AssertionError: This module only works with the 'fork' start method.
#   forkserver: AssertionError: This module only works with the 'fork' start method.
#
# In pyconv: workers are spawned; the parent takes MultiProcessingHandler with queues of the spawn context (parallel/logs.py).
source "$(dirname "$0")/common.sh"
packages multiprocessing-logging==0.4.0
seen <<'PYTHON'
import multiprocessing

from multiprocessing_logging import install_mp_handler

for method in ("fork", "spawn", "forkserver"):
    multiprocessing.set_start_method(method, force=True)
    try:
        install_mp_handler()
        print(f"{method}: installed")
    except AssertionError as error:
        print(f"{method}: AssertionError: {error}")
PYTHON

"""A timeline of all ranks: each notes what it does by its own clock, and rank 0 writes one file by its own.

tape.py       what a rank notes, in bounded memory
world.py      a world whose calls are noted: waits, looks, and each message's way
recorder.py   the passes of a rank's lanes
clocks.py     how far another rank's clock is from rank 0's, by ping-pong
rows.py       names and order of the timeline's rows
timeline.py   rank 0: the file
trace.py      brings the tapes to rank 0 while the run goes on
"""

from .clocks import Clock, Sample
from .recorder import TapeRecorder
from .tape import Tape
from .trace import Trace
from .world import TracedWorld

__all__ = ["Clock", "Sample", "Tape", "TapeRecorder", "Trace", "TracedWorld"]

"""What a step of training over the ranks of a cluster asks of them, for each split: it has a time by equations, and can
be played with clocks.

phases.py       a step as phases of computing, and moves of messages between them
overlapped.py   a step whose messages travel while it is computed
piped.py        a step of a pipeline
lines.py        its schedule, played pass by pass
crowd.py        work of many who share some CPUs
by_images.py    data-parallel training: each rank has images of its own
by_rows.py      each rank has some rows of every image
by_filters.py   each rank has some filters and units of every layer
by_stages.py    each rank has some layers
"""

from .overlapped import Overlapped
from .phases import Links, Phases, StepTime
from .piped import Piped

SPLITS = ("data", "rows", "filters", "pipeline")

__all__ = ["SPLITS", "Links", "Overlapped", "Phases", "Piped", "StepTime"]

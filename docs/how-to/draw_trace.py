"""Draw a timeline of pyconv: python draw_trace.py timeline.json picture.png"""

import bisect
import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

COLOURS = {"data": "#999999", "forward": "#56B4E9", "backward": "#0072B2", "push": "#E69F00", "pull": "#F0E442",
           "update": "#009E73", "wait": "#D55E00"}  # fmt: skip

events = [event for event in json.loads(Path(sys.argv[1]).read_text()) if event["ph"] == "X"]

total = defaultdict(float)
for event in events:
    total[event["tid"], event["name"]] += event["dur"] / 1e6
for worker in sorted({event["tid"] for event in events}):
    shares = (f"{name} {total[worker, name]:.2f} s" for name in COLOURS if total[worker, name])
    print(f"worker {worker}: {', '.join(shares)}")

# The 60 ms in which most pieces begin: some steps at full speed, and no pause between epochs.
starts = sorted(event["ts"] for event in events)
begin = max(starts, key=lambda start: bisect.bisect_left(starts, start + 60e3) - bisect.bisect_left(starts, start))
shown = [event for event in events if event["ts"] < begin + 60e3 and event["ts"] + event["dur"] > begin]
figure, axes = plt.subplots(figsize=(10, 2.4), layout="constrained")
for name, colour in COLOURS.items():
    own = [event for event in shown if event["name"] == name]
    lefts, widths = ([event[key] / 1e3 for event in own] for key in ("ts", "dur"))
    if own:
        axes.barh([event["tid"] for event in own], widths, left=lefts, color=colour, label=name, height=0.7)
axes.set(xlabel="ms since the start of the run", xlim=(begin / 1e3, begin / 1e3 + 60))
axes.set_yticks(sorted({event["tid"] for event in shown}), labels=None)
axes.set_ylabel("worker")
axes.legend(ncols=len(COLOURS), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
figure.savefig(sys.argv[2], dpi=150)

"""Draw a timeline of pyconv: python draw_trace.py timeline.json picture.png"""

import bisect
import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

COLOURS = {"data": "#999999", "forward": "#56B4E9", "backward": "#0072B2", "push": "#E69F00", "pull": "#F0E442",
           "update": "#009E73", "wait": "#D55E00", "look": "#000000", "gradient": "#CC79A7", "parameters": "#8C6BB1",
           "halo": "#A6761D", "array": "#666666", "request": "#BBBBBB"}  # fmt: skip

entries = json.loads(Path(sys.argv[1]).read_text())
events = [event for event in entries if event["ph"] == "X"]
names = {kind: {(e["pid"], e["tid"] if kind == "thread_name" else 0): e["args"]["name"] for e in entries
                if e["ph"] == "M" and e["name"] == kind} for kind in ("process_name", "thread_name")}  # fmt: skip
several = len(names["process_name"]) > 1


def row(event):
    """A row of the picture: messages that overlap, which have rows of their own, are drawn over each other."""
    number = event["tid"]
    return event["pid"], number if number < 2_000_000 else number // 1_000_000 * 1_000_000


def label(place):
    rank, text = place[0], names["thread_name"][place]
    return f"rank {rank}: {text}" if several else text.removeprefix("worker ")


total = defaultdict(float)
for event in events:
    is_message = "bytes" in event["args"]
    total[row(event), event["name"]] += event["args"]["bytes"] / 1e6 if is_message else event["dur"] / 1e6
rows = sorted({row(event) for event in events})
for place in rows:
    unit = "MB" if place[1] >= 2_000_000 else "s"
    shares = (f"{name} {total[place, name]:.2f} {unit}" for name in COLOURS if total[place, name])
    print(f"{label(place) if several else 'worker ' + label(place)}: {', '.join(shares)}")

# The 60 ms in which most pieces begin: some steps at full speed, and no pause between epochs.
starts = sorted(event["ts"] for event in events)
begin = max(starts, key=lambda start: bisect.bisect_left(starts, start + 60e3) - bisect.bisect_left(starts, start))
shown = [event for event in events if event["ts"] < begin + 60e3 and event["ts"] + event["dur"] > begin]
figure, axes = plt.subplots(figsize=(10, max(2.4, 0.8 + 0.32 * len(rows))), layout="constrained")
for name, colour in COLOURS.items():
    own = [event for event in shown if event["name"] == name]
    lefts, widths = ([event[key] / 1e3 for event in own] for key in ("ts", "dur"))
    if own:
        places = [rows.index(row(event)) for event in own]
        height = 0.35 if name == "look" else 0.7
        axes.barh(places, widths, left=lefts, color=colour, label=name, height=height)
axes.set(xlabel="ms since the start of the run", xlim=(begin / 1e3, begin / 1e3 + 60))
axes.set_yticks(range(len(rows)), labels=[label(place) for place in rows])
if several:
    axes.invert_yaxis()
else:
    axes.set_ylabel("worker")
axes.legend(ncols=len(COLOURS), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, columnspacing=1)
figure.savefig(sys.argv[2], dpi=150)

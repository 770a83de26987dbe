"""Training over MPI on pretended nodes, with a fault at a random moment: ``make chaos-cluster``.

A seed gives each run its split, its MPI, its nodes and ranks, the fault, the rank or node that has it, and the moment.
A run is an error if a rank is there ten seconds after the fault, if the cause is not named once, if the status is 0, if
the last checkpoint is not whole, or if anything is left behind. Then the run is resumed, and must come to the bits of
an undisturbed run where the split promises that.

plan.py      what a seed says
faults.py    what each fault does, and what must be said of it
rig.py       the nodes, and a run on them
judge.py     what must be true of a run
planted.py   the program of a rank that is to fail by itself
"""

"""A campaign of training runs that suffer several failures each, at random moments: ``make chaos``.

Each run is drawn from a seed: an update rule, a policy, an optimizer, and what happens to whom and when. A run
fails the campaign if it hangs, loses an example, leaves something behind, says nothing about a failure within five
seconds, or, under a rule that gives the same bits every time, ends with other bits than an undisturbed run.
"""

"""Training runs with several failures each, at random moments: ``make chaos``.

A seed gives each run its update rule, its policy for failures, its optimizer, and its failures: which process fails,
how and when. A run is an error if it hangs, loses an example, leaves processes or files behind, or does not report a
failure within five seconds. Under a rule that always gives the same bits, the run must also end with the bits of an
undisturbed run.
"""

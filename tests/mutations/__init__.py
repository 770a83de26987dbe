"""Plants mistakes in copies of the sources, and counts how many of them the tests find: ``make mutations``."""

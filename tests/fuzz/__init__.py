"""Odd arguments, odd command lines and damaged files: each ends well, or in one short line of pyconv's own.

``python -m fuzz`` (``make fuzz``) tries a million of them, and ``tests/test_fuzz.py`` two thousand. A case is a
function of its kind and number,
so that one that fails can be repeated: ``python -m fuzz --kind files --first 1234 --cases 1``.
"""

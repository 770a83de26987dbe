"""Tries odd arguments, odd command lines and damaged files: each must succeed, or end in one short error.

``python -m fuzz`` (``make fuzz``) tries a million of them, and ``tests/test_fuzz.py`` two thousand. A case is a
function of its kind and number. A case that fails can so be repeated:
``python -m fuzz --kind files --first 1234 --cases 1``.
"""

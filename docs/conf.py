"""Sphinx configuration: `make docs` builds with warnings as errors; the tutorials are run at build time."""

from importlib.metadata import version as _version

project = "pyconv"
author = "the pyconv developers"
copyright = "2026, the pyconv developers"
release = version = _version("pyconv")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]

html_theme = "furo"
html_title = f"pyconv {release}"
exclude_patterns = ["_build", "tutorials/*.py", "tutorials/README.rst"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc states the types, with shapes
numpydoc_show_class_members = False

intersphinx_mapping: dict = {}  # no network at build time

sphinx_gallery_conf = {
    "examples_dirs": ["tutorials"],
    "gallery_dirs": ["auto_tutorials"],
    "filename_pattern": r"/tutorial_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": "True",
}

linkcheck_anchors = False

"""Sphinx configuration: `make docs` builds with warnings as errors; the tutorials are run at build time."""

import sys
from pathlib import Path

import pyconv

sys.path.insert(0, str(Path(__file__).parent))
import downloads
import generate

project = "pyconv"
author = "the pyconv developers"
copyright = "2026, the pyconv developers"
release = version = pyconv.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # MathJax beside the pages: equations need no network
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]

html_theme = "furo"
html_title = f"pyconv {release}"
html_static_path = ["_static"]
html_css_files = ["pyconv.css"]
templates_path = ["_templates"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
exclude_patterns = [
    "_build",
    "_templates",
    "**/*.inc",
    "reference/generated/report/report.md",
    "tutorials/*.py",
    "tutorials/README.rst",
]
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
    "ignore_pattern": r"(^|/)my_",  # modules that a tutorial's workers import
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "reference/generated/backreferences",  # which tutorials use a function
    "doc_module": ("pyconv",),
    "inspect_global_variables": True,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": "True",
}

linkcheck_anchors = False

doctest_global_setup = "import numpy as np\nimport pyconv"


def _generate(app) -> None:
    """Make the generated parts of pages; builders that only check use the parts that exist already."""
    folder = Path(app.srcdir) / "reference" / "generated"
    if app.builder.format == "html" or not folder.is_dir():
        generate.everything(folder)


def setup(app) -> None:
    """Register the functions that run before the pages are read."""
    app.connect("builder-inited", _generate)
    app.connect("builder-inited", _complete_downloads, priority=900)  # after the gallery has made them
    app.connect("autodoc-skip-member", _skip_another_librarys)


def _skip_another_librarys(app, what, name, member, skip, options) -> bool | None:
    """Skip what a class inherits from scikit-learn: those docstrings link to pages of its own documentation."""
    return True if str(getattr(member, "__module__", "")).startswith("sklearn.") else None


def _complete_downloads(app) -> None:
    downloads.complete(Path(app.srcdir) / "auto_tutorials")

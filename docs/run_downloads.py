"""Run every tutorial as its reader downloads it: the notebook and the zip, each by itself in an empty folder.

``make downloads``. The downloads are made from the sources as the documentation's build makes them. The notebook's
cells run in a Jupyter kernel, the zip's script in Python with no display; pyconv is what is installed. Takes minutes.

    python docs/run_downloads.py            # all tutorials
    python docs/run_downloads.py 4 5        # some of them, by number
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import downloads

TUTORIALS = Path(__file__).parent / "tutorials"
MOST_S = 1200


def made(folder: Path) -> Path:
    """The gallery's downloads in `folder`, without running a tutorial."""
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook, save_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    gallery = folder / "auto_tutorials"
    gallery.mkdir()
    for script in sorted(TUTORIALS.glob("tutorial_*.py")):
        (gallery / script.name).write_bytes(script.read_bytes())
        _, blocks = split_code_and_text_blocks(str(script))
        save_notebook(
            jupyter_notebook(blocks, {**DEFAULT_GALLERY_CONF, "pypandoc": False}, str(gallery)),
            gallery / f"{script.stem}.ipynb",
        )
    downloads.complete(gallery, TUTORIALS)
    return gallery


def run_zip(gallery: Path, name: str, place: Path) -> str:
    """The script of an unpacked zip; the last line of what went wrong, or ""."""
    archive = gallery / f"{name}.zip"
    if archive.is_file():
        zipfile.ZipFile(archive).extractall(place)
    else:
        (place / f"{name}.py").write_bytes((gallery / f"{name}.py").read_bytes())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, f"{name}.py"], cwd=place, env=environment, capture_output=True, text=True, timeout=MOST_S
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()[-2000:]


def run_notebook(gallery: Path, name: str, place: Path) -> str:
    """A notebook's cells, one after the other; what went wrong, or ""."""
    import nbclient
    import nbformat

    notebook = nbformat.read(gallery / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=MOST_S, resources={"metadata": {"path": str(place)}})
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        return str(error)[-2000:]
    return ""


def main(numbers: list[str]) -> int:
    """Run the tutorials with these numbers, or all; 1 if one fails."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        gallery = made(Path(folder))
        for script in sorted(gallery.glob("tutorial_*.py")):
            if numbers and script.stem.split("_")[1] not in numbers:
                continue
            for kind, run in (("zip", run_zip), ("notebook", run_notebook)):
                with tempfile.TemporaryDirectory() as place:
                    began = time.monotonic()
                    wrong = run(gallery, script.stem, Path(place))
                print(f"{script.stem} {kind}: {wrong or 'ran'} ({time.monotonic() - began:.0f} s)", flush=True)
                failed += bool(wrong)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The names of MPICH's shared memory, which go once all ranks have it."""

from __future__ import annotations

import mmap

from pyconv.cluster.nameless import unname


def test_what_is_mapped_loses_its_name_and_nothing_else(tmp_path):
    files = {name: tmp_path / name for name in ("mpi_1", "mpi_2", "other")}
    for path in files.values():
        path.write_bytes(b"x" * mmap.PAGESIZE)
    with files["mpi_1"].open("r+b") as one, files["other"].open("r+b") as other:
        first, second = mmap.mmap(one.fileno(), 0), mmap.mmap(other.fileno(), 0)
    unname(prefix=f"{tmp_path}/mpi_")
    unname(prefix=f"{tmp_path}/mpi_")  # as a second rank does
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mpi_2", "other"]
    assert first[:1] == second[:1] == b"x"
    first.close()
    second.close()


def test_where_the_kernel_lists_nothing_nothing_happens(tmp_path):
    unname(tmp_path / "missing")

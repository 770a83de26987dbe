"""The compiled modules hold instructions of a newer processor only where dispatch.c asks for that processor first.

Otherwise the module is killed by SIGILL on older machines only, where these tests may never run. So the machine code
itself is read: an instruction's first byte says how it is encoded, and the symbol table says from which source file it
comes.
"""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

MODULES = (
    "pyconv._plans",
    "pyconv._cpu",
    "pyconv._rows",
    "pyconv._dense",
    "pyconv._naive",
    "pyconv._subnormals",
    "pyconv._waiting",
    "pyconv.parallel._atomics",
    "pyconv._cyutility",
)

# Encodings, by an instruction's first byte in 64-bit code. AVX, AVX2, FMA and AVX-512's mask instructions begin with
# the VEX prefix, all other AVX-512 with the EVEX prefix, and nothing else does.
VEX, EVEX = {0xC4, 0xC5}, {0x62}
SEGMENT_AND_SIZE = {0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x67}  # prefixes that may stand before those

AVX512 = {"VEX", "EVEX", "mask"}

# Which encodings each source file may hold.
ALLOWED = {"isa_avx2.c": {"VEX"}, "isa_avx512vl.c": AVX512, "isa_avx512.c": AVX512}

INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$")


def _encoding(code: bytes, text: str) -> str | None:
    """VEX, EVEX or mask (an AVX-512 instruction with a VEX prefix); None for what every x86-64 runs."""
    first = next((byte for byte in code if byte not in SEGMENT_AND_SIZE), 0)
    if first in EVEX:
        return "EVEX"
    if first in VEX:
        return "mask" if re.search(r"%k[0-7]", text) else "VEX"
    return None


def _objdump(*arguments: str) -> list[str]:
    done = subprocess.run(["objdump", *arguments], capture_output=True, text=True, check=True, timeout=200)
    return done.stdout.splitlines()


def _functions(library: Path) -> list[tuple[int, int, str, str]]:
    """First address, end, source file and name of every function. In the table, local functions follow their file."""
    found, source = [], ""
    for line in _objdump("-t", str(library)):
        fields = line.split()
        if " df *ABS*" in line:
            source = fields[-1] if len(fields) > 4 else ""
        elif " .text" in line and "F" in line[:25].split():
            local = line[17] == "l"
            start, size = int(fields[0], 16), int(fields[fields.index(".text") + 1], 16)
            found.append((start, start + size, source if local else "", fields[-1]))
    return sorted(found)


def _count(library: Path) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts the instructions of each (source file, encoding); and lists those that are not allowed."""
    functions = _functions(library)
    if not functions:
        pytest.skip(f"{library.name} is stripped: it does not say which function is which")
    counts: Counter[tuple[str, str]] = Counter()
    wrong, at = [], 0
    for line in _objdump("-d", "-w", str(library)):
        match = INSTRUCTION.match(line)
        if not match:
            continue
        encoding = _encoding(bytes.fromhex(match[2]), match[3])
        if encoding is None:
            continue
        address = int(match[1], 16)
        while at < len(functions) - 1 and functions[at + 1][0] <= address:
            at += 1
        start, end, source, name = functions[at]
        if not start <= address < end:
            source, name = "", "no function"
        counts[source, encoding] += 1
        if encoding not in ALLOWED.get(source, set()):
            wrong.append(f"{source or 'global'}: {name}: {match[3]}")
    return counts, wrong


x86_64_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="this processor's kernels have one instruction set"
)
needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (Debian: binutils)")


@pytest.mark.covering("name", most=3)
@x86_64_only
@needs_objdump
@pytest.mark.parametrize("name", MODULES)
def test_new_instructions_are_in_their_kernels_only(name: str) -> None:
    counts, wrong = _count(Path(importlib.import_module(name).__file__))
    assert wrong == [], f"{len(wrong)} instructions, the first: {wrong[:5]}"
    if name == "pyconv._plans":  # otherwise the test would pass on kernels that were never vectorised
        assert counts["isa_avx2.c", "VEX"] > 10_000
        assert counts["isa_avx512vl.c", "EVEX"] > 10_000
        assert counts["isa_avx512.c", "EVEX"] > 10_000


@x86_64_only
@needs_objdump
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_leak_is_found(tmp_path: Path) -> None:
    """What a header with the whole module's flags does: AVX-512 in a function that any processor runs."""
    source, library = tmp_path / "leak.c", tmp_path / "leak.so"
    source.write_text(
        'typedef float vec __attribute__((vector_size(64)));\n__attribute__((target("avx512f")))\n'
        "void leak(vec *a, const vec *b) { *a += *b; }\nint clean(int a) { return a + 1; }\n"
    )
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    counts, wrong = _count(library)
    assert any("leak" in line and "%zmm" in line for line in wrong)
    assert {encoding for _, encoding in counts} >= {"EVEX"}
    assert not any("clean" in line for line in wrong)

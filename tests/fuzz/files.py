"""Valid files with something changed: bytes, numbers, entries or the checksum."""

from __future__ import annotations

import copy
import functools
import json
import random
import shutil
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from pyconv import checkpoint, costmodel, datasets, nn, predict, report, reporting, train
from pyconv.loop import read_config
from pyconv.nn import model_file

from . import commands, keras_files, onnx_files
from .cases import Case, generator
from .kept import Kept

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, float("nan"), float("inf"), 1e308, -1e308, 5e-324, 10**19, 2**63,
    2**64, -(2**70),
    10**400, "", "a", "x" * 5000, "two\nlines", "\u0000", "\ud800", "1", "nan", "032", "auto", "cuda", "..", [], {},
    [[]], [1], [1, 2, 3],
    [None], {"a": 1}, {"type": "Dense"}, [True], [2**62, 2**62], [-1, 4], [0, 0, 0], 10**9, [1.5], ["a"],
    {"name": "sgd"},
)  # fmt: skip
_TOKENS = (b"True", b"-0.0", b"1e999", b"9" * 5000, b"9" * 30, b"nan", b"inf", b"[" * 3000, b"{", b"(", b'"', b"'",
b"\\U00110000",
           b"\xf4\x90\x80\x80", b"\x00", b"\xff", b"\r", b"\n\n", b"#", b",", b"1979-05-27T07:32:00Z", b"0x",
           b"__import__('os')")  # fmt: skip


def odd_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with some changed, cut off, doubled, put in or taken away."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        near = min(len(data), 400) if rng.random() < 0.5 else len(data)  # half of the changes are in the header
        place = rng.randrange(near)
        length = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length * 4]
        elif kind == 5:
            data[place:place] = rng.choice(_TOKENS)
        else:
            data[place : place + length] = rng.choice((b"\0", b"\xff", b"9", b"-")) * length
    return bytes(data)


def odd_number(text: bytes, rng: random.Random) -> bytes:
    """Text with one of its numbers replaced."""
    places = [
        i for i, letter in enumerate(text) if chr(letter).isdigit() and (i == 0 or not chr(text[i - 1]).isdigit())
    ]
    if not places:
        return text
    start = rng.choice(places)
    end = start
    while end < len(text) and chr(text[end]) in "0123456789.e":
        end += 1
    return (
        text[:start]
        + rng.choice((*_TOKENS, b"-1", b"0", b"1.5", b"true", b'"a"', b"[]", str(2**63).encode()))
        + text[end:]
    )


def odd_content(content: Any, rng: random.Random) -> Any:
    """A document with one of its entries changed, doubled, taken away or put in."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []
    parts = [content]
    while parts:
        part = parts.pop()
        keys = list(part) if isinstance(part, dict) else range(min(len(part), 20))
        places += [(part, key) for key in keys]
        parts += [part[key] for key in keys if isinstance(part[key], (dict, list))]
    if not places:
        return content
    part, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind < 4:
        part[key] = copy.deepcopy(rng.choice(_ODD))
    elif kind == 4:
        del part[key]
    elif isinstance(part, dict):
        part[rng.choice(("name", "type", "x", "", "seed", "\n"))] = rng.choice(_ODD)
    else:
        part.insert(key, rng.choice(_ODD))
    return content


def _without_none(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_none(item) for key, item in content.items() if item is not None}
    return [_without_none(item) for item in content if item is not None] if isinstance(content, list) else content


_toml = functools.cache(lambda data: tomllib.loads(data.decode()))
_json = functools.cache(json.loads)


def odd_toml(data: bytes, rng: random.Random) -> bytes:
    """A TOML document with something changed."""
    if rng.random() < 0.5:
        return rng.choice((odd_bytes, odd_number))(data, rng)
    try:
        return tomli_w.dumps(_without_none(odd_content(_toml(data), rng))).encode()
    except (UnicodeEncodeError, TypeError):
        return odd_bytes(data, rng)


def odd_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document, or lines of them, with something changed."""
    if rng.random() < 0.4:
        return rng.choice((odd_bytes, odd_number))(data, rng)
    lines = data.splitlines(keepends=True)
    if len(lines) > 1 and not data.startswith((b"{\n", b"[\n")):
        row = rng.randrange(len(lines))
        lines[row] = odd_json(lines[row].strip(), rng) + b"\n"
        return b"".join(lines)
    return json.dumps(odd_content(_json(data), rng)).encode()


@functools.cache
def _safetensors(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """The content of an undamaged file."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return json.loads(file.metadata()["pyconv"]), tensors


def odd_safetensors(path: Path, rng: random.Random) -> bytes:
    """A model or checkpoint with something changed and a checksum that matches, or with bytes changed."""
    if rng.random() < 0.3:
        return odd_bytes(path.read_bytes(), rng)
    content, tensors = _safetensors(path)
    content, tensors = copy.copy(content), dict(tensors)
    if rng.random() < 0.7:
        content = odd_content(content, rng)
    else:
        name = rng.choice(sorted(tensors))
        change = rng.randrange(5)
        if change == 0:
            del tensors[name]
        elif change == 1:
            tensors[name] = tensors[name].reshape(-1)[:-1] if tensors[name].size > 1 else np.zeros((2, 2))
        elif change == 2:
            tensors[name] = tensors[name].astype(rng.choice(("f2", "f8", "i8", "?", "u1")))
        elif change == 3:
            tensors[name] = np.full_like(tensors[name], rng.choice((0, 1, 127)))
        else:
            tensors[rng.choice(("new", "buffer/x", "engine/x", "engine/step"))] = np.zeros(rng.choice(((), (0,), (3,))))
    if rng.random() < 0.9 and isinstance(content, dict):
        if content.get("format") == checkpoint.FORMAT:
            content.pop("checksum", None)
            content["checksum"] = checkpoint._checksum(tensors, content)
        elif "crc32" in content:
            content["crc32"] = model_file.checksum(tensors, content)
    return to_safetensors(tensors, {"pyconv": json.dumps(content)})


_HEADERS = (
    "(True, 8)", "(12,", "(-1, 6, 6, 1)", "(12, 6, 6, 1, 1)", "(2**70,)", "(99999999999999999999, 2)", "()",
    "(0, 6, 6, 1)",
    "(12, 6.0, 6, 1)", "'a'", "[12, 6, 6, 1]", "(9223372036854775807,)", "((12,),)", "None", "(12, 6, 6, 1", "1" * 5000,
    "'\\U00110000'", "(4611686018427387904, 4)",
)  # fmt: skip
_DESCRIPTIONS = ("'|u1'", "'<f8'", "'>f4'", "'|O'", "'|b1'", "'<U9'", "'|V3'", "'<M8[s]'", "'f4,,'", "[('a', '<f4')]",
"3", "None",
                 "'<c8'", "'<f2'", "'>i8'", "'|S4'", "'" + "9" * 400 + "'", "(" * 200, "'\\ud800'")  # fmt: skip


def odd_npz(data: Path, rng: random.Random) -> bytes:
    """An archive with odd headers, odd arrays or odd bytes."""
    import io

    if rng.random() < 0.3:
        return odd_bytes(data.read_bytes(), rng)
    with zipfile.ZipFile(data) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    member = members[name]
    if rng.random() < 0.6:
        length = struct.unpack("<H", member[8:10])[0]
        header, rest = member[10 : 10 + length].decode("latin1"), member[10 + length :]
        if rng.random() < 0.5:
            start = header.index("(")
            header = header[:start] + rng.choice(_HEADERS) + header[header.index(")") + 1 :]
        elif rng.random() < 0.5:
            start = header.index("'descr': ") + 9
            header = header[:start] + rng.choice(_DESCRIPTIONS) + header[header.index(",", start) :]
        else:
            header = odd_bytes(header.encode("latin1"), rng).decode("latin1")
        encoded = header.encode("latin1")
        version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
        size = struct.pack("<H" if version[0] == 1 else "<I", len(encoded) & 0xFFFF)
        members[name] = member[:6] + version + size + encoded + rest
    elif rng.random() < 0.5:
        members[name] = odd_bytes(member, rng)
    else:
        kinds = ("f2", "f8", "i8", "?", "U3", "c8", ">f4", "M8[s]", "V2")
        made = np.zeros(
            rng.choice(((), (14,), (14, 6, 6), (14, 1), (0,), (14, 6, 6, 1), (3, 6, 6, 1))), rng.choice(kinds)
        )
        stream = io.BytesIO()
        np.save(stream, made)
        members[name] = stream.getvalue()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for member_name, content in members.items():
            archive.writestr(member_name, content)
    return written.getvalue()


def make_files(folder: Path) -> None:
    """Write the files that commands need, and small images in every other form that is read."""
    commands.make_files(folder)
    rng = np.random.default_rng(1)
    idx = folder / "idx"
    idx.mkdir(exist_ok=True)
    for part, count in (("train", 14), ("t10k", 4)):
        pixels = rng.integers(0, 256, (count, 6, 6)).astype(np.uint8)
        (idx / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 8, 3, count, 6, 6) + pixels.tobytes())
        (idx / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">HBBI", 0, 8, 1, count) + (np.arange(count) % 2).astype(np.uint8).tobytes()
        )
    names = ("train", "val", "test")
    arrays = {f"{name}_images": rng.integers(0, 256, (6, 6, 6)).astype(np.uint8) for name in names}
    np.savez(folder / "medmnist.npz", **arrays, **{f"{name}_labels": np.arange(6)[:, None] % 2 for name in names})
    onnx_files.make_files(folder)
    keras_files.make_files(folder)
    rows = "".join(f"{k % 7},{' '.join(['9'] * 2304)},{'Training' if k < 7 else 'PublicTest'}\n" for k in range(9))
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + rows)
    for name in ("a", "b"):
        (folder / "classes" / name).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            shutil.copy(folder / "image.png", folder / "classes" / name / f"{k}.png")
    CALIBRATION.save(folder / "calibration.json")


def _report(folder: Path) -> None:
    run = reporting.read_run(folder, evaluate=False)
    reporting.summary([run])


def _results(path: Path) -> None:
    reporting.experiment_sections(reporting.read_results([path]))


_FIT = costmodel.Fit(1e-9, 1e-9, 2e-9, "s/operation", 5)
CALIBRATION = costmodel.Calibration(
    {"serial": {"direct": _FIT}}, {"serial": {"direct": _FIT}}, *[_FIT] * 4, 2, {"serial": 0.0}
)
"""Of no machine."""

Change = Callable[[Path, random.Random], bytes]


def _of_bytes(change: Callable[[bytes, random.Random], bytes]) -> Change:
    return lambda path, rng: change(path.read_bytes(), rng)


def _onnx(path: Path, rng: random.Random) -> bytes:
    return onnx_files.odd_onnx(path, rng, odd_bytes)


def _keras(path: Path, rng: random.Random) -> bytes:
    return keras_files.odd_keras(path, rng, odd_content, odd_bytes)


def _forms(folder: Path) -> list[tuple[str, Change, Callable[[], Any], float]]:
    """For each file: how it is changed, what reads it, and how often it is chosen."""
    resume = ["--resume", "run", "--progress", "off", "--epochs"]
    load = datasets.load
    small = [Path("table1.json"), Path("prediction.json")]
    return [
        ("model.toml", _of_bytes(odd_toml), lambda: nn.from_toml("model.toml"), 6),
        ("data.npz", odd_npz, lambda: load("data.npz"), 8),
        ("run/model.safetensors", odd_safetensors, lambda: nn.load("run/model.safetensors"), 6),
        ("run/model.safetensors", odd_safetensors, lambda: commands.run(predict.main, ["run", "image.png"]), 2),
        ("run/checkpoint/last.safetensors", odd_safetensors, lambda: checkpoint.Checkpoint.load(
            "run/checkpoint/last.safetensors").build(), 6),
        ("run/checkpoint/last.safetensors", odd_safetensors, lambda: commands.run(train.main, [*resume, "1"]), 2),
        ("run/checkpoint/last.safetensors", odd_safetensors, lambda: commands.run(train.main, [*resume, "2"]), 0.5),
        ("run/config.toml", _of_bytes(odd_toml), lambda: read_config("run"), 6),
        ("run/config.toml", _of_bytes(odd_toml), lambda: commands.run(train.main, [*resume, "1"]), 3),
        ("run/config.toml", _of_bytes(odd_toml), lambda: _report(Path("run")), 3),
        ("run/config.toml", _of_bytes(odd_toml), lambda: commands.run(predict.main, ["run", "image.png"]), 2),
        ("run/metrics.jsonl", _of_bytes(odd_json), lambda: _report(Path("run")), 6),
        ("run/metrics.jsonl", _of_bytes(odd_json), lambda: commands.run(report.main, ["run", "--no-evaluate", "-o",
        "out"]), 0.1),
        *((str(path), _of_bytes(odd_json), lambda path=path: _results(path), 1) for path in small),
        ("table1.json", _of_bytes(odd_json), lambda: commands.run(report.main, ["table1.json", "-o", "out"]), 0.1),
        ("calibration.json", _of_bytes(odd_json), lambda: str(costmodel.Calibration.load("calibration.json")), 2),
        ("medmnist.npz", odd_npz, lambda: load("medmnist.npz"), 2),
        *(
            (f"{name}.onnx", _onnx, lambda name=name: nn.load(f"{name}.onnx"), 4 * onnx_files.THERE)
            for name in ("plain", "branches")
        ),
        *((name, _keras, lambda name=name: nn.load(name), 2 * keras_files.THERE) for name in keras_files.NAMES),
        ("idx/train-images-idx3-ubyte", _of_bytes(odd_bytes), lambda: load("idx"), 3),
        ("idx/t10k-labels-idx1-ubyte", _of_bytes(odd_bytes), lambda: load("idx"), 2),
        ("fer2013.csv", _of_bytes(odd_bytes), lambda: load("fer2013.csv"), 2),
        ("classes/b/1.png", _of_bytes(odd_bytes), lambda: load("classes"), 3),
        ("image.png", _of_bytes(odd_bytes), lambda: datasets.read_image("image.png", (4, 4, 1)), 2),
    ]  # fmt: skip


def maker(folder: Path) -> Callable[[int], Case]:
    """A function of a number that gives the case of that number."""
    make_files(folder)
    commands.be_quick()
    kept = Kept(folder)
    forms = _forms(folder)
    weights = [weight for *_, weight in forms]
    written = {name for name, *_ in forms if name.startswith("run/") or name == "table1.json"}  # readers write these

    def make(number: int) -> Case:
        rng = generator("files", number)
        name, change, read, _ = rng.choices(forms, weights)[0]
        data = change(folder / name, rng)

        def doit() -> None:
            commands.set_drawing(number)
            kept.changed(name)
            (folder / name).write_bytes(data)
            try:
                read()
            finally:
                if name in written:
                    kept.put_back()
                else:
                    kept.put_back_file(name)

        return Case(lambda: f"{name} as {ascii(data[:200])[:300]}", doit)

    return make

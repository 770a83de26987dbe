"""ONNX files: ONNX Runtime must compute what pyconv computes, layer by layer and for whole networks."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from pyconv import export, nn
from pyconv.errors import BackendUnavailable, CheckpointError, InputError
from pyconv.nn.onnx import DEFAULT_OPSET, to_bytes

NEWEST = onnx.defs.onnx_opset_version()
# The newest opset that the installed runtime reads may be older than the newest that the installed onnx writes.
OPSETS = [opset for opset in (7, 9, 11, 13, 17, 21, 22, 23) if opset <= NEWEST]

CHAINS = {
    "convolution": [nn.Conv2D(5, (3, 2), stride=(2, 1), padding=((0, 2), (1, 0)), activation="relu")],
    "groups and dilation": [nn.Conv2D(6, 3, padding="same", dilation=2, groups=2, bias=False), nn.ReLU()],
    "same, even kernel": [nn.Conv2D(4, 4, padding="same", stride=2)],
    "pools": [nn.MaxPool2D(3, stride=2, padding=1), nn.AvgPool2D((2, 3), padding="same")],
    "average beside the image": [nn.AvgPool2D(3, stride=1, padding=1)],
    "normalised images": [nn.BatchNorm(eps=1e-3), nn.Conv2D(3, 1)],
    "flattened": [nn.MaxPool2D(2), nn.Flatten()],
    "flattened, normalised": [nn.Flatten(), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Dense(5, bias=False)],
    "vectors": [nn.Flatten(), nn.Dense(7, activation="relu"), nn.Dense(3)],
    "one row left": [nn.MaxPool2D((11, 2)), nn.Flatten(), nn.Dense(3)],
    "one column left": [nn.MaxPool2D((2, 14)), nn.Flatten(), nn.Dense(3)],
    "separable": [nn.SeparableConv2D(6, 3, stride=2, padding="same", depth_multiplier=2, activation="relu")],
    "zeros around": [nn.ZeroPad2D(((1, 0), (2, 1))), nn.MaxPool2D(2), nn.GlobalAvgPool2D(), nn.Dense(3)],
    "activations": [nn.BatchNorm(), nn.LeakyReLU(0.2), nn.Clip(high=1.5), nn.Tanh(), nn.ReLU6(), nn.Sigmoid()],
    "nothing": [nn.Dropout(0.5)],
}


def randomised(model: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
    """The network with random parameters, statistics and normalisation."""
    model.flat[...] += rng.normal(0, 0.05, model.flat.shape)
    for statistics in model.buffers.values():
        statistics[...] = rng.uniform(0.5, 1.5, statistics.shape)
    channels = model.input_shape[-1]
    model.normalization = nn.Normalization(rng.uniform(90, 160, channels).tolist(), rng.uniform(40, 80, 1).tolist())
    return model


def by_runtime(content: bytes, x: np.ndarray, layout: str = "NCHW") -> np.ndarray:
    """What ONNX Runtime computes, in pyconv's order of axes."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = x.astype(np.float32)
    if layout == "NCHW" and x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    (y,) = session.run(None, {"images": x})
    return y.transpose(0, 2, 3, 1) if layout == "NCHW" and y.ndim == 4 else y


def assert_same(model: nn.Sequential, rng: np.random.Generator, **how) -> None:
    """The runtime's result is the network's, on fresh images, for two sizes of batch."""
    content = to_bytes(model, **how)
    for n in (1, 5):
        x = rng.integers(0, 256, (n, *model.input_shape)).astype(np.uint8)
        expected = model.forward(x)
        found = by_runtime(content, x, how.get("layout", "NCHW"))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(abs(expected).max())))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", CHAINS)
def test_the_runtime_computes_what_each_layer_does(name: str, layout: str, rng: np.random.Generator) -> None:
    model = randomised(nn.Sequential(CHAINS[name], (11, 14, 4), seed=3), rng)
    assert_same(model, rng, layout=layout)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_means_the_same(opset: int, rng: np.random.Generator) -> None:
    layers = [*CHAINS["convolution"], nn.ReLU6(), nn.ZeroPad2D(1), nn.Clip(0.1, 3), nn.Clip(low=0.2)]
    layers += [*CHAINS["pools"], *CHAINS["flattened, normalised"]]
    model = randomised(nn.Sequential(layers, (15, 13, 3)), rng)
    assert_same(model, rng, opset=opset)
    assert [each.version for each in onnx.load_from_string(to_bytes(model, opset=opset)).opset_import] == [opset]


SMALL = [name for name, recipe in nn.MODELS.items() if max(recipe.input_shape) < 100]  # the others take a gigabyte


@pytest.mark.covering("name", most=3)
@pytest.mark.parametrize("name", [*SMALL, "5-50-100-10"])
def test_named_models_give_the_same_classes(name: str, rng: np.random.Generator) -> None:
    model = randomised(nn.build(name, seed=1), rng)
    if name == "resnet18":  # eight sums in a row, with random statistics, lose digits in both libraries
        model.flat_buffers[:] = nn.build(name).flat_buffers
    assert_same(model, rng)
    x = rng.integers(0, 256, (16, *model.input_shape)).astype(np.uint8)
    logits, mine = by_runtime(to_bytes(model), x), np.sort(model.forward(x), axis=1)
    clear = mine[:, -1] - mine[:, -2] > 1e-4
    assert clear.any()
    np.testing.assert_array_equal(logits.argmax(axis=1)[clear], model.predict(x)[clear])


def test_float64_networks_are_written_in_float32(rng: np.random.Generator) -> None:
    model = randomised(nn.Sequential(CHAINS["vectors"], (5, 6, 2), dtype="float64"), rng)
    assert_same(model, rng)


def test_probabilities(rng: np.random.Generator) -> None:
    model = randomised(nn.Sequential(CHAINS["vectors"], (5, 6, 2)), rng)
    x = rng.integers(0, 256, (4, *model.input_shape)).astype(np.uint8)
    np.testing.assert_allclose(by_runtime(to_bytes(model, softmax=True), x), model.predict_proba(x), atol=1e-6)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    model = nn.build("5-4-8-3")
    model.classes = ["cat", "dog", "Käfer"]
    model.to_onnx(tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    assert content == to_bytes(model)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    found = onnx.load_from_string(content)
    onnx.checker.check_model(found, full_check=True)
    about = {entry.key: entry.value for entry in found.metadata_props}
    assert json.loads(about.pop("classes")) == model.classes
    assert about == {"layout": "NCHW"}
    assert [each.version for each in found.opset_import] == [DEFAULT_OPSET]
    assert found.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert not any(attribute.name == "auto_pad" for node in found.graph.node for attribute in node.attribute)


def test_bad_arguments_and_layers() -> None:
    class Swish(nn.ReLU):
        pass

    class Other(nn.Layer):
        def step(self, index, input_shape, following):
            return nn.Dropout(0.0).step(index, input_shape, following)

    model = nn.build("5-4-8-3")
    with pytest.raises(InputError, match="opset"):
        to_bytes(model, opset=6)
    with pytest.raises(InputError, match="opset"):
        to_bytes(model, opset=NEWEST + 1)
    with pytest.raises(InputError, match="layout"):
        to_bytes(model, layout="CHWN")
    for layer in (Swish(), Other()):  # a subclass may compute anything, so it is not written as its parent class
        with pytest.raises(InputError, match=f"layer 0.*{type(layer).__name__} has no form in ONNX; those that have: "):
            to_bytes(nn.Sequential([layer], (4, 4, 1)))


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        nn.build("5-4-8-3").to_onnx(tmp_path / "no" / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendUnavailable, match=r"pip install .*onnx"):
        to_bytes(nn.build("5-4-8-3"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.build("5-4-8-3")
    model.save(tmp_path / "m.safetensors")
    assert export.main([str(tmp_path / "m.safetensors"), str(tmp_path / "m.onnx"), "--softmax"]) == 0
    assert "takes images of float32, (N, 1, 28, 28)" in capsys.readouterr().out
    assert (tmp_path / "m.onnx").read_bytes() == to_bytes(model, softmax=True)
    model_file, onnx_file = str(tmp_path / "m.safetensors"), str(tmp_path / "m.onnx")
    for wrong in (
        [model_file, str(tmp_path / "m.bin")],
        [str(tmp_path / "none.safetensors"), onnx_file],
        [model_file, onnx_file, "--opset", "6"],
        [model_file, onnx_file, "--opset", "99999"],
    ):
        assert export.main(wrong) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("pyconv: error: ") and printed.err.count("\n") == 1


def test_what_is_seen_before_writing_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nn.build("5-4-8-3").save(tmp_path / "m.safetensors")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "old.onnx").write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))

    def exported(name: str) -> tuple[int, str]:
        status = export.main([str(tmp_path / "m.safetensors"), str(tmp_path / name)])
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith(f"pyconv: error: {tmp_path / name}: ")
        assert printed.err.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before
        return status, printed.err

    for name, words in (
        ("no/m.onnx", "the folder is not there"),
        ("folder.onnx", "there is a folder of this name"),
        ("old.onnx/m.onnx", "Not a directory"),
    ):
        status, printed = exported(name)
        assert status == 2 and words in printed
    for number in (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.ENOENT):

        def full(_: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        status, printed = exported("old.onnx")
        assert status == 1 and f"cannot be written: {os.strerror(number)}; make room there" in printed
    assert (tmp_path / "old.onnx").read_bytes() == b"old"


def test_a_file_that_grows_too_large(tmp_path: Path) -> None:
    nn.build("5-4-8-3").save(tmp_path / "m.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "pyconv.export", "m.safetensors", "m.onnx"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(nn.__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "pyconv: error: m.onnx: cannot be written: File too large; make room there, or give another place\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "onnx.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert capsys.readouterr().out.startswith("['class ")

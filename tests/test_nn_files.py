"""Networks as dicts, TOML and safetensors files, and what is wrong with bad ones."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pyconv import nn
from pyconv.errors import CheckpointError, InputError, UnknownNameError
from pyconv.nn import model_file

LAYERS = [
    nn.Conv2D(4, (3, 2), stride=(2, 1), padding=((1, 0), (0, 2)), dilation=2, groups=2, activation="relu", bias=False),
    nn.BatchNorm(eps=1e-3, momentum=0.2),
    nn.ReLU(),
    nn.MaxPool2D(2, stride=1, padding="same"),
    nn.AvgPool2D((1, 2)),
    nn.ZeroPad2D((1, 2)),
    nn.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
    nn.LeakyReLU(0.2),
    nn.Clip(high=0.5),
    nn.Sigmoid(),
    nn.Flatten(),
    nn.Dropout(0.25),
    nn.Dense(3, bias=False),
]


def model_of_all_layers(dtype="float32"):
    model = nn.Sequential(LAYERS, (9, 8, 2), seed=12, dtype=dtype)
    model.backend = "reference"
    return model


# ---- configurations -------------------------------------------------------------------------------


def test_config_round_trips_through_json():
    model = model_of_all_layers("float64")
    config = json.loads(json.dumps(model.config()))
    again = nn.from_config(config)
    assert again.layers == model.layers and again.config() == config
    assert again.seed == 12 and again.dtype == np.float64
    np.testing.assert_array_equal(again.flat, model.flat)


def test_config_round_trips_through_toml(tmp_path):
    tomli_w = pytest.importorskip("tomli_w")
    model = model_of_all_layers()
    path = tmp_path / "net.toml"
    path.write_text(tomli_w.dumps(model.config()))
    assert nn.from_toml(path).config() == model.config()
    assert nn.from_toml(path, seed=3).seed == 3


TOML = """
input_shape = [48, 48, 1]

[[layers]]
type = "Conv2D"
filters = 32
kernel_size = 5

[[layers]]
type = "Flatten"

[[layers]]
type = "Dense"
units = 7
"""


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("", "", None),
        ("filters", "filter", "layer 0 (Conv2D): unknown setting 'filter'; did you mean 'filters'"),
        ("filters = 32", "", "layer 0 (Conv2D): the setting 'filters' is missing"),
        ("filters = 32", 'filters = "32"', "layer 0 (Conv2D): filters must be an integer, not '32'"),
        ("kernel_size = 5", "kernel_size = 99", "layer 0 (Conv2D): the output would have no pixels"),
        ("Flatten", "Flattn", "unknown type of layer 1: 'Flattn'; did you mean 'Flatten'"),
        ('type = "Flatten"', "", "layer 1 has no type"),
        ("units = 7", "units = 0", "layer 2 (Dense): units must be at least 1"),
        ("input_shape = [48, 48, 1]", "", "the key 'input_shape' is missing"),
        ("[48, 48, 1]", "[48, 48]", "input_shape must be"),
        ("input_shape", "shape = 3\ninput_shape", "unknown key 'shape'; did you mean 'input_shape'"),
        ("input_shape", "seed = -4\ninput_shape", "seed must be at least 0"),
        ("input_shape", "layer_shape = [", "is not valid TOML"),
    ],
)
def test_toml_errors_name_file_layer_and_key(tmp_path, old, new, message):
    path = tmp_path / "net.toml"
    path.write_text(TOML.replace(old, new))
    if message is None:
        assert nn.from_toml(path).output_shape == (7,)
        return
    with pytest.raises(InputError) as caught:
        nn.from_toml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_toml_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        nn.from_toml(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        nn.from_toml(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"layers": 3, "input_shape": [3]},
        {"layers": ["Dense"], "input_shape": [3]},
        {"layers": [], "input_shape": [3]},
        {"layers": [{"type": ["Dense"]}], "input_shape": [3]},
        {"layers": [{"type": "Dense", "units": 2}]},
    ],
)
def test_impossible_configurations(config):
    with pytest.raises(InputError):
        nn.from_config(config)


# ---- named models ---------------------------------------------------------------------------------


def test_named_models():
    fer = nn.build("fer")
    convolutions = [
        (layer.kernel_size, shape[2], layer.filters, shape[0])
        for layer, shape in zip(fer.layers, fer._architecture.shapes)
        if isinstance(layer, nn.Conv2D)
    ]
    assert convolutions == [(5, 1, 32, 48), (3, 32, 64, 24), (3, 64, 128, 12), (3, 128, 128, 12), (3, 128, 256, 6)]
    assert fer.input_shape == (48, 48, 1) and fer.output_shape == (7,)
    assert not {type(layer) for layer in fer.layers} & {nn.BatchNorm, nn.Dropout}
    assert {type(layer) for layer in nn.build("fer-bn").layers} >= {nn.BatchNorm, nn.Dropout}
    paper = nn.build("5-50-100-10")
    assert paper.layers == (
        nn.Conv2D(50, 5, activation="relu"),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dense(100, activation="relu"),
        nn.Dense(10, scale=0.1),
    )
    assert paper.input_shape == (28, 28, 1)


@pytest.mark.covering("name", most=4)
@pytest.mark.parametrize("name", [*nn.MODELS, "3-8-10-5"])
def test_named_models_adapt_to_the_data(name):
    model = nn.build(name, input_shape=(20, 24, 3), classes=5, seed=8)
    assert model.input_shape == (20, 24, 3) and model.output_shape == (5,) and model.seed == 8


def test_unknown_and_impossible_models():
    with pytest.raises(UnknownNameError, match=r"did you mean 'fer'.*lenet.*5-50-100-10"):
        nn.build("fert")
    for name in ("5-50-100", "5-50-100-10-3", "a-b-c-d", "-5-50-100-10", ""):
        with pytest.raises(UnknownNameError, match="kernel-filters-hidden-classes"):
            nn.build(name)
    with pytest.raises(InputError, match="above 0"):
        nn.build("5-0-100-10")
    with pytest.raises(InputError, match="'5-4-8-9' has 9 classes, 7 are needed: write '5-4-8-7'"):
        nn.build("5-4-8-9", classes=7)
    with pytest.raises(InputError, match=r"parameters need [\d,.]+ GiB of memory, this machine has [\d,.]+ GiB"):
        nn.build("5-1000000000-100-7")
    with pytest.raises(InputError, match=r"layer 0 \(Conv2D\)"):
        nn.build("29-50-100-10")
    with pytest.raises(InputError, match=r"layer \d+ \(MaxPool2D\)"):
        nn.build("fer", input_shape=(8, 8, 1))


# ---- model files ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    model = model_of_all_layers()
    model.normalization = nn.Normalization([0.5, 1.5], [2.0, 3.0])
    model.classes = ["angry", "überrascht", "neutral"]
    x = np.random.default_rng(1).normal(size=(4, 9, 8, 2)).astype(np.float32)
    model.loss_and_gradient(x, [0, 1, 2, 0])  # with running statistics that are not the initial ones
    path = tmp_path / "m.safetensors"
    model.save(path)
    return model, x, path


def test_model_file_round_trip(saved):
    model, x, path = saved
    again = nn.load(str(path))
    assert again.config() == model.config() and again.classes == model.classes
    assert again.normalization == model.normalization
    np.testing.assert_array_equal(again.flat, model.flat)
    np.testing.assert_array_equal(again.flat_buffers, model.flat_buffers)
    again.backend = "reference"
    np.testing.assert_array_equal(again.forward(x), model.forward(x))
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["m.safetensors"]


def test_float64_model_keeps_its_precision(tmp_path):
    model = nn.build("lenet", dtype="float64", seed=3)
    model.save(tmp_path / "m")
    again = nn.load(tmp_path / "m")
    assert again.dtype == np.float64 and again.classes is None
    np.testing.assert_array_equal(again.flat, model.flat)


def test_every_truncation_is_one_line(saved, tmp_path):
    content = saved[2].read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError) as caught:
            nn.load(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_every_flipped_byte_is_found_or_harmless(saved, tmp_path):
    """A damaged file is refused, or gives the same model (a changed space in the header)."""
    model, _, path = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    other = tmp_path / "flipped.safetensors"
    for position in [*range(16), *rng.integers(0, len(content), 200)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        other.write_bytes(damaged)
        try:
            again = nn.load(other)
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(again.flat, model.flat)


def test_the_metadata_is_under_the_checksum(tmp_path):
    model = model_of_all_layers()
    rewrite(tmp_path / "m", {**model.parameters, **model.buffers}, sealed=True)
    nn.load(tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(content.replace(b'\\"std\\": [1.0]', b'\\"std\\": [2.0]'))
    assert (tmp_path / "m").read_bytes() != content
    with pytest.raises(CheckpointError, match="checksum"):
        nn.load(tmp_path / "m")


def rewrite(path, tensors, sealed=False, **changes):
    """Write a model file; `sealed` gives it the checksum that belongs to it."""
    about = {
        "format": "pyconv model",
        "version": 2,
        "config": model_of_all_layers().config(),
        "normalization": {"mean": [0.0], "std": [1.0]},
        "classes": None,
        "crc32": 0,
        **changes,
    }
    about = {key: value for key, value in about.items() if value != "drop"}
    if sealed:
        about["crc32"] = model_file.checksum(tensors, about)
    save_file(tensors, path, metadata={"pyconv": json.dumps(about)})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"version": 1}, "has format version 1, this pyconv reads version 2"),
        ({"version": "drop"}, "has format version None"),
        ({"format": "pyconv checkpoint"}, "is not a pyconv model, but a pyconv checkpoint"),
        ({"format": "drop"}, "is not a pyconv model"),
        ({"classes": "drop"}, "metadata holds"),
        ({"extra": 3}, "metadata holds"),
        ({"crc32": 0}, "checksum"),
        ({"normalization": None}, "has mean and std"),
        ({"normalization": {"mean": [10**400], "std": [1]}}, "a number that is too large"),
        ({"normalization": {"mean": [float("inf")], "std": [1]}}, "one finite number"),
        ({"normalization": {"mean": [0.0] * 5, "std": [1.0] * 5}}, "channels"),
        ({"config": {"layers": [], "input_shape": [3]}}, "does not describe a network"),
        ({"config": 5}, "does not describe a network"),
        (
            {"config": {"layers": [{"type": "Dense", "units": 10**12}], "input_shape": [10**6], "dtype": "float32"}},
            "0.weight has shape",
        ),
        ({"config": {**model_of_all_layers().config(), "dtype": "float64"}}, "needs"),
    ],
)
def test_metadata_that_is_wrong(tmp_path, changes, message):
    model = model_of_all_layers()
    path = tmp_path / "m.safetensors"
    rewrite(path, {**model.parameters, **model.buffers}, sealed="crc32" not in changes, **changes)
    with pytest.raises(CheckpointError, match=message):
        nn.load(path)


def test_tensors_of_another_network(tmp_path):
    model = model_of_all_layers()
    path = tmp_path / "m.safetensors"
    tensors = {**model.parameters, **model.buffers}
    rewrite(path, {**tensors, "9.weight": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"has no 9\.weight"):
        nn.load(path)
    rewrite(path, {**tensors, "1.gamma": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"1\.gamma has shape"):
        nn.load(path)
    del tensors["1.beta"]
    rewrite(path, tensors)
    with pytest.raises(CheckpointError, match=r"1\.beta is missing"):
        nn.load(path)


def test_files_that_are_no_models(tmp_path):
    cases = {"text": b"hello, this is not a model", "zip": b"PK\x03\x04" + bytes(100), "zeros": bytes(64)}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="is not a safetensors file"):
            nn.load(tmp_path / name)
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="but not a pyconv model"):
        nn.load(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="cannot be read"):
        nn.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="folder"):
        nn.load(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(saved, monkeypatch):
    model, _, path = saved
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="cannot be written"):
        model.save(path.parent / "no" / "such" / "folder")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        model.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_model_file_is_readable_by_others_as_any_file(saved):
    probe = Path(saved[2]).with_name("probe")
    probe.touch()
    assert stat.S_IMODE(saved[2].stat().st_mode) == stat.S_IMODE(probe.stat().st_mode)

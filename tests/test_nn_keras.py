"""Keras's own files as networks: they predict what Keras does, train, and hold nothing that is run."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused

from pyconv import export, nn, optim, predict, train
from pyconv.errors import CheckpointError

h5py = pytest.importorskip("h5py", reason="Keras's files need h5py: pip install '.[keras]'")

#: Keras itself has written the samples: see the scripts beside them.
FOLDER = Path(__file__).parent / "keras_samples"
SAMPLES = sorted([*FOLDER.glob("*.keras"), *FOLDER.glob("*.h5")])


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_predictions_are_keras_s(path: Path) -> None:
    model = nn.load(path)
    expected = np.load(path.with_suffix(".npz"))
    x = expected["x"].reshape(-1, *model.input_shape)
    softmax = np.allclose(expected["y"].sum(axis=1), 1)
    found = model.predict_proba(x) if softmax else model.forward(x)
    np.testing.assert_allclose(found, expected["y"], rtol=0, atol=1e-5 * max(1.0, float(abs(expected["y"]).max())))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_they_train(path: Path) -> None:
    model = nn.load(path)
    x = np.load(path.with_suffix(".npz"))["x"].reshape(-1, *model.input_shape)
    labels = np.arange(len(x)) % model.output_shape[0]
    optimizer = optim.Adam(1e-2)
    state = optimizer.init(model.flat.size)
    losses = []
    for step in range(1, 21):
        loss, gradient = model.loss_and_gradient(x, labels, step=step)
        optimizer.update(model.flat, gradient, state, step)
        losses.append(loss)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_conventions() -> None:
    """Keras's momentum is one minus pyconv's; its epsilon is larger; its padding "same" is the same."""
    model = nn.load(FOLDER / "branches.keras")
    norms = [layer for _, layer, _, _ in model.leaves() if isinstance(layer, nn.BatchNorm)]
    assert [(layer.eps, layer.momentum) for layer in norms] == [(1e-2, 0.1), (1e-3, 0.01)]
    assert model.normalization.channels == 2
    kinds = [type(layer).__name__ for layer in nn.load(FOLDER / "chain.keras").layers]
    assert kinds == ["Conv2D", "BatchNorm", "LeakyReLU", "SeparableConv2D", "ReLU", "MaxPool2D", "Conv2D", "ReLU6",
                     "AvgPool2D", "Conv2D", "LeakyReLU", "Flatten", "Dense", "Tanh", "Dropout", "Dense"]  # fmt: skip


@pytest.mark.parametrize("name", ["branches.keras", "chain.h5"])
def test_a_run_from_a_file_predicts_and_exports(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image = pytest.importorskip("PIL.Image")
    shape = nn.load(FOLDER / name).input_shape
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256 if name == "chain.h5" else 8, (60, *shape), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y)
    run = tmp_path / "run"
    flags = ["--data", str(tmp_path / "d.npz"), "--model", str(FOLDER / name), "--epochs", "1", "--progress", "off"]
    if name == "chain.h5":
        assert train.main([*flags, "--out", str(run)]) == 2
        assert "gives 4 classes, the data have 3: add --new-head" in capsys.readouterr().err and not run.exists()
        flags.append("--new-head")
    assert train.main([*flags, "--freeze", "body", "--out", str(run)]) == 0
    trained = nn.load(run / "model.safetensors")
    assert trained.output_shape == (3,)
    before = nn.load(FOLDER / name)
    np.testing.assert_array_equal(trained.parameters["0.weight"], before.parameters["0.weight"])
    assert trained.normalization == before.normalization
    if shape[2] == 1:
        Image.fromarray(x[0, ..., 0]).save(tmp_path / "one.png")
        assert predict.main([str(run), str(tmp_path / "one.png")]) == 0
        assert "one.png" in capsys.readouterr().out
    if pytest.importorskip("onnx"):
        assert export.main([str(run), str(tmp_path / "m.onnx")]) == 0
        again = nn.load(tmp_path / "m.onnx")
        np.testing.assert_allclose(again.forward(x[:3]), trained.forward(x[:3]), rtol=0, atol=1e-4)


# ---- what is refused ------------------------------------------------------------------------------


def changed(tmp_path: Path, change: Callable[[Any], None], name: str = "chain.keras") -> Path:
    """A sample with another configuration."""
    path = tmp_path / name
    with zipfile.ZipFile(FOLDER / name) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            content = source.read(member)
            if member == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            target.writestr(member, content)
    return path


def setting(kind: str, **settings: Any) -> Callable[[Any], None]:
    """Change the settings of the first layer of a class."""

    def change(config: Any) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == kind)
        layer["config"].update({key: value for key, value in settings.items() if key not in ("class_name", "module")})
        layer.update({key: value for key, value in settings.items() if key in ("class_name", "module")})

    return change


def outer(**entries: Any) -> Callable[[Any], None]:
    return lambda config: config.update(entries)


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "lambda": (setting("ReLU", class_name="Lambda"), "'re_lu' (Lambda): has no layer here, and no code"),
    "unknown": (setting("ReLU", class_name="Conv2DTranspose"), "'re_lu' (Conv2DTranspose): has no layer here"),
    "custom": (setting("ReLU", module="mine.layers"), "(ReLU): is a class of 'mine.layers', whose code is not run"),
    "function": (
        setting("Dense", activation={"class_name": "function", "config": "mine"}),
        "layer 'dense' (Dense): its activation {",
    ),
    "activation": (setting("Dense", activation="gelu"), "its activation 'gelu' has none here; those that have: linear"),
    "first": (setting("Conv2D", data_format="channels_first"), "'conv2d' (Conv2D): has the channels first"),
    "padding": (setting("Conv2D", padding="causal"), "its padding is 'causal'; it must be 'same' or 'valid'"),
    "shape": (setting("Conv2D", filters=5), "(Conv2D): its weights in the file are (3, 3, 1, 4); it needs weight"),
    "filters": (setting("Conv2D", filters="many"), "its filters is 'many'; it must be an integer"),
    "no filters": (setting("Conv2D", filters=0), "filters must be at least 1"),
    "huge": (setting("Conv2D", filters=1 << 40), "its weights in the file"),
    "kernel": (setting("Conv2D", kernel_size=[3, 3, 3]), "its kernel_size is [3, 3, 3]; it must be two integers"),
    "too large": (setting("Conv2D", kernel_size=[99, 3], padding="valid"), "'conv2d' (Conv2D): "),
    "axis": (setting("BatchNormalization", axis=1), "normalises along axis 1; it must be the last"),
    "epsilon": (setting("BatchNormalization", epsilon=float("nan")), "its epsilon is nan; it must be a number"),
    "momentum": (setting("BatchNormalization", momentum=1.5), "its momentum is 1.5"),
    "rate": (setting("Dropout", rate=1.0), "its rate is 1"),
    "threshold": (setting("ReLU", threshold=1.0), "has a threshold"),
    "scale": (setting("Rescaling", scale=[1.0, 2.0]), "its scale is [1.0, 2.0]; it must be one number"),
    "pads": (setting("ZeroPadding2D", padding=[[-1, 0], [0, 0]]), "it must be integers of at least 0"),
    "softmax": (setting("LeakyReLU", class_name="Softmax"), "takes the softmax of other values"),
    "early": (setting("Dense", activation="softmax"), "stands before other layers"),
    "subclass": (outer(class_name="MyModel"), "is a model of the class 'MyModel', whose code is not in the file"),
    "no layers": (outer(config={}), "lists no layers"),
    "nothing": (outer(config={"layers": []}), "has no layers"),
    "damaged": (outer(config={"layers": [3]}), "has no class_name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_layer_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, words = REFUSED[case]
    refused(lambda: nn.load(changed(tmp_path, change)), words)


def test_calls_that_are_no_chain(tmp_path: Path) -> None:
    def twice(config: Any) -> None:
        layer = config["config"]["layers"][2]
        layer["inbound_nodes"] *= 2

    def constant(config: Any) -> None:
        config["config"]["layers"][2]["inbound_nodes"][0]["args"].append(2.0)

    def outputs(config: Any) -> None:
        config["config"]["output_layers"] = [config["config"]["output_layers"]] * 2

    def later(config: Any) -> None:
        config["config"]["layers"].reverse()

    for change, words in (
        (twice, "is called 2 times with one set of weights"), (constant, "takes something else than results of layers"),
        (outputs, "1 inputs and 2 outputs"), (later, "which comes later or is not there"),
    ):  # fmt: skip
        refused(lambda change=change: nn.load(changed(tmp_path, change, "branches.keras")), words)


def test_open_sizes(tmp_path: Path) -> None:
    path = changed(tmp_path, setting("InputLayer", batch_shape=[None, None, None, 2]), "branches.keras")
    refused(lambda: nn.load(path), "input_shape=(height, width, channels)")
    assert nn.load(path, input_shape=(9, 8, 2)).input_shape == (9, 8, 2)
    refused(lambda: nn.load(path, input_shape=(9, 8, 1)), "not (9, 8, 1)")


def rezipped(path: Path, **members: bytes | None) -> Path:
    """The sample with other members in its archive."""
    with zipfile.ZipFile(FOLDER / "chain.keras") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        contents = {name: source.read(name) for name in source.namelist()} | {
            key.replace("_json", ".json").replace("_h5", ".weights.h5"): value for key, value in members.items()
        }
        for name, content in contents.items():
            if content is not None:
                target.writestr(name, content)
    return path


def test_archives_that_are_damaged_or_tricks(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    refused(lambda: nn.load(path), "cannot be read")
    refused(lambda: nn.load(tmp_path / "m.h5"), "cannot be read")
    for content in (
        b"",
        b"no zip at all",
        (FOLDER / "chain.keras").read_bytes()[:-400],
        (FOLDER / "chain.h5").read_bytes()[:900],
    ):
        path.write_bytes(content)
        refused(lambda: nn.load(path), "m.keras: is not a Keras")
    for members, words in (
        ({"model_h5": None}, "holds 0 files called model.weights.h5"),
        ({"config_json": b"{"}, "is not JSON"),
        ({"config_json": b"[1]"}, "describes no model"),
        ({"config_json": b'{"config": ' + b"[" * 200 + b"]" * 200 + b"}"}, "nested too deeply"),
        ({"config_json": b" " * 5_000_000}, "would unpack to 5000000 bytes"),
        ({"model_h5": b"\x89HDF no more"}, "is not a Keras file, or is damaged"),
    ):  # fmt: skip
        refused(lambda members=members: nn.load(rezipped(path, **members)), words)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("config.json", b"{}")
    refused(lambda: nn.load(path), "holds 2 files called config.json")


def weights_file(change: Callable[[Any], None]) -> bytes:
    """The sample's file of weights, changed."""
    with zipfile.ZipFile(FOLDER / "chain.keras") as archive:
        stream = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stream, "r+") as file:
        change(file)
    return stream.getvalue()


def test_weights_that_lie_elsewhere_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["0"] = np.zeros((3, 3, 1, 4), np.float32)
    (tmp_path / "secret.bin").write_bytes(bytes(144))
    place = "layers/conv2d/vars"

    def external_link(file: Any) -> None:
        del file[place]["0"]
        file[place]["0"] = h5py.ExternalLink(str(secret), "0")

    def soft_link(file: Any) -> None:
        del file[place]["0"]
        file[place]["0"] = h5py.SoftLink("/layers/dense/vars/0")

    def elsewhere(file: Any) -> None:
        del file[place]["0"]
        file[place].create_dataset(
            "0", (3, 3, 1, 4), np.float32, external=[(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        )

    def virtual(file: Any) -> None:
        del file[place]["0"]
        layout = h5py.VirtualLayout((3, 3, 1, 4), np.float32)
        layout[:] = h5py.VirtualSource(str(secret), "0", (3, 3, 1, 4))
        file[place].create_virtual_dataset("0", layout)

    def words(file: Any) -> None:
        del file[place]["0"]
        file[place]["0"] = np.full((3, 3, 1, 4), b"text", h5py.string_dtype())

    def enormous(file: Any) -> None:
        del file[place]["0"]
        file[place].create_dataset("0", (1 << 20, 1 << 20, 1 << 10), np.float32, chunks=(64, 64, 64))

    def missing(file: Any) -> None:
        del file["layers/conv2d"]

    path = tmp_path / "m.keras"
    for change, message in (
        (external_link, "is a link, which is not followed"), (soft_link, "is a link, which is not followed"),
        (elsewhere, "lie in another file: nothing there is read"), (virtual, "lie in another file"),
        (words, "no numbers"), (enormous, "its weights in the file are (1048576, 1048576, 1024)"),
        (missing, "its weights in the file are none"),
    ):  # fmt: skip
        refused(lambda change=change: nn.load(rezipped(path, model_h5=weights_file(change))), message)


def test_old_files_without_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(FOLDER / "chain.h5", path)
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    refused(lambda: nn.load(path), "holds weights without an architecture")
    shutil.copy(FOLDER / "chain.h5", path)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    refused(lambda: nn.load(path), "it has no model_weights")


def test_damaged_configurations(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whatever a setting is replaced by, the file is read or refused in one line."""
    strange = [None, -1, 0, 2, 1 << 40, 0.5, "x", "relu", [], [1, 2], {}, {"class_name": "x", "config": {}}, True]
    read = 0
    for _ in range(150):
        name = str(rng.choice(["chain.keras", "branches.keras", "nested.keras", "keras_2.keras"]))

        def change(config: Any) -> None:
            layers = config["config"]["layers"]
            layer = layers[rng.integers(len(layers))]
            part = layer["config"] if rng.random() < 0.7 else layer
            part[rng.choice(sorted(part))] = strange[rng.integers(len(strange))]

        try:
            nn.load(changed(tmp_path, change, name))
            read += 1
        except CheckpointError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
    assert 0 < read < 150

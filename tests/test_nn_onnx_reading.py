"""ONNX files that other libraries wrote, as networks: they predict what ONNX Runtime does, and train."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from PIL import Image
from test_nn_onnx import CHAINS, randomised

from pyconv import export, nn, optim, predict, train
from pyconv.errors import CheckpointError, InputError

#: The exporters themselves have written the samples: see the scripts beside them.
SAMPLES = sorted((Path(__file__).parent / "onnx_samples").glob("*.onnx"))
NEWEST = 22  # every supported runtime reads this one


def by_runtime(path: Path, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime's result for images in pyconv's order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    if len(given.shape) == 4 and list(given.shape[1:]) != list(x.shape[1:]):
        x = x.transpose(0, 3, 1, 2)
    if given.shape[0] == 1:
        return np.concatenate([session.run(None, {given.name: np.ascontiguousarray(one[None])})[0] for one in x])
    return session.run(None, {given.name: np.ascontiguousarray(x)})[0]


def images(model: nn.Sequential, rng: np.random.Generator, n: int) -> np.ndarray:
    """Images in the scale that the network's normalisation expects."""
    x = rng.normal(size=(n, *model.input_shape)) * model.normalization.std + model.normalization.mean
    return x.astype(np.float32)


def assert_same(path: Path, model: nn.Sequential, rng: np.random.Generator, softmax: bool = False) -> None:
    x = images(model, rng, 3)
    expected = by_runtime(path, x)
    found = model.predict_proba(x) if softmax else model.forward(x)
    if found.ndim == 4 and found.shape != expected.shape:
        found = found.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(abs(expected).max())))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_real_exporters(path: Path, rng: np.random.Generator) -> None:
    model = nn.load(path)
    assert_same(path, model, rng, softmax=("small" in path.stem and "keras" in path.stem) or "view" in path.stem)
    x, labels = images(model, rng, 8), np.arange(8) % model.output_shape[0]
    optimizer, state = optim.Adam(1e-2), optim.Adam(1e-2).init(model.flat.size)
    losses = []
    for step in range(1, 13):
        loss, gradient = model.loss_and_gradient(x, labels, step=step)
        optimizer.update(model.flat, gradient, state, step)
        losses.append(loss)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_own_files_come_back(layout: str, rng: np.random.Generator, tmp_path: Path) -> None:
    layers = [*CHAINS["convolution"], *CHAINS["pools"], *CHAINS["activations"], *CHAINS["flattened, normalised"]]
    layers.insert(1, nn.SeparableConv2D(6, 3, padding="same"))
    model = randomised(nn.Sequential(layers, (15, 13, 3)), rng)
    model.classes = list("abcde")
    for opset in (7, 10, 17):
        model.to_onnx(tmp_path / "m.onnx", layout=layout, opset=opset)
        again = nn.load(tmp_path / "m.onnx")
        x = rng.integers(0, 256, (4, *model.input_shape)).astype(np.uint8)
        np.testing.assert_allclose(again.forward(x), model.forward(x), rtol=0, atol=1e-5)
        np.testing.assert_allclose(again.normalization.mean, model.normalization.mean, rtol=1e-6)
        assert again.classes == model.classes


def file_of(
    tmp_path: Path, nodes: Sequence, constants: dict, shape: Sequence = (3, 9, 10), opset: int = 17, output: str = "y"
) -> Path:  # fmt: skip
    """The bytes of a model with these nodes, from x to y."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, ["n", *shape])],
        [tensor(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, *inputs: str, out: str = "y", name: str = "the node", **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, ["x", *inputs] if inputs[:1] != ("",) else inputs[1:], [out], name=name, **attributes)


WINDOWS = {
    "conv-same-lower": ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "conv-same-upper": ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv-valid": ("Conv", {"auto_pad": "VALID"}),
    "conv-dilated": ("Conv", {"dilations": [2, 3], "pads": [0, 2, 1, 3]}),
    "max-same-lower": ("MaxPool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "max-same-upper": ("MaxPool", {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "max-ceil": ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 4], "ceil_mode": 1, "pads": [1, 0, 0, 1]}),
    "max-ceil-last": ("MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    "average": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2]}),
    "average-counting": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2], "count_include_pad": 1},
    ),
    "average-ceil": ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 4], "ceil_mode": 1}),
    "max-valid-ceil": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 3], "auto_pad": "VALID", "ceil_mode": 1}),
    "average-valid-ceil": (
        "AveragePool",
        {"kernel_shape": [2, 3], "strides": [3, 2], "auto_pad": "VALID", "ceil_mode": 1},
    ),
    "reduce-max": ("ReduceMax", {"keepdims": 0}),
    "average-same-lower": ("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows(case: str, rng: np.random.Generator, tmp_path: Path) -> None:
    kind, attributes = WINDOWS[case]
    weights = {
        "Conv": {"w": rng.normal(size=(4, 3, 3, 2)).astype(np.float32)},
        "ReduceMax": {"axes": np.array([2, 3])},
    }.get(kind, {})
    path = file_of(tmp_path, [node(kind, *weights, **attributes)], weights, opset=NEWEST)
    assert_same(path, nn.load(path), rng)


def test_constants_scale_and_shift(rng: np.random.Generator, tmp_path: Path) -> None:
    numbers = {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for name, shape in {
            "a": (3, 1, 1), "b": (1,), "w": (4, 3, 3, 3), "c": (1, 4, 1, 1), "d": (4, 1, 1), "e": (), "v": (4, 6),
            "f": (6,), "g": (6,), "q": (7, 6), "r": (7,),
        }.items()
    }  # fmt: skip
    kinds = ["Sub a", "Div b", "Conv w", "Mul c", "Add d", "MaxPool", "Neg", "Mul e", "Sub d", "GlobalAveragePool"]
    kinds += ["Flatten", "MatMul v", "Add f", "Tanh", "Mul g", "Gemm q r"]
    nodes, value = [], "x"
    for number, text in enumerate(kinds):
        kind, *names = text.split()
        how = {"MaxPool": {"kernel_shape": [2, 2]}, "Gemm": {"transB": 1, "alpha": 0.5, "beta": 2.0}}.get(kind, {})
        out = "y" if number == len(kinds) - 1 else f"v{number}"
        nodes.append(helper.make_node(kind, [value, *names], [out], **how))
        value = out
    path = file_of(tmp_path, nodes, numbers)
    model = nn.load(path)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Conv2D", "MaxPool2D", "Conv2D", "GlobalAvgPool2D", "Dense", "Tanh", "Dense"]
    assert not model.normalization.identity
    assert_same(path, model, rng)


def test_branches(rng: np.random.Generator, tmp_path: Path) -> None:
    shapes = {
        "a": (4, 3, 3, 3),
        "b": (4, 4, 3, 3),
        "s": (4, 3, 1, 1),
        "c": (2, 4, 1, 1),
        "d": (3, 2, 3, 3),
        "q": (5, 5),
    }
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    steps = [
        ("Conv", "x a", "1", {"pads": [1] * 4}), ("Relu", "1", "2", {}), ("Conv", "2 b", "3", {"pads": [1] * 4}),
        ("Conv", "x s", "4", {}), ("Add", "3 4", "5", {}), ("Relu", "5", "6", {}),
        ("Conv", "6 c", "7", {}), ("Conv", "7 d", "8", {"pads": [1] * 4}), ("Conv", "7 c2", "9", {}),
        ("Concat", "8 9", "10", {"axis": 1}), ("Add", "10 10", "11", {}),
        ("GlobalAveragePool", "11", "12", {}), ("Flatten", "12", "13", {}), ("Gemm", "13 q", "y", {"transB": 1}),
    ]  # fmt: skip
    weights["c2"] = rng.normal(size=(2, 2, 1, 1)).astype(np.float32)
    nodes = [helper.make_node(kind, takes.split(), [out], name=out, **how) for kind, takes, out, how in steps]
    path = file_of(tmp_path, nodes, weights)
    model = nn.load(path)
    assert_same(path, model, rng)
    assert np.isfinite(model.loss_and_gradient(rng.normal(size=(2, 9, 10, 3)), [1, 2])[1]).all()


REFUSED = {
    "cropped": (
        [node("AveragePool", kernel_shape=[1, 1], strides=[3, 3], auto_pad="SAME_UPPER")],
        {},
        r"\(AveragePool\): leaves out pixels at the border",
    ),
    "by width": (
        [node("Mul", "m", out="m1"), helper.make_node("Conv", ["m1", "w"], ["y"], name="later")],
        {"m": np.arange(10, dtype=np.float32), "w": np.ones((4, 3, 3, 3), np.float32)},
        r"'the node' \(Mul\): its constant differs from pixel to pixel",
    ),
    "padded channels": (
        [node("Pad", "p", out="p1"), helper.make_node("Conv", ["p1", "w"], ["y"], name="later")],
        {"p": np.array([0, 1, 0, 0, 0, 1, 0, 0]), "w": np.ones((4, 5, 3, 3), np.float32)},
        r"'the node' \(Pad\): pads other axes",
    ),
    "unknown": ([node("HardSwish")], {}, r"node 'the node' \(HardSwish\): has no layer here; those that have: Add, "),
    "dilated pool": ([node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])], {}, r"\(MaxPool\): pools with dilation"),
    "transposed": (
        [node("ConvTranspose", "w")],
        {"w": np.ones((3, 4, 3, 3), np.float32)},
        r"'the node' \(ConvTranspose\)",
    ),
    "3-D": (
        [node("Conv", "w")],
        {"w": np.ones((3, 3, 3, 3, 3), np.float32)},
        "3 dimensions; only 2 can be read",
    ),
    "squared": ([node("Mul", "x")], {}, "multiplies two values that both depend on the images"),
    "mean image": (
        [node("Sub", "m")],
        {"m": np.arange(270, dtype=np.float32).reshape(3, 9, 10)},
        "differs from pixel to pixel",
    ),
    "channels": ([node("Conv", "w")], {"w": np.ones((4, 5, 3, 3), np.float32)}, r"'the node' \(Conv\): its weight has"),
    "custom": ([node("Thing", domain="com.example")], {}, "is an operator of 'com.example'"),
    "reflected": (
        [node("Pad", "p", mode="reflect")],
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        "pads with mode 'reflect'",
    ),
    "batch": ([node("Reshape", "s")], {"s": np.array([3, -1])}, "mixes the batch with other axes"),
    "huge": (
        [helper.make_node("ConstantOfShape", ["s"], ["c"], name="big"), node("Add", "c")],
        {"s": np.array([1 << 20, 1 << 20])},
        "'big' .*is too large",
    ),
    "missing": ([node("Add", "nowhere")], {}, "takes 'nowhere', which nothing makes"),
    "inner softmax": (
        [node("Flatten", out="f"), helper.make_node("Softmax", ["f"], ["s"], name="early"), node("Gemm", "w")],
        {"w": np.ones((270, 2), np.float32)},
        "takes vectors|stands before",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_layer_is_refused_by_name(case: str, tmp_path: Path) -> None:
    nodes, constants, message = REFUSED[case]
    path = file_of(tmp_path, nodes, constants)
    with pytest.raises(CheckpointError, match=message) as caught:
        nn.load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for content in (b"", b"no protobuf at all", SAMPLES[0].read_bytes()[:-300], SAMPLES[0].read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"m\.onnx: "):
            nn.load(path)
    with pytest.raises(CheckpointError, match=r"no such file|No such file"):
        nn.load(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="input_shape"):
        nn.load(tmp_path / "m.safetensors", input_shape=(3, 4, 1))


def test_damaged_nodes(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whatever a node lacks or holds, the file is read, or refused with a message."""
    path, read = tmp_path / "m.onnx", 0
    for _ in range(150):
        model = onnx.ModelProto()
        model.ParseFromString(SAMPLES[rng.integers(len(SAMPLES))].read_bytes())
        node = model.graph.node[rng.integers(len(model.graph.node))]
        what = rng.integers(5)
        if what == 0 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            attribute.type = int(rng.integers(0, 12))
        elif what == 1 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = int(rng.choice([-1, 0, 3, 1 << 40]))
            attribute.i = int(rng.choice([-1, 0, 2, 1 << 40]))
        elif what == 2 and node.input:
            del node.input[rng.integers(len(node.input))]
        elif what == 3:
            node.op_type = model.graph.node[rng.integers(len(model.graph.node))].op_type
        else:
            del node.output[:]
        path.write_bytes(model.SerializeToString())
        try:
            nn.load(path)
            read += 1
        except CheckpointError as error:
            assert "\n" not in str(error)
    assert read < 150


def test_tensors_beside_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    path = file_of(tmp_path, [node("Conv", "w")], {"w": weight})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.onnx"
    (tmp_path / "in" / "w.bin").write_bytes(weight.tobytes())
    (tmp_path / "secret.bin").write_bytes(weight.tobytes())
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location, message in {
        "w.bin": None,
        "../secret.bin": "outside the file's folder",
        str(tmp_path / "secret.bin"): "outside the file's folder",
        "link.bin": "outside the file's folder",
        "none.bin": "needs the file 'none.bin'",
        "": "outside",
    }.items():
        entry.value = location
        path.write_bytes(model.SerializeToString())
        if message is None:
            np.testing.assert_array_equal(nn.load(path).parameters["0.weight"], weight.transpose(2, 3, 1, 0))
        else:
            with pytest.raises(CheckpointError, match=re.escape(message)):
                nn.load(path)
    (tmp_path / "in" / "w.bin").write_bytes(weight.tobytes()[:-1])
    entry.value = "w.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="truncated"):
        nn.load(path)


def test_open_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    weights = {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    path = file_of(tmp_path, [node("Conv", "w")], weights, shape=(3, "h", "w"))
    with pytest.raises(CheckpointError, match="input_shape="):
        nn.load(path)
    model = nn.load(path, input_shape=(7, 8, 3))
    assert model.output_shape == (5, 6, 4)
    with pytest.raises(CheckpointError, match=r"takes examples of \?×\?×3 \(height × width × channels\), not 7×8×1"):
        nn.load(path, input_shape=(7, 8, 1))


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 9, 9), (1, "h", "w")])
def test_a_node_is_named_where_the_shape_is_given(shape: tuple, tmp_path: Path) -> None:
    path = file_of(tmp_path, [node("HardSwish")], {}, shape=shape)
    with pytest.raises(CheckpointError, match=r"'the node' .* has no layer here"):
        nn.load(path, input_shape=(9, 9, shape[0]))
    with pytest.raises(CheckpointError, match=f"not 9×9×{4 - shape[0]}"):
        nn.load(path, input_shape=(9, 9, 4 - shape[0]))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 11, 2), (9, 9, 4), (1, 64, 1), (3, 8, 3), (9, 1, 9), (9, 9, 1)])
def test_own_files_that_begin_with_vectors_keep_their_axes(
    layout: str, shape: tuple, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = randomised(nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=shape), rng)
    model.to_onnx(tmp_path / "m.onnx", layout=layout)
    again = nn.load(tmp_path / "m.onnx")
    assert again.input_shape == shape
    x = images(model, rng, 3)
    np.testing.assert_allclose(again.forward(x), model.forward(x), rtol=1e-5, atol=1e-5)


def test_training_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator) -> None:
    model = nn.build("5-4-8-7", input_shape=(48, 48, 1))
    model.to_onnx(tmp_path / "m.onnx")
    flags = [
        "--data",
        "faces",
        "--limit",
        "64",
        "--epochs",
        "1",
        "--progress",
        "off",
        "--workers",
        "1",
    ]
    out = tmp_path / "run"
    assert train.main([*flags, "--model", str(tmp_path / "m.onnx"), "--out", str(out)]) == 0
    trained = nn.load(out / "model.safetensors")
    assert trained.parameters["0.weight"].shape == model.parameters["0.weight"].shape
    face = rng.integers(0, 256, (48, 48), dtype=np.uint8)
    Image.fromarray(face).save(tmp_path / "face.png")
    capsys.readouterr()
    assert predict.main([str(out), str(tmp_path / "face.png")]) == 0
    assert "face.png" in capsys.readouterr().out
    assert export.main([str(out), str(tmp_path / "again.onnx")]) == 0
    x = face[None, :, :, None]
    found = by_runtime(tmp_path / "again.onnx", x.astype(np.float32))
    np.testing.assert_allclose(found, trained.forward(x), rtol=0, atol=1e-4)
    nn.build("5-4-8-3", input_shape=(48, 48, 1)).to_onnx(tmp_path / "m.onnx")
    capsys.readouterr()
    assert train.main([*flags, "--model", str(tmp_path / "m.onnx"), "--out", str(tmp_path / "other")]) == 2
    assert "m.onnx" in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("operator", "name", "kind"),
    [
        ("ConstantOfShape", "value", AttributeProto.STRING),
        ("Conv", "strides", AttributeProto.FLOATS),
        ("Conv", "group", AttributeProto.GRAPH),
        ("Concat", "axis", AttributeProto.UNDEFINED),
        ("BatchNormalization", "epsilon", AttributeProto.TENSOR),
    ],
)
def test_an_attribute_of_another_type(tmp_path: Path, operator: str, name: str, kind: int) -> None:
    """What ONNX's own description of the operator does not allow is refused before it is used."""
    for sample in SAMPLES:
        model = onnx.ModelProto()
        model.ParseFromString(sample.read_bytes())
        for each in model.graph.node:
            found = [attribute for attribute in each.attribute if each.op_type == operator and attribute.name == name]
            if found:
                found[0].type = kind
                path = tmp_path / "m.onnx"
                path.write_bytes(model.SerializeToString())
                with pytest.raises(CheckpointError, match=rf"{operator}\): is damaged: its '{name}' is of type "):
                    nn.load(path)
                return
    pytest.fail(f"no sample has {operator} with {name}")

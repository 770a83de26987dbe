"""Write the samples of Keras's exporter into a folder, with the backend that the variable KERAS_BACKEND names.

Run as `KERAS_BACKEND=tensorflow python make_keras.py FOLDER` with keras 3.15.1, tensorflow-cpu 2.21.0, tf2onnx 1.17.0,
and with KERAS_BACKEND=torch and torch 2.13.0, onnxscript 0.7.2. The tests read the files that lie beside this script,
so that they need none of these.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers as L

OUT = Path(sys.argv[1])
keras.utils.set_random_seed(0)

MODELS = {
    "small": [
        keras.Input((20, 18, 1)), L.Rescaling(1 / 127.5, offset=-1.0),
        L.Conv2D(4, 3, strides=2, padding="same", use_bias=False), L.BatchNormalization(),
        L.LeakyReLU(negative_slope=0.2), L.SeparableConv2D(6, 3, padding="same", activation="relu"),
        L.MaxPooling2D(3, strides=2, padding="same"), L.ZeroPadding2D(((0, 1), (1, 0))),
        L.DepthwiseConv2D(3, padding="valid"), L.ReLU(max_value=6), L.AveragePooling2D(2, padding="same"), L.Flatten(),
        L.Dense(8, activation="tanh"), L.Dropout(0.3), L.Dense(4, activation="softmax"),
    ],
    "gap": [
        keras.Input((14, 15, 3)), L.Conv2D(5, 3, activation="sigmoid"), L.BatchNormalization(scale=False),
        L.GlobalAveragePooling2D(), L.Dense(3),
    ],
}  # fmt: skip

x = start = keras.Input((13, 12, 2))
x = L.Conv2D(4, 3, padding="same", use_bias=False)(x)
x = L.ReLU()(L.BatchNormalization()(x))
y = L.BatchNormalization()(L.SeparableConv2D(6, 3, padding="same", use_bias=False)(x))
y = L.MaxPooling2D(3, strides=2, padding="same")(y)
x = L.add([y, L.Conv2D(6, 1, strides=2, padding="same")(x)])
x = L.concatenate([L.Conv2D(3, 3, padding="same", activation="relu")(x), L.Conv2D(2, 1)(x), x])
x = L.GlobalAveragePooling2D()(x)
models = {name: keras.Sequential(layers) for name, layers in MODELS.items()}
models["branches"] = keras.Model(start, L.Dense(3)(x))

for name, model in models.items():
    for weight in model.weights:
        if "moving" in weight.path:
            weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    model(np.zeros((1, *model.input_shape[1:]), "float32"))  # Keras refuses to export a model that was never called
    model.export(str(OUT / f"keras_{keras.backend.backend()}_{name}.onnx"), format="onnx", verbose=False)

"""Write the samples of Keras's own files into a folder, each with images and what Keras predicts for them.

Run as `KERAS_BACKEND=torch python make_keras.py FOLDER` with keras 3.15.1, torch 2.13.0 and h5py 3.16.0. The tests read
the files that lie beside this script, so that they need h5py alone.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers as L

OUT = Path(sys.argv[1])
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

chain = keras.Sequential([
    keras.Input((20, 18, 1)), L.RandomFlip("horizontal"), L.Rescaling(1 / 127.5, offset=-1.0),
    L.Conv2D(4, 3, strides=2, padding="same", use_bias=False), L.BatchNormalization(),
    L.LeakyReLU(negative_slope=0.2), L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="relu"),
    L.MaxPooling2D(3, strides=2, padding="same"), L.ZeroPadding2D(((0, 1), (1, 0))),
    L.DepthwiseConv2D(3, padding="valid", depth_multiplier=2), L.ReLU(max_value=6),
    L.AveragePooling2D(2, padding="same"), L.Conv2D(5, (1, 2), padding="same", activation="leaky_relu"), L.Flatten(),
    L.Dense(8, activation="tanh"), L.Dropout(0.3), L.Dense(4, activation="softmax"),
])  # fmt: skip

normalise = L.Normalization()
normalise.adapt(rng.normal(3, [1, 2], (50, 13, 12, 2)))
start = keras.Input((13, 12, 2))
x = L.Conv2D(4, 3, padding="same", dilation_rate=2, groups=2, use_bias=False)(normalise(start))
x = L.Activation("relu")(L.BatchNormalization(momentum=0.9, epsilon=1e-2)(x))
y = L.BatchNormalization(scale=False)(L.SeparableConv2D(6, 3, padding="same", use_bias=False)(x))
y = L.MaxPooling2D(3, strides=2, padding="same")(y)
x = L.add([y, L.Conv2D(6, 1, strides=2, padding="same")(x)])
x = L.concatenate([L.Conv2D(3, 3, padding="same", activation="relu")(x), L.Conv2D(2, 1, activation="sigmoid")(x), x])
x = L.Dense(7)(x)
branches = keras.Model(start, L.Softmax()(L.Dense(3, use_bias=False)(L.GlobalAveragePooling2D()(x))))

base = keras.Sequential(
    [L.Conv2D(3, 3, activation="relu6"), L.BatchNormalization(center=False), L.GlobalMaxPooling2D()]
)
start = keras.Input((8, 9, 3))
nested = keras.Model(start, L.Dense(2)(L.Dropout(0.2)(base(start, training=False))))

digits = keras.Sequential(
    [keras.Input((6, 5)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(7, activation="relu"), L.Dense(3)]
)

for name, model in {"chain": chain, "branches": branches, "nested": nested, "digits": digits}.items():
    for weight in model.weights:
        if "moving" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.rpartition("/")[2] in ("gamma", "beta", "bias"):
            weight.assign(rng.normal(1, 0.2, weight.shape))
    images = rng.uniform(0, 255 if name in ("chain", "digits") else 6, (4, *model.input_shape[1:])).astype("float32")
    result = np.asarray(model.predict(images, verbose=0))
    model.save(OUT / f"{name}.keras")
    if name != "nested":
        model.save(OUT / f"{name}.h5")
    np.savez_compressed(OUT / f"{name}.npz", x=images, y=result)

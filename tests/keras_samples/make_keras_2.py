"""Write a sample of Keras 2's files, as make_keras.py does of Keras 3's.

Run as `python make_keras_2.py FOLDER` with tf_keras 2.21.0, tensorflow 2.21.0 and h5py 3.16.0.
"""

import sys
from pathlib import Path

import numpy as np
import tf_keras as keras
from tf_keras import layers as L

OUT = Path(sys.argv[1])
keras.utils.set_random_seed(0)
rng = np.random.default_rng(1)

start = keras.Input((12, 11, 1))
x = L.Rescaling(1 / 255)(start)
x = L.Conv2D(4, 3, padding="same", use_bias=False)(x)
x = L.LeakyReLU(alpha=0.1)(L.BatchNormalization()(x))
y = L.BatchNormalization()(L.SeparableConv2D(6, 3, strides=2, padding="same", use_bias=False)(x))
x = L.add([y, L.Conv2D(6, 1, strides=2, padding="same")(x)])
x = L.concatenate([L.DepthwiseConv2D(3, padding="same", activation="relu")(x), x])
x = L.Dense(5, activation="relu")(L.Flatten()(L.AveragePooling2D(2, padding="same")(x)))
model = keras.Model(start, L.Dense(3, activation="softmax")(x))
for weight in model.weights:
    if "moving" in weight.name:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
images = rng.uniform(0, 255, (4, 12, 11, 1)).astype("float32")
result = model.predict(images, verbose=0)
model.save(OUT / "keras_2.h5")
model.save(OUT / "keras_2.keras")
np.savez_compressed(OUT / "keras_2.npz", x=images, y=result)

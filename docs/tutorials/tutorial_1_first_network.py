"""
Train your first network
========================

From images to a trained, saved, reusable model, in about a minute on two cores. You need NumPy arrays and nothing
else; the images here are the synthetic faces that pyconv draws itself, so that there is nothing to download.
"""

# %%
# Images and labels
# -----------------
#
# A data set has a training and a validation split. Images are ``(N, height, width, channels)``, labels are integers.
# The faces are 48×48 gray images of seven expressions. They are drawn by a program: **they are not FER2013**, but
# they have its size and its classes, so that what you learn here carries over.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import pyconv
from pyconv import datasets, nn, optim

data = datasets.load("faces", limit=3000, seed=0)
print(data.train.x.shape, data.train.x.dtype, data.classes)

fig, axes = plt.subplots(2, 7, figsize=(10, 3.2), layout="constrained")
for label, name in enumerate(data.classes):
    for row in range(2):
        index = np.flatnonzero(data.train.y == label)[row]
        axes[row, label].imshow(
            data.train.x[index, :, :, 0], cmap="gray", vmin=0, vmax=255
        )
        axes[row, label].axis("off")
    axes[0, label].set_title(name)
plt.show()

# %%
# A network
# ---------
#
# A network is a list of layers. All its parameters live in one flat vector, ``model.flat``; ``model.parameters``
# gives views into it by name. ``model.summary()`` shows each layer's output, parameters and floating-point
# operations.

model = nn.Sequential(
    [
        nn.Conv2D(16, 5, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(32, 3, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(64, 3, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dense(64, activation="relu"),
        nn.Dense(len(data.classes)),
    ],
    input_shape=data.train.x.shape[1:],
    seed=0,
)
print(model.summary())

# %%
# Training
# --------
#
# :func:`pyconv.fit` is Algorithm 1 of the paper: for each mini-batch, forward through the layers, backward through
# them, and a step against the gradient. The images are uint8; their mean and standard deviation are taken from the
# training split, and travel with the model from here on.

history = pyconv.fit(
    model,
    data.train.x,
    data.train.y,
    validation=(data.validation.x, data.validation.y),
    epochs=6,
    batch_size=32,
    optimizer=optim.Adam(2e-3),
    seed=0,
    progress="off",
)
for line in history:
    print(
        f"epoch {line['epoch']}: loss {line['train_loss']:.3f}, "
        f"validation accuracy {line['val_accuracy']:.1%}"
    )

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
epochs = [line["epoch"] for line in history]
left.plot(
    epochs, [line["train_loss"] for line in history], marker="o", label="training"
)
left.plot(
    epochs, [line["val_loss"] for line in history], marker="s", label="validation"
)
left.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
left.legend()
right.plot(
    epochs,
    [100 * line["val_accuracy"] for line in history],
    marker="s",
    color="tab:orange",
)
right.set(xlabel="epoch", ylabel="validation accuracy (%)", ylim=(0, 100))
plt.show()

# %%
# What it has learned
# -------------------
#
# ``predict`` gives classes, ``predict_proba`` probabilities. The confusion matrix shows which expressions are taken
# for which.

guesses = model.predict(data.validation.x)
confusion = np.zeros((len(data.classes), len(data.classes)), int)
np.add.at(confusion, (data.validation.y, guesses), 1)

fig, axis = plt.subplots(figsize=(5, 4.4), layout="constrained")
axis.imshow(confusion, cmap="Blues")
axis.set_xticks(range(len(data.classes)), data.classes, rotation=45, ha="right")
axis.set_yticks(range(len(data.classes)), data.classes)
axis.set(xlabel="predicted", ylabel="drawn as")
for (true, guess), count in np.ndenumerate(confusion):
    axis.text(
        guess,
        true,
        count,
        ha="center",
        va="center",
        color="white" if count > confusion.max() / 2 else "black",
    )
plt.show()

# %%
# Keep it
# -------
#
# A model file holds the layers, the parameters, the normalisation and the names of the classes. It is a safetensors
# file: no code is run when it is loaded.

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "faces.safetensors")
    again = nn.load(Path(folder) / "faces.safetensors")
print(np.array_equal(again.predict(data.validation.x), guesses))

# %%
# The same from the command line, with a run folder that can be continued after an interruption::
#
#     python -m pyconv.train --data faces --model fer --out runs/first
#     python -m pyconv.predict runs/first some-face.png

"""IDX: what is written is read, and each kind of damage is named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from data_files import FASHION, idx_bytes, images_of, labels_of, on_real_images, refused, write_idx
from hypothesis import given
from hypothesis import strategies as st

from pyconv import datasets
from pyconv.datasets.idx import FASHION_MNIST, read_idx
from pyconv.errors import DataError

PACKED = [pytest.param("", id="plain"), pytest.param(".gz", id="gzip")]


def write_set(folder: Path, rng: np.random.Generator, suffix: str = "", dot: str = "-", test: str = "t10k") -> dict:
    """Write four files; return their arrays."""
    folder.mkdir(exist_ok=True)
    arrays = {}
    for part, n in (("train", 40), (test, 15)):
        arrays[part] = images_of(rng, n, 9, 7), labels_of(rng, n, 4)
        write_idx(folder / f"{part}-images{dot}idx3-ubyte{suffix}", arrays[part][0])
        write_idx(folder / f"{part}-labels{dot}idx1-ubyte{suffix}", arrays[part][1])
    return arrays


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_reads_what_was_written(tmp_path: Path, rng: np.random.Generator, suffix: str, dot: str, test: str) -> None:
    arrays = write_set(tmp_path / "digits", rng, suffix, dot, test)
    data = datasets.load(tmp_path / "digits")
    assert data.name == "digits"
    assert data.classes == ["0", "1", "2", "3"]
    for split, (x, y) in ((data.train, arrays["train"]), (data.validation, arrays[test])):
        assert split.x.dtype == np.uint8
        assert split.y.dtype == np.int64
        assert split.x.flags.c_contiguous
        np.testing.assert_array_equal(split.x[..., 0], x)
        np.testing.assert_array_equal(split.y, y)
    assert data.image_shape == (9, 7, 1)


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**32), packed=st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, packed: bool) -> None:
    array = images_of(np.random.default_rng(seed), *shape)
    path = write_idx(tmp_path_factory.getbasetemp() / ("any.gz" if packed else "any"), array)
    np.testing.assert_array_equal(read_idx(path, (len(shape),)), array)


def test_colour_images_of_rank_four(tmp_path: Path, rng: np.random.Generator) -> None:
    x = images_of(rng, 12, 5, 6, 3)
    write_idx(tmp_path / "train-images-idx4-ubyte", x)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels_of(rng, 12, 2))
    data = datasets.load(tmp_path, validation_fraction=0.25)
    assert data.image_shape == (5, 6, 3)
    assert len(data.train.y) == 9


def test_a_packed_file_beside_its_unpacked_one_is_no_second_set(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = write_set(tmp_path, rng)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", arrays["train"][0])
    np.testing.assert_array_equal(datasets.load(tmp_path).train.x[..., 0], arrays["train"][0])


def test_two_sets_in_one_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("emnist-digits", "emnist-letters"):
        write_idx(tmp_path / f"{name}-train-images-idx3-ubyte", images_of(rng, 3, 4, 4))
    refused(tmp_path, "emnist-digits-train", "emnist-letters-train", "own folder", error=DataError)


@pytest.mark.parametrize("name", ["fashion-mnist", "Fashion_MNIST"])
def test_fashion_names_only_where_the_folder_says_so(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    for folder in (name, "clothes"):
        (tmp_path / folder).mkdir()
        write_idx(tmp_path / folder / "train-images-idx3-ubyte", images_of(rng, 40, 4, 4))
        write_idx(tmp_path / folder / "train-labels-idx1-ubyte", labels_of(rng, 40, 10))
    assert datasets.load(tmp_path / name).classes == FASHION_MNIST
    assert datasets.load(tmp_path / "clothes").classes == [str(i) for i in range(10)]


@pytest.mark.parametrize("suffix", PACKED)
class TestDamage:
    """A good folder in which one file is replaced."""

    @pytest.fixture
    def folder(self, tmp_path: Path, rng: np.random.Generator, suffix: str) -> Path:
        write_set(tmp_path / "set", rng, suffix)
        return tmp_path / "set"

    def write(self, folder: Path, suffix: str, data: bytes, name: str = "train-images-idx3-ubyte") -> Path:
        path = folder / (name + suffix)
        path.write_bytes(gzip.compress(data) if suffix else data)
        return path

    def test_truncated(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        data = idx_bytes(images_of(rng, 40, 9, 7))
        cut = int(rng.integers(1, 40 * 63))
        path = self.write(folder, suffix, data[:-cut])
        refused(folder, path, "truncated", 40 * 63, 40 * 63 - cut, error=DataError)

    @pytest.mark.parametrize("held", [0, 1, 3, 4, 9, 15])
    def test_truncated_header(self, folder: Path, suffix: str, rng: np.random.Generator, held: int) -> None:
        path = self.write(folder, suffix, idx_bytes(images_of(rng, 40, 9, 7))[:held])
        refused(folder, path, "truncated", error=DataError)

    def test_longer_than_stated(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        path = self.write(folder, suffix, idx_bytes(images_of(rng, 40, 9, 7)) + b"\0")
        refused(folder, path, "longer than", "(40, 9, 7)", error=DataError)

    @pytest.mark.parametrize("magic", [b"\x89PNG", b"PK\x03\x04", b"\0\0\x07\x03", b"emot"])
    def test_wrong_magic(self, folder: Path, suffix: str, magic: bytes) -> None:
        path = self.write(folder, suffix, magic + bytes(100))
        refused(folder, path, f"0x{magic.hex()}", "not an IDX file", error=DataError)

    def test_another_type(self, folder: Path, suffix: str) -> None:
        path = self.write(folder, suffix, b"\0\0\x0d\x03" + bytes(100))
        refused(folder, path, "float32", "unsigned bytes", error=DataError)

    def test_images_and_labels_swapped(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        path = self.write(folder, suffix, idx_bytes(labels_of(rng, 40, 4)))
        refused(folder, path, "1 dimensions", "swapped", error=DataError)

    def test_absurd_header_allocates_nothing(self, folder: Path, suffix: str) -> None:
        path = self.write(folder, suffix, b"\0\0\x08\x03" + b"\xff" * 12 + bytes(1000))
        refused(folder, path, "truncated", error=DataError)

    def test_no_images(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        path = self.write(folder, suffix, idx_bytes(np.empty((0, 9, 7))))
        self.write(folder, suffix, idx_bytes(np.empty(0)), "train-labels-idx1-ubyte")
        message = refused(folder, "empty", error=DataError)
        assert str(path.parent) in message

    def test_other_number_of_labels(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        self.write(folder, suffix, idx_bytes(labels_of(rng, 39, 4)), "train-labels-idx1-ubyte")
        refused(folder, "train-images", "40 images", "39 labels", error=DataError)

    def test_other_size_of_test_images(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        self.write(folder, suffix, idx_bytes(images_of(rng, 15, 8, 7)), "t10k-images-idx3-ubyte")
        refused(folder, folder, "(8, 7, 1)", "(9, 7, 1)", error=DataError)

    def test_label_that_training_does_not_know(self, folder: Path, suffix: str, rng: np.random.Generator) -> None:
        labels = labels_of(rng, 15, 4)
        labels[11] = 200
        self.write(folder, suffix, idx_bytes(labels), "t10k-labels-idx1-ubyte")
        refused(folder, folder, "label 200", "image 11", error=DataError)

    def test_one_class_only(self, folder: Path, suffix: str) -> None:
        self.write(folder, suffix, idx_bytes(np.full(40, 3)), "train-labels-idx1-ubyte")
        refused(folder, folder, "one class", "(3)", error=DataError)

    @pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"])
    def test_missing_file(self, folder: Path, suffix: str, name: str) -> None:
        (folder / (name + suffix)).unlink()
        refused(folder, folder, name, error=DataError)


def test_corrupt_gzip(tmp_path: Path, rng: np.random.Generator) -> None:
    write_set(tmp_path, rng, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, path, "truncated", error=DataError)
    path.write_bytes(b"no gzip at all")
    refused(tmp_path, path, "gzip", "corrupt", error=DataError)
    path.write_bytes(whole[:-8] + bytes(8))  # the checksum
    refused(tmp_path, path, "gzip", "corrupt", error=DataError)
    path.write_bytes(whole[:30] + bytes(40) + whole[70:])
    refused(tmp_path, path, "gzip", error=DataError)


def test_gzip_under_a_plain_name(tmp_path: Path, rng: np.random.Generator) -> None:
    write_set(tmp_path, rng)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    refused(tmp_path, path, ".gz", error=DataError)


@on_real_images
def test_real_fashion_mnist() -> None:
    data = datasets.load(FASHION)
    assert data.train.x.shape == (60_000, 28, 28, 1)
    assert data.validation.x.shape == (10_000, 28, 28, 1)
    assert data.classes == FASHION_MNIST
    assert np.bincount(data.train.y).tolist() == [6_000] * 10
    assert np.bincount(data.validation.y).tolist() == [1_000] * 10
    mean, std = datasets.normalization(data.train)
    assert mean[0] / 255 == pytest.approx(0.2860, abs=1e-4)  # the figures that everybody uses
    assert std[0] / 255 == pytest.approx(0.3530, abs=1e-4)
    some = datasets.load(FASHION, limit=1_000)
    assert np.bincount(some.train.y).tolist() == [100] * 10
    assert len(some.validation.y) == 10_000


def test_what_systems_and_archives_leave_beside_the_files(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = write_set(tmp_path, rng, dot=".")
    for name in ("train-images.idx3-ubyte", "t10k-labels.idx1-ubyte"):
        (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7")
        (tmp_path / name.replace(".", "-")).mkdir()  # Kaggle's archive has each file in a folder of its name too
        write_idx(tmp_path / name.replace(".", "-") / name.replace(".", "-"), images_of(rng, 3, 2, 2))
    (tmp_path / "__MACOSX").mkdir()
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.x[..., 0], arrays["train"][0])
    assert data.notes == ()


def test_files_in_folders_of_their_own_names(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = write_set(tmp_path, rng)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / "moving")
        path.mkdir()
        (tmp_path / "moving").rename(path / path.name)
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.x[..., 0], arrays["train"][0])
    np.testing.assert_array_equal(data.validation.y, arrays["t10k"][1])


def test_hidden_companions_alone_are_no_set(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"\0\5\x16\7")
    refused(tmp_path, "has no class folders", error=DataError)


def qmnist_labels(labels: np.ndarray, columns: int = 8, kind: int = 12) -> bytes:
    """QMNIST's form: a row of 32-bit integers for each label, the class first."""
    table = np.full((len(labels), columns), 7, ">i4")
    table[:, 0] = labels
    return struct.pack(">HBBII", 0, kind, 2, *table.shape) + table.tobytes()


@pytest.mark.parametrize("suffix", PACKED)
def test_qmnist_as_shipped(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    x, y = images_of(rng, 30, 5, 5), labels_of(rng, 30, 4)
    for part, n in (("train", 30), ("test", 20)):
        write_idx(tmp_path / f"qmnist-{part}-images-idx3-ubyte{suffix}", x[:n])
        data = qmnist_labels(y[:n])
        path = tmp_path / f"qmnist-{part}-labels-idx2-int{suffix}"
        path.write_bytes(gzip.compress(data) if suffix else data)
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.y, y)
    np.testing.assert_array_equal(data.validation.y, y[:20])
    assert data.train.y.dtype == np.int64
    assert [note.partition(": ")[2] for note in data.notes] == [
        "of QMNIST's eight columns the first, the digit, is the label"
    ] * 2
    path.write_bytes(gzip.compress(qmnist_labels(y[:20], columns=3)) if suffix else qmnist_labels(y[:20], columns=3))
    refused(tmp_path, path, "has 2 dimensions where 1 is expected", error=DataError)
    wrong = y[:20].copy()
    wrong[3] = -5
    path.write_bytes(gzip.compress(qmnist_labels(wrong)) if suffix else qmnist_labels(wrong))
    refused(tmp_path, "label -5 (image 3)", error=DataError)


def test_absurd_integers_name_no_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", images_of(rng, 30, 5, 5))
    labels = labels_of(rng, 30, 4)
    labels[0] = 2**31 - 1
    (tmp_path / "train-labels-idx2-int").write_bytes(qmnist_labels(labels))
    refused(tmp_path, "the label 2147483647, but only", error=DataError)


def test_emnist_is_turned_upright(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = images_of(rng, 52, 6, 5), np.arange(52) % 26 + 1
    write_idx(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz", x.transpose(0, 2, 1))
    write_idx(tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz", y)
    write_idx(tmp_path / "emnist-letters-test-images-idx3-ubyte.gz", x[:26].transpose(0, 2, 1))
    write_idx(tmp_path / "emnist-letters-test-labels-idx1-ubyte.gz", y[:26])
    data = datasets.load(tmp_path, first_label=1)
    np.testing.assert_array_equal(data.train.x[..., 0], x)
    assert data.train.x.flags.c_contiguous
    np.testing.assert_array_equal(data.train.y, y - 1)
    assert data.classes == [str(label) for label in range(1, 27)]
    assert [note.partition(": ")[2] for note in data.notes] == [
        "EMNIST's images are stored with rows and columns exchanged; they were turned upright"
    ] * 2
    as_it_is = datasets.load(tmp_path)
    assert len(as_it_is.classes) == 27
    hint = "if labels count from 1, add --first-label 1, or first_label=1 in Python"
    assert as_it_is.notes[2].endswith(f"1 of 27 classes have no training image: 0; {hint}")
    refused(tmp_path, "label 1 (image 0), but labels count from 2", first_label=2, error=DataError)

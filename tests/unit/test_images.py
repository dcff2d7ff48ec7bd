"""MNIST and CIFAR-10 from a folder: what is written comes back, and what is missing or damaged is said."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import struct

import numpy as np
import pytest

import agf_fast as agf
from agf_fast._data import DataError
from agf_fast._images import digits, load_images, look
from agf_fast.reproduce import Setup, descent
from agf_fast.reproduce._natural import natural


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist(count=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 5, 4), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def write_mnist(folder, style="train-images-idx3-ubyte", count=7):
    images, labels = mnist(count)
    packed = style.endswith(".gz")
    names = style, style.replace("images", "labels").replace("idx3", "idx1")
    for name, array in zip(names, (images, labels), strict=True):
        content = idx(array)
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return images, labels


def write_cifar(folder, kind, protocol=2, per_batch=3):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (5 * per_batch, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, 5 * per_batch)
    for k in range(5):
        here = slice(k * per_batch, (k + 1) * per_batch)
        if kind == "binary":
            records = np.concatenate([labels[here, None].astype(np.uint8), pixels[here]], axis=1)
            (folder / f"data_batch_{k + 1}.bin").write_bytes(records.tobytes())
        else:
            batch = {b"data": pixels[here], b"labels": labels[here].tolist(), b"batch_label": b"part", b"filenames": []}
            (folder / f"data_batch_{k + 1}").write_bytes(pickle.dumps(batch, protocol=protocol))
    return pixels, labels


def test_digits():
    images = digits()
    assert images.pixels.shape == (1797, 64) and images.shape == (1, 8, 8)
    assert images.pixels.min() == 0.0 and images.pixels.max() == 1.0
    np.testing.assert_allclose(images.one_hot().sum(axis=0), 0.0, atol=1e-10)
    assert len(images.first(10).pixels) == len(images.first(10).labels) == 10


@pytest.mark.parametrize("style", ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("sub", ["", "MNIST/raw"])
def test_mnist(tmp_path, style, sub):
    place = tmp_path / sub
    place.mkdir(parents=True, exist_ok=True)
    pixels, labels = write_mnist(place, style)
    images = load_images(str(tmp_path))
    assert look(str(tmp_path)) == images.name == "MNIST" and images.shape == (1, 5, 4)
    np.testing.assert_array_equal(images.pixels, pixels.reshape(7, 20) / 255.0)
    np.testing.assert_array_equal(images.labels, labels)


@pytest.mark.parametrize("kind, protocol", [("python", 0), ("python", 2), ("python", 4), ("binary", None)])
@pytest.mark.parametrize("sub", ["", "cifar"])
def test_cifar(tmp_path, kind, protocol, sub):
    place = tmp_path / {"": "", "cifar": f"cifar-10-batches-{'py' if kind == 'python' else 'bin'}"}[sub]
    place.mkdir(exist_ok=True)
    pixels, labels = write_cifar(place, kind, protocol)
    images = load_images(str(tmp_path))
    assert look(str(tmp_path)) == images.name == "CIFAR-10" and images.shape == (3, 32, 32)
    np.testing.assert_array_equal(images.pixels, pixels / 255.0)
    np.testing.assert_array_equal(images.labels, labels)
    np.testing.assert_allclose(images.grey().pixels[0, 0], pixels[0, [0, 1024, 2048]].mean() / 255.0)


def test_batches_of_python_2(tmp_path):
    """The archive's own pickles: protocol 2 of Python 2, whose byte strings are opcode U or T, not text."""
    pixels, labels = write_cifar(tmp_path, "python")
    for k in range(5):
        here = pixels[3 * k : 3 * k + 3]
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        array = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x03M\x00\x0c\x86"
            + dtype
            + b"\x89T"
            + struct.pack("<i", here.size)
            + here.tobytes()
            + b"tb"
        )
        numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels[3 * k : 3 * k + 3]) + b"e"
        stream = b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."
        (tmp_path / f"data_batch_{k + 1}").write_bytes(stream)
    images = load_images(str(tmp_path))
    np.testing.assert_array_equal(images.pixels, pixels / 255.0)
    np.testing.assert_array_equal(images.labels, labels)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Hostile(), b"labels": []}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 7), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["a", "b"]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]})[:-40],
        b"",
        b"not a pickle",
    ],
    ids=["code", "floats", "shape", "labels", "no labels", "list", "cut off", "empty", "text"],
)
def test_damaged_batches(tmp_path, content):
    """Each is refused by one line that names the file; the first would end the interpreter if it were unpickled."""
    write_cifar(tmp_path, "python")
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3: damaged.*cs\.toronto\.edu") as caught:
        load_images(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_no_damaged_batch_does_more_than_raise(tmp_path):
    """Every byte of the opcodes changed in turn: an image, or the error."""
    write_cifar(tmp_path, "python", per_batch=1)
    file = tmp_path / "data_batch_1"
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    places = [k for k in range(len(content)) if k < 200 or k > len(content) - 100]
    for place in places:
        file.write_bytes(content[:place] + bytes([rng.integers(256)]) + content[place + 1 :])
        with contextlib.suppress(DataError):
            load_images(str(tmp_path))


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: c + b"x", lambda c: c[:9], lambda c: b"", lambda c: b"\x08" + c]
)
def test_damaged_idx(tmp_path, change):
    write_mnist(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match="train-images-idx3-ubyte: damaged"):
        load_images(str(tmp_path))


def test_damaged_archives(tmp_path):
    write_mnist(tmp_path, "train-images-idx3-ubyte.gz")
    file = tmp_path / "train-images-idx3-ubyte.gz"
    for content in (file.read_bytes()[:-12], b"not gzip"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            load_images(str(tmp_path))


def test_binary_batch_of_the_wrong_length(tmp_path):
    write_cifar(tmp_path, "binary")
    file = tmp_path / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="multiple of 3073"):
        load_images(str(tmp_path))


def test_missing_files(tmp_path):
    """The message names the folder, the files looked for, and where the data can be had."""
    with pytest.raises(DataError, match="no such folder"):
        look(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*data_batch_1.*http") as caught:
        look(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="without train-labels-idx1-ubyte"):
        look(str(tmp_path))


def test_missing_batch(tmp_path):
    write_cifar(tmp_path, "binary")
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match="data_batch_4 missing"):
        load_images(str(tmp_path))


def test_labels_and_images_that_do_not_match(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="7 images and 3 labels"):
        load_images(str(tmp_path))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.full(7, 12, np.uint8)))
    with pytest.raises(DataError, match="labels go from 12"):
        load_images(str(tmp_path))


def test_images_without_pixels(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((7, 0, 4), np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(7, dtype=np.uint8)))
    with pytest.raises(DataError, match="at least one pixel"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("constant, told", [("labels", "one label"), ("images", "one image")])
def test_nothing_to_tell_apart(tmp_path, constant, told):
    images, labels = mnist(7)
    images, labels = (images, 0 * labels) if constant == "labels" else (0 * images, labels)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(DataError, match=told):
        natural(Setup(data=str(tmp_path)))


def test_descent_runs_past_the_first_drop_of_slower_data(tmp_path):
    """Whitened, E[x x'] is 1/d on the images' span: more pixels take longer."""
    small = digits()
    images = np.kron(small.pixels.reshape(-1, 8, 8), np.ones((3, 3))) * 255
    images += np.random.default_rng(0).integers(0, 20, images.shape) * (images > 0)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.minimum(images, 255).astype(np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(small.labels.astype(np.uint8)))
    system = descent._digits(Setup(data=str(tmp_path), small=True), 0)
    path = agf.alternating_gradient_flow(system.problem, system.start, max_jumps=1, active_time=1.0, rtol=1e-4)
    assert system.t_end > 3 * path.time[-1]

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rwkv_edge.data.pairs import load_dataset, read_pair
from rwkv_edge.data.slices import read_slice, read_volume
from rwkv_edge.errors import DataError, MissingDependencyError
from tests.data.volumes import volume, write_h5, write_npz


def test_a_slice(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    label = (np.arange(64 * 64).reshape(64, 64) % 4).astype(np.float32)  # TransUNet stores floats
    path = write_npz(tmp_path / "s.npz", grey, label, "image")
    image, truth = read_slice(path, 4)
    assert image.dtype == truth.dtype == np.uint8
    assert (image == image[:, :, :1]).all()
    assert (truth == label).all()
    # 256 levels: no value moves by more than half of one
    assert np.abs(image[:, :, 0] / 255 - grey).max() <= 0.5 / 255 + 1e-7


@pytest.mark.parametrize("suffix", ["npz", "npy.h5"])
def test_a_volume_in_either_form(tmp_path: Path, suffix: str) -> None:
    image, label = volume()
    path = tmp_path / f"case0001.{suffix}"
    if suffix == "npz":
        write_npz(path, image, label, "img")
    else:
        write_h5(path, image, label)
    grey, truth = read_volume(path, 4)
    assert grey.shape == truth.shape == (5, 64, 64)
    assert (truth == label).all()


def test_a_window(tmp_path: Path) -> None:
    """Raw Hounsfield units, or ACDC in -1..1: what becomes black and white is said, not guessed."""
    grey = np.full((16, 16), -1000, np.int16)
    grey[0, :4] = -125, 75, 275, 3000
    path = write_npz(tmp_path / "s.npz", grey, grey * 0, "image")
    image, _ = read_slice(path, 1, (-125, 275))
    assert image[0, :5, 0].tolist() == [0, 128, 255, 255, 0]
    write_npz(tmp_path / "bad.npz", flat(np.inf), flat(0), "image")
    with pytest.raises(DataError, match="values from inf to inf"):
        read_slice(tmp_path / "bad.npz", 1, (-125, 275))


def test_levels_of_a_yaml(tmp_path: Path) -> None:
    image, label = volume()
    write_npz(tmp_path / "slices/a.npz", image[0] * 2 - 1, label[0], "img")
    write_npz(tmp_path / "whole/a.npz", image * 2 - 1, label, "img")
    spec = tmp_path / "set.yaml"
    text = "val: slices\nvolumes: whole\nnames: [background, a, b, c]\n"
    spec.write_text(f"{text}levels: [-1, 1]\n")
    data = load_dataset(spec)
    pixels, _ = read_pair(data.pairs("val")[0], data.num_classes)
    assert np.abs(pixels[:, :, 0] / 255 - image[0]).max() < 0.003
    grey, _ = read_volume(data.volumes[0], data.num_classes, data.window)
    assert (grey[0] == pixels[:, :, 0]).all()
    for wrong in ("5", "[1]", "[1, 0]", "[a, b]", "[0, .nan]"):
        spec.write_text(f"{text}levels: {wrong}\n")
        with pytest.raises(DataError, match="'levels' must be two numbers"):
            load_dataset(spec)


def test_bytes_stay(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image, _ = read_slice(write_npz(tmp_path / "s.npz", grey, grey * 0, "image"), 1)
    assert (image[:, :, 0] == grey).all()


def flat(value: float, shape: tuple[int, ...] = (16, 16)) -> np.ndarray:
    return np.full(shape, value, np.float32)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (
            flat(-125),
            flat(0),
            r"values from -125 to -125 instead of 0 to 1; .* levels: \[LOW, HIGH\]",
        ),
        (flat(np.nan), flat(0), "values from nan to nan instead of 0 to 1"),
        (flat(0), flat(4), "labels from 4 to 4; whole numbers from 0 to 3 are needed for 4"),
        (flat(0), flat(0.5), "labels from 0.5 to 0.5; whole numbers"),
        (flat(0), flat(-1), "labels from -1 to -1; whole numbers"),
        (flat(0), flat(0, (16, 8)), r"image of shape \(16, 16\), but label of shape \(16, 8\)"),
        (flat(0, (2, 16, 16)), flat(0, (2, 16, 16)), "3 dimensions, but a slice has 2"),
        (flat(0, (4, 16)), flat(0, (4, 16)), r"shape \(4, 16\); at least 8 x 8 are needed"),
        (np.array([["a"] * 16] * 16), flat(0), "an image of type <U1; float32 in 0..1"),
    ],
)
def test_wrong_arrays(tmp_path: Path, image: np.ndarray, label: np.ndarray, message: str) -> None:
    path = write_npz(tmp_path / "s.npz", image, label, "image")
    with pytest.raises(DataError, match=f"s.npz: {message}"):
        read_slice(path, 4)


@pytest.mark.parametrize("name", ["s.npz", "s.h5"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"\x89HDF\r\n\x1a\n cut"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: not an (\.npz|HDF5) file, or damaged"):
        read_slice(path, 4)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=np.array([{}], object), label=flat(0))
    with pytest.raises(DataError, match=r"not an \.npz file, or damaged"):
        read_slice(tmp_path / "s.npz", 4)


def write_members(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def test_npz_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.save(tmp_path / "s.npy", flat(0))
    array = (tmp_path / "s.npy").rename(path).read_bytes()
    with pytest.raises(DataError, match=r"s\.npz: not an \.npz file, or damaged"):
        read_slice(path, 4)
    write_members(path, image=b"these are no pixels", label=array)
    with pytest.raises(DataError, match=r"s\.npz: 'image' in it is no array"):
        read_slice(path, 4)
    huge = array.replace(b"(16, 16), }".ljust(30), b"(9999999999, 9999999), }".ljust(30))
    assert len(huge) == len(array)
    assert huge != array
    write_members(path, **{"image.npy": huge, "label.npy": array})
    with pytest.raises(DataError, match=r"s\.npz: its arrays do not fit into memory"):
        read_slice(path, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.create_group("image"), "'image' in it is no array"),
        (lambda file: file.create_dataset("image", data="text"), "'image' in it is no array"),
        (lambda file: file.create_dataset("image", data=h5py.Empty("f")), "is no array"),
        (
            lambda file: file.__setitem__("image", h5py.ExternalLink("gone.h5", "x")),
            "not an HDF5 file, or damaged|no array 'image'",
        ),
        (
            lambda file: file.create_dataset("image", (10**8, 10**8), "f4"),
            "do not fit into memory",
        ),
    ],
)
def test_hdf5_of_something_else(tmp_path: Path, make: Any, message: str) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        make(file)
        file["label"] = flat(0)
    with pytest.raises(DataError, match=rf"s\.h5: .*({message})"):
        read_slice(tmp_path / "s.h5", 4)


def test_arrays_of_other_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["raw"] = flat(0)
    with pytest.raises(DataError, match=r"no array 'image' in it \(found: raw\)"):
        read_slice(tmp_path / "s.h5", 4)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_h5(tmp_path / "case.npy.h5", *volume())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rwkv-edge\[volumes\]'"):
        read_volume(path, 4)


def test_a_yaml_of_slices_and_volumes(tmp_path: Path) -> None:
    image, label = volume()
    for index in range(3):
        write_npz(tmp_path / f"set/slices/a{index}.npz", image[index], label[index], "image")
    write_npz(tmp_path / "set/whole/a.npz", image, label, "image")
    (tmp_path / "val.txt").write_text("a2\n")
    spec = tmp_path / "set.yaml"
    spec.write_text(
        "path: set/slices\ntrain: .\nval: val.txt\nvolumes: ../whole\nnames: [background, a, b, c]"
    )
    data = load_dataset(spec)
    assert [pair.name for pair in data.pairs("train")] == ["a0.npz", "a1.npz", "a2.npz"]
    assert [pair.name for pair in data.pairs("val")] == ["a2.npz"]
    assert [path.name for path in data.volumes] == ["a.npz"]
    _, truth = read_pair(data.pairs("val")[0], data.num_classes)
    assert (truth == label[2]).all()

    (tmp_path / "val.txt").write_text("a7\n")
    with pytest.raises(DataError, match=r"val.txt: 1 files are not in .*slices, as a7"):
        load_dataset(spec)
    spec.write_text("volumes: nowhere\n")
    with pytest.raises(DataError, match=r"no \.npz or \.h5 files in .*nowhere"):
        load_dataset(spec)

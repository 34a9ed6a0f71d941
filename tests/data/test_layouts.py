from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_edge.data.layouts import ACDC, SYNAPSE
from rwkv_edge.data.pairs import load_dataset
from rwkv_edge.data.split import groups_by_pattern, split_pairs, write_split
from rwkv_edge.errors import DataError
from tests.data.pictures import save_pair
from tests.data.volumes import write_acdc, write_acdc_h5, write_synapse


def names(pairs: list) -> list[str]:
    return [pair.name for pair in pairs]


def test_synapse(tmp_path: Path) -> None:
    data = load_dataset(write_synapse(tmp_path))
    assert data.names == SYNAPSE
    assert data.num_classes == 9
    assert names(data.pairs("train")) == [
        f"case000{case}_slice00{index}.npz" for case in (0, 1) for index in (0, 1)
    ]
    assert [path.name for path in data.volumes] == ["case0090.npy.h5", "case0091.npy.h5"]
    with pytest.raises(DataError, match=r"no 'val' split \(found: train\)"):
        data.pairs("val")


def test_synapse_without_lists_takes_every_file(tmp_path: Path) -> None:
    write_synapse(tmp_path)
    (tmp_path / "lists_Synapse").rename(tmp_path / "elsewhere")
    data = load_dataset(tmp_path)
    assert (len(data.pairs("train")), len(data.volumes)) == (6, 3)


def test_a_list_that_names_what_is_not_there(tmp_path: Path) -> None:
    write_synapse(tmp_path)
    (tmp_path / "test_vol_h5" / "case0091.npy.h5").unlink()
    with pytest.raises(DataError, match=r"test_vol.txt: 1 files are not in .*, as case0091"):
        load_dataset(tmp_path)


def test_a_list_of_names_with_spaces(tmp_path: Path) -> None:
    slices = write_synapse(tmp_path) / "train_npz"
    first = min(slices.iterdir())
    first.rename(slices / "case 1.npz")
    (tmp_path / "train.txt").write_text("case 1.npz\n\n")
    (tmp_path / "d.yaml").write_text("path: train_npz\ntrain: train.txt\nnames: [a, b]\n")
    assert names(load_dataset(tmp_path / "d.yaml").pairs("train")) == ["case 1.npz"]


def test_split_holds_out_whole_cases(tmp_path: Path) -> None:
    """`rwkv-edge split` on the folder of slices gives the validation cases that Synapse lacks."""
    slices = write_synapse(tmp_path) / "train_npz"
    pairs = load_dataset(slices).pairs("all")
    splits = split_pairs(pairs, [0.6, 0.4, 0.0], 0, groups_by_pattern(pairs, r"^(case\d+)"))
    target = tmp_path / "synapse.yaml"
    write_split(target, slices, splits, SYNAPSE)
    with target.open("a") as file:
        file.write("volumes: ../test_vol_h5\n")
    data = load_dataset(target)
    cases = [{name[:8] for name in names(data.pairs(split))} for split in ("train", "val")]
    assert cases[0]
    assert cases[1]
    assert not cases[0] & cases[1]
    assert (data.names, len(data.volumes)) == (SYNAPSE, 3)


def test_acdc_as_swin_unet_has_it(tmp_path: Path) -> None:
    data = load_dataset(write_acdc(tmp_path))
    assert data.names == ACDC
    assert names(data.pairs("train")) == ["case_001_sliceED_0.npz", "case_001_sliceED_1.npz"]
    assert names(data.pairs("val")) == ["case_001_sliceED_1.npz"]  # the list has one of the two
    assert [path.name for path in data.volumes] == ["case_002_volume_ED.npz"]


def test_acdc_as_rwkv_unet_reads_it(tmp_path: Path) -> None:
    data = load_dataset(write_acdc_h5(tmp_path))

    def patients(files: list[str]) -> list[int]:
        return [int(name[7:10]) for name in files]

    assert patients(names(data.pairs("train"))) == [31, 100]
    assert patients(names(data.pairs("val"))) == [21, 30]
    assert patients([path.name for path in data.volumes]) == [1, 20]


def test_an_array_beside_pictures_changes_nothing(tmp_path: Path) -> None:
    for place in (tmp_path / "train", tmp_path / "val"):
        save_pair(place, "a")
        (place / "cache.npz").write_bytes(b"anything")
    data = load_dataset(tmp_path)
    assert names(data.pairs("train")) == names(data.pairs("val")) == ["a.png"]
    assert not data.volumes


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "test_vol_h5").mkdir()
    with pytest.raises(DataError, match=r"no \.npz or \.h5 files in its folders"):
        load_dataset(tmp_path)

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.data.arrays import load_arrays
from rwkv_edge.data.pairs import Pair, find_pairs, load_dataset, raise_problems, read_pair
from rwkv_edge.errors import DataError, OutputError
from tests.data.pictures import disc, picture, save, save_pair


def refusal(path: Path) -> str:
    """The message of the error that loading raises."""
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    return str(caught.value)


def write_yaml(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "data.yaml"
    path.write_text(text)
    return path


class TestFolders:
    def test_one_folder_in_natural_order(self, tmp_path: Path) -> None:
        for stem in ("frame10", "frame9", "100", "20", "a"):
            save_pair(tmp_path, stem)
        data = load_dataset(tmp_path)
        assert list(data.splits) == ["all"]
        assert data.names == ("polyp",)
        stems = [pair.image.stem for pair in data.splits["all"]]
        assert stems == ["20", "100", "a", "frame9", "frame10"]

    @pytest.mark.parametrize("images", ["images", "Original"])
    @pytest.mark.parametrize("masks", ["masks", "Ground Truth"])
    def test_names_of_folders_and_mixed_suffixes(
        self, tmp_path: Path, images: str, masks: str
    ) -> None:
        save(tmp_path / images / "a.jpg", picture())
        save(tmp_path / masks / "a.png", disc())
        (pair,) = find_pairs(tmp_path)
        assert (pair.name, pair.mask.name) == ("a.jpg", "a.png")

    @pytest.mark.parametrize("val", ["val", "validation", "valid"])
    def test_folder_of_splits(self, tmp_path: Path, val: str) -> None:
        save_pair(tmp_path / "train", "a")
        save_pair(tmp_path / val, "b")
        data = load_dataset(tmp_path)
        assert {split: len(pairs) for split, pairs in data.splits.items()} == {"train": 1, "val": 1}
        assert data.first("test", "val") == "val"
        assert data.pairs("test", "val")[0].name == "b.png"
        with pytest.raises(DataError, match=r"no 'test' split \(found: train, val\)"):
            data.pairs("test")

    def test_hidden_and_foreign_files_do_not_count(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        (tmp_path / "images" / "._a.png").write_bytes(b"macOS")
        (tmp_path / "images" / "Thumbs.db").write_bytes(b"Windows")
        assert len(find_pairs(tmp_path)) == 1

    def test_no_such_data(self, tmp_path: Path) -> None:
        assert "no such data set" in refusal(tmp_path / "nothing")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert "found neither images/ with masks/ nor train/" in refusal(tmp_path)

    def test_no_images(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        assert "images: no images in it (.bmp, .jpeg, .jpg, .png" in refusal(tmp_path)

    def test_an_image_without_mask(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        save(tmp_path / "images" / "b.png", picture())
        assert refusal(tmp_path) == f"{tmp_path}/images/b.png: has no mask in {tmp_path}/masks"

    def test_all_problems_at_once_over_all_splits(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            save_pair(tmp_path / split, "a")
        save(tmp_path / "train" / "images" / "b.png", picture())
        save(tmp_path / "train" / "images" / "a.jpg", picture())
        save(tmp_path / "test" / "masks" / "c.png", disc())
        (tmp_path / "val").mkdir()
        first, *problems = refusal(tmp_path).splitlines()
        assert first == f"{tmp_path}: 4 problems"
        assert "train/images/a.png: has the stem of a.jpg" in problems[0]
        assert "train/images/b.png: has no mask" in problems[1]
        assert "val: needs a folder of images" in problems[2]
        assert "test/masks/c.png: has no image" in problems[3]

    def test_a_long_list_is_cut(self) -> None:
        with pytest.raises(DataError) as caught:
            raise_problems(Path("data"), [f"{number}.png: bad" for number in range(50)])
        lines = str(caught.value).splitlines()
        assert len(lines) == 22
        assert lines[-1] == "  and 30 more"


class TestYaml:
    def test_folders_below_path(self, tmp_path: Path) -> None:
        save_pair(tmp_path / "pictures" / "a", "1")
        save_pair(tmp_path / "pictures" / "b", "2")
        path = write_yaml(tmp_path, "path: pictures\ntrain: a\ntest: b\nval:\n")
        assert list(load_dataset(path).splits) == ["train", "test"]

    def test_lists_lie_beside_the_yaml(self, tmp_path: Path) -> None:
        for stem in "abc":
            save_pair(tmp_path / "read-only", stem)
        path = write_yaml(tmp_path / "here", "path: ../read-only\ntrain: tr.txt\nval: va.txt\n")
        (tmp_path / "here" / "tr.txt").write_text("c.png\n\na.png\n")
        (tmp_path / "here" / "va.txt").write_text("b.png")
        splits = load_dataset(path).splits
        assert [pair.name for pair in splits["train"]] == ["c.png", "a.png"]
        assert [pair.name for pair in splits["val"]] == ["b.png"]

    def test_problems_of_lists(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        path = write_yaml(tmp_path, "train: tr.txt\nval: va.txt\n")
        (tmp_path / "tr.txt").write_text("a.png\nb.png\n")
        _, missing_image, missing_list = refusal(path).splitlines()
        assert f"tr.txt: no image b.png in {tmp_path}" in missing_image
        assert "va.txt: cannot be read" in missing_list

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ("", ("polyp",)),
            ("names: [adenoma]", ("adenoma",)),
            ("names: [background, polyp]", ("polyp",)),
            ("names: [Background, polyp]", ("polyp",)),
            ("names: [BG, polyp, tool]", ("background", "polyp", "tool")),
            ("names: [polyp, tool]", ("background", "polyp", "tool")),
            ("names: {0: background, 1: polyp, 2: tool}", ("background", "polyp", "tool")),
        ],
    )
    def test_names(self, tmp_path: Path, names: str, expected: tuple[str, ...]) -> None:
        save_pair(tmp_path / "a", "1")
        data = load_dataset(write_yaml(tmp_path, f"train: a\n{names}\n"))
        assert data.names == expected
        assert data.num_classes == len(expected)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("train: [a\nval: {", "cannot be read as YAML"),
            ("\t- : :", "cannot be read as YAML"),
            ("\x00", "cannot be read as YAML"),
            ("just words", "needs at least one of the keys train, val, test"),
            ("", "needs at least one of the keys train, val, test"),
            ("names: [polyp]", "needs at least one of the keys train, val, test"),
            ("train: [a, b]", "'train' must be the name of a folder or file"),
            ("path: 3\ntrain: a", "'path' must be the name of a folder or file"),
            ("train: a\nnames: 3", "'names' must list the classes"),
            ("train: a\nnames: []", "'names' must list the classes"),
            ("train: a\nnames: [[x]]", "'names' must list the classes"),
            ("train: a\nnames: {1: polyp, x: tool}", "'names' must list the classes"),
            ("train: a\nnames: [tool, 'polyp, flat']", "'names' with a comma"),
            ("train: .", "needs a folder of images"),
            ("train: nowhere", "data.yaml: 'train' names {}/nowhere, and there is no such folder"),
            ("path: gone\ntrain: a.txt\nval: b.txt", "data.yaml: 'path' names {}/gone, and there"),
        ],
    )
    def test_nonsense(self, tmp_path: Path, text: str, message: str) -> None:
        refused = refusal(write_yaml(tmp_path, text))
        assert message.format(tmp_path) in refused
        assert "\n" not in refused

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "data.yaml").write_bytes(b"\xff\xd8\xff\xe0" * 9)
        assert "cannot be read as YAML" in refusal(tmp_path / "data.yaml")


class TestReadPair:
    def read(self, folder: Path, mask: np.ndarray, num_classes: int = 1) -> np.ndarray:
        save_pair(folder, "a", mask=mask)
        image, labels = read_pair(find_pairs(folder)[0], num_classes)
        np.testing.assert_array_equal(image, picture())
        return labels

    def test_binary_by_threshold(self, tmp_path: Path) -> None:
        mask = disc()
        mask[0, :4] = (126, 127, 128, 129)
        labels = self.read(tmp_path, mask)
        np.testing.assert_array_equal(labels[0, :4], [0, 0, 1, 1])
        np.testing.assert_array_equal(labels[1:], disc()[1:] // 255)

    def test_binary_of_zeros_and_ones(self, tmp_path: Path) -> None:
        np.testing.assert_array_equal(self.read(tmp_path, disc() // 255), disc() // 255)

    def test_binary_without_lesion(self, tmp_path: Path) -> None:
        assert not self.read(tmp_path, disc() * 0).any()

    def test_indices_in_a_binary_set_are_not_taken_for_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="values up to 3, but a binary mask has 0 and 255"):
            self.read(tmp_path, disc() // 85)

    def test_jpeg_noise_is_nothing(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "a.png", picture())
        save(tmp_path / "masks" / "a.jpg", disc() // 50)
        assert not read_pair(find_pairs(tmp_path)[0])[1].any()

    @pytest.mark.parametrize(("suffix", "quality"), [("jpg", 95), ("webp", 80)])
    @pytest.mark.parametrize("level", [20, 64, 100])
    def test_a_lossy_mask_below_the_threshold_is_not_taken_for_nothing(
        self, tmp_path: Path, suffix: str, quality: int, level: int
    ) -> None:
        option = cv2.IMWRITE_JPEG_QUALITY if suffix == "jpg" else cv2.IMWRITE_WEBP_QUALITY
        save(tmp_path / "images" / "a.png", picture())
        save(tmp_path / "masks" / f"a.{suffix}", disc() // 255 * np.uint8(level), option, quality)
        with pytest.raises(DataError, match=rf"a\.{suffix}: values up to \d+, but a binary mask"):
            read_pair(find_pairs(tmp_path)[0])

    def test_a_mask_in_a_dark_colour_is_not_taken_for_nothing(self, tmp_path: Path) -> None:
        red = np.zeros((48, 64, 3), np.uint8)
        red[:, :, 2] = disc() // 255 * np.uint8(64)
        with pytest.raises(DataError, match=r"a\.png: values up to 64, but a binary mask"):
            self.read(tmp_path, red)

    def test_classes(self, tmp_path: Path) -> None:
        mask = disc() // 255 * np.uint8(2)
        np.testing.assert_array_equal(self.read(tmp_path, mask, num_classes=3), mask)

    def test_class_index_out_of_range(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.png: class index 3, but there are 3 classes"):
            self.read(tmp_path, disc() // 85, num_classes=3)

    def test_classes_as_jpeg(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "a.png", picture())
        save(tmp_path / "masks" / "a.jpg", disc() // 255)
        with pytest.raises(DataError, match="JPEG and lossy WebP change class indices"):
            read_pair(find_pairs(tmp_path)[0], num_classes=3)

    @pytest.mark.parametrize("suffix", ["webp", "png"])
    def test_classes_by_what_the_file_is(self, tmp_path: Path, suffix: str) -> None:
        """Lossy WebP, also by a suffix that is not its own, is refused; lossless is not."""
        save(tmp_path / "images" / "a.png", picture())
        indices = disc() // 255
        path = save(tmp_path / "masks" / "a.webp", indices, cv2.IMWRITE_WEBP_QUALITY, 101)
        pair = Pair(tmp_path / "images" / "a.png", path.rename(path.with_suffix(f".{suffix}")))
        np.testing.assert_array_equal(read_pair(pair, num_classes=3)[1], indices)
        save(tmp_path / "a.webp", indices, cv2.IMWRITE_WEBP_QUALITY, 90).rename(pair.mask)
        with pytest.raises(DataError, match=rf"a\.{suffix}: JPEG and lossy WebP change class"):
            read_pair(pair, num_classes=3)

    def test_mask_of_another_size(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a", mask=disc(48, 63))
        with pytest.raises(DataError, match=r"a\.png: 63 x 48 pixels, but its image has 64 x 48"):
            read_pair(find_pairs(tmp_path)[0])


class TestArrays:
    def test_letterboxed(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        save_pair(tmp_path, "b", picture(64, 48), disc(64, 48))
        images, masks = load_arrays(find_pairs(tmp_path), 1, (32, 32))
        assert images.shape == (2, 32, 32, 3)
        assert masks.shape == (2, 32, 32)
        assert set(np.unique(masks)) == {0, 1}
        small = cv2.resize(picture(), (32, 24), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(images[0, 4:28], small)
        assert not images[0, :4].any()
        assert not images[1, :, :4].any()

    def test_all_bad_pairs_at_once(self, tmp_path: Path) -> None:
        for stem in "abcd":
            save_pair(tmp_path, stem)
        (tmp_path / "images" / "a.png").write_text("text")
        (tmp_path / "masks" / "c.png").write_bytes(b"")
        save(tmp_path / "masks" / "d.png", disc(9, 9))
        done = []
        with pytest.raises(DataError) as caught:
            load_arrays(find_pairs(tmp_path), 1, (32, 32), lambda: done.append(1))
        _, *problems = str(caught.value).splitlines()
        assert [line.split(":")[0][-5:] for line in problems] == ["a.png", "c.png", "d.png"]
        assert len(done) == 4


class TestMappedArrays:
    def test_as_in_memory_and_read_once(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        save_pair(tmp_path, "b", picture(64, 48), disc(64, 48))
        pairs, cache, done = find_pairs(tmp_path), tmp_path / "cache", []
        expected = load_arrays(pairs, 1, (32, 32))
        for _ in range(2):
            mapped = load_arrays(pairs, 1, (32, 32), lambda: done.append(1), cache)
            for ours, theirs in zip(mapped, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert len(done) == 2
        assert len(list(cache.iterdir())) == 1

    def test_a_changed_picture_is_read_again(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        pairs, cache = find_pairs(tmp_path), tmp_path / "cache"
        before, _ = load_arrays(pairs, 1, (32, 32), None, cache)
        save(pairs[0].image, 255 - picture())
        after, _ = load_arrays(pairs, 1, (32, 32), None, cache)
        assert not np.array_equal(before, after)

    def test_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_pair(tmp_path, "a")
        save_pair(tmp_path, "b")
        pairs, cache = find_pairs(tmp_path), tmp_path / "cache"
        pairs[1].image.write_text("text")
        with pytest.raises(DataError):
            load_arrays(pairs, 1, (32, 32), None, cache)
        assert list(cache.iterdir()) == []

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        with pytest.raises(OutputError, match="No space left"):
            load_arrays(pairs[:1], 1, (32, 32), None, cache)
        assert list(cache.iterdir()) == []

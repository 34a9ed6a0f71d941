from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.data.pairs import Pair, find_pairs, load_dataset
from rwkv_edge.data.split import groups_by_csv, groups_by_pattern, split_pairs, write_split
from rwkv_edge.errors import DataError, UsageError
from tests.data.pictures import save_pair


def some(count: int, name: str = "{}") -> list[Pair]:
    names = [name.format(index) for index in range(count)]
    return [Pair(Path("images", f"{n}.jpg"), Path("masks", f"{n}.png")) for n in names]


def sizes(splits: dict[str, list[Pair]]) -> dict[str, int]:
    return {name: len(pairs) for name, pairs in splits.items()}


class TestSplitPairs:
    @pytest.mark.parametrize(
        ("count", "fractions", "expected"),
        [
            (100, (0.8, 0.1, 0.1), {"train": 80, "val": 10, "test": 10}),
            (1000, (0.7, 0.3, 0), {"train": 700, "val": 300}),
            (10, (0, 0, 1), {"test": 10}),
            (20, (0.98, 0.01, 0.01), {"train": 18, "val": 1, "test": 1}),
            (3, (0.8, 0.1, 0.1), {"train": 1, "val": 1, "test": 1}),
        ],
    )
    def test_fractions(
        self, count: int, fractions: tuple[float, ...], expected: dict[str, int]
    ) -> None:
        pairs = some(count)
        splits = split_pairs(pairs, fractions)
        assert sizes(splits) == expected
        assert Counter(pair for part in splits.values() for pair in part) == Counter(pairs)

    def test_order_is_kept_inside_a_split(self) -> None:
        pairs = some(50)
        for part in split_pairs(pairs, (0.5, 0.25, 0.25)).values():
            assert part == sorted(part, key=pairs.index)

    def test_seeds(self) -> None:
        pairs = some(60)
        first = split_pairs(pairs, (0.5, 0.25, 0.25), seed=0)
        assert split_pairs(pairs, (0.5, 0.25, 0.25), seed=0) == first
        assert split_pairs(pairs, (0.5, 0.25, 0.25), seed=1) != first

    def test_is_the_same_everywhere(self) -> None:
        """Published splits must not change with versions of Python, NumPy or this code."""
        test = split_pairs(some(12), (0.5, 0.25, 0.25), seed=0)["test"]
        assert [pair.image.stem for pair in test] == ["4", "6", "10"]

    @pytest.mark.parametrize("seed", range(5))
    def test_no_group_crosses_and_fractions_nearly_hold(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        groups = [f"patient {index}" for index in range(40) for _ in range(rng.integers(1, 30))]
        splits = split_pairs(some(len(groups)), (0.7, 0.15, 0.15), seed, groups)
        home: dict[str, str] = {}
        for name, part in splits.items():
            for pair in part:
                assert home.setdefault(groups[int(pair.image.stem)], name) == name
        shares = [len(part) / len(groups) for part in splits.values()]
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.01)

    def test_large_groups_leave_one_for_every_split(self) -> None:
        groups = ["a"] * 90 + ["b"] * 5 + ["c"] * 5
        splits = split_pairs(some(100), (0.8, 0.1, 0.1), groups=groups)
        assert sizes(splits) == {"train": 90, "val": 5, "test": 5}

    def test_too_few_groups(self) -> None:
        with pytest.raises(DataError, match=r"2 groups cannot fill 3 splits \(train, val, test\)"):
            split_pairs(some(10), (0.8, 0.1, 0.1), groups=["a", "b"] * 5)
        assert len(split_pairs(some(10), (0.8, 0.2, 0), groups=["a", "b"] * 5)) == 2

    @pytest.mark.parametrize(
        "fractions",
        [(0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), ()],
    )
    def test_wrong_fractions(self, fractions: tuple[float, ...]) -> None:
        with pytest.raises(UsageError, match="which add up to 1"):
            split_pairs(some(10), fractions)


class TestNamesThatAreNotUtf8:
    def test_come_back(self, tmp_path: Path) -> None:
        """As unpacked by tools that do not know the archive's code page."""
        folder = tmp_path / os.fsdecode(b"kr\xe4nk")
        for name in (b"caf\xe9", b"plain", b"na\xefve"):
            save_pair(folder, os.fsdecode(name))
        splits = split_pairs(find_pairs(folder), (0.34, 0.33, 0.33))
        write_split(tmp_path / "a.yaml", folder, splits, ("polyp",))
        assert load_dataset(tmp_path / "a.yaml").splits == splits
        listed = b"".join(path.read_bytes() for path in tmp_path.glob("a-*.txt"))
        assert b"caf\xe9.png\n" in listed

    def test_a_listed_name_that_is_not_there(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a")
        (tmp_path / "a.yaml").write_text("train: list.txt\n")
        (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\n")
        with pytest.raises(DataError, match=r"list\.txt: no image caf.\.png in"):
            load_dataset(tmp_path / "a.yaml")


class TestOddNames:
    def test_blanks_and_separators_come_back(self, tmp_path: Path) -> None:
        for name in (" a", "a", "b\x0cc", "d\u2028e"):
            save_pair(tmp_path / "p", name)
        splits = split_pairs(find_pairs(tmp_path / "p"), (0.5, 0.25, 0.25))
        write_split(tmp_path / "a.yaml", tmp_path / "p", splits, ("polyp",))
        assert load_dataset(tmp_path / "a.yaml").splits == splits

    def test_a_line_break_is_refused_and_nothing_written(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"'a\\nb.jpg': rename it, without the line break"):
            write_split(tmp_path / "a.yaml", tmp_path, {"train": some(1, "a\nb")}, ("polyp",))
        assert not list(tmp_path.iterdir())


class TestPattern:
    def test_first_parentheses(self) -> None:
        pairs = some(3, "seq7_case{}_x")
        assert groups_by_pattern(pairs, r"^(seq\d+)_") == ["seq7"] * 3
        assert groups_by_pattern(pairs, r"case(\d+)_(x)") == ["0", "1", "2"]

    def test_images_that_do_not_match_are_listed(self) -> None:
        with pytest.raises(DataError) as caught:
            groups_by_pattern([*some(2), *some(2, "seq{}")], r"seq(\d+)")
        assert str(caught.value).count("finds no group in the name") == 2

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [("(seq", "is not a regular expression"), ("seq", "needs parentheses around the group")],
    )
    def test_wrong_patterns(self, pattern: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            groups_by_pattern(some(1), pattern)


class TestCsv:
    def test_by_name_or_stem(self, tmp_path: Path) -> None:
        table = tmp_path / "a.csv"
        table.write_text("group,age,image\nanna,50,0\nbert,60,1.jpg\nanna,50, 2.jpg\nx,1,other\n")
        assert groups_by_csv(some(3), table) == ["anna", "bert", "anna"]
        assert groups_by_csv(some(3, " {}"), table) == ["anna", "bert", "anna"]

    def test_as_excel_saves_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfimage,group\r\n0.jpg,1\r\n")
        assert groups_by_csv(some(1), tmp_path / "a.csv") == ["1"]

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        table = tmp_path / "a.csv"
        table.write_text("image,group\n0,a\n0,b\n1,a\n2,\n")
        with pytest.raises(DataError) as caught:
            groups_by_csv(some(4), table)
        _, *problems = str(caught.value).splitlines()
        assert "0.jpg: is in the groups a, b" in problems[0]
        assert "2.jpg: has no group" in problems[1]
        assert "3.jpg: has no group" in problems[2]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"name;group\n0;a\n", "needs the columns image and group"),
            (b"", "needs the columns image and group"),
            (b"\xff\xfe\x00", "cannot be read as CSV"),
        ],
    )
    def test_nonsense(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            groups_by_csv(some(1), tmp_path / "a.csv")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="No such file"):
            groups_by_csv(some(1), tmp_path / "a.csv")


class TestWriteSplit:
    @pytest.mark.parametrize("place", ["beside", "elsewhere"])
    def test_comes_back(self, tmp_path: Path, place: str) -> None:
        folder = tmp_path / "home" / "pictures"
        for index in range(6):
            save_pair(folder, f"{index}")
        splits = split_pairs(find_pairs(folder), (0.5, 0, 0.5))
        target = tmp_path / ("home" if place == "beside" else "other") / "cvc.yaml"
        write_split(target, folder, splits, ("polyp",))
        loaded = load_dataset(target)
        assert {name: [pair.name for pair in part] for name, part in loaded.splits.items()} == {
            name: [pair.name for pair in part] for name, part in splits.items()
        }
        assert loaded.names == ("polyp",)
        written = sorted(path.name for path in target.parent.glob("cvc*"))
        assert written == ["cvc-test.txt", "cvc-train.txt", "cvc.yaml"]
        stored = target.read_text().splitlines()[0]
        assert stored == ("path: pictures" if place == "beside" else f"path: {folder}")

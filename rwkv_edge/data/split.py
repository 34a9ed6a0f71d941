"""Dividing labelled images into train, val and test, so that no patient or sequence is in two."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from rwkv_edge.data.pairs import SPLIT_FOLDERS, Pair, raise_problems
from rwkv_edge.errors import DataError, UsageError
from rwkv_edge.files import atomic_path, write_text

SPLITS = tuple(SPLIT_FOLDERS)
ATTEMPTS = 100
"""Orders of the groups that are tried for the one that meets the fractions best."""


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise UsageError unless there are three fractions, none negative, that add up to 1."""
    good = len(fractions) == len(SPLITS) and all(fraction >= 0 for fraction in fractions)
    if not good or abs(sum(fractions) - 1) > 1e-6:
        given = ",".join(f"{fraction:g}" for fraction in fractions)
        raise UsageError(
            f"fractions {given}: give those of train, val and test, which add up to 1, "
            "for example 0.8,0.1,0.1"
        )


def groups_by_pattern(pairs: Sequence[Pair], pattern: str) -> list[str]:
    """Return each image's group: what the first parentheses match, anywhere in the file's stem.

    Raises:
        UsageError: not a regular expression, or without parentheses.
        DataError: lists every image that it does not match.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"'{pattern}' is not a regular expression: {error}") from error
    if not regex.groups:
        raise UsageError(f"'{pattern}' needs parentheses around the group, as in '^(seq\\d+)_'")
    matches = [regex.search(pair.image.stem) for pair in pairs]
    problems = [
        f"{pair.image}: '{pattern}' finds no group in the name"
        for pair, match in zip(pairs, matches, strict=True)
        if not (match and match[1])
    ]
    raise_problems(pairs[0].image.parent, problems)
    return [match[1] for match in matches if match]


def groups_by_csv(pairs: Sequence[Pair], file: Path) -> list[str]:
    """Return each image's group from a CSV with the columns `image` (name or stem) and `group`.

    Raises:
        DataError: unreadable, without those columns, or lists every image without one group.
    """
    found: dict[str, set[str]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"image", "group"} <= set(reader.fieldnames or ()):
                raise DataError(f"{file}: needs the columns image and group")
            for row in reader:
                if row["image"] and row["group"]:
                    found.setdefault(row["image"].strip(), set()).add(row["group"].strip())
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV ({error})") from error
    groups, problems = [], []
    for pair in pairs:
        own = found.get(pair.name.strip(), set()) | found.get(pair.image.stem.strip(), set())
        groups.append(min(own, default=""))
        if len(own) != 1:
            several = f"is in the groups {', '.join(sorted(own))}" if own else "has no group"
            problems.append(f"{pair.image}: {several} in {file}")
    raise_problems(file, problems)
    return groups


def split_pairs(
    pairs: Sequence[Pair],
    fractions: Sequence[float],
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, list[Pair]]:
    """Divide pairs at random, whole groups at a time; the same arguments give the same answer.

    Args:
        pairs: what to divide.
        fractions: shares of the images for train, val and test, which add up to 1. They are met as
            nearly as the groups allow.
        seed: of the order in which groups are dealt out.
        groups: of each pair; None makes each image a group of its own.

    Returns:
        The pairs of each split whose fraction is above 0, in the order given.

    Raises:
        UsageError: wrong fractions.
        DataError: fewer groups than splits.
    """
    check_fractions(fractions)
    labels = [pair.name for pair in pairs] if groups is None else list(groups)
    sizes = Counter(labels)
    targets = {
        split: fraction * len(pairs)
        for split, fraction in zip(SPLITS, fractions, strict=True)
        if fraction > 0
    }
    if len(sizes) < len(targets):
        raise DataError(
            f"{len(sizes)} groups cannot fill {len(targets)} splits ({', '.join(targets)}); "
            "give fewer non-zero fractions or smaller groups"
        )
    owner = _best_deal(sizes, targets, seed)
    return {
        split: [pair for pair, label in zip(pairs, labels, strict=True) if owner[label] == split]
        for split in targets
    }


def _best_deal(sizes: Counter[str], targets: dict[str, float], seed: int) -> dict[str, str]:
    """Return the split of each group: of several random orders, the one that fits best."""
    best: dict[str, str] = {}
    least = float("inf")
    for attempt in range(ATTEMPTS):
        owner, missing = _deal(_shuffled(sizes, f"{seed}/{attempt}"), sizes, targets)
        deviation = sum(abs(images) for images in missing.values())
        if deviation < least:
            best, least = owner, deviation
        if deviation < len(targets):  # less than one image a split
            break
    return best


def _shuffled(groups: Iterable[str], seed: str) -> list[str]:
    """Order by a hash, which no version of Python or NumPy changes."""

    def digest(group: str) -> bytes:
        # file names need not be UTF-8; Python holds their odd bytes as surrogates
        return hashlib.sha256(f"{seed}/{group}".encode(errors="surrogateescape")).digest()

    return sorted(groups, key=digest)


def _deal(
    order: list[str], sizes: Counter[str], targets: dict[str, float]
) -> tuple[dict[str, str], dict[str, float]]:
    """Give each group to the split that lacks the most images; the last ones to empty splits.

    Returns:
        The split of each group, and how many images each split lacks in the end.
    """
    missing = dict(targets)
    empty = set(targets)
    owner = {}
    for index, group in enumerate(order):
        must_fill = len(order) - index <= len(empty)
        open_splits = [split for split in targets if split in empty] if must_fill else targets
        split = max(open_splits, key=missing.__getitem__)
        owner[group] = split
        missing[split] -= sizes[group]
        empty.discard(split)
    return owner, missing


def list_path(target: Path, split: str) -> Path:
    """Return the file that `write_split` lists a split in."""
    return target.with_name(f"{target.stem}-{split}.txt")


def write_split(
    target: Path, folder: Path, splits: dict[str, list[Pair]], names: tuple[str, ...]
) -> None:
    """Write `target`, a YAML that `load_dataset` reads, and beside it one list for each split.

    Args:
        target: ends in .yaml or .yml.
        folder: of the pairs. Stored relative to the YAML if it lies below it, else absolute.
        splits: from `split_pairs`.
        names: the classes.

    Raises:
        DataError: an image's name has a line break in it, which a list cannot hold.
        OutputError: they cannot be written.
    """
    listed = [pair.name for pairs in splits.values() for pair in pairs]
    broken = [name for name in listed if set(name) & {"\n", "\r"}]
    raise_problems(folder, [f"{name!r}: rename it, without the line break" for name in broken])
    here, there = target.parent.resolve(), folder.resolve()
    below = there.is_relative_to(here)
    spec: dict[str, object] = {"path": os.path.relpath(there, here) if below else str(there)}
    for split, pairs in splits.items():
        listing = list_path(target, split)
        with atomic_path(listing) as temporary:
            lines = "".join(f"{pair.name}\n" for pair in pairs)
            temporary.write_text(lines, encoding="utf-8", errors="surrogateescape")
        spec[split] = listing.name
    spec["names"] = list(names)
    write_text(target, yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))

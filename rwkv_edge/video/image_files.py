"""Still images as a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rwkv_edge.data.reading import read_image
from rwkv_edge.errors import DataError, SourceError
from rwkv_edge.video.base import Frame, Source


class ImageFiles(Source):
    """Still images. In a series unreadable ones are reported and left out."""

    kind = "images"

    def __init__(self, paths: Sequence[Path], vid_stride: int = 1) -> None:
        """Keep the paths; read the first if it is the only one.

        Raises:
            SourceError: there is one image, and it cannot be read.
        """
        super().__init__()
        self.files = paths[::vid_stride]
        self.count = len(self.files)
        self._stride = vid_stride
        if len(paths) == 1:  # nothing else to go on with, so refuse it before any work
            try:
                read_image(paths[0])
            except DataError as error:
                raise SourceError(str(error)) from error

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            SourceError: there was none.
        """
        names = unique_names(self.files)
        for number, (path, name) in enumerate(zip(self.files, names, strict=True)):
            try:
                image = read_image(path)
            except DataError as error:
                self.problems.append(str(error))
                continue
            yield Frame(number * self._stride, 0.0, image, name)
        count = len(self.files)
        if len(self.problems) == count:
            raise SourceError(f"none of {count} images can be read; the first: {self.problems[0]}")
        if self.problems:
            read = count - len(self.problems)
            self.problems.append(f"{read} of {count} images could be read")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems; where files share one, the second becomes `stem-2`, and so on."""
    names: list[str] = []
    uses: Counter[str] = Counter()
    for path in paths:
        name = path.stem
        while uses[name]:
            uses[path.stem] += 1
            name = f"{path.stem}-{uses[path.stem]}"
        uses[name] = 1
        names.append(name)
    return names

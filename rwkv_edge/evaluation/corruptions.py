"""Twenty things that happen to endoscopic video, each at five strengths.

Strength 1 is a nuisance, 3 what a bad examination shows, 5 the most that anybody would still look
at. Lengths are shares of the image's shorter side, so that a strength means the same at any size.
All chance comes from the generator that is handed in. What moves pixels moves the mask along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np

from rwkv_edge.drawing import put_text
from rwkv_edge.errors import UsageError
from rwkv_edge.preprocess import FloatArray, UInt8Array

STRENGTHS = (1, 2, 3, 4, 5)
_BLACK = 20
"""What is around the field of view is not brighter than this."""
Rng = np.random.Generator
Pictures = tuple[UInt8Array, UInt8Array]
"""(h, w, 3) uint8 BGR and (h, w) uint8 labels."""
Corruption = Callable[[UInt8Array, UInt8Array, int, Rng], Pictures]
_T = TypeVar("_T")


def corrupt(name: str, image: UInt8Array, mask: UInt8Array, strength: int, rng: Rng) -> Pictures:
    """Return a corrupted copy of an image and the mask that belongs to it.

    Args:
        name: one of `CORRUPTIONS`.
        image: (h, w, 3) uint8 BGR.
        mask: (h, w) uint8 class labels.
        strength: 1 to 5.
        rng: where chance comes from.

    Raises:
        UsageError: no such corruption or strength.
    """
    if name not in CORRUPTIONS:
        raise UsageError(f"no corruption '{name}'; choose among {', '.join(CORRUPTIONS)}")
    if strength not in STRENGTHS:
        raise UsageError(f"strength {strength}: it goes from 1 to 5")
    return CORRUPTIONS[name](image, mask, strength, rng)


def _at(strength: int, *values: _T) -> _T:
    return values[strength - 1]


def _side(image: UInt8Array) -> int:
    shorter: int = min(image.shape[:2])
    return shorter


def _sign(rng: Rng) -> int:
    return 1 if rng.random() < 0.5 else -1


def _bytes(x: FloatArray) -> UInt8Array:
    return np.rint(x).clip(0, 255).astype(np.uint8)


def _photometric(change: Callable[[UInt8Array, int, Rng], UInt8Array]) -> Corruption:
    """Wrap what leaves every pixel in its place."""
    return lambda image, mask, strength, rng: (change(image, strength, rng), mask)


def _exposure(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Too bright or too dark by so many stops."""
    stops = _at(strength, 0.4, 0.8, 1.2, 1.6, 2.0) * _sign(rng)
    return _bytes(image.astype(np.float32) * np.float32(2**stops))


def _white_balance(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Red against blue."""
    shift = _at(strength, 0.1, 0.2, 0.3, 0.42, 0.55) * _sign(rng)
    return _bytes(image.astype(np.float32) * np.array([1 - shift, 1, 1 + shift], np.float32))


def _hue(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """All colours turned, as between makers of processors, and further."""
    degrees = _at(strength, 6, 12, 20, 30, 45) * _sign(rng)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + degrees // 2) % 180  # OpenCV counts in steps of two degrees
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR).astype(np.uint8, copy=False)


def _gamma(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Another tone curve; black and white stay."""
    power = _at(strength, 1.2, 1.45, 1.8, 2.2, 2.8) ** _sign(rng)
    table = _bytes(255 * (np.arange(256, dtype=np.float32) / 255) ** np.float32(power))
    return cv2.LUT(image, table).astype(np.uint8, copy=False)


def _defocus(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """A disc of confusion: the lens is out of focus."""
    radius = max(1, round(_at(strength, 0.006, 0.01, 0.015, 0.022, 0.03) * _side(image)))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.float32)
    return cv2.filter2D(image, -1, disc / disc.sum()).astype(np.uint8, copy=False)


def _motion(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """The tip moves while the shutter is open."""
    length = max(3, round(_at(strength, 0.02, 0.035, 0.055, 0.08, 0.11) * _side(image)) | 1)
    kernel = np.zeros((length, length), np.uint8)
    angle, middle = rng.uniform(0, np.pi), length // 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    start, end = (tuple(np.rint(middle + s * reach).astype(int).tolist()) for s in (-1, 1))
    cv2.line(kernel, start, end, 1)
    line = kernel.astype(np.float32)
    return cv2.filter2D(image, -1, line / line.sum()).astype(np.uint8, copy=False)


def _noise(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """The sensor's: photons and read-out, more of it in the light."""
    gain = _at(strength, 0.3, 0.8, 1.8, 3.5, 6.0)
    spread = np.sqrt(gain * image + (4 * gain))
    return _bytes(image + spread * rng.standard_normal(image.shape, np.float32))


def _jpeg(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Compressed as a thrifty recorder does."""
    quality = _at(strength, 40, 25, 15, 9, 5)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


def _resolution(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """An old endoscope: fewer pixels, stretched again."""
    height, width = image.shape[:2]
    sides = _at(strength, 220, 150, 100, 70, 48)
    scale = min(1.0, sides / _side(image))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height)), np.uint8)


def _vignetting(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """The light falls off towards the rim."""
    height, width = image.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    loss = _at(strength, 0.6, 1.0, 1.6, 2.5, 4.0)
    light = 1 / (1 + loss * (x * x + y * y) / 2) ** 2
    return _bytes(image * light[..., None].astype(np.float32))


def _cloud(shape: tuple[int, ...], cells: int, rng: Rng) -> FloatArray:
    """Smooth noise (h, w) in 0..1: two octaves, the finer at half the strength."""
    total = np.zeros(shape[:2], np.float32)
    for octave in (1, 2):
        coarse = rng.random((cells * octave + 1, cells * octave + 1), np.float32)
        total += cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC) / octave
    return np.asarray((total / 1.5).clip(0, 1), np.float32)


def _blobs(image: UInt8Array, count: int, size: tuple[float, float], rng: Rng) -> FloatArray:
    """Soft-edged ellipses (h, w) in 0..1, their radii given as shares of the shorter side."""
    plane = np.zeros(image.shape[:2], np.uint8)
    for _ in range(count):
        centre = tuple(int(rng.integers(side)) for side in image.shape[1::-1])
        radii = tuple(max(1, round(rng.uniform(*size) * _side(image))) for _ in range(2))
        cv2.ellipse(plane, centre, radii, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), _side(image) / 250) / 255, np.float32)


def _veil(image: UInt8Array, colour: tuple[int, int, int], share: FloatArray) -> UInt8Array:
    """Lay a colour over the scene, not over the black around it; `share` (h, w) is its opacity."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (image.max(axis=2) > _BLACK).view(np.uint8)
    )
    view = np.zeros_like(labels, np.uint8)
    if len(stats) > 1:
        largest = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).view(np.uint8)
        outline, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(view, outline, -1, 1, -1)
    opacity, scene = (share * view)[..., None], image.astype(np.float32)
    return _bytes(scene + opacity * (np.array(colour, np.float32) - scene))


def _specular(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Glints of the light on wet mucosa."""
    count = _at(strength, 8, 16, 30, 50, 80)
    return _veil(image, (250, 252, 255), _blobs(image, count, (0.004, 0.022), rng))


def _smoke(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Of diathermy, or a steamed lens: a pale veil of uneven thickness."""
    thickness = _at(strength, 0.2, 0.35, 0.5, 0.65, 0.8)
    return _veil(image, (205, 205, 205), thickness * (0.4 + 0.6 * _cloud(image.shape, 3, rng)))


def _fluid(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Pools of turbid, yellowish fluid, which hide what lies below."""
    share = _at(strength, 0.12, 0.22, 0.34, 0.46, 0.6)
    cloud = _cloud(image.shape, 4, rng)
    edge = np.quantile(cloud, 1 - share)
    return _veil(
        image, (70, 150, 175), (0.75 / (1 + np.exp((edge - cloud) * 60))).astype(np.float32)
    )


def _occlusion(
    image: UInt8Array, labels: UInt8Array, strength: int, rng: Rng
) -> tuple[UInt8Array, UInt8Array]:
    """A grey instrument reaches in from the rim; what it hides is no longer to be found."""
    size = np.array(image.shape[1::-1])
    thickness = round(_at(strength, 0.05, 0.08, 0.11, 0.15, 0.2) * _side(image))
    reach = _at(strength, 0.4, 0.5, 0.6, 0.7, 0.8) * _side(image)
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    start = size / 2 + way * size.max() * 0.75
    tip = size / 2 + way * (0.75 * _side(image) - reach)
    drawn, left = image.copy(), labels.copy()
    for share, grey in ((1.0, 70), (0.7, 120), (0.25, 200)):
        ends = np.rint([start, tip]).astype(int).tolist()
        colour = (grey + 8, grey + 4, grey)
        width = max(1, round(thickness * share))
        cv2.line(drawn, ends[0], ends[1], colour, width, cv2.LINE_AA)
        cv2.line(left, ends[0], ends[1], 0, width)
    return drawn, left


def _rotation(image: UInt8Array, mask: UInt8Array, strength: int, rng: Rng) -> Pictures:
    """The endoscope is turned; corners that come in are black."""
    degrees = _at(strength, 15, 40, 75, 120, 180) * _sign(rng)
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    size = (width, height)
    turned = cv2.warpAffine(mask, turn, size, flags=cv2.INTER_NEAREST)
    return np.asarray(cv2.warpAffine(image, turn, size), np.uint8), np.asarray(turned, np.uint8)


def _field_of_view(image: UInt8Array, mask: UInt8Array, strength: int, rng: Rng) -> Pictures:
    """Another maker's round window; what it hides is no longer labelled."""
    height, width = image.shape[:2]
    radius = _at(strength, 0.56, 0.5, 0.45, 0.4, 0.35) * _side(image)
    window = np.zeros((height, width), np.uint8)
    cv2.circle(window, (width // 2, height // 2), round(radius), 1, -1)
    return image * window[..., None], mask * window


def _interlacing(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Every second line was taken a moment later: combs at moving edges."""
    shift = max(1, round(_at(strength, 0.008, 0.016, 0.03, 0.05, 0.08) * _side(image)))
    combed: UInt8Array = image.copy()
    combed[1::2] = _moved(image, shift * _sign(rng), 0)[1::2]
    return combed


def _moved(image: UInt8Array, right: float, down: float) -> UInt8Array:
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(image, move, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _text(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """Lines of the processor's overlay, here and there."""
    drawn: UInt8Array = image.copy()
    scale = max(0.3, _side(image) / 600)
    words = ("12/03/2024 10:41:07", "Ht: A5 Em: B8 Cm: 1", "ID: 000000", "Zoom x1.2", "SCV:14")
    for _ in range(_at(strength, 2, 5, 9, 15, 24)):
        left = int(rng.integers(0, max(1, round(image.shape[1] * 0.7))))
        line = round(rng.uniform(min(1, 12 * scale / image.shape[0]), 1) * image.shape[0])
        put_text(drawn, words[int(rng.integers(len(words)))], left, line, scale)
    return drawn


def _picture_in_picture(image: UInt8Array, mask: UInt8Array, strength: int, rng: Rng) -> Pictures:
    """A second, small picture in a corner; what it shows is not to be marked."""
    height, width = image.shape[:2]
    share = _at(strength, 0.2, 0.26, 0.32, 0.4, 0.5)
    h, w = max(1, round(height * share)), max(1, round(width * share))
    small = np.asarray(cv2.resize(image[:, ::-1], (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    small[[0, -1]], small[:, [0, -1]] = 160, 160
    top, left = (0, height - h)[int(rng.integers(2))], (0, width - w)[int(rng.integers(2))]
    drawn, hidden = image.copy(), mask.copy()
    drawn[top : top + h, left : left + w] = small
    hidden[top : top + h, left : left + w] = 0
    return drawn, hidden


def _frame_drop(image: UInt8Array, strength: int, rng: Rng) -> UInt8Array:
    """The frame that is shown is old: the tissue has moved on, and with it the mask."""
    distance = _at(strength, 0.015, 0.03, 0.05, 0.08, 0.12) * _side(image)
    angle = rng.uniform(0, 2 * np.pi)
    return _moved(image, distance * np.cos(angle), distance * np.sin(angle))


CORRUPTIONS: dict[str, Corruption] = {
    "exposure": _photometric(_exposure),
    "white balance": _photometric(_white_balance),
    "hue": _photometric(_hue),
    "gamma": _photometric(_gamma),
    "defocus": _photometric(_defocus),
    "motion": _photometric(_motion),
    "noise": _photometric(_noise),
    "JPEG": _photometric(_jpeg),
    "resolution": _photometric(_resolution),
    "vignetting": _photometric(_vignetting),
    "specular": _photometric(_specular),
    "smoke": _photometric(_smoke),
    "fluid": _photometric(_fluid),
    "occlusion": _occlusion,
    "rotation": _rotation,
    "field of view": _field_of_view,
    "interlacing": _photometric(_interlacing),
    "text": _photometric(_text),
    "picture-in-picture": _picture_in_picture,
    "frame drop": _photometric(_frame_drop),
}

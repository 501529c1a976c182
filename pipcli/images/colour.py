"""Colours of an ICC profile ⇄ sRGB, in floating point and without clipping.

Models are trained on sRGB. An image with another profile is shown to the model in sRGB and its change is
carried back (:meth:`pipcli.images.image.Image.store`). Colours that sRGB does not have lie outside [0,1] here
and are kept: every curve goes on below 0 as the mirror image of itself, and above 1 as its formula does.

What lies outside a model does not see, noise in it least of all. So the primaries in which an image is shown
are sRGB's as far as its colours allow, and from there on towards its own (:meth:`MatrixColours.fitted`); the
curve is sRGB's always. White and greys are the same in all of them.

Profiles of three curves and a matrix (sRGB, Display P3, Adobe RGB, ProPhoto and most others) are computed
here, those of tables by LittleCMS. Sources: ICC.1:2022 (profile 4.4) sections 9 and 10; IEC 61966-2-1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError

Floats = NDArray[np.float32]

_HEADER = 128
_MOST_TAGS = 256
_NEAR = 1 / 255
"""A profile whose colours are all this near to those of sRGB is taken for sRGB."""
_FAR = 0.1
"""A profile from which colours come back further away than this, on average, makes no sense."""
_GRID = 9
_STEEPEST = 20.0
"""Largest gamma or slope of a curve that is taken for one."""
_SLACK = 0.005
"""Light by which a colour may lie outside [0,1] and still count as inside: black is seldom quite black."""
_OUTSIDE = 0.01
"""Share of an image that may lie outside the primaries in which it is shown."""

_SRGB_COLORANTS = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
"""XYZ of red, green and blue (columns) of sRGB, adapted to the white of profiles, D50."""


SRGB_PRIMARIES = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290)
"""x and y of red, green, blue and white."""
_PRIMARIES: dict[int, tuple[float, ...] | None] = {
    1: None,
    2: None,
    5: None,
    6: None,
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
"""Code of primaries → x and y of red, green, blue, white; None for sRGB's and video's, near it."""
_GAMMAS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
"""Code of the transfer → gamma; None for sRGB's curve and for video, which is shown with it."""
_MADE = (2026, 1, 1, 0, 0, 0)
"""Date of the profiles that are made here."""
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Curve:
    """Stored value x → light: (a·x + b)^g + e from x = d on, c·x + f below (ICC.1, 10.18)."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def light(self, values: Floats) -> Floats:
        """Light of stored values, of any size; below 0 the mirror image."""
        x = np.abs(values)
        base = np.maximum(self.a * x + self.b, 0)
        light = np.where(x >= self.d, base**self.g + self.e, self.c * x + self.f)
        mirrored: Floats = np.copysign(light, values)
        return mirrored

    def stored(self, light: Floats) -> Floats:
        """The inverse of :meth:`light`; light that no value has becomes the nearest that has."""
        y = np.abs(light)
        corner = max(self.a * self.d + self.b, 0.0) ** self.g + self.e
        above = (np.maximum(y - self.e, 0) ** (1 / self.g) - self.b) / self.a
        below = np.maximum((y - self.f) / self.c, 0) if self.c else np.full_like(y, self.d)
        mirrored: Floats = np.copysign(np.where(y >= corner, above, below), light)
        return mirrored


@dataclass(frozen=True, eq=False)
class SampledCurve:
    """Curve through samples at equal steps from 0 to 1, rising; beyond 1 it goes on in a straight line."""

    samples: NDArray[np.float64]

    def light(self, values: Floats) -> Floats:
        """As :meth:`Curve.light`."""
        places = np.linspace(0, 1, len(self.samples))
        x = np.abs(values)
        inside = np.interp(x, places, self.samples)
        mirrored: Floats = np.copysign(inside + np.maximum(x - 1, 0) * self._end, values).astype(np.float32)
        return mirrored

    def stored(self, light: Floats) -> Floats:
        """As :meth:`Curve.stored`."""
        places = np.linspace(0, 1, len(self.samples))
        y = np.abs(light)
        inside = np.interp(y, self.samples, places)
        inside += np.maximum(y - self.samples[-1], 0) / self._end
        mirrored: Floats = np.copysign(inside, light).astype(np.float32)
        return mirrored

    @property
    def _end(self) -> float:
        """Slope beyond 1."""
        return max(1.0, float(self.samples[-1] - self.samples[-2]) * (len(self.samples) - 1))


SRGB_CURVE = Curve(g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)


@dataclass(frozen=True, eq=False)
class MatrixColours:
    """Colours of a profile of curves, and for RGB a matrix.

    Args:
        curves: one for each channel, 1 (grey) or 3.
        matrix: 3×3, light of this space to light of sRGB; None for grey, which has the white of sRGB.
    """

    curves: tuple[Curve | SampledCurve, ...]
    matrix: NDArray[np.float64] | None

    def to_srgb(self, values: Floats) -> Floats:
        """h×w×C in this space → h×w×C in sRGB; outside [0,1] where sRGB does not have the colour."""
        light = np.stack([curve.light(values[..., i]) for i, curve in enumerate(self.curves)], axis=-1)
        if self.matrix is not None:
            light = light @ self.matrix.T.astype(np.float32)
        return SRGB_CURVE.stored(light)

    def from_srgb(self, values: Floats) -> Floats:
        """The inverse of :meth:`to_srgb`."""
        light = SRGB_CURVE.light(values)
        if self.matrix is not None:
            light = light @ np.linalg.inv(self.matrix).T.astype(np.float32)
        return np.stack([curve.stored(light[..., i]) for i, curve in enumerate(self.curves)], axis=-1)

    def fitted(self, values: Floats) -> MatrixColours:
        """These colours, led not to sRGB but to primaries between it and their own that hold an image.

        The share of sRGB's is the largest with which all of the values but `_OUTSIDE` come to lie in [0,1].

        Args:
            values: n×3 in this space, means over a few pixels each, in which noise does not count.
        """
        # Of odd profiles, such as those that exchange channels, what lies in between may be no colour space.
        if self.matrix is None or np.linalg.eigvals(self.matrix).real.min() <= 0:
            return self
        light = np.stack([curve.light(values[:, i]) for i, curve in enumerate(self.curves)], axis=1)
        light = np.clip(light, 0, 1).astype(np.float64)
        there = light @ self.matrix.T
        shares = np.ones_like(light)
        below, above = there < -_SLACK, there > 1 + _SLACK
        shares[below] = (light[below] + _SLACK) / (light[below] - there[below])
        shares[above] = (1 + _SLACK - light[above]) / (there[above] - light[above])
        share = float(np.quantile(shares.min(axis=1), _OUTSIDE))
        return MatrixColours(self.curves, share * self.matrix + (1 - share) * np.eye(3))


@dataclass(frozen=True)
class TableColours:
    """Colours of an RGB profile of tables, by LittleCMS; ``to_srgb`` and ``from_srgb`` are nearly inverse."""

    profile: bytes

    def to_srgb(self, values: Floats) -> Floats:
        """As :meth:`MatrixColours.to_srgb`."""
        return _transformed(values, self.profile, _srgb_profile())

    def from_srgb(self, values: Floats) -> Floats:
        """As :meth:`MatrixColours.from_srgb`; colours that the table does not reach are clipped."""
        return _transformed(values, _srgb_profile(), self.profile)


Colours = MatrixColours | TableColours


def colours_of(icc: bytes, channels: int) -> Colours | None:
    """The colours that a profile gives to pixels of 1 or 3 channels.

    None where they are those of sRGB, or nearly, and where the profile has a problem.
    """
    return _understood(icc, channels)[0]


def problem_of(icc: bytes, channels: int) -> str | None:
    """Why a profile cannot be used for pixels of 1 or 3 channels, as "it …"; None where it can."""
    return _understood(icc, channels)[1]


@lru_cache(maxsize=8)
def _understood(icc: bytes, channels: int) -> tuple[Colours | None, str | None]:
    try:
        return _colours(icc, channels), None
    except ValueError as error:
        return None, str(error)


def _colours(icc: bytes, channels: int) -> Colours | None:
    kind = icc[16:20]
    if len(icc) < _HEADER + 4 or icc[36:40] != b"acsp":
        raise ValueError("it is no ICC profile")
    if kind != {1: b"GRAY", 3: b"RGB "}[channels] and (channels, kind) != (1, b"RGB "):
        name = kind.decode("ascii", "replace").strip()
        raise ValueError(f"it is a profile of {name} colours")
    tags = _tags(icc)
    codes = tags.get(b"cicp", b"")  # 9.2.17: what the profile says, in code points
    if len(codes) >= 12:
        refuse_high_range(codes[9])
    colours: Colours
    try:
        if kind == b"GRAY":
            colours = MatrixColours((_curve(tags[b"kTRC"]),), None)
        elif b"A2B0" in tags or b"rXYZ" not in tags:
            colours = TableColours(icc)
            if channels == 1:
                return None
        else:
            curves = tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
            colorants = np.array([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]).T
            matrix = np.linalg.inv(_SRGB_COLORANTS) @ colorants
            if not 1e-3 < abs(np.linalg.det(matrix)) < 1e3:
                raise ValueError("its primaries make no colour space")
            # Grey in a colour profile has its curve; red, green and blue all have the same in real ones.
            colours = MatrixColours(curves[1:2], None) if channels == 1 else MatrixColours(curves, matrix)
    except (KeyError, struct.error, IndexError) as error:
        raise ValueError("it is damaged") from error
    steps = np.linspace(0, 1, _GRID if channels == 3 else 256, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[steps] * channels), axis=-1).reshape(1, -1, channels)
    with np.errstate(all="ignore"):  # what overflows is found below
        there = colours.to_srgb(grid)
        distance = np.abs(colours.from_srgb(there) - grid).mean()
    # The tables of printers do not lead back from every colour: the mean counts.
    if not np.isfinite(there).all() or not distance <= _FAR:
        raise ValueError("its colours cannot be turned back")
    return None if np.abs(there - grid).max() < _NEAR else colours


def refuse_high_range(transfer: int) -> None:
    """Refuse what is shown by a transfer function of ITU-T H.273 for high dynamic range.

    A profile beside it does not change that: it is what programs that know no such light fall back on.

    Raises:
        ImageError: it is one of these.
    """
    if transfer in _HDR:
        raise ImageError(f"is of high dynamic range ({_HDR[transfer]}), which is not supported")


def profile_of_codes(primaries: int, transfer: int) -> bytes | None:
    """An ICC profile of colours that are given by the code points of ITU-T H.273; None for those of sRGB.

    Codes for "not specified" and for camera video, which is shown as sRGB, count as sRGB.

    Raises:
        ImageError: the colours are of high dynamic range, or not known.
    """
    refuse_high_range(transfer)
    if primaries not in _PRIMARIES or transfer not in _GAMMAS:
        raise ImageError(f"has colours of an unknown kind ({primaries}, {transfer})")
    places, gamma = _PRIMARIES[primaries], _GAMMAS[transfer]
    return None if places is None and gamma is None else profile_of(places or SRGB_PRIMARIES, gamma)


@lru_cache(maxsize=8)
def profile_of(primaries: tuple[float, ...], gamma: float | None) -> bytes:
    """An ICC profile of a gamma, or of sRGB's curve for None.

    Args:
        primaries: x and y of red, green, blue and white.
        gamma: exponent of stored value → light.

    Raises:
        ImageError: these make no colour space.
    """
    import imagecodecs

    points = [number for place in range(0, 6, 2) for number in (*primaries[place : place + 2], 1.0)]
    try:
        icc = bytes(
            imagecodecs.cms_profile(
                "rgb", whitepoint=(*primaries[6:], 1.0), primaries=points, gamma=gamma or 2.2
            )
        )
    except (imagecodecs.CmsError, ValueError) as error:
        raise ImageError("has primaries that make no colour space") from error
    # LittleCMS writes the time into it: the same file would not give the same bytes twice.
    icc = icc[:24] + struct.pack(">6H", *_MADE) + icc[36:84] + bytes(16) + icc[100:]
    return icc if gamma else _with_srgb_curve(icc)


def _with_srgb_curve(icc: bytes) -> bytes:
    numbers = (SRGB_CURVE.g, SRGB_CURVE.a, SRGB_CURVE.b, SRGB_CURVE.c, SRGB_CURVE.d)
    curve = b"para\0\0\0\0\0\3\0\0" + struct.pack(">5i", *(round(number * 65536) for number in numbers))
    out = bytearray(icc + curve)
    for place in range(_HEADER + 4, _HEADER + 4 + 12 * int.from_bytes(icc[_HEADER : _HEADER + 4], "big"), 12):
        if icc[place : place + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", out, place + 4, len(icc), len(curve))
    struct.pack_into(">I", out, 0, len(out))
    return bytes(out)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    count = int.from_bytes(icc[_HEADER : _HEADER + 4], "big")
    if count > _MOST_TAGS:
        raise ValueError("it is damaged")
    tags = {}
    for place in range(_HEADER + 4, min(_HEADER + 4 + 12 * count, len(icc) - 11), 12):
        name, offset, size = struct.unpack_from(">4sII", icc, place)
        tags[name] = icc[offset : offset + size]
    return tags


def _curve(tag: bytes) -> Curve | SampledCurve:
    if not tag:
        raise ValueError("it is damaged")
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return Curve(g=1)
        if count == 1:
            return Curve(g=_positive(struct.unpack_from(">H", tag, 12)[0] / 256))
        samples = np.array(struct.unpack_from(f">{count}H", tag, 12)) / 65535
        # Interpolation the other way needs samples that rise: flat pieces rise by nearly nothing.
        rising = np.maximum.accumulate(samples) + np.arange(count) * 1e-9
        if rising[-1] < 0.5:
            raise ValueError("its curves do not rise")
        return SampledCurve(rising)
    if tag[:4] != b"para":
        raise ValueError("its curves are of an unknown kind")
    (kind,) = struct.unpack_from(">H", tag, 8)
    numbers = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(kind)
    if numbers is None:
        raise ValueError("its curves are of an unknown kind")
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{numbers}i", tag, 12))
    _positive(g)
    if not rest:
        return Curve(g)
    a, b = rest[:2]
    _positive(a)
    if max(map(abs, rest)) > _STEEPEST:
        raise ValueError("its curves make no sense")
    if kind == 1:
        return Curve(g, a, b, d=-b / a)
    if kind == 2:
        return Curve(g, a, b, d=-b / a, e=rest[2], f=rest[2])
    return Curve(g, a, b, *rest[2:])


def _positive(value: float) -> float:
    """A gamma or slope, as real profiles have it."""
    if value <= 0:
        raise ValueError("its curves do not rise")
    if not 1 / _STEEPEST <= value <= _STEEPEST:
        raise ValueError("its curves make no sense")
    return value


def _xyz(tag: bytes) -> tuple[float, ...]:
    if tag[:4] != b"XYZ ":
        raise ValueError("it is damaged")
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.cms_profile("srgb"))


def _transformed(values: Floats, profile: bytes, out_profile: bytes) -> Floats:
    import imagecodecs

    try:
        result: Floats = imagecodecs.cms_transform(
            np.ascontiguousarray(values, dtype=np.float32),
            profile,
            out_profile,
            colorspace="rgb",
            outcolorspace="rgb",
            outdtype="float32",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )
    except imagecodecs.CmsError as error:
        raise ValueError("it is damaged") from error
    return result.reshape(values.shape)

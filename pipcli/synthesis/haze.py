"""Haze: I = J t + A (1 − t) with t = exp(−β d) over a plausible depth d."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipcli.synthesis.draws import (
    Interval,
    centred_grid,
    check_ranges,
    coin,
    normal,
    smooth_field,
    uniform,
)

_SMOOTH = 11
"""Side, in pixels, of the mean over a photo before its edges are looked for."""

_PIECES = 5
"""Nodes along each side of the field whose heights outline what stands in front."""

_ROOM = 0.95
"""Share of a scene's pixels that are the room; the others lie beyond it."""

_BEYOND = 2.0
"""The farthest that anything lies, in depths of the room."""


@dataclass(frozen=True)
class HazeRanges:
    """What haze is drawn from: indoor depths under the scattering that indoor benchmarks use.

    Attributes:
        beta: scattering coefficient, per unit of depth.
        near: depth of the nearest part of the scene; far 1.0 is the far wall of a large room.
        far: depth of the farthest part.
        crowding: exponent by which depths gather at the near end; 1 leaves them as drawn, 1.5 has half of the
            pixels in the nearest 0.37.
        view: share of the scene's depth interval that the crop shows; below 1 it is a window of a scene.
        airlight: A, brightness of the haze.
        tint: standard deviation of A's channels around their common value.
        occluders: number of sharp-edged objects laid over the background.
        bare_chance: share of scenes without any of them: real haze shows no edge where the scene has none.
        guided_chance: share of scenes where depth also steps at the photo's own edges.
        uneven_chance: share of scenes whose surfaces are not plane.
    """

    beta: Interval = (0.6, 1.8)
    near: Interval = (0.05, 0.50)
    far: Interval = (0.60, 1.20)
    crowding: Interval = (0.7, 1.5)
    view: Interval = (0.70, 1.0)
    airlight: Interval = (0.7, 1.0)
    tint: float = 0.01
    occluders: int = 6
    bare_chance: float = 0.7
    guided_chance: float = 0.6
    uneven_chance: float = 0.25

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "beta": (0.0, 10.0),
                "near": (0.0, 10.0),
                "far": (0.0, 10.0),
                "crowding": (0.1, 10.0),
                "view": (0.0, 1.0),
                "airlight": (0.0, 1.0),
            },
            ("guided_chance", "bare_chance", "uneven_chance"),
        )
        if self.near[1] > self.far[0]:
            raise ValueError(f"near {self.near} reaches beyond far {self.far}")
        if self.occluders < 0 or self.tint < 0:
            raise ValueError("occluders and tint must be at least 0")


def add_haze(clean: Tensor, depth: Tensor, beta: Tensor, airlight: Tensor) -> Tensor:
    """The scattering model I = J t + A (1 − t), t = exp(−β d).

    Args:
        clean: J, B×3×H×W in [0, 1].
        depth: d, B×1×H×W, at least 0.
        beta: β, B.
        airlight: A, B×3 in [0, 1].

    Returns:
        B×3×H×W, between clean and airlight.
    """
    transmission = torch.exp(-beta[:, None, None, None] * depth)
    return torch.lerp(airlight[:, :, None, None], clean, transmission)


def draw_depth(clean: Tensor, ranges: HazeRanges, generator: torch.Generator) -> Tensor:
    """Depth of a scene that could be the photo's, B×1×H×W between `near` and `far`.

    An upright background (planes such as walls and a floor rising to the horizon), objects with
    sharp edges in front of it, and in some scenes steps at the photo's own edges.

    Args:
        clean: B×3×H×W in [0, 1]; only its edges are used.
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.
    """
    batch, _, height, width = clean.shape
    one = (batch, 1, 1, 1)
    rows, columns = centred_grid(height, width, clean.device)

    # Floor: far at the horizon, nearer below it. Wall: depth grows along one direction, sideways or up.
    horizon = uniform(one, (-0.4, 0.2), generator)
    floor = 1.0 / (1.0 + uniform(one, (2.0, 10.0), generator) * (rows - horizon).clamp(min=0))
    turn = uniform(one, (math.pi, 2 * math.pi), generator)
    wall = 0.6 + uniform(one, (0.0, 0.8), generator) * (columns * turn.cos() + rows * turn.sin())
    floor_share = coin(one, 0.5, generator)
    depth = torch.where(floor_share, torch.minimum(floor, wall + 0.25), wall)
    # Hills and drapery, in a few scenes: most surfaces are planes, and haze on a plain wall has no blotches.
    uneven = coin(one, ranges.uneven_chance, generator) * uniform(one, (0.0, 0.15), generator)
    depth = depth + uneven * smooth_field(batch, height, width, 4, generator)

    # Steps where a colour of the smoothed photo crosses its own mean, as surfaces do; smoothed so much that
    # the grain of one surface makes no steps within it.
    direction = normal((batch, 3, 1, 1), generator)
    projection = F.avg_pool2d(
        (clean * direction).sum(dim=1, keepdim=True), _SMOOTH, 1, _SMOOTH // 2, count_include_pad=False
    )
    inside = projection > projection.mean(dim=(-2, -1), keepdim=True)
    step = coin(one, ranges.guided_chance, generator) * uniform(one, (-0.35, 0.35), generator)
    depth = depth + step * inside

    furnished = ~coin(one, ranges.bare_chance, generator)
    for _ in range(ranges.occluders):
        shift_y, shift_x = uniform((2, *one), (-0.55, 0.55), generator)
        half_u, half_v = uniform((2, *one), (0.02, 0.35), generator)
        turn = uniform(one, (-0.6, 0.6), generator)
        y, x = rows - shift_y, columns - shift_x
        u = (x * turn.cos() + y * turn.sin()) / half_u
        v = (y * turn.cos() - x * turn.sin()) / half_v
        box = torch.maximum(u.abs(), v.abs()) < 1
        blob = u.square() + v.square() < 1
        inside = torch.where(coin(one, 0.5, generator), box, blob)
        inside = inside & furnished & coin(one, 0.5, generator)
        # In front of what it hides at its middle, with its own slope.
        own = uniform(one, (0.0, 0.9), generator) + uniform(one, (-0.1, 0.1), generator) * u
        depth = torch.where(inside, torch.minimum(own, depth), depth)

    least = depth.amin(dim=(-2, -1), keepdim=True)
    most = depth.amax(dim=(-2, -1), keepdim=True)
    relative = (depth - least) / (most - least).clamp(min=1e-6)
    # Rooms show more of what is near than of what is far, some of them.
    relative = relative.pow(uniform(one, ranges.crowding, generator))

    near = uniform(one, ranges.near, generator)
    far = uniform(one, ranges.far, generator)
    view = uniform(one, ranges.view, generator)
    start = uniform(one, (0.0, 1.0), generator) * (1 - view)
    return near + (far - near) * (start + view * relative)


def degrade_haze(clean: Tensor, ranges: HazeRanges, generator: torch.Generator) -> Tensor:
    """Fill the scene with haze, drawn anew for each image.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W in [0, 1].
    """
    depth = draw_depth(clean, ranges, generator)
    return add_haze(clean, depth, *_draw_air(len(clean), ranges, generator))


def degrade_scene(clean: Tensor, depth: Tensor, ranges: HazeRanges, generator: torch.Generator) -> Tensor:
    """Fill a scene of known depth with haze; all but its farthest pixels lie within ``ranges.far``.

    The farthest are often a few seen through a doorway. Were they at ``far``, the room itself would hardly
    be hazy; so they lie beyond, at most twice as far off, as depth sensors end somewhere too.

    Args:
        clean: B×3×H×W in [0, 1].
        depth: B×1×H×W, above 0, in any unit.
        ranges: what else to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W in [0, 1].
    """
    far = uniform((len(clean), 1, 1, 1), ranges.far, generator)
    pixels = depth.flatten(start_dim=1)
    reach = pixels.kthvalue(math.ceil(_ROOM * pixels.shape[1]), dim=1).values
    depth = far * (depth / reach[:, None, None, None]).clamp(max=_BEYOND)
    return add_haze(clean, depth, *_draw_air(len(clean), ranges, generator))


def degrade_collage(
    front: Tensor, back: Tensor, ranges: HazeRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lay pieces of one picture over another, nearer than what they hide, and fill the scene with haze.

    Depth ends where the pieces do, and no scene is seen twice.

    Args:
        front: what pieces are cut from, B×3×H×W in [0, 1].
        back: what they stand before, of the same shape.
        ranges: what to draw from.
        generator: source of the randomness, on the pictures' device.

    Returns:
        The hazy scenes and the clear ones, B×3×H×W in [0, 1].
    """
    batch, _, height, width = back.shape
    one = (batch, 1, 1, 1)
    # From a few pieces to most of the picture; steep enough that an edge is a pixel or two wide.
    outline = smooth_field(batch, height, width, _PIECES, generator) - uniform(one, (-0.5, 1.0), generator)
    share = torch.sigmoid(60.0 * outline)
    far_off = draw_depth(back, ranges, generator)
    nearer = uniform(one, (0.2, 1.0), generator) * draw_depth(front, ranges, generator)
    air = _draw_air(batch, ranges, generator)
    # Pixels on an edge mix what is seen, haze and all.
    hazy = torch.lerp(
        add_haze(back, far_off, *air), add_haze(front, torch.minimum(nearer, far_off), *air), share
    )
    return hazy, torch.lerp(back, front, share)


def _draw_air(batch: int, ranges: HazeRanges, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """β, B, and A, B×3, as :func:`add_haze` takes them."""
    beta = uniform((batch,), ranges.beta, generator)
    airlight = uniform((batch, 1), ranges.airlight, generator) + ranges.tint * normal((batch, 3), generator)
    return beta, airlight.clamp(0, 1)

"""Rooms built of planes and boxes, with their true depth: what haze needs and photographs do not tell.

Depth made up for a photograph does not end where a thing in it ends; here haze changes where one thing stands
before another, and is even along a wall. Walls are mostly plain, colours and textures a photograph's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.synthesis.draws import Interval, check_ranges, coin, log_uniform, uniform

_FINE = 2
"""Samples along each side of a pixel: edges are mixtures of what they part."""

_LEAST_DEPTH = 0.4
"""In metres; nothing nearer is seen, as by the cameras that measure depth."""

_ROOM_FACES = 6

_DOORED_AXES = (2, 0)
"""The axes across the walls that may have a doorway: the wall ahead, and the one to the left or right."""


@dataclass(frozen=True)
class SceneRanges:
    """What a room is drawn from; lengths in metres, angles in degrees.

    Attributes:
        view: horizontal angle of view; small ones show a part of a room.
        side: from the camera to the left wall, and to the right one.
        length: from the camera to the wall ahead.
        below: from the camera down to the floor.
        above: from the camera up to the ceiling.
        yaw: largest turn of the camera to either side.
        pitch: of the camera, up.
        boxes: how many boxes may stand or hang in the room; each is there with the chance `box_chance`.
        box: lengths of a box's edges.
        box_chance: see `boxes`.
        plain_chance: share of surfaces of one colour.
        door_chance: how often the wall ahead, and one to its side, has a doorway with a further room behind.
        door: width of a doorway.
        beyond: from a doorway to the far wall of the room behind it.
        lamp: light in a room behind a doorway, as a share of this room's: mostly it is darker there.
        shadow_chance: share of surfaces that lie in shadow.
    """

    view: Interval = (30.0, 65.0)
    side: Interval = (0.8, 3.5)
    length: Interval = (2.0, 7.0)
    below: Interval = (0.9, 1.7)
    above: Interval = (0.7, 1.5)
    yaw: float = 45.0
    pitch: Interval = (-25.0, 10.0)
    boxes: int = 20
    box: Interval = (0.12, 1.6)
    box_chance: float = 0.6
    plain_chance: float = 0.5
    door_chance: float = 0.6
    door: Interval = (0.7, 2.5)
    beyond: Interval = (1.0, 5.0)
    lamp: Interval = (0.1, 1.0)
    shadow_chance: float = 0.25

    def __post_init__(self) -> None:
        lengths = dict.fromkeys(("side", "length", "below", "above", "box", "door", "beyond"), (0.1, 100.0))
        check_ranges(
            self,
            {**lengths, "view": (5.0, 120.0), "pitch": (-60.0, 60.0), "lamp": (0.0, 1.0)},
            ("box_chance", "plain_chance", "door_chance", "shadow_chance"),
        )
        if self.boxes < 0 or not 0 <= self.yaw <= 180:
            raise ValueError("boxes must be at least 0 and yaw lie in [0, 180]")


def draw_scenes(pictures: Tensor, ranges: SceneRanges, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A room for each picture, in its colours, and how far off everything is.

    Args:
        pictures: B×3×H×W in [0, 1]; colours and textures are taken from them.
        ranges: what to draw from.
        generator: source of the randomness, on the pictures' device.

    Returns:
        The room, B×3×2H×2W in [0, 1], and depth along the view's axis in metres, B×1×2H×2W: finer than the
        picture, so that what mixes light (haze) can be done before pixels do.
    """
    batch, _, height, width = pictures.shape
    yaw = torch.deg2rad(uniform((batch, 1, 1, 1), (-ranges.yaw, ranges.yaw), generator))
    rays = _turned(_rays(batch, _FINE * height, _FINE * width, ranges, generator), yaw)
    seen = _room(rays, ranges, generator)
    rooms = 1 + len(_DOORED_AXES)
    for number in range(ranges.boxes):
        seen = _with_box(seen, rays, yaw, _ROOM_FACES * (rooms + number), ranges, generator)
    return _painted(pictures, seen, _lights(batch, rooms, ranges, generator), ranges, generator), seen[0]


def averaged(fine: Tensor) -> Tensor:
    """B×C×2H×2W of :func:`draw_scenes` as a camera's pixels see it, B×C×H×W."""
    return F.avg_pool2d(fine, _FINE)


def _rays(batch: int, height: int, width: int, ranges: SceneRanges, generator: torch.Generator) -> Tensor:
    """Where each pixel looks, B×3×H×W (right, up, ahead), of length 1 along the view's axis."""
    one = (batch, 1, 1)
    reach = torch.tan(torch.deg2rad(uniform(one, ranges.view, generator)) / 2)
    rows = torch.linspace(1, -1, height, device=generator.device)[:, None] * (height / width)
    columns = torch.linspace(-1, 1, width, device=generator.device)[None, :]
    right, up = (reach * columns).expand(batch, height, width), (reach * rows).expand(batch, height, width)
    pitch = torch.deg2rad(uniform(one, ranges.pitch, generator))
    return torch.stack([right, up * pitch.cos() + pitch.sin(), pitch.cos() - up * pitch.sin()], dim=1)


def _turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Vectors B×3×... turned about the vertical, from ahead to the right, by angles in radians."""
    x, y, z = vectors.unbind(dim=1)
    cosine, sine = angle[:, 0].cos(), angle[:, 0].sin()
    return torch.stack([x * cosine + z * sine, y, z * cosine - x * sine], dim=1)


Seen = tuple[Tensor, Tensor, Tensor]
"""Depth B×1×H×W, number of the surface B×1×H×W, and the place on it in metres, B×2×H×W."""


def _room(rays: Tensor, ranges: SceneRanges, generator: torch.Generator) -> Seen:
    """The walls, floor and ceiling that the camera stands between, and what their doorways show."""
    one = (rays.shape[0], 1, 1, 1)
    low = torch.cat([uniform(one, each, generator) for each in (ranges.side, ranges.below, ranges.length)], 1)
    high = torch.cat(
        [uniform(one, each, generator) for each in (ranges.side, ranges.above, ranges.length)], 1
    )
    seen = _inside(rays, low, high, 0)
    for room, axis in enumerate(_DOORED_AXES, start=1):
        seen = _with_doorway(seen, rays, low, high, axis, _ROOM_FACES * room, ranges, generator)
    return seen


def _inside(rays: Tensor, low: Tensor, high: Tensor, first_face: int) -> Seen:
    """A room around the camera, or around where it looks in: `low` and `high` B×3×1×1 are its walls."""
    steps = torch.where(rays > 0, high, low) / rays.abs().clamp(min=1e-4)
    depth, axis = steps.min(dim=1, keepdim=True)
    face = first_face + 2 * axis + (rays.gather(1, axis) > 0)
    return depth, face, _on_surface(rays * depth, axis)


def _with_doorway(
    seen: Seen,
    rays: Tensor,
    low: Tensor,
    high: Tensor,
    axis: int,
    first_face: int,
    ranges: SceneRanges,
    generator: torch.Generator,
) -> Seen:
    """The same with a doorway in a wall across `axis`, and behind it a room as high as this one.

    Small parts of a scene are much farther off, and darker, than what is around them.
    """
    depth, face, place = seen
    one = (rays.shape[0], 1, 1, 1)
    across = 2 - axis
    # In the wall that the middle of the picture looks at, about where it looks: others are seldom seen.
    middle = rays[..., rays.shape[-2] // 2, rays.shape[-1] // 2][..., None, None]
    along, aside = middle[:, axis : axis + 1], middle[:, across : across + 1]
    onward = along > 0
    distance = torch.where(onward, high, low)[:, axis : axis + 1]
    aim = aside / along.abs().clamp(min=0.05) * distance + uniform(one, (-1.0, 1.0), generator)
    centre = aim.clamp(-low[:, across : across + 1], high[:, across : across + 1])
    half = uniform(one, ranges.door, generator) / 2
    # From the floor up to somewhere between the eyes and the ceiling.
    top = uniform(one, (0.2, 1.0), generator) * high[:, 1:2]
    point = rays * depth
    wall = face == 2 * axis + onward.long()
    through = wall & ((point[:, across : across + 1] - centre).abs() < half) & (point[:, 1:2] < top)
    through = through & coin(one, ranges.door_chance, generator)

    # The walls of the room behind, from the camera on; those beside the doorway stand on either side of it.
    low, high = low.clone(), high.clone()
    reach = uniform(one, ranges.beyond, generator)
    low[:, axis : axis + 1] += reach
    high[:, axis : axis + 1] += reach
    width = half + uniform(one, ranges.side, generator)
    low[:, across : across + 1], high[:, across : across + 1] = width - centre, width + centre
    behind = _inside(rays, low, high, first_face)
    return (
        torch.where(through, behind[0], depth),
        torch.where(through, behind[1], face),
        torch.where(through, behind[2], place),
    )


def _with_box(
    seen: Seen, rays: Tensor, yaw: Tensor, first_face: int, ranges: SceneRanges, generator: torch.Generator
) -> Seen:
    """The same with one box in front, somewhere where the camera looks; it has a turn of its own."""
    depth, face, place = seen
    batch = rays.shape[0]
    one = (batch, 1, 1, 1)
    turn = uniform(one, (0.0, math.pi), generator)
    half = torch.cat([log_uniform(one, ranges.box, generator) / 2 for _ in range(3)], dim=1)
    # More of them near than far: what stands behind a wall is not seen.
    ahead = log_uniform(one, (1.2, ranges.length[1]), generator)
    aside = uniform(one, (-0.6, 0.6), generator) * ahead
    # On the floor or on something as high as a table; some hang.
    base = -uniform(one, (0.0, ranges.below[1]), generator)
    centre = _turned(torch.cat([aside, base + half[:, 1:2], ahead], dim=1), yaw)
    direction, origin = _turned(rays, turn), _turned(-centre, turn)
    direction = torch.where(direction.abs() < 1e-4, 1e-4, direction)
    near, beyond = (-origin - half) / direction, (-origin + half) / direction
    entry, axis = torch.minimum(near, beyond).max(dim=1, keepdim=True)
    leave = torch.maximum(near, beyond).amin(dim=1, keepdim=True)
    there = coin(one, ranges.box_chance, generator) & (entry < leave)
    hit = there & (entry > _LEAST_DEPTH) & (entry < depth)
    own = first_face + 2 * axis + (direction.gather(1, axis) > 0)
    return (
        torch.where(hit, entry, depth),
        torch.where(hit, own, face),
        torch.where(hit, _on_surface(direction * entry + origin, axis), place),
    )


def _on_surface(point: Tensor, axis: Tensor) -> Tensor:
    """The two coordinates of points B×3×H×W that lie in the faces across the given axis, B×2×H×W."""
    return torch.cat([point.gather(1, (axis + 1) % 3), point.gather(1, (axis + 2) % 3)], dim=1)


def _lights(batch: int, rooms: int, ranges: SceneRanges, generator: torch.Generator) -> Tensor:
    """Light on each surface, B×surfaces×1: those of the rooms, this one first, then those of the boxes."""
    grid = (batch, _ROOM_FACES * (rooms + ranges.boxes), 1)
    light = uniform(grid, (0.6, 1.1), generator)
    shaded = coin(grid, ranges.shadow_chance, generator)
    light = torch.where(shaded, light * uniform(grid, (0.1, 0.6), generator), light)
    lamps = uniform((batch, rooms - 1, 1), ranges.lamp, generator).repeat_interleave(_ROOM_FACES, dim=1)
    light[:, _ROOM_FACES : _ROOM_FACES * rooms] *= lamps
    return light


def _painted(
    pictures: Tensor, seen: Seen, light: Tensor, ranges: SceneRanges, generator: torch.Generator
) -> Tensor:
    """Give each surface a colour of the picture or a part of it, and its light, falling from one side."""
    depth, face, place = seen
    batch, _, height, width = pictures.shape
    number = face.flatten(start_dim=1)

    def of_surface(values: Tensor) -> Tensor:
        """B×surfaces×C of each pixel's surface, B×C×2H×2W."""
        chosen = values.gather(1, number[..., None].expand(-1, -1, values.shape[-1]))
        return chosen.transpose(1, 2).reshape(batch, -1, *depth.shape[-2:])

    grid = light.shape[:2]
    pixel = uniform(grid, (0.0, height * width - 1.0), generator).long()
    colours = pictures.flatten(start_dim=2).transpose(1, 2).gather(1, pixel[..., None].expand(-1, -1, 3))
    # Paint is paler than things: towards its grey, and light.
    grey = colours.mean(dim=-1, keepdim=True)
    pale = uniform((*grid, 1), (0.0, 1.0), generator)
    colours = torch.lerp(colours, grey, 0.7 * pale)

    # Metres on the picture, which is 2 wide: about as fine as it is seen.
    scale = log_uniform((*grid, 1), (0.25, 1.2), generator)
    offset = uniform((*grid, 2), (-1.0, 1.0), generator)
    plain = coin((*grid, 1), ranges.plain_chance, generator)
    contrast = torch.where(plain, 0.0, uniform((*grid, 1), (0.1, 1.0), generator))
    where = place * of_surface(scale) + of_surface(offset)
    texture = F.grid_sample(
        pictures, where.permute(0, 2, 3, 1), "bilinear", "reflection", align_corners=False
    )
    paint = torch.lerp(of_surface(colours), texture, of_surface(contrast))
    # Light that falls off over each surface, so that even walls are not of one value.
    slope = of_surface(uniform((*grid, 2), (-0.12, 0.12), generator))
    shade = of_surface(light) * (1 + (slope * place).sum(dim=1, keepdim=True)).clamp(0.6, 1.4)
    return (paint * shade).clamp(0, 1)

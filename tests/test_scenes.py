"""Built rooms: depth by geometry, boxes before walls, colours from the picture, the same by seed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipcli.synthesis.haze import HazeRanges, degrade_scene
from pipcli.synthesis.scenes import SceneRanges, averaged, draw_scenes

EMPTY = SceneRanges(
    view=(90.0, 90.0),
    side=(3.0, 3.0),
    length=(4.0, 4.0),
    below=(1.5, 1.5),
    above=(1.0, 1.0),
    yaw=0.0,
    pitch=(0.0, 0.0),
    boxes=0,
    door_chance=0.0,
    shadow_chance=0.0,
)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 24, 32, generator=generator())


def test_depth_of_an_empty_room(pictures):
    scene, depth = draw_scenes(pictures, EMPTY, generator())
    assert scene.shape == (3, 3, 48, 64)
    assert depth.shape == (3, 1, 48, 64)
    # A view of 90° sees as far aside as ahead; pixels are square.
    right = torch.linspace(-1, 1, 64).abs()[None, :]
    up = torch.linspace(1, -1, 48)[:, None] * 0.75
    height = torch.where(up > 0, 1.0, 1.5) / up.abs()
    expected = torch.minimum(torch.minimum(3.0 / right, height), torch.tensor(4.0))
    torch.testing.assert_close(depth, expected.expand(3, 1, -1, -1), rtol=1e-4, atol=1e-4)


def test_a_turned_camera_sees_the_same_walls_farther_or_nearer(pictures):
    ranges = replace(EMPTY, yaw=45.0, side=(4.0, 4.0), below=(9.0, 9.0), above=(9.0, 9.0))
    _, depth = draw_scenes(pictures, ranges, generator(2))
    # All walls are 4 m off: turned, what lies ahead is between the wall and the corner.
    middle = depth[:, 0, 24, 31:33].mean(dim=1)
    assert (middle > 4.0).all()
    assert (middle < 4.0 * math.sqrt(2) + 0.1).all()
    assert len({round(value, 3) for value in middle.tolist()}) == 3


def test_boxes_stand_before_walls(pictures):
    _, walls = draw_scenes(pictures, EMPTY, generator())
    _, depth = draw_scenes(pictures, replace(EMPTY, boxes=20, box_chance=1.0), generator())
    assert (depth <= walls).all()
    assert (depth < walls - 0.01).float().mean(dim=(1, 2, 3)).min() > 0.1
    assert depth.min() > 0.3


def test_doorways_open_a_wall_into_farther_and_darker_rooms():
    pictures = torch.full((8, 3, 24, 32), 0.8)
    lit, walls = draw_scenes(pictures, EMPTY, generator())
    ranges = replace(EMPTY, door_chance=1.0, door=(2.0, 2.0), beyond=(3.0, 3.0), lamp=(0.2, 0.2))
    scene, depth = draw_scenes(pictures, ranges, generator())
    behind = depth > walls + 1e-4
    assert (depth >= walls - 1e-4).all()
    # The room ahead ends 3 m behind its wall, which is 4 m off.
    ahead = walls > 3.99
    assert torch.where(ahead, depth, 0).amax(dim=(1, 2, 3)).tolist() == pytest.approx([7.0] * 8, abs=0.01)
    # A doorway is no whole wall.
    assert 0.05 < behind[ahead].float().mean() < 0.5
    assert scene[behind.expand(-1, 3, -1, -1)].mean() < 0.4 * lit.mean()


def test_shadows_darken_some_surfaces():
    pictures = torch.full((4, 3, 16, 16), 0.8)
    ranges = replace(EMPTY, boxes=6)
    lit, _ = draw_scenes(pictures, ranges, generator())
    shaded, _ = draw_scenes(pictures, replace(ranges, shadow_chance=1.0), generator())
    assert (shaded.flatten(1).mean(1) < 0.7 * lit.flatten(1).mean(1)).all()


def test_plain_surfaces_have_colours_of_the_picture():
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, 0] = 0.5
    ranges = replace(EMPTY, plain_chance=1.0, boxes=6)
    scene, _ = draw_scenes(picture, ranges, generator())
    assert scene.min() >= 0
    # Red, more or less of it in grey: never more green or blue than red, nor green other than blue.
    assert (scene[:, 0] >= scene[:, 1] - 1e-6).all()
    torch.testing.assert_close(scene[:, 1], scene[:, 2])


def test_textures_come_from_the_picture(pictures):
    plain, _ = draw_scenes(pictures, replace(EMPTY, plain_chance=1.0), generator())
    patterned, _ = draw_scenes(pictures, replace(EMPTY, plain_chance=0.0), generator())
    rough = [(each[..., 1:] - each[..., :-1]).abs().mean() for each in (plain, patterned)]
    assert rough[1] > 3 * rough[0]


def test_the_seed_decides(pictures):
    first, again, other = (draw_scenes(pictures, SceneRanges(), generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_pixels_are_means_of_their_samples():
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    assert averaged(fine).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]


def test_haze_fills_a_scene_by_its_depth():
    clean = torch.full((1, 3, 2, 2), 0.2)
    depth = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    ranges = HazeRanges(beta=(1.5, 1.5), near=(0.1, 0.1), far=(0.8, 0.8), airlight=(0.9, 0.9), tint=0.0)
    hazy = degrade_scene(clean, depth, ranges, generator())
    expected = 0.9 - 0.7 * torch.exp(-1.5 * 0.8 * depth / 4)
    torch.testing.assert_close(hazy, expected.expand(-1, 3, -1, -1))


def test_a_few_far_pixels_leave_the_room_hazy():
    clean = torch.full((1, 3, 10, 10), 0.2)
    depth = torch.full((1, 1, 10, 10), 2.0)
    depth[..., 0, :4] = 30.0  # through a doorway
    depth[..., 9, :] = 1.0
    ranges = HazeRanges(beta=(1.5, 1.5), near=(0.1, 0.1), far=(0.8, 0.8), airlight=(0.9, 0.9), tint=0.0)
    hazy = degrade_scene(clean, depth, ranges, generator())[0, 0]
    relative = (0.5, 1.0, 2.0)  # of the room's depth: its near part, its wall, and what lies beyond
    expected = [0.9 - 0.7 * math.exp(-1.5 * 0.8 * each) for each in relative]
    assert [hazy[9, 0].item(), hazy[5, 5].item(), hazy[0, 0].item()] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("view", (1.0, 60.0)),
        ("side", (2.0, 1.0)),
        ("boxes", -1),
        ("yaw", 200.0),
        ("plain_chance", 1.5),
        ("door_chance", -0.1),
        ("lamp", (0.5, 2.0)),
    ],
)
def test_ranges_that_cannot_be_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        SceneRanges(**{field: value})

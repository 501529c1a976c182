"""The residual U-Net: its blocks, brightness and numbers; test_backbone.py has what all must hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from backbones import MIX, UNET, image, randomised

from pipcli.configuration import from_mapping, to_mapping
from pipcli.degradations import Degradation
from pipcli.models.layers import ResidualBlock
from pipcli.models.spread import SpreadConfig
from pipcli.models.unet import UNet, UNetConfig

SCENE = UNetConfig(widths=(8, 8), blocks=(1, 1), prompts=(None,), degradations=(Degradation.HAZE,))
DARK = replace(SCENE, degradations=(Degradation.LOWLIGHT,))
MOTION = replace(SCENE, widths=(8, 12), degradations=(Degradation.BLUR,))


def test_new_block_is_the_identity():
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(ResidualBlock(8)(x), x)


def test_brightness_has_a_reference():
    # Without biases and without the constant plane the network would be homogeneous.
    model = randomised(UNet, UNET.bare)
    x = image(16, 16)
    with torch.no_grad():
        assert (model(0.5 * x, MIX) - 0.5 * model(x, MIX)).abs().max() > 1e-3
        model.head.weight[:, 3] = 0
        torch.testing.assert_close(model(0.5 * x, MIX), 0.5 * model(x, MIX))


def test_planes_tell_the_encoder_what_to_undo():
    x = image(16, 16)
    with torch.no_grad():
        for config, told in ((UNET.tiny, False), (replace(UNET.tiny, planes=True), True)):
            model = randomised(UNet, config)
            first, second, scaled = (
                model.encode(model.shown(x, omega))[0][0] for omega in (MIX, MIX.flip(0), 5 * MIX)
            )
            assert torch.equal(first, second) is not told
            torch.testing.assert_close(first, scaled)


def test_planes_need_no_prompts():
    model = randomised(UNet, replace(UNET.bare, planes=True))
    x = image(16, 16)
    with torch.no_grad():
        assert (model(x, MIX) - model(x, MIX.flip(0))).abs().max() > 1e-3


def test_new_net_starts_near_its_input():
    torch.manual_seed(0)
    x = image(32, 32)
    with torch.no_grad():
        change = UNet(UNetConfig())(x, MIX) - x
    assert 0 < change.std() < 0.2


def test_halves_as_often_as_it_has_widths():
    assert UNet(UNET.tiny).stride == 4
    assert UNet(replace(UNET.bare, widths=(8, 8), blocks=(0, 0), prompts=(None,))).stride == 2


def test_specialists_are_carried_and_change_nothing():
    config = replace(UNET.tiny, scene=SCENE, dark=DARK, motion=MOTION)
    assert from_mapping(UNetConfig, to_mapping(config)) == config
    model = randomised(UNet, config)
    alone = UNet(UNET.tiny)
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(("scene.", "dark.", "motion."))
    }
    alone.load_state_dict(own)
    x = image(16, 16)
    with torch.no_grad():
        assert torch.equal(model(x, MIX), alone(x, MIX))
    assert not alone.specialists
    assert {name: network.config for name, network in model.specialists.items()} == {
        "scene": SCENE,
        "dark": DARK,
        "motion": MOTION,
    }
    for network in model.eval().specialists.values():
        assert isinstance(network, UNet)
        assert network.training is False


def test_an_estimate_of_spread_is_told_and_given():
    config = UNetConfig((8, 8, 8, 12), (1, 1, 1, 1), (None,) * 3, (Degradation.BLUR,), spread=SpreadConfig())
    x, omega = image(21, 30), torch.ones(2, 1)
    model = UNet(config)
    with torch.no_grad():
        plain = UNet(replace(config, spread=None))
        plain.load_state_dict(
            {name: value for name, value in model.state_dict().items() if "spread" not in name}
        )
        assert torch.equal(model(x, omega), plain(x, omega))
        model = randomised(UNet, config)
        y, estimate = model.restore_and_estimate(x, omega)
        assert torch.equal(y, model(x, omega))
        assert estimate.shape == (len(x), 3, 3, 4)
        model.tell_spread[0].weight.zero_()
        assert not torch.equal(y, model(x, omega))
        assert plain.restore_and_estimate(x, omega)[1] is None


def test_an_estimate_of_spread_is_told_beside_planes():
    config = UNetConfig((8, 8, 8, 12), (1, 1, 1, 1), (None,) * 3, spread=SpreadConfig(), planes=True)
    model = randomised(UNet, config)
    with torch.no_grad():
        y, _ = model.restore_and_estimate(image(16, 16), MIX)
        assert torch.equal(y, model(image(16, 16), MIX))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (16,)}, "widths"),
        ({"spread": SpreadConfig()}, "spread needs a network of at least 4 widths"),
        ({"blocks": (1, 1)}, "blocks"),
        ({"blocks": (1, -1, 1)}, "blocks"),
        ({"prompts": (None,)}, "prompts"),
        ({"degradations": ()}, "degradations"),
        ({"scene": SCENE, "degradations": (Degradation.RAIN,)}, "scene needs a model that knows haze"),
        ({"motion": MOTION, "degradations": (Degradation.RAIN,)}, "motion needs a model that knows blur"),
        ({"scene": replace(SCENE, degradations=tuple(Degradation))}, "scene must be for haze alone"),
        ({"dark": SCENE}, "dark must be for lowlight alone"),
        ({"motion": SCENE}, "motion must be for blur alone"),
        ({"scene": replace(SCENE, planes=True)}, "scene must be bare"),
        ({"motion": replace(MOTION, prompts=UNET.tiny.prompts[:1])}, "motion must be bare"),
        ({"scene": replace(SCENE, scene=SCENE)}, "scene must be bare"),
        ({"motion": replace(MOTION, motion=MOTION)}, "motion must be bare"),
    ],
)
def test_configuration_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(UNET.tiny, **changes)

"""VGG-16: its published number of parameters, and sizes."""

from __future__ import annotations

import torch

from pipcli.models.vgg import VGG16


def test_it_has_the_parameters_of_configuration_d():
    with torch.device("meta"):
        model = VGG16(1000)
    # 138 million in the paper's Table 2; 138,357,544 is what every library counts.
    assert sum(parameter.numel() for parameter in model.parameters()) == 138_357_544


def test_images_become_logits():
    # Built without its weights' first values, which take seconds to draw.
    with torch.device("meta"):
        model = VGG16(5).eval()
        assert model(torch.rand(2, 3, 96, 64)).shape == (2, 5)

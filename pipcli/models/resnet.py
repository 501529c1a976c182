"""ResNet-34, with and without fast Fourier convolution: what names the degradation in PIP's Table S4.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1; PIP, supplement S4.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipcli.models.ffc import FourierBlock

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)


class ResNet34(nn.Module):
    """``net(x) -> y``: x B×3×H×W, y B×outputs.

    Args:
        outputs: numbers that come out, such as one logit a class.
        ratio: share of global channels in the first three stages; 0 is the plain ResNet-34, and 0.5, with
            local Fourier units, that of Table S4. The last stage's output is local.
    """

    def __init__(self, outputs: int, ratio: float = 0.0) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio is {ratio}: it must lie in [0, 1)")
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = []
        channels = (WIDTHS[0], 0)
        for number, (width, depth) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            far = int(width * ratio) if number < len(WIDTHS) - 1 else 0
            for block in range(depth):
                stride = 2 if number and not block else 1
                stages.append(FourierBlock(channels, (width - far, far), stride))
                channels = (width - far, far)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(WIDTHS[-1], outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.stages(self.stem(x)).mean(dim=(-2, -1)))
        return out

"""What a model takes, counted by hand and by the system, and how a limit is shared out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.errors import ModelError, UsageError
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.memory import MIB, PROGRAM, Demand, demand_of, share_out
from pipcli.models import zoo

CPU = torch.device("cpu")


class Wide(nn.Module):
    """Holds x, y and 32 planes: at most (3 + 3 + 32)·4 bytes a pixel while it runs, and 1 MiB of its own."""

    stride = 8
    halo = 32
    degradations = (Degradation.NOISE,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(MIB))

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        own = torch.zeros(MIB // 4)
        planes = x.new_zeros(1, 32, *x.shape[-2:])
        planes.add_(own[0])  # in place: nothing new
        return planes[:, :3].clone()


def test_the_demand_is_what_counting_by_hand_gives():
    demand = demand_of(Restorer(Wide(), CPU, Precision.FP32))
    assert demand.per_pixel == pytest.approx(1.3 * (3 + 3 + 32) * 4)
    assert demand.fixed == pytest.approx(MIB, rel=0.01)
    assert demand_of(Restorer(Wide(), CPU, Precision.FP32)) == demand


def test_a_demand_and_its_largest_side_agree():
    demand = Demand(1000, 100.0)
    assert demand.of(10, 1) == 1000 + 100 * 100
    assert demand.of(10, 4) == 1000 + 100 * 400
    for size in (0, 999, 1000, 1100, 12345, 10**9):
        for batch in (1, 3):
            side = demand.largest_side(size, batch)
            assert side == 0 or demand.of(side, batch) <= size
            assert demand.of(side + 1, batch) > size


def test_a_limit_is_shared_out():
    restorer = Restorer(Wide(), CPU, Precision.FP32, tile=1024)
    demand = demand_of(restorer)
    roomy = share_out(restorer, PROGRAM + 4000 * MIB)
    assert roomy.tile == 1024
    assert roomy.images == 4000 * MIB - demand.of(1024, 1)
    tight = share_out(restorer, PROGRAM + 80 * MIB)
    assert tight.tile % 8 == 0
    assert demand.of(tight.tile, 1) <= 40 * MIB < demand.of(tight.tile + 8, 1)
    assert 40 * MIB <= tight.images <= 80 * MIB
    batched = share_out(restorer.reshaped(batch=2), PROGRAM + 80 * MIB)
    assert demand.of(batched.tile, 2) <= 40 * MIB < demand.of(batched.tile + 8, 2)


def test_what_another_engine_takes_is_not_known():
    model = Wide()
    model.engine = "abacus"
    with pytest.raises(UsageError, match="--max-memory counts what torch takes, and abacus computes"):
        share_out(Restorer(model, CPU, Precision.FP32), 2**32)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_limit_too_low_is_refused_and_the_one_named_is_enough(batch):
    restorer = Restorer(Wide(), CPU, Precision.FP32, batch=batch)
    with pytest.raises(UsageError, match=r"--max-memory is 100 MiB: this model needs \d+ MiB") as caught:
        share_out(restorer, 100 * MIB)
    least = int(str(caught.value).split("needs ")[1].split()[0])
    assert share_out(restorer, least * MIB).tile >= restorer.tiling.smallest
    with pytest.raises(UsageError, match="--max-memory"):
        share_out(restorer, (least - 4 * batch) * MIB)


ONCE = """
import resource, sys
import numpy as np
import torch
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.memory import demand_of
from pipcli.models import zoo

side, precision = int(sys.argv[1]), Precision(sys.argv[2])
restorer = Restorer(zoo.load_model(), torch.device("cpu"), precision, tile=side)
image = Image(np.zeros((side, side, 3), np.uint8))
restorer.restore(image, [1.0] + [0.0] * (len(restorer.degradations) - 1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, demand_of(restorer).of(side, 1))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("side", [256, 512, 1024])
def test_the_demand_of_the_trained_model_is_about_what_the_system_sees(side, precision):
    try:
        zoo.load_model()
    except ModelError as error:
        pytest.skip(f"no trained weights: {error}")
    output = subprocess.run(
        [sys.executable, "-c", ONCE, str(side), precision],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ).stdout
    peak, demand = map(int, output.split())
    print(f"{side}² in {precision}: at most {peak / MIB:.0f} MiB, expected {(PROGRAM + demand) / MIB:.0f}")
    assert 0.5 * (PROGRAM + demand) < peak < 1.05 * (PROGRAM + demand)

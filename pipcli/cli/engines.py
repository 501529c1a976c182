"""The Restorer of a command line: model, device, engine and precision by their words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipcli.cli.messages import say
from pipcli.errors import DeviceError

if TYPE_CHECKING:
    from pipcli.export.engines import Engine
    from pipcli.inference.device import Precision
    from pipcli.inference.engine import Restorer
    from pipcli.models.backbone import RestorationModel

TORCH = ("auto", "torch")
"""Words of ``--engine`` that are torch: for dense U-Nets no other was faster; the README has the table."""


def make_restorer(
    model: RestorationModel, device: str, engine: str, precision: str, tile: int, batch: int | None = None
) -> Restorer:
    """A Restorer; an engine other than torch has its graphs made first, which stderr tells of.

    Args:
        model: as :func:`pipcli.models.zoo.load_model` gives it.
        device, engine, precision: words of the options.
        batch: None for what is usual on the device.

    Raises:
        UsageError, DeviceError, ExportError, OutputError: what is asked for is not there, or cannot be made.
    """
    from pipcli.inference.device import choose_device, choose_precision, usual_batch
    from pipcli.inference.engine import Restorer

    if engine in TORCH:
        where = choose_device(device)
        how = choose_precision(precision, where)
        return Restorer(model, where, how, tile, usual_batch(where) if batch is None else batch)

    # Here, since it takes its time: the exporter comes with it.
    from pipcli.export.engines import choose_engine, on_engine

    # The other engines are on the CPU alone: there is nothing to choose for auto.
    where = choose_device("cpu" if device == "auto" else device)
    chosen = choose_engine(engine, where)
    how = engine_precision(precision, chosen)
    made = on_engine(
        model, chosen, how.dtype, on_making=lambda: say(f"making graphs for {chosen}: once for these weights")
    )
    return Restorer(made, where, how, tile, usual_batch(where) if batch is None else batch)


def engine_precision(name: str, engine: Engine) -> Precision:
    """What an engine computes in; ``auto`` is what torch would take on the CPU where the engine has that.

    Raises:
        DeviceError: the engine does not compute in the precision asked for.
    """
    from pipcli.inference.device import Precision, choose_device, choose_precision

    able = [precision for precision in Precision if precision.dtype in engine.dtypes]
    if name == "auto":
        usual = choose_precision("auto", choose_device("cpu"))
        return usual if usual in able else Precision.FP32
    for precision in able:
        if precision.value == name:
            return precision
    known = " or ".join(precision.value for precision in able)
    raise DeviceError(f"engine {engine} does not compute in {name}: use --precision {known}")

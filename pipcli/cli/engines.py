"""The Restorer of a command line: model, device, engine and precision by their words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipcli.cli.messages import say
from pipcli.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

    from pipcli.export.engines import Engine
    from pipcli.inference.device import Precision
    from pipcli.inference.engine import Restorer
    from pipcli.models.backbone import RestorationModel

AUTO, TORCH = "auto", "torch"


def make_restorer(
    model: RestorationModel,
    device: str,
    engine: str,
    precision: str,
    tile: int,
    batch: int | None = None,
    compiled: bool = False,
    tell: Callable[[str], None] = say,
) -> Restorer:
    """A Restorer; an engine other than torch has its graphs made first, which is told.

    Args:
        model: as :func:`pipcli.models.zoo.load_model` gives it.
        device, engine, precision: words of the options. The engine ``auto`` is torch: fixed, not measured
            where it runs, so that a file comes out the same whatever else the machine was doing.
        batch: None for what is usual on the device.
        compiled: by torch.compile.
        tell: given what takes long, a line each.

    Raises:
        UsageError, DeviceError, ExportError, OutputError: what is asked for is not there, or cannot be made.
    """
    from pipcli.inference.device import choose_device, choose_precision, usual_batch
    from pipcli.inference.engine import Restorer

    if compiled and engine not in (AUTO, TORCH):
        raise UsageError(f"--compile is torch's: it has no meaning for --engine {engine}")
    # The other engines are on the CPU alone: there is nothing to choose for auto.
    where = choose_device("cpu" if device == "auto" and engine not in (AUTO, TORCH) else device)
    size = usual_batch(where) if batch is None else batch
    if compiled:
        how = choose_precision(precision, where)
        return Restorer(_compiled(model, where, how, tell), where, how, tile, size)
    if engine in (AUTO, TORCH):
        return Restorer(model, where, choose_precision(precision, where), tile, size)
    made, how = _on_engine(model, where, engine, precision, tell)
    return Restorer(made, where, how, tile, size)


def _on_engine(
    model: RestorationModel, where: torch.device, name: str, precision: str, tell: Callable[[str], None]
) -> tuple[RestorationModel, Precision]:
    # Here, since it takes its time: the exporter comes with it.
    from pipcli.export.engines import choose_engine, on_engine

    chosen = choose_engine(name, where)
    how = engine_precision(precision, chosen)
    made = on_engine(
        model,
        chosen,
        how.dtype,
        on_making=lambda: tell(f"making graphs for {chosen}: once for these weights"),
    )
    return made, how


def _compiled(
    model: RestorationModel, where: torch.device, how: Precision, tell: Callable[[str], None]
) -> RestorationModel:
    from pipcli.export.engines import compiled

    if where.type != "cpu":
        raise UsageError("--compile is for the CPU here: use --device cpu, or leave it out")
    if how.value == "fp16":
        raise DeviceError("--compile does not compute in fp16: use --precision fp32 or bf16")
    tell("compiling: minutes, less where it was done before")
    return compiled(model, how.dtype)


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

"""The training loop, for one process on a CPU or GPU and for each of several under torchrun."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipcli.configuration import to_mapping
from pipcli.errors import UsageError
from pipcli.models.backbone import RestorationModel
from pipcli.models.checkpoint import build_model, load_weights, save_weights
from pipcli.models.native import has_native_bfloat16
from pipcli.models.pip import decoupling_loss
from pipcli.synthesis import SynthesisRanges
from pipcli.training.checkpoint import (
    completed,
    load_checkpoint,
    make_folder,
    mean_of,
    require_free,
    save_checkpoint,
)
from pipcli.training.data import BatchMaker, load_photographs
from pipcli.training.losses import crop_losses
from pipcli.training.optimiser import make_optimisers, moments_of
from pipcli.training.recipe import Optimiser, Recipe
from pipcli.training.validation import make_validation, validate


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever shows it.

    Attributes:
        done: share of the run, 0 to 1.
        crops_per_second: over all processes, since the last report of this kind.
        validation: PSNR in dB by set, where this report follows a checkpoint.
    """

    step: int
    done: float
    minutes: float
    loss: float
    learning_rate: float
    crops_per_second: float
    validation: dict[str, float] | None = None


def learning_rate_at(optimiser: Optimiser, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then constant, then a cosine that ends at zero with the run."""
    warm = min(1.0, (step + 1) / max(1, optimiser.warmup))
    falling = max(0.0, done - optimiser.decay_from) / max(1e-9, 1 - optimiser.decay_from)
    return optimiser.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


def seed_of(seed: int, step: int, rank: int) -> int:
    """The seed of one process's draws in one step: 32 bits, which every generator reads in full."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init: Sequence[Path] = (),
    ct: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path | None:
    """Train by ``recipe`` and return the path of the finished weights, or None where a signal came first.

    Under ``out`` stand ``log.jsonl`` (a line every validation), ``checkpoint/`` (for ``resume``),
    ``best.safetensors`` (the average with the best validation so far) and, at the end, ``last.safetensors``.
    SIGTERM and SIGINT end the run with a checkpoint at once, without a validation.

    Args:
        data: folder of training photographs (``training/data.py`` says its layout).
        out: folder of the run, made if need be.
        resume: go on from ``out/checkpoint``.
        init: weights to start from. They may lack the prompts (a bare model's) or come from a shallower
            model: what they lack starts as it would in a new model, which changes no output. Of several,
            their mean; what some lack should have begun from the same seed in the others.
        ct: folder of CT slices, in place of ``ct`` in ``data``.

    Raises:
        UsageError: recipe, data or init do not fit, or ``out`` holds a run that is not to be resumed.
        ModelError: weights or checkpoint missing or damaged.
        OutputError: ``out`` cannot be made.
    """
    if bool(recipe.minutes) == bool(recipe.steps):
        raise UsageError("give the length of the run either in minutes or in steps")
    require_free(out, resume)
    device, dtype, rank, world = place_process()
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.architecture, recipe.model)
    if init:
        _initialise(model, init)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = [name for name, _ in model.named_parameters()]
    parameters: list[Tensor] = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimisers = make_optimisers(parameters, recipe.optimiser)
    largest = max(stage.crop for stage in recipe.stages)
    photographs, held_out = load_photographs(data, device, largest, ct)
    batches = BatchMaker(photographs, model.degradations, recipe.data, SynthesisRanges())
    sets = make_validation(held_out, model.degradations) if rank == 0 else {}
    tasks = [recipe.loss.tasks.get(degradation, 1.0) for degradation in model.degradations]
    task_weights = torch.tensor(tasks, device=device)

    step, minutes_before, best = 0, 0.0, -math.inf
    if resume:
        tensors, state = load_checkpoint(out)
        _restore(tensors, names, parameters, average, optimisers)
        step, minutes_before, best = state["step"], state["minutes"], state["best"]
    make_folder(out)

    trained: Callable[[Tensor, Tensor], Tensor] = DistributedDataParallel(model) if world > 1 else model
    if recipe.compile:
        trained = torch.compile(trained)
    started = reported = checkpointed = time.monotonic()
    crops = 0

    def minutes() -> float:
        return minutes_before + (time.monotonic() - started) / 60

    def done() -> float:
        return min(1.0, minutes() / recipe.minutes if recipe.minutes else step / recipe.steps)

    def save() -> dict[str, float]:
        """Write the checkpoint, and return its state."""
        state = {"step": step, "minutes": minutes(), "best": best}
        save_checkpoint(out, _collect(names, parameters, average, optimisers), state)
        return state

    def keep(loss: float, rate: float, speed: float) -> dict[str, Any]:
        """Validate the average, write checkpoint, best weights and a line of the log.

        Returns the record of the training so far.
        """
        nonlocal best
        with _averaged(parameters, average):
            scores = validate(model, sets, model.degradations, device, dtype)
            validation = {name: round(value, 3) for name, value in scores.items()}
            record = {
                "recipe": to_mapping(recipe),
                "step": step,
                "minutes": round(minutes(), 2),
                "device": device_name(device, dtype),
                "processes": world,
                "initialised_from": " + ".join(path.name for path in init) or None,
                "validation": validation,
            }
            if scores["mean"] > best:
                best = scores["mean"]
                save_weights(model, out / "best.safetensors", record)
        line = {**save(), "done": done(), "loss": loss, "learning_rate": rate, "crops_per_second": speed}
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({**line, "validation": validation}) + "\n")
        report(Progress(step, done(), minutes(), loss, rate, speed, scores))
        return record

    loss_sum = torch.zeros((), device=device)
    loss_count, speed, rate = 0, 0.0, 0.0
    with collected_signals() as stopped:
        while True:
            # Clocks differ, and a signal may reach one process alone: all must agree on every step.
            now_done, stop = _agree(done(), bool(stopped), world)
            if now_done >= 1 or stop:
                break
            stage = recipe.stage_at(now_done)
            # Every step draws from a seed of its own: a resumed run goes on as if never interrupted.
            batch = batches.make(stage, seed_of(recipe.seed, step, rank))
            rate = learning_rate_at(recipe.optimiser, step, now_done)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate
            inputs = batch.inputs.to(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                output = trained(inputs, batch.omega)
            losses = crop_losses(output.float(), batch.targets, recipe.loss)
            loss = (losses * (batch.omega @ task_weights)).mean()
            if recipe.loss.decoupling:
                loss = loss + recipe.loss.decoupling * decoupling_loss(model)
            model.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
            # A non-finite gradient would spoil the weights for good; on a GPU the test must not wait for it.
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            loss_sum += torch.where(norm.isfinite(), loss.detach(), 0)
            for optimiser in optimisers:
                optimiser.step()
            decay = min(recipe.optimiser.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - decay)
            step += 1
            loss_count += 1
            crops += len(inputs) * world

            now = time.monotonic()
            if now - reported >= 5:
                speed = crops / (now - reported)
                reported, crops = now, 0
                report(Progress(step, now_done, minutes(), loss_sum.item() / loss_count, rate, speed))
            if rank == 0 and now - checkpointed >= 60 * recipe.checkpoint_minutes:
                keep(loss_sum.item() / loss_count, rate, speed)
                loss_sum.zero_()
                loss_count = 0
                checkpointed = reported = time.monotonic()
                crops = 0
        final = out / "last.safetensors"
        if rank == 0 and stop:
            # Whoever sent the signal may not wait for a validation.
            save()
        elif rank == 0:
            record = keep(loss_sum.item() / max(1, loss_count), rate, speed)
            with _averaged(parameters, average):
                save_weights(model, final, record)
    if world > 1:
        distributed.destroy_process_group()
    return None if stop else final


def place_process() -> tuple[torch.device, torch.dtype, int, int]:
    """Device, autocast type, rank and number of processes; joins torchrun's group where there is one."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    else:
        device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    # float16 would need its losses scaled; what only emulates bfloat16 is quicker in float32.
    dtype = torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if world > 1:
        # What the processes agree on each step goes through gloo, so that no GPU is waited for.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return device, dtype, rank, world


def device_name(device: torch.device, dtype: torch.dtype) -> str:
    """What a record of training calls the device and the type that convolutions had on it."""
    cpu = f"{device.type}, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return f"{name}, {str(dtype).removeprefix('torch.')}"


def _agree(done: float, stop: bool, world: int) -> tuple[float, bool]:
    """The furthest progress of any process, and whether any wants to stop: the same in all of them."""
    if world == 1:
        return done, stop
    values = torch.tensor([done, float(stop)], dtype=torch.float64)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    furthest, stops = values.tolist()
    return furthest, bool(stops)


def _initialise(model: RestorationModel, paths: Sequence[Path]) -> None:
    """Load weights, or their mean, that may lack what starts without effect: prompts, planes, blocks."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(1, 3, 4 * model.stride, 4 * model.stride)
    states = []
    for path in paths:
        source = load_weights(path)
        if (source.prompted or source.told) and source.degradations != model.degradations:
            known = ", ".join(map(str, source.degradations))
            raise UsageError(f"weights {path} do not fit the recipe's model: they are for {known}")
        states.append(completed(path, source.state_dict(), own))
        model.load_state_dict(states[-1])
        with torch.no_grad():
            outputs = [net(x, torch.full((1, len(net.degradations)), 1.0)) for net in (source, model)]
        if (outputs[0] - outputs[1]).abs().max() > 1e-3:
            raise UsageError(
                f"weights {path} do not fit the recipe's model: what they lack changes its output"
            )
    model.load_state_dict(mean_of(states))


def _collect(
    names: list[str],
    parameters: list[Tensor],
    average: list[Tensor],
    optimisers: list[torch.optim.Optimizer],
) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    tensors: dict[str, Tensor] = {}
    moments = {parameter: kept for optimiser in optimisers for parameter, kept in optimiser.state.items()}
    for name, parameter, mean in zip(names, parameters, average, strict=True):
        tensors |= {f"model.{name}": parameter, f"average.{name}": mean}
        tensors |= {f"{kind}.{name}": moment for kind, moment in moments.get(parameter, {}).items()}
    return tensors


def _restore(
    tensors: dict[str, Tensor],
    names: list[str],
    parameters: list[Tensor],
    average: list[Tensor],
    optimisers: list[torch.optim.Optimizer],
) -> None:
    """The inverse of :func:`_collect`.

    Raises:
        UsageError: the tensors are not exactly those of the recipe's model; nothing is changed then.
    """
    # Before the first step there are no moments.
    stepped = any(not name.startswith(("model.", "average.")) for name in tensors)
    keeper = {
        p: optimiser for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]
    }
    shapes: dict[str, torch.Size] = {}
    for name, parameter in zip(names, parameters, strict=True):
        moments = moments_of(keeper[parameter]) if stepped else ()
        for kind in ("model", "average", *moments):
            shapes[f"{kind}.{name}"] = torch.Size() if kind == "step" else parameter.shape
    for name in sorted({*shapes, *tensors}):
        if name not in shapes or name not in tensors or shapes[name] != tensors[name].shape:
            raise UsageError(f"the checkpoint does not fit the recipe's model: {name} is missing or differs")
    with torch.no_grad():
        for name, parameter, mean in zip(names, parameters, average, strict=True):
            parameter.copy_(tensors[f"model.{name}"])
            mean.copy_(tensors[f"average.{name}"])
            for kind in moments_of(keeper[parameter]) if stepped else ():
                moment = tensors[f"{kind}.{name}"]
                if kind != "step":
                    moment = torch.empty_like(parameter).copy_(moment)
                keeper[parameter].state[parameter][kind] = moment


@contextmanager
def _averaged(parameters: list[Tensor], average: list[Tensor]) -> Iterator[None]:
    """The model with its averaged weights, inside the block only."""
    current = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, current)


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; the step in hand is finished first."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous: dict[int, Any] = {
        number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

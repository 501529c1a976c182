"""The training loop, for one process on a CPU or GPU and for each of several under torchrun."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipcli.configuration import to_mapping
from pipcli.errors import UsageError
from pipcli.models.backbone import SPECIALISTS, RestorationModel
from pipcli.models.checkpoint import build_model, load_weights, read_record, save_weights
from pipcli.models.pip import decoupling_loss
from pipcli.synthesis import SynthesisRanges
from pipcli.training.checkpoint import (
    add_line,
    completed,
    load_checkpoint,
    make_folder,
    mean_of,
    origins_of,
    require_free,
    save_checkpoint,
)
from pipcli.training.data import BatchMaker, load_photographs
from pipcli.training.losses import crop_losses, spread_loss
from pipcli.training.optimiser import make_optimisers, moments_of, set_rate
from pipcli.training.pace import Pace, Progress, check_length, learning_rate_at, seed_of
from pipcli.training.process import agreed, collected_signals, device_name, place_process
from pipcli.training.recipe import Recipe
from pipcli.training.validation import make_validation, validate


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
            their mean; what some lack should have begun from the same seed in the others. Specialists
            (networks for scenes and motion) are trained as models of their own, and a run of another leaves
            them as they are: the weights of one go into the model's, and else those that the others have.
        ct: folder of CT slices, in place of ``ct`` in ``data``.

    Raises:
        UsageError: recipe, data or init do not fit, or ``out`` holds a run that is not to be resumed.
        ModelError: weights or checkpoint missing or damaged.
        OutputError: ``out`` cannot be made.
    """
    check_length(recipe.minutes, recipe.steps, init)
    require_free(out, resume)
    device, dtype, rank, world = place_process()
    torch.manual_seed(recipe.seed)
    before: dict[str, Any] = {
        "step": 0,
        "minutes": 0.0,
        "best": None,
        "specialists": _specialists_among(init, recipe.architecture)
        | {name: recipe.model[name] for name in SPECIALISTS if recipe.model.get(name) is not None},
        "initialised_from": origins_of(init),
    }
    tensors: dict[str, Tensor] = {}
    if resume:
        # With what the run started from: it need not be told again.
        tensors, state = load_checkpoint(out)
        before |= state
    model = build_model(recipe.architecture, {**recipe.model, **before["specialists"]})
    if init or not resume:
        _initialise(model, init)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for specialist in model.specialists.values():
        specialist.requires_grad_(False)
    names = [name for name, _ in model.named_parameters()]
    parameters: list[Tensor] = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimisers = make_optimisers(parameters, recipe.optimiser)
    largest = max(stage.crop for stage in recipe.stages) + 2 * recipe.data.margin
    photographs, held_out = load_photographs(data, device, largest, ct)
    batches = BatchMaker(photographs, model.degradations, recipe.data, SynthesisRanges())
    sets = make_validation(held_out, model.degradations) if rank == 0 else {}
    tasks = [recipe.loss.tasks.get(degradation, 1.0) for degradation in model.degradations]
    task_weights = torch.tensor(tasks, device=device)

    if resume:
        _restore(tensors, names, parameters, average, optimisers)
    best: float = -math.inf if before["best"] is None else before["best"]
    make_folder(out)

    trained: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]] = _Trained(model)
    if world > 1:
        trained = DistributedDataParallel(trained)
    if recipe.compile:
        trained = torch.compile(trained)
    pace = Pace(
        recipe.minutes, recipe.steps, recipe.checkpoint_minutes, int(before["step"]), before["minutes"]
    )

    def save() -> dict[str, float | None]:
        """Write the checkpoint, and return what a line of the log has of its state."""
        state = {"step": pace.step, "minutes": pace.minutes, "best": best if math.isfinite(best) else None}
        save_checkpoint(out, _collect(names, parameters, average, optimisers), {**before, **state})
        return state

    def keep() -> dict[str, Any]:
        """Validate the average, write checkpoint, best weights and a line of the log.

        Returns the record of the training so far.
        """
        nonlocal best
        with _averaged(parameters, average):
            scores = validate(model, sets, model.degradations, device, dtype)
            validation = {name: round(value, 3) for name, value in scores.items()}
            record = {
                "recipe": to_mapping(recipe),
                "step": pace.step,
                "minutes": round(pace.minutes, 2),
                "device": device_name(device, dtype),
                "processes": world,
                "initialised_from": before["initialised_from"],
                "validation": validation,
            }
            if scores["mean"] > best:
                best = scores["mean"]
                save_weights(model, out / "best.safetensors", record)
        progress = pace.progress(scores)
        add_line(out, save(), progress, {"validation": validation})
        report(progress)
        return record

    with collected_signals() as stopped:
        while True:
            # Clocks differ, and a signal may reach one process alone: all must agree on every step.
            done, stop = agreed(pace.done, bool(stopped), world)
            if done >= 1 or stop:
                break
            # Every step draws from a seed of its own: a resumed run goes on as if never interrupted.
            stage, seed = recipe.stage_at(done), seed_of(recipe.seed, pace.step, rank)
            parts = [(batches.make(stage, seed), 1.0)]
            if stage.scenes:
                parts.append((batches.make_scenes(stage.scenes, seed), recipe.loss.scenes))
            pace.rate = set_rate(optimisers, learning_rate_at(recipe.optimiser, pace.step, done))
            losses: list[Tensor] = []
            others: list[Tensor] = []
            for batch, weight in parts:
                inputs = batch.inputs.to(memory_format=torch.channels_last)
                with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                    output, spread = trained(inputs, batch.omega)
                weights = weight * (batch.omega @ task_weights)
                losses.append(crop_losses(output.float(), batch.targets, recipe.loss) * weights)
                if spread is not None and batch.covariance is not None:
                    others.append(recipe.loss.spread * spread_loss(spread.float(), batch.covariance))
            loss = torch.cat(losses).mean() + sum(others)
            if recipe.loss.decoupling:
                loss = loss + recipe.loss.decoupling * decoupling_loss(model)
            model.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
            # A non-finite gradient would spoil the weights for good; on a GPU the test must not wait for it.
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            for optimiser in optimisers:
                optimiser.step()
            decay = min(recipe.optimiser.ema, (1 + pace.step) / (10 + pace.step))
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - decay)
            pace.count(sum(map(len, losses)) * world, torch.where(norm.isfinite(), loss, 0))
            if pace.report_due():
                report(pace.progress())
            if rank == 0 and pace.checkpoint_due():
                keep()
                pace.kept()
        final = out / "last.safetensors"
        if rank == 0 and stop:
            # Whoever sent the signal may not wait for a validation.
            save()
        elif rank == 0:
            record = keep()
            with _averaged(parameters, average):
                save_weights(model, final, record)
    if world > 1:
        distributed.destroy_process_group()
    return None if stop else final


class _Trained(nn.Module):
    """What is called in training, and what DDP wraps: a model that says what it estimates on the way, too."""

    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, omega: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.model.restore_and_estimate(x, omega)


def _specialists_among(paths: Sequence[Path], architecture: str) -> dict[str, Any]:
    """Numbers of the specialists that weights to start from have, so that they are not lost."""
    found: dict[str, Any] = {}
    for record in map(read_record, paths):
        if record["architecture"] == architecture:
            config = record["config"]
            own = {name: config[name] for name in SPECIALISTS if config.get(name) is not None}
            found = own | found
    return found


def _initialise(model: RestorationModel, paths: Sequence[Path]) -> None:
    """Load weights, or their mean, that may lack what starts without effect: prompts, planes, blocks."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(1, 3, 4 * model.stride, 4 * model.stride)
    states: list[dict[str, Tensor]] = []
    trained: dict[str, list[dict[str, Tensor]]] = {name: [] for name in model.specialists}
    inherited: dict[str, list[dict[str, Tensor]]] = {name: [] for name in model.specialists}
    for path in paths:
        source = load_weights(path)
        own_names = [name for name, each in model.specialists.items() if each.config == source.config]
        for name in own_names:
            trained[name].append(source.state_dict())
        if own_names:
            continue
        for name in inherited.keys() & source.specialists.keys():
            inherited[name].append(source.specialists[name].state_dict())
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
    if states:
        model.load_state_dict(mean_of(states))
    for name, specialist in model.specialists.items():
        given = trained[name] or inherited[name]
        if not given:
            raise UsageError(f"model.{name} is trained by itself: give its weights to start from")
        specialist.load_state_dict(mean_of(given))


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
        moments = moments_of(keeper[parameter]) if stepped and parameter.requires_grad else ()
        for kind in ("model", "average", *moments):
            shapes[f"{kind}.{name}"] = torch.Size() if kind == "step" else parameter.shape
    for name in sorted({*shapes, *tensors}):
        if name not in shapes or name not in tensors or shapes[name] != tensors[name].shape:
            raise UsageError(f"the checkpoint does not fit the recipe's model: {name} is missing or differs")
    with torch.no_grad():
        for name, parameter, mean in zip(names, parameters, average, strict=True):
            parameter.copy_(tensors[f"model.{name}"])
            mean.copy_(tensors[f"average.{name}"])
            for kind in moments_of(keeper[parameter]) if stepped and parameter.requires_grad else ():
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

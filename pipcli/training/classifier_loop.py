"""The training loop of the classifier, for one process."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.configuration import to_mapping
from pipcli.errors import UsageError
from pipcli.models.backbone import RestorationModel
from pipcli.models.checkpoint import (
    CLASSIFIER,
    load_classifier_weights,
    load_weights,
    read_record,
    save_weights,
)
from pipcli.models.classifier import Classifier
from pipcli.models.unet import UNet
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
from pipcli.training.classifier_data import ExampleBatch, ExampleMaker, ExampleShares
from pipcli.training.classifier_recipe import ClassifierRecipe
from pipcli.training.classifier_validation import (
    find_calibration,
    make_clean_views,
    make_views,
    predict,
    presence_loss,
    scores_of,
)
from pipcli.training.data import load_photographs
from pipcli.training.optimiser import make_optimisers, moments_of, set_rate
from pipcli.training.pace import Pace, Progress, check_length, learning_rate_at, seed_of
from pipcli.training.process import collected_signals, device_name, place_process

_CALIBRATION = ("temperature", "offset")


def train_classifier(
    recipe: ClassifierRecipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init: Sequence[Path] = (),
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path | None:
    """Train by ``recipe`` and return the path of the finished weights, or None where a signal came first.

    Under ``out`` stand the files that :func:`pipcli.training.loop.train` writes; every weights file is the
    moving average of the weights, calibrated on the held-out photographs and on clean ones.

    Args:
        data: folder of training photographs (``training/data.py`` says its layout).
        out: folder of the run, made if need be.
        resume: go on from ``out/checkpoint``.
        init: weights of a classifier to start from. They may come from a shallower one, or one without the
            frozen networks: what they lack starts without effect. Of several, their mean. The frozen networks
            are trained in restoration models, whose weights are given here too, unless a classifier has them.

    Raises:
        UsageError: recipe, data or init do not fit, ``out`` holds a run that is not to be resumed, or several
            processes were started.
        ModelError: weights or checkpoint are missing or damaged.
        OutputError: ``out`` cannot be made.
    """
    check_length(recipe.minutes, recipe.steps, init)
    require_free(out, resume)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a classifier is trained by one process: start it without torchrun")
    device, dtype, _, _ = place_process()
    torch.manual_seed(recipe.seed)
    config = recipe.config
    model = Classifier(config)
    if init or not resume:
        _initialise(model, init)
    model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    _hold_all_but(recipe.learned, model)
    average = copy.deepcopy(model).eval()
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimisers = make_optimisers(parameters, recipe.optimiser)
    training, held_out = load_photographs(data, torch.device("cpu"), config.size)
    ranges = SynthesisRanges()
    maker = ExampleMaker(training, model.degradations, recipe.data, ranges)
    # Not by the recipe's shares: runs are compared on the same pictures, whatever they learn from.
    views = make_views(
        ExampleMaker(held_out, model.degradations, ExampleShares(), ranges), config.size, config.crops
    )
    cleans = make_clean_views(training, len(model.degradations), config.size, config.crops)

    before: dict[str, Any] = {"step": 0, "minutes": 0.0, "best": None, "initialised_from": origins_of(init)}
    if resume:
        # With what the run started from: it need not be told again.
        tensors, state = load_checkpoint(out)
        before |= state
        _restore(tensors, model, average, optimisers)
    best: float = math.inf if before["best"] is None else before["best"]
    make_folder(out)
    pace = Pace(
        recipe.minutes, recipe.steps, recipe.checkpoint_minutes, int(before["step"]), before["minutes"]
    )

    def save() -> dict[str, float | None]:
        """Write the checkpoint, and return what a line of the log has of its state."""
        state = {"step": pace.step, "minutes": pace.minutes, "best": best if math.isfinite(best) else None}
        save_checkpoint(out, _collect(model, average, optimisers), {**before, **state})
        return state

    def keep() -> dict[str, Any]:
        """Calibrate and validate the average, write checkpoint, best weights and a line of the log."""
        nonlocal best
        average.temperature.fill_(1.0)
        average.offset.fill_(0.0)
        logits, sigma = predict(average, views, device, dtype)
        known, _ = predict(average, cleans, device, dtype)
        temperature, offset = find_calibration(
            torch.cat([logits, known]), torch.cat([views.present, cleans.present])
        )
        average.temperature.copy_(temperature)
        average.offset.copy_(offset)
        scores = scores_of(logits / temperature + offset, sigma, views)
        record = {
            "recipe": to_mapping(recipe),
            "step": pace.step,
            "minutes": round(pace.minutes, 2),
            "device": device_name(device, dtype),
            "initialised_from": before["initialised_from"],
            "validation": {name: round(value, 4) for name, value in scores.items()},
        }
        if scores["loss"] < best:
            best = scores["loss"]
            save_weights(average, out / "best.safetensors", record)
        progress = pace.progress(scores)
        calibration = {"temperature": temperature.tolist(), "offset": offset.tolist()}
        add_line(out, save(), progress, {**calibration, "validation": scores})
        report(progress)
        return record

    def make(step: int) -> ExampleBatch:
        """The batch of a step, by nothing but its number."""
        # From a seed of its own: the number of crops must not go with what the examples begin with.
        examples, crops = recipe.drawn(seed_of(recipe.seed, step, 1))
        return maker.batch(examples, config.size, crops, seed_of(recipe.seed, step, 0))

    # What was seen of each batch so far, beside what is known of it. A run that goes on has forgotten it.
    memory: list[tuple[Tensor, ...]] = []

    # Making a batch takes as long as learning from one: the next is made meanwhile.
    with collected_signals() as stopped, ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(make, pace.step)
        while pace.done < 1 and not stopped:
            batch = following.result()
            following = ahead.submit(make, pace.step + 1)
            pace.rate = set_rate(optimisers, learning_rate_at(recipe.optimiser, pace.step, pace.done))
            # For dropout, which draws from torch's own generator: a resumed run draws as a whole one.
            torch.manual_seed(seed_of(recipe.seed, pace.step, 2))
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                seen = model.look(batch.crops.to(device), batch.overviews.to(device))
            rows = *seen, batch.present.to(device), batch.sigma.to(device)
            if recipe.replayed:
                again = random.Random(seed_of(recipe.seed, pace.step, 3))
                chosen = again.choices(memory, k=recipe.replayed) if memory else []
                memory.append(rows)
                rows = tuple(torch.cat(each) for each in zip(rows, *chosen, strict=True))
            logits, sigma = model.judge(*rows[:-2])
            present, known = rows[-2:]
            loss = presence_loss(logits, present, recipe.smoothing, recipe.clean_weight)
            loss = loss + recipe.noise_weight * sigma_loss(sigma, known)
            model.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
            for optimiser in optimisers:
                optimiser.step()
            _follow(average, model, min(recipe.optimiser.ema, (1 + pace.step) / (10 + pace.step)))
            pace.count(len(batch.present), loss)
            if pace.report_due():
                report(pace.progress())
            if pace.checkpoint_due():
                keep()
                pace.kept()
        final = out / "last.safetensors"
        if stopped:
            # Whoever sent the signal may not wait for a validation.
            save()
            return None
        record = keep()
        save_weights(average, final, record)
    return final


def sigma_loss(sigma: Tensor, known: Tensor) -> Tensor:
    """Mean smooth L1 of log(1 + sigma), so that relative errors count, over the images where it is known.

    Args:
        sigma: B, estimates in units of 1/255.
        known: B, the truth, NaN where unknown.
    """
    measured = known.isfinite()
    difference = torch.log1p(sigma) - torch.log1p(torch.where(measured, known, 0.0))
    losses = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=0.1)
    return torch.where(measured, losses, 0.0).sum() / measured.sum().clamp(min=1)


def _initialise(model: Classifier, paths: Sequence[Path]) -> None:
    """Load weights, or their mean, that may lack what starts without effect, and the frozen networks'.

    The latter are parts of restoration models, or else those that the classifiers have.
    """
    own = {name: value.clone() for name, value in model.state_dict().items()}
    states: list[dict[str, Tensor]] = []
    trained: dict[str, list[dict[str, Tensor]]] = {name: [] for name in model.frozen}
    inherited: dict[str, list[dict[str, Tensor]]] = {name: [] for name in model.frozen}
    for path in paths:
        if read_record(path)["architecture"] == CLASSIFIER:
            source = load_classifier_weights(path)
            states.append(completed(path, source.state_dict(), own))
            for name in inherited.keys() & source.frozen.keys():
                inherited[name].append(source.frozen[name].state_dict())
            continue
        parts = _parts_of(load_weights(path), model)
        if not parts:
            raise UsageError(f"weights {path} do not fit the recipe's model: it has no place for any of them")
        for name, part in parts.items():
            trained[name].append(part.state_dict())
    if states:
        model.load_state_dict(mean_of(states))
    for name, network in model.frozen.items():
        given = trained[name] or inherited[name]
        if not given:
            raise UsageError(f"model.{name} is trained by itself: give its weights to start from")
        network.load_state_dict(mean_of(given))
    # What is learned is not calibrated.
    model.load_state_dict({name: own[name] for name in _CALIBRATION}, strict=False)


def _hold_all_but(learned: Sequence[str], model: Classifier) -> None:
    """Leave every part of a model in training as it is, BatchNorm's statistics too, but those of these names.

    Raises:
        UsageError: the model has no part of such a name.
    """
    parts = dict(model.named_children())
    trainable = sorted(parts.keys() - model.frozen.keys())
    for name in learned:
        if name not in trainable:
            raise UsageError(
                f"learned names {name!r}, which the model lacks: choose from {', '.join(trainable)}"
            )
    for name in parts.keys() - set(learned) if learned else ():
        parts[name].eval().requires_grad_(False)


def _parts_of(source: RestorationModel, model: Classifier) -> dict[str, nn.Module]:
    """What a restoration model and its specialists have of a classifier's frozen networks, by their names."""
    parts: dict[str, nn.Module] = {}
    for network in (source, *source.specialists.values()):
        if isinstance(network, UNet):
            if model.scene is not None and network.config == model.config.scene:
                parts["scene"] = network
            if model.motion is not None and network.config == model.config.motion:
                parts["motion"] = network
    return parts


def _follow(average: Classifier, model: Classifier, decay: float) -> None:
    """Move the average towards the model: parameters and BatchNorm's statistics alike."""
    with torch.no_grad():
        for mean, value in zip(_averaged(average), _averaged(model), strict=True):
            mean.lerp_(value, 1 - decay)


def _averaged(model: Classifier) -> list[Tensor]:
    """Every tensor of floats but the calibration, which belongs to the average alone."""
    return [
        value
        for name, value in model.state_dict().items()
        if value.is_floating_point() and name not in _CALIBRATION
    ]


def _collect(
    model: Classifier, average: Classifier, optimisers: list[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for optimiser in optimisers:
        for name, parameter in model.named_parameters():
            if moments := optimiser.state.get(parameter):
                tensors |= {f"{key}.{name}": moments[key] for key in moments_of(optimiser)}
    return tensors


def _restore(
    tensors: dict[str, Tensor],
    model: Classifier,
    average: Classifier,
    optimisers: list[torch.optim.Optimizer],
) -> None:
    """The inverse of :func:`_collect`.

    Raises:
        UsageError: the tensors are not those of the recipe's model.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    try:
        for kind, module in (("model", model), ("average", average)):
            module.load_state_dict({name: tensors[f"{kind}.{name}"] for name in module.state_dict()})
        stepped = any(name.startswith(("step.", "momentum.")) for name in tensors)
        for optimiser in optimisers if stepped else ():
            for group in optimiser.param_groups:
                for parameter in group["params"]:
                    optimiser.state[parameter] = {
                        # AdamW keeps its count of steps on the CPU.
                        key: tensors[f"{key}.{names[parameter]}"].to(
                            "cpu" if key == "step" else parameter.device
                        )
                        for key in moments_of(optimiser)
                    }
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"the checkpoint does not fit the recipe's model: {error}") from None

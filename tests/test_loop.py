"""The training loop: it learns, averages, stops, resumes and starts from other weights as it says."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from photographs import TINY
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from pipcli.configuration import from_mapping
from pipcli.errors import ModelError, OutputError, UsageError
from pipcli.models.checkpoint import build_model, load_weights, read_record, save_weights, sha256_of
from pipcli.models.pip import decoupling_loss
from pipcli.training import loop, pace, process
from pipcli.training.checkpoint import load_checkpoint
from pipcli.training.data import SCENE, BatchMaker
from pipcli.training.loop import train
from pipcli.training.losses import spread_loss
from pipcli.training.pace import Progress, learning_rate_at
from pipcli.training.recipe import Optimiser, Recipe

OMEGA = torch.tensor([[0.6, 0.0, 0.4, 0.0, 0.0]])


def recipe(**changes: Any) -> Recipe:
    return from_mapping(Recipe, {**copy.deepcopy(TINY), **changes})


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def seeds(monkeypatch):
    """The seed of every batch that is made, in order."""
    made: list[int] = []
    make = BatchMaker.make

    def noted(self, stage, seed):
        made.append(seed)
        return make(self, stage, seed)

    monkeypatch.setattr(BatchMaker, "make", noted)
    return made


@pytest.fixture
def steps(monkeypatch):
    """Learning rate and parameters after every optimiser step, in order."""
    taken: list[tuple[float, list[torch.Tensor]]] = []
    step = torch.optim.AdamW.step

    def noted(self, *arguments):
        step(self, *arguments)
        group = self.param_groups[0]
        taken.append((group["lr"], [parameter.detach().clone() for parameter in group["params"]]))

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    return taken


# Learning rate


def test_warm_up_is_linear_and_the_end_is_zero():
    optimiser = Optimiser(learning_rate=2e-3, warmup=10)
    assert [learning_rate_at(optimiser, step, 0) for step in (0, 4, 9, 50)] == pytest.approx(
        [2e-4, 1e-3, 2e-3, 2e-3]
    )
    assert learning_rate_at(optimiser, 100, 0.5) == pytest.approx(1e-3)
    assert learning_rate_at(optimiser, 100, 0.25) == pytest.approx(2e-3 * math.cos(math.pi / 8) ** 2)
    assert learning_rate_at(optimiser, 100, 1.0) == pytest.approx(0, abs=1e-12)


def test_decay_begins_where_the_recipe_says():
    optimiser = Optimiser(learning_rate=1.0, warmup=0, decay_from=0.6)
    rates = [learning_rate_at(optimiser, 5, done) for done in (0, 0.3, 0.6, 0.8, 0.9, 1.0)]
    expected = [1, 1, 1, 0.5, math.cos(math.pi * 3 / 8) ** 2, 0]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_no_decay_where_it_begins_at_the_end():
    optimiser = Optimiser(learning_rate=1.0, warmup=0, decay_from=1.0)
    assert [learning_rate_at(optimiser, 5, done) for done in (0, 0.5, 0.999)] == [1, 1, 1]


def test_the_run_takes_these_rates(photo_folder, tmp_path, steps):
    run = recipe(steps=8, optimiser={"warmup": 3, "decay_from": 0.25})
    train(run, photo_folder, tmp_path)
    expected = [learning_rate_at(run.optimiser, step, step / 8) for step in range(8)]
    assert [rate for rate, _ in steps] == expected
    assert expected[0] < expected[1] < expected[2] > expected[3] > expected[7]


# Learning


def test_scenes_pull_beside_the_crops(photo_folder, tmp_path, monkeypatch, steps):
    sizes: list[tuple[int, int]] = []
    crop_losses = loop.crop_losses

    def noted(output, target, weights):
        sizes.append((len(output), output.shape[-1]))
        return crop_losses(output, target, weights)

    monkeypatch.setattr(loop, "crop_losses", noted)
    stages = [{"until": 1.0, "crop": 32, "batch": {"noise": 2}, "scenes": {"haze": 3}}]
    for name, weight in (("light", 1e-6), ("heavy", 1.0)):
        train(recipe(steps=1, stages=stages, loss={"scenes": weight}), photo_folder, tmp_path / name)
    assert sizes == [(2, 32), (3, SCENE)] * 2
    # What is seen of the scenes decides where the step goes.
    (_, light), (_, heavy) = steps
    assert any(not torch.equal(one, other) for one, other in zip(light, heavy, strict=True))


ESTIMATING = {
    "widths": [8, 8, 8, 12],
    "blocks": [0, 0, 0, 1],
    "prompts": [{}, {}, {}],
    "degradations": ["blur"],
    "spread": {"widths": [8, 8, 16], "blocks": 1},
}


def test_the_estimate_of_spread_is_learned_as_far_as_it_has_weight(photo_folder, tmp_path, monkeypatch):
    errors = []

    def noted(estimate, covariance):
        loss = spread_loss(estimate, covariance)
        errors.append(loss.detach())
        return loss

    monkeypatch.setattr(loop, "spread_loss", noted)
    ends = []
    for weight in (0.0, 1.0):
        run = recipe(
            steps=40,
            model=ESTIMATING,
            stages=[{"until": 1.0, "crop": 32, "batch": {"blur": 8}}],
            data={"real_blur": 0.0},
            loss={"spread": weight},
            optimiser={"warmup": 2, "learning_rate": 3e-3},
        )
        train(run, photo_folder, tmp_path / str(weight))
        ends.append(float(torch.stack(errors[-10:]).mean()))
    assert ends[1] < 0.9 * ends[0]


def test_a_few_dozen_steps_restore_something(photo_folder, tmp_path, monkeypatch):
    losses: list[float] = []
    crop_losses = loop.crop_losses

    def noted(output, target, weights):
        losses.append((output - target).abs().mean().item())
        return crop_losses(output, target, weights)

    monkeypatch.setattr(loop, "crop_losses", noted)
    stages = [{"until": 1.0, "crop": 32, "batch": {"noise": 6, "lowlight": 2}}]
    run = recipe(steps=40, stages=stages, optimiser={"learning_rate": 1e-2, "warmup": 5})
    reports: list[Progress] = []
    train(recipe(steps=1), photo_folder, tmp_path / "first")
    train(run, photo_folder, tmp_path / "run", report=reports.append)
    assert sum(losses[-8:]) < 0.75 * sum(losses[1:9])
    before, after = (log_of(tmp_path / name)[-1]["validation"] for name in ("first", "run"))
    for name in ("noise", "lowlight", "lowlight-real"):
        assert after[name] > before[name] + 1, name
    assert reports[-1].done == 1
    assert reports[-1].validation is not None


def test_stages_change_crop_and_batch(photo_folder, tmp_path, monkeypatch):
    shapes = []
    make = BatchMaker.make

    def noted(self, stage, seed):
        batch = make(self, stage, seed)
        shapes.append(tuple(batch.inputs.shape))
        return batch

    monkeypatch.setattr(BatchMaker, "make", noted)
    stages = [
        {"until": 0.5, "crop": 16, "batch": {"noise": 3}},
        {"until": 1.0, "crop": 32, "batch": {"rain": 1}},
    ]
    train(recipe(steps=4, stages=stages), photo_folder, tmp_path)
    assert shapes == [(3, 3, 16, 16)] * 2 + [(1, 3, 32, 32)] * 2


def test_the_first_step_is_that_of_the_recipe(photo_folder, tmp_path, monkeypatch):
    """Losses, their weights, clipping and AdamW, written out once more."""
    run = recipe(
        steps=1,
        loss={"fft": 0.5, "decoupling": 0.01, "tasks": {"rain": 3.0, "blur": 0.5}},
        optimiser={
            "muon": False, "warmup": 4, "learning_rate": 0.02,
            "betas": [0.7, 0.9], "weight_decay": 4.0, "clip": 0.05,
        },
    )  # fmt: skip
    batches = []
    make = BatchMaker.make

    def noted(self, stage, seed):
        batches.append(make(self, stage, seed))
        return batches[-1]

    monkeypatch.setattr(BatchMaker, "make", noted)
    train(run, photo_folder, tmp_path)
    torch.manual_seed(run.seed)
    model = build_model(run.architecture, run.model).to(memory_format=torch.channels_last)
    (batch,) = batches
    device, dtype, _, _ = process.place_process()
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        output = model(batch.inputs.to(memory_format=torch.channels_last), batch.omega)
    error = output.float() - batch.targets
    losses = []
    for crop, weights in zip(error, batch.omega.tolist(), strict=True):
        spectrum = torch.fft.rfft2(crop, norm="ortho")
        frequencies = (spectrum.real.abs().mean() + spectrum.imag.abs().mean()) / 2
        factor = sum(w * f for w, f in zip(weights, (1.0, 3.0, 1.0, 0.5, 1.0), strict=True))
        losses.append(factor * (crop.abs().mean() + 0.5 * frequencies))
    (sum(losses) / len(losses) + 0.01 * decoupling_loss(model)).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    assert norm > 0.05
    tensors, _ = load_checkpoint(tmp_path)
    rate = 0.02 / 4
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        clipped = gradient * (0.05 / norm)
        torch.testing.assert_close(tensors[f"exp_avg.{name}"], 0.3 * clipped, rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(tensors[f"exp_avg_sq.{name}"], 0.1 * clipped**2, rtol=2e-3, atol=1e-12)
        # After one step both moments, corrected for their start, are the gradient's own.
        expected = parameter * (1 - rate * 4.0) - rate * clipped / (clipped.abs() + 1e-8)
        matters = clipped.abs() > 1e-6
        torch.testing.assert_close(
            tensors[f"model.{name}"][matters], expected.detach()[matters], rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_learns_in_bfloat16_only_where_native(monkeypatch, photo_folder, tmp_path, native, dtype):
    """A processor that only emulates it takes several times as long for a step."""
    monkeypatch.setattr(process, "has_native_bfloat16", lambda device: native)
    seen = set()

    def note(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d):
            seen.add(output.dtype)

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        train(recipe(steps=1), photo_folder, tmp_path)
    finally:
        handle.remove()
    assert seen == {dtype}
    # What it was shows in the record.
    device = read_record(tmp_path / "last.safetensors")["training"]["device"]
    assert device.endswith(f"threads, {str(dtype).removeprefix('torch.')}")


def test_the_average_is_that_of_a_plain_loop(photo_folder, tmp_path, steps):
    """The decay begins small, so that the average does not remember the random start."""
    run = recipe(steps=7, optimiser={"muon": False, "warmup": 1, "learning_rate": 1e-2, "ema": 0.3})
    torch.manual_seed(run.seed)
    model = build_model(run.architecture, run.model)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    train(run, photo_folder, tmp_path)
    decays = []
    for step, (_, parameters) in enumerate(steps):
        decay = min(0.3, (1 + step) / (10 + step))
        decays.append(decay)
        average = [
            decay * mean + (1 - decay) * parameter
            for mean, parameter in zip(average, parameters, strict=True)
        ]
    assert decays[0] == 0.1
    assert decays[-1] == 0.3
    tensors, _ = load_checkpoint(tmp_path)
    stored = load_weights(tmp_path / "last.safetensors").state_dict()
    for (name, _), mean in zip(model.named_parameters(), average, strict=True):
        torch.testing.assert_close(tensors[f"average.{name}"], mean, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(stored[name], mean.half().float(), rtol=2e-3, atol=1e-6)
        assert not torch.equal(tensors[f"model.{name}"], tensors[f"average.{name}"])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_spoils_nothing(photo_folder, tmp_path, monkeypatch, steps, poison):
    calls = []
    crop_losses = loop.crop_losses

    def poisoned(output, target, weights):
        calls.append(1)
        return crop_losses(output, target, weights) * (poison if len(calls) == 3 else 1)

    monkeypatch.setattr(loop, "crop_losses", poisoned)
    train(recipe(steps=6), photo_folder, tmp_path)
    assert len(calls) == 6
    for _, parameters in steps:
        assert all(parameter.isfinite().all() for parameter in parameters)
    tensors, _ = load_checkpoint(tmp_path)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert math.isfinite(log_of(tmp_path)[-1]["loss"])
    # It goes on learning afterwards.
    assert any(not torch.equal(before, after) for before, after in zip(steps[3][1], steps[5][1], strict=True))


# Draws


def test_every_step_and_process_has_a_seed_of_its_own(photo_folder, tmp_path, seeds):
    train(recipe(steps=5), photo_folder, tmp_path / "a")
    train(recipe(steps=5), photo_folder, tmp_path / "b")
    train(recipe(steps=5, seed=1), photo_folder, tmp_path / "c")
    assert seeds[:5] == seeds[5:10]
    assert len(set(seeds)) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)
    many = {pace.seed_of(seed, step, rank) for seed in range(3) for step in range(500) for rank in range(8)}
    assert len(many) == 3 * 500 * 8
    # The CPU's generator reads the lower half alone.
    assert len({seed & 0xFFFF_FFFF for seed in many}) == len(many)


def test_the_same_recipe_gives_the_same_weights(photo_folder, tmp_path):
    train(recipe(steps=3), photo_folder, tmp_path / "a")
    torch.rand(3)
    train(recipe(steps=3), photo_folder, tmp_path / "b")
    first, second = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


# A GPU is kept busy only if no step reads anything back from it


class ReadBackError(Exception):
    """A value was asked for on the host."""


class NothingReadBack(TorchDispatchMode):
    """Refuses operators that would make the host wait for a GPU, on any device."""

    WAITS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "bincount")

    def __torch_dispatch__(self, operator, kinds, arguments=(), options=None):
        name = operator.overloadpacket.__name__
        if name in self.WAITS or (name == "index" and any(_is_mask(index) for index in arguments[1])):
            raise ReadBackError(name)
        return operator(*arguments, **(options or {}))


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool


@pytest.mark.parametrize(
    "data",
    [
        {"clean": 0.1, "other_prompt": 0.1, "two": 0.3, "dmix": 1},
        {"real_blur": 0, "moving": 1, "collage": 1, "recoloured": {"haze": 1, "rain": 0.5}},
        {"built": 1},
        {"rooms": 1},
        {"moving": 0.5, "clean": 0.1, "places": 3, "margin": 4, "grain": 1.5},
    ],
)
def test_no_step_waits_for_the_device(photo_folder, tmp_path, monkeypatch, data):
    """From the second step's batch to the last optimiser step, but for that on a CPU, which is another."""
    guard = NothingReadBack()
    inside: list[int] = []
    make, step = BatchMaker.make, torch.optim.AdamW.step

    def guarded_make(self, stage, seed):
        if not inside:
            guard.__enter__()
        inside.append(seed)
        return make(self, stage, seed)

    def guarded_step(self, *arguments):
        guard.__exit__(None, None, None)
        step(self, *arguments)
        if len(inside) < 3:
            guard.__enter__()

    monkeypatch.setattr(BatchMaker, "make", guarded_make)
    monkeypatch.setattr(torch.optim.AdamW, "step", guarded_step)
    train(recipe(steps=3, data=data), photo_folder, tmp_path)
    assert len(inside) == 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x[0].item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
    ],
)
def test_the_guard_sees_what_would_wait(ask):
    with pytest.raises(ReadBackError), NothingReadBack():
        ask(torch.ones(3))


# What a run writes


def test_a_run_writes_its_record(photo_folder, tmp_path):
    run = recipe(steps=3, data={"clean": 0.1})
    assert train(run, photo_folder, tmp_path / "new/run") == tmp_path / "new/run/last.safetensors"
    names = {"best.safetensors", "checkpoint", "last.safetensors", "log.jsonl"}
    assert {path.name for path in (tmp_path / "new/run").iterdir()} == names
    training = read_record(tmp_path / "new/run/last.safetensors")["training"]
    (line,) = log_of(tmp_path / "new/run")
    assert training["step"] == line["step"] == 3
    assert training["validation"] == line["validation"]
    assert training["initialised_from"] == []
    assert from_mapping(Recipe, training["recipe"]) == run


def test_the_best_weights_are_those_of_the_best_validation(photo_folder, tmp_path, monkeypatch):
    scores = iter([20.0, 22.0, 21.0])
    monkeypatch.setattr(loop, "validate", lambda *_: {"noise": (score := next(scores)), "mean": score})
    train(recipe(steps=3, checkpoint_minutes=1e-9), photo_folder, tmp_path)
    assert [line["validation"]["mean"] for line in log_of(tmp_path)] == [20.0, 22.0, 21.0]
    assert read_record(tmp_path / "best.safetensors")["training"]["step"] == 2
    assert read_record(tmp_path / "last.safetensors")["training"]["step"] == 3
    assert load_checkpoint(tmp_path)[1]["best"] == 22.0
    scores = iter([21.9])
    train(recipe(steps=4, checkpoint_minutes=1e-9), photo_folder, tmp_path, resume=True)
    assert read_record(tmp_path / "best.safetensors")["training"]["step"] == 2
    assert load_checkpoint(tmp_path)[1]["best"] == 22.0


@pytest.fixture
def slow_steps(monkeypatch):
    """A clock that every step moves by ten seconds."""
    now = [1000.0]
    make = BatchMaker.make

    def slow(self, stage, seed):
        now[0] += 10
        return make(self, stage, seed)

    monkeypatch.setattr(BatchMaker, "make", slow)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now[0]))


@pytest.mark.usefixtures("slow_steps")
def test_validations_and_speed_go_by_the_clock(photo_folder, tmp_path):
    reports: list[Progress] = []
    run = recipe(minutes=14 / 6, checkpoint_minutes=1)
    train(run, photo_folder, tmp_path, report=reports.append)
    assert [line["step"] for line in log_of(tmp_path)] == [6, 12, 14]
    assert [line["minutes"] for line in log_of(tmp_path)] == pytest.approx([1, 2, 14 / 6])
    assert [report.step for report in reports if report.validation is None] == list(range(1, 15))
    assert {report.examples_per_second for report in reports} == {0.6}


@pytest.mark.usefixtures("slow_steps")
def test_a_run_that_ends_soon_is_not_validated_twice(photo_folder, tmp_path):
    train(recipe(minutes=13 / 6, checkpoint_minutes=1), photo_folder, tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [6, 13]


def test_minutes_end_a_run_too(photo_folder, tmp_path):
    run = recipe(minutes=0.02)
    train(run, photo_folder, tmp_path)
    (line,) = log_of(tmp_path)
    assert 0.02 <= line["minutes"] < 0.2
    assert line["step"] >= 1
    assert line["done"] == 1


@pytest.mark.parametrize("lengths", [{}, {"minutes": 1, "steps": 1}])
def test_the_length_is_given_once(photo_folder, tmp_path, lengths):
    with pytest.raises(UsageError, match="either in minutes or in steps"):
        train(recipe(**lengths), photo_folder, tmp_path)


def test_crops_that_do_not_fit_are_refused_before_anything_is_written(photo_folder, tmp_path):
    stages = [{"until": 1.0, "crop": 64, "batch": {"noise": 1}}]
    with pytest.raises(UsageError, match=r"\.png is 64×5\d: crops of 64 do not fit"):
        train(recipe(steps=1, stages=stages), photo_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(photo_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"folder {tmp_path}/file/run cannot be made"):
        train(recipe(steps=1), photo_folder, tmp_path / "file/run")


# Stopping and going on


def stop_in_step(monkeypatch: pytest.MonkeyPatch, number: int, sent: signal.Signals) -> None:
    """Send this process a signal while it makes the batch of a step, counted from 1."""
    make = BatchMaker.make
    calls = []

    def interrupted(self, stage, seed):
        calls.append(seed)
        if len(calls) == number:
            os.kill(os.getpid(), sent)
        return make(self, stage, seed)

    monkeypatch.setattr(BatchMaker, "make", interrupted)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_resumed_run_equals_one_that_was_never_stopped(photo_folder, tmp_path, monkeypatch, sent):
    run = recipe(
        steps=7,
        data={"clean": 0.2, "two": 0.2, "dmix": 0.5},
        optimiser={"warmup": 3, "learning_rate": 5e-3, "weight_decay": 0.01},
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    start = tmp_path / "start.safetensors"
    save_weights(build_model(run.architecture, run.model), start, {})
    train(run, photo_folder, whole, init=[start])
    with monkeypatch.context() as patch:
        stop_in_step(patch, 4, sent)
        assert train(run, photo_folder, parts, init=[start]) is None
    # The step in hand was finished; no validation stood between the signal and the checkpoint.
    assert load_checkpoint(parts)[1]["step"] == 4
    assert sorted(path.name for path in parts.iterdir()) == ["checkpoint"]
    with pytest.raises(UsageError, match="holds a run already"):
        train(run, photo_folder, parts)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert train(run, photo_folder, parts, resume=True) == parts / "last.safetensors"
    (expected, expected_state), (found, state) = load_checkpoint(whole), load_checkpoint(parts)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert state["step"] == expected_state["step"]
    assert state["best"] == expected_state["best"]
    training = read_record(parts / "last.safetensors")["training"]
    assert [origin["file"] for origin in training["initialised_from"]] == ["start.safetensors"]


def test_a_finished_run_that_is_resumed_stays_as_it_is(photo_folder, tmp_path):
    train(recipe(steps=2), photo_folder, tmp_path)
    before, _ = load_checkpoint(tmp_path)
    train(recipe(steps=2), photo_folder, tmp_path, resume=True)
    after, _ = load_checkpoint(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_is_not_overwritten_by_another(photo_folder, tmp_path):
    train(recipe(steps=1), photo_folder, tmp_path)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(UsageError, match=f"folder {tmp_path} holds a run already"):
        train(recipe(steps=2), photo_folder, tmp_path)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_minutes_go_on_where_they_stopped(photo_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in_step(patch, 2, signal.SIGTERM)
        train(recipe(minutes=1), photo_folder, tmp_path)
    file = tmp_path / "checkpoint/state.json"
    state = json.loads(file.read_text())
    assert 0 < state["minutes"] < 0.5
    file.write_text(json.dumps({**state, "minutes": 0.6}))
    started = time.monotonic()
    train(recipe(minutes=0.601), photo_folder, tmp_path, resume=True)
    assert time.monotonic() - started < 30
    assert 0.6 < log_of(tmp_path)[-1]["minutes"] < 0.9


def test_there_must_be_a_checkpoint_to_resume_from(photo_folder, tmp_path):
    with pytest.raises(ModelError, match="no checkpoint to resume from"):
        train(recipe(steps=1), photo_folder, tmp_path, resume=True)


def test_a_checkpoint_of_another_model_is_refused(photo_folder, tmp_path):
    train(recipe(steps=1), photo_folder, tmp_path)
    for changes in ({"widths": [8, 16]}, {"blocks": [2, 1]}, {"blocks": [1, 0]}, {"prompts": [{}]}):
        other = recipe(steps=2, model={**TINY["model"], **changes})
        with pytest.raises(UsageError, match="the checkpoint does not fit the recipe's model"):
            train(other, photo_folder, tmp_path, resume=True)


# Starting from other weights


def randomised(numbers: dict[str, Any]) -> torch.nn.Module:
    """A model whose every parameter matters, in values that half precision holds exactly."""
    torch.manual_seed(3)
    model = build_model("unet", numbers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            parameter.copy_(parameter.half())
    return model


BARE = {"widths": [8, 12], "blocks": [1, 1], "prompts": [{}]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BARE, TINY["model"]),
        (BARE, {**BARE, "blocks": [2, 3]}),
        (TINY["model"], {**TINY["model"], "blocks": [3, 1]}),
        ({**BARE, "degradations": ["noise", "rain"]}, TINY["model"]),
        (TINY["model"], TINY["model"]),
    ],
    ids=["prompted", "deepened", "prompted and deepened", "more degradations", "the same"],
)
def test_what_init_lacks_changes_no_output(photo_folder, tmp_path, before, after):
    model = randomised(before)
    save_weights(model, tmp_path / "init.safetensors", {})
    run = recipe(steps=0, model=after)
    train(run, photo_folder, tmp_path / "run", init=[tmp_path / "init.safetensors"])
    started = load_weights(tmp_path / "run/last.safetensors")
    x = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected, found = model(x, OMEGA[:, : len(model.degradations)]), started(x, OMEGA)
    assert (expected - x).abs().mean() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    (origin,) = read_record(tmp_path / "run/last.safetensors")["training"]["initialised_from"]
    assert origin["file"] == "init.safetensors"
    assert origin["sha256"] == sha256_of(tmp_path / "init.safetensors")


def test_several_starts_are_one_between_them(photo_folder, tmp_path):
    first = randomised(TINY["model"])
    with torch.no_grad():
        second = copy.deepcopy(first)
        for parameter in second.parameters():
            parameter.mul_(0.5)
    starts = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for model, path in zip((first, second), starts, strict=True):
        save_weights(model, path, {})
    last = train(recipe(steps=0), photo_folder, tmp_path / "run", init=starts)
    started = dict(load_weights(last).named_parameters())
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(started[name].detach(), 0.75 * parameter.detach(), rtol=1e-3, atol=1e-6)
    training = read_record(last)["training"]
    assert training["step"] == 0
    assert [origin["file"] for origin in training["initialised_from"]] == ["a.safetensors", "b.safetensors"]
    # A generation later there are names and hashes of these, and no more of how they were trained.
    later = train(recipe(steps=0), photo_folder, tmp_path / "later", init=[last])
    (origin,) = read_record(later)["training"]["initialised_from"]
    assert [set(each) for each in origin["training"]["initialised_from"]] == [{"file", "sha256"}] * 2

    other = tmp_path / "other.safetensors"
    save_weights(build_model("unet", {**BARE, "widths": [8, 16]}), other, {})
    with pytest.raises(UsageError, match=r"other\.safetensors do not fit the recipe's model"):
        train(recipe(steps=0), photo_folder, tmp_path / "again", init=[starts[0], other])


def test_what_one_of_several_starts_lacks_is_as_it_began_in_the_others(photo_folder, tmp_path):
    shallow = randomised({**TINY["model"], "blocks": [1, 1]})
    save_weights(shallow, tmp_path / "shallow.safetensors", {})
    deeper = {**TINY["model"], "blocks": [1, 2]}
    still = recipe(steps=1, model=deeper, optimiser={"learning_rate": 1e-30})
    # Begun from the shallow one, and gone nowhere: but for the new blocks it is the same.
    gone = train(still, photo_folder, tmp_path / "gone", init=[tmp_path / "shallow.safetensors"])
    between = train(still, photo_folder, tmp_path / "run", init=[tmp_path / "shallow.safetensors", gone])
    expected, found = (load_weights(path).state_dict() for path in (gone, between))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=1e-5, msg=name)


SPECIALISTS = {
    "scene": {**BARE, "degradations": ["haze"]},
    "dark": {**BARE, "degradations": ["lowlight"]},
    "motion": {**BARE, "widths": [8, 12], "degradations": ["blur"]},
}


def specialist_weights(name: str, path: Path, factor: float) -> dict[str, torch.Tensor]:
    """Write a specialist and return its tensors."""
    network = randomised(SPECIALISTS[name])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    save_weights(network, path, {})
    return network.state_dict()


def specialist_of(path: Path, name: str) -> dict[str, torch.Tensor]:
    return load_weights(path).specialists[name].state_dict()


@pytest.mark.parametrize("name", SPECIALISTS)
def test_a_specialist_goes_into_the_model_and_stays_as_it_is(photo_folder, tmp_path, name):
    bare, first, second = (tmp_path / f"{each}.safetensors" for each in ("bare", "first", "second"))
    save_weights(randomised(TINY["model"]), bare, {})
    one, other = specialist_weights(name, first, 1.0), specialist_weights(name, second, 0.5)
    run = recipe(steps=2, model={**TINY["model"], name: SPECIALISTS[name]})
    trained = train(run, photo_folder, tmp_path / "trained", init=[bare, first])
    torch.testing.assert_close(specialist_of(trained, name), one, rtol=0, atol=0)
    assert not torch.equal(load_weights(trained).head.weight, load_weights(bare).head.weight)
    # What a model has already is kept, though its recipe may not know of it, unless another is given.
    for known in (run, recipe(steps=2)):
        kept = train(known, photo_folder, tmp_path / f"kept {known is run}", init=[trained])
        torch.testing.assert_close(specialist_of(kept, name), one, rtol=0, atol=0)
    replaced = train(run, photo_folder, tmp_path / "replaced", init=[trained, second])
    torch.testing.assert_close(specialist_of(replaced, name), other, rtol=1e-2, atol=1e-6)
    between = train(run, photo_folder, tmp_path / "between", init=[bare, first, second])
    middle = {name: 0.75 * tensor for name, tensor in one.items()}
    torch.testing.assert_close(specialist_of(between, name), middle, rtol=1e-3, atol=1e-6)


def test_one_specialist_comes_to_another(photo_folder, tmp_path):
    model, tensors = tmp_path / "bare.safetensors", {}
    save_weights(randomised(TINY["model"]), model, {})
    for name, numbers in SPECIALISTS.items():
        own = tmp_path / f"{name}.safetensors"
        tensors[name] = specialist_weights(name, own, 1.0)
        run = recipe(steps=0, model={**TINY["model"], name: numbers})
        model = train(run, photo_folder, tmp_path / name, init=[model, own])
    for name, expected in tensors.items():
        torch.testing.assert_close(specialist_of(model, name), expected, rtol=0, atol=0)


def test_a_resumed_run_has_its_specialists(photo_folder, tmp_path):
    starts = [tmp_path / f"{name}.safetensors" for name in SPECIALISTS]
    tensors = {
        name: specialist_weights(name, path, 1.0) for name, path in zip(SPECIALISTS, starts, strict=True)
    }
    run = recipe(steps=1, model={**TINY["model"], **SPECIALISTS})
    first = train(run, photo_folder, tmp_path / "a", init=starts)
    train(recipe(steps=1), photo_folder, tmp_path / "b", init=[first])
    last = train(recipe(steps=2), photo_folder, tmp_path / "b", resume=True)
    for name, expected in tensors.items():
        torch.testing.assert_close(specialist_of(last, name), expected, rtol=0, atol=0)


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("name", SPECIALISTS)
def test_a_specialist_that_was_never_trained_is_refused(photo_folder, tmp_path, name, init):
    save_weights(randomised(TINY["model"]), tmp_path / "bare.safetensors", {})
    starts = [tmp_path / "bare.safetensors"] if init else []
    run = recipe(steps=1, model={**TINY["model"], name: SPECIALISTS[name]})
    with pytest.raises(UsageError, match=rf"model\.{name} is trained by itself: give its weights"):
        train(run, photo_folder, tmp_path / "run", init=starts)


THREE_LEVELS = {"widths": [8, 12, 16], "blocks": [1, 1, 1], "prompts": [{}, {}]}


@pytest.mark.parametrize(
    ("foreign", "own", "words"),
    [
        ({**BARE, "widths": [8, 16]}, TINY["model"], "has no place in it"),
        ({**BARE, "blocks": [2, 1]}, TINY["model"], "has no place in it"),
        (THREE_LEVELS, BARE, "has no place in it"),
        (TINY["model"], BARE, "has no place in it"),
        (BARE, THREE_LEVELS, "what they lack changes its output"),
        (
            {**TINY["model"], "degradations": ["rain", "noise", "haze", "blur", "lowlight"]},
            TINY["model"],
            "they are for rain, noise, haze, blur, lowlight",
        ),
    ],
    ids=["wider", "deeper", "more levels", "prompted", "fewer levels", "other order"],
)
def test_foreign_weights_are_refused(photo_folder, tmp_path, foreign, own, words):
    path = tmp_path / "foreign.safetensors"
    save_weights(build_model("unet", foreign), path, {})
    with pytest.raises(UsageError) as caught:
        train(recipe(steps=1, model=own), photo_folder, tmp_path / "run", init=[path])
    assert f"weights {path} do not fit the recipe's model: " in str(caught.value)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_damaged_weights_are_refused(photo_folder, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"damaged\.safetensors cannot be read"):
        train(recipe(steps=1), photo_folder, tmp_path / "run", init=[path])


# Several processes

SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from photographs import TINY
from pipcli.configuration import from_mapping
from pipcli.training import loop
from pipcli.training.recipe import Recipe

data, out = map(Path, sys.argv[1:])
models = []
build_model = loop.build_model
loop.build_model = lambda *arguments: models.append(build_model(*arguments)) or models[0]
result = loop.train(from_mapping(Recipe, {**TINY, "steps": 3, "checkpoint_minutes": 1e-9}), data, out / "run")
assert result == out / "run/last.safetensors"
torch.save(models[0].state_dict(), out / f"process{os.environ['RANK']}.pt")
"""


def test_two_processes_train_one_model(photo_folder, tmp_path, monkeypatch):
    """Equal weights in both, one set of files, and the gradients of one process with the joint batch."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(script), str(photo_folder), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"process{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    names = {"best.safetensors", "checkpoint", "last.safetensors", "log.jsonl"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    # After every step; process 0 alone validates and writes.
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 3]
    assert read_record(tmp_path / "run/last.safetensors")["training"]["processes"] == 2

    make = BatchMaker.make
    made: list[torch.Tensor] = []

    def joint(self, stage, seed):
        step = len(made)
        parts = [make(self, stage, pace.seed_of(0, step, rank)) for rank in range(2)]
        assert not torch.equal(parts[0].inputs, parts[1].inputs)
        made.append(parts[0].inputs)
        return type(parts[0])(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("inputs", "targets", "omega"))
        )

    monkeypatch.setattr(BatchMaker, "make", joint)
    train(recipe(steps=3), photo_folder, tmp_path / "joint")
    shared, _ = load_checkpoint(tmp_path / "run")
    alone, _ = load_checkpoint(tmp_path / "joint")
    # First moments are plain sums of gradients. They differ by the rounding of bfloat16 alone.
    for name in first:
        moment = "momentum" if f"momentum.{name}" in alone else "exp_avg"
        got, expected = shared[f"{moment}.{name}"].flatten(), alone[f"{moment}.{name}"].flatten()
        if expected.norm() > 1e-4:
            assert torch.nn.functional.cosine_similarity(got, expected, dim=0) > 0.98, name
            assert 0.9 < got.norm() / expected.norm() < 1.1, name

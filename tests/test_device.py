"""Choosing device and precision: `auto` chooses, a name is met or refused."""

from __future__ import annotations

import pytest
import torch

from pipcli.errors import DeviceError, UsageError
from pipcli.inference import device as device_module
from pipcli.inference.device import (
    DEVICES,
    Precision,
    choose_device,
    choose_precision,
    computing_in,
    supports,
    usual_batch,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "batch"), [("cpu", 1), ("mps", 1), ("cuda", 4)])
def test_the_usual_batch_follows_from_the_device_alone(name, batch):
    assert usual_batch(torch.device(name)) == batch


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine look as if it had these accelerators."""

    def has(*devices: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return has


@pytest.mark.parametrize(
    ("there", "chosen"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_the_first_device_that_is_there(machine, there, chosen):
    machine(*there)
    assert choose_device("auto").type == chosen


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error_not_a_fallback(machine, name):
    machine()
    with pytest.raises(DeviceError, match=f"device '{name}' is not there: .* finds cpu"):
        choose_device(name)


def test_unknown_words_are_refused():
    with pytest.raises(UsageError, match="unknown device 'tpu': choose from auto, cpu, cuda, mps"):
        choose_device("tpu")
    with pytest.raises(UsageError, match="unknown precision 'int8': choose from auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)


@pytest.mark.parametrize(
    ("capability", "amx", "avx512_bf16", "chosen"),
    [
        ("AVX512", True, False, Precision.BF16),
        ("AVX512", False, True, Precision.BF16),
        ("AVX512", False, False, Precision.FP32),
        ("AVX2", True, True, Precision.FP32),
        ("DEFAULT", False, False, Precision.FP32),
    ],
)
def test_auto_on_a_cpu_is_bf16_only_where_that_is_native(monkeypatch, capability, amx, avx512_bf16, chosen):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    assert choose_precision("auto", CPU) is chosen


def test_auto_on_a_cpu_is_fp32_where_pytorch_does_not_say(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", CPU) is Precision.FP32


@pytest.mark.parametrize(
    ("capability", "chosen"), [((6, 1), Precision.FP32), ((7, 0), Precision.FP16), ((9, 0), Precision.FP16)]
)
def test_auto_on_cuda_is_fp16_from_tensor_cores_on(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) is chosen


def test_bf16_asked_for_where_it_is_emulated_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(DeviceError, match="'cuda' cannot compute in bf16"):
        choose_precision("bf16", torch.device("cuda"))
    with pytest.raises(DeviceError, match="'mps' cannot compute in bf16"):
        choose_precision("bf16", torch.device("mps"))
    assert choose_precision("auto", torch.device("mps")) is Precision.FP32


@pytest.mark.parametrize("precision", Precision)
def test_every_precision_runs_on_the_cpu(precision):
    assert supports(CPU, precision)
    assert choose_precision(precision.value, CPU) is precision
    layer, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    with torch.inference_mode(), computing_in(precision, CPU):
        assert layer(x).dtype == precision.dtype


def test_names_of_the_command_line_are_those_of_the_library():
    from pipcli.cli.options import DeviceName, PrecisionName

    assert tuple(name.value for name in DeviceName) == DEVICES
    assert [name.value for name in PrecisionName] == ["auto", *device_module.Precision]

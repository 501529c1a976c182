"""What a device computes natively, and what it only emulates."""

from __future__ import annotations

import torch


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; emulated, it is several times slower than float32.

    CPU: AMX or AVX512-BF16. CUDA: compute capability 8.0 and later. MPS: taken for no.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch says what the processor can do only through private names, which may go: then the answer is no,
    # which costs speed and nothing else. ATEN_CPU_CAPABILITY can cap the vector unit; AMX needs AVX512 too.
    if device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    queries = [getattr(torch.cpu, name, None) for name in names]
    return any(query() for query in queries if query is not None)

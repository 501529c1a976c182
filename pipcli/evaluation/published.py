"""What others published, to stand beside what was measured under the same protocol, never alone.

Figures are quoted as printed; nothing here was measured by this program. A row is shown only where the set,
the noise and the protocol are those of the measured one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pipcli.degradations import Degradation
from pipcli.evaluation.runner import Benchmark


@dataclass(frozen=True)
class PublishedRow:
    """One figure of one paper.

    Attributes:
        method: as its paper calls it.
        dataset: name in the catalogue.
        sigma: of added noise, of 255; None for none.
        protocol: name of the protocol it was measured by.
        psnr: in dB.
        ssim: None where it was not given.
        tasks: how many degradations the model was trained on together; None for one that learns nothing.
        source: paper and table.
    """

    method: str
    dataset: str
    sigma: float | None
    protocol: str
    psnr: float
    ssim: float | None
    tasks: int | None
    source: str

    @property
    def kind(self) -> str:
        """That it is published, and on how many tasks the method was trained."""
        if self.tasks is None:
            return "published"
        return f"published, {self.tasks} task{'' if self.tasks == 1 else 's'}"

    @property
    def note(self) -> str:
        """What tables say beside the figures."""
        return f"{self.kind}; {self.source}"


def published_rows(benchmark: Benchmark) -> tuple[PublishedRow, ...]:
    """The rows that may stand beside a benchmark's: of the same set, noise and protocol, best last."""
    if benchmark.synthesis:
        return ()
    key = (benchmark.dataset.name, benchmark.sigma, benchmark.protocol.name)
    rows = [row for row in _rows() if (row.dataset, row.sigma, row.protocol) == key]
    return tuple(sorted(rows, key=lambda row: row.psnr))


Column = tuple[str, float | None]
"""Name of a set, and σ of the noise to add, of 255, or None."""
_Figures = tuple[float | tuple[float, float] | None, ...]

TABLE_1: tuple[Column, ...] = (
    ("CBSD68", 15),
    ("CBSD68", 25),
    ("CBSD68", 50),
    ("SOTS", None),
    ("Rain100L", None),
)
TABLE_2: tuple[Column, ...] = (*TABLE_1, ("GoPro", None), ("LOL", None))
TABLE_3: tuple[Column, ...] = (
    ("Urban100", 10),
    ("Urban100", 30),
    ("Urban100", 60),
    ("Rain100H", None),
    ("Rain100L", 25),
    ("SOTS", 25),
)
_REAL: tuple[Column, ...] = (("SIDD", None), ("AAPM", 25))
_COMPOSITE: tuple[Column, ...] = (("Rain100L", 25), ("SOTS", 25))
_NOISE: tuple[Column, ...] = (("CBSD68", 15), ("CBSD68", 25), ("CBSD68", 50))


@dataclass(frozen=True)
class _Table:
    """One printed table: for each method PSNR, or (PSNR, SSIM), in the order of the columns."""

    source: str
    protocol: str
    tasks: int | None
    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, _Figures]]


_PIP = "arXiv 2312.05038"

_TABLES: tuple[_Table, ...] = (
    _Table(
        f"{_PIP}, Table 1",
        "airnet",
        3,
        TABLE_1,
        (
            ("BRDNet", ((32.26, 0.898), (29.76, 0.836), (26.34, 0.836), (23.23, 0.895), (27.42, 0.895))),
            ("LPNet", ((26.47, 0.778), (24.77, 0.748), (21.26, 0.552), (20.84, 0.828), (24.88, 0.784))),
            ("FDGAN", ((30.25, 0.910), (28.81, 0.868), (26.43, 0.776), (24.71, 0.924), (29.89, 0.933))),
            ("MPRNet", ((33.54, 0.927), (30.89, 0.880), (27.56, 0.779), (25.28, 0.954), (33.57, 0.954))),
            ("DL", ((33.05, 0.914), (30.41, 0.861), (26.90, 0.740), (26.92, 0.391), (32.62, 0.931))),
            ("AirNet", ((33.92, 0.933), (31.26, 0.888), (28.00, 0.797), (27.94, 0.962), (34.90, 0.967))),
            ("PromptIR", ((33.98, 0.933), (31.31, 0.888), (28.06, 0.799), (30.58, 0.974), (36.37, 0.972))),
            (
                "PIP-Restormer",
                ((34.24, 0.936), (31.60, 0.893), (28.35, 0.806), (32.09, 0.981), (38.29, 0.984)),
            ),
        ),
    ),
    _Table(
        "Wu et al. (DPPD), IEEE TIP 2025",
        "airnet",
        3,
        TABLE_1,
        (("DPPD", (34.12, 31.80, 28.17, 31.10, 37.74)),),
    ),
    _Table("M²IR, 2026", "airnet", 3, TABLE_1, (("M²IR", (34.23, 31.59, 28.33, 32.63, 39.36)),)),
    _Table(
        f"{_PIP}, Table 2",
        "airnet",
        5,
        TABLE_2,
        (
            (
                "Restormer",
                (
                    (33.55, 0.926),
                    (30.96, 0.879),
                    (27.75, 0.784),
                    (29.50, 0.973),
                    (36.53, 0.974),
                    (27.31, 0.835),
                    (23.00, 0.841),
                ),
            ),
            (
                "NAFNet",
                (
                    (33.71, 0.930),
                    (31.12, 0.884),
                    (27.91, 0.793),
                    (30.67, 0.975),
                    (37.17, 0.976),
                    (28.32, 0.863),
                    (23.18, 0.856),
                ),
            ),
            (
                "PromptIR",
                (
                    (33.67, 0.929),
                    (31.08, 0.883),
                    (27.87, 0.787),
                    (30.16, 0.977),
                    (37.16, 0.977),
                    (28.73, 0.868),
                    (23.91, 0.848),
                ),
            ),
            (
                "PIP-NAFNet",
                (
                    (34.10, 0.935),
                    (31.45, 0.893),
                    (28.21, 0.806),
                    (31.75, 0.978),
                    (37.67, 0.980),
                    (28.08, 0.853),
                    (23.37, 0.854),
                ),
            ),
            (
                "PIP-Restormer",
                (
                    (34.05, 0.934),
                    (31.48, 0.891),
                    # As printed; probably 28.29.
                    (27.29, 0.805),
                    (32.11, 0.979),
                    (38.09, 0.983),
                    (28.61, 0.861),
                    (24.06, 0.859),
                ),
            ),
        ),
    ),
    _Table(
        "Wu et al. (DPPD), IEEE TIP 2025",
        "airnet",
        5,
        TABLE_2,
        (("DPPD", (None, 31.33, None, 30.31, 37.32, 28.74, 22.73)),),
    ),
    _Table(
        "Hu et al. (MaskDCPT), 2025",
        "airnet",
        5,
        TABLE_2,
        (("MaskDCPT-NAFNet", (None, 31.41, None, 31.40, 39.92, 31.40, 26.31)),),
    ),
    _Table(
        f"{_PIP}, Table 3",
        "airnet",
        3,
        TABLE_3,
        (
            (
                "AirNet",
                (
                    (35.26, 0.952),
                    (30.04, 0.880),
                    (25.41, 0.714),
                    (14.55, 0.478),
                    (24.93, 0.768),
                    (15.94, 0.753),
                ),
            ),
            (
                "PromptIR",
                (
                    (35.77, 0.958),
                    (30.66, 0.901),
                    (27.03, 0.817),
                    (15.54, 0.486),
                    (24.92, 0.767),
                    (15.93, 0.752),
                ),
            ),
            (
                "PIP-Restormer",
                (
                    (36.17, 0.960),
                    (31.24, 0.909),
                    (27.30, 0.809),
                    (16.29, 0.501),
                    (26.50, 0.771),
                    (16.58, 0.754),
                ),
            ),
        ),
    ),
    _Table(
        f"{_PIP}, Table S5",
        "airnet",
        3,
        _COMPOSITE,
        (("PIP-Restormer with DMIX", ((26.79, 0.815), (20.61, 0.741))),),
    ),
    _Table(
        f"{_PIP}, Table S6",
        "airnet",
        3,
        _REAL,
        (
            ("AirNet", ((23.66, 0.356), (34.59, 0.936))),
            ("PromptIR", ((24.32, 0.378), (34.61, 0.9432))),
            ("PIP-Restormer", ((24.12, 0.362), (34.67, 0.919))),
        ),
    ),
    _Table("as in DRUNet (arXiv 2008.13751)", "restormer", None, _NOISE, (("CBM3D", (33.52, 30.71, 27.38)),)),
    _Table(
        "as in DRUNet (arXiv 2008.13751)",
        "restormer",
        1,
        _NOISE,
        (
            ("DnCNN", (33.90, 31.24, 27.95)),
            ("FFDNet", (33.87, 31.21, 27.96)),
            ("DRUNet", (34.30, 31.69, 28.51)),
        ),
    ),
    _Table("arXiv 2111.09881", "restormer", 1, _NOISE, (("Restormer", (34.40, 31.79, 28.60)),)),
    _Table("ICLR 2024", "restormer", 1, _NOISE, (("Xformer", (34.43, 31.82, 28.63)),)),
    _Table("CVPR 2019", "y", 1, (("Rain100L", None),), (("PReNet", (37.48,)),)),
)


PUBLISHED_ACCURACIES: Mapping[str, Mapping[Degradation, float]] = {
    name: dict(zip(Degradation, accuracies, strict=True))
    for name, accuracies in (
        ("VGG16", (0.0, 0.0, 100.0, 0.0, 0.0)),
        ("ResNet-34", (98.04, 99.0, 95.6, 100.0, 100.0)),
        ("ResNet-34 FFC", (100.0, 100.0, 100.0, 100.0, 100.0)),
    )
}
"""Table S4 of the paper's supplement: on which share of the five tasks' test images, in per cent, a
classifier names the right one of five. FFC are fast Fourier convolutions."""


@cache
def _rows() -> tuple[PublishedRow, ...]:
    rows = []
    for table in _TABLES:
        for method, figures in table.rows:
            for (dataset, sigma), figure in zip(table.columns, figures, strict=True):
                if figure is None:
                    continue
                psnr, ssim = figure if isinstance(figure, tuple) else (figure, None)
                rows.append(
                    PublishedRow(
                        method, dataset, sigma, table.protocol, psnr, ssim, table.tasks, table.source
                    )
                )
    return tuple(rows)

"""``pipcli demo``: five photographs, degraded and restored, one for each task, and a sheet of all.

The photographs come with scikit-image (see README.md for their licences); the degradations are synthesised
with fixed seeds; restoring reads the degraded files back, as ``pipcli restore`` would.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.messages import say
from pipcli.cli.options import DeviceName, DeviceOption
from pipcli.degradations import TASKS, omega_vector, parse_task
from pipcli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipcli.images import Image
    from pipcli.inference.engine import Restorer
    from pipcli.synthesis import SynthesisRanges

WIDTH, HEIGHT = 450, 300
SHEET = "sheet.png"
"""Name of the picture of all."""


@dataclass(frozen=True)
class Scene:
    """One task's photograph and what is done to it.

    Attributes:
        task: the word for undoing it.
        photo: file name among scikit-image's photographs.
        box: what of it is shown: left, top, right, bottom in pixels, as wide to high as 3 to 2.
        seed: of the degradation.
        story: the degradation in words.
    """

    task: str
    photo: str
    box: tuple[int, int, int, int]
    seed: int
    story: str


SCENES = (
    Scene("denoise", "chelsea.png", (0, 0, 450, 300), 1, "Gaussian noise, sigma 25 of 255, 8 bit"),
    Scene("derain", "rocket.jpg", (5, 0, 635, 420), 2, "rain streaks at 12 degrees"),
    Scene("dehaze", "camera.png", (32, 90, 482, 390), 3, "haze over a synthetic depth"),
    Scene("deblur", "astronaut.png", (0, 0, 510, 340), 4, "camera shake of 6 pixels"),
    Scene("enhance", "coffee.png", (0, 0, 600, 400), 5, "low light, about 8 dB"),
)


@dataclass(frozen=True)
class Outcome:
    """One task's three pictures and how far two of them are from the clean one, in dB."""

    scene: Scene
    degraded: Image
    restored: Image
    clean: Image
    degraded_psnr: float
    restored_psnr: float


def demo(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the pictures; made if it is not there.")
    ],
    model: Annotated[
        str | None, typer.Option(help="A name that `pipcli models` lists, or a .safetensors file.")
    ] = None,
    device: DeviceOption = DeviceName.AUTO,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace pictures of these names in OUT.")
    ] = False,
) -> None:
    """Degrade and restore five photographs, side by side."""
    photos = photo_folder()
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: the demo writes into a folder")

    from pipcli.batch.plan import require_writable
    from pipcli.images import write_image
    from pipcli.images.naming import shown

    sheet = out / SHEET
    for path in (sheet, *(path for scene in SCENES for path in pictures_of(scene, out))):
        if os.path.lexists(path) and not overwrite:
            raise UsageError(f"{shown(path)}: is there already; --overwrite replaces such files")
    require_writable(out)

    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo

    name = model or zoo.DEFAULT_MODEL
    where = choose_device(device.value)
    restorer = Restorer(zoo.load_model(name), where, choose_precision("auto", where))
    say(f"restoring {len(SCENES)} photographs with {name} on {where.type} in {restorer.precision}")

    print(f"{'task':<9} {'photograph':<14} {'degraded':>9} {'restored':>9}")
    outcomes = []
    for outcome in restore_scenes(restorer, photos, out):
        scene = outcome.scene
        figures = f"{outcome.degraded_psnr:6.2f} dB {outcome.restored_psnr:6.2f} dB"
        print(f"{scene.task:<9} {scene.photo:<14} {figures}", flush=True)
        outcomes.append(outcome)
    write_image(draw_outcomes(outcomes), sheet)
    print(f"\nThe pictures are in {out}; all of them side by side: {sheet}")


def photo_folder() -> Path:
    """Where scikit-image keeps its photographs.

    Raises:
        UsageError: it is not installed.
    """
    # find_spec runs skimage's own __init__ but not the libraries behind it.
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UsageError("the demo's photographs come with scikit-image: pip install 'pipcli[demo]'")
    return Path(spec.origin).parent / "data"


def restore_scenes(restorer: Restorer, photos: Path, out: Path) -> Iterator[Outcome]:
    """Write ``TASK-degraded.png`` and ``TASK-restored.png`` into ``out`` for each scene."""
    from pipcli.images import read_image, write_image
    from pipcli.metrics import psnr

    for scene in SCENES:
        clean = load_photo(scene, photos)
        before, after = pictures_of(scene, out)
        write_image(degrade_scene(scene, clean), before)
        degraded = read_image(before)
        omega = omega_vector(parse_task(scene.task), restorer.degradations)
        write_image(restorer.restore(degraded, omega), after)
        restored = read_image(after)
        yield Outcome(
            scene,
            degraded,
            restored,
            clean,
            psnr(degraded.pixels, clean.pixels, clean.peak),
            psnr(restored.pixels, clean.pixels, clean.peak),
        )


def pictures_of(scene: Scene, out: Path) -> tuple[Path, Path]:
    """Where a scene's degraded and restored pictures are put."""
    return out / f"{scene.task}-degraded.png", out / f"{scene.task}-restored.png"


def load_photo(scene: Scene, photos: Path) -> Image:
    """The scene's part of its photograph, HEIGHT×WIDTH, uint8."""
    import numpy as np
    from PIL import Image as PillowImage

    from pipcli.images import Image

    with PillowImage.open(photos / scene.photo) as photo:
        part = photo.resize((WIDTH, HEIGHT), PillowImage.Resampling.LANCZOS, box=scene.box)
    return Image(np.atleast_3d(np.asarray(part)))


def degrade_scene(scene: Scene, clean: Image) -> Image:
    """The photograph after what ails this scene; the same at every call."""
    import torch

    from pipcli.synthesis import degrade

    x = torch.from_numpy(_floats(clean)).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(scene.seed)
    y = degrade(x, TASKS[scene.task], typical_ranges(), generator)
    return clean.with_pixels(clean.store(y[0].permute(1, 2, 0).numpy()))


def typical_ranges() -> SynthesisRanges:
    """The five degradations at middling strength: near the middle of what the public benchmarks hold."""
    from pipcli.synthesis import SynthesisRanges
    from pipcli.synthesis.blur import BlurRanges
    from pipcli.synthesis.haze import HazeRanges
    from pipcli.synthesis.lowlight import LowLightRanges
    from pipcli.synthesis.noise import NoiseRanges
    from pipcli.synthesis.rain import RainRanges

    return SynthesisRanges(
        noise=NoiseRanges(sigma=(25.0, 25.0), poisson_chance=0.0, grey_chance=0.0, eight_bit_chance=1.0),
        rain=RainRanges(
            coverage=(0.10, 0.10),
            brightness=(60.0, 80.0),
            length=(20.0, 60.0),
            width=(1.0, 3.0),
            angle=(12.0, 12.0),
            screen_chance=0.0,
            veil_chance=0.0,
        ),
        haze=HazeRanges(
            beta=(1.6, 1.6), view=(1.0, 1.0), airlight=(0.9, 0.9), occluders=0, guided_chance=0.0
        ),
        blur=BlurRanges(
            # An input of about 27 dB, as the averaged frames of GoPro's test scenes are on average.
            shake_length=(6.0, 6.0),
            shake_chance=1.0,
            line_chance=0.0,
            disk_chance=0.0,
            varying_chance=0.0,
        ),
        lowlight=LowLightRanges(gamma=(1.8, 1.8), gain=(0.20, 0.25)),
    )


def draw_outcomes(outcomes: list[Outcome]) -> Image:
    """One row a task: degraded, restored, clean."""
    from pipcli.images import Image
    from pipcli.reports.sheet import Panel, Row, draw_sheet

    rows = []
    for outcome in outcomes:
        panels = (
            Panel(_floats(outcome.degraded), f"{outcome.degraded_psnr:.2f} dB"),
            Panel(_floats(outcome.restored), f"{outcome.restored_psnr:.2f} dB"),
            Panel(_floats(outcome.clean), outcome.scene.photo),
        )
        rows.append(Row(f"{outcome.scene.task}: {outcome.scene.story}", panels))
    return Image(draw_sheet(("degraded", "restored", "clean"), rows))


def _floats(image: Image) -> NDArray[np.float32]:
    return image.crop_float(0, image.height, 0, image.width)

"""The benchmarks by name: one literal table.

Sets marked ``verified`` were counted on a copy; ``checksums.json`` beside this file holds what their pixels
must be. All other counts are those of their authors or of the papers that use them, taken unverified,
and an address stands here only if it was looked up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.datasets import Dataset, Layout, StackLayout

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation

_BSDS = "non-commercial research and education"

_CDD_FOLDERS: Mapping[str, tuple[Degradation, ...]] = {
    "low": (LOWLIGHT,),
    "haze": (HAZE,),
    "rain": (RAIN,),
    "low_haze": (LOWLIGHT, HAZE),
    "low_rain": (LOWLIGHT, RAIN),
    "haze_rain": (HAZE, RAIN),
    "low_haze_rain": (LOWLIGHT, HAZE, RAIN),
    "snow": (),
    "low_snow": (LOWLIGHT,),
    "haze_snow": (HAZE,),
    "low_haze_snow": (LOWLIGHT, HAZE),
}
"""CDD-11's folders and what there is a task for in each."""

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "CBSD68",
        {},
        68,
        layouts=(Layout("CBSD68"), Layout("CBSD68/original_png"), Layout("BSD68"), Layout("denoise/bsd68")),
        source="Martin et al., ICCV 2001; the 68 test images of Roth and Black, IJCV 2009, in colour",
        licence=_BSDS,
        page="https://github.com/clausmichele/CBSD68-dataset",
        aliases=("BSD68",),
        verified=True,
    ),
    Dataset(
        "Kodak24",
        {},
        24,
        layouts=(Layout("Kodak24"), Layout("kodak")),
        source="Eastman Kodak, 1999",
        page="https://r0k.us/graphics/kodak",
        aliases=("Kodak",),
    ),
    Dataset(
        "McMaster",
        {},
        18,
        layouts=(Layout("McMaster"), Layout("McM")),
        source="Zhang et al., Journal of Electronic Imaging 2011",
        page="https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
        aliases=("McM",),
    ),
    Dataset(
        "Urban100",
        {},
        100,
        layouts=(
            Layout("Urban100"),
            Layout("denoise/urban100"),
            Layout("Urban100/image_SRF_4", clean_key=r"img_(\d+)_SRF_4_HR"),
        ),
        source="Huang et al., CVPR 2015",
        page="https://github.com/jbhuang0604/SelfExSR",
    ),
    Dataset(
        "Set12",
        {},
        12,
        layouts=(Layout("Set12"),),
        source="Zhang et al. (DnCNN), IEEE TIP 2017",
        note="grey images: a model sees them as three equal channels",
    ),
    Dataset(
        "Rain100L",
        {RAIN: 1.0},
        100,
        layouts=(
            Layout("Rain100L/target", "Rain100L/input"),
            Layout("derain/Rain100L/target", "derain/Rain100L/input"),
            Layout("Rain100L", "Rain100L/rainy", r"norain-(\d+)", r"rain-(\d+)"),
        ),
        source="Yang et al., CVPR 2017",
        page="https://www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html",
        verified=True,
        note="its true images are crops of BSDS500, on whose other images most models are trained",
    ),
    Dataset(
        "Rain100H",
        {RAIN: 1.0},
        100,
        layouts=(
            Layout("Rain100H/target", "Rain100H/input"),
            Layout("Rain100H", "Rain100H/rainy", r"norain-(\d+)", r"rain-(\d+)"),
        ),
        source="Yang et al., CVPR 2017",
        page="https://www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html",
    ),
    Dataset(
        "SOTS",
        {HAZE: 1.0},
        500,
        layouts=(
            Layout("SOTS/outdoor/gt", "SOTS/outdoor/hazy", r"(\d+)", r"(\d+)_.+"),
            Layout("SOTS-outdoor/GT", "SOTS-outdoor/hazy", r"(\d+)(?:_.+)?", r"(\d+)_.+"),
            Layout("dehaze/target", "dehaze/input", r"(\d+)(?:_.+)?", r"(\d+)_.+"),
        ),
        source="Li et al. (RESIDE), IEEE TIP 2019: the outdoor part",
        page="https://sites.google.com/view/reside-dehaze-datasets/reside-v0",
        aliases=("SOTS-outdoor",),
    ),
    Dataset(
        "SOTS-indoor",
        {HAZE: 1.0},
        500,
        layouts=(
            Layout("SOTS-indoor/GT", "SOTS-indoor/hazy", r"(\d+)(?:_\d+)?", r"(\d+)_\d+"),
            Layout("SOTS/indoor/gt", "SOTS/indoor/hazy", r"(\d+)", r"(\d+)_\d+"),
        ),
        source="Li et al. (RESIDE), IEEE TIP 2019: the indoor part",
        page="https://sites.google.com/view/reside-dehaze-datasets/reside-v0",
        note="not the outdoor part that three-task and five-task tables mean by SOTS",
    ),
    Dataset(
        "GoPro",
        {BLUR: 1.0},
        1111,
        layouts=(
            Layout("GoPro/test/*/sharp", "GoPro/test/*/blur"),
            Layout("GoPro/target", "GoPro/input"),
            Layout("GOPRO_Large/test/*/sharp", "GOPRO_Large/test/*/blur"),
        ),
        source="Nah et al., CVPR 2017",
        page="https://seungjunnah.github.io/Datasets/gopro",
    ),
    Dataset(
        "GoPro-like",
        {BLUR: 1.0},
        7,
        layouts=(Layout("GoPro-like/sharp", "GoPro-like/blur"),),
        source="scenes of GoPro's test set (Nah et al., CVPR 2017), plain averages of 8 to 10 frames",
        note="not the official GoPro test set: its figures stand beside no published ones",
        verified=True,
    ),
    Dataset(
        "LOL",
        {LOWLIGHT: 1.0},
        15,
        layouts=(Layout("LOL/eval15/high", "LOL/eval15/low"), Layout("eval15/high", "eval15/low")),
        source="Wei et al. (Retinex-Net), BMVC 2018",
        page="https://daooshee.github.io/BMVC2018website/",
        note="14 of its 15 scenes have a near-twin in the training set our485",
        verified=True,
    ),
    Dataset(
        "SIDD",
        {NOISE: 1.0},
        1280,
        layouts=(
            StackLayout("SIDD/ValidationGtBlocksSrgb.mat", "SIDD/ValidationNoisyBlocksSrgb.mat"),
            Layout("SIDD/target", "SIDD/input"),
        ),
        source="Abdelhamed et al., CVPR 2018: the sRGB validation blocks",
        page="https://www.eecs.yorku.ca/~kamel/sidd/dataset.php",
        note="no copy of its MATLAB files was at hand to try their reading on",
    ),
    *(
        Dataset(
            f"CDD-11/{folder}",
            {kind: 1 / len(kinds) for kind in kinds},
            200,
            layouts=(Layout("CDD-11_test/clear", f"CDD-11_test/{folder}"),),
            source="Guo et al. (OneRestore), ECCV 2024",
            page="https://github.com/gy65896/OneRestore",
            note="its snow stays: no task undoes it" if "snow" in folder else "",
            beyond=("snow",) if "snow" in folder else (),
        )
        for folder, kinds in _CDD_FOLDERS.items()
    ),
    Dataset(
        "AAPM",
        {},
        None,
        layouts=(Layout("AAPM"),),
        source="McCollough, Medical Physics 2016: full-dose CT slices, written out as 8-bit grey images",
        note="the window that a slice was written out with decides its figures",
    ),
)
"""Every benchmark that has a name."""


def find_dataset(name: str) -> Dataset:
    """The benchmark of a name, in any case.

    Raises:
        UsageError: no such benchmark.
    """
    for dataset in DATASETS:
        if name.casefold() in {word.casefold() for word in (dataset.name, *dataset.aliases)}:
            return dataset
    raise UsageError(f"unknown dataset {name!r}: choose from {', '.join(each.name for each in DATASETS)}")


def is_known(dataset: Dataset, image: str, digests: tuple[str, ...]) -> bool | None:
    """Whether an image holds the pixels that it must; None where nothing is known of it.

    Args:
        dataset: the set that it belongs to.
        image: its name; in a set of which every image is known, copies may name them in any way.
        digests: `pixel_digest` of the true image and, where the set brings one, of the input.
    """
    images = _checksums().get(dataset.name, {})
    if dataset.verified:
        return digests in images.values()
    return None if image not in images else digests == images[image]


@cache
def _checksums() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    text = files("pipcli.evaluation").joinpath("checksums.json").read_text(encoding="utf-8")
    return {
        dataset: {image: tuple(digests) for image, digests in images.items()}
        for dataset, images in json.loads(text).items()
    }

"""Explanations: what the classifier's view says, and which pictures are laid side by side."""

import numpy as np

from pipcli.reports.prompts import Belief, ImageExplanation, Restoration


def explanation(*probabilities: float, parts: int = 1) -> ImageExplanation:
    pictures = tuple(np.full((8, 12, 3), value, np.float32) for value in (0.1, 0.2))[:parts]
    beliefs = zip(("noise", "rain", "haze"), probabilities, strict=False)
    restorations = (Restoration("denoise", 1.25, pictures), Restoration("derain", 30.0, pictures))
    return ImageExplanation(
        "title", (), pictures, restorations, tuple(Belief(*belief) for belief in beliefs), 3.0, 0.5
    )


def test_the_verdict_names_what_is_there_most_probable_first():
    assert explanation(0.6, 0.1, 0.9).verdict == "haze and noise"
    assert explanation(0.5).verdict == "noise"
    assert explanation(0.4, 0.1).verdict == "clean"


def test_rows_hold_the_input_and_every_restoration():
    ((title, views),) = explanation(0.1).rows()
    assert title == "whole"
    captions = ["input", "denoise: changes 1.2 of 255", "derain: changes 30.0 of 255"]
    assert [view.caption for view in views] == captions
    rows = explanation(0.1, parts=2).rows()
    assert [len(views) for _, views in rows] == [3, 3]
    assert rows[1][1][2].pixels[0, 0, 0] == np.float32(0.2)

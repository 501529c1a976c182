"""Warnings are heard by those who listen, one thread at a time, and the filters stay what they were."""

from __future__ import annotations

import threading
import warnings

from PIL import Image as PillowImage

from pipcli.images.sizes import size_of
from pipcli.images.warned import heard_warnings


def test_what_is_warned_of_is_heard_and_not_shown():
    before = list(warnings.filters)
    with heard_warnings() as heard:  # the filters of these tests make errors of warnings
        warnings.warn("listen", UserWarning, stacklevel=1)
        warnings.warn("listen", UserWarning, stacklevel=1)
    assert [str(each.message) for each in heard] == ["listen", "listen"]
    assert warnings.filters == before


def test_others_wait_for_their_turn(tmp_path):
    PillowImage.new("RGB", (17, 11)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    found = []
    reader = threading.Thread(target=lambda: found.append(size_of(tmp_path / "a.png")))
    with heard_warnings() as heard:
        reader.start()
        reader.join(0.3)
        assert found == []
        warnings.warn("listen", UserWarning, stacklevel=1)
    reader.join()
    assert found == [(1, 11, 17)]
    assert len(heard) == 1
    assert warnings.filters == before

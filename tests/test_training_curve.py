"""The validation curve: the log read, its faults named, and what is drawn where."""

import io
import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.cli import main
from pipcli.errors import UsageError
from pipcli.reports.training_curve import Validation, curve_figure, read_log


def line(minutes: float, **scores: float) -> str:
    entry = {"step": 1, "minutes": minutes, "learning_rate": 1e-3, "validation": scores}
    return json.dumps(entry) + "\n"


def test_a_log_is_read_in_its_order(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(line(5, noise=30.5, mean=28) + line(10, noise=31, rain=33, mean=32))
    assert read_log(log) == [
        Validation(5.0, 1e-3, {"noise": 30.5, "mean": 28.0}),
        Validation(10.0, 1e-3, {"noise": 31.0, "rain": 33.0, "mean": 32.0}),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no log of a training run"),
        ("", "not been validated yet"),
        (line(5, noise=30) + "{}\n", "line 2 is not"),
        (line(5, noise=30) + "[1]\n", "line 2 is not"),
        ("half a li", "line 1 is not"),
        (line(5).replace("{}", "3"), "line 1 is not"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, content, words):
    log = tmp_path / "log.jsonl"
    if content is not None:
        log.write_text(content)
    with pytest.raises(UsageError, match=words) as raised:
        read_log(log)
    assert str(log) in str(raised.value)


def drawn(data: bytes) -> np.ndarray:
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def test_every_score_has_a_panel_with_its_curve():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pipcli[plots])")
    few, many = (
        [Validation(m, 1e-3, {f"score {i}": 20.0 + m for i in range(count)}) for m in (1.0, 2.0, 3.0)]
        for count in (4, 9)
    )
    one_row, two_rows = (drawn(curve_figure(each, "run")) for each in (few, many))
    assert 1.6 < two_rows.shape[0] / one_row.shape[0] < 2
    blue = (np.abs(two_rows - (0x0B, 0x63, 0xCE)).max(axis=2) < 40).sum()
    assert blue == pytest.approx(
        9 / 4 * (np.abs(one_row - (0x0B, 0x63, 0xCE)).max(axis=2) < 40).sum(), rel=0.1
    )
    assert curve_figure(few, "run") == curve_figure(few, "run")


def test_the_command_writes_the_picture_and_replaces_only_if_asked(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pipcli[plots])")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.jsonl").write_text(line(5, mean=28) + line(10, mean=29))
    target = tmp_path / "new/curve.png"
    assert main(["curve", str(tmp_path / "run"), str(target)]) == 0
    assert "2 validations" in capsys.readouterr().err
    assert drawn(target.read_bytes()).std() > 10
    assert main(["curve", str(tmp_path / "run"), str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["curve", str(tmp_path / "run"), str(target), "--overwrite"]) == 0
    assert main(["curve", str(tmp_path / "run"), str(tmp_path / "curve.gif")]) == 2
    assert ".png" in capsys.readouterr().err
    assert main(["curve", str(tmp_path), str(tmp_path / "curve.png")]) == 2
    assert "log.jsonl" in capsys.readouterr().err

"""From inputs to jobs: the tree is kept, and what cannot go well is refused before anything is changed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from pipcli.batch import plan as plan_module
from pipcli.batch.inputs import named_inputs
from pipcli.batch.naming import NameTemplate
from pipcli.batch.plan import Job, list_files, list_for_sorting, plan_batch
from pipcli.errors import OutputError, UsageError
from pipcli.images.formats import format_named


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "a.jpg", folder / "sub" / "deep" / "b.JPEG", folder / "notes.txt")
    return folder


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_folder_keeps_its_tree_and_suffixes(photos, tmp_path):
    out = tmp_path / "new" / "out"
    plan = plan_batch(str(photos), str(out))
    assert {(job.source, job.target) for job in plan.jobs} == {
        (photos / name, out / name) for name in ("a.png", "a.jpg", "sub/deep/b.JPEG")
    }
    assert {(job.home, job.output, job.relative) for job in plan.jobs} == {
        (out, name, name) for name in ("a.png", "a.jpg", "sub/deep/b.JPEG")
    }
    assert plan.left_alone == 1
    assert tree(tmp_path) == {"in", *(f"in/{name}" for name in tree(photos))}, "planning changes nothing"
    plan.make_folders()
    assert tree(out) == {"sub", "sub/deep"}


def test_trees_may_be_deeper_than_python_calls(tmp_path):
    touch(tmp_path / "in" / ("a/" * 300) / "x.png")
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
        plan.make_folders()
    finally:
        sys.setrecursionlimit(usual)
    (job,) = plan.jobs
    assert job.target.parent.is_dir()


def test_what_a_killed_run_left_is_removed(photos, tmp_path):
    touch(tmp_path / "out" / ".pipcli-1.tmp", tmp_path / "out" / "sub" / "deep" / ".pipcli-2.tmp")
    plan_batch(str(photos), str(tmp_path / "out")).make_folders()
    assert tree(tmp_path / "out") == {"sub", "sub/deep"}


def test_an_empty_folder_is_an_empty_plan(tmp_path):
    (tmp_path / "in").mkdir()
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    assert plan.jobs == ()
    plan.make_folders()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("new.png", "new.png"),
        ("new.jpg", "new.jpg"),
        ("folder/new.png", "folder/new.png"),
        ("folder/", "folder/a.png"),
        ("folder", "folder/a.png"),
        ("folder.v2/", "folder.v2/a.png"),
        ("there.v2", "there.v2/a.png"),
        ("plain", "plain"),
    ],
)
def test_where_one_file_goes(photos, tmp_path, out, expected):
    (tmp_path / "there.v2").mkdir()
    touch(tmp_path / "plain")
    plan = plan_batch(str(photos / "a.png"), f"{tmp_path}/{out}")
    path = tmp_path / expected
    assert plan.jobs == (Job(photos / "a.png", path, home=path.parent, relative="a.png"),)
    assert plan.left_alone == 0


def test_missing_input(tmp_path):
    for name in ("none.png", "x" * 300):
        with pytest.raises(UsageError, match=rf"{name}: there is no such file or folder"):
            plan_batch(str(tmp_path / name), str(tmp_path / "out"))


def test_names_with_newlines_stay_on_one_line(tmp_path):
    with pytest.raises(UsageError) as error:
        plan_batch(str(tmp_path / "a\nb"), str(tmp_path / "out"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(40), "is HEIC, whose decoders are not as free"),
        ("a.GIF", b"GIF89a" + bytes(40), "is a GIF, whose 256 colours"),
        ("a.heic", b"", "is empty"),
        ("a.nef", b"II*\0" + bytes(40), "is a picture of a format that is not read"),
    ],
)
def test_a_single_picture_of_a_format_that_is_not_read_is_refused_in_words(tmp_path, name, content, reason):
    source = tmp_path / name
    source.write_bytes(content)
    for target in (f"{tmp_path / 'out'}/", None):
        with pytest.raises(UsageError, match=re.escape(f"{source}: {reason}")):
            plan_batch(str(source), target)


def test_unknown_suffix_and_empty_output(photos):
    with pytest.raises(UsageError, match=r"x\.xyz: its suffix is none that can be written: \."):
        plan_batch(str(photos / "a.png"), str(photos.parent / "x.xyz"))
    with pytest.raises(UsageError, match="empty"):
        plan_batch(str(photos / "a.png"), "")


@pytest.mark.parametrize("out", ["in", "in/", "in/.", "in/sub/..", "link", "../{parent}/in"])
def test_same_folder_is_refused_under_every_name(photos, tmp_path, monkeypatch, out):
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="same folder"):
        plan_batch("in", out.format(parent=tmp_path.name))
    with pytest.raises(UsageError, match="same folder"):
        plan_batch("link", "in")


@pytest.mark.parametrize("out", ["in/out", "in/sub", "in/x/y/z", "link/out", "in/sub/../out"])
def test_output_inside_the_input_is_refused(photos, tmp_path, monkeypatch, out):
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="lies inside the input in"):
        plan_batch("in", out)


def test_input_inside_the_output_is_fine_unless_it_would_be_overwritten(tmp_path):
    touch(tmp_path / "out" / "in" / "a.png")
    plan = plan_batch(str(tmp_path / "out" / "in"), str(tmp_path / "out"))
    assert [job.target for job in plan.jobs] == [tmp_path / "out" / "a.png"]
    touch(tmp_path / "out" / "in" / "in" / "a.png")
    with pytest.raises(UsageError, match=r"out/in/a\.png: this output is also an input"):
        plan_batch(str(tmp_path / "out" / "in"), str(tmp_path / "out"))


def test_same_file_is_refused_under_every_name(photos, tmp_path):
    source = photos / "a.png"
    (tmp_path / "soft.png").symlink_to(source)
    os.link(source, tmp_path / "hard.png")
    for target in (source, photos, tmp_path / "soft.png", tmp_path / "hard.png"):
        with pytest.raises(UsageError, match="this output is also an input"):
            plan_batch(str(source), str(target))
    with pytest.raises(UsageError, match="this output is also an input"):
        plan_batch(str(tmp_path / "soft.png"), str(source))


def test_an_output_that_is_a_link_to_an_input_is_refused(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(photos / "a.jpg")
    with pytest.raises(UsageError, match=r"out/a\.png: this output is also an input"):
        plan_batch(str(photos), str(out))


def test_a_link_in_the_input_to_the_output_is_not_entered(photos, tmp_path):
    out = tmp_path / "out"
    touch(out / "old.png")
    (photos / "results").symlink_to(out)
    assert len(plan_batch(str(photos), str(out)).jobs) == 3


@pytest.mark.parametrize(
    ("one", "two"),
    [("B.png", "b.PNG"), ("Sub/c.png", "sub/c.png"), ("é.png", "e\N{COMBINING ACUTE ACCENT}.png")],
)
def test_names_that_other_file_systems_take_for_one_are_refused(tmp_path, one, two):
    touch(tmp_path / "in" / one, tmp_path / "in" / two)
    if len(list((tmp_path / "in").rglob("*.*"))) < 2:
        pytest.skip("this file system takes them for one itself")
    with pytest.raises(UsageError, match="one and the same on some file systems"):
        plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))


def test_output_that_is_a_file_or_below_one(photos, tmp_path):
    touch(tmp_path / "file")
    with pytest.raises(OutputError, match="is a file; for a folder of images it must be a folder"):
        plan_batch(str(photos), str(tmp_path / "file"))
    for source in (photos, photos / "a.png"):
        with pytest.raises(OutputError, match=r"cannot be made: .*file is no folder"):
            plan_batch(str(source), f"{tmp_path}/file/out/")


def test_output_that_is_no_regular_file_is_not_replaced(photos, tmp_path):
    with pytest.raises(OutputError, match="/dev/null: is no regular file"):
        plan_batch(str(photos / "a.png"), "/dev/null")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"out/a\.png: is no regular file"):
        plan_batch(str(photos), str(tmp_path / "out"))


def test_no_permission_is_found_while_planning(photos, tmp_path, monkeypatch):
    # Root may write anywhere, so the system's answer is faked.
    monkeypatch.setattr(plan_module.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=r"out: cannot be written to: .* is not yours or read-only"):
        plan_batch(str(photos), str(tmp_path / "out"))


def test_a_folder_that_only_looks_writable_is_found_before_the_run(photos, tmp_path, monkeypatch):
    plan = plan_batch(str(photos), str(tmp_path / "out"))

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(plan_module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="out: cannot be written to: Read-only file system"):
        plan.make_folders()


def test_a_folder_that_cannot_be_made(photos):
    # Nobody, root included, can make folders here.
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc on this system")
    with pytest.raises(OutputError, match="/proc/self/out: cannot be written to"):
        plan_batch(str(photos / "a.png"), "/proc/self/out/").make_folders()


def test_folders_that_cannot_be_listed_are_told(photos, tmp_path, monkeypatch):
    def scandir(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    plan = plan_batch(str(photos), str(tmp_path / "out"))
    assert plan.unlisted == {photos / "sub": "cannot be listed"}
    assert len(plan.jobs) == 2


def outputs(inputs: list[str], target: str, template: str | None = None) -> dict[str, str]:
    chosen = None if template is None else NameTemplate(template)
    plan = plan_batch(named_inputs(inputs), target, chosen)
    return {str(job.source): str(job.target) for job in plan.jobs}


def test_several_inputs_go_into_one_folder(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "more" / "c.png")
    assert outputs(["in", "more"], "out") == {
        "in/a.jpg": "out/in/a.jpg",
        "in/a.png": "out/in/a.png",
        "in/sub/deep/b.JPEG": "out/in/sub/deep/b.JPEG",
        "more/c.png": "out/more/c.png",
    }
    assert outputs(["in/a.png", "more"], "x.png") == {
        "in/a.png": "x.png/a.png",
        "more/c.png": "x.png/more/c.png",
    }
    assert outputs(["in/**/*.JPEG"], "out/") == {"in/sub/deep/b.JPEG": "out/sub/deep/b.JPEG"}


def test_the_same_file_named_twice_is_done_once(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outputs(["in/a.png", "in/a.png", "./in/a.png"], "out") == {"in/a.png": "out/a.png"}


def test_two_files_of_one_name_from_two_folders_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "more" / "A.png")
    with pytest.raises(UsageError, match=r"more/A\.png and in/a\.png: their outputs"):
        outputs(["in/a.png", "more/A.png"], "out")


def test_names_follow_the_template(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outputs(["in"], "out", "{stem}_new{suffix}") == {
        "in/a.jpg": "out/a_new.jpg",
        "in/a.png": "out/a_new.png",
        "in/sub/deep/b.JPEG": "out/sub/deep/b_new.JPEG",
    }
    assert outputs(["in/a.png"], "out/", "{stem}.tif") == {"in/a.png": "out/a.tif"}
    with pytest.raises(UsageError, match=r"in/a\.png and in/a\.jpg: .* have one name, out/a\.png; rename"):
        outputs(["in"], "out", "{stem}.png")
    with pytest.raises(UsageError, match=r"a\.xyz: its suffix is none that can be written"):
        outputs(["in"], "out", "{stem}.xyz")
    with pytest.raises(UsageError, match=r"b\.png: --name is for outputs in a folder"):
        outputs(["in/a.png"], "b.png", "{stem}.png")


def test_in_place_every_file_is_its_own_output(photos, tmp_path):
    (tmp_path / "link.png").symlink_to(photos / "a.png")
    plan = plan_batch(named_inputs([str(photos), str(tmp_path / "link.png")]), None)
    assert all(job.source == job.target and job.in_place for job in plan.jobs)
    # The link and what it leads to are one file; the ledger lies beside each file, however it was named.
    assert [(str(job.source.relative_to(photos)), job.home) for job in plan.jobs] == [
        ("a.jpg", photos),
        ("a.png", photos),
        ("sub/deep/b.JPEG", photos / "sub" / "deep"),
    ]


def test_dicom_is_never_replaced(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(UsageError, match=r"a\.dcm: is DICOM, of which a new series is made, never in place"):
        plan_batch(named_inputs([str(tmp_path)]), None)


def test_a_missing_file_of_a_list_is_a_job_that_will_fail(tmp_path):
    plan = plan_batch(named_inputs([], [b"none.png"]), str(tmp_path / "out"))
    assert [str(job.source) for job in plan.jobs] == ["none.png"]


def test_what_is_left_alone_is_told_apart(photos, tmp_path):
    touch(photos / ".hidden.png", photos / ".pipcli" / "ledger.jsonl", photos / "sub" / ".pipcli-1.tmp")
    (photos / "sub" / "loop").symlink_to(photos)
    plan = plan_batch(str(photos), str(tmp_path / "out"))
    assert (plan.hidden, plan.others, plan.loops, plan.left_alone) == (1, 1, 1, 3)


@pytest.fixture
def lock(monkeypatch):
    """Makes all whose path matches something that cannot be looked at, as in folders one may not enter."""

    def locking(pattern: str) -> None:
        def stat(path: object, **options: object) -> os.stat_result:
            if isinstance(path, (str, os.PathLike)) and re.search(pattern, os.fspath(path)):
                raise PermissionError(13, "Permission denied", path)
            return real(path, **options)

        real = os.stat
        monkeypatch.setattr(os, "stat", stat)

    return locking


LONG = "x" * 300


@pytest.mark.parametrize(
    "bad", [f"{LONG}.png", f"{LONG}/b.png", "a.png\na.png\n" * 50, "locked/b.png", "gone.txt"]
)
def test_one_bad_path_in_a_list_is_that_files_failure(photos, tmp_path, monkeypatch, lock, bad):
    monkeypatch.chdir(photos)
    lock("(^|in/)locked/")
    touch(photos / "locked" / "b.png")
    named = named_inputs([], [bad.encode(), b"a.png"])
    for target in ("../out", None):
        plan = plan_batch(named, target)
        assert {job.source.name for job in plan.jobs} == {Path(bad).name, "a.png"}
        plan.make_folders()
    assert tree(tmp_path / "out") == set()
    assert len(list_files(named).files) == 2


def test_links_that_lead_nowhere_are_files_that_fail(photos, tmp_path):
    (photos / "itself.png").symlink_to("itself.png")
    (photos / "nowhere.png").symlink_to(tmp_path / "unmounted" / "disk" / "x.png")
    plan = plan_batch(str(photos), None)
    assert {job.source.name for job in plan.jobs} == {"a.png", "a.jpg", "b.JPEG", "itself.png", "x.png"}
    plan.make_folders()
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.parametrize("target", ["out", None])
def test_no_folders_are_made_for_files_that_are_not_there(photos, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    plan = plan_batch(named_inputs([], [b"in/a.png", b"gone/disk/x.png"]), target)
    plan.make_folders()
    assert not Path("gone").exists()
    assert target is None or tree(tmp_path / "out") == {"in"}


def test_an_output_folder_that_cannot_be_entered(photos, tmp_path, lock):
    lock("out/sub/")
    (tmp_path / "out" / "sub").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"out/sub/deep/b\.JPEG: cannot be written: Permission denied"):
        plan_batch(str(photos), str(tmp_path / "out"))


def test_an_output_that_leads_to_itself(photos, tmp_path):
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(OutputError, match=r"out: cannot be made: .*out is no folder"):
        plan_batch(str(photos), str(tmp_path / "out"))


def test_a_pipe_among_images_is_that_files_failure_in_place(photos):
    os.mkfifo(photos / "pipe.png")
    assert len(plan_batch(str(photos), None).jobs) == 4


def test_what_is_no_image_is_refused_alone_and_counted_among_others(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    touch(photos / "b.heic", photos / "plain")
    for target in ("../out", None):
        with pytest.raises(UsageError, match=r"notes\.txt: its suffix is none that can be written"):
            plan_batch(named_inputs(["notes.txt"]), target)
        for named in (
            named_inputs(["a.png", "plain", "notes.txt", "b.heic"]),
            named_inputs([], [b"a.png", b"plain", b"notes.txt", b"b.heic"]),
            named_inputs(["[!.]*"]),
        ):
            plan = plan_batch(named, target)
            assert {job.source.name for job in plan.jobs} - {"a.jpg"} == {"a.png", "plain"}
            assert (plan.others, dict(plan.unread), plan.unlisted) == (1, {".heic": 1}, {})
    assert plan_batch(named_inputs([], [b"notes.txt"]), "../out").left_alone == 1


def test_a_hidden_file_is_refused_alone_and_left_alone_among_others(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    touch(photos / ".b.png", photos / ".c.dcm", photos / "sub" / ".pipcli-1.tmp")
    hidden = [".b.png", ".c.dcm", "sub/.pipcli-1.tmp"]
    for target in ("../out", None):
        with pytest.raises(UsageError, match=r"^\.b\.png: is hidden"):
            plan_batch(named_inputs([".b.png"]), target)
        for named in (
            named_inputs(["a.png", *hidden]),
            named_inputs([], [os.fsencode(name) for name in ("a.png", *hidden)]),
        ):
            plan = plan_batch(named, target)
            # What this program hides among images does not count.
            assert ([job.source.name for job in plan.jobs], plan.hidden) == (["a.png"], 2)
    with pytest.raises(UsageError, match=r"^\.b\.png: is hidden"):
        list_files(named_inputs([".b.png"]))
    # What is not there is a failure, as of any name.
    assert len(plan_batch(named_inputs([], [b".gone.png", b"a.png"]), "../out").jobs) == 2


def test_in_place_names_that_are_alike_stay_as_they_are(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "A.png")
    count = len(list(tmp_path.iterdir()))
    assert len(plan_batch(str(tmp_path), None).jobs) == count


def test_an_output_folder_that_is_there_may_be_read_only_until_something_is_to_be_written(
    photos, tmp_path, monkeypatch
):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(plan_module.os, "access", lambda path, mode: False)
    for source, target in ((photos, "out"), (photos / "a.png", "out/a.png")):
        plan_batch(str(source), str(tmp_path / target))
    with pytest.raises(OutputError, match="out: cannot be written to"):
        list_for_sorting(named_inputs([str(photos)]), tmp_path / "out")


def test_what_cannot_be_looked_into_is_a_failure_among_others(photos, tmp_path, monkeypatch):
    # Zip files that can be unpacked are folders by now.
    (photos / "b.zip").write_bytes(b"PK\x03\x04 and nothing more")
    named = named_inputs([str(photos / name) for name in ("a.png", "sub", "b.zip")])
    failures = plan_batch(named, str(tmp_path / "out")).failures
    assert failures == (f"{photos}/b.zip: is no zip file with anything in it",)

    def scandir(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    plan = plan_batch(named, str(tmp_path / "out"))
    assert (len(plan.jobs), set(plan.unlisted)) == (1, {photos / "sub", photos / "b.zip"})
    with pytest.raises(UsageError, match="in: cannot be listed"):
        plan_batch(str(photos), str(tmp_path / "out"))


@pytest.mark.parametrize("template", [None, "{stem}_new{suffix}"])
def test_what_an_earlier_run_has_made_is_no_input(photos, tmp_path, monkeypatch, template):
    monkeypatch.chdir(tmp_path)
    first = outputs(["**/*.png"], "out/", template)
    for path in first.values():
        touch(Path(path))
    (tmp_path / "link").symlink_to("out")
    assert outputs(["**/*.png"], "out", template) == first
    assert outputs(["in/../**/*.png"], f"{tmp_path}/out").keys() == {"in/../in/a.png"}
    again = ("in/a.png", *first.values(), f"{tmp_path}/out/in/a.png", "out/in")
    listed = named_inputs([], [os.fsencode(path) for path in again])
    assert [str(job.source) for job in plan_batch(listed, "out").jobs] == ["in/a.png"]
    assert [str(file.source) for file in list_for_sorting(listed, Path("out")).files] == ["in/a.png"]
    assert len(list_files(listed).files) == 3, "only an output can hold what an earlier run has made"


def test_files_may_go_to_a_folder_above_them(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outputs(["in/sub/**/*.JPEG"], "in") == {"in/sub/deep/b.JPEG": "in/deep/b.JPEG"}
    assert outputs(["in/sub/deep/b.JPEG", "in/a.png"], "more") != {}
    for words in (["in/a.*"], ["in/a.png", "in/a.jpg"]):
        with pytest.raises(UsageError, match="this output is also an input"):
            outputs(words, "in")


def test_inputs_that_all_lie_in_the_output_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"in/a\.png: lies in the output like all inputs"):
        plan_batch(named_inputs([], [b"in/a.png"]), "in")


def test_folders_that_lead_out_of_the_output_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "sub")
    for named in (named_inputs([], [b"../a.png"]), named_inputs(["*/../../*.*"])):
        with pytest.raises(UsageError, match=r"a\.\w+: a listed or matched path keeps its folders"):
            plan_batch(named, "../../out/x")
        with pytest.raises(UsageError, match=r"cannot begin with \.\."):
            list_for_sorting(named, tmp_path / "out")
    (match,) = plan_batch(named_inputs(["deep/../../*.png"]), "../../out/x/").jobs
    assert match.target == Path("../../out/x/a.png")
    plan = plan_batch(named_inputs([], [b"../a.png"]), None)
    assert [(job.source, job.relative) for job in plan.jobs] == [(photos / "a.png", "../a.png")]
    jobs = plan_batch(named_inputs(["..", "../../in/sub/deep"]), "../../out").jobs
    assert {str(job.target) for job in jobs} == {
        "../../out/in/a.png",
        "../../out/in/a.jpg",
        "../../out/in/sub/deep/b.JPEG",
        "../../out/deep/b.JPEG",
    }


def test_a_name_and_a_format_that_contradict_each_other(photos, tmp_path):
    png, jpeg = (NameTemplate(format_=format_named(name)) for name in ("png", "jpg"))
    source, out = str(photos / "a.png"), str(tmp_path / "b.jpeg")
    assert plan_batch(source, out, jpeg).jobs[0].target == Path(out)
    with pytest.raises(UsageError, match=r"b\.jpeg: this name is that of a JPEG file, --format is PNG"):
        plan_batch(source, out, png)
    # A folder's name is none of a format, and DICOM is written as such.
    assert plan_batch(source, f"{out}/", png).jobs[0].target == Path(out) / "a.png"
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    assert plan_batch(str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm"), png).jobs[0].dicom

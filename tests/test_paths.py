"""Paths: whoever takes one says the same of it, be it an archive's, a report's or an embedded server's."""

import errno
import os
from pathlib import Path

import fakeredis
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    ActivityTrackerError,
    Archive,
    ArchiveError,
    ArgumentTypeError,
    ArgumentValueError,
    EmbeddedServerError,
    ReportError,
)
from activity_tracker_hll.archives import ArchiveFile
from activity_tracker_hll.backends.embedded_places import data_directory
from activity_tracker_hll.paths import Place, path_text
from helpers.nasty import SUBCLASSES, hostile

T, V = ArgumentTypeError, ArgumentValueError


class Like:
    """A path-like object."""

    def __init__(self, answer):
        self._answer = answer

    def __fspath__(self):
        return self._answer


def report(path):
    pytest.importorskip("jinja2")
    with ActivityTracker(["daily"], client=fakeredis.FakeRedis(), timezone="UTC") as tracker:
        return tracker.report(path)


TAKERS = {
    "archive": (Archive, ArchiveError),
    "report": (report, ReportError),
    "embedded": (data_directory, EmbeddedServerError),
}
TAKE = pytest.mark.parametrize(("take", "error"), TAKERS.values(), ids=TAKERS)


@TAKE
@pytest.mark.parametrize(
    ("path", "expected", "sentence"),
    [
        ("", V, "path must not be empty: it is to name {}"),
        ("a\0b", V, r"path must be {}, got 'a\x00b': it has a NUL byte"),
        ("\ud800", V, r"path must be {}, got '\ud800': the system cannot encode it"),
        ("~nouser/x", V, "path must be {}, got '~nouser/x': there is no such home directory"),
        (7, T, "path must be {} (str or os.PathLike), got 7"),
        (b"x", T, "path must be {} (str or os.PathLike), got b'x'"),
        (["x"], T, "path must be {} (str or os.PathLike), got ['x']"),
        (Like(7), T, f"path must be {{}} (str or os.PathLike), got <{__name__}.Like>"),
        (hostile(Like)("x"), T, "path must be {} (str or os.PathLike), got <helpers.nasty.HostileLike>"),
    ],
    ids=["empty", "NUL", "no text", "nobody", "a number", "bytes", "a list", "odd", "hostile"],
)
def test_what_is_no_path(take, error, path, expected, sentence):
    with pytest.raises(expected) as caught:
        take(path)
    assert str(caught.value) == sentence.format("a directory" if error is EmbeddedServerError else "a file")


@TAKE
@pytest.mark.parametrize("given", [str, Path, Like, lambda path: Like(os.fsencode(path)), hostile(str)])
def test_a_path_of_any_class_is_its_text(tmp_path, take, error, given):
    (tmp_path / "in the way").touch() if error is EmbeddedServerError else (tmp_path / "in the way").mkdir()
    with pytest.raises(error, match="in the way"):
        take(given(str(tmp_path / "in the way")))


@TAKE
def test_below_a_file(tmp_path, monkeypatch, take, error):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "file" / "x", "~/file/x"):
        with pytest.raises(error) as caught:
            take(path)
        assert str(caught.value).endswith(": it is below what is not a directory")
        assert repr(str(tmp_path / "file" / "x")) in str(caught.value)


@pytest.mark.parametrize("taker", ["archive", "embedded"])  # a report takes the place of a link to nothing
def test_links_in_a_circle(tmp_path, taker):
    take, error = TAKERS[taker]
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(error, match="circle' cannot be used: links lead in a circle"):
        take(tmp_path / "circle")


@pytest.mark.parametrize("take", [Archive, report])
def test_a_file_has_a_name(take):
    for path in (".", "/"):
        with pytest.raises(V, match=f"path must name a file, got '{path}'"):
            take(path)


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory("~/data") == tmp_path / "data"
    assert ArchiveFile("~/x").path == tmp_path / "x"
    assert report("~/x.html") == tmp_path / "x.html"
    assert path_text("~", "a program", "executable") == str(tmp_path)
    assert path_text("a~b/~", "a program", "executable") == "a~b/~"


@pytest.mark.parametrize(
    ("code", "name", "sentence"),
    [
        (errno.EACCES, None, "permission to use it is denied"),
        (errno.EACCES, "/a/b", "permission to use it is denied"),
        (errno.EACCES, "/a/.beside", "permission to use it is denied"),
        (errno.EACCES, "/a/b/c", "permission to use '/a/b/c' is denied"),
        (errno.EACCES, b"/a/b/c", "permission to use '/a/b/c' is denied"),
        (errno.EACCES, 3, "permission to use it is denied"),
        (errno.EROFS, "/a/b", "it is on a read-only file system"),
        (errno.EISDIR, "/a/b/c", "'/a/b/c' is a directory"),
        (errno.ENOENT, "/a/b", "there is no directory '/a'"),
        (errno.ENOSPC, "/a/b", "the disk is full"),
        (errno.ENAMETOOLONG, "/a/b", "File name too long"),
    ],
)
def test_what_the_system_says(code, name, sentence):
    assert Place.of("/a/b", "a file").why(OSError(code, os.strerror(code), name)) == sentence


def test_an_error_without_a_number():
    assert Place.of("/a/b", "a file").why(OSError("odd")) == "odd"


@pytest.mark.parametrize("value", SUBCLASSES)
def test_whatever_is_given_raises_ours(value):
    try:
        place = Place.of(value(), "a file")
    except ActivityTrackerError as error:
        assert "path" in str(error)  # noqa: PT017 (some are paths)
    else:
        assert type(place.path.name) is str


@TAKE
@pytest.mark.parametrize("make", [str, Path])
@pytest.mark.parametrize("url", ["redis://user:canary@nowhere", "redis://user:canary@nowhere/0"])
def test_no_password_of_a_url_in_place_of_a_path_is_shown(tmp_path, monkeypatch, take, error, make, url):
    monkeypatch.chdir(tmp_path)
    if take is data_directory:  # which makes directories that are not there
        (tmp_path / "redis:").touch()
    with pytest.raises(error) as caught:
        take(make(url))
    assert "canary" not in str(caught.value)

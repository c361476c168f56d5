from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files, runs
from ttsbench.records.runs import Run


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    for link, target in (("link", "target"), ("dangling", "new")):
        (tmp_path / link).symlink_to(tmp_path / target)
        files.write(tmp_path / link, "text")
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).read_text() == "text"


def test_a_device_is_written_to_and_stays_one() -> None:
    before = Path(os.devnull).stat()
    files.write(Path(os.devnull), "text")
    assert (Path(os.devnull).stat().st_ino, Path(os.devnull).stat().st_rdev) == (before.st_ino, before.st_rdev)


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    files.write(pipe, "text")
    reader.join(10)
    assert read == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder, not a file to write\. Name another file"):
        files.write(tmp_path, "text")


def link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("make", "held"),
    [(link, "a link"), (os.mkfifo, "a pipe"), (Path.mkdir, "a folder")],
    ids=["link", "pipe", "folder"],
)
@pytest.mark.parametrize("name", ["file", "folder/file"])
def test_below_a_folder_nothing_but_files_is_written(
    tmp_path: Path, make: Callable[[Path], None], held: str, name: str
) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    for write in (
        lambda: files.write_below(tmp_path, name, "text"),
        lambda: files.open_below(tmp_path, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        with pytest.raises(UsageError, match=f"{name} is {held}, and nothing is written there"):
            write()
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_no_link_is_followed_on_the_way_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="logs is a link"):
        files.write_below(tmp_path / "run", "logs/x.log", "text")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_below(tmp_path / "gone", "logs/x.log", "text")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", ["/dev/null", "link.html"])
def test_a_page_replaces_no_device_and_no_link(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.write_run(tmp_path, make_run())
    Path("link.html").symlink_to("page.html")
    before = os.lstat(name).st_mode
    shown = subprocess.run(
        [sys.executable, "-m", "ttsbench", "show", ".", "--html", name], check=False, capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert os.lstat(name).st_mode == before


def test_lines_are_bounded_and_files_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RECORD_BYTES_MAX", 10)
    (tmp_path / "f").write_bytes(b"123456789\n" * 3 + b"torn")
    assert list(files.lines(tmp_path / "f")) == [b"123456789\n"] * 3
    (tmp_path / "f").write_bytes(b"1\n" + b"1" * 20)
    with pytest.raises(RecordError, match="f:2 is longer than"):
        list(files.lines(tmp_path / "f"))


# They write into folders that they have just made, to /dev/null, to /proc or into memory; or only lock what they open.
OWN_FOLDERS = {
    "cli/address_space.py", "cli/app.py", "reports/formats/values.py", "ttsbench/gating/environments.py",
    "ttsbench/gating/remote.py", "ttsbench/gating/workspace.py", "ttsbench/instruments/memory.py",
    "ttsbench/model/audio.py", "ttsbench/model/checkpoint.py", "ttsbench/model/checkpoint_files.py",
    "ttsbench/model/synthetic.py", "ttsbench/model/tokenizer_files.py", "ttsbench/model/voice.py",
    "ttsbench/records/files.py", "ttsbench/running/overhead.py", "ttsbench/running/worker.py",
}  # fmt: skip
WRITES = re.compile(
    r"write_(text|bytes|table)\(|\.open\(\"[wax]|os\.open\(|soundfile\.write|save_file\(|shutil\.(copy|move)"
)


def test_every_file_is_written_in_one_place() -> None:
    root = Path(__file__).parents[2]
    folders = ("cli", "optimizations", "reports", "scenarios", "ttsbench")
    sources = {path.resolve() for folder in folders for path in (root / folder).rglob("*.py")}
    writers = {str(path.relative_to(root)) for path in sources if WRITES.search(path.read_text(encoding="utf-8"))}
    assert writers <= OWN_FOLDERS, "use ttsbench.records.files"

from __future__ import annotations

import hashlib
import http.server
import io
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "local" / "download.py"


def tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


NOISE = bytes(i * i * 7919 % 251 for i in range(300_000))
CORPUS = tar({"LibriSpeech/README.TXT": b"read me", "LibriSpeech/dev-clean-2/1/2/1-2-3.flac": NOISE})


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` at any path; may break off after ``cut`` bytes; notes the ranges asked for."""

    content = CORPUS
    cut: int | None = None
    supports_range = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mini.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.server.url)
            return self.end_headers()
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        content, start = self.server.content, 0
        if asked and self.server.supports_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


Done = subprocess.CompletedProcess[str]


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def download(url: str, folder: Path, md5: str = md5(CORPUS)) -> Done:
    command = [sys.executable, str(SCRIPT), "--url", url, "--md5", md5, "--to", str(folder)]
    return subprocess.run([*command, "--hint", "Pass --corpus DIR."], capture_output=True, text=True)


def assert_unpacked(folder: Path) -> None:
    assert (folder / "LibriSpeech" / "README.TXT").read_bytes() == b"read me"
    assert (folder / "LibriSpeech" / "dev-clean-2" / "1" / "2" / "1-2-3.flac").read_bytes() == NOISE
    assert sorted(path.name for path in folder.iterdir()) == [".mini.tar.gz.unpacked", "LibriSpeech"]


def assert_refused(done: Done, *parts: str) -> None:
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and all(part in last for part in parts), done.stderr


def test_download_unpack_and_not_again(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "corpora"
    assert download(server.url.replace("mini", "moved/mini"), folder).returncode == 0  # by way of a redirection
    assert_unpacked(folder)
    assert download(server.url, folder).returncode == 0
    assert server.ranges == [None]
    shutil.rmtree(folder / "LibriSpeech")
    assert download(server.url, folder).returncode == 0
    assert_unpacked(folder)


def test_a_lexicon_is_not_unpacked(server: Server, tmp_path: Path) -> None:
    server.content = b"HELLO HH AH0 L OW1\n"
    url = server.url.replace("mini.tar.gz", "lexicon.txt")
    for _ in range(2):
        assert download(url, tmp_path, md5(server.content)).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lexicon.txt"] and server.ranges == [None]
    assert (tmp_path / "lexicon.txt").read_bytes() == server.content
    assert_refused(download(url, tmp_path, md5(b"another")), "lexicon.txt: its md5 is")
    assert not (tmp_path / "lexicon.txt").exists()


def test_a_second_archive_joins_the_first(server: Server, tmp_path: Path) -> None:
    download(server.url, tmp_path)
    server.content = tar({"LibriSpeech/README.TXT": b"again", "LibriSpeech/train-clean-5/x": b"y"})
    url = server.url.replace("mini", "other")
    assert download(url, tmp_path, md5(server.content)).returncode == 0
    names = sorted(path.name for path in (tmp_path / "LibriSpeech").iterdir())
    assert names == ["README.TXT", "dev-clean-2", "train-clean-5"]


def test_resumes_what_was_interrupted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mini.tar.gz.part").write_bytes(CORPUS[:100])
    assert download(server.url, tmp_path).returncode == 0
    assert server.ranges == ["bytes=100-"]
    assert_unpacked(tmp_path)


def test_goes_on_after_broken_connections(server: Server, tmp_path: Path) -> None:
    server.cut = len(CORPUS) // 3 + 1
    assert download(server.url, tmp_path).returncode == 0
    assert server.ranges == [None, f"bytes={server.cut}-", f"bytes={2 * server.cut}-"]
    assert_unpacked(tmp_path)


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mini.tar.gz.part").write_bytes(CORPUS)
    assert download(server.url, tmp_path).returncode == 0
    assert_unpacked(tmp_path)


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.supports_range = False
    (tmp_path / "mini.tar.gz.part").write_bytes(b"x" * 100)
    assert download(server.url, tmp_path).returncode == 0
    assert_unpacked(tmp_path)


def test_a_server_that_never_gets_further(server: Server, tmp_path: Path) -> None:
    server.supports_range, server.cut = False, 50
    done = download(server.url, tmp_path)
    assert_refused(done, "cannot be fetched", "50 bytes are kept", "Pass --corpus DIR.")


def test_wrong_md5(server: Server, tmp_path: Path) -> None:
    server.content = CORPUS[:-1] + b"?"
    assert_refused(download(server.url, tmp_path), md5(server.content), md5(CORPUS), "removed")
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        done = download(f"http://127.0.0.1:{unused.getsockname()[1]}/a.tar.gz", tmp_path)
    assert_refused(done, "cannot be fetched", "Pass --corpus DIR.")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_not_on_the_server(server: Server, tmp_path: Path) -> None:
    assert_refused(download(server.url.replace("mini", "missing"), tmp_path), "404", "Pass --corpus DIR.")
    assert_refused(download("mini.tar.gz", tmp_path), "http or https")


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [b"../outside", b"/tmp/outside", b"a/../../outside", tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE],
)
def test_dangerous_archives(server: Server, tmp_path: Path, member: bytes) -> None:
    folder = tmp_path / "in"
    bad: dict[str, bytes | tarfile.TarInfo] = {"a/fine": b"1"}
    if len(member) == 1:
        bad["a/link"] = link("a/link", "../../outside", member)
    else:
        bad[member.decode()] = b"2"
    server.content = tar(bad)
    assert_refused(download(server.url, folder, md5(server.content)), "do not use this archive")
    assert [path.name for path in folder.iterdir()] == ["mini.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_not_an_archive(server: Server, tmp_path: Path) -> None:
    server.content = CORPUS[: len(CORPUS) // 2]
    assert_refused(download(server.url, tmp_path, md5(server.content)), "cannot be unpacked")
    assert [path.name for path in tmp_path.iterdir()] == ["mini.tar.gz"]

#!/usr/bin/env python3
"""Download a corpus (tar.gz), resumably, and unpack it; nothing is unpacked before its checksum is right.

    local/download.py --url URL --md5 HEX --to DIR [--hint TEXT]

A file of another kind, such as a lexicon, is downloaded and checked.

An interrupted download goes on where it stopped. Subfolders appear in DIR whole; archives that share a top folder
(LibriSpeech/) are merged in it. The archive is removed once it is unpacked, and not fetched again as long as its
contents are there.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works before anything is installed

from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.progress import Progress

log = logging.getLogger("download")

BLOCK = 1 << 20  # bytes read at a time
ARCHIVES = (".tar.gz", ".tgz")
TIMEOUT = 60  # seconds without an answer


def download(url: str, path: Path, hint: str) -> None:
    """Fetch ``url`` to ``path`` by way of ``path``.part, which a later call continues.

    Raises:
        UserError: the server cannot be reached, refuses, or breaks off without having sent anything more.
    """
    part = path.with_name(path.name + ".part")
    complete = False
    while not complete:
        before = _size(part)
        try:
            complete = _fetch(url, part)
            reason = "the connection broke"
        except urllib.error.HTTPError as error:
            raise UserError(f"{url}: the server answers {error.code} {error.reason}. {hint}".rstrip()) from error
        except (HTTPException, OSError) as error:  # of the network, or of the disk; URLError is an OSError
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if not complete and _size(part) <= before:
            kept = f"; {before:,} bytes are kept, and the same command goes on from there" if before else ""
            raise UserError(f"{url}: cannot be fetched ({reason}){kept}. {hint}".rstrip())
        if not complete:
            log.warning("%s after %d bytes; going on from there", reason, _size(part))
    os.replace(part, path)


def _fetch(url: str, part: Path) -> bool:
    """Add what ``part`` lacks, in one connection; True if that was all of it."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing beyond what we have; the checksum tells if it is right
            return True
        raise
    with response:
        served = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and served.startswith(f"bytes {have}-")
        have = have if resumed else 0  # a server that ignores Range sends all of it again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = Progress(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True)
        with bar, open(part, "ab" if resumed else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
                have += len(block)
    return total is None or have >= total


def verify(path: Path, md5: str) -> None:
    """Raise UserError, and remove the file, if its MD5 digest is another one."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != md5.lower():
        path.unlink()
        raise UserError(
            f"{path}: its md5 is {digest.hexdigest()}, not {md5.lower()}; it was removed: run the same "
            "command again, and if that repeats itself, get the file another way"
        )


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack into ``folder`` and return what was put there.

    Only plain files and folders with relative paths are written, so no archive reaches outside ``folder``.

    Raises:
        UserError: a damaged archive or another kind of member; nothing of it is left then.
    """
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in Progress(tar, desc="unpacking", unit="file"):
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise UserError(
                        f"{archive}: {member.name!r} is a link, a device or outside the folder; nothing was "
                        "unpacked, do not use this archive"
                    )
                target = temporary / path
                (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
                if content := tar.extractfile(member):
                    with content, open(target, "wb") as file:
                        shutil.copyfileobj(content, file, BLOCK)
        return _merge(temporary, folder)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(
            f"{archive}: cannot be unpacked ({error}); mend that, or remove the archive, and run it again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _merge(source: Path, target: Path) -> list[Path]:
    """Move what is in ``source`` into ``target``; a folder both have is merged, a file replaced."""
    moved = []
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            moved += _merge(entry, place)
        else:
            os.replace(entry, place)
            moved.append(place)
    return moved


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--md5", required=True, help="the archive's MD5 digest, as its publisher gives it")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    parser.add_argument("--hint", default="", help="added to the message when the server cannot be reached")
    args = parser.parse_args(argv)
    url = urllib.parse.urlsplit(args.url)
    name = PurePosixPath(url.path).name
    if url.scheme not in ("http", "https") or not name:
        raise UserError(f"--url {args.url}: an http or https address of a file is needed")

    folder: Path = args.to.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    archive, receipt = folder / name, folder / f".{name}.unpacked"  # receipt: digest, what was unpacked
    if receipt.exists():
        md5, *places = receipt.read_text(encoding="utf-8").splitlines()
        if md5 == args.md5.lower() and all(Path(place).exists() for place in places):
            log.info("%s is unpacked in %s already", name, folder)
            return
    if not archive.exists():
        download(args.url, archive, args.hint)
    verify(archive, args.md5)
    if not name.endswith(ARCHIVES):
        log.info("%s is in %s", name, folder)
        return
    places = [str(place) for place in unpack(archive, folder)]
    with atomic_write(receipt) as file:
        file.write("\n".join([args.md5.lower(), *places]) + "\n")
    archive.unlink()
    log.info("%s: unpacked in %s", name, folder)


if __name__ == "__main__":
    run(main)

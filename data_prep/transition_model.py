"""The phone of each transition-id, read from a Kaldi model (``final.mdl``), binary or text, without Kaldi.

A model file starts with its transition model (Kaldi's hmm/transition-model.cc and hmm/hmm-topology.cc):

    <TransitionModel>
    <Topology> for each phone: its HMM's states, with the transitions out of each </Topology>
    <Triples> N, then N times: phone, HMM state, pdf </Triples>       or <Tuples>, with a second pdf
    <LogProbs> one number for each transition-id, and one more in front </LogProbs>
    </TransitionModel>

Transition-ids count from 1: the transitions out of the first tuple's state, of the second's, and so on. What follows
(Gaussians or a network) is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from cpc_speech.errors import UserError

MAX_TOKEN = 100  # bytes
MAX_COUNT = 1 << 24  # of anything in a transition model; a larger number is damage

Topology = dict[int, list[int]]  # phone -> for each of its HMM's states the number of transitions out of it


def read_transition_phones(path: str | Path) -> np.ndarray:
    """Read the phone of every transition-id of a model.

    Returns:
        (largest transition-id + 1,) int32: Kaldi's phone ids; -1 at place 0, which is no transition-id.

    Raises:
        UserError: no such file, or none that starts with a transition model (names the line or the byte).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --model names the model that made the alignment")
    with open(path, "rb") as file:
        binary = file.read(2) == b"\0B"
        if not binary:
            file.seek(0)
        model: _Binary | _Text = _Binary(file, path) if binary else _Text(file, path)
        model.expect("<TransitionModel>")
        topology = model.topology()
        pieces = [np.array([-1], dtype=np.int32)]
        kind = model.expect("<Triples>", "<Tuples>")
        for _ in range(model.count()):
            phone, state = model.integer(), model.integer()
            for _ in range(2 if kind == "<Tuples>" else 1):
                model.integer()  # pdf
            if phone not in topology or not 0 <= state < len(topology[phone]):
                model.fail(f"state {state} of phone {phone} is not in the topology")
            pieces.append(np.full(topology[phone][state], phone, dtype=np.int32))
        model.expect("</" + kind[1:])
        phones = np.concatenate(pieces)
        model.expect("<LogProbs>")
        length = model.skip_vector()
        if length != len(phones):
            model.fail(f"{length - 1} transition probabilities for {len(phones) - 1} transition-ids")
        model.expect("</LogProbs>")
        model.expect("</TransitionModel>")
    return phones


class _Reader:
    """Kaldi's basic types; its two forms differ in how they are written and in the topology."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path

    @property
    def where(self) -> str:
        raise NotImplementedError

    def token(self) -> str:
        raise NotImplementedError

    def integer(self) -> int:
        raise NotImplementedError

    def fail(self, reason: str) -> NoReturn:
        raise UserError(f"{self.where}: {reason}; this is no Kaldi model, or it is damaged")

    def expect(self, *tokens: str) -> str:
        if (token := self.token()) not in tokens:
            self.fail(f"{token!r} where {' or '.join(tokens)} should stand")
        return token

    def count(self) -> int:
        if not 0 <= (count := self.integer()) <= MAX_COUNT:
            self.fail(f"a count of {count}")
        return count


class _Binary(_Reader):
    """Tokens end with a blank; a number is preceded by its size in bytes."""

    @property
    def where(self) -> str:
        return f"{self.path}: byte {self.file.tell()}"

    def read(self, size: int) -> bytes:
        if len(content := self.file.read(size)) != size:
            self.fail("cut short")
        return content

    def token(self) -> str:
        token = bytearray()
        while (byte := self.read(1)) != b" ":
            token += byte
            if len(token) > MAX_TOKEN:
                self.fail("no token")
        return token.decode(errors="replace")

    def integer(self) -> int:
        if (size := self.read(1)[0]) != 4:
            self.fail(f"an integer of {size} bytes, not 4")
        return struct.unpack("<i", self.read(4))[0]

    def real(self) -> None:
        if (size := self.read(1)[0]) not in (4, 8):
            self.fail(f"a number of {size} bytes, not 4 or 8")
        self.read(size)

    def integers(self) -> list[int]:
        """A vector of integers: their size once, how many, and they."""
        if (size := self.read(1)[0]) != 4:
            self.fail(f"integers of {size} bytes, not 4")
        (length,) = struct.unpack("<i", self.read(4))
        if not 0 <= length <= MAX_COUNT:
            self.fail(f"a vector of length {length}")
        return np.frombuffer(self.read(4 * length), "<i4").tolist()

    def topology(self) -> Topology:
        self.expect("<Topology>")
        phones, entry_of_phone = self.integers(), self.integers()
        entries, pdf_classes = self.integer(), 1
        if entries == -1:  # marks the topologies of chain models, whose self-loops have a pdf-class of their own
            entries, pdf_classes = self.count(), 2
        if not 0 <= entries <= MAX_COUNT:
            self.fail(f"{entries} topologies")
        transitions: list[list[int]] = []
        for _ in range(entries):
            transitions.append([])
            for _ in range(self.count()):
                for _ in range(pdf_classes):
                    self.integer()
                transitions[-1].append(self.count())
                for _ in range(transitions[-1][-1]):
                    self.integer()  # the state it leads to
                    self.real()
        self.expect("</Topology>")
        for phone in phones:
            if not (0 <= phone < len(entry_of_phone) and 0 <= entry_of_phone[phone] < entries):
                self.fail(f"phone {phone} has no topology")
        return {phone: transitions[entry_of_phone[phone]] for phone in phones}

    def skip_vector(self) -> int:
        width = 4 if self.expect("FV", "DV") == "FV" else 8
        self.read(width * (length := self.count()))
        return length


class _Text(_Reader):
    """Everything is separated by blanks or line ends."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, path)
        self.line = 0
        self._tokens = self._split()

    @property
    def where(self) -> str:
        return f"{self.path}:{max(1, self.line)}"

    def _split(self) -> Iterator[str]:
        # The vector of probabilities is one line, of a few MB at most.
        while line := self.file.readline(40 * MAX_COUNT):
            self.line += 1
            yield from line.decode(errors="replace").split()

    def token(self) -> str:
        token = next(self._tokens, None)
        if token is None:
            self.fail("cut short")
        return token[:MAX_TOKEN]

    def integer(self) -> int:
        return self._integer(self.token())

    def _integer(self, token: str) -> int:
        try:
            return int(token)
        except ValueError:
            self.fail(f"{token!r} where an integer should stand")

    def _real(self, token: str) -> None:
        try:
            float(token)
        except ValueError:
            self.fail(f"{token!r} where a number should stand")

    def topology(self) -> Topology:
        self.expect("<Topology>")
        topology: Topology = {}
        while self.expect("<TopologyEntry>", "</Topology>") != "</Topology>":
            self.expect("<ForPhones>")
            phones = []
            while (token := self.token()) != "</ForPhones>":
                phones.append(self._integer(token))
            transitions: list[int] = []
            while self.expect("<State>", "</TopologyEntry>") != "</TopologyEntry>":
                if self.integer() != len(transitions):
                    self.fail("states that are not numbered in order")
                transitions.append(0)
                parts = ("<PdfClass>", "<ForwardPdfClass>", "<SelfLoopPdfClass>", "<Transition>", "</State>")
                while (part := self.expect(*parts)) != "</State>":
                    self.integer()
                    if part == "<Transition>":
                        self._real(self.token())
                        transitions[-1] += 1
            topology |= dict.fromkeys(phones, transitions)
        return topology

    def skip_vector(self) -> int:
        self.expect("[")
        length = 0
        while (token := self.token()) != "]":
            self._real(token)
            length += 1
        return length

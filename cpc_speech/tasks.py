"""What the probes classify: the phone of a frame, or its speaker, on the splits of a data directory."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cpc_speech.datadir import SPLITS, read_split, read_table
from cpc_speech.errors import UserError
from cpc_speech.model import HOP
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import PHONE_CLASSES, read_phones


@dataclass
class Task:
    """Targets of every utterance of ``audio``: class of each frame, −1 where there is none.

    Attributes:
        name: ``phone`` or ``speaker``.
        classes: number of classes; 41 phones, or the speakers of the train split.
        targets: one int64 array (n // 160,) an utterance.
        splits: utterance indices of train, dev and test.
    """

    name: str
    classes: int
    targets: list[np.ndarray]
    splits: dict[str, list[int]]

    def majority(self) -> float:
        """Accuracy on test, in per cent, of always saying train's most frequent class."""
        counts = self._counts("test")
        return 100 * float(counts[self.shares().argmax()] / counts.sum())

    def shares(self) -> np.ndarray:
        """Each class's share of train's labelled frames: (classes,) float64, 0 for a class that does not occur."""
        counts = self._counts("train")
        return counts / max(1, counts.sum())

    def _counts(self, split: str) -> np.ndarray:
        """Labelled frames of each class in a split: (classes,) int64."""
        counts = np.zeros(self.classes, np.int64)
        for i in self.splits[split]:  # one by one: all of them may be gigabytes
            counts += np.bincount(self.targets[i] + 1, minlength=self.classes + 1)[1:]
        return counts

    def shifted(self, frames: int) -> Task:
        """The same task with every label moved later: the class of frame t is that which frame t − ``frames`` had.

        Frames that no label reaches have none.
        """
        targets = []
        for target in self.targets:
            moved = np.full_like(target, -1)
            kept = max(0, len(target) - abs(frames))
            into, out_of = max(0, frames), max(0, -frames)
            moved[into : into + kept] = target[out_of : out_of + kept]
            targets.append(moved)
        return replace(self, targets=targets)


def load_splits(data: Path) -> tuple[PackedAudio, dict[str, list[int]]]:
    """The packed audio of all utterances that are in a split, and the indices of each split's utterances in it.

    Raises:
        UserError: a split is empty or shares an utterance with another.
    """
    lists = {split: read_split(data, split) for split in SPLITS}
    if empty := [split for split in SPLITS if not lists[split]]:
        raise UserError(f"{data}/splits: {', '.join(empty)} without an utterance; give more utterances a speaker")
    everything = sorted(sum(lists.values(), []))
    if len(set(everything)) < len(everything):
        raise UserError(f"{data}/splits: an utterance is in two lists; make them anew (stage 3)")
    audio = PackedAudio(data, everything)
    position = {utterance: i for i, utterance in enumerate(audio.utterances)}
    return audio, {split: [position[utterance] for utterance in ids] for split, ids in lists.items()}


def load_task(
    name: str, data: Path, audio: PackedAudio, splits: dict[str, list[int]], labels: Path | None = None
) -> Task:
    """The phone task (labels as Kaldi writes them, class = id − 1) or the speaker task.

    Args:
        labels: a folder with another phones.scp than the data directory's.
    """
    frames = audio.num_samples // HOP
    if name == "phone":
        # What stage 2 could not label is listed, and not scored; any other utterance without labels is an error.
        labels = labels or data
        dropped = read_table(labels / "labels.dropped") if (labels / "labels.dropped").is_file() else {}
        labelled = [utterance for utterance in audio.utterances if utterance not in dropped]
        phones = read_phones(data, labelled, labels / "phones.scp")
        targets = [
            phones[utterance].astype(np.int64) - 1 if utterance in phones else np.full(count, -1)
            for utterance, count in zip(audio.utterances, frames)
        ]
        return Task(name, PHONE_CLASSES, targets, splits)
    speakers = sorted({audio.speakers[i] for i in splits["train"]})
    number = {speaker: index for index, speaker in enumerate(speakers)}
    if unknown := sorted({audio.speakers[i] for split in splits.values() for i in split} - set(speakers)):
        raise UserError(
            f"{data}/splits: no training utterance of speaker {', '.join(unknown[:5])}; "
            "split by utterance within each speaker (stage 3)"
        )
    # Every frame of an utterance is one number, held once.
    targets = [np.broadcast_to(np.int64(number[speaker]), count) for speaker, count in zip(audio.speakers, frames)]
    return Task(name, len(speakers), targets, splits)


def labels_by(folder: Path) -> str:
    """What made the phone labels in a folder, as stage 2 has noted beside them."""
    path = folder / "labels.json"
    return json.loads(path.read_text(encoding="utf-8"))["by"] if path.is_file() else "unknown"

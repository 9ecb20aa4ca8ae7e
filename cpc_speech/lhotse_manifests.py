"""Manifests of lhotse over features in .npy files: recordings, supervisions, features, and cuts of all three.

Our frames are whole ones of 160 samples; lhotse rounds the audio's length to frames, half a frame up
(``lhotse.utils.compute_num_frames``), so that by its count half of all utterances lack one: see ``padded_frames``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpc_speech.errors import require
from cpc_speech.model import HOP
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.segments import Segment


def padded_frames(seconds: float) -> int:
    """How many frames lhotse expects of so many seconds of audio."""
    return (round(seconds * SAMPLE_RATE) + HOP // 2) // HOP


def write_manifests(
    out: Path, segments: Sequence[Segment], records: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str], dim: int
) -> None:
    """Write {recordings,supervisions,features,cuts}.jsonl.gz, each whole or not at all.

    lhotse resamples recordings of another rate to 16 kHz as it reads them.
    """
    lhotse = require("lhotse", "lhotse")
    recordings: dict[str, Any] = {}
    supervisions, features, cuts = [], [], []
    for segment in segments:
        utterance, record = segment.utterance, records[segment.utterance]
        if segment.recording not in recordings:
            recording = lhotse.Recording(
                id=segment.recording,
                sources=[
                    lhotse.AudioSource(
                        type="file", channels=list(range(record["channels"])), source=os.path.abspath(segment.path)
                    )
                ],
                sampling_rate=record["rate"],
                num_samples=record["length"],
                duration=record["length"] / record["rate"],
            )
            recordings[segment.recording] = (
                recording if record["rate"] == SAMPLE_RATE else recording.resample(SAMPLE_RATE)
            )
        of = {"recording_id": segment.recording, "duration": record["seconds"]}
        supervision = lhotse.SupervisionSegment(
            id=utterance, start=segment.start, channel=0, text=texts.get(utterance), speaker=segment.speaker, **of
        )
        feature = lhotse.Features(
            type="cpc", num_frames=record["frames"], num_features=dim, frame_shift=HOP / SAMPLE_RATE,
            sampling_rate=SAMPLE_RATE, start=segment.start, storage_type="numpy_files",
            storage_path=str(out.resolve()), storage_key=record["place"], channels=0, **of,
        )  # fmt: skip
        cut = lhotse.MonoCut(
            id=utterance, start=segment.start, duration=record["seconds"], channel=0, features=feature,
            recording=recordings[segment.recording], supervisions=[supervision.with_offset(-segment.start)],
        )  # fmt: skip
        supervisions.append(supervision)
        features.append(feature)
        cuts.append(cut)
    for name, kind, items in (
        ("recordings", lhotse.RecordingSet, recordings.values()), ("supervisions", lhotse.SupervisionSet, supervisions),
        ("features", lhotse.FeatureSet, features), ("cuts", lhotse.CutSet, cuts),
    ):  # fmt: skip
        temporary = out / f"{name}.tmp.{os.getpid()}.jsonl.gz"
        with kind.open_writer(temporary) as writer:
            for item in items:
                writer.write(item)
        os.replace(temporary, out / f"{name}.jsonl.gz")

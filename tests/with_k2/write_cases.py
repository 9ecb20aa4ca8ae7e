"""Write random scores and the paths that torchaudio finds through them, for k2 to find in an environment of its own.

python tests/with_k2/write_cases.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from data_prep.linear_align import best_path

CASES = 40
CLASSES = 41


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(CASES):
        rng = np.random.default_rng(number)
        phones = rng.integers(1, CLASSES, size=1 + number * 3)
        phones[1::7] = phones[: len(phones[1::7]) * 7 : 7]  # some equal neighbours
        # The first cases have hardly room for their phones, and so no silence.
        frames = len(phones) + int(rng.integers(0, 2 + number * 20))
        scores = torch.from_numpy(rng.normal(scale=2, size=(frames, CLASSES))).log_softmax(1).float()
        np.save(folder / f"{number:02d}.npy", scores.numpy())
        path = {"phones": phones.tolist(), "path": best_path(scores, phones.tolist())}
        (folder / f"{number:02d}.json").write_text(json.dumps(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

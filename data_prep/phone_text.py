"""What was said, as phones: the transcripts that a phone recogniser is trained on and scored by, from the labels.

    python -m data_prep.phone_text data/mini

Writes phones.text, ``utterance phone phone ...`` as Kaldi's text has words, from phones.ctm where the aligner has left
one, as it tells two equal phones in a row apart, else from the runs of phones.scp. The alignment has chosen among a
word's pronunciations, which text and lexicon leave open.

Of the 41 classes the 39 phones remain. Silence goes, and with it what is unlabelled: the edges of imported labels, the
gaps of a CTM without silences. Spoken noise (SPN) stands for words that the lexicon lacks, so what was said there is
unknown: its utterances are left out, and listed in phones.text.dropped with those that have no labels.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from cpc_speech.datadir import read_num_samples, read_table, write_table
from cpc_speech.errors import UserError, run
from cpc_speech.phones import SILENCE, SPOKEN_NOISE, refuse_numbered
from data_prep.dropped import DROPPED
from data_prep.label_sets import read_label_set

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a data directory with labels (stage 2)")
    data = parser.parse_args(argv).data

    phones, dropped = phone_texts(data)
    write_table(data / "phones.text.dropped", dropped)
    write_table(data / "phones.text", {utterance: " ".join(said) for utterance, said in phones.items()})
    log.info("%d utterances as phones in %s, %d left out", len(phones), data / "phones.text", len(dropped))


def phone_texts(data: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The phones of every utterance whose phones are known, and why those of the others are not.

    Raises:
        UserError: labels that are missing, of other audio, or numbers without a phone.
    """
    refuse_numbered(data)
    num_samples = read_num_samples(data)
    dropped = read_table(data / DROPPED) if (data / DROPPED).is_file() else {}
    ctm = data / "phones.ctm"
    phones: dict[str, list[str]] = {}
    for utterance, labels in read_label_set(ctm if ctm.is_file() else data / "phones.scp"):
        if utterance not in num_samples or utterance in dropped:
            continue
        said = [interval.phone for interval in labels(num_samples[utterance]).phones]
        if SPOKEN_NOISE in said:
            dropped[utterance] = f"{said.count(SPOKEN_NOISE)} times spoken noise, a word outside the lexicon"
        else:
            phones[utterance] = [phone for phone in said if phone != SILENCE]
    if missing := sorted(num_samples.keys() - phones.keys() - dropped.keys()):
        raise UserError(
            f"{data}: {len(missing)} utterances have no labels, such as {missing[0]}; run stage 2 (phone labels) again"
        )
    return phones, dropped


if __name__ == "__main__":
    run(main)

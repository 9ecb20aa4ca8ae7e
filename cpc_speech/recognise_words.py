"""Words from a phone recogniser: the best path through its outputs, a lexicon, and the words' own probabilities, by k2.

    python -m cpc_speech.recognise --data data/mini --feats data/mini_fbank/feats.scp --exp exp/recogniser/fbank
    python -m cpc_speech.recognise_words --data data/mini --exp exp/recogniser/fbank

Any word of the lexicon may follow any other. Each adds the logarithm of its probability in the text of train, times a
weight; dev chooses among --word-weights, test is read once. The outputs are those that the recogniser left in --exp.
Leaves wer.json there, hyp.words and ref.words (Kaldi's text of test, in lower case) and hyp.phones, the phones of the
words recognised. k2 may need an environment of its own, in which this command runs as well: docs/recognition.md.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from cpc_speech.datadir import read_split, read_table, write_table
from cpc_speech.error_rate import errors_of, save_error_rate
from cpc_speech.errors import UserError, require, run
from cpc_speech.kaldi import read_float_matrices
from cpc_speech.progress import Progress
from cpc_speech.pronunciations import CMUDICT, read_pronunciations
from cpc_speech.provenance import provenance

Sequences = Mapping[str, Sequence[str]]  # utterance -> words or phones
Lexicon = Mapping[str, Sequence[Sequence[int]]]  # word -> variants, as numbers of phones from 1 on

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="what the recogniser was trained and tested on")
    parser.add_argument("--exp", required=True, type=Path, help="of cpc_speech.recognise")
    parser.add_argument("--lexicon", default=CMUDICT, metavar="FILE", help="word phone phone ...; default: cmudict")
    parser.add_argument("--word-weights", nargs="+", type=float, default=[0.25, 0.5, 1.0], metavar="WEIGHT")
    args = parser.parse_args(argv)
    data, exp = args.data, args.exp

    k2_ctc = load_k2()
    require("kaldialign", "asr")
    started = time.monotonic()
    text = {utterance: said.casefold().split() for utterance, said in read_table(data / "text").items()}
    phones = {utterance: said.split() for utterance, said in read_table(data / "phones.text").items()}
    train = read_split(data, "train")
    dev, test = (scored_utterances(exp, data, split, text, phones) for split in ("dev", "test"))
    symbols = [line.split()[0] for line in (exp / "tokens.txt").read_text(encoding="utf-8").splitlines()[1:]]
    lexicon = lexicon_of(args.lexicon, symbols)
    probabilities = unigram(Counter(word for utterance in train for word in text.get(utterance, [])), lexicon)

    decoder = Decoder(k2_ctc, lexicon, probabilities, symbols, exp / "scores.scp")
    dev_wer = {weight: errors_of(text, decoder.decode(dev, weight)[0]).rate for weight in args.word_weights}
    weight = min(dev_wer, key=lambda weight: dev_wer[weight])  # of a tie, the first
    words, spoken = decoder.decode(test, weight)
    errors, phone_errors = errors_of(text, words), errors_of(phones, spoken)
    unknown = sum(word not in lexicon for utterance in test for word in text[utterance])
    write_table(exp / "hyp.words", {utterance: " ".join(words[utterance]) for utterance in test})
    write_table(exp / "ref.words", {utterance: " ".join(text[utterance]) for utterance in test})
    write_table(exp / "hyp.phones", {utterance: " ".join(spoken[utterance]) for utterance in test})
    log.info("%s: word error rate %.2f %% with weight %g", exp, errors.rate, weight)
    log.info("phone error rate of those words %.2f %%", phone_errors.rate)
    log.info("the lexicon lacks %d of the %d words said", unknown, sum(errors.lengths))
    save_error_rate(
        exp / "wer.json",
        errors,
        {
            "lexicon": str(args.lexicon), "vocabulary": len(lexicon), "unknown": unknown, "word_weight": weight,
            "dev_wer": dev_wer, "per": phone_errors.rate, "per_ci95": phone_errors.interval(),
            "seconds": time.monotonic() - started, **provenance(),
        },
        "words",
    )  # fmt: skip


def load_k2() -> ModuleType:
    """The module that decodes by k2.

    Raises:
        UserError: there is no k2, or one that does not load.
    """
    try:
        return importlib.import_module("cpc_speech.k2_ctc")
    except ImportError as error:
        raise UserError(
            f"words are found by k2, which does not load here ({error}): make test-k2 makes .venv-k2, in whose Python "
            "this command runs, or install k2's build for this Python and torch, "
            "https://k2-fsa.github.io/k2/installation/"
        ) from error


def scored_utterances(exp: Path, data: Path, split: str, *known: Sequences) -> list[str]:
    """The utterances of a split that the recogniser has left scores of, all of which have text and phones.

    Raises:
        UserError: there are none, or one is unknown: they are of other data.
    """
    if not (exp / "scores.scp").is_file():
        raise UserError(f"{exp}/scores.scp: no such file; run python -m cpc_speech.recognise --exp {exp} as before")
    scores = read_table(exp / "scores.scp")
    utterances = [utterance for utterance in read_split(data, split) if utterance in scores]
    strange = [utterance for utterance in utterances if not all(utterance in table for table in known)]
    if strange or not utterances:
        raise UserError(
            f"{exp}/scores.scp has {len(utterances)} utterances of {data}/splits/{split}.list, {len(strange)} of them "
            "without text or phones.text; take the --data that the recogniser was tested on"
        )
    return utterances


def lexicon_of(source: str | Path, symbols: Sequence[str]) -> dict[str, list[list[int]]]:
    """All words of a lexicon that these phones can say.

    Raises:
        UserError: there are none.
    """
    number = {symbol: i for i, symbol in enumerate(symbols, 1)}
    whole = read_pronunciations(source)
    lexicon = {
        word: said
        for word, variants in whole.items()
        if (said := [[number[phone] for phone in variant] for variant in variants if number.keys() >= set(variant)])
    }
    if not lexicon:
        raise UserError(f"{source}: no word that can be said by the recogniser's phones, {' '.join(symbols)}")
    log.info("%s: %d words; the recogniser lacks phones of %d more", source, len(lexicon), len(whole) - len(lexicon))
    return lexicon


def unigram(counts: Mapping[str, int], vocabulary: Collection[str]) -> dict[str, float]:
    """The probability of each word of the vocabulary: (c + T / V) / (N + T), for its count c, N counted words of the
    vocabulary, T of them different, and V words in all (Witten and Bell 1991, method C, interpolated with equal
    probabilities).

    Raises:
        UserError: no word of the vocabulary is counted.
    """
    known = {word: count for word, count in counts.items() if word in vocabulary}
    if not known:
        raise UserError("no word of the training text is in the lexicon; take that of its language, by --lexicon")
    total, equal = sum(known.values()) + len(known), len(known) / len(vocabulary)
    return {word: (known.get(word, 0) + equal) / total for word in vocabulary}


@dataclass
class Decoder:
    """Words and phones from the scores of utterances.

    Args:
        k2_ctc: the module of that name.
        probabilities: of the lexicon's words.
        symbols: the recogniser's phones, from number 1 on.
        scp: scores (U, V) of utterances.
    """

    k2_ctc: ModuleType
    lexicon: Lexicon
    probabilities: Mapping[str, float]
    symbols: Sequence[str]
    scp: Path

    def decode(self, utterances: Sequence[str], weight: float) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The words, and their phones, of these utterances in order."""
        vocabulary = list(self.lexicon)
        costs = [weight * math.log(self.probabilities[word]) for word in vocabulary]
        graph = self.k2_ctc.lexicon_graph([self.lexicon[word] for word in vocabulary], costs, len(self.symbols))
        words, phones = {}, {}
        matrices = Progress(
            read_float_matrices(self.scp, utterances), f"word weight {weight:g}", len(utterances), unit="utt",
            dynamic_ncols=True,
        )  # fmt: skip
        for utterance, matrix in matrices:
            said = self.k2_ctc.best_words(torch.from_numpy(matrix), graph)
            if said is None:
                log.warning("%s: no words are within the beam; none is recognised", utterance)
            numbers, labels = said or ([], [])
            words[utterance] = [vocabulary[number - 1] for number in numbers]
            phones[utterance] = [self.symbols[label - 1] for label in labels]
        return words, phones


if __name__ == "__main__":
    run(main)

"""Alignment as one would first write it: every path there is, and the best of them. Also runs on Python 3.9."""

import itertools


def segmentations(frames, count):
    """Every way to cut so many frames into ``count`` parts of one frame at least: the parts' first frames."""
    for cuts in itertools.combinations(range(1, frames), count - 1):
        yield (0, *cuts)


def with_silences(units, silence):
    """Every sequence of phones that these units, each a tuple of phones, make with silence or none around each."""
    for gaps in itertools.product((False, True), repeat=len(units) + 1):
        sequence = [silence] * gaps[0]
        for unit, gap in zip(units, gaps[1:]):
            sequence += [*unit, *[silence] * gap]
        yield sequence


def best(scores, words, silence):
    """The best path's score and (phone, first frame) segments; ``words``: a list of variants for each, tuples of
    phones. None where there is no path. ``scores``: frames × phones, nested."""
    frames, found = len(scores), None
    for variants in itertools.product(*words):
        for sequence in with_silences(variants, silence):
            if not sequence:
                continue
            for firsts in segmentations(frames, len(sequence)):
                ends = [*firsts[1:], frames]
                total = sum(
                    scores[t][phone] for phone, first, end in zip(sequence, firsts, ends) for t in range(first, end)
                )
                if found is None or total > found[0]:
                    found = total, list(zip(sequence, firsts))
    return found


def said_by(path):
    """CTC's phones of a path: repetitions as one, then blanks gone (Graves et al. 2006, section 3)."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def spelt_by(phones, words):
    """Every sequence of words, numbered from 1, whose variants one behind the other are these phones."""
    if not phones:
        yield ()
    for number, variants in enumerate(words, 1):
        for variant in variants:
            if phones[: len(variant)] == tuple(variant):
                for rest in spelt_by(phones[len(variant) :], words):
                    yield (number, *rest)


def best_words(log_probabilities, words, scores):
    """The best path's score, words and phones. ``log_probabilities``: steps × outputs, nested, the blank first;
    ``words``: a list of variants for each, tuples of phones; ``scores``: of each word."""
    outputs = range(len(log_probabilities[0]))
    acoustic: dict[tuple, float] = {}  # of each sequence of phones, its best path's
    for path in itertools.product(outputs, repeat=len(log_probabilities)):
        total, phones = sum(row[label] for row, label in zip(log_probabilities, path)), said_by(path)
        acoustic[phones] = max(total, acoustic.get(phones, total))
    return max(
        (total + sum(scores[number - 1] for number in said), list(said), list(phones))
        for phones, total in acoustic.items()
        for said in set(spelt_by(phones, words))
    )

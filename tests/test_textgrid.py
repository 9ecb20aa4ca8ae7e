"""TextGrids written by hand in Praat's two text formats, as the Montreal Forced Aligner lays them out."""

from __future__ import annotations

import pytest

pytest.importorskip("praatio")

from cpc_speech.errors import UserError
from cpc_speech.phones import PHONE_ID
from data_prep.textgrid import label_textgrids, read_textgrid

PHONES = [(0, 0.03, ""), (0.03, 0.05, "AH0"), (0.05, 0.07, "spn"), (0.07, 0.08, "<eps>"), (0.08, 0.1, "sil")]
NAMES = ["SIL", "AH", "SPN", "<eps>", "SIL"]
WORDS = [(0, 0.05, ""), (0.05, 0.07, 'a "b"'), (0.07, 0.1, "")]


def long_format(tiers, end=0.1):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {end} "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", f"        xmax = {end} ", f"        intervals: size = {len(intervals)} "]
        for place, (start, stop, text) in enumerate(intervals, 1):
            text = text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start} "]
            lines += [f"            xmax = {stop} ", f'            text = "{text}" ']
    return "\n".join(lines) + "\n"


def short_format(tiers, end=0.1):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", f"{end}", "<exists>", f"{len(tiers)}"]
    for name, intervals in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", f"{end}", f"{len(intervals)}"]
        for start, stop, text in intervals:
            text = text.replace('"', '""')
            lines += [f"{start}", f"{stop}", f'"{text}"']
    return "\n".join(lines) + "\n"


FORMATS = [long_format, short_format]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(("words", "phones"), [("words", "phones"), ("Ann - words", "Ann - phones")])
def test_both_formats(tmp_path, form, encoding, words, phones):
    (tmp_path / "1-a.TextGrid").write_text(form([(words, WORDS), (phones, PHONES)]), encoding=encoding)
    intervals, end = read_textgrid(tmp_path / "1-a.TextGrid")
    assert end == 0.1
    assert intervals == [(start, stop, name) for (start, stop, _), name in zip(PHONES, NAMES)]


def test_folders_are_searched_and_frames_labelled(tmp_path):
    for name in ("b/2-a", "a/x/1-a"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.TextGrid").write_text(long_format([("words", WORDS), ("phones", PHONES)]))
    (tmp_path / "notes.txt").write_text("no TextGrid")
    found = dict(label_textgrids(tmp_path))
    assert sorted(found) == ["1-a", "2-a"]
    sil, ah, spn = PHONE_ID["SIL"], PHONE_ID["AH"], PHONE_ID["SPN"]
    labels = [sil, sil, sil, ah, ah, spn, spn, 0, sil, sil]
    assert found["1-a"](1_600).tolist() == labels
    # half a frame later the same phones; a frame is judged by its centre, 79 samples into its 160
    assert dict(label_textgrids(tmp_path, shift=0.01))["1-a"](1_600).tolist() == [0, *labels[:-1]]
    for samples in (1_280, 1_920):
        assert len(found["1-a"](samples)) == samples // 160
    for samples in (1_279, 1_921):
        with pytest.raises(UserError, match="1-a.TextGrid: 1-a ends at 0.100 s, its audio at 0.1?"):
            found["1-a"](samples)


GOOD = long_format([("words", WORDS), ("phones", PHONES)])
SHORT = short_format([("words", WORDS), ("phones", PHONES)])


def line(part, skip=0, text=GOOD):
    """The line where the part stands, counted from 1, after so many that have it too."""
    return [number for number, line in enumerate(text.splitlines(), 1) if part in line][skip]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("end", ["nan", "1e400", "1e308"])
def test_times_that_are_no_times(tmp_path, form, end):
    for text in (form([("phones", PHONES)], end), form([("phones", [*PHONES[:-1], (0.08, end, "sil")])])):
        (tmp_path / "x.TextGrid").write_text(text)
        ((name, label),) = label_textgrids(tmp_path)
        with pytest.raises(UserError, match=f"{name}.TextGrid"):
            label(1_600)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x.TextGrid:\d: praatio cannot read it"),
        ("hello\n" * 9, r"x.TextGrid:\d: praatio cannot read it"),
        (long_format([("words", WORDS)]), "x.TextGrid: 0 tiers named 'phones' .*among 'words'"),
        (long_format([("A - phones", PHONES), ("B - phones", PHONES)]), "x.TextGrid: 2 tiers named"),
        (GOOD.replace("spn", "ɐ"), f"x.TextGrid:{line('intervals [3]', 1)}: 'ɐ' at 0.05 s is none of.*english_us_arpa"),
        (SHORT.replace("spn", "ɐ"), f"x.TextGrid:{line('spn', text=SHORT) - 2}: 'ɐ' at 0.05 s is none of"),
        # cut short or a number that is none: praatio alone might take the rest for silence
        (GOOD[: GOOD.index("<eps>")], f"x.TextGrid:{line('<eps>')}: "),
        (SHORT[: SHORT.index("<eps>")], f"x.TextGrid:{line('<eps>', text=SHORT) - 2}: .*ends at 0.10 s, .* at 0.07 s"),
        (GOOD[: GOOD.index("    intervals [4]")], r"x.TextGrid:\d+: 'phones' ends at 0.10 s, its intervals at 0.07 s"),
        (GOOD.replace("xmax = 0.08", "xmax = 0,08"), f"x.TextGrid:{line('xmax = 0.08')}: praatio cannot read it"),
    ],
)
def test_malformed(tmp_path, text, message):
    (tmp_path / "x.TextGrid").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_textgrid(tmp_path / "x.TextGrid")


def test_a_point_tier(tmp_path):
    text = long_format([("phones", [])]).replace("IntervalTier", "TextTier").replace("intervals: size", "points: size")
    (tmp_path / "x.TextGrid").write_text(text)
    with pytest.raises(UserError, match="holds points"):
        read_textgrid(tmp_path / "x.TextGrid")


def test_folders_without_textgrids(tmp_path):
    with pytest.raises(UserError, match=r"no \*.TextGrid in it"):
        list(label_textgrids(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        list(label_textgrids(tmp_path / "none"))

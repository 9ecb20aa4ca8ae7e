"""Import phone labels that others made: the CPC authors', Kaldi's, a CTM's, the Montreal Forced Aligner's.

python -m data_prep.import_labels FORMAT SOURCE DATA_DIR LANG_DIR [--max-dropped N] [--to DIR]

    FORMAT      SOURCE
    cpc         the authors' converted_aligned_phones.txt, or the zip file with it; ids 0..40 become P00..P40, as the
                map to phones was never published, or phones by --id-map, which data_prep.match_ids can make
    kaldi       `ali-to-phones --per-frame=true MODEL "ark:gunzip -c ali.*.gz |" ark,t:FILE` (ark:FILE, ark,scp:... too;
                plain or gzipped), with --symbols phones.txt; this suite's own phones.scp, with --no-snip-edges too
    kaldi-ali   an alignment folder with ali.*.gz, final.mdl and phones.txt (or --model, --symbols)
    ctm         `utterance channel start duration phone` lines, sorted
    textgrid    a folder of TextGrids, searched with all its folders, each named by its utterance

writes, in DATA_DIR or the folder given by --to, phones.{ark,scp} with their table phones.txt (which goes to LANG_DIR
too, but for --to), labels.json (what they are) and labels.dropped (utterances that got none; more than --max-dropped of
them are refused, listed in labels.refused).
Names may have stress digits and word positions; sil, sp and (in TextGrids) blanks are SIL, spn and nsn are SPN, <eps>
is unlabelled; ids may have Kaldi's prefix lbi-. Labels by frame are moved to this suite's frames by their centres;
Kaldi's frames have windows of 25 ms and start at sample 0, or are centred if made with --snip-edges=false. Times are
taken as they stand: those of a CTM made of Kaldi's snip-edges frames are 7.5 ms early (--shift 0.0075).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cpc_speech.errors import UserError, run
from cpc_speech.phones import NUMBERED, SYMBOLS
from data_prep.cpc_labels import NUMBERED_IDS, read_id_map
from data_prep.ctm import label_ctm
from data_prep.frame_labels import label_frames
from data_prep.int_vectors import read_vectors
from data_prep.kaldi_ali import phone_ids, read_alignments, transition_ids
from data_prep.label_writer import ALIGNERS_OWN, Labelled, write_labels
from data_prep.textgrid import label_textgrids

Import = tuple[Iterable[Labelled], Sequence[str]]  # labelled utterances, the symbol table of the labels


def cpc(options: argparse.Namespace) -> Import:
    vectors = read_vectors(options.source)
    if options.id_map is None:
        return label_frames(vectors, NUMBERED_IDS), NUMBERED
    return label_frames(vectors, read_id_map(options.id_map)), SYMBOLS


def kaldi(options: argparse.Namespace) -> Import:
    if options.symbols is None:
        raise UserError("kaldi needs --symbols: the phones.txt of the lang folder used for aligning")
    return label_frames(read_vectors(options.source), phone_ids(options.symbols), options.snip_edges), SYMBOLS


def kaldi_ali(options: argparse.Namespace) -> Import:
    folder = options.source if options.source.is_dir() else options.source.parent
    ids = transition_ids(options.model or folder / "final.mdl", options.symbols or folder / "phones.txt")
    return label_frames(read_alignments(options.source), ids, options.snip_edges), SYMBOLS


def ctm(options: argparse.Namespace) -> Import:
    return label_ctm(options.source, options.shift), SYMBOLS


def textgrid(options: argparse.Namespace) -> Import:
    return label_textgrids(options.source, options.shift), SYMBOLS


# Each format, and the options that mean something for it.
FORMATS: dict[str, tuple[Callable[[argparse.Namespace], Import], tuple[str, ...]]] = {
    "cpc": (cpc, ("id_map",)),
    "kaldi": (kaldi, ("symbols", "snip_edges")),
    "kaldi-ali": (kaldi_ali, ("model", "symbols", "snip_edges")),
    "ctm": (ctm, ("shift",)),
    "textgrid": (textgrid, ("shift",)),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="data_prep.import_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("source", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("--id-map", type=Path, metavar="id_map.txt", help="cpc: lines 'id PHONE'")
    parser.add_argument("--model", type=Path, metavar="final.mdl", help="kaldi-ali: what made the alignment")
    parser.add_argument("--symbols", type=Path, metavar="phones.txt", help="kaldi, kaldi-ali: Kaldi's phone table")
    parser.add_argument(
        "--no-snip-edges", dest="snip_edges", action="store_false", help="kaldi, kaldi-ali: frames are centred"
    )
    parser.add_argument("--shift", type=float, default=0.0, metavar="SECONDS", help="ctm, textgrid: added to all times")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where the labels go (default: DATA_DIR)")
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may lack labels")
    options = parser.parse_args(argv)
    read, meaningful = FORMATS[options.format]
    for name in ("id_map", "model", "symbols", "snip_edges", "shift"):
        if name not in meaningful and getattr(options, name) != parser.get_default(name):
            flag = "--no-snip-edges" if name == "snip_edges" else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} means nothing for {options.format}; leave it out")
    utterances, symbols = read(options)
    to = options.to or options.data_dir
    write_labels(
        options.source.name, options.source, utterances, options.data_dir, options.lang_dir, symbols, to,
        max_dropped=options.max_dropped,
    )  # fmt: skip
    for name in ALIGNERS_OWN:  # of the alignment whose labels these replace
        (to / name).unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)

"""Transition-ids to phones: against Kaldi's own C++ (kaldi-hmm-gmm) and a model written by hand from Kaldi's format."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from cpc_speech.errors import UserError
from data_prep.transition_model import read_transition_phones

# For each entry its phones and its states: (pdf-class, where the transitions lead); the last state is final.
# Five states with jumps for silence as in Kaldi's gen_topo, three for the others; phones with a gap in their ids.
TOPOLOGY = [
    ([1], [(0, (0, 1, 2, 3)), (1, (1, 2, 3, 4)), (2, (1, 2, 3, 4)), (3, (1, 2, 3, 4)), (4, (4, 5)), (-1, ())]),
    ([2, 3, 7], [(0, (0, 1)), (1, (1, 2)), (2, (2, 3)), (-1, ())]),
]
# (phone, state, pdf), sorted; state 1 of phone 3 has two pdfs, as in a context-dependent model.
TUPLES = [(1, s, s) for s in range(5)] + [(2, s, 5 + s) for s in range(3)]
TUPLES += [(3, 0, 8), (3, 1, 9), (3, 1, 10), (3, 2, 11), (7, 0, 12), (7, 1, 13), (7, 2, 14)]
# By hand: 4 + 4 + 4 + 4 + 2 transitions of phone 1, 2 for each other tuple.
PHONES = [-1] + [1] * 18 + [2] * 6 + [3] * 8 + [7] * 6


def text_model(tuples=TUPLES, kind="Triples"):
    lines = ["<TransitionModel>", "<Topology>"]
    for phones, states in TOPOLOGY:
        lines += ["<TopologyEntry>", "<ForPhones>", " ".join(map(str, phones)), "</ForPhones>"]
        for number, (pdf_class, targets) in enumerate(states):
            pdf = f"<PdfClass> {pdf_class} " if pdf_class >= 0 else ""
            if kind == "Tuples" and pdf:
                pdf = f"<ForwardPdfClass> {pdf_class} <SelfLoopPdfClass> {pdf_class} "
            arcs = "".join(f"<Transition> {target} {1 / len(targets):g} " for target in targets)
            lines.append(f"<State> {number} {pdf}{arcs}</State> ")
        lines.append("</TopologyEntry> ")
    lines += ["</Topology>", f"<{kind}> {len(tuples)} "]
    lines += [" ".join(map(str, (*row, row[-1]) if kind == "Tuples" else row)) for row in tuples]
    lines += [f"</{kind}>", "<LogProbs>", " [ " + "-0.6931 " * len(PHONES) + "]", "</LogProbs>", "</TransitionModel>"]
    return ("\n".join(lines) + "\n").encode()


def binary_model(kind="Triples"):
    """Kaldi's io-funcs: tokens end with a blank; numbers have their size in front; vectors of integers once only."""

    def integer(value):
        return b"\4" + struct.pack("<i", value)

    def vector(values):
        return b"\4" + struct.pack(f"<i{len(values)}i", len(values), *values)

    chain = kind == "Tuples"
    phones = [phone for phones, _ in TOPOLOGY for phone in phones]
    entry = [next((i for i, (phones, _) in enumerate(TOPOLOGY) if phone in phones), -1) for phone in range(8)]
    content = b"\0B<TransitionModel> <Topology> " + vector(phones) + vector(entry)
    content += (integer(-1) if chain else b"") + integer(len(TOPOLOGY))
    for _, states in TOPOLOGY:
        content += integer(len(states))
        for pdf_class, targets in states:
            content += integer(pdf_class) * (2 if chain else 1) + integer(len(targets))
            for target in targets:
                content += integer(target) + b"\4" + struct.pack("<f", 1 / len(targets))
    content += b"</Topology> <" + kind.encode() + b"> " + integer(len(TUPLES))
    for row in TUPLES:
        content += b"".join(map(integer, (*row, row[-1]) if chain else row))
    content += b"</" + kind.encode() + b"> <LogProbs> FV " + integer(len(PHONES)) + b"\0" * 4 * len(PHONES)
    return content + b"</LogProbs> </TransitionModel> <DIMENSION> \4\x27\0\0\0 and so on"


@pytest.mark.parametrize("kind", ["Triples", "Tuples"])
@pytest.mark.parametrize("form", [text_model, binary_model])
def test_a_model_written_by_hand(tmp_path, form, kind):
    (tmp_path / "final.mdl").write_bytes(form(kind=kind))
    phones = read_transition_phones(tmp_path / "final.mdl")
    assert phones.dtype == np.int32 and phones.tolist() == PHONES


def test_what_kaldi_prints_of_its_own_model(tmp_path):
    khg = pytest.importorskip("kaldi_hmm_gmm")
    topology = khg.HmmTopology()
    topology.read(text_model().decode().split("<TransitionModel>")[1].split("<Triples>")[0])
    tree = khg.monophone_context_dependency(topology.phones, topology.get_phone_to_num_pdf_classes())
    model = khg.TransitionModel(ctx_dep=tree, hmm_topo=topology)
    (tmp_path / "0.mdl").write_text(str(model))
    phones = read_transition_phones(tmp_path / "0.mdl")
    assert len(phones) == model.num_transition_ids + 1 == 1 + 18 + 3 * 6
    assert phones[1:].tolist() == [model.transition_id_to_phone(i) for i in range(1, len(phones))]


TEXT = text_model()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"<TransitionModel>", b"<Nnet3>", "'<Nnet3>' where <TransitionModel> should stand"),
        (b"<State> 2", b"<State> 3", "states that are not numbered"),
        (b"<State> 0", b"<State> zero", "'zero' where an integer"),
        (b"0.25", b"half", "'half' where a number"),
        (b"<Transition> 0", b"<Final> 0", "'<Final>' where"),
        (b"\n7 0 12\n", b"\n8 0 12\n", "state 0 of phone 8 is not in the topology"),
        (b"\n7 0 12\n", b"\n7 9 12\n", "state 9 of phone 7 is not in the topology"),
        (b"<Triples> 15", b"<Triples> -1", "a count of -1"),
        (b"-0.6931 ]", b"]", "37 transition probabilities for 38 transition-ids"),
    ],
)
def test_malformed_text(tmp_path, old, new, message):
    place = TEXT.index(old) + old.startswith(b"\n")
    (tmp_path / "final.mdl").write_bytes(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=f"final.mdl:{TEXT[:place].count(10) + 1}: {message}"):
        read_transition_phones(tmp_path / "final.mdl")


def test_text_that_ends_early(tmp_path):
    for content in (b"", TEXT[: TEXT.index(b"<LogProbs>")]):
        (tmp_path / "final.mdl").write_bytes(content)
        with pytest.raises(UserError, match=f"final.mdl:{max(1, content.count(10))}: cut short"):
            read_transition_phones(tmp_path / "final.mdl")


def test_every_cut_of_a_binary_model_is_noticed(tmp_path):
    whole = binary_model()
    for size in range(2, whole.index(b" <DIMENSION>")):
        (tmp_path / "final.mdl").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"final.mdl: byte \d+: .*(cut short|should stand|of \d+ bytes)"):
            read_transition_phones(tmp_path / "final.mdl")


def test_damage_never_ends_in_anything_but_an_error_or_a_table(tmp_path):
    whole, random = binary_model(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(2, len(whole), size=3):
            damaged[place] = random.integers(256)
        (tmp_path / "final.mdl").write_bytes(damaged)
        try:
            read_transition_phones(tmp_path / "final.mdl")
        except UserError as error:
            assert "final.mdl: byte" in str(error)


def test_a_missing_model(tmp_path):
    with pytest.raises(UserError, match="--model"):
        read_transition_phones(tmp_path / "final.mdl")

"""Write a model as others load it: weights without pickle, their description, and a model card.

    cpc-speech export exp/mixed_speaker --to models/mixed_speaker
    cpc-speech export 60k_epoch4-d0f474de.pt --to models/cpc_60k     # a checkpoint of CPC_audio

Leaves in --to: model.safetensors, config.json and README.md, the layout of a model on the Hugging Face Hub
(``hf upload OWNER/NAME models/mixed_speaker``). A README.md that is there already is left as it is.
``cpc_speech.load`` reads the folder, and whatever can be loaded can be exported.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from cpc_speech.errors import UserError, run
from cpc_speech.exported import save_exported
from cpc_speech.files import atomic_write
from cpc_speech.model_card import model_card
from cpc_speech.pretrained import read_model
from cpc_speech.provenance import provenance

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="experiment, exported model or CPC_audio checkpoint")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="checkpoint of an experiment")
    parser.add_argument("--predictors", action="store_true", help="keep W_k, to train on; features do not need them")
    args = parser.parse_args(argv)
    model, facts = read_model(args.source, args.which)
    if args.predictors and not len(model.predictors):
        raise UserError(f"{args.source}: has no predictors; leave out --predictors")
    if not args.predictors:
        model = model.truncated(model.context.rnn.num_layers)
    facts.setdefault("exported", provenance())
    save_exported(args.to, model, facts)
    card = args.to / "README.md"
    if card.exists():
        log.info("%s is there already, and left as it is", card)
    else:
        with atomic_write(card) as file:
            file.write(model_card(args.to.resolve().name, model, facts))
    log.info("%s: %d parameters", args.to, sum(weight.numel() for weight in model.parameters()))


if __name__ == "__main__":
    run(main)

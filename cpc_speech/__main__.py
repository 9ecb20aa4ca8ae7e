"""cpc-speech COMMAND ...: the library's commands, also ``python -m cpc_speech.COMMAND``."""

from __future__ import annotations

import importlib
import sys

from cpc_speech import __version__
from cpc_speech.errors import UserError, run

COMMANDS = {
    "train": "pretrain CPC",
    "probe": "phones and speakers, by classifiers of frames",
    "supervised": "the same network trained with labels",
    "report": "tables of all results",
    "export": "a model as others load it: safetensors, Hugging Face Hub",
    "extract": "features for Kaldi, ESPnet, lhotse, numpy",
    "recognise": "phones, by CTC on any features",
}
_USAGE = "\n".join(
    [
        "usage: cpc-speech COMMAND [--help] ...",
        "       cpc-speech --version",
        "",
        *(f"  {name:12}{does}" for name, does in COMMANDS.items()),
    ]
)


def main() -> None:
    run(_dispatch)


def _dispatch() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_USAGE)
    elif name == "--version":
        print(f"cpc-speech {__version__}")
    elif name not in COMMANDS:
        raise UserError(f"cpc-speech has no command {name}\n{_USAGE}")
    else:
        sys.argv[0] = f"cpc-speech {name}"  # as its usage line names it
        importlib.import_module(f"cpc_speech.{name}").main(sys.argv[2:])


if __name__ == "__main__":
    main()

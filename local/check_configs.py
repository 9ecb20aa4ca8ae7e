"""Check every configuration that a recipe will train, before it trains any.

python local/check_configs.py --base conf/cpc.yaml --over conf/same_speaker.yaml steps_20.yaml --set updates=1000
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cpc_speech.config import load_config
from cpc_speech.errors import UserError, run


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path)
    parser.add_argument("--over", nargs="*", default=[], type=Path, metavar="FILE", help="each goes over --base alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="over all of them")
    args = parser.parse_args(argv)
    load_config([args.base], args.set)
    for file in args.over:
        try:
            load_config([args.base, file], args.set)
        except UserError as error:
            raise UserError(f"{file}, over {args.base}: {error}") from error


if __name__ == "__main__":
    run(main)

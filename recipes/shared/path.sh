# shellcheck shell=bash
# The environment of every recipe: this repository's .venv, once `make` has finished it, and its code.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -e "$root/.venv/.installed" ]; then PATH=$root/.venv/bin:$PATH; fi
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
PYTHONUNBUFFERED=1  # what is printed reaches the log when it is printed
COLUMNS=$(tput cols 2> /dev/null || echo 100)  # how wide progress bars are; tqdm cannot ask through our logs
export root PATH PYTHONPATH PYTHONUNBUFFERED COLUMNS
command -v python > /dev/null || die "there is no python on PATH: run 'make help' in $root, or activate your environment"

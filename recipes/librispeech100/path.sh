# shellcheck shell=bash
# The recipe's environment. What your machine needs first (module load, conda activate) goes here.
# shellcheck source=../shared/path.sh
source "${shared:?is set by run.sh}/path.sh"

# shellcheck shell=bash
# How stages run: in order, once, and only on what is finished. Which stages there are stands in pipeline.sh.
#
# A stage is a function stage_N, described by does[N] and leaves[N], that reads like this:
#
#   stage_3() {
#     need 1 "data/$set"/{.done.1,utt2spk}          # what it reads, and the stage that makes it
#     uses data_seed                                # the options that its outcome depends on
#     unfinished "data/$set/.done.3" || return 0    # done before, with the same options and inputs?
#     run python -m data_prep.splits "data/$set"
#     finish
#   }
#
# The .done file is written after success only, and holds the options and the inputs' digests.
# shellcheck disable=SC2154  # options (force, stage, ...) are variables of run.sh

set -euo pipefail
export LC_ALL=C

launched_from=$PWD
shared=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe=$(cd "$(dirname "$0")" && pwd)
does=() leaves=()
current='' part='' job='' explained=false mark='' fingerprint=() started=0

# shellcheck source=log.sh
source "$shared/log.sh"
# shellcheck source=parse_options.sh
source "$shared/parse_options.sh"

# What a recipe has to say against its options before the first stage.
check_options() { :; }

# need STAGE FILE...: dies, naming the stage that makes it, where a file is missing. A .done file, which comes
# first, stands for the stage's success; the others are inputs.
need() {
  local file stage=$1 force=''
  for file in "${@:2}"; do
    [ -e "$file" ] || die "stage $current needs $file, which stage $stage makes (${does[stage]}):" \
      "run it with --stage $stage --stop-stage $stage$force"
    if [[ ${file##*/} == .done* ]]; then force=' --force true'; else reads "$file"; fi
  done
}

# reads FILE...: records the inputs' digests.
reads() {
  local file digest
  for file in "$@"; do
    [ -r "$file" ] || die "stage $current needs $file, which is not there"
    digest=$(sha256sum < "$file")
    fingerprint+=("$file"$'\t'"${digest%% *}")
  done
}

# reads_folder DIR [NAME...]: records which files are in it, or in its folders of these names, and their sizes (to read
# 100 hours of audio would take minutes).
reads_folder() {
  local digest name folders
  [ -d "$1" ] || die "stage $current needs the folder $1, which is not there"
  mapfile -t folders < <(cd "$1"; for name in "${@:2}"; do find -L . -maxdepth 2 -type d -name "$name"; done)
  [ ${#folders[@]} -gt 0 ] || folders=(.)
  digest=$(cd "$1" && find -L "${folders[@]}" -type f -printf '%P %s\n' | sort | sha256sum)
  fingerprint+=("$1"$'\t'"${digest%% *}")
}

# uses OPTION...: records their values; one that this recipe lacks is passed over.
uses() {
  local name
  for name in "$@"; do
    [ -v "$name" ] && fingerprint+=("--${name//_/-}"$'\t'"${!name//$'\n'/ }")
  done
  return 0
}

# How the recorded options and inputs in the mark $1 differ from those of now, one a line.
differences() {
  local key value
  local -A was=()
  while IFS=$'\t' read -r key value; do [[ $key == '#'* ]] || was[$key]=$value; done < "$1"
  while IFS=$'\t' read -r key value; do
    if [[ ! -v was[$key] ]]; then
      printf '  %s was not there, now it is %s\n' "$key" "${value:-empty}"
    elif [ "${was[$key]}" != "$value" ]; then
      if [[ $key == --* ]]; then printf '  %s was "%s", is now "%s"\n' "$key" "${was[$key]}" "$value"
      else printf '  %s has changed since\n' "$key"; fi
    fi
    unset "was[$key]"
  done < <(printf '%s\n' "${fingerprint[@]}")
  for key in "${!was[@]}"; do printf '  %s is no longer used\n' "$key"; done
}

# unfinished MARK: true where there is work to do; false where MARK says that it was done with these very options
# and inputs; dies where it was done with others.
unfinished() {
  local changes
  mark=$1
  if [[ -e $mark && $force == false ]]; then
    changes=$(differences "$mark")
    [ -z "$changes" ] || die "stage $current has run before with other options or inputs ($mark):
$changes
Pass what it ran with; or --force true to run it and the stages after it again; or --work DIR to keep both"
    say "stage $current: ${does[current]}${part:+ ($part)}: done before, skipped ($mark)"
    fingerprint=()
    return 1
  fi
  say "stage $current: ${does[current]}${part:+ ($part)}"
  mkdir -p "$(dirname "$mark")"
  rm -f "$mark"
  started=$SECONDS
}

# finish FILE...: the work announced by unfinished has succeeded, and the files that others need are there.
finish() {
  local file
  for file in "$@"; do
    [ -e "$file" ] || die "stage $current ended without making $file; this is a bug: please report it with exp/log"
  done
  {
    printf '# stage %s of %s, finished %s after %s s\n' "$current" "$recipe" "$(date '+%F %T')" $((SECONDS - started))
    printf '%s\n' "${fingerprint[@]}"
  } > "$mark.tmp"
  mv "$mark.tmp" "$mark"
  fingerprint=()
}

# begin ARGUMENTS...: reads the options and goes where the work is done.
begin() {
  parse_options "$@"
  if [ "${quick-}" = true ]; then be_quick; fi
  # shellcheck disable=SC1091
  source "$recipe/path.sh"
  # shellcheck disable=SC1091
  source "$recipe/cmd.sh"
  ((stage <= stop_stage)) || die "--stage $stage comes after --stop-stage $stop_stage: nothing to do"
  mkdir -p "${work:=$recipe}"
  cd "$work"
  check_options
  [ "${device-}" != cpu ] || export CUDA_VISIBLE_DEVICES=
}

run_stages() {
  if [ "${estimate-}" = true ]; then current=0; estimate; return; fi
  trap 'interrupted INT' INT
  trap 'interrupted TERM' TERM HUP
  trap 'status=$?; [[ $status = 0 || $explained = true ]] || echo "${0##*/}: stage $current failed" >&2' EXIT
  for current in "${!does[@]}"; do
    ((current < stage || current > stop_stage)) && continue
    part='' fingerprint=()
    "stage_$current"
  done
}

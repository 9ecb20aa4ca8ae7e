# shellcheck shell=bash disable=SC2154,SC2034  # these variables belong to run.sh and stages.sh
# What a recipe says, and where it keeps what its commands say. Sourced by stages.sh.

say() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*"; }

# die MESSAGE: the one way a recipe gives up; the message says what is wrong and what to do.
die() {
  explained=true
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# The command as one could paste it into a shell.
quoted() { local words; printf -v words '%q ' "$@"; printf '%s' "${words% }"; }

# Of a line that a progress bar drew over and over, keep its last state.
settled() { sed -u 's/\r$//; s/.*\r//'; }

# Every state of such a line as a line of its own.
unrolled() { stdbuf -o0 tr '\r' '\n' | sed -u '/^ *$/d'; }

# On a terminal bars move; off it (nohup, Slurm) they are lines, a minute apart in the end (cpc_speech/progress.py).
export TQDM_MININTERVAL="${TQDM_MININTERVAL:-$([ -t 1 ] && echo 0.1 || echo 60)}"

# keep_log FILE: copies standard input to FILE without the bars' redrawings, and to standard output: as it comes
# on a terminal, where the bars move, line by line elsewhere. It outlives ctrl-C, to show a command's last words.
keep_log() {
  trap '' INT TERM HUP
  if [ -t 1 ]; then
    { tee /dev/fd/3 | settled >> "$1"; } 3>&1
  else
    { tee /dev/fd/3 | settled >> "$1"; } 3>&1 | unrolled
  fi
}

# run COMMAND...: runs it with its output kept in exp/log/; a failure shows the command, the log and the log's end.
# The command gets a process group of its own, so that one signal reaches whatever it started.
run() {
  local log=$PWD/exp/log/stage$current${part:+.$part}.log status=0 before
  mkdir -p "${log%/*}"
  printf '# %s %s\n' "$(date '+%F %T')" "$(quoted "$@")" >> "$log"
  before=$(wc -l < "$log")
  set -m
  ("$@" < /dev/null 2>&1 | keep_log "$log") &
  job=$!
  set +m
  wait "$job" || status=$?
  job=
  [ "$status" = 0 ] && return
  explained=true
  {
    printf '\n%s: error: stage %s (%s) failed with status %s\n' "${0##*/}" "$current" "${does[current]}" "$status"
    printf '  command: %s\n  log: %s, which ends:\n' "$(quoted "$@")" "$log"
    tail -n "+$((before + 1))" "$log" | tail -n 12 | sed 's/^/  | /'
    # With several processes the end of the log is their launcher's report, not what went wrong.
    tail -n "+$((before + 1))" "$log" | head -n -12 | sed -n 's/^error: /  error: /p' | sort -u
    printf 'Once it is mended, run the same command again: finished stages are skipped.\n'
  } >&2
  exit "$status"
}

# interrupted SIGNAL: ends what runs, as ctrl-C does (a second one does not ask), and says how to go on.
interrupted() {
  trap 'kill -s KILL -- "-$job" 2> /dev/null || true' INT TERM HUP
  explained=true
  if [ -n "$job" ]; then
    kill -s INT -- "-$job" 2> /dev/null || true
    while kill -s 0 "$job" 2> /dev/null; do wait "$job" || true; done
  fi
  printf '\n%s: interrupted in stage %s; run the same command again to go on%s\n' "${0##*/}" "${current:-0}" \
    "$([ "$force" = true ] && printf ' (without --force, which starts over)')" >&2
  exit $((128 + $(kill -l "$1")))
}

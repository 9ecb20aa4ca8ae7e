# shellcheck shell=bash disable=SC2034,SC2154  # these variables are options of run.sh
# --quick true: every stage in minutes, in a work folder of its own, to see that all of it works here before a long run.
# A recipe says how many updates that is: quick_updates. What the user asks for by an option is left as it is, but for
# updates of --overrides, which go over ours. Sourced by pipeline.sh.

few=           # speakers, and utterances of each, that are used at most; all unless it is a quick run
probe_passes=  # of probes over the train split; theirs unless it is a quick run

be_quick() {
  local name value
  work=${work:-$recipe}/quick
  few='10 6' probe_passes=1
  local -A quick=(
    [supervised_updates]=$quick_updates [recogniser_updates]=$quick_updates [probe_seeds]=$seed [seeds]=$seed
    [splits]='' [label_shifts]='' [note]='a quick trial of the recipe; the numbers mean nothing'
    [overrides]="updates=$quick_updates warmup_updates=$((quick_updates / 4)) log_every=5 dev_every=$quick_updates
      checkpoint_every=$quick_updates dev_minibatches=2 minibatches=${ngpu:-1} $overrides"
  )
  for name in "${!quick[@]}"; do
    value=${quick[$name]//$'\n'/ }
    if [[ -v defaults[$name] && ($name == overrides || ! -v given[$name]) ]]; then printf -v "$name" %s "$value"; fi
  done
  shopt -s extglob
  ablations=${ablations//@+([0-9,])/}  # a seed each
  for name in speakers minutes; do  # of a synthetic corpus: fewer, each long enough for a minibatch of one speaker
    if [[ -v defaults[$name] && ! -v given[$name] ]]; then printf -v "$name" %s $((${!name} / 2)); fi
  done
}

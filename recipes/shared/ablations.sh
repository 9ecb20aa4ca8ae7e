# shellcheck shell=bash disable=SC2034,SC2086,SC2154  # options and marks belong to others; some are lists of words
# Stage 6: the rows of Table 2, --ablations, each with its own seeds or with --seeds. Sourced by pipeline.sh.

does[6]='ablations: steps ahead, negatives' leaves[6]='exp/ablations/<row>.seed<S>/'

table_2='steps_2 steps_4 steps_8 mixed_speaker steps_16'
table_2+=' same_speaker mixed_speaker_excl same_speaker_excl current_sequence'

# --ablations, a line each: a row, or row@2,3 with seeds of its own.
ablation_words() {
  local word row
  for word in $ablations; do
    if [[ $word != table_2 && $word != table_2@* ]]; then echo "$word"; continue; fi
    for row in $table_2; do echo "$row${word#table_2}"; done
  done
}

# The rows' names, each once.
ablation_rows() { ablation_words | cut -d @ -f 1 | awk '!seen[$0]++' | paste -s -d ' '; }

# What is to be trained, each once: a line "row seed".
ablation_runs() {
  local word own number
  for word in $(ablation_words); do
    own=
    [[ $word != *@* ]] || own=${word#*@}
    : "${own:=${seeds:-$seed}}"
    for number in ${own//,/ }; do echo "${word%%@*} $number"; done
  done | awk '!seen[$0]++'
}

# row_file ROW: its configuration, the recipe's own before the one that all recipes share; nothing where there is none.
row_file() {
  local folder
  for folder in "$recipe/conf" "$shared/conf/ablations"; do
    if [ -e "$folder/$1.yaml" ]; then printf %s "$folder/$1.yaml"; return; fi
  done
}

# ablation ROW SEED: what it depends on.
ablation() {
  part=$1.seed$2 fingerprint=()
  need 2 "data/$set"/{.done.2,phones.ark}
  need 3 "data/$set"/{.done.3,splits/{train,dev,test}.list}
  reads "$recipe/conf/cpc.yaml" "$(row_file "$1")"
  uses pretrain_on probe_seeds overrides
  [ -n "$probe_seeds" ] || uses seed  # which is then the probes'
}

stage_6() {
  unlabelled && return
  local row number todo=()
  while read -r row number; do
    ablation "$row" "$number"
    unfinished "exp/ablations/.done.6.$part" || continue
    # What stage 4 has trained is only linked to, and stays.
    [ -L "exp/ablations/$part" ] || set_aside "exp/ablations/$part"
    todo+=("$row $number")
  done < <(ablation_runs)
  part=
  if [ ${#todo[@]} = 0 ]; then return 0; fi
  # One command for all, so that it may run several at a time; it knows by itself what is done.
  # shellcheck disable=SC2046
  run $train_cmd python "$root/local/ablations.py" --conf "$recipe/conf" "$shared/conf/ablations" \
    --base "$recipe/conf/cpc.yaml" --data "data/$set" --exp exp --rows "$(ablation_words)" \
    --seeds "${seeds:-$seed}" --probe-seeds "$(seeds_of_probes)" ${probe_passes:+--probe-passes "$probe_passes"} $( ((${ngpu:-1} < 2)) || echo --gpus "$ngpu") --device "$device" \
    --set pretrain_on="$pretrain_on" $overrides
  for row in "${todo[@]}"; do
    ablation $row
    mark=exp/ablations/.done.6.$part
    finish "exp/ablations/$part/probes/c.phone.linear.json"
  done
}

need_ablations() {
  local row number
  while read -r row number; do need 6 "exp/ablations/.done.6.$row.seed$number"; done < <(ablation_runs)
}

# shellcheck shell=bash disable=SC2034,SC2086,SC2154  # options and marks belong to others; some are lists of words
# Stage 6: the rows of Table 2, --ablations with each of --seeds. Sourced by pipeline.sh.

does[6]='ablations: steps ahead, negatives' leaves[6]='exp/ablations/<row>.seed<S>/'

table_2='steps_2 steps_4 steps_8 mixed_speaker steps_16'
table_2+=' same_speaker mixed_speaker_excl same_speaker_excl current_sequence'

# Each once; table_2 may be followed by more.
ablation_rows() { printf '%s\n' ${ablations/#table_2/$table_2} | awk '!seen[$0]++' | paste -s -d ' '; }
ablation_seeds() { printf '%s' "${seeds:-$seed}" | tr , ' '; }

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
  for row in $(ablation_rows); do
    [ -n "$(row_file "$row")" ] || die "--ablations $row: there is no $row.yaml in $recipe/conf or" \
      "$shared/conf/ablations; write it, with what differs from cpc.yaml, or choose of what is there"
  done
  for number in $(ablation_seeds); do
    for row in $(ablation_rows); do
      ablation "$row" "$number"
      unfinished "exp/ablations/.done.6.$part" || continue
      # What stage 4 has trained is only linked to, and stays.
      [ -L "exp/ablations/$part" ] || set_aside "exp/ablations/$part"
      todo+=("$row $number")
    done
  done
  part=
  if [ ${#todo[@]} = 0 ]; then return 0; fi
  # One command for all, so that it may run several at a time; it knows by itself what is done.
  # shellcheck disable=SC2046
  run $train_cmd python "$root/local/ablations.py" --conf "$recipe/conf" "$shared/conf/ablations" \
    --base "$recipe/conf/cpc.yaml" --data "data/$set" --exp exp --rows "$(ablation_rows)" \
    --seeds "$(ablation_seeds)" --probe-seeds "$(seeds_of_probes)" $( ((${ngpu:-1} < 2)) || echo --gpus "$ngpu") \
    --set pretrain_on="$pretrain_on" $overrides
  for row in "${todo[@]}"; do
    ablation $row
    mark=exp/ablations/.done.6.$part
    finish "exp/ablations/$part/probes/c.phone.linear.json"
  done
}

need_ablations() {
  local row number
  for number in $(ablation_seeds); do
    for row in $(ablation_rows); do need 6 "exp/ablations/.done.6.$row.seed$number"; done
  done
}

# What stages 4 and 6 will train, a name each; what is a model of both is trained once.
to_train() {
  local row number
  {
    printf '%s\n' $models
    [ -n "${data-}" ] || ((stop_stage < 6)) || for number in $(ablation_seeds); do
      for row in $(ablation_rows); do
        if [ "$number" = "$seed" ]; then echo "$row"; else echo "$row.seed$number"; fi
      done
    done
  } | awk '!seen[$0]++'
}

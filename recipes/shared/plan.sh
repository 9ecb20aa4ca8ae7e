# shellcheck shell=bash disable=SC2154,SC2034,SC2046,SC2086,SC2206  # options are variables of run.sh; some are lists of words
# What this command is going to do, and what that costs here (local/estimate.py). Sourced by pipeline.sh.

# todo STAGE MARK: whether this command does the work that leaves MARK.
todo() { to_run "$1" && [[ $force == true || ! -e $2 ]]; }

# A line for each job that takes a while: its stage, its kind, and what it is about.
plan() {
  local name row number task layer head seeds_each
  seeds_each=$(seeds_of_probes | wc -w)
  ! todo 1 "data/$set/.done.1" || echo 1 pack
  if to_run 4; then
    for name in $models; do
      ! todo 4 "exp/$name/.done.4" || echo 4 pretrain "$recipe/conf/$name.yaml"
    done
  fi
  if [ -n "${data-}" ]; then
    for name in $models; do ! todo 8 "data/${set}_$name/.done.8" || echo 8 features "$name"; done
    return
  fi
  ! todo 2 "data/$set/.done.2" || echo 2 labels "${aligner-import}"
  for name in ${compare-}; do ! todo 2 "exp/align/$name/.done.2" || echo 2 labels "$name"; done
  if to_run 5; then plan_5; fi
  if to_run 6; then
    while read -r row number; do
      [[ $force == true || ! -e exp/ablations/.done.6.$row.seed$number ]] || continue
      if [ "$number" = "$seed" ] && has_word "$models" "$row"; then  # stages 4 and 5 have done it, or will
        if to_run 4 || [ -e "exp/$row/.done.4" ]; then continue; fi
      fi
      echo 6 pretrain "$(row_file "$row")"
      echo 6 probe c phone linear "$seeds_each"
    done < <(ablation_runs)
  fi
  if to_run 7; then
    for name in $(steps_ahead_models); do
      [[ $force == false && -n $(compgen -G "exp/$name/.done.7.steps_ahead" \
        || compgen -G "exp/ablations/$name.seed*/.done.7.steps_ahead") ]] || echo 7 steps_ahead "$name"
    done
    ! todo 7 "exp/${models%% *}/.done.7.tsne.c" || echo 7 tsne c
    ! todo 7 exp/baselines/.done.7.tsne.mfcc || echo 7 tsne mfcc
  fi
  if to_run 8; then
    for name in $(recognised); do
      ! todo 8 "data/${set}_$name/.done.8" || echo 8 features "$name"
      for head in $recognisers; do
        ! todo 8 "exp/recogniser/$name.$head/.done.8" || echo 8 recogniser "$name" "$head"
      done
    done
  fi
}

plan_5() {
  local model=${models%% *} name layer task kind
  for name in $models; do
    for layer in $layers; do plan_probes "exp/$name/.done.5.$name.$layer" "$layer"; done
  done
  for layer in $layers; do
    if [ "${probe_windows-}" = true ] && todo 5 "exp/$model/.done.5.$model.$layer.window"; then
      for task in phone speaker; do echo 5 probe "$layer" "$task" linear "$seeds_each"; done
    fi
    plan_label_rows "exp/$model/.done.5.$model.$layer" "$layer"
  done
  for name in mfcc mfcc39 random; do plan_probes "exp/baselines/.done.5.$name" "$name"; done
  plan_label_rows exp/baselines/.done.5.mfcc mfcc
  for task in phone speaker; do
    ! todo 5 "exp/supervised_$task/.done.5.supervised_$task" || echo 5 supervised "$task" "$supervised_updates"
    [ "${finetune-}" = true ] || continue
    ! todo 5 "exp/${model}_finetuned_$task/.done.5.supervised_$task" || echo 5 supervised "$task" "$supervised_updates"
  done
}

# plan_probes MARK REPRESENTATION
plan_probes() {
  local task kind
  todo 5 "$1" || return 0
  for task in phone speaker; do
    for kind in $probes; do echo 5 probe "$2" "$task" "$kind" "$seeds_each"; done
  done
}

# plan_label_rows MARK REPRESENTATION: see label_rows.
plan_label_rows() {
  local name
  for name in ${compare-}; do ! todo 5 "$1.$name" || echo 5 probe "$2" phone linear "$seeds_each"; done
  for name in ${label_shifts-}; do ! todo 5 "$1.shifted" || echo 5 probe "$2" phone linear "$seeds_each"; done
}

# What the recipe knows of audio that is not there yet: "--hours H --download GB".
corpus_size() { printf '%s' '--hours 0'; }

# Says what the command costs; dies where the disk is too small for it.
estimate() {
  local audio=() stop_stage=$stop_stage
  ((stop_stage > 0)) || stop_stage=9  # stage 0 alone is for knowing what a whole run would take
  if [ -e "data/$set/utt2num_samples" ]; then audio=(--data "data/$set")
  elif [ -n "${data:-${corpus-}}" ]; then audio=(--audio "${data:-$corpus}" --subset ${subset-})
  else read -ra audio < <(corpus_size; echo); fi
  [ -z "${few-}" ] || audio+=(--few $few)
  mkdir -p exp
  plan | sort -s -n -k 1,1 > exp/plan
  run python "$root/local/estimate.py" --plan exp/plan "${audio[@]}" --config "$recipe/conf/cpc.yaml" \
    --recogniser-updates "${recogniser_updates:-0}" ${probe_passes:+--probe-passes "$probe_passes"} \
    --ngpu "${ngpu:-1}" --device "$device" --nj "$nj" --set $overrides
}

# shellcheck shell=bash disable=SC2034,SC2046,SC2086,SC2154  # options and marks belong to others; some are lists of words
# Stage 7: the paper's Figures 2 and 3, and some of our own. Sourced by pipeline.sh.

does[7]='figures: t-SNE, steps ahead, training, phones' leaves[7]='exp/figures/*.{png,pdf}'

has_word() { [[ " $1 " == *" $2 "* ]]; }

# The models of Figure 3.
steps_ahead_models() {
  if [ -n "${steps_ahead_of-}" ]; then printf %s "$steps_ahead_of"
  elif has_word "$(ablation_rows)" steps_20; then printf steps_20
  else printf %s "$models"; fi
}

# Whose training is drawn: stage 4's models, those of Figure 3, and rows of Table 2 with other negatives. A name each.
training_models() {
  local row
  {
    printf '%s\n' $models $(steps_ahead_models)
    for row in mixed_speaker_excl same_speaker_excl current_sequence; do
      if has_word "$(ablation_rows)" "$row"; then echo "$row"; fi
    done
  } | awk '!seen[$0]++'
}

# trained NAME: sets folder to that of a model of stage 4, or of a row of stage 6 with its first seed.
trained() {
  local row
  row=$1.seed$(ablation_runs | awk -v row="$1" '$1 == row && !seen++ { print $2 }')
  if has_word "$models" "$1" || [ -e "exp/$1/.done.4" ]; then
    folder=exp/$1
    need 4 "$folder"/{.done.4,train.json}
  else
    folder=exp/ablations/$row
    need 6 "exp/ablations/.done.6.$row" "$folder/train.json"
  fi
}

stage_7() {
  unlabelled && return
  local name folder first=${models%% *} figures=exp/figures
  local -A drawn=()  # what each script is given
  for name in $(steps_ahead_models); do
    part=steps_ahead.$name
    need 3 "data/$set"/{.done.3,splits/test.list}
    trained "$name"
    drawn[steps_ahead]+=" $folder/steps_ahead.json"
    unfinished "$folder/.done.7.steps_ahead" || continue
    run $train_cmd python -m cpc_speech.steps_ahead --data "data/$set" --exp "$folder"
    finish "$folder/steps_ahead.json"
  done
  part=tsne.$first
  need 4 "exp/$first"/{.done.4,train.json}
  tsne "exp/$first" c
  part=tsne.mfcc
  tsne exp/baselines mfcc
  drawn[tsne]="exp/$first/tsne.c.json exp/baselines/tsne.mfcc.json"

  part=
  for name in $(training_models); do
    trained "$name"
    drawn[training]+=" $folder"
  done
  if has_word "$probes" linear && has_word "$layers" c; then
    need 5 "exp/$first/.done.5.$first.c"
    drawn[phones]+=" exp/$first/probes/c.phone.linear.json"
  fi
  need 5 exp/supervised_phone/.done.5.supervised_phone
  drawn[phones]+=" exp/supervised_phone/probes/supervised.phone.end_to_end.json"
  if has_word "$probes" linear; then
    need 5 exp/baselines/.done.5.mfcc
    drawn[phones]+=" exp/baselines/probes/mfcc.phone.linear.json"
  fi
  fingerprint=()
  say "stage 7: ${does[7]} (drawn)"
  run python "$root/local/plot_tsne.py" ${drawn[tsne]} --to "$figures"
  run python "$root/local/plot_steps_ahead.py" ${drawn[steps_ahead]} --to "$figures"
  run python "$root/local/plot_training.py" ${drawn[training]} --to "$figures"
  run python "$root/local/plot_phones.py" ${drawn[phones]} --lang data/lang --to "$figures"
}

# tsne EXP REPRESENTATION
tsne() {
  need 2 "data/$set"/{.done.2,phones.ark}
  need 3 "data/$set"/{.done.3,splits/test.list}
  unfinished "$1/.done.7.tsne.$2" || return 0
  run $train_cmd python -m cpc_speech.tsne --data "data/$set" --exp "$1" --representation "$2"
  finish "$1/tsne.$2.json"
}

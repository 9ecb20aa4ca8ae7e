# shellcheck shell=bash
# The stages that all recipes have in common. A recipe sources this, replaces what differs (its corpus, perhaps its
# labels) and calls begin and run_stages; all work is done in the recipe's folder, or in --work DIR.
# shellcheck disable=SC2154  # options (corpus, nj, models, ...) are variables of run.sh

# shellcheck source=stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
# shellcheck source=labels.sh
source "$shared/labels.sh"
# shellcheck source=ablations.sh
source "$shared/ablations.sh"
# shellcheck source=figures.sh
source "$shared/figures.sh"
# shellcheck source=recogniser.sh
source "$shared/recogniser.sh"
# shellcheck source=check_options.sh
source "$shared/check_options.sh"
# shellcheck source=quick.sh
source "$shared/quick.sh"
# shellcheck source=plan.sh
source "$shared/plan.sh"

does[0]='check the dependencies, find or make the corpus' leaves[0]='corpus/'
does[1]='data directory, packed audio, validation' leaves[1]='data/<set>/{wav.scp,utt2spk,...,audio.*}'
does[2]='phone labels, one each 10 ms' leaves[2]='data/<set>/phones.{ark,scp}, data/lang/phones.txt'
does[3]='splits within each speaker' leaves[3]='data/<set>/splits/{train,dev,test}.list'
does[4]='pretrain CPC' leaves[4]='exp/<model>/'
does[5]='probes: CPC, MFCC, random initialisation; supervised and fine-tuned networks'
leaves[5]='exp/{<model>,baselines,supervised_<task>,<model>_finetuned_<task>}/probes/*.json'
does[9]='report' leaves[9]='exp/report/{RESULTS.md,report.html,results.json,figures/}'

packages=(core align)              # parts of setup.cfg that these stages need
corpus_options=(corpus data)       # which options tell what the corpus is
default_corpus=corpus/LibriSpeech  # where get_corpus leaves it
next_step='features of your own audio for speech recognition (docs/features.md)'  # what stage 9 ends with

# What a recipe may replace.
get_corpus() { die "pass --corpus DIR"; }            # stage 0, without --corpus
label_needs() { uses aligner; needs_of "$aligner"; }  # what stage 2 depends on, beside text and audio
make_labels() { labels_by "$aligner" "data/$set" "$max_dropped"; }  # stage 2
reference() { label_file "data/$set"; }              # what --compare compares with

# Own audio (--data DIR) has no transcripts, so no labels and no probes.
unlabelled() {
  [ -n "${data-}" ] || return 1
  say "stage $current: ${does[current]}: skipped, as the audio of --data has no labels"
}

stage_0() {
  ((stop_stage < 7)) || [ -n "${data-}" ] || packages+=(analysis)  # of figures and the report
  ((stop_stage < 8)) || [ -n "${data-}" ] || [ -z "$(recognised)" ] || packages+=(asr)
  run python "$root/local/check_dependencies.py" "${packages[@]}"
  if [ "${lexicon-}" = librispeech ]; then
    run python "$root/local/download.py" --url https://www.openslr.org/resources/11/librispeech-lexicon.txt \
      --md5 28f72663f6bfed7cd346283c064c315b --to corpus --hint "pass the file: --lexicon FILE"
  elif [ ! -e "$(lexicon_file)" ] && [ "$(lexicon_file)" != cmudict ]; then
    die "--lexicon $lexicon: no such file"
  fi
  local word configs=()
  for word in $models; do configs+=("$recipe/conf/$word.yaml"); done
  [ -n "${data-}" ] || for word in $(ablation_rows); do configs+=("$(row_file "$word")"); done
  # shellcheck disable=SC2086  # a list of words
  run python "$root/local/check_configs.py" --base "$recipe/conf/cpc.yaml" --over "${configs[@]}" --set ${overrides-}
  [ -z "${splits-}" ] || run python -m data_prep.splits --published "$splits"
  estimate
  uses "${corpus_options[@]}"
  unfinished data/.done.0 || return 0
  local given=${data:-${corpus-}}
  if [ -z "$given" ]; then
    get_corpus
  elif [ ! -d "$given" ]; then
    die "$given: no such folder; correct $([ -n "${data-}" ] && echo --data || echo --corpus)"
  fi
  finish
}

stage_1() {
  need 0 data/.done.0
  uses corpus data subset note
  # shellcheck disable=SC2086  # lists of words
  if [ -n "${data-}" ]; then reads_folder "$data"; else reads_folder "${corpus:-$default_corpus}" ${subset-}; fi
  unfinished "data/$set/.done.1" || return 0
  if [ -n "${data-}" ]; then
    run python -m data_prep.folder "$data" "data/$set" --note "$note" ${few:+--few $few}
  else
    local name subsets=()
    for name in ${subset-}; do subsets+=(--subset "$name"); done
    run python -m data_prep.librispeech "${corpus:-$default_corpus}" "data/$set" "${subsets[@]}" --note "$note" \
      ${few:+--few $few}
  fi
  run python -m data_prep.pack "data/$set" --nj "$nj"
  run python -m data_prep.validate "data/$set"
  finish "data/$set/audio.scp"
}

stage_2() {
  unlabelled && return
  local source=("data/$set"/{.done.1,audio.scp,utt2num_samples,text})
  need 1 "${source[@]}"
  label_needs
  if unfinished "data/$set/.done.2"; then
    make_labels
    run python -m data_prep.validate "data/$set" --stage phones
    rm -f exp/align/*/comparison.json exp/*/probes/labels/*.json  # figures about labels that are no more
    finish "data/$set"/phones.{ark,scp}
  fi
  for part in ${compare-}; do
    need 1 "${source[@]}"
    need 2 "data/$set"/{.done.2,phones.ark}
    needs_of "$part"
    # A classifier that is trained anew makes other labels. (Those of stage 2 itself it may well have been trained on.)
    [ "$part" != posterior ] || need 5 "$(classifier)"
    unfinished "exp/align/$part/.done.2" || continue
    # How many it cannot label is part of the comparison.
    labels_by "$part" "exp/align/$part/labels" "$(wc -l < "data/$set/utt2num_samples")"
    run python -m data_prep.compare_labels "data/$set" "$(reference)" "$(label_file "exp/align/$part/labels")" \
      --json "exp/align/$part/comparison.json"
    finish "exp/align/$part"/{comparison.json,labels/phones.ark}
  done
}

stage_3() {
  need 1 "data/$set"/{.done.1,utt2spk}
  uses splits data_seed
  unfinished "data/$set/.done.3" || return 0
  local how=()
  [ -z "${data-}" ] || how=(--all-train)
  [ -z "${splits-}" ] || how=(--published "$splits")
  run python -m data_prep.splits "data/$set" --seed "$data_seed" "${how[@]}"
  run python -m data_prep.validate "data/$set" --stage splits
  finish "data/$set/splits"/{train,dev,test}.list
}

# What pretraining starts with: what cmd.sh says, or one process for each of --ngpu.
pretrain_with() {
  if [ -n "${pretrain_cmd-}" ]; then printf '%s' "$pretrain_cmd"
  elif ((${ngpu:-1} > 1)); then printf 'torchrun --standalone --nproc-per-node %s' "$ngpu"
  else printf python; fi
}

# One model for each of --models; its configuration is conf/cpc.yaml and, over it, conf/<model>.yaml.
stage_4() {
  for part in $models; do
    need 1 "data/$set"/{.done.1,audio.scp,utt2num_samples}
    need 3 "data/$set"/{.done.3,splits/{train,dev}.list}
    reads "$recipe/conf"/{cpc,"$part"}.yaml
    uses seed pretrain_on overrides
    unfinished "exp/$part/.done.4" || continue
    set_aside "exp/$part"
    # shellcheck disable=SC2046,SC2086  # lists of words
    run $train_cmd $(pretrain_with) -m cpc_speech.train --device "$device" --config "$recipe/conf/cpc.yaml" --config "$recipe/conf/$part.yaml" \
      --data "data/$set" --exp "exp/$part" seed="$seed" pretrain_on="$pretrain_on" $overrides
    finish "exp/$part/train.json"
  done
}

# Training resumes what it finds; --force wants it to start over, but hours of work are not for us to delete.
set_aside() {
  [[ $force == true && -e $1 ]] || return 0
  local old
  old=exp/.old/${1##*/}.$(date +%Y%m%d-%H%M%S)
  mkdir -p exp/.old
  mv "$1" "$old"
  mkdir "$1"
  say "stage $current: --force starts over; what was in $1 is now in $old"
}

stage_5() {
  unlabelled && return
  local model layer task name probe
  # shellcheck disable=SC2207  # a list of words
  probe=(python -m cpc_speech.probe --seed $(seeds_of_probes) ${probe_passes:+--passes "$probe_passes"})
  [ "$force" = false ] || probe+=(--force)
  local configs=(--config "$recipe/conf/cpc.yaml" --config exp/baselines/overrides.yaml)
  for model in $models; do
    need 4 "exp/$model"/{.done.4,train.json}
    for layer in $layers; do
      probe_row "exp/$model" "$model.$layer" --representation "$layer"
      [ "$model" = "${models%% *}" ] || continue  # each of what follows takes a while
      if [ "${probe_windows-}" = true ]; then
        uses probe_seeds
        row "exp/$model" "$model.$layer.window" "${probe[@]}" --representation "$layer" --probe-context window
      fi
      label_rows "exp/$model" "$model.$layer" "${probe[@]}" --representation "$layer"
    done
  done
  for name in mfcc mfcc39; do probe_row exp/baselines "$name" --representation "$name"; done
  label_rows exp/baselines mfcc "${probe[@]}" --representation mfcc

  # The untrained and the supervised network are those of conf/cpc.yaml.
  mkdir -p exp/baselines
  { echo "seed: $seed"; for word in $overrides; do echo "${word/=/: }"; done; } > exp/baselines/overrides.yaml
  reads "$recipe/conf/cpc.yaml"
  uses overrides
  probe_row exp/baselines random --representation random "${configs[@]}"
  for task in phone speaker; do
    reads "$recipe/conf/cpc.yaml"
    uses overrides supervised_updates
    row "exp/supervised_$task" "supervised_$task" python -m cpc_speech.supervised --task "$task" "${configs[@]}" \
      updates="$supervised_updates"
  done
  if [ "${finetune-}" = true ]; then
    model=${models%% *}
    for task in phone speaker; do
      need 4 "exp/$model"/{.done.4,train.json}
      reads "$recipe/conf"/{cpc,"$model"}.yaml
      uses overrides supervised_updates
      row "exp/${model}_finetuned_$task" "supervised_$task" python -m cpc_speech.supervised --task "$task" \
        --config "$recipe/conf/cpc.yaml" --config "$recipe/conf/$model.yaml" --config exp/baselines/overrides.yaml \
        --init-from "exp/$model" updates="$supervised_updates"
    done
  fi
}

seeds_of_probes() { printf '%s' "${probe_seeds:-$seed}" | tr , ' '; }

# probe_row EXP NAME OPTION...: a row of stage 5's "${probe[@]}", with each of --probes.
probe_row() {
  uses probes probe_seeds
  # shellcheck disable=SC2086  # a list of words
  row "$1" "$2" "${probe[@]}" "${@:3}" --probe $probes
}

# row EXP NAME COMMAND...: one row of Table 1, which depends on the labels, the splits, and what was recorded before.
row() {
  part=$2
  need 2 "data/$set"/{.done.2,phones.ark}
  need 3 "data/$set"/{.done.3,splits/{train,dev,test}.list}
  uses seed
  unfinished "$1/.done.5.$2" || return 0
  if [[ $2 == supervised_* ]]; then set_aside "$1"; fi
  # shellcheck disable=SC2086  # a list of words
  run $train_cmd "${@:3}" --data "data/$set" --exp "$1"
  finish
}

# The command that makes what these options make, run from the repository's root; where a corpus lies is no one's concern.
whole_command() {
  local name value words=("recipes/${recipe##*/}/run.sh")
  for name in $(option_names); do
    value=${!name}
    [[ $name =~ ^(stage|stop_stage|force|publish|nj|work|device)$ || $value == "${defaults[$name]}" ]] && continue
    [[ ${quick-} == true && ! -v given[$name] ]] && continue
    if [[ $value == /* ]]; then value=$(realpath -m "$value"); fi
    if [[ $value == "$root"/* ]]; then value=${value#"$root"/}
    elif [[ $value == /* ]]; then value=/path/to/${value##*/}; fi
    words+=("--${name//_/-}" "$value")
  done
  quoted "${words[@]}"
}

stage_9() {
  unlabelled && return
  local model layer row
  for model in $models; do
    for layer in $layers; do
      need 5 "exp/$model/.done.5.$model.$layer"
      [ "$model" = "${models%% *}" ] || continue
      need_label_rows "exp/$model" "$model.$layer"
      [ "${probe_windows-}" != true ] || need 5 "exp/$model/.done.5.$model.$layer.window"
    done
  done
  need_label_rows exp/baselines mfcc
  if [ "${finetune-}" = true ]; then
    for row in phone speaker; do need 5 "exp/${models%% *}_finetuned_$row/.done.5.supervised_$row"; done
  fi
  for row in baselines.{mfcc,mfcc39,random} supervised_phone.supervised_phone supervised_speaker.supervised_speaker; do
    need 5 "exp/${row%%.*}/.done.5.${row#*.}"
  done
  need_ablations
  need_recognisers
  fingerprint=()
  run python -m cpc_speech.report exp --data "data/$set" --write exp/report \
    --title "${recipe##*/}" --command "$(whole_command)"
  if [ "${quick-}" = true ]; then echo "Next: the same command without --quick true"; else echo "Next: $next_step"; fi
  [ "$publish" = false ] || publish_report
}

published_bytes=2000000  # at most: a repository keeps all that it ever held

publish_report() {
  local bytes parts=(exp/report/{RESULTS.md,report.html,results.json})
  [ ! -d exp/report/figures ] || parts+=(exp/report/figures)
  bytes=$(find "${parts[@]}" -type f -printf '%s\n' | awk '{ all += $1 } END { print all }')
  ((bytes < published_bytes)) || die "exp/report is $bytes bytes, and less than $published_bytes are published: leave" \
    "figures out (rm exp/figures/NAME.png), or draw them smaller (stage 7), and run this again"
  rm -f "$recipe"/figures/*.png
  cp -r "${parts[@]}" "$recipe/"
  say "stage 9: published in $recipe: RESULTS.md, report.html, results.json and the pictures in figures/"
}

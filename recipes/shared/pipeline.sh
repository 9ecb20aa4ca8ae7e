# shellcheck shell=bash
# The stages that all recipes have in common. A recipe sources this, replaces what differs (its corpus, perhaps its
# labels) and calls begin and run_stages; all work is done in the recipe's folder, or in --work DIR.
# shellcheck disable=SC2154  # options (corpus, nj, models, ...) are variables of run.sh

# shellcheck source=stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"

does[0]='check the dependencies, find or make the corpus' leaves[0]='corpus/'
does[1]='data directory, packed audio, validation' leaves[1]='data/<set>/{wav.scp,utt2spk,...,audio.*}'
does[2]='phone labels, one each 10 ms' leaves[2]='data/<set>/phones.{ark,scp}, data/lang/phones.txt'
does[3]='splits within each speaker' leaves[3]='data/<set>/splits/{train,dev,test}.list'
does[4]='pretrain CPC' leaves[4]='exp/<model>/'
does[5]='probes: CPC, MFCC, random initialisation, supervised' leaves[5]='exp/{<model>,baselines,supervised_<task>}/probes/*.json'
does[9]='report' leaves[9]='exp/report/{RESULTS.md,results.json}'

packages=(core align)              # parts of setup.cfg that these stages need
corpus_options=(corpus data)       # which options tell what the corpus is
default_corpus=corpus/LibriSpeech  # where get_corpus leaves it

# What a recipe may replace.
announce() { :; }                                    # what is to be said before it starts
get_corpus() { die "pass --corpus DIR"; }            # stage 0, without --corpus
make_labels() { labels_by "$aligner" "data/$set"; }  # stage 2
reference() { label_file "data/$set"; }              # what --compare compares with

# labels_by ALIGNER DIR: phones.{ark,scp} and what else comes with them.
labels_by() {
  local to=(--to "$2" --max-dropped "${max_dropped:-0}") words
  words=(--work "exp/align/$1" --lexicon "$(lexicon_file)" --oov "${oov:-espeak}" --nj "$nj")
  case $1 in
    import)
      [ -n "${import_format-}" ] && [ -n "${import_from-}" ] \
        || die "import needs --import-format and --import-from; see python -m data_prep.import_labels --help"
      # shellcheck disable=SC2086  # a list of words
      run python -m data_prep.import_labels "$import_format" "$import_from" "data/$set" data/lang "${to[@]}" \
        ${import_options-}
      ;;
    posterior)
      [ -n "${posteriors_of-}" ] || die "posterior needs --posteriors-of, a model or supervised_phone, which stage 5 probes"
      run python -m cpc_speech.posteriors --data "data/$set" --exp "exp/$posteriors_of" --to exp/align/posterior
      run python -m data_prep.align "data/$set" data/lang --aligner posterior --posteriors exp/align/posterior \
        "${to[@]}" "${words[@]}"
      ;;
    *) run python -m data_prep.align "data/$set" data/lang --aligner "$1" "${to[@]}" "${words[@]}" ;;
  esac
}

# label_file DIR: the labels in it, with exact times where it has them.
label_file() { if [ -e "$1/phones.ctm" ]; then printf %s "$1/phones.ctm"; else printf %s "$1/phones.scp"; fi; }

# What --lexicon stands for.
lexicon_file() {
  case ${lexicon:-cmudict} in
    cmudict | /*) printf '%s' "${lexicon:-cmudict}" ;;
    librispeech) printf corpus/librispeech-lexicon.txt ;;
    *) printf '%s' "$launched_from/$lexicon" ;;
  esac
}

# Own audio (--data DIR) has no transcripts, so no labels and no probes.
unlabelled() {
  [ -n "${data-}" ] || return 1
  say "stage $current: ${does[current]}: skipped, as the audio of --data has no labels"
}

stage_0() {
  run python "$root/local/check_dependencies.py" "${packages[@]}"
  if [ "${lexicon-}" = librispeech ]; then
    run python "$root/local/download.py" --url https://www.openslr.org/resources/11/librispeech-lexicon.txt \
      --md5 28f72663f6bfed7cd346283c064c315b --to corpus --hint "pass the file: --lexicon FILE"
  fi
  uses "${corpus_options[@]}"
  unfinished data/.done.0 || return 0
  announce
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
  reads_folder "${data:-${corpus:-$default_corpus}}"
  unfinished "data/$set/.done.1" || return 0
  if [ -n "${data-}" ]; then
    run python -m data_prep.folder "$data" "data/$set" --note "$note"
  else
    local name subsets=()
    for name in ${subset-}; do subsets+=(--subset "$name"); done
    run python -m data_prep.librispeech "${corpus:-$default_corpus}" "data/$set" "${subsets[@]}" --note "$note"
  fi
  run python -m data_prep.pack "data/$set" --nj "$nj"
  run python -m data_prep.validate "data/$set"
  finish "data/$set/audio.scp"
}

stage_2() {
  unlabelled && return
  need 1 "data/$set"/{.done.1,audio.scp,utt2num_samples,text}
  uses aligner
  what_labels_need
  if unfinished "data/$set/.done.2"; then
    make_labels
    run python -m data_prep.validate "data/$set" --stage phones
    finish "data/$set"/phones.{ark,scp}
  fi
  for part in ${compare-}; do
    need 2 "data/$set"/{.done.2,phones.ark}
    what_labels_need
    unfinished "exp/align/$part/.done.2" || continue
    labels_by "$part" "exp/align/$part/labels"
    run python -m data_prep.compare_labels "data/$set" "$(reference)" "$(label_file "exp/align/$part/labels")" \
      --json "exp/align/$part/comparison.json"
    finish "exp/align/$part"/{comparison.json,labels/phones.ark}
  done
}

# Records what labels_by uses. Not the classifier of --posteriors-of: a later stage 5 trains it anew with the labels that
# it made, which are not out of date by that.
what_labels_need() {
  uses lexicon oov import_format import_from import_options posteriors_of
  [ "$(lexicon_file)" = cmudict ] || reads "$(lexicon_file)"
  if [ -d "${import_from-}" ]; then reads_folder "$import_from"
  elif [ -n "${import_from-}" ]; then reads "$import_from"; fi
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
    [ -e "$recipe/conf/$part.yaml" ] || die "--models $part: there is no $recipe/conf/$part.yaml; write it, with what" \
      "differs from cpc.yaml, or choose of: $(cd "$recipe/conf" && echo *.yaml)"
  done
  for part in $models; do
    need 1 "data/$set"/{.done.1,audio.scp,utt2num_samples}
    need 3 "data/$set"/{.done.3,splits/{train,dev}.list}
    reads "$recipe/conf"/{cpc,"$part"}.yaml
    uses seed overrides
    unfinished "exp/$part/.done.4" || continue
    set_aside "exp/$part"
    # shellcheck disable=SC2046,SC2086  # lists of words
    run $train_cmd $(pretrain_with) -m cpc_speech.train --config "$recipe/conf/cpc.yaml" --config "$recipe/conf/$part.yaml" \
      --data "data/$set" --exp "exp/$part" seed="$seed" $overrides
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
  local model layer task configs=(--config "$recipe/conf/cpc.yaml" --config exp/baselines/overrides.yaml)
  for model in $models; do
    need 4 "exp/$model"/{.done.4,train.json}
    for layer in $layers; do
      row "exp/$model" "$model.$layer" python -m cpc_speech.probe --representation "$layer" --seed "$seed"
      # Each takes a while, and one model tells: the first.
      [ "$model" != "${models%% *}" ] || label_rows "exp/$model" "$model.$layer" python -m cpc_speech.probe --representation "$layer" --seed "$seed"
    done
  done
  row exp/baselines mfcc python -m cpc_speech.probe --representation mfcc --seed "$seed"
  label_rows exp/baselines mfcc python -m cpc_speech.probe --representation mfcc --seed "$seed"
  row exp/baselines mfcc39 python -m cpc_speech.probe --representation mfcc39 --seed "$seed"

  # The untrained and the supervised network are those of conf/cpc.yaml.
  mkdir -p exp/baselines
  { echo "seed: $seed"; for word in $overrides; do echo "${word/=/: }"; done; } > exp/baselines/overrides.yaml
  reads "$recipe/conf/cpc.yaml"
  uses overrides
  row exp/baselines random python -m cpc_speech.probe --representation random "${configs[@]}" --seed "$seed"
  for task in phone speaker; do
    reads "$recipe/conf/cpc.yaml"
    uses overrides supervised_updates
    row "exp/supervised_$task" "supervised_$task" python -m cpc_speech.supervised --task "$task" "${configs[@]}" \
      updates="$supervised_updates"
  done
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

# label_rows EXP NAME COMMAND...: the row's phone probe again with the labels of each --compare, and with labels moved.
label_rows() {
  local aligner
  for aligner in ${compare-}; do
    need 2 "exp/align/$aligner"/{.done.2,labels/phones.ark}
    row "$1" "$2.$aligner" "${@:3}" --labels "exp/align/$aligner/labels"
  done
  [ -n "${label_shifts-}" ] || return 0
  uses label_shifts
  # shellcheck disable=SC2086  # a list of words
  row "$1" "$2.shifted" "${@:3}" --label-shift $label_shifts
}

# The command that makes what these options make, run from the repository's root; where a corpus lies is no one's concern.
whole_command() {
  local name value words=("recipes/${recipe##*/}/run.sh")
  for name in $(option_names); do
    value=${!name}
    [[ $name =~ ^(stage|stop_stage|force|publish|nj|work)$ || $value == "${defaults[$name]}" ]] && continue
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
    for layer in $layers; do need 5 "exp/$model/.done.5.$model.$layer"; done
  done
  for row in baselines.{mfcc,mfcc39,random} supervised_phone.supervised_phone supervised_speaker.supervised_speaker; do
    need 5 "exp/${row%%.*}/.done.5.${row#*.}"
  done
  fingerprint=()
  run python -m cpc_speech.report exp --data "data/$set" --write exp/report \
    --title "${recipe##*/}" --command "$(whole_command)"
  if [ "$publish" = true ]; then
    cp exp/report/{RESULTS.md,results.json} "$recipe/"
    say "stage 9: published as $recipe/RESULTS.md and results.json"
  fi
}

# shellcheck shell=bash disable=SC2154  # options (aligner, models, ...) are variables of run.sh
# What options may say, looked at before the first stage: what stage 8 would stumble over should not be found out once
# stage 4 has taken its days. An option that a recipe lacks is passed over. Sourced by pipeline.sh.

# value OPTION: what it says, or nothing.
value() { local name=${1//-/_}; printf %s "${!name-}"; }

# among OPTION CHOICES: each of its words is one of these.
among() {
  local word
  for word in $(value "$1"); do has_word "$2" "$word" || die "--$1 $word: choose of: $2"; done
}

# not_empty OPTION...: they have a value.
not_empty() {
  local option name
  for option in "$@"; do
    name=${option//-/_}
    [[ ! -v $name || -n ${!name} ]] || die "--$option is empty (see --help)"
  done
}

# numbers OPTION [signed]: whole numbers.
numbers() {
  local numbers="([ ,]*${2:+[+-]?}[0-9]+)*"
  [[ $(value "$1") =~ ^$numbers$ ]] || die "--$1 is whole numbers, as \"1 2 3\", not \"$(value "$1")\""
}

# to_run STAGE: whether it is.
to_run() { ((stage <= $1 && $1 <= stop_stage)); }

check_options() {
  local word aligners='gmm pocketsphinx import posterior'
  among device 'auto cpu'
  not_empty device aligner oov models pretrain-on probes layers recognisers
  among aligner "$aligners"; among compare "$aligners"
  among oov 'espeak spn'; among pretrain-on 'train all'
  among probes 'linear mlp'; among layers 'c z'; among recognisers 'linear lstm'
  numbers probe-seeds; numbers seeds; numbers label-shifts signed
  for word in $models; do
    [ -e "$recipe/conf/$word.yaml" ] || die "--models $word: there is no $recipe/conf/$word.yaml; write it, with what" \
      "differs from cpc.yaml, or choose of: $(cd "$recipe/conf" && echo *.yaml)"
  done
  check_gpus
  [ -z "${data-}" ] || return 0  # has neither labels nor what depends on them
  ! to_run 2 || check_labels
  for word in $(ablation_words); do
    [ -n "$(row_file "${word%%@*}")" ] || die "--ablations ${word%%@*}: there is no ${word%%@*}.yaml in $recipe/conf or" \
      "$shared/conf/ablations; write it, with what differs from cpc.yaml, or choose of what is there"
    [[ $word =~ ^[^@]+(@[0-9]+(,[0-9]+)*)?$ ]] || die "--ablations $word: write seeds as ${word%%@*}@2,3"
  done
  ! to_run 7 || for word in $(steps_ahead_models); do
    has_word "$models $(ablation_rows)" "$word" || [ -e "exp/$word/.done.4" ] \
      || die "--steps-ahead-of $word: neither in exp/, where stage 4 keeps its models, nor one of --ablations"
  done
  for word in $(recognised); do
    has_word "$models fbank mfcc mfcc39 random" "$word" \
      || die "--recognise $word: neither of --models ($models) nor fbank, mfcc, mfcc39 or random"
  done
}

# GPUs that are asked for, by --ngpu, must be visible wherever they will be used.
check_gpus() {
  local there
  if [[ ! -v given[ngpu] || ${device-} == cpu || ${estimate-} == true || -n ${pretrain_cmd-} ]] || ((stop_stage < 4)); then
    return 0
  fi
  there=$(python -c 'import torch; print(torch.cuda.device_count())') || die "torch cannot be imported; run stage 0 first"
  ((there >= ngpu)) || die "--ngpu $ngpu: $there GPUs are visible here; ask for as many, or insist on $ngpu processes on" \
    "the CPU: --device cpu"
}

# What --aligner and --compare need to be there.
check_labels() {
  local words
  if has_word "${aligner-} ${compare-}" import; then
    [ -n "${labels-}" ] || die 'import needs --labels "FORMAT SOURCE"; see python -m data_prep.import_labels --help'
    mapfile -t words < <(import_words)
    [ -e "${words[1]-}" ] || die "--labels $labels: ${words[1]-its SOURCE}: no such file or folder"
  fi
  if has_word "${aligner-} ${compare-}" posterior; then
    [ -n "${posteriors_of-}" ] \
      || die 'posterior needs --posteriors-of, a model in exp/ that stage 5 has probed, or supervised_phone'
    [ -e "$(classifier)" ] || die "--posteriors-of $posteriors_of needs $(classifier), which stage 5 makes: run it first"
  fi
}

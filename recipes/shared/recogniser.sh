# shellcheck shell=bash disable=SC2034,SC2086,SC2154  # options and marks belong to others; some are lists of words
# Stage 8: features for downstream ASR, and phone recognition on those of --recognise; of own audio (--data) features
# alone, of all --models. Sourced by pipeline.sh.

does[8]='features for ASR, and a CTC phone recogniser on them'
leaves[8]='data/<set>_<features>/feats.scp, exp/recogniser/<features>.<head>/per.json'

# What phones are recognised from: names of features, each once; "models" stands for all of --models.
recognised() { printf '%s\n' ${recognise/models/$models} | awk '!seen[$0]++' | paste -s -d ' '; }

stage_8() {
  local name head
  if [ -n "${data-}" ]; then  # audio whose phones nobody knows
    for name in $models; do features "$name"; done
    return
  fi
  [ -n "$(recognised)" ] || { say "stage 8: ${does[8]}: skipped, as --recognise names no features"; return; }
  part=phones
  need 2 "data/$set"/{.done.2,phones.ark}
  if unfinished "data/$set/.done.8.phones"; then
    run python -m data_prep.phone_text "data/$set"
    finish "data/$set"/phones.text
  fi
  for name in $(recognised); do features "$name"; done
  for name in $(recognised); do
    for head in $recognisers; do recogniser "$name" "$head"; done
  done
}

# features NAME: an archive of all utterances, frames of a model of --models or of a baseline.
features() {
  local to=data/${set}_$1 command=(-m cpc_speech.write_features --data "data/$set" --representation "$1" --to "data/${set}_$1")
  part=$1 fingerprint=()
  need 1 "data/$set"/{.done.1,audio.scp}
  case $1 in
    mfcc | mfcc39 | fbank) ;;
    random)
      # The network that stage 5 probes.
      need 5 exp/baselines/{.done.5.random,overrides.yaml}
      reads "$recipe/conf/cpc.yaml"
      command+=(--config "$recipe/conf/cpc.yaml" --config exp/baselines/overrides.yaml)
      ;;
    *)
      need 4 "exp/$1"/{.done.4,train.json}
      command=(-m cpc_speech.extract "exp/$1" "data/$set" "$to")
      [ "$force" = false ] || rm -rf "$to"  # it refuses to mix features of two models
      ;;
  esac
  unfinished "$to/.done.8" || return 0
  run $train_cmd python "${command[@]}"
  finish "$to/feats.scp"
}

# recogniser FEATURES HEAD: one error rate.
recogniser() {
  part=$1.$2 fingerprint=()
  need 3 "data/$set"/{.done.3,splits/{train,dev,test}.list}
  reads "data/$set/phones.text" "data/${set}_$1/.done.8"
  uses seed recogniser_updates
  unfinished "exp/recogniser/$part/.done.8" || return 0
  set_aside "exp/recogniser/$part"
  run $train_cmd python -m cpc_speech.recognise --data "data/$set" --feats "data/${set}_$1/feats.scp" \
    --exp "exp/recogniser/$part" --head "$2" --updates "$recogniser_updates" --seed "$seed"
  finish "exp/recogniser/$part/per.json"
}

need_recognisers() {
  local name head
  for name in $(recognised); do
    for head in $recognisers; do need 8 "exp/recogniser/$name.$head/.done.8"; done
  done
}

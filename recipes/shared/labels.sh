# shellcheck shell=bash
# Where phone labels come from: --aligner and --compare, and what they depend on. Sourced by pipeline.sh.
# shellcheck disable=SC2154  # options (lexicon, labels, ...) are variables of run.sh

# labels_by ALIGNER DIR MAX_DROPPED: phones.{ark,scp} and what else comes with them.
labels_by() {
  local to=(--to "$2" --max-dropped "$3") words
  words=(--work "exp/align/$1" --lexicon "$(lexicon_file)" --oov "${oov:-espeak}" --nj "$nj")
  case $1 in
    import)
      mapfile -t words < <(import_words)
      run python -m data_prep.import_labels "${words[@]:0:2}" "data/$set" data/lang "${words[@]:2}" "${to[@]}"
      ;;
    posterior)
      run python -m cpc_speech.posteriors --data "data/$set" --exp "exp/${posteriors_of%%.*}" \
        --representation "$(scored_layer)" --to exp/align/posterior
      run python -m data_prep.align "data/$set" data/lang --aligner posterior --posteriors exp/align/posterior \
        "${words[@]}" "${to[@]}"
      rm -f exp/align/posterior/posteriors.{ark,scp}  # 6 GB of 100 hours, and computed again for other labels
      ;;
    *) run python -m data_prep.align "data/$set" data/lang --aligner "$1" "${words[@]}" "${to[@]}" ;;
  esac
}

# needs_of ALIGNER: what its labels depend on, beside text and audio.
needs_of() {
  local word
  case $1 in
    import)
      uses labels
      while IFS= read -r word; do
        if [ -d "$word" ]; then reads_folder "$word"; elif [ -f "$word" ]; then reads "$word"; fi
      done < <(import_words)
      return
      ;;
    posterior) uses posteriors_of ;;
  esac
  uses lexicon oov
  case $(lexicon_file) in
    cmudict) ;;
    corpus/*) need 0 "$(lexicon_file)" ;;
    *) reads "$(lexicon_file)" ;;
  esac
}

# The words of --labels, which may be quoted; those that name files from where the user stands, in full.
import_words() {
  local word
  xargs printf '%s\n' <<< "$labels" | while IFS= read -r word; do
    if [[ $word != /* && -e $launched_from/$word ]]; then word=$launched_from/$word; fi
    printf '%s\n' "$word"
  done
}

# Of --posteriors-of: the layer of "model.layer", and the file that its phone classifier is.
scored_layer() {
  case $posteriors_of in
    *.*) printf %s "${posteriors_of#*.}" ;;
    supervised_phone) printf supervised ;;
    *) printf c ;;
  esac
}
classifier() {
  local layer
  layer=$(scored_layer)
  printf %s "exp/${posteriors_of%%.*}/probes/$layer.phone.$([ "$layer" = supervised ] && echo end_to_end || echo linear).pt"
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

# label_rows EXP NAME COMMAND...: the row's phone probe again with the labels of each --compare, and with labels moved.
label_rows() {
  local aligner
  for aligner in ${compare-}; do
    need 2 "exp/align/$aligner"/{.done.2,labels/phones.ark}
    uses probe_seeds
    row "$1" "$2.$aligner" "${@:3}" --labels "exp/align/$aligner/labels"
  done
  [ -n "${label_shifts-}" ] || return 0
  uses label_shifts probe_seeds
  # shellcheck disable=SC2086  # a list of words
  row "$1" "$2.shifted" "${@:3}" --label-shift $label_shifts
}

need_label_rows() {
  local aligner
  for aligner in ${compare-}; do need 5 "$1/.done.5.$2.$aligner"; done
  [ -z "${label_shifts-}" ] || need 5 "$1/.done.5.$2.shifted"
}

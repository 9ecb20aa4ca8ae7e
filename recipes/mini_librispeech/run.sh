#!/usr/bin/env bash
# Real speech on two CPU cores, overnight where they have AMX (--estimate true says how long here): any folder in
# LibriSpeech's layout, two CPC models (negatives of mixed speakers, and of the same speaker), the paper's tables and
# figures.
#
# Usage: ./run.sh [--corpus DIR] [--option value ...]

# shellcheck disable=SC2034  # every variable up to the "source" line is an option
corpus=           # DIR in LibriSpeech's layout; without it, stage 0 downloads SLR31's train-clean-5 (330 MB)
subset=           # subsets of it to use, as "dev-clean test-clean"; default: all that are there
aligner=gmm       # phone labels: gmm, a model trained on this corpus by Kaldi's code; pocketsphinx, a ready-made one;
                  # import, labels that you have; posterior, by a classifier of an earlier run
lexicon=cmudict   # how words are said: cmudict; librispeech, which stage 0 downloads; or a "word phone phone ..." file
oov=espeak        # words outside it: pronounced by espeak, or taken as spoken noise (spn)
max_dropped=0     # utterances that may go without labels (listed in data/<set>/labels.dropped)
labels=           # for import: "FORMAT SOURCE [--symbols FILE ...]", as python -m data_prep.import_labels takes them
posteriors_of=    # for posterior: the model in exp/, as "same_speaker" or "same_speaker.z", whose probe scores the
                  # frames; or supervised_phone
compare=          # aligners, as "gmm pocketsphinx", whose labels are compared with these, and probed (the first model)
label_shifts=     # frames, as "-3 -2 -1 0 1 2 3", by which labels are moved for more probes of the first model
data_seed=1       # which utterances go into which split
models='mixed_speaker same_speaker'  # what stage 4 trains: files of conf/, without .yaml
ngpu=1            # GPUs that share out the minibatches of an update (with --device cpu: processes); see cmd.sh
seed=1            # initialisation, minibatches
pretrain_on=train  # what pretraining hears: the train split; or all utterances, those of test among them
probe_seeds="1 2 3"  # each classifier of frames is fitted with each of them, and the tables show the mean
probes="linear mlp"  # classifiers of frames: linear, and mlp, with one hidden layer
layers=c          # what of a CPC model is probed: c, the context; z, the encoder; or "c z"
probe_windows=true  # whether the first model is also probed with its context afresh every 1.28 s, as in pretraining
ablations='table_2 steps_20'  # what stage 6 trains: the nine rows of Table 2, "table_2"; others, as "steps_20
                  # same_speaker_excl", files of conf/ or ../shared/conf/ablations without .yaml; or both; '' for none
seeds=            # of those ablations that name none of their own, as "same_speaker@2,3" does; default: --seed
steps_ahead_of=   # models of Figure 3, as "steps_20 same_speaker": of exp/, or of --ablations; default: steps_20 where
                  # it is one of these, else --models
finetune=true     # whether the first model is also trained on, encoder and all, for phones and for speakers
supervised_updates=2400  # of the supervised and fine-tuned networks, at most; dev may stop them earlier
recognise='fbank mfcc39 random models'  # features whose phones are recognised: of fbank, mfcc, mfcc39, random and
                  # the --models, "models" for all of these; '' for none
recognisers="linear lstm"  # what is trained on them by CTC: a linear layer, a bidirectional LSTM; or one of them
recogniser_updates=1200  # of 8 utterances each
overrides=        # "key=value ..." over conf/*.yaml
nj=2              # processes that prepare data
note=             # a sentence on the audio, shown beside the results
device=auto       # cpu: do without GPUs; auto: a GPU that is there is used, and --ngpu N of them must be there
quick=false       # every stage in minutes, in a folder of its own (quick/): shows that all of it works on this machine
estimate=false    # say what this command will take here in time, disk and memory, and do nothing
stage=0           # first stage to run
stop_stage=9      # last stage to run
force=false       # run finished stages again
publish=false     # copy the report's files to this folder
work=             # DIR where corpus/, data/ and exp/ are written; default: this folder

# shellcheck source=../shared/pipeline.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared/pipeline.sh"

set=mini
quick_updates=20

corpus_size() { printf %s "--hours 5.3 --download 0.33"; }

get_corpus() {
  run python "$root/local/download.py" --url https://www.openslr.org/resources/31/train-clean-5.tar.gz \
    --md5 5df7d4e78065366204ca6845bb08f490 --to corpus \
    --hint "pass any folder in LibriSpeech's layout: --corpus DIR"
}

begin "$@"
run_stages

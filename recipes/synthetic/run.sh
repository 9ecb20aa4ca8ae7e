#!/usr/bin/env bash
# From audio to the report in minutes, without a corpus or a GPU: synthetic voices, exact labels, a small CPC model,
# Table 1, figures. What takes longer is off: see --ablations, --finetune, --recognise. The voices are a
# synthesiser's: the numbers show that it works, and do not compare with the paper's.
#
# Usage: ./run.sh [--option value ...]

# shellcheck disable=SC2034  # every variable up to the "source" line is an option
speakers=16       # voices
minutes=20        # of speech in all
data_seed=1       # which sentences are spoken, and which of them go into which split
compare=          # aligners, as "gmm pocketsphinx", whose labels are compared with the exact ones, and probed
label_shifts=     # frames, as "-3 -2 -1 0 1 2 3", by which labels are moved for more probes of the first model
models=mixed_speaker  # what stage 4 trains: files of conf/, without .yaml
seed=1            # initialisation, minibatches
pretrain_on=train  # what pretraining hears: the train split; or all utterances, those of test among them
probe_seeds=      # as "1 2 3": each classifier of frames is fitted with each of them, and the tables show the mean;
                  # default: --seed
probes=linear     # classifiers of frames: linear; mlp, with one hidden layer; or both
layers=c          # what of a CPC model is probed: c, the context; z, the encoder; or "c z"
ablations=        # what stage 6 trains: the nine rows of Table 2, "table_2"; or some, as "steps_2 same_speaker", files
                  # of conf/ or ../shared/conf/ablations without .yaml; or both
seeds=            # of those ablations that name none of their own, as "same_speaker@2,3" does; default: --seed
steps_ahead_of=   # models of Figure 3, as "steps_20 same_speaker": of exp/, or of --ablations; default: steps_20 where
                  # it is one of these, else --models
finetune=false    # whether the first model is also trained on, encoder and all, for phones and for speakers
supervised_updates=350  # of the supervised and fine-tuned networks, at most; dev may stop them earlier
recognise=        # features whose phones are recognised: of fbank, mfcc, mfcc39, random and the --models, "models" for
                  # all of these
recognisers="linear lstm"  # what is trained on them by CTC: a linear layer, a bidirectional LSTM; or one of them
recogniser_updates=300  # of 8 utterances each
overrides=        # "key=value ..." over conf/*.yaml
nj=2              # processes that prepare data
note='synthetic voices (espeak-ng); the numbers do not compare with the paper'  # shown beside the results
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

set=synthetic
next_step='real speech (recipes/mini_librispeech/run.sh), or features of your own audio (docs/features.md)'
quick_updates=50
corpus_options=(speakers minutes data_seed)
default_corpus=corpus

corpus_size() { printf %s "--minutes $minutes"; }

get_corpus() {
  run python -m data_prep.synthetic "$PWD/corpus" --speakers "$speakers" --minutes "$minutes" --seed "$data_seed"
}

label_needs() { reads corpus/synthetic.ctm; }
make_labels() { run python -m data_prep.import_labels ctm corpus/synthetic.ctm "data/$set" data/lang; }
reference() { printf corpus/synthetic.ctm; }

begin "$@"
run_stages

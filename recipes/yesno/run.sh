#!/usr/bin/env bash
# Hebrew "yes" and "no": recipes/yesno/run.sh CORPUS_DIR [any "speechmm fit" setting ...]
set -euo pipefail
corpus=$(realpath "${1:?usage: recipes/yesno/run.sh CORPUS_DIR [--any.key VALUE ...]}")
cd "$(dirname "$0")/../.."
data=recipes/yesno/data
run=recipes/yesno/exp/tiny
source recipes/gpu.sh
gpu_settings recipes/yesno/tiny.yaml

speechmm prepare yesno "$corpus" "$data"
speechmm tokenizer "$data/train.jsonl.gz" --kind char --out "$data/tokenizer.json"
speechmm fit --config recipes/yesno/tiny.yaml "${gpu[@]}" --ckpt_path last "${@:2}" ||
  [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" --beam 4 --ctc-weight 0.7 \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" \
  --results recipes/yesno/RESULTS.md --title "yesno test, tiny, joint beam 4, CTC weight 0.7"

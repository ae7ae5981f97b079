#!/usr/bin/env bash
# One English voice: recognise and align it, and write the durations a TTS system trains on.
# A rerun goes on where this one stopped; manifests and training that are up to date are left alone.
#   recipes/ljspeech/run.sh CORPUS_DIR [CONFIG [any "speechmm fit" setting ...]]
# Exit code 3: a command finished, and named what it left out or flagged.
set -euo pipefail
corpus=$(realpath "${1:?usage: run.sh CORPUS_DIR [CONFIG [--any.key VALUE ...]]}")
cd "$(dirname "$0")/../.."
config=${2:-recipes/ljspeech/small.yaml}
name=$(basename "$config" .yaml)
data=recipes/ljspeech/data
run=recipes/ljspeech/exp/$name
source recipes/gpu.sh
gpu_settings "$config"

speechmm prepare ljspeech "$corpus" "$data" || [[ $? == 3 ]]
speechmm tokenizer "$data/train.jsonl.gz" --kind char --out "$data/tokenizer.json"
speechmm fit --config "$config" "${gpu[@]}" --trainer.default_root_dir "$run" --ckpt_path last "${@:3}" ||
  [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" --beam 4 --ctc-weight 0.5 \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
for split in train dev test; do
  speechmm align "$data/$split.jsonl.gz" --model "$run/bundle" --format textgrid \
    --out "$run/textgrids/$split" || [[ $? == 3 ]]
  speechmm align "$data/$split.jsonl.gz" --model "$run/bundle" --format durations \
    --out "$run/durations/$split" || [[ $? == 3 ]]
done

speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" \
  --results "$run/RESULTS.md" --title "ljspeech test, $name, beam 4"
echo "report:    $run/report/report.html"
echo "alignment: $run/textgrids"
echo "durations: $run/durations"

#!/usr/bin/env bash
# English audiobooks: train, then transcribe, align and score test and (where there) test-other.
# A rerun goes on where this one stopped; manifests and training that are up to date are left alone.
#   recipes/librispeech/run.sh CORPUS_DIR [CONFIG [any "speechmm fit" setting ...]]
# Exit code 3: a command finished, and named what it left out or flagged.
set -euo pipefail
corpus=$(realpath "${1:?usage: run.sh CORPUS_DIR [CONFIG [--any.key VALUE ...]]}")
cd "$(dirname "$0")/../.."
config=${2:-recipes/librispeech/small.yaml}
name=$(basename "$config" .yaml)
data=recipes/librispeech/data
run=recipes/librispeech/exp/$name
source recipes/gpu.sh
needs_start "$name" "${@:3}"
gpu_settings "$config"
pieces=(--kind bpe --vocab-size 500)
tokenizer=tokenizer.json
search=(--beam 4)
align=()
by_config "$name" "${@:3}"

speechmm prepare librispeech "$corpus" "$data" || [[ $? == 3 ]]
((${#goes_on[@]})) || speechmm tokenizer "$data/train.jsonl.gz" "${pieces[@]}" --out "$data/$tokenizer"
speechmm fit --config "$config" "${gpu[@]}" "${goes_on[@]}" --trainer.default_root_dir "$run" \
  --ckpt_path last "${@:3}" || [[ $? == 3 ]]
for split in test test-other; do
  if [[ ! -f $data/$split.jsonl.gz ]]; then continue; fi
  speechmm transcribe "$data/$split.jsonl.gz" --model "$run/bundle" "${search[@]}" \
    --format jsonl --out "$run/$split.jsonl" || [[ $? == 3 ]]
  speechmm align "$data/$split.jsonl.gz" --model "$run/bundle" "${align[@]}" --format textgrid \
    --out "$run/textgrids/$split" || [[ $? == 3 ]]
  speechmm score "$run/$split.jsonl" "$data/$split.jsonl.gz" --out "$run/report-$split" \
    --results "$run/RESULTS.md" --title "librispeech $split, $name, beam ${search[1]}"
  echo "report:    $run/report-$split/report.html"
done
echo "alignment: $run/textgrids"

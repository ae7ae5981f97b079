#!/usr/bin/env bash
# The demo: speak a corpus, train a tiny joint model on it, transcribe and align the held-out
# voices, score both; a model with a voice speaks, too. Every command leaves finished work alone, so
# a rerun goes on where it stopped.
#   recipes/synth/run.sh [CONFIG [any "speechmm fit" setting ...]]
set -euo pipefail
cd "$(dirname "$0")/../.."
config=${1:-recipes/synth/tiny.yaml}
data=recipes/synth/data
run=recipes/synth/exp/$(basename "$config" .yaml)
source recipes/gpu.sh
gpu_settings "$config"

speechmm prepare synth "$data"
speechmm tokenizer "$data/train.jsonl.gz" --kind char --out "$data/tokenizer.json"
speechmm fit --config "$config" "${gpu[@]}" --trainer.default_root_dir "$run" --ckpt_path last "${@:2}" ||
  [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" --beam 4 --length-bonus 0.5 \
  --format jsonl --out "$run/test.jsonl"
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format textgrid \
  --out "$run/textgrids" || [[ $? == 3 ]]
lhotse subset --first 3 "$data/test.jsonl.gz" "$run/three.jsonl.gz"
speechmm align "$run/three.jsonl.gz" --model "$run/bundle" --pictures "$run/pictures" \
  --format jsonl --out "$run/three-aligned.jsonl" || [[ $? == 3 ]]

spoken=()
if speechmm info "$run/bundle" --json | grep -q '"speakers"'; then
  speechmm synthesize "$run/three.jsonl.gz" --model "$run/bundle" --out "$run/spoken" \
    --times "$run/spoken.jsonl" || [[ $? == 3 ]]
  spoken=(--spoken "$run/spoken.jsonl")
fi

results=$run/RESULTS.md
[[ $config != recipes/synth/tiny.yaml ]] || results=recipes/synth/RESULTS.md
speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" "${spoken[@]}" \
  --results "$results" --title "synth test, $(basename "$config" .yaml), joint beam 4"
speechmm score-alignment "$run/textgrids" "$data/test.jsonl.gz" --out "$run/report" \
  --results "$results" --title "synth test, $(basename "$config" .yaml), word boundaries"
echo "report:     $run/report/report.html"
echo "alignments: $run/textgrids, $run/pictures"
[[ ! -e $run/spoken ]] || echo "spoken:     $run/spoken"

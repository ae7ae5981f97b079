#!/usr/bin/env bash
# The demo: speak a corpus, train a tiny joint model on it, have it learn to speak, transcribe and align
# the held-out voices, score both, and say three of the sentences. Every command leaves finished work
# alone, so a rerun goes on where it stopped.
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
bundle=$run/bundle
if ! speechmm info "$bundle" --json | grep -q '"speakers"'; then # a voice on what it has learned
  gpu_settings recipes/synth/voice.yaml
  speechmm fit --config recipes/synth/voice.yaml "${gpu[@]}" --init_from "$bundle" \
    --trainer.default_root_dir "$run/voice" --ckpt_path last || [[ $? == 3 ]]
  bundle=$run/voice/bundle
fi
speechmm transcribe "$data/test.jsonl.gz" --model "$bundle" --beam 4 --length-bonus 0.5 \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
speechmm align "$data/test.jsonl.gz" --model "$bundle" --format textgrid \
  --out "$run/textgrids" || [[ $? == 3 ]]
lhotse subset --first 3 "$data/test.jsonl.gz" "$run/three.jsonl.gz"
speechmm align "$run/three.jsonl.gz" --model "$bundle" --pictures "$run/pictures" \
  --format jsonl --out "$run/three-aligned.jsonl" || [[ $? == 3 ]]

speechmm synthesize "$run/three.jsonl.gz" --model "$bundle" --out "$run/spoken" \
  --times "$run/spoken.jsonl" || [[ $? == 3 ]]

results=$run/RESULTS.md
[[ $config != recipes/synth/tiny.yaml ]] || results=recipes/synth/RESULTS.md
speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" --spoken "$run/spoken.jsonl" \
  --results "$results" --title "synth test, $(basename "$config" .yaml), joint beam 4"
speechmm score-alignment "$run/textgrids" "$data/test.jsonl.gz" --out "$run/report" \
  --results "$results" --title "synth test, $(basename "$config" .yaml), word boundaries"
echo "report:     $run/report/report.html"
echo "alignments: $run/textgrids, $run/pictures"
echo "spoken:     $run/spoken"

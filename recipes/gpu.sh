# shellcheck shell=bash disable=SC2034  # the scripts that source this read "gpu"
# Sourced by every run.sh: where there is a GPU, the settings beside a config that suit it.
#   gpu_settings recipes/an4/small.yaml
# sets the array "gpu" to (--config recipes/an4/small.gpu.yaml) if the machine has an NVIDIA GPU that
# CUDA_VISIBLE_DEVICES does not hide and there is such a file, and to () otherwise.
gpu_settings() {
  gpu=()
  local beside=${1%.yaml}.gpu.yaml
  if [[ -f $beside && ${CUDA_VISIBLE_DEVICES-all} != "" && ${CUDA_VISIBLE_DEVICES-all} != -1 ]] &&
    nvidia-smi --list-gpus 2> /dev/null | grep -q .; then
    gpu=(--config "$beside")
    echo "a GPU is here: $beside is used too" >&2
  fi
}

# Ends with exit code 2 where the config goes on from something that others trained, and no setting names it.
#   needs_start finetune --model.pretrained whisper-base
needs_start() {
  if [[ ($1 == finetune || $1 == continue) && " ${*:2}" != *" --model.pretrained"* &&
    " ${*:2}" != *" --init_from"* ]]; then
    echo "$1.yaml: found no starting point; expected --model.pretrained FOLDER or --init_from BUNDLE" \
      "after it. Name one (docs/fine-tuning.md)." >&2
    exit 2
  fi
}

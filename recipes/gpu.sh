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

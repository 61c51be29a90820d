#!/bin/sh
# Serves a policy on loopback for `engine.name = "server"`:
#
#   infra/serve.sh FOLDER [PORT] [more options of vllm serve]
#
# then: engine.url = "http://127.0.0.1:PORT/v1", engine.model = "policy", profile with it.
# The client sends token ids and gets token ids and log-probabilities back (`return_token_ids`).
set -eu
folder=$1
port=${2:-8000}
[ $# -gt 1 ] && shift 2 || shift 1

# No usage statistics leave the machine, and what vLLM starts listens on it alone.
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 VLLM_HOST_IP=127.0.0.1

# processed_logprobs: of the distribution that was sampled from (temperature, top_p), as training
#   needs them. prefix caching: the K samples of a prompt and the turns of a trajectory share keys.
# generation-config vllm: the folder's own defaults (top_k, penalties) would change the policy.
# load-format: no pickle is read.
# python -m: the command `vllm` wants package metadata that the build for CPUs lacks.
# Loopback alone: the server has no key. To serve other machines, put a proxy with one before it.
exec python -m vllm.entrypoints.openai.api_server --model "$folder" \
    --served-model-name policy \
    --host 127.0.0.1 --port "$port" \
    --enable-prefix-caching \
    --logprobs-mode processed_logprobs \
    --generation-config vllm \
    --load-format safetensors \
    "$@"

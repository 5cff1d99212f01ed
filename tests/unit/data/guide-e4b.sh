#!/usr/bin/env bash
set -euo pipefail
IMAGE=vllm/vllm-openai-rocm:v0.20.1
MODEL=google/gemma-4-E4B-it
mkdir -p "$HOME/.cache/vllm" "$HOME/.cache/huggingface" "$HOME/models"
docker run --rm -it \
--name vllm-gemma4 \
--network=host \
--ipc=host \
--shm-size=16G \
\
--device=/dev/kfd \
--device=/dev/dri \
--group-add=video \
--group-add=render \
--cap-add=SYS_PTRACE \
--security-opt seccomp=unconfined \
\
-e HSA_OVERRIDE_GFX_VERSION=11.5.0 \
-e HSA_ENABLE_SDMA=0 \
-e ROCBLAS_USE_HIPBLASLT=1 \
-e HIP_FORCE_DEV_KERNARG=1 \
-e SAFETENSORS_FAST_GPU=1 \
-e TOKENIZERS_PARALLELISM=false \
-e TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1 \
-e HF_TOKEN="${HF_TOKEN:-}" \
\
-v "$HOME/.cache/huggingface:/root/.cache/huggingface" \
-v "$HOME/.cache/vllm:/root/.cache/vllm" \
-v "$HOME/models:/app/models" \
\
"$IMAGE" \
"$MODEL" \
--dtype float16 \
--max-model-len 131072 \
--gpu-memory-utilization 0.85 \
--enable-prefix-caching \
--enable-auto-tool-choice \
--tool-call-parser gemma4 \
--safetensors-load-strategy=prefetch \
--host 0.0.0.0 \
--port 8000

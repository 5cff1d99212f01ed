#!/usr/bin/env bash
set -euo pipefail
IMAGE=vllm/vllm-openai-rocm:latest
MODEL=google/gemma-4-26B-A4B-it
mkdir -p "$HOME/.cache/tunableop"
sudo sysctl -w vm.overcommit_memory=1
docker run --rm -it \
--name vllm-gemma4 \
--network=host \
--ipc=host \
--shm-size=4G \
--ulimit memlock=-1 \
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
-e TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1 \
-e PYTORCH_TUNABLEOP_ENABLED=1 \
-e PYTORCH_TUNABLEOP_TUNING=1 \
-e PYTORCH_TUNABLEOP_VERBOSE=0 \
-e PYTORCH_TUNABLEOP_FILENAME=/root/.cache/tunableop/gemma4_gfx1150.csv \
-e NCCL_P2P_DISABLE=1 \
-e NCCL_SHM_DISABLE=1 \
-e TOKENIZERS_PARALLELISM=false \
-e HF_TOKEN="${HF_TOKEN:-}" \
\
-v "$HOME/.cache/huggingface:/root/.cache/huggingface" \
-v "$HOME/.cache/vllm:/root/.cache/vllm" \
-v "$HOME/.cache/tunableop:/root/.cache/tunableop" \
-v "$HOME/models:/app/models" \
-v "$HOME/workspace:/app/workspace" \
\
"$IMAGE" \
"$MODEL" \
--dtype bfloat16 \
--max-model-len 32768 \
--gpu-memory-utilization 0.92 \
--enable-prefix-caching \
--enable-auto-tool-choice \
--tool-call-parser gemma4 \
--max-num-seqs 4 \
--block-size 32 \
--disable-log-requests \
--host 0.0.0.0 \
--port 8000

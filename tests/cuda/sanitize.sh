#!/usr/bin/env bash
# The GPU tests under compute-sanitizer: memory, races in shared memory, uninitialised reads. Python as first argument.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
if ! command -v compute-sanitizer >/dev/null; then
  echo "cuda-sanitize: skipped: needs compute-sanitizer, of the CUDA toolkit"
  exit 0
fi
if ! nvidia-smi -L >/dev/null 2>&1; then
  echo "cuda-sanitize: skipped: needs an NVIDIA GPU"
  exit 0
fi
for tool in memcheck racecheck initcheck; do
  echo "cuda-sanitize: $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m pytest tests/cuda -m cuda -q -k "not more_elements"
done

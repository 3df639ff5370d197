#!/usr/bin/env bash
# All that needs a GPU, in one command within ten minutes: benchmarks/gpu.py with its page and log.
#
# Usage: bash benchmarks/gpu_check.sh [arguments of benchmarks/gpu.py]
#
# Needs python3 (or $PYTHON) with JAX for CUDA, NVRTC with CUDA's headers (a toolkit, or NVIDIA's
# wheels) and a C++ compiler; nothing is downloaded. Packages that are missing come as wheels in the
# folder .whl of the checkout, where there is a network:
#   python3 -m pip download --no-deps -d .whl jax==0.12.0.1 tinygrad==0.14.0 piqp==0.6.4
# They are put beside the machine's own packages: its jaxlib and CUDA plugin (0.11.2 or newer) stay.
# Results go to $OUT, by default a new folder. GPU_SECONDS (default 570) limits all of it; sections
# are written as they end.
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-$(mktemp -d)}
site=$(mktemp -d)
if compgen -G ".whl/*.whl" >/dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
    .whl/*.whl || exit 1
fi
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export ANVIL_JAX_CACHE_DIR="$site/cache" XLA_PYTHON_CLIENT_PREALLOCATE=false
{
  date
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv
  nvcc --version | tail -2
  command -v g++ clang++ compute-sanitizer
  "$python" -c "import jax, jaxlib; print('jax', jax.__version__, 'jaxlib', jaxlib.__version__)
print(jax.devices())"
  "$python" -m anvil_jax doctor
} >"$out/environment.txt" 2>&1
cat "$out/environment.txt"

if [ $# -eq 0 ]; then
  set -- timing cases sanitizer static --sanitizer-seconds 150
fi
set -o pipefail
cp docs/gpu.md "$out/gpu.md" 2>/dev/null
timeout "${GPU_SECONDS:-570}" "$python" benchmarks/gpu.py "$@" --write \
  --page "$out/gpu.md" 2>&1 | tee "$out/log.txt"
status=$?
echo "exit status $status; results in $out: gpu.md, log.txt, environment.txt"
exit $status

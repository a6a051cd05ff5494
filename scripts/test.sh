#!/usr/bin/env bash
# Installs the project and its test tools into .venv and runs the tests on two processes.
# Arguments go to pytest: `bash scripts/test.sh tests/test_cli.py -k help`. Needs Python 3.11.
set -euo pipefail
# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ensure_environment test --editable '.[tfds]' --group test
cd "$top"
# Programs that tests compile are kept, so that a second run takes less than half the time.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$venv/xla-tests}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0.1}
exec "$python" -m pytest -n 2 --dist loadgroup "$@"

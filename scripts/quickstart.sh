#!/usr/bin/env bash
# Installs the project into .venv, runs the DT-KD study on scikit-learn's digits, and says where its
# report is. Needs Python 3.11 or newer. Further arguments go to `fedjax-kd run`.
set -euo pipefail
# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ensure_environment run --editable .
cd "$top"
exec "$python" -m fedjax_kd.cli run experiments/dt_kd/digits.yaml --out results/quickstart "$@"

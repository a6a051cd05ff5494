# Sourced by the other scripts: makes the Python environment of this checkout, once.
#
#   ensure_environment ROLE [pip arguments ...]
#
# Afterwards .venv holds the project (editable) and what the pip arguments ask for, pinned by
# constraints.txt, and $python is its interpreter. A file in .venv remembers the role and what it
# was installed from, so that the next call with nothing changed returns at once, without network.
# A role may use what another one installed: `dev` includes `test`, and `test` includes `run`.
# $FEDJAX_KD_VENV puts the environment elsewhere; $PYTHON chooses the interpreter that makes it.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${FEDJAX_KD_VENV:-$top/.venv}
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

stop() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  stop "Python 3.11 or newer is needed; found none as ${PYTHON:-python3.13, python3.12, python3.11, python3 or python}"
}

# What the environment is made of: the two files that say what to install, and where it lies.
recipe() {
  printf '%s %s ' "$top" "$venv"
  cat "$top/pyproject.toml" "$top/scripts/constraints.txt" | cksum
}

installed() {
  local role
  [ -x "$python" ] || return 1
  for role in "$@"; do
    if [ "$(cat "$venv/fedjax-kd-$role" 2>/dev/null)" = "$(recipe)" ]; then
      return 0
    fi
  done
  return 1
}

ensure_environment() {
  local role=$1 base pin
  shift
  case $role in
    run) installed run test dev && return ;;
    test) installed test dev && return ;;
    *) installed "$role" && return ;;
  esac
  if ! "$python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    base=$(find_python) || exit 1
    printf 'Making a Python environment in %s\n' "$venv"
    "$base" -m venv "$venv" || stop "$base cannot make an environment in $venv; on Debian and Ubuntu install python3-venv"
  fi
  printf 'Installing the pinned packages (once; a few minutes on a slow connection)\n'
  pin=$(grep '^pip==' "$top/scripts/constraints.txt")
  "$python" -m pip install --quiet "$pin" || stop "pip could not be brought up to date"
  (
    cd "$top" || exit 1
    "$python" -m pip install --quiet --constraint scripts/constraints.txt \
      --build-constraint scripts/constraints.txt "$@"
  ) || stop "the installation failed; the lines above say why"
  recipe >"$venv/fedjax-kd-$role"
}

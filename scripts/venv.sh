# Sourced by ./demo and ./test: a virtual environment in .venv, made by the first Python >= 3.11 found.

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
       "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Modelport needs Python 3.11 or newer and none was found" >&2
  return 4
}

# A .venv that does not run (moved, or its Python removed) is made again.
make_venv() {
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    local python
    python=$(find_python) || exit 4
    echo "making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv || {
      echo "error: python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
      exit 4
    }
  fi
}

# once NAME COMMAND…: run the command unless it has succeeded before with the same pyproject.toml.
once() {
  local stamp=.venv/.$1 now
  now=$(cat pyproject.toml scripts/venv.sh | cksum)
  shift
  if [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
    "$@" || exit $?
    echo "$now" >"$stamp"
  fi
}

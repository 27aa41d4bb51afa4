# shellcheck shell=bash disable=SC2034
# Used by deploy.sh: how commands are run and shown, and what is said when one fails.

WORK="" STEP="" WRITING=no MADE=()

fail() {
  printf '%s\n' "$@" >&2
  STEP="" WRITING=no
  exit 1
}

say() { printf '%s\n' "$@"; }

# A step is what is named when it fails.
step() {
  STEP=$1
  if [ "$DRY_RUN" = yes ]; then say "" "# $1"; else say "- $1"; fi
}

prepare_work() {
  umask 077
  WORK=$(mktemp -d)
  mkdir "$WORK/now" "$WORK/secrets"
  trap finish EXIT
  trap 'exit 130' INT TERM
}

finish() {
  local code=$?
  [ -z "$WORK" ] || rm -rf "$WORK"
  [ "$code" -ne 0 ] && [ "$WRITING" = yes ] || exit "$code"
  {
    say "" "This step failed: $STEP."
    [ ${#MADE[@]} -eq 0 ] || say "Made so far: $(joined "${MADE[@]}")."
    say "Nothing is lost: run the same command again, and it goes on from here."
    [ "$ACTION" = delete ] || say "What the function itself says: ./deploy.sh $NAME --logs" \
      "To take away what was made: ./deploy.sh $NAME --delete"
  } >&2
  exit "$code"
}

joined() {
  local all
  all=$(printf ', %s' "$@")
  printf '%s' "${all#, }"
}

# `ask FILE command...` reads the cloud into FILE of the work folder. A dry run finds nothing there.
ask() {
  local file=$1
  shift
  : >"$WORK/$file"
  if [ "$DRY_RUN" = yes ]; then
    show "$@"
  else
    "$@" >"$WORK/$file" 2>"$WORK/err" </dev/null
  fi
}

# As `ask`, where a no is an answer: that there is nothing yet, or its API was never switched on.
ask_if_there() {
  ask "$@" && return
  : >"$WORK/$1"
  grep -qiE 'not.?found|does not exist|may not exist|not been used|disabled' "$WORK/err" ||
    stop_with_error
}

# `run command...` changes something: shown in a dry run, quiet otherwise unless it fails.
run() {
  if [ "$DRY_RUN" = yes ]; then
    show "$@"
  else
    "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || stop_with_error
  fi
}

# As `run`, patient with an account that the rest of Google has not heard of yet.
run_when_known() {
  [ "$DRY_RUN" = no ] || { show "$@"; return; }
  local pause
  for pause in 1 2 4 8 15 30 0; do
    "$@" >"$WORK/out" 2>"$WORK/err" </dev/null && return
    grep -qi 'does not exist' "$WORK/err" || stop_with_error
    sleep "$pause"
  done
  stop_with_error
}

stop_with_error() {
  cat "$WORK/err" >&2
  exit 1
}

# Prints a command so that it can be pasted into a shell.
show() {
  local word line=""
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@,+~%-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="$word "
  done
  say "${line% }"
}

# `python MODULE ...` with what chat/settings needs.
python() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.:$WORK/lib "$PYTHON" -m "dev.$1" "${@:2}"; }

state() { python deploy_state "$1" "$WORK" "${@:2}"; }

# The tests' environment if there is one, else the Python that gcloud brings.
find_python() {
  PYTHON=.venv/bin/python
  "$PYTHON" -c '' 2>/dev/null && return
  PYTHON=$(gcloud info --format='value(basic.python_location)' 2>/dev/null)
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || PYTHON=python3
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "gcloud runs on an old Python here. Update it: gcloud components update" \
      "Or let the tests' environment be used: make .venv/installed"
}

# The two packages that reading settings takes.
find_packages() {
  python deploy_settings none "$WORK" 2>/dev/null && return
  # Each package stands in requirements.txt with its hashes, in a block that ends before the next.
  awk '/^[a-zA-Z]/ { wanted = /^(msgspec|python-dotenv)==/ } wanted' requirements.txt \
    >"$WORK/needed.txt"
  "$PYTHON" -m pip install -q --no-deps --require-hashes --target "$WORK/lib" \
    -r "$WORK/needed.txt" >"$WORK/err" 2>&1 || stop_with_error
}

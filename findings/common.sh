# Sourced by each finding, which is a script of three parts: a header that says what was seen, the packages, a program.
#
# packages NAME==VERSION...   makes a temporary environment with these, which is removed at the end
# seen                        runs the program on standard input there; what it prints has to be the lines of the header
#                             after "Seen", which begin with "#   ". Otherwise the script shows both and fails.

set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

packages() {
    "${PYTHON:-python3}" -m venv "$place/env"
    "$place/env/bin/pip" install --quiet --quiet --disable-pip-version-check --only-binary :all: "$@"
}

seen() {
    sed -n '/^# Seen/,/^#$/s/^#   //p' "$0" > "$place/expected"
    [ -s "$place/expected" ] || { echo "$0: its header has no line of output" >&2; exit 1; }
    cat > "$place/program.py"
    (cd "$place" && "$place/env/bin/python" -W ignore program.py > output) || { echo "$0: the program failed" >&2; exit 1; }
    diff -u --label header "$place/expected" --label "now" "$place/output" || { echo "$0: this has changed" >&2; exit 1; }
    echo "$0: as described"
}

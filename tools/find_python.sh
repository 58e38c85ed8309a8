#!/bin/sh
# Prints the path of the first Python >= 3.11 on PATH that has pip >= 22.3 (the first with --python).
# PYTHON=name-or-path looks at that one alone. Our own .venv is passed over: it may be activated, and is about to be deleted.
check='
import os, sys
if os.path.realpath(sys.prefix) == os.path.realpath(".venv"): sys.exit("is the one that would be made anew")
if sys.version_info < (3, 11): sys.exit("is Python %d.%d" % sys.version_info[:2])
try: import pip, venv
except ImportError as problem: sys.exit("has no module " + problem.name)
if tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3): sys.exit("has pip " + pip.__version__)
'
seen=''
try() {
    [ -f "$1" ] && [ -x "$1" ] || return 1
    if problem=$("$1" -c "$check" 2>&1); then printf '%s\n' "$1"; exit 0; fi
    # Only the last line: a version manager's shim that leads nowhere has a lot to say.
    seen="$seen
  $1: $(printf '%s\n' "$problem" | tail -n 1)"
}
if [ -n "$PYTHON" ]; then
    try "$(command -v "$PYTHON")" || seen=" no $PYTHON"
else
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        IFS=:
        for folder in $PATH; do try "$folder/$name"; done
        unset IFS
    done
fi
echo "durable-core needs Python >= 3.11 with pip >= 22.3; found:${seen:- none}" >&2
echo "Install them (Debian: apt install python3 python3-pip), or say which: make PYTHON=/path/to/python3 …" >&2
exit 1

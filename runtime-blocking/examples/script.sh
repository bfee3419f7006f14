#!/bin/sh
# Fetches an invoice with `origin call` and acts on the exit code.
#
#   ORIGIN_DISCOVERY=http://…/api/v1/services ./script.sh [service] [path]
#
# The codes are listed by `origin call --help`.
set -u
service=${1:-billing}
path=${2:-/invoices/7}
origin=${ORIGIN:-origin}

body=$("$origin" call "$service" GET "$path" --timeout 5s --attempt-timeout 1s --fail)
code=$?
case $code in
    0) printf '%s\n' "$body" ;;
    2) echo "there is no service called $service" >&2 ;;
    3 | 4 | 7) echo "$service cannot be reached now; try again later" >&2 ;;
    5) echo "$service does not accept GET $path" >&2 ;;
    6) echo "$service is in trouble" >&2 ;;
    *) echo "this script or its configuration is wrong" >&2 ;;
esac
exit "$code"

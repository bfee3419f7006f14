#!/bin/sh
# The same report as examples/report.rs, from a shell: collects invoices, stamps the report, stores it
# and checks what was stored. Ends with the exit code of what failed; `origin --help` lists them.
#
#   cargo origin demo --serve      # in another shell; prints the variables
#   ORIGIN_DISCOVERY=… ORIGIN_LOCAL_CLUSTER=beta VAULT_CLIENT_TOKEN=… ./report.sh
set -eu
origin=${ORIGIN:-origin}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for service in billing storage secrets metadata-stamping; do
    "$origin" services "$service" >/dev/null 2>"$work/errors" || { cat "$work/errors" >&2; exit 2; }
done

for number in 1 2 3 4 5; do
    printf '%s\t' "$number"
    "$origin" call billing "/invoices/$number" --timeout 5s --fail
    echo
done >"$work/report"
key=$("$origin" secret get app/report-key --field value)
echo "signed with a key of ${#key} characters" >>"$work/report"

"$origin" object put reports invoices.tsv "$work/report" --content-type text/tab-separated-values
"$origin" object get reports invoices.tsv --output "$work/back"
cmp "$work/report" "$work/back"
"$origin" stamp "$work/back" --data kind=report

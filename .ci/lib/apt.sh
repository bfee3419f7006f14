# Two ways to get at Debian packages, to be sourced: into the system, and single files out of a
# package of another suite. No host is named here: packages come from where this machine gets its own.

# apt_install PACKAGE...: into the system, starting no service. Needs root.
apt_install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "cannot install $*: that needs root and apt-get" >&2
        return 1
    fi
    # Maintainer scripts ask this file whether they may start a service; 101 says no.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -q update >/dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -q \
            --no-install-recommends "$@" >/dev/null
}

# apt_source SUITE: the first source of the machine's own release, with only the suite replaced.
# Deb822 stanzas stay stanzas, lines stay lines; the first word printed says which.
apt_source() {
    local own
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$own" ] || return 1
    awk -v own="$own" -v suite="$1" '
        function has(list, word,   n, i, words) {
            n = split(list, words, /[ \t]+/)
            for (i = 1; i <= n; i++) if (words[i] == word) return 1
            return 0
        }
        # One stanza is over: print it if it is a source of the release itself.
        function stanza() {
            if (!found && has(kinds, "deb") && has(suites, own) && has(components, "main") && !off) {
                printf "sources\nTypes: deb\nSuites: %s\nComponents: main\n%s", suite, rest
                found = 1
            }
            kinds = suites = components = rest = ""; off = 0; more = 0
        }
        FNR == 1 { stanza() }
        /^#/ { next }
        FILENAME ~ /\.sources$/ && /^[ \t]*$/ { stanza(); next }
        FILENAME ~ /\.sources$/ {
            if (/^[ \t]/) { if (more) rest = rest $0 "\n"; next }
            key = tolower($0); sub(/:.*/, "", key)
            value = $0; sub(/^[^:]*:[ \t]*/, "", value)
            more = 0
            if (key == "types") kinds = value
            else if (key == "suites") suites = value
            else if (key == "components") components = value
            else if (key == "enabled") off = (tolower(value) == "no")
            else { rest = rest $0 "\n"; more = 1 }
            next
        }
        $1 == "deb" && !found {
            # deb [options] address suite component...
            options = ""
            line = $0; sub(/^deb[ \t]+/, "", line)
            if (line ~ /^\[/) {
                options = line; sub(/\].*/, "] ", options)
                sub(/^\[[^]]*\][ \t]*/, "", line)
            }
            n = split(line, words, /[ \t]+/)
            components = ""
            for (i = 3; i <= n; i++) components = components " " words[i]
            if (words[2] == own && has(components, "main")) {
                printf "list\ndeb %s%s %s main\n", options, words[1], suite
                found = 1
            }
            components = ""
        }
        END { stanza(); exit !found }
    ' $(find /etc/apt/sources.list.d -name '*.sources' 2>/dev/null | sort) \
        $(ls /etc/apt/sources.list 2>/dev/null) \
        $(find /etc/apt/sources.list.d -name '*.list' 2>/dev/null | sort) /dev/null
}

# apt_extract SUITE PACKAGE MEMBER FILE: puts MEMBER of a PACKAGE of another SUITE at FILE. apt works
# in a directory of its own, so that the system's package lists, preferences and packages stay as
# they are; signatures are checked as for the machine's own source. Needs no root.
apt_extract() (
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
        echo "cannot fetch $2: no apt-get" >&2
        exit 1
    }
    root=$(mktemp -d) || exit 1
    trap 'rm -rf "$root"' EXIT
    mkdir -p "$root"/{sources,preferences,lists/partial,archives/partial,out}
    : >"$root/status"
    apt_source "$1" >"$root/source" || {
        echo "cannot fetch $2: no apt source of this release to derive one of $1 from" >&2
        exit 1
    }
    tail -n +2 "$root/source" >"$root/sources/other.$(head -n 1 "$root/source")"
    cat >"$root/apt.conf" <<CONF
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$root/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$root/preferences";
Dir::State "$root";
Dir::State::Lists "$root/lists";
Dir::State::status "$root/status";
Dir::Cache "$root";
Dir::Cache::Archives "$root/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
// A suite past its support is no longer renewed.
Acquire::Check-Valid-Until "false";
CONF
    [ "$(id -u)" != 0 ] || echo 'APT::Sandbox::User "root";' >>"$root/apt.conf"
    export APT_CONFIG=$root/apt.conf
    apt-get -q update >"$root/log" 2>&1 &&
        (cd "$root/out" && apt-get -q download "$2" >>"$root/log" 2>&1) || {
        echo "cannot fetch $2 of $1:" >&2
        tail -n 5 "$root/log" >&2
        exit 1
    }
    # Into place in one step, so that two runs beside each other never see half a file.
    dpkg-deb -x "$root"/out/"$2"_*.deb "$root/tree" &&
        mkdir -p "$(dirname "$4")" &&
        install -m 0755 "$root/tree/$3" "$4.$$" &&
        mv -f "$4.$$" "$4"
)

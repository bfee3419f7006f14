//! The core stays pure, enforced by machine: what it depends on is an exact list, and names that
//! stand for a clock, IO, threads, locks or ambient randomness do not occur in its code.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything the core is built from, with all features. A new name here needs a reason: it must
/// do no IO, read no clock, and start no thread.
const ALLOWED: &[&str] = &[
    "base64",
    "block-buffer",
    "bytes",
    "cfg-if",
    "cmov",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "digest",
    "dyn-clone",
    "foldhash",
    "hmac",
    "http",
    "httpdate",
    "hybrid-array",
    "itoa",
    "md-5",
    "memchr",
    "origin-core",
    "percent-encoding",
    "proc-macro2",
    "quote",
    "ref-cast",
    "ref-cast-impl",
    "schemars",
    "schemars_derive",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_derive_internals",
    "serde_json",
    "serde_spanned",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "toml",
    "toml_datetime",
    "toml_parser",
    "typenum",
    "unicode-ident",
    "winnow",
    "zmij",
];

const FORBIDDEN: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "Mutex",
    "RwLock",
    "Atomic",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "thread_local",
    "thread_rng",
    "RandomState",
    "HashMap",
    "HashSet",
    "async fn",
    "println!",
    "eprintln!",
];

#[test]
fn what_the_core_depends_on_is_an_exact_list() {
    let tree = |extra: &[&str]| -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "-p", "origin-core", "-e", "normal", "--prefix", "none", "--offline"])
            .args(extra)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let all = tree(&["--all-features"]);
    let allowed: BTreeSet<String> = ALLOWED.iter().map(|name| (*name).to_owned()).collect();
    let strangers: Vec<_> = all.difference(&allowed).collect();
    assert!(strangers.is_empty(), "not on the list: {strangers:?}");
    let gone: Vec<_> = allowed.difference(&all).collect();
    assert!(gone.is_empty(), "on the list but not used any more: {gone:?}");
    assert!(!tree(&[]).contains("toml"), "toml is a feature");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without its test module, which comes last.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines();
    lines.map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_in_the_code_of_the_core_reads_a_clock_or_does_io() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    let mut found = Vec::new();
    for path in files {
        let code = code(&std::fs::read_to_string(&path).unwrap());
        for name in FORBIDDEN {
            if code.contains(name) {
                found.push(format!("{} in {}", name, path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_scan_sees_code_and_only_code() {
    assert!(code("let x = Instant::now();").contains("Instant::now"));
    assert!(!code("// Instant::now\nlet x = 1; // Mutex").contains("now"));
    assert!(!code("fn a() {}\n#[cfg(test)]\nmod tests { Mutex }").contains("Mutex"));
}

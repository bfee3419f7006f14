//! The corpus of the fuzz targets, replayed: every file of `core/tests/corpus/<target>/` and the
//! beginnings of each. A file called `good…` must be read and one called `bad…` refused; of others
//! only what the target itself checks is asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)] // test code

#[path = "operations/mod.rs"]
mod operations;
#[path = "parsers/mod.rs"]
mod parsers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Fewest files in a folder.
const LEAST: usize = 5;
/// Most bytes in a file, and most files in a folder: the corpus is for people as well.
const MOST: (u64, usize) = (64 << 10, 60);
/// Beginnings of a file that are tried.
const CUTS: usize = 256;

fn inside(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

#[test]
fn x_11_every_target_has_a_folder_and_every_folder_a_target() {
    let folders: Vec<PathBuf> = inside(&corpus());
    let folders: BTreeSet<&str> = folders.iter().map(|path| name(path)).collect();
    let targets: BTreeSet<&str> = parsers::TARGETS.iter().map(|(target, _)| *target).collect();
    assert_eq!(folders, targets);
    assert_eq!(targets.len(), parsers::TARGETS.len());
    assert!(targets.iter().all(|target| parsers::find(target).is_some()));
}

fn replay(target: &str) {
    let parse = parsers::find(target).unwrap();
    let files = inside(&corpus().join(target));
    assert!((LEAST..=MOST.1).contains(&files.len()), "{target} has {} files", files.len());
    for path in &files {
        let name = name(path);
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.len() as u64 <= MOST.0, "{target}/{name} is too large");
        let verdict = parse(name, &bytes);
        match name.split(['-', '_', '.']).next() {
            Some("good") => assert_eq!(verdict, Ok(()), "{target}/{name}"),
            Some("bad") => assert!(verdict.is_err(), "{target}/{name} was accepted"),
            _ => {}
        }
        for cut in (0..bytes.len()).step_by(bytes.len().div_ceil(CUTS).max(1)) {
            let _ = parse("cut", &bytes[..cut]);
        }
    }
}

/// One test for each target, so that a failure says which.
macro_rules! replays {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            replay($target);
        })*

        #[test]
        fn x_11_every_target_is_replayed() {
            let replayed = BTreeSet::from([$($target),*]);
            assert!(parsers::TARGETS.iter().all(|(target, _)| replayed.contains(target)));
        }
    };
}

replays! {
    x_11_bridge: "bridge",
    x_11_cache_control: "cache_control",
    x_11_cache_record: "cache_record",
    x_11_certificate: "certificate",
    x_11_consul_agent: "consul_agent",
    x_11_consul_catalogue: "consul_catalogue",
    x_11_consul_connect: "consul_connect",
    x_11_consul_entries: "consul_entries",
    x_11_consul_error: "consul_error",
    x_11_consul_health: "consul_health",
    x_11_consul_kv: "consul_kv",
    x_11_consul_template: "consul_template",
    x_11_design_synapse: "design_synapse",
    x_11_dns: "dns",
    x_11_dns_lookup: "dns_lookup",
    x_11_document: "document",
    x_11_environment: "environment",
    x_11_kept: "kept",
    x_11_origin_toml: "origin_toml",
    x_11_any_operation: "operations",
    x_11_origin_vault: "origin_vault",
    x_11_words_about_breakers: "redis_record",
    case_004_46_lists_of_instances: "redis_value",
    x_11_replies_of_redis: "resp",
    x_11_refusals_of_storage: "s3_error",
    x_11_listings_of_buckets: "s3_list",
    x_11_uploads_in_parts: "s3_upload",
    x_11_services_file: "services_file",
    x_11_vault_auth: "vault_auth",
    x_11_vault_error: "vault_error",
    x_11_vault_health: "vault_health",
    x_11_vault_kv: "vault_kv",
}

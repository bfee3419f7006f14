//! One program for all targets, so that all of them are built at once: the one to be fuzzed is
//! named in `ORIGIN_FUZZ_TARGET`. `fuzz/run` sets it.
#![no_main]

#[path = "../../core/tests/operations/mod.rs"]
mod operations;
#[path = "../../core/tests/parsers/mod.rs"]
mod parsers;

use std::sync::LazyLock;

static TARGET: LazyLock<parsers::Parser> = LazyLock::new(|| {
    let target = std::env::var("ORIGIN_FUZZ_TARGET").unwrap_or_default();
    parsers::find(&target).unwrap_or_else(|| panic!("there is no target {target:?}"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = TARGET("fuzz", bytes);
});

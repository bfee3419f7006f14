//! Finding the programs: those of `.ci/servers` first, then those of the system.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a program is: `.servers/bin` of the work tree, then `PATH`, then the directories that
/// hold daemons and are often not in it.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.servers/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Where a program is, or `None` with a loud word.
///
/// # Panics
/// Under `CI=true`, where every server must be there.
#[must_use]
pub fn need(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        let ci = env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "{program} is not installed; .ci/servers installs it, and CI must have it");
        // Not by `eprintln!`: the test harness would keep that of a passing test to itself.
        let word = format!("SKIPPED: {program} is not installed, run .ci/servers\n");
        let _ = std::io::stderr().write_all(word.as_bytes());
    }
    found
}

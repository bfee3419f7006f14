//! The seeds of the fuzz targets of environment, services file and snapshot, replayed: a file
//! called `good-…` must be read, one called `bad-…` refused, and no refusal may repeat a secret.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // test code

use std::path::Path;

use origin_core::Wall;
use origin_core::config::EnvironmentConfig;
use origin_core::discovery::environment::{self, Environment};
use origin_core::discovery::file::Content;
use origin_core::discovery::kept::{self, Kept};

/// Reads every file of a folder with `read`, which gives the refusal as text.
fn replay(folder: &str, least: usize, read: impl Fn(&str, &[u8]) -> Result<(), String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let got = read(&name, &std::fs::read(&path).unwrap());
        if let Err(refusal) = &got {
            assert!(!refusal.contains("hunter2"), "{name}: {refusal}");
        }
        match name.split('-').next() {
            Some("good") => assert!(got.is_ok(), "{name}: {got:?}"),
            Some("bad") => assert!(got.is_err(), "{name} was accepted"),
            _ => panic!("{name} says neither good nor bad"),
        }
        count += 1;
    }
    assert!(count >= least, "{count} files");
}

fn text(error: &(impl std::fmt::Display + std::fmt::Debug)) -> String {
    format!("{error} {error:?}")
}

#[test]
fn x_11_environment() {
    let config = EnvironmentConfig { enabled: true, scan: true, ..EnvironmentConfig::default() };
    let settings = environment::Settings::of(&config, "e").unwrap();
    replay("environment", 12, |_, bytes| {
        Environment::read(&settings, environment::lines(bytes)).map(drop).map_err(|e| text(&e))
    });
}

#[test]
fn x_11_services_file() {
    replay("services_file", 12, |name, bytes| {
        // Without the feature every list is refused, whatever it says.
        if cfg!(not(feature = "toml")) && name.ends_with(".toml") {
            assert!(Content::parse(bytes, name, 1 << 20).is_err());
            return if name.starts_with("good") { Ok(()) } else { Err(String::new()) };
        }
        Content::parse(bytes, name, 1 << 20).map(drop).map_err(|e| text(&e))
    });
}

#[test]
fn x_11_kept() {
    let settings = kept::Settings::default();
    replay("kept", 12, |_, bytes| {
        let now = Wall(86_401);
        let read = Kept::decode(bytes, now, Some("alpha"), &settings);
        read.map(|restored| assert!(!format!("{restored:?}").contains("hunter2")))
            .map_err(|e| text(&e))
    });
}

//! The committed seeds of the cache's two parsers: good ones are read, hostile ones are refused
//! for the reason that their name says, and none does harm.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // test code

use std::path::Path;

use bytes::Bytes;
use origin_core::Wall;
use origin_core::cache::Key;
use origin_core::cache::answer::{BadRecord, Record};
use origin_core::cache::control::Control;

const NOW: Wall = Wall(1_700_000_000);

fn seeds(folder: &str) -> Vec<(String, Bytes)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap().into())
    };
    let mut seeds: Vec<(String, Bytes)> = std::fs::read_dir(folder).unwrap().map(read).collect();
    seeds.sort();
    seeds
}

#[test]
fn records() {
    for (name, bytes) in seeds("cache_record") {
        let read = Record::decode(&bytes, &Key::text("k"), NOW, 1 << 20);
        match &*name {
            good if good.starts_with("good") => {
                // Written by another program than this one, byte by byte.
                assert_eq!(read.unwrap().encode().unwrap(), bytes, "{name}");
            }
            "version_2" => assert_eq!(read, Err(BadRecord::Version(2))),
            "json" => assert_eq!(read, Err(BadRecord::NotOurs)),
            "other_key" => assert_eq!(read, Err(BadRecord::OtherKey)),
            "checksum_wrong" | "cut_off" => assert_eq!(read, Err(BadRecord::Damaged), "{name}"),
            _ => assert!(matches!(read, Err(BadRecord::Shape(_))), "{name}: {read:?}"),
        }
    }
    assert!(seeds("cache_record").len() >= 15);
}

#[test]
fn controls() {
    for (name, bytes) in seeds("cache_control") {
        let control = Control::parse(&bytes);
        let age = match &*name {
            "good" => Some(300),
            "huge_number" => Some(1 << 31),
            "twice" => Some(30),
            "request" | "negative" | "latin" => Some(0),
            _ => None,
        };
        assert_eq!(control.max_age, age, "{name}");
        assert!(!control.no_store, "{name}");
    }
    assert!(seeds("cache_control").len() >= 10);
}

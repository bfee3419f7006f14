//! The seeds of the fuzz targets of what is read from Redis: a file whose name begins with `good`
//! is believed, any other is refused; and every prefix of each is survived.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::path::Path;

use origin_core::redis::knowledge::record;
use origin_core::redis::value::{self, Bounds};

fn replay(parser: &str, least: usize, good: impl Fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(parser);
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(good(&bytes), name.starts_with("good"), "{name}");
        for cut in 0..bytes.len() {
            let _ = good(&bytes[..cut]);
        }
        seen += 1;
    }
    assert!(seen >= least, "{seen}");
}

#[test]
fn case_004_46_lists_of_instances() {
    let bounds = Bounds { bytes: 1 << 20, instances: 100, foreign: true };
    replay("redis_value", 15, |bytes| value::decode(bytes, "billing", &bounds).is_ok());
}

#[test]
fn words_about_breakers() {
    replay("redis_record", 10, |bytes| record::decode(bytes, "billing", "node-1", 4).is_ok());
}

//! The corpus of the reader of Redis replies, which also seeds its fuzz target: files that begin
//! with `good` are read, all others refused, and in pieces it comes to the same.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // test code

use origin_core::redis::resp::{Bounds, Broken, Reader, parse};

#[test]
fn the_corpus_is_read_or_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/resp");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let whole = parse(&bytes);
        assert_eq!(whole.is_ok(), name.starts_with("good"), "{name}: {whole:?}");
        let mut reader = Reader::new(usize::MAX, Bounds::default());
        let last = bytes.iter().map(|byte| reader.feed(&[*byte])).last().unwrap();
        match whole {
            Err(broken) if broken != Broken::BrokenOff => assert_eq!(last, Err(broken), "{name}"),
            Err(_) => assert_eq!(last, Ok(false), "{name}"),
            Ok(replies) => assert_eq!(reader.into_replies(), replies, "{name}"),
        }
        files += 1;
    }
    assert_eq!(files, 15, "a corpus that is not there proves nothing");
}

//! Files on a real disk: whole or not at all, and nothing but files.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use common::{SLACK, fault, reason, timed};
use origin_driver::carry::{Carrier, Limit};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("origin-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// What is in it.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = fs::read_dir(&self.0).unwrap().map(name);
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &str, most: usize) -> JobOutcome {
    let work = Work::Read { path: path.into(), most };
    let (outcome, took) = timed(&Carrier::default(), work, Duration::from_secs(30));
    assert!(took < SLACK, "{took:?}");
    outcome
}

fn write(path: &str, content: &[u8]) -> JobOutcome {
    let work = Work::Write { path: path.into(), content: content.to_vec().into() };
    timed(&Carrier::default(), work, Duration::from_secs(30)).0
}

fn content(outcome: &JobOutcome) -> Option<&[u8]> {
    match outcome {
        JobOutcome::Content(content) => content.as_deref(),
        other => panic!("not read: {other:?}"),
    }
}

#[test]
fn files_are_read_up_to_their_limit() {
    let folder = Folder::new();
    let path = folder.path("file");
    assert_eq!(content(&read(&path, 10)), None);
    assert_eq!(content(&read(&folder.path("no/such/folder"), 10)), None);
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let bytes: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0]).collect();
        fs::write(&path, &bytes).unwrap();
        let length = bytes.len();
        assert_eq!(content(&read(&path, length)), Some(&bytes[..]));
        assert_eq!(content(&read(&path, usize::MAX)), Some(&bytes[..]));
        if length > 0 {
            assert_eq!(fault(&read(&path, length - 1)), Fault::BodyTooLarge);
            assert_eq!(fault(&read(&path, 0)), Fault::BodyTooLarge);
        }
    }
    // A terabyte of nothing.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(fault(&read(&path, 1 << 20)), Fault::BodyTooLarge);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_does_not_know_its_length_is_read_all_the_same() {
    assert!(content(&read("/proc/self/status", 1 << 20)).unwrap().starts_with(b"Name:"));
    assert_eq!(fault(&read("/proc/self/status", 100)), Fault::BodyTooLarge);
}

#[test]
fn what_is_no_file_is_not_read() {
    let folder = Folder::new();
    for path in [&*folder.path(""), "", "a\0b"] {
        match read(path, 100) {
            JobOutcome::Impossible(_) => {}
            JobOutcome::Content(None) if path.is_empty() => {}
            other => panic!("{path:?}: {other:?}"),
        }
    }
    #[cfg(unix)]
    {
        let pipe = folder.path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(reason(&read(&pipe, 100)).contains("not a file"));
        assert!(reason(&read("/dev/zero", 100)).contains("not a file"));
    }
}

#[test]
fn a_written_file_is_whole_and_for_its_user_alone() {
    let folder = Folder::new();
    let path = folder.path("snapshot.json");
    for bytes in [&b"first"[..], b"", &[7; 200_000]] {
        assert!(matches!(write(&path, bytes), JobOutcome::Written));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(folder.names(), ["snapshot.json"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            // Whatever became of it, the next one is as it should be.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).unwrap();
    fs::write(folder.path("file"), "x").unwrap();
    for name in ["missing/file", "sub", "sub/..", "file/below", "", "a\0b"] {
        let said = reason(&write(&folder.path(name), b"new"));
        assert!(said.contains("cannot be written"), "{said}");
        assert!(!said.contains("new"), "{said}");
    }
    assert_eq!(folder.names(), ["file", "sub"]);
    assert!(fs::read_dir(folder.path("sub")).unwrap().next().is_none());
}

#[test]
fn work_that_was_given_up_changes_nothing() {
    let folder = Folder::new();
    let path = folder.path("file");
    fs::write(&path, "old").unwrap();
    let life = Arc::new(());
    let abandoned = Limit::within(Duration::from_secs(60)).while_alive(&life);
    drop(life);
    for limit in [Limit::within(Duration::ZERO), abandoned] {
        let work = Work::Write { path: path.as_str().into(), content: vec![1; 1 << 20].into() };
        assert_eq!(fault(&Carrier::default().carry(work, &limit)), Fault::Timeout);
        let work = Work::Read { path: path.as_str().into(), most: 100 };
        assert_eq!(fault(&Carrier::default().carry(work, &limit)), Fault::Timeout);
    }
    // And half-way through: large enough that the limit passes while it is being written.
    let work = Work::Write { path: path.as_str().into(), content: vec![1; 64 << 20].into() };
    let limit = Limit::within(Duration::from_millis(5));
    assert_eq!(fault(&Carrier::default().carry(work, &limit)), Fault::Timeout);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(folder.names(), ["file"]);
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_and_not_followed() {
    let folder = Folder::new();
    fs::write(folder.path("theirs"), "theirs").unwrap();
    std::os::unix::fs::symlink("theirs", folder.path("ours")).unwrap();
    assert_eq!(content(&read(&folder.path("ours"), 100)), Some(&b"theirs"[..]));
    assert!(matches!(write(&folder.path("ours"), b"ours"), JobOutcome::Written));
    assert_eq!(fs::read(folder.path("theirs")).unwrap(), b"theirs");
    assert!(Path::new(&folder.path("ours")).symlink_metadata().unwrap().is_file());
}

#[test]
fn readers_never_see_half_of_it_however_many_write() {
    let folder = Folder::new();
    let path = folder.path("file");
    assert!(matches!(write(&path, &[0; 100_000]), JobOutcome::Written));
    thread::scope(|scope| {
        for writer in 1..5_u8 {
            let path = path.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(matches!(write(&path, &[writer; 100_000]), JobOutcome::Written));
                }
            });
        }
        for _ in 0..200 {
            let outcome = read(&path, 100_000);
            let bytes = content(&outcome).expect("it is always there");
            assert_eq!(bytes.len(), 100_000);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "two in one");
        }
    });
    assert_eq!(folder.names(), ["file"]);
}

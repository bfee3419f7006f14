//! Objects written piece by piece, while connections break and servers die.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use origin_core::Error;
use origin_core::s3::{Code, GetOptions, PutOptions, UploadOptions};
use origin_driver::Upload;

use crate::parts::Cut;
use crate::server::{self, BUCKET, Kept};
use crate::subject::{AsyncStd, Blocking, Smol, Subject, TOKIO, Tokio, eventually};
use crate::{known, refusal, shelf};

on_every_runtime! {
    objects_of_any_size_are_written
    a_part_whose_line_breaks_is_sent_again_alone
    a_lost_answer_to_the_end_is_found_out_about
    a_server_that_dies_is_waited_for
    what_is_given_up_leaves_nothing
    mistakes_show_before_anything_is_sent
    a_folder_takes_parts_too
    much_takes_little_memory
}

/// Writing on, and doing something on the runtime.
trait Writes: Subject {
    fn write(upload: &mut Upload<Self>, bytes: Bytes) -> Result<(), Error>;
}

macro_rules! writes {
    ($($subject:ty, $block_on:expr;)*) => { $(
        impl Writes for $subject {
            fn write(upload: &mut Upload<Self>, bytes: Bytes) -> Result<(), Error> {
                $block_on(upload.write(bytes))
            }
        }
    )* };
}

writes! {
    Tokio, |f| TOKIO.block_on(f);
    AsyncStd, async_std::task::block_on;
    Smol, smol::block_on;
}

fn meant(error: io::Error) -> Error {
    *error.into_inner().unwrap().downcast::<Error>().unwrap()
}

impl Writes for Blocking {
    fn write(upload: &mut Upload<Self>, bytes: Bytes) -> Result<(), Error> {
        upload.write_all(&bytes).map_err(meant)
    }
}

const MIB: usize = 1 << 20;

/// Bytes that are not the same anywhere.
fn bytes(count: usize) -> Bytes {
    let mut all = Vec::with_capacity(count + 4);
    for n in 0..count as u32 / 4 + 1 {
        all.extend_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes());
    }
    all.truncate(count);
    all.into()
}

fn small_parts() -> UploadOptions {
    UploadOptions { part_size: 5 << 20, ..UploadOptions::default() }
}

/// Writes it in pieces of such a size.
fn write<S: Writes>(upload: &mut Upload<S>, whole: &Bytes, piece: usize) -> Result<(), Error> {
    (0..whole.len())
        .step_by(piece)
        .try_for_each(|from| S::write(upload, whole.slice(from..whole.len().min(from + piece))))
}

fn objects_of_any_size_are_written<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let key = "a b/ü+%2F&?.bin";
    // The clock of the server is another one from the first request on.
    *shelf.clock.lock().unwrap() = Some(("Fri, 24 May 2013 00:00:00 GMT", "20130524T000000Z"));
    for (size, piece, parts) in
        [(0, 1, 0), (5 * MIB, MIB, 0), (5 * MIB + 1, 100_000, 2), (10 * MIB, 10 * MIB, 2)]
    {
        let whole = bytes(size);
        let mut options = small_parts();
        options.object.content_type = Some("text/plain".to_owned());
        options.object.metadata = BTreeMap::from([("made-by".to_owned(), "nobody".to_owned())]);
        let mut upload = storage.upload_with(BUCKET, key, options);
        write(&mut upload, &whole, piece).unwrap();
        let before = upload.stored();
        let uploaded = S::wait(upload.finish()).unwrap();
        assert_eq!((uploaded.size, uploaded.parts), (size as u64, parts));
        assert!(before <= uploaded.size && (parts < 2 || before > 0));
        let got = S::wait(storage.get_object(BUCKET, key)).unwrap();
        assert!(got.bytes == whole, "{size}");
        assert_eq!(
            (got.info.etag, got.content_type.as_deref()),
            (uploaded.etag, Some("text/plain"))
        );
        assert_eq!(got.info.metadata["made-by"], "nobody");
        assert!(shelf.parts.is_empty());
    }
}

fn a_part_whose_line_breaks_is_sent_again_alone<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let whole = bytes(11 * MIB);
    for cut in ["create", "part 2", "part 2", "part 3", "complete"] {
        shelf.parts.cut(cut, Cut::Middle);
    }
    shelf.parts.cut("part 1", Cut::Answer);
    let mut upload = storage.upload_with(BUCKET, "k", small_parts());
    write(&mut upload, &whole, MIB).unwrap();
    assert_eq!(S::wait(upload.finish()).unwrap().size, 11 * MIB as u64);
    assert!(shelf.objects.lock().unwrap()["k"].bytes == whole);
    let said = shelf.parts.said();
    let count = |name: &str| said.iter().filter(|said| *said == name).count();
    let counts = ["create", "part 1", "part 2", "part 3", "complete"].map(count);
    assert_eq!(counts, [2, 2, 3, 2, 2], "{said:?}");
}

fn a_lost_answer_to_the_end_is_found_out_about<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let whole = bytes(6 * MIB);
    for only_new in [false, true] {
        shelf.objects.lock().unwrap().clear();
        shelf.parts.cut("complete", Cut::Answer);
        let object = PutOptions { only_new, ..PutOptions::default() };
        let options = UploadOptions { object, ..small_parts() };
        let mut upload = storage.upload_with(BUCKET, "k", options);
        write(&mut upload, &whole, MIB).unwrap();
        let uploaded = S::wait(upload.finish()).unwrap();
        assert_eq!(uploaded.etag.unwrap().as_str(), shelf.objects.lock().unwrap()["k"].tag());
        let said = shelf.parts.said();
        assert_eq!(said[3..], ["complete", "complete", "head"], "{said:?}");
    }
    // Somebody else's object is not taken for it.
    let other = Kept::of(Bytes::from_static(b"other"));
    shelf.objects.lock().unwrap().insert("k".to_owned(), other);
    shelf.parts.cut("complete", Cut::Middle);
    let object = PutOptions { only_new: true, ..PutOptions::default() };
    let mut upload = storage.upload_with(BUCKET, "k", UploadOptions { object, ..small_parts() });
    write(&mut upload, &whole, MIB).unwrap();
    assert_eq!(refusal(S::wait(upload.finish())).code, Code::PreconditionFailed);
    assert_eq!(shelf.objects.lock().unwrap()["k"].bytes, "other");
}

fn a_server_that_dies_is_waited_for<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let whole = bytes(11 * MIB);
    shelf.parts.cut("part 2", Cut::Kill);
    shelf.parts.cut("complete", Cut::Kill);
    let mut upload = storage.upload_with(BUCKET, "k", small_parts());
    write(&mut upload, &whole, MIB).unwrap();
    assert_eq!(S::wait(upload.finish()).unwrap().parts, 3);
    assert!(shelf.objects.lock().unwrap()["k"].bytes == whole);
    let said = shelf.parts.said();
    assert_eq!(said.iter().filter(|said| *said == "part 1").count(), 1, "{said:?}");
}

fn what_is_given_up_leaves_nothing<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let whole = bytes(6 * MIB);
    let begin = || {
        let mut upload = storage.upload_with(BUCKET, "k", small_parts());
        write(&mut upload, &whole, MIB).unwrap();
        assert!(!shelf.parts.is_empty());
        upload
    };
    let upload = begin();
    S::there(|| drop(upload));
    eventually("the upload is gone", || shelf.parts.is_empty());
    S::wait(begin().abort()).unwrap();
    assert!(shelf.parts.is_empty());
    // Nor does one whose condition does not hold in the end.
    let other = Kept::of(Bytes::from_static(b"other"));
    shelf.objects.lock().unwrap().insert("k".to_owned(), other);
    let object = PutOptions { only_new: true, ..PutOptions::default() };
    let mut upload = storage.upload_with(BUCKET, "k", UploadOptions { object, ..small_parts() });
    write(&mut upload, &whole, MIB).unwrap();
    assert_eq!(refusal(S::wait(upload.finish())).code, Code::PreconditionFailed);
    eventually("the upload is gone", || shelf.parts.is_empty());
    assert_eq!(shelf.objects.lock().unwrap()["k"].bytes, "other");
    // What had no part yet has nothing to take back.
    shelf.parts.said();
    let mut small = storage.upload(BUCKET, "k");
    S::write(&mut small, Bytes::from_static(b"x")).unwrap();
    S::there(|| drop(small));
    assert_eq!(shelf.parts.said(), Vec::<String>::new());
}

fn mistakes_show_before_anything_is_sent<S: Writes>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let long = "k".repeat(1025);
    for (bucket, key) in
        [("", "k"), ("..", "k"), ("a/b", "k"), (BUCKET, ""), (BUCKET, "a/../b"), (BUCKET, &long)]
    {
        let mut upload = storage.upload(bucket, key);
        let error = S::write(&mut upload, Bytes::from_static(b"x")).unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{bucket:?} {key:?}: {error}");
        assert!(S::wait(upload.finish()).is_err(), "a mistake stays one");
        let error = S::wait(storage.upload(bucket, key).finish()).unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{bucket:?} {key:?}: {error}");
    }
    for part_size in [0, 5 * MIB as u64 - 1, (5 << 30) + 1] {
        let options = UploadOptions { part_size, ..UploadOptions::default() };
        let error = S::wait(storage.upload_with(BUCKET, "k", options).finish()).unwrap_err();
        assert!(error.to_string().contains("part_size"), "{error}");
    }
    assert_eq!(shelf.parts.said(), Vec::<String>::new());
    let none = S::wait(storage.upload("no-such-bucket", "k").finish());
    assert_eq!(refusal(none).code, Code::NoSuchBucket);
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// `s3s-fs` tags objects in parts as it does all others.
fn a_folder_takes_parts_too<S: Writes>() {
    let folder =
        std::env::temp_dir().join(format!("origin-uploads-{}-{}", std::process::id(), S::NAME));
    std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let url = server::start(s3s_fs::FileSystem::new(&folder).unwrap(), Arc::default());
    let storage = known::<S>(&url).storage();
    let whole = bytes(11 * MIB);
    let mut upload = storage.upload_with(BUCKET, "a b/ü.bin", small_parts());
    write(&mut upload, &whole, 70_000).unwrap();
    let uploaded = S::wait(upload.finish()).unwrap();
    assert_eq!((uploaded.size, uploaded.parts), (11 * MIB as u64, 3));
    let head = S::wait(storage.head_object(BUCKET, "a b/ü.bin", &GetOptions::default())).unwrap();
    assert_eq!(head.size, Some(11 * MIB as u64));
    assert!(S::wait(storage.get_object(BUCKET, "a b/ü.bin")).unwrap().bytes == whole);
    let before = files(&folder);
    let mut upload = storage.upload_with(BUCKET, "given up", small_parts());
    write(&mut upload, &whole, MIB).unwrap();
    assert!(files(&folder).len() > before.len(), "{before:?}");
    S::there(|| drop(upload));
    eventually("the parts are gone", || files(&folder).len() == before.len());
    assert_eq!(files(&folder.join(BUCKET)), ["a b"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

const CHILD: &str = "ORIGIN_TEST_UPLOAD_TO";
/// Bytes of the object.
const MUCH: usize = 100 * MIB;
/// What may come to a part of 8 MiB: another one while the last bytes of it are on their way, the
/// piece that is written, connections, and room of the allocator.
const ROOM: usize = 32 * MIB;

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// 100 MiB through a client in a process of its own, since memory is that of a process.
fn much_takes_little_memory<S: Writes>() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    if let Ok(url) = std::env::var(CHILD) {
        let storage = known::<S>(&url).storage();
        // Once before, so that only what grows with the object is counted.
        let piece = bytes(MIB);
        S::wait(storage.put_object(BUCKET, "small", piece.clone())).unwrap();
        let before = peak();
        let mut upload = storage.upload(BUCKET, "much");
        for _ in 0..MUCH / MIB {
            S::write(&mut upload, piece.clone()).unwrap();
        }
        let uploaded = S::wait(upload.finish()).unwrap();
        assert_eq!((uploaded.size, uploaded.parts), (MUCH as u64, 13));
        println!("upload takes {} KiB", (peak() - before) >> 10);
        assert!(peak() - before < ROOM, "{} KiB", (peak() - before) >> 10);
        return;
    }
    let (shelf, url) = shelf();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(CHILD, &url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}{error}");
    assert_eq!(shelf.objects.lock().unwrap()["much"].bytes.len(), MUCH);
}

#[test]
fn a_reader_is_written_and_an_object_read_to_a_writer() {
    let (shelf, url) = shelf();
    let storage = known::<Blocking>(&url).storage();
    let whole = bytes(7 * MIB);
    let uploaded = storage.upload_with(BUCKET, "k", small_parts()).put_from(&whole[..]).unwrap();
    assert_eq!((uploaded.size, uploaded.parts), (7 * MIB as u64, 2));
    let mut got = Vec::new();
    let mut download = storage.download(BUCKET, "k", GetOptions::default());
    assert_eq!(download.get_to(&mut got).unwrap(), 7 * MIB as u64);
    assert!(got == whole);
    // A reader that breaks off makes no object.
    let broken = io::Read::chain(&whole[..], Broken);
    let error = storage.upload_with(BUCKET, "half", small_parts()).put_from(broken).unwrap_err();
    assert_eq!(error.to_string(), "the source broke");
    assert!(shelf.parts.is_empty() && !shelf.objects.lock().unwrap().contains_key("half"));
    let error = storage.upload("..", "k").put_from(&b"x"[..]).unwrap_err();
    assert!(matches!(meant(error), Error::Request { .. }));
}

struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the source broke"))
    }
}

/// A write that is dropped half-way has still taken its bytes.
#[test]
fn a_dropped_write_loses_nothing() {
    let (shelf, url) = shelf();
    let storage = known::<Tokio>(&url).storage();
    let whole = bytes(16 * MIB);
    TOKIO.block_on(async {
        let mut upload = storage.upload_with(BUCKET, "k", small_parts());
        for from in (0..whole.len()).step_by(6 * MIB) {
            let piece = whole.slice(from..whole.len().min(from + 6 * MIB));
            // Far less than a part takes.
            let _ = tokio::time::timeout(Duration::from_millis(2), upload.write(piece)).await;
        }
        upload.finish().await.unwrap();
    });
    assert!(shelf.objects.lock().unwrap()["k"].bytes == whole);
}

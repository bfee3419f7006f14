//! Object storage over real sockets, on every runtime: against servers that are not ours, which
//! check every signature.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

macro_rules! on_every_runtime {
    ($($name:ident)*) => { $(
        mod $name {
            use crate::subject::{AsyncStd, Blocking, Smol, Tokio};

            #[test]
            fn on_tokio() {
                super::$name::<Tokio>();
            }

            #[test]
            fn on_async_std() {
                super::$name::<AsyncStd>();
            }

            #[test]
            fn on_smol() {
                super::$name::<Smol>();
            }

            #[test]
            fn on_blocking() {
                super::$name::<Blocking>();
            }
        }
    )* };
}

#[path = "storage/parts.rs"]
mod parts;
#[path = "storage/server.rs"]
mod server;
#[allow(dead_code)] // shared with the conformance suite, which uses all of it
#[path = "conformance/subject.rs"]
mod subject;
#[path = "storage/uploads.rs"]
mod uploads;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use origin_core::config::StorageConfig;
use origin_core::s3::{
    ByteRange, Code, ETag, GetOptions, Info, ListOptions, PutOptions, StorageError,
};
use origin_core::{Error, Secret, Wall};
use origin_driver::{Client, Download};

use crate::server::{BUCKET, KEY, Kept, SECRET, Served, Shelf};
use crate::subject::{AsyncStd, Blocking, Smol, Subject, TOKIO, Tokio};

on_every_runtime! {
    case_000_04_objects_are_written_read_and_deleted
    every_name_arrives_as_it_is
    parts_and_conditions
    listings_go_on_page_after_page
    case_001_92_refusals_have_meanings_and_show_no_secrets
    a_wrong_clock_is_corrected_by_that_of_the_server
    a_url_lets_others_read
    a_download_goes_on_where_it_broke
    a_download_of_an_object_that_changed_is_an_error
    an_object_that_is_collected_goes_on_where_it_broke
    a_folder_is_storage_too
}

/// Reading a download to its end.
trait Reads: Subject {
    fn read(download: &mut Download<Self>) -> Result<Vec<u8>, Error>;
}

macro_rules! reads {
    ($($subject:ty, $block_on:expr;)*) => { $(
        impl Reads for $subject {
            fn read(download: &mut Download<Self>) -> Result<Vec<u8>, Error> {
                $block_on(async {
                    let mut whole = Vec::new();
                    while let Some(piece) = download.chunk().await? {
                        whole.extend_from_slice(&piece);
                    }
                    assert_eq!(download.chunk().await?, None, "over is over");
                    Ok(whole)
                })
            }
        }
    )* };
}

reads! {
    Tokio, |f| TOKIO.block_on(f);
    AsyncStd, async_std::task::block_on;
    Smol, smol::block_on;
}

impl Reads for Blocking {
    fn read(download: &mut Download<Self>) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        match download.read_to_end(&mut whole) {
            Ok(_) => Ok(whole),
            Err(e) => Err(*e.into_inner().unwrap().downcast::<Error>().unwrap()),
        }
    }
}

fn shelf() -> (Arc<Shelf>, String) {
    let shelf = Arc::new(Shelf::default());
    *shelf.page.lock().unwrap() = 1000;
    let url = server::start(Served(shelf.clone()), shelf.clone());
    (shelf, url)
}

fn client<S: Subject>(url: &str, access_key: Option<&str>, secret: &str) -> Client<S> {
    let builder = Client::<S>::builder().endpoint("storage", url).seed(1);
    let builder = builder.timeout(Duration::from_secs(10)).configure(|config| {
        config.storage = access_key.map(|key| StorageConfig {
            access_key: Some(key.to_owned()),
            secret_key: Secret::new(secret),
            ..StorageConfig::default()
        });
    });
    builder.build().unwrap()
}

fn known<S: Subject>(url: &str) -> Client<S> {
    client::<S>(url, Some(KEY), SECRET)
}

/// What storage said.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> StorageError {
    match result {
        Err(Error::Storage { error, .. }) => *error,
        other => panic!("{other:?}"),
    }
}

fn case_000_04_objects_are_written_read_and_deleted<S: Subject>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let options = PutOptions {
        content_type: Some("text/plain".to_owned()),
        metadata: BTreeMap::from([("made-by".to_owned(), "nobody in particular".to_owned())]),
        ..PutOptions::default()
    };
    let put = S::wait(storage.put_object_with(BUCKET, "a/b", "content", &options)).unwrap();
    assert_eq!(put.report.attempts.len(), 1);
    let got = S::wait(storage.get_object(BUCKET, "a/b")).unwrap();
    assert_eq!(got.bytes, "content");
    assert_eq!(got.info.etag, put.etag);
    assert_eq!(got.content_type.as_deref(), Some("text/plain"));
    let kept = got.info.metadata.get("made-by").map(String::as_str);
    assert_eq!(kept, Some("nobody in particular"));
    let head = S::wait(storage.head_object(BUCKET, "a/b", &GetOptions::default())).unwrap();
    assert_eq!(Info { content_type: got.content_type, ..head }, got.info);
    S::wait(storage.delete_object(BUCKET, "a/b")).unwrap();
    S::wait(storage.delete_object(BUCKET, "a/b")).unwrap();
    assert_eq!(refusal(S::wait(storage.get_object(BUCKET, "a/b"))).code, Code::NoSuchKey);
    // A body of any size is signed: an empty one, and one larger than any buffer on the way.
    for size in [0, 3 << 20] {
        let bytes = Bytes::from(vec![7; size]);
        S::wait(storage.put_object(BUCKET, "sized", bytes.clone())).unwrap();
        assert_eq!(shelf.objects.lock().unwrap()["sized"].bytes, bytes);
    }
}

fn every_name_arrives_as_it_is<S: Subject>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let long = "ü".repeat(512);
    let names = [
        "a b",
        "ü/ß",
        "100%",
        "%2F",
        "%2e%2e",
        "a+b",
        "a&b=c?d#e",
        "..a/b..",
        "...",
        "a//b",
        "/a",
        "*'()!~",
        "日本/語",
        "a\tb",
        "\"<>\\^`{|}",
        long.as_str(),
    ];
    for name in names {
        S::wait(storage.put_object(BUCKET, name, name.to_owned())).unwrap_or_else(|e| {
            panic!("{name:?}: {e} {:?}", e.storage().map(StorageError::message))
        });
        assert!(shelf.objects.lock().unwrap().contains_key(name), "{name:?}");
        assert_eq!(S::wait(storage.get_object(BUCKET, name)).unwrap().bytes, name);
        let listed = S::wait(storage.list_objects(BUCKET, &ListOptions::prefix(name), 10));
        assert_eq!(listed.unwrap()[0].key, name);
        S::wait(storage.delete_object(BUCKET, name)).unwrap();
    }
    let asked = shelf.asked.lock().unwrap().len();
    for name in ["", ".", "..", "../other/x", "a/./b", &"k".repeat(1025)] {
        let error = S::wait(storage.get_object(BUCKET, name)).unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{name:?}: {error}");
    }
    for bucket in ["", "..", "a/b"] {
        let error = S::wait(storage.put_object(bucket, "k", "x")).unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{bucket:?}: {error}");
    }
    assert_eq!(shelf.asked.lock().unwrap().len(), asked, "nothing was sent");
}

fn parts_and_conditions<S: Subject>() {
    let (shelf, url) = shelf();
    let storage = known::<S>(&url).storage();
    let get = |options: GetOptions| S::wait(storage.get_object_with(BUCKET, "k", &options));
    let put = |bytes: &'static str, options: PutOptions| {
        S::wait(storage.put_object_with(BUCKET, "k", bytes, &options))
    };
    let new = || PutOptions { only_new: true, ..PutOptions::default() };
    let first = put("0123456789", new()).unwrap().etag;
    assert_eq!(refusal(put("again", new())).code, Code::PreconditionFailed);
    for (range, text) in [
        (ByteRange::Between(2, 4), "234"),
        (ByteRange::From(8), "89"),
        (ByteRange::Last(3), "789"),
        (ByteRange::Between(9, 500), "9"),
    ] {
        let part = get(GetOptions::range(range)).unwrap();
        assert_eq!((part.bytes.as_ref(), part.info.size), (text.as_bytes(), Some(10)));
    }
    let beyond = refusal(get(GetOptions::range(ByteRange::From(10))));
    assert_eq!(beyond.code, Code::InvalidRange);
    let same = |tag: &Option<ETag>| GetOptions { if_none_match: tag.clone(), ..Default::default() };
    let only = |tag: &Option<ETag>| GetOptions { if_match: tag.clone(), ..Default::default() };
    assert_eq!(refusal(get(same(&first))).code, Code::NotModified);
    assert_eq!(get(only(&first)).unwrap().bytes, "0123456789");
    let instead = |tag: &Option<ETag>| PutOptions { if_match: tag.clone(), ..Default::default() };
    let second = put("second", instead(&first)).unwrap().etag;
    assert_eq!(refusal(put("third", instead(&first))).code, Code::PreconditionFailed);
    assert_eq!(refusal(get(only(&first))).code, Code::PreconditionFailed);
    assert_eq!(get(same(&first)).unwrap().info.etag, second);
    let head = S::wait(storage.head_object(BUCKET, "k", &only(&first)));
    assert_eq!(refusal(head).code, Code::PreconditionFailed);
    assert_eq!(shelf.objects.lock().unwrap()["k"].bytes, "second");
}

fn listings_go_on_page_after_page<S: Subject>() {
    let (shelf, url) = shelf();
    *shelf.page.lock().unwrap() = 7;
    let mut names: Vec<String> = (0..30).map(|n| format!("dir {}/+ü {n:02}%", n % 3)).collect();
    names.push("top".to_owned());
    names.sort();
    for name in &names {
        let kept = Kept::of(Bytes::from(name.clone()));
        shelf.objects.lock().unwrap().insert(name.clone(), kept);
    }
    let storage = known::<S>(&url).storage();
    let all = S::wait(storage.list_objects(BUCKET, &ListOptions::default(), 1000)).unwrap();
    assert_eq!(
        all.iter().map(|entry| &entry.key).collect::<Vec<_>>(),
        names.iter().collect::<Vec<_>>()
    );
    assert!(all.iter().all(|entry| entry.size == entry.key.len() as u64 && entry.etag.is_some()));
    let some = S::wait(storage.list_objects(BUCKET, &ListOptions::default(), 9)).unwrap();
    assert_eq!(some, all[..9]);
    let folders = ListOptions { delimiter: "/".to_owned(), ..ListOptions::default() };
    let page = S::wait(storage.list_page(BUCKET, &folders, None)).unwrap();
    assert_eq!(page.prefixes, ["dir 0/", "dir 1/", "dir 2/"]);
    assert_eq!((page.objects.len(), page.next), (1, None));
    let two = ListOptions { page: 2, prefix: "dir 1/".to_owned(), ..ListOptions::default() };
    let first = S::wait(storage.list_page(BUCKET, &two, None)).unwrap();
    let second = S::wait(storage.list_page(BUCKET, &two, first.next.as_deref())).unwrap();
    assert_eq!((first.objects.len(), second.objects.len()), (2, 2));
    assert!(first.objects[1].key < second.objects[0].key);
    let none = S::wait(storage.list_objects("no-such-bucket", &ListOptions::default(), 9));
    assert_eq!(refusal(none).code, Code::NoSuchBucket);
}

fn case_001_92_refusals_have_meanings_and_show_no_secrets<S: Subject>() {
    let (shelf, url) = shelf();
    shelf.objects.lock().unwrap().insert("k".to_owned(), Kept::of(Bytes::from_static(b"x")));
    let get = |client: &Client<S>, bucket: &str, key: &str| {
        S::wait(client.storage().get_object(bucket, key)).unwrap_err()
    };
    let right = known::<S>(&url);
    let wrong = client::<S>(&url, Some(KEY), "pl4nted-wrong");
    let stranger = client::<S>(&url, Some("AKIDNOBODY"), "pl4nted-wrong");
    let nobody = client::<S>(&url, None, "");
    let errors = [
        (get(&right, BUCKET, "none"), Code::NoSuchKey, 404),
        (get(&right, "other-bucket", "k"), Code::NoSuchBucket, 404),
        (get(&wrong, BUCKET, "k"), Code::SignatureDoesNotMatch, 403),
        (get(&stranger, BUCKET, "k"), Code::InvalidAccessKeyId, 403),
        (get(&nobody, BUCKET, "k"), Code::AccessDenied, 403),
    ];
    let mut shown = String::new();
    for (error, code, status) in &errors {
        let said = error.storage().unwrap();
        assert_eq!((&said.code, said.status), (code, *status), "{error}");
        assert_eq!(error.attempts(), 1, "an answer is not repeated: {error}");
        shown.push_str(&format!("{error} {error:?} {} {said:?}\n", error.advice()));
    }
    assert_eq!(errors[0].0.storage().unwrap().message(), "pl4nted-message of node-7");
    let head = S::wait(wrong.storage().head_object(BUCKET, "k", &GetOptions::default()));
    assert!(refusal(head).is_permission());
    for client in [&right, &wrong] {
        shown.push_str(&format!("{client:?} {:?} {:?}", client.storage(), client.config()));
        shown.push_str(&serde_json::to_string(&client.config()).unwrap());
        shown.push_str(&serde_json::to_string(&client.snapshot()).unwrap());
        shown.push_str(&format!("{:?}", client.notices()));
    }
    for secret in ["pl4nted", "Signature="] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn a_wrong_clock_is_corrected_by_that_of_the_server<S: Reads>() {
    let (shelf, url) = shelf();
    *shelf.clock.lock().unwrap() = Some(("Fri, 24 May 2013 00:00:00 GMT", "20130524T000000Z"));
    let storage = known::<S>(&url).storage();
    S::wait(storage.put_object(BUCKET, "k", "content")).unwrap();
    assert_eq!(S::wait(storage.get_object(BUCKET, "k")).unwrap().bytes, "content");
    let head = S::wait(storage.head_object(BUCKET, "k", &GetOptions::default())).unwrap();
    assert_eq!(head.size, Some(7));
    let mut download = storage.download(BUCKET, "k", GetOptions::default());
    assert_eq!(S::read(&mut download).unwrap(), b"content");
    // Once: a server that does not believe its own clock is not asked for ever.
    *shelf.clock.lock().unwrap() = Some(("Fri, 24 May 2013 00:00:00 GMT", "never"));
    let error = refusal(S::wait(storage.get_object(BUCKET, "k")));
    assert_eq!(error.code, Code::RequestTimeTooSkewed);
}

fn a_url_lets_others_read<S: Subject>() {
    let (shelf, url) = shelf();
    let key = "a b/ü+%?.txt";
    shelf.objects.lock().unwrap().insert(key.to_owned(), Kept::of(Bytes::from_static(b"x")));
    let storage = known::<S>(&url).storage();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let presigned = |at: u64| {
        storage.presigned_get(&url, BUCKET, key, Wall(at), Duration::from_secs(60)).unwrap()
    };
    let nobody = client::<S>(&url, None, "");
    let get = |presigned: &str| {
        let path = presigned.strip_prefix(&url).unwrap();
        subject::get(&nobody, "storage", path).unwrap()
    };
    assert_eq!(get(&presigned(now)).bytes(), "x");
    assert_eq!(get(&presigned(now - 100)).status(), 403);
    assert_eq!(get(&presigned(now).replace("a%20b", "a%20c")).status(), 403);
    let error = nobody.storage().presigned_get(&url, BUCKET, key, Wall(now), Duration::MAX);
    assert!(matches!(error, Err(Error::Credential { .. })));
}

/// An object whose every part differs.
fn large(seed: u32) -> Bytes {
    (0..(4 << 20) / 4).flat_map(|n: u32| n.wrapping_mul(seed).to_le_bytes()).collect()
}

fn a_download_goes_on_where_it_broke<S: Reads>() {
    let (shelf, url) = shelf();
    let object = large(2_654_435_761);
    shelf.objects.lock().unwrap().insert("k".to_owned(), Kept::of(object.clone()));
    *shelf.breaks.lock().unwrap() = (1 << 20, 3);
    let storage = known::<S>(&url).storage();
    let mut download = storage.download(BUCKET, "k", GetOptions::default());
    let whole = S::read(&mut download).unwrap();
    assert!(whole == object, "{} bytes", whole.len());
    assert_eq!(download.info().unwrap().size, Some(4 << 20));
    assert_eq!(download.reports().len(), 4);
    let asked = std::mem::take(&mut *shelf.asked.lock().unwrap());
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!((&asked[0].1, &asked[0].2), (&None, &None));
    let tag = download.info().unwrap().etag.clone().unwrap();
    let mut before = 0;
    for (_, range, only) in &asked[1..] {
        let range = range.as_deref().unwrap().strip_prefix("bytes=").unwrap();
        let from: u64 = range.split_once('-').unwrap().0.parse().unwrap();
        assert!(from > before && range.ends_with("-4194303"), "{asked:?}");
        assert_eq!(only.as_deref(), Some(tag.as_str()));
        before = from;
    }
    // A part of it goes on within that part.
    *shelf.breaks.lock().unwrap() = (1 << 20, 1);
    let part = GetOptions::range(ByteRange::Between(1_000_001, 3_000_000));
    let mut download = storage.download(BUCKET, "k", part);
    assert!(S::read(&mut download).unwrap() == object[1_000_001..=3_000_000]);
    // Nothing to be had, and no name to ask for.
    let mut none = storage.download(BUCKET, "none", GetOptions::default());
    assert_eq!(refusal(S::read(&mut none)).code, Code::NoSuchKey);
    let mut mistake = storage.download(BUCKET, "..", GetOptions::default());
    assert!(matches!(S::read(&mut mistake), Err(Error::Request { .. })));
}

fn a_download_of_an_object_that_changed_is_an_error<S: Reads>() {
    let (shelf, url) = shelf();
    shelf.objects.lock().unwrap().insert("k".to_owned(), Kept::of(large(3)));
    *shelf.breaks.lock().unwrap() = (1 << 20, 1);
    *shelf.exchange.lock().unwrap() = Some(large(5));
    let storage = known::<S>(&url).storage();
    let mut download = storage.download(BUCKET, "k", GetOptions::default());
    let error = S::read(&mut download).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(error.storage().unwrap().code, Code::Changed);
    // From the beginning it is the new one.
    let mut download = storage.download(BUCKET, "k", GetOptions::default());
    assert!(S::read(&mut download).unwrap() == large(5));
}

fn an_object_that_is_collected_goes_on_where_it_broke<S: Subject>() {
    let (shelf, url) = shelf();
    let object = large(2_654_435_761);
    shelf.objects.lock().unwrap().insert("k".to_owned(), Kept::of(object.clone()));
    *shelf.breaks.lock().unwrap() = (1 << 20, 3);
    let storage = known::<S>(&url).storage();
    let got = S::wait(storage.get_object(BUCKET, "k")).unwrap();
    assert!(got.bytes == object, "{} bytes", got.bytes.len());
    assert_eq!((got.info.size, got.report.attempts.len()), (Some(4 << 20), 4));
    let sent: Vec<Duration> = got.report.attempts.iter().map(|a| a.sent_after).collect();
    assert!(sent.is_sorted() && sent[3] <= got.report.elapsed, "{:?}", got.report);
    let asked = std::mem::take(&mut *shelf.asked.lock().unwrap());
    let ranges: Vec<_> = asked.iter().map(|(_, range, _)| range.is_some()).collect();
    assert_eq!(ranges, [false, true, true, true], "{asked:?}");
    assert!(asked[1..].iter().all(|(_, _, only)| *only == got.etag), "{asked:?}");
    // Parts of two objects are not put together.
    *shelf.breaks.lock().unwrap() = (1 << 20, 1);
    *shelf.exchange.lock().unwrap() = Some(large(5));
    let error = S::wait(storage.get_object(BUCKET, "k")).unwrap_err();
    assert_eq!(refusal(Err::<(), _>(error)).code, Code::Changed);
    assert!(S::wait(storage.get_object(BUCKET, "k")).unwrap().bytes == large(5));
    // A line that breaks for ever is given up.
    *shelf.breaks.lock().unwrap() = (0, u32::MAX);
    let error = S::wait(storage.get_object(BUCKET, "k")).unwrap_err();
    assert!(error.is_retryable() && error.storage().is_none(), "{error}");
    *shelf.breaks.lock().unwrap() = (0, 0);
    // `limits.body` holds for it.
    let small = Client::<S>::builder()
        .config(known::<S>(&url).config())
        .configure(|config| config.limits.body = (4 << 20) - 1)
        .configure(|config| config.storage.as_mut().unwrap().secret_key = Secret::new(SECRET))
        .build()
        .unwrap();
    let error = S::wait(small.storage().get_object(BUCKET, "k")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4_194_303, .. }), "{error}");
}

/// `s3s-fs` keeps objects as files. It knows neither conditions nor pages.
fn a_folder_is_storage_too<S: Reads>() {
    let folder =
        std::env::temp_dir().join(format!("origin-storage-{}-{}", std::process::id(), S::NAME));
    std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let url = server::start(s3s_fs::FileSystem::new(&folder).unwrap(), Arc::default());
    let storage = known::<S>(&url).storage();
    let object = large(7);
    for key in ["a/b c/ü.bin", "100%"] {
        let put = S::wait(storage.put_object(BUCKET, key, object.clone())).unwrap();
        let got = S::wait(storage.get_object(BUCKET, key)).unwrap();
        assert!(got.bytes == object && got.info.etag == put.etag && put.etag.is_some());
        let head = S::wait(storage.head_object(BUCKET, key, &GetOptions::default())).unwrap();
        assert_eq!(head.size, Some(4 << 20));
        let part = GetOptions::range(ByteRange::Last(9));
        let got = S::wait(storage.get_object_with(BUCKET, key, &part)).unwrap();
        assert!(got.bytes == object[object.len() - 9..]);
        let mut download = storage.download(BUCKET, key, GetOptions::default());
        assert!(S::read(&mut download).unwrap() == object);
    }
    let listed = S::wait(storage.list_objects(BUCKET, &ListOptions::prefix("a"), 10)).unwrap();
    assert_eq!((listed.len(), listed[0].size), (1, 4 << 20));
    let wrong = client::<S>(&url, Some(KEY), "wrong").storage();
    assert_eq!(
        refusal(S::wait(wrong.get_object(BUCKET, "100%"))).code,
        Code::SignatureDoesNotMatch
    );
    for key in ["a/b c/ü.bin", "100%", "100%"] {
        S::wait(storage.delete_object(BUCKET, key)).unwrap();
    }
    assert_eq!(refusal(S::wait(storage.get_object(BUCKET, "100%"))).code, Code::NoSuchKey);
    std::fs::remove_dir_all(&folder).unwrap();
}

//! What the operations make of answers, without a wire.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{DATE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use origin_core::config::StorageConfig;
use origin_core::ops::storage::{Object, Storage, Streams};
use origin_core::ops::{Caller, Flow, Step};
use origin_core::outcome::Fault;
use origin_core::rng::Pcg32;
use origin_core::s3::download::Opened;
use origin_core::s3::upload::Want;
use origin_core::s3::{
    ByteRange, Code, Download, GetOptions, ListOptions, Settings, Then, Upload, UploadOptions,
};
use origin_core::{Error, Report, Request, Response, Secret};
use proptest::prelude::*;

/// Answers what it was given, in order, and notes what it was asked.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<(Vec<Response>, Vec<Request>)>>);

impl Caller for Script {
    type Reply<T: Send + 'static> = Result<T, Error>;

    fn run<F: Flow>(&self, mut flow: F) -> Result<F::Output, Error> {
        let mut reply = None;
        loop {
            match flow.next(reply)? {
                Step::Done(output) => return Ok(output),
                Step::Send(request) => {
                    let mut script = self.0.lock().unwrap();
                    script.1.push(request);
                    reply = Some(script.0.remove(0));
                }
            }
        }
    }
}

impl Streams for Script {
    type Download = ();
    type Upload = ();

    fn download(&self, _: Result<Download, Error>) {}

    fn upload(&self, _: Result<Upload, Error>) {}

    fn remembers(&self) -> bool {
        false
    }

    /// The loop of a driver, which never has to wait.
    fn collect(&self, download: Result<Download, Error>) -> Result<Object, Error> {
        let (mut download, mut rng) = (download?.collect(10), Pcg32::new(1, 1));
        loop {
            let mut script = self.0.lock().unwrap();
            script.1.push(download.request());
            let Response { status, headers, body, report, .. } = script.0.remove(0);
            let then = match download.opened(status, &headers) {
                Opened::Refused => download
                    .refused(status, &headers, &body, &mut rng)
                    .map_err(|error| Error::Storage { error: Box::new(error), report: None })?,
                Opened::Read => {
                    assert!(download.piece(body)?.is_empty());
                    download.ended(&mut rng)
                }
            };
            match then {
                Then::Done => {
                    let info = download.info().cloned().unwrap();
                    return Ok(Object::of(info, download.take(), report));
                }
                Then::Again(_) => {}
                Then::GiveUp => {
                    return Err(Error::Body { service: "storage".into(), fault: Fault::Reset });
                }
            }
        }
    }
}

fn answer(status: u16, headers: &[(http::HeaderName, &'static str)], body: &str) -> Response {
    let pair = |(name, value): &(http::HeaderName, &'static str)| {
        (name.clone(), HeaderValue::from_static(value))
    };
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(pair).collect::<HeaderMap>(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        trailers: None,
        report: Report::default(),
    }
}

fn storage(answers: Vec<Response>) -> (Storage<Script>, Script) {
    let config = StorageConfig {
        access_key: Some("k".to_owned()),
        secret_key: Secret::new("s3cret"),
        ..StorageConfig::default()
    };
    let settings = Settings::of(&config, "storage", |_| None).unwrap();
    let script = Script::default();
    script.0.lock().unwrap().0 = answers;
    (Storage::new(script.clone(), Arc::new(settings)), script)
}

fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Err(Error::Storage { error, .. }) => error.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

const SKEWED: &str = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
const THEN: (http::HeaderName, &str) = (DATE, "Fri, 24 May 2013 00:00:00 GMT");

#[test]
fn the_clock_is_corrected_once_and_for_all_pages() {
    let page = |next: &str| {
        format!(
            "<ListBucketResult><Contents><Key>k</Key><Size>1</Size></Contents>\
             <IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>\
             </ListBucketResult>"
        )
    };
    let (storage, script) = storage(vec![
        answer(403, &[THEN], SKEWED),
        answer(200, &[], &page("a")),
        answer(200, &[], &page("b")),
        answer(403, &[THEN], SKEWED),
    ]);
    let listed = storage.list_objects("b", &ListOptions::default(), 10);
    assert_eq!(code(listed), Code::RequestTimeTooSkewed);
    let asked = &script.0.lock().unwrap().1;
    let at: Vec<bool> = asked.iter().map(|r| r.signer.as_ref().unwrap().is_at()).collect();
    assert_eq!(at, [false, true, true, true]);
    assert_eq!(asked[2].path.query(), Some("continuation-token=a&encoding-type=url&list-type=2"));
}

#[test]
fn a_head_that_is_refused_is_asked_once_more_by_the_clock_of_the_server() {
    let denied = || answer(403, &[THEN], "");
    let (storage, script) = storage(vec![denied(), denied(), denied()]);
    let head = storage.head_object("b", "k", &GetOptions::default());
    assert_eq!(code(head), Code::AccessDenied);
    assert_eq!(script.0.lock().unwrap().1.len(), 2);
    assert_eq!(code(storage.get_object("b", "k")), Code::AccessDenied);
    assert_eq!(script.0.lock().unwrap().1.len(), 3, "a GET says why, and it was not the clock");
}

#[test]
fn pages_in_a_circle_end() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>a</NextContinuationToken></ListBucketResult>";
    let (storage, _) = storage(vec![answer(200, &[], page), answer(200, &[], page)]);
    let listed = storage.list_objects("b", &ListOptions::default(), 10);
    assert!(matches!(listed, Err(Error::Decode { .. })));
}

#[test]
fn another_part_than_asked_for_is_no_object() {
    let whole = || answer(200, &[(ETAG, "\"e\"")], "abc");
    let (storage, script) = storage(vec![whole(), answer(206, &[], "a"), whole()]);
    let part = GetOptions::range(ByteRange::From(1));
    assert_eq!(code(storage.get_object_with("b", "k", &part)), Code::RangeIgnored);
    assert_eq!(code(storage.get_object("b", "k")), Code::RangeIgnored);
    let object = storage.get_object("b", "k").unwrap();
    assert_eq!((object.etag.as_deref(), object.bytes.as_ref()), (Some("\"e\""), &b"abc"[..]));
    let shown = format!("{storage:?} {:?}", script.0.lock().unwrap().1);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn nothing_is_deleted_twice() {
    let none = "<Error><Code>NoSuchKey</Code></Error>";
    let bucket = "<Error><Code>NoSuchBucket</Code></Error>";
    let (storage, _) =
        storage(vec![answer(204, &[], ""), answer(404, &[], none), answer(404, &[], bucket)]);
    storage.delete_object("b", "k").unwrap();
    storage.delete_object("b", "k").unwrap();
    assert_eq!(code(storage.delete_object("b", "k")), Code::NoSuchBucket);
}

#[test]
fn an_object_that_is_collected_is_whole_or_none() {
    let length = |size: &'static str| (http::header::CONTENT_LENGTH, size);
    let part = |range: &'static str| (http::header::CONTENT_RANGE, range);
    let (one, weak) = ((ETAG, "\"e\""), (ETAG, "W/\"e\""));
    let (storage, script) = storage(vec![
        // Broken off after three bytes of six: the rest is asked for.
        answer(200, &[one.clone(), length("6")], "abc"),
        answer(206, &[one.clone(), part("bytes 3-5/6")], "def"),
        // Without a tag that can be trusted it is begun anew, and can be another one.
        answer(200, &[weak.clone(), length("6")], "abc"),
        answer(200, &[weak.clone(), length("4")], "wxyz"),
        // Another object meanwhile.
        answer(200, &[one.clone(), length("6")], "abc"),
        answer(412, &[], ""),
        // More than is to be kept, as it says beforehand.
        answer(200, &[one, length("11")], "a"),
    ]);
    assert_eq!(storage.get_object("b", "k").unwrap().bytes, "abcdef");
    assert_eq!(storage.get_object("b", "k").unwrap().bytes, "wxyz");
    assert_eq!(code(storage.get_object("b", "k")), Code::Changed);
    let large = storage.get_object("b", "k");
    assert!(matches!(large, Err(Error::TooLarge { limit: 10, .. })), "{large:?}");
    let asked = &script.0.lock().unwrap().1;
    assert_eq!(asked[1].headers["range"], "bytes=3-5");
    assert_eq!(asked[1].headers["if-match"], "\"e\"");
    assert!(!asked[3].headers.contains_key("range") && !asked[3].headers.contains_key("if-match"));
}

proptest! {
    /// Whatever comes back, every operation ends, and what it yields is whole.
    #[test]
    fn any_answer_is_survived_by_every_operation(
        status in 100..600_u16,
        tag in proptest::collection::vec(any::<u8>(), 0..20),
        range in "(bytes )?[0-9*/-]{0,12}",
        body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut reply = answer(status, &[THEN], "");
        reply.body = body.clone().into();
        for (name, value) in [(ETAG, &tag[..]), (http::header::CONTENT_RANGE, range.as_bytes())] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                reply.headers.insert(name, value);
            }
        }
        let storage = || storage(vec![reply.clone(); 20]).0;
        if let Ok(object) = storage().get_object("b", "k") {
            prop_assert!(status == 200 && object.bytes == body);
        }
        let part = GetOptions::range(ByteRange::Between(0, 5));
        if let Ok(object) = storage().get_object_with("b", "k", &part) {
            prop_assert!(status == 206 && object.bytes.len() <= 6 && object.bytes == body);
        }
        let success = (200..300).contains(&status);
        prop_assert_eq!(storage().head_object("b", "k", &part).is_ok(), success);
        prop_assert_eq!(storage().put_object("b", "k", "x").is_ok(), success);
        prop_assert!(storage().delete_object("b", "k").is_ok() == success || status == 404);
        if let Ok(listed) = storage().list_objects("b", &ListOptions::default(), 10) {
            prop_assert!(success && listed.iter().all(|entry| !entry.key.is_empty()));
        }
    }

    /// Whatever they are called, every operation reaches that object of that bucket, or nothing is
    /// sent.
    #[test]
    fn any_name_arrives_as_it_is_or_is_refused_by_every_operation(
        bucket in "[a-z%. /\\\\ü]{0,6}|.{0,9}",
        key in "[a-z%. /\\\\ü]{0,9}|.{0,40}",
    ) {
        let (storage, script) = storage(vec![answer(404, &[], ""); 9]);
        let _ = storage.get_object(&bucket, &key);
        let _ = storage.head_object(&bucket, &key, &GetOptions::default());
        let _ = storage.put_object(&bucket, &key, "x");
        let _ = storage.delete_object(&bucket, &key);
        let upload = Upload::new(&Arc::default(), &bucket, &key, UploadOptions::default());
        let mut sent: Vec<Request> = std::mem::take(&mut script.0.lock().unwrap().1);
        let expected = if upload.is_ok() { 4 } else { 0 };
        prop_assert_eq!(sent.len(), expected);
        if let Ok(mut upload) = upload {
            upload.end();
            let Want::Send(request, _) = upload.poll().unwrap() else { panic!() };
            sent.push(request);
        }
        for request in sent {
            let path: Vec<u8> = percent_encoding::percent_decode_str(request.path.path()).collect();
            prop_assert_eq!(path, format!("/{bucket}/{key}").into_bytes());
            prop_assert!(request.path.query().is_none());
        }
        let _ = storage.list_objects(&bucket, &ListOptions::prefix(&*key), 9);
        for request in &script.0.lock().unwrap().1 {
            let path: Vec<u8> = percent_encoding::percent_decode_str(request.path.path()).collect();
            prop_assert_eq!(path, format!("/{bucket}").into_bytes());
        }
    }
}

//! Histories of an upload against a server that is a map: whatever is lost on the way, the object
//! is there as a whole or not at all, and what is said of it is so.

use std::collections::{BTreeMap, VecDeque};

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::call::{Choice, Why};
use crate::error::Failure;
use crate::outcome::{Fault, Outcome, Sent};
use crate::request::{AttemptReport, Response};
use crate::s3::error::Code;

const SIZE: u64 = 4;

/// An upload in parts of four bytes.
fn upload(options: PutOptions) -> Upload {
    let options = UploadOptions { object: options, ..UploadOptions::default() };
    let mut upload = Upload::new(&Arc::default(), "b", "k", options).unwrap();
    upload.part_size = SIZE;
    upload
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is answered.
    Fine,
    /// It never arrives, and that is known.
    Unsent,
    /// It never arrives, and that is not known.
    Lost,
    /// It has its effect, and the answer is lost.
    Mute,
    /// It is repeated within the call, after an answer was lost.
    Twice,
    /// The server has no time.
    Busy,
    /// It says so with the status of a success.
    Lie,
    /// Another cluster answers, which knows nothing.
    Elsewhere,
}

const FATES: [Fate; 8] = [
    Fate::Fine,
    Fate::Unsent,
    Fate::Lost,
    Fate::Mute,
    Fate::Twice,
    Fate::Busy,
    Fate::Lie,
    Fate::Elsewhere,
];

#[derive(Default)]
struct Server {
    object: Option<(Bytes, ETag)>,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    begun: usize,
    asked: Vec<String>,
    fates: VecDeque<Fate>,
    /// Its tags are none that could be foreseen.
    odd: bool,
    /// How large it says that an object is.
    told: Option<u64>,
}

type Answer = (u16, Option<ETag>, String);

fn refusal(status: u16, code: &str) -> Answer {
    (status, None, format!("<Error><Code>{code}</Code></Error>"))
}

impl Server {
    fn tag(&self, bytes: &[u8]) -> ETag {
        let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        ETag::new(if self.odd { &hash } else { &hash[..32] }).unwrap()
    }

    fn act(&mut self, request: &Request) -> Answer {
        let query: BTreeMap<&str, &str> = request
            .path
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        let id = query.get("uploadId").map(|id| (*id).to_owned());
        let fits = |object: &Option<(Bytes, ETag)>| match object {
            Some((_, tag)) => {
                !request.headers.contains_key("if-none-match")
                    && request.headers.get("if-match").is_none_or(|wanted| wanted == tag.as_str())
            }
            None => !request.headers.contains_key("if-match"),
        };
        match (request.method.as_str(), id) {
            ("PUT", None) => {
                if !fits(&self.object) {
                    return refusal(412, "PreconditionFailed");
                }
                let tag = self.tag(&request.body);
                self.object = Some((request.body.clone(), tag.clone()));
                (200, Some(tag), String::new())
            }
            ("POST", None) => {
                self.begun += 1;
                let id = format!("id{}", self.begun);
                self.uploads.insert(id.clone(), BTreeMap::new());
                let root = "InitiateMultipartUploadResult";
                (200, None, format!("<{root}><UploadId>{id}</UploadId></{root}>"))
            }
            ("PUT", Some(id)) => {
                let tag = self.tag(&request.body);
                let Some(parts) = self.uploads.get_mut(&id) else {
                    return refusal(404, "NoSuchUpload");
                };
                parts.insert(query["partNumber"].parse().unwrap(), request.body.clone());
                (200, Some(tag), String::new())
            }
            ("POST", Some(id)) => {
                let Some(parts) = self.uploads.get(&id) else {
                    return refusal(404, "NoSuchUpload");
                };
                if !fits(&self.object) {
                    return refusal(412, "PreconditionFailed");
                }
                let tags: Vec<ETag> = parts.values().map(|part| self.tag(part)).collect();
                let whole: Bytes = parts.values().flatten().copied().collect();
                let tag = multipart::composed(&tags).unwrap_or_else(|| self.tag(&whole));
                let asked = std::str::from_utf8(&request.body).unwrap();
                assert_eq!(asked.matches("<Part>").count(), parts.len());
                self.object = Some((whole, tag.clone()));
                self.uploads.remove(&id);
                let root = "CompleteMultipartUploadResult";
                let tag = tag.as_str().replace('"', "&quot;");
                (200, None, format!(" <{root}><ETag>{tag}</ETag></{root}>"))
            }
            ("DELETE", Some(id)) => match self.uploads.remove(&id) {
                Some(_) => (204, None, String::new()),
                None => refusal(404, "NoSuchUpload"),
            },
            ("HEAD", None) => match &self.object {
                Some((_, tag)) => (200, Some(tag.clone()), String::new()),
                None => (404, None, String::new()),
            },
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Response, Error> {
        self.asked.push(format!("{} {}", request.method, request.path));
        let (mut attempts, mut at) = (Vec::new(), "here");
        let answer = match self.fates.pop_front().unwrap_or(Fate::Fine) {
            Fate::Fine => self.act(request),
            Fate::Unsent => return Err(exhausted(Sent::Never)),
            Fate::Lost => return Err(exhausted(Sent::Maybe)),
            Fate::Mute => {
                self.act(request);
                return Err(exhausted(Sent::Maybe));
            }
            Fate::Twice => {
                self.act(request);
                attempts.push(attempt(at, failed(Sent::Maybe)));
                self.act(request)
            }
            Fate::Busy => refusal(503, "SlowDown"),
            // Only the end of an upload is answered before it is decided.
            Fate::Lie if request.method == Method::POST => refusal(200, "InternalError"),
            Fate::Lie => self.act(request),
            Fate::Elsewhere => {
                at = "there";
                let none = BTreeMap::new();
                let (here, object) =
                    (std::mem::replace(&mut self.uploads, none), self.object.take());
                let answer = self.act(request);
                let begun = !self.uploads.is_empty();
                if begun || self.object.is_some() {
                    // It was done there: from now on this is where it is.
                    at = "here";
                } else {
                    (self.uploads, self.object) = (here, object);
                }
                answer
            }
        };
        let (status, tag, body) = answer;
        attempts.push(attempt(at, Outcome::status(status)));
        let tag = tag.map(|tag| HeaderValue::from_str(tag.as_str()).unwrap());
        let mut headers: HeaderMap = tag.map(|tag| (http::header::ETAG, tag)).into_iter().collect();
        if let Some(told) = self.told.filter(|_| request.method == Method::HEAD) {
            headers.insert(http::header::CONTENT_LENGTH, told.into());
        }
        let report = Report { attempts, ..Report::default() };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers, body: body.into(), trailers: None, report })
    }
}

fn failed(sent: Sent) -> Outcome {
    Outcome::Failed { fault: Fault::Reset, sent }
}

fn attempt(cluster: &str, outcome: Outcome) -> AttemptReport {
    AttemptReport {
        cluster: cluster.into(),
        endpoint: "e".into(),
        why: Choice::Preferred,
        sent_after: Duration::ZERO,
        took: Duration::ZERO,
        outcome,
    }
}

fn exhausted(sent: Sent) -> Error {
    let report = Report { attempts: vec![attempt("here", failed(sent))], ..Report::default() };
    let (why, retry_in, skipped) = (Why::Exhausted, None, Vec::new());
    Error::Exhausted(Box::new(Failure { why, retry_in, report, skipped }))
}

/// Goes on until more bytes are wanted, or it is done.
fn go_on(upload: &mut Upload, server: &mut Server) -> Result<Option<Uploaded>, Error> {
    let mut rng = Pcg32::new(1, 1);
    for _ in 0..500 {
        match upload.poll()? {
            Want::More => return Ok(None),
            Want::Done(uploaded) => return Ok(Some(uploaded)),
            Want::Send(request, pause) => {
                assert!(pause <= LONGEST_PAUSE);
                match server.call(&request) {
                    Ok(reply) => upload.answered(reply, &mut rng)?,
                    Err(why) => upload.failed(why, &mut rng)?,
                }
            }
        }
    }
    panic!("it does not end: {:?}", server.asked);
}

fn write(
    upload: &mut Upload,
    server: &mut Server,
    pieces: &[&[u8]],
    copied: bool,
) -> Result<Uploaded, Error> {
    for piece in pieces {
        if !copied {
            upload.push(Bytes::copy_from_slice(piece));
            assert!(go_on(upload, server)?.is_none());
            continue;
        }
        let mut rest = *piece;
        while !rest.is_empty() {
            match upload.fill(rest) {
                0 => assert!(go_on(upload, server)?.is_none()),
                count => rest = &rest[count..],
            }
            assert!(upload.buffer.len() <= SIZE as usize);
        }
    }
    upload.end();
    Ok(go_on(upload, server)?.expect("it is done"))
}

fn new() -> PutOptions {
    PutOptions { only_new: true, ..PutOptions::default() }
}

/// Writes nine bytes, that is three parts, while this befalls its requests.
fn nine(options: PutOptions, fates: &[Fate], server: &mut Server) -> Result<Uploaded, Error> {
    server.fates = fates.iter().copied().collect();
    write(&mut upload(options), server, &[b"012345678"], false)
}

fn code(error: Error) -> Code {
    error.storage().map(|error| error.code.clone()).unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn what_is_small_goes_as_a_whole_and_what_is_large_in_parts() {
    for (size, asked) in [
        (0, vec!["PUT /b/k"]),
        (4, vec!["PUT /b/k"]),
        (
            5,
            vec![
                "POST /b/k?uploads",
                "PUT /b/k?partNumber=1&uploadId=id1",
                "PUT /b/k?partNumber=2&uploadId=id1",
                "POST /b/k?uploadId=id1",
            ],
        ),
        (
            8,
            vec![
                "POST /b/k?uploads",
                "PUT /b/k?partNumber=1&uploadId=id1",
                "PUT /b/k?partNumber=2&uploadId=id1",
                "POST /b/k?uploadId=id1",
            ],
        ),
    ] {
        let whole: Vec<u8> = (0..size).collect();
        for copied in [false, true] {
            for step in 1..=9 {
                let mut server = Server::default();
                let pieces: Vec<&[u8]> = whole.chunks(step).collect();
                let mut upload = upload(PutOptions::default());
                let uploaded = write(&mut upload, &mut server, &pieces, copied).unwrap();
                assert_eq!(server.asked, asked, "{size} in pieces of {step}");
                assert_eq!(
                    (uploaded.size, uploaded.parts),
                    (whole.len() as u64, asked.len().saturating_sub(2))
                );
                let (bytes, tag) = server.object.unwrap();
                assert_eq!((bytes.as_ref(), Some(tag)), (&whole[..], uploaded.etag));
                assert!(upload.abort().is_none(), "what is done is not given up");
            }
        }
    }
}

#[test]
fn each_part_is_repeated_alone() {
    use Fate::{Busy, Elsewhere, Fine, Lost, Mute, Unsent};
    let mut server = Server::default();
    let fates = [Fine, Fine, Lost, Unsent, Busy, Mute, Elsewhere];
    nine(PutOptions::default(), &fates, &mut server).unwrap();
    let second = server.asked.iter().filter(|line| line.contains("partNumber=2")).count();
    assert_eq!(second, 6, "{:?}", server.asked);
    assert_eq!(server.asked.len(), 10, "{:?}", server.asked);
    assert_eq!(server.object.unwrap().0, "012345678");
    // Not for ever: a part that cannot be had is the end of it.
    let mut server = Server { fates: [Fine].into(), ..Server::default() };
    server.fates.extend([Lost; 50]);
    let mut upload = upload(PutOptions::default());
    let error = write(&mut upload, &mut server, &[b"012345678"], false).unwrap_err();
    assert!(matches!(error, Error::Exhausted(_)) && server.asked.len() == 7, "{error}");
    assert!(upload.poll().is_err());
    server.fates.clear();
    let end = server.call(&upload.abort().unwrap()).unwrap();
    aborted(end).unwrap();
    assert!(server.uploads.is_empty() && server.object.is_none());
    assert!(upload.abort().is_none(), "once");
}

#[test]
fn case_000_44_a_whole_under_a_condition_is_not_repeated_once_it_may_have_arrived() {
    let run = |fates: &[Fate]| {
        let mut server = Server { fates: fates.iter().copied().collect(), ..Server::default() };
        let result = write(&mut upload(new()), &mut server, &[b"012"], false);
        (result, server)
    };
    let (result, server) = run(&[Fate::Mute]);
    assert!(matches!(result, Err(Error::Exhausted(_))) && server.asked.len() == 1);
    let (result, server) = run(&[Fate::Unsent]);
    assert!(result.is_ok() && server.asked.len() == 2);
}

#[test]
fn a_lost_answer_to_the_end_is_found_out_about() {
    use Fate::{Fine, Lie, Lost, Mute, Twice};
    let early = [Fine, Fine, Fine, Fine];
    let last = |fates: &[Fate]| [&early[..], fates].concat();
    for (fates, asked) in [
        (last(&[Mute]), vec!["POST /b/k?uploadId=id1", "POST /b/k?uploadId=id1", "HEAD /b/k"]),
        (last(&[Twice]), vec!["POST /b/k?uploadId=id1", "HEAD /b/k"]),
        (last(&[Lost]), vec!["POST /b/k?uploadId=id1", "POST /b/k?uploadId=id1"]),
        (last(&[Lie]), vec!["POST /b/k?uploadId=id1", "POST /b/k?uploadId=id1"]),
    ] {
        for options in [PutOptions::default(), new()] {
            let mut server = Server::default();
            let uploaded = nine(options, &fates, &mut server).unwrap();
            assert_eq!(server.asked[4..], asked);
            let (bytes, tag) = server.object.unwrap();
            assert_eq!((bytes.as_ref(), Some(tag)), (&b"012345678"[..], uploaded.etag));
            assert_eq!((uploaded.size, uploaded.parts), (9, 3));
        }
    }
    // Where tags say nothing nothing is claimed.
    let mut server = Server { odd: true, ..Server::default() };
    let error = nine(PutOptions::default(), &last(&[Mute]), &mut server).unwrap_err();
    assert_eq!(code(error), Code::NoSuchUpload);
    // Nor where the tag is the right one and the size is not.
    for (told, fits) in [(9, true), (8, false), (10, false)] {
        let mut server = Server { told: Some(told), ..Server::default() };
        let result = nine(PutOptions::default(), &last(&[Mute]), &mut server);
        assert_eq!(result.is_ok(), fits, "{told}");
        assert!(fits || code(result.unwrap_err()) == Code::NoSuchUpload);
    }
    // Nor when it is another object that is there.
    let other = Some((Bytes::from_static(b"other"), ETag::new("other").unwrap()));
    let mut server = Server { object: other, ..Server::default() };
    let error = nine(new(), &last(&[Lost]), &mut server).unwrap_err();
    assert_eq!(code(error), Code::PreconditionFailed);
    assert_eq!(server.asked.last().unwrap(), "HEAD /b/k");
    assert_eq!(server.object.unwrap().0, "other");
}

#[test]
fn a_condition_that_does_not_hold_is_told_at_once_when_there_is_no_doubt() {
    let other = Some((Bytes::from_static(b"other"), ETag::new("other").unwrap()));
    let mut server = Server { object: other, ..Server::default() };
    let error = nine(new(), &[], &mut server).unwrap_err();
    assert_eq!(code(error), Code::PreconditionFailed);
    assert_eq!(server.asked.len(), 5, "{:?}", server.asked);
    let instead = PutOptions { if_match: ETag::new("other"), ..PutOptions::default() };
    let mut server = Server { object: server.object, ..Server::default() };
    nine(instead, &[], &mut server).unwrap();
}

#[test]
fn parts_grow_so_that_they_suffice() {
    let sum = |mut upload: Upload| {
        let (mut sum, mut largest) = (0_u128, 0);
        for _ in 0..MOST_PARTS {
            largest = largest.max(upload.limit());
            sum += upload.limit() as u128;
            upload.parts.push(ETag::new("e").unwrap());
        }
        (sum, largest)
    };
    let of = |part_size: u64, size: Option<u64>| {
        let options = UploadOptions { part_size, size, ..UploadOptions::default() };
        Upload::new(&Arc::default(), "b", "k", options)
    };
    let tib = 1_u128 << 40;
    assert!(sum(of(SMALLEST_PART, None).unwrap()).0 > 8 * tib);
    assert!(sum(of(8 << 20, None).unwrap()).1 <= LARGEST_PART as usize);
    let known = of(8 << 20, Some(5 << 40)).unwrap();
    assert!(known.limit() as u128 * MOST_PARTS as u128 >= 5 * tib);
    assert_eq!(of(8 << 20, Some(1)).unwrap().limit(), 8 << 20);
    for (part_size, size) in
        [(SMALLEST_PART - 1, None), (LARGEST_PART + 1, None), (8 << 20, Some(u64::MAX))]
    {
        assert!(matches!(of(part_size, size), Err(Error::Request { .. })));
    }
    let mut full = upload(PutOptions::default());
    full.id = Some("id".to_owned());
    full.parts = vec![ETag::new("e").unwrap(); MOST_PARTS];
    full.push(Bytes::from_static(b"x"));
    full.end();
    assert!(matches!(full.poll(), Err(Error::Request { .. })));
    assert!(full.abort().is_some());
}

proptest! {
    /// Whatever befalls the requests: what is reported as written is there, byte for byte; what is
    /// reported as not written leaves nothing but what it says; and it ends.
    #[test]
    fn it_is_there_as_a_whole_or_not_at_all(
        fates in proptest::collection::vec(0..FATES.len(), 0..24),
        size in 0..23_usize,
        step in 1..9_usize,
        copied in any::<bool>(),
        only_new in any::<bool>(),
        taken in any::<bool>(),
        odd in any::<bool>(),
    ) {
        let whole: Vec<u8> = (0..size as u8).collect();
        let pieces: Vec<&[u8]> = whole.chunks(step).collect();
        let other = (Bytes::from_static(b"other"), ETag::new("other").unwrap());
        let mut server = Server { odd, ..Server::default() };
        server.fates = fates.iter().map(|fate| FATES[*fate]).collect();
        server.object = taken.then(|| other.clone());
        let mut upload = upload(PutOptions { only_new, ..PutOptions::default() });
        let result = write(&mut upload, &mut server, &pieces, copied);
        server.fates.clear();
        match result {
            Ok(uploaded) => {
                let (bytes, tag) = server.object.clone().unwrap();
                prop_assert_eq!(bytes.as_ref(), &whole[..]);
                prop_assert_eq!(uploaded.etag, Some(tag));
                prop_assert_eq!(uploaded.size, size as u64);
                prop_assert!(upload.abort().is_none());
            }
            Err(error) => {
                let all = server.object.as_ref().is_none_or(|(bytes, _)| {
                    bytes.as_ref() == b"other" || bytes.as_ref() == &whole[..]
                });
                prop_assert!(all, "{}", error);
                if let Some(request) = upload.abort() {
                    prop_assert!(aborted(server.call(&request).unwrap()).is_ok());
                }
                // One whose beginning was not answered has no name that it could be ended by.
                prop_assert!(server.uploads.values().all(BTreeMap::is_empty));
            }
        }
    }
}

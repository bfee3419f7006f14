//! Histories of a download, short ones all of them, against a server that is a text.

use http::HeaderName;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use proptest::prelude::*;

use super::*;
use crate::config::StorageConfig;
use crate::secret::Secret;

const OBJECT: &[u8] = b"abcdef";

fn settings(resumes: u8) -> Arc<Settings> {
    Arc::new(Settings { resumes, ..Settings::default() })
}

fn download(resumes: u8, options: GetOptions) -> Download {
    Download::new(&settings(resumes), "b", "k", options).unwrap()
}

fn rng() -> Pcg32 {
    Pcg32::new(7, 7)
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn text(request: &Request, name: HeaderName) -> Option<&str> {
    request.headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Answers as it should, and sends so many bytes before the line breaks.
    Send(usize),
    /// The same, but the body just ends there.
    End(usize),
    /// Knows nothing of ranges: sends everything, so many bytes of it.
    Whole(usize),
    /// Answers with the part one byte further on.
    Shifted,
    /// The object is another one now: it is sent whatever is asked.
    Another,
    /// The same, but it heeds `If-Match`.
    Refused,
    /// No answer can be had.
    Nothing,
    /// It has too much to do.
    Busy,
}

const ACTS: [Act; 13] = [
    Act::Send(0),
    Act::Send(2),
    Act::Send(6),
    Act::End(0),
    Act::End(1),
    Act::End(6),
    Act::Whole(1),
    Act::Whole(6),
    Act::Shifted,
    Act::Another,
    Act::Refused,
    Act::Nothing,
    Act::Busy,
];

#[derive(Debug, PartialEq)]
enum Came {
    Whole,
    Failed(Code),
    GaveUp,
    /// The history ended before the download did.
    Open,
}

/// Plays one history; yields what the reader got, how it ended and how often something was asked.
fn play(resumes: u8, tag: Option<&str>, acts: &[Act]) -> (Vec<u8>, Came, usize) {
    let mut machine = download(resumes, GetOptions::default());
    let (mut got, mut asked, mut rng) = (Vec::new(), 0, rng());
    for act in acts {
        let request = machine.request();
        asked += 1;
        assert_eq!(machine.got(), got.len() as u64);
        let from = match text(&request, RANGE) {
            Some(range) => {
                let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                assert!(to.is_empty() || to == "5", "{range}");
                from.parse().unwrap()
            }
            None => 0,
        };
        assert_eq!(from, got.len(), "it asks for what is missing");
        assert_eq!(text(&request, IF_MATCH), tag.filter(|_| machine.info().is_some()));
        let part = text(&request, RANGE).is_some();
        let (body, breaks) = match act {
            Act::Send(count) => (&OBJECT[from..(from + count).min(6)], true),
            Act::End(count) => (&OBJECT[from..(from + count).min(6)], false),
            Act::Whole(count) => (&OBJECT[..*count], *count < 6),
            Act::Shifted | Act::Another => (&b"XXXXXX"[..], false),
            Act::Nothing | Act::Busy | Act::Refused => (&b""[..], false),
        };
        let mut given: Vec<(HeaderName, &str)> = Vec::new();
        let range;
        let length;
        let status = match act {
            Act::Nothing => match machine.broke(&mut rng) {
                Then::Again(_) => continue,
                Then::GiveUp => return (got, Came::GaveUp, asked),
                Then::Done => panic!("done without an answer"),
            },
            Act::Refused if machine.info().is_some() => StatusCode::PRECONDITION_FAILED,
            Act::Refused => StatusCode::NOT_FOUND,
            Act::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Act::Another => {
                given.extend([(ETAG, "\"another\""), (CONTENT_LENGTH, "6")]);
                StatusCode::OK
            }
            Act::Send(_) | Act::End(_) | Act::Shifted if part => {
                let shift = usize::from(*act == Act::Shifted);
                range = format!("bytes {}-5/6", (from + shift).min(5));
                given.push((CONTENT_RANGE, &range));
                given.extend(tag.map(|tag| (ETAG, tag)));
                StatusCode::PARTIAL_CONTENT
            }
            _ => {
                length = OBJECT.len().to_string();
                given.push((CONTENT_LENGTH, &length));
                given.extend(tag.map(|tag| (ETAG, tag)));
                StatusCode::OK
            }
        };
        let headers = headers(&given);
        let then = match machine.opened(status, &headers) {
            Opened::Refused => machine.refused(status, &headers, b"", &mut rng),
            Opened::Read => match machine.piece(Bytes::copy_from_slice(body)) {
                Ok(piece) => {
                    got.extend_from_slice(&piece);
                    Ok(if breaks { machine.broke(&mut rng) } else { machine.ended(&mut rng) })
                }
                Err(Error::Storage { error, .. }) => Err(*error),
                Err(other) => panic!("{other}"),
            },
        };
        match then {
            Ok(Then::Done) => return (got, Came::Whole, asked),
            Ok(Then::Again(_)) => {}
            Ok(Then::GiveUp) => return (got, Came::GaveUp, asked),
            Err(error) => return (got, Came::Failed(error.code), asked),
        }
    }
    (got, Came::Open, asked)
}

/// Every history of up to five acts: what the reader has is always the beginning of one object,
/// and all of it when it is told so.
#[test]
fn no_history_mixes_objects_or_ends_early() {
    let mut histories: Vec<Vec<Act>> = vec![Vec::new()];
    let mut whole = 0;
    for _ in 0..4 {
        let longer = histories.iter().flat_map(|acts| {
            ACTS.iter().map(move |act| acts.iter().copied().chain([*act]).collect())
        });
        histories = longer.collect();
        for acts in &histories {
            for tag in [Some("\"one\""), Some("W/\"weak\""), None] {
                let (got, came, asked) = play(2, tag, acts);
                let first = acts.iter().position(|act| !matches!(act, Act::Nothing));
                let object: &[u8] = match got.first() {
                    Some(b'X') => b"XXXXXX",
                    _ => OBJECT,
                };
                assert!(object.starts_with(&got), "{acts:?} {tag:?}: {got:?}");
                assert_eq!(came == Came::Whole, got.len() == 6, "{acts:?} {tag:?}: {came:?}");
                assert!(asked <= 3, "{acts:?}: asked {asked} times");
                if tag != Some("\"one\"") && !got.is_empty() && got.len() < 6 {
                    assert!(came != Came::Open, "{acts:?} {tag:?} cannot go on");
                }
                whole += usize::from(came == Came::Whole && first.is_some());
            }
        }
    }
    assert!(whole > 1000, "{whole} came to their end");
}

#[test]
fn another_object_is_an_error_of_its_own() {
    let changed = Came::Failed(Code::Changed);
    let tag = Some("\"one\"");
    assert_eq!(play(5, tag, &[Act::Send(2), Act::Refused]).1, changed);
    assert_eq!(play(5, tag, &[Act::Send(2), Act::Another]).1, changed);
    assert_eq!(play(5, tag, &[Act::Send(2), Act::Shifted]).1, changed);
    // A server that knows no ranges: what is had already is passed over.
    assert_eq!(play(5, tag, &[Act::Send(2), Act::Whole(6)]), (OBJECT.to_vec(), Came::Whole, 2));
    assert_eq!(play(5, tag, &[Act::Refused]).1, Came::Failed(Code::NoSuchKey));
    assert_eq!(play(5, tag, &[Act::Busy]).1, Came::Failed(Code::SlowDown));
    assert_eq!(play(5, tag, &[Act::Send(2), Act::Busy, Act::End(6)]).1, Came::Whole);
    assert_eq!(play(5, tag, &[Act::Nothing]).1, Came::GaveUp);
    assert_eq!(play(0, tag, &[Act::Send(2)]).1, Came::GaveUp);
}

#[test]
fn pauses_grow_and_the_right_to_go_on_comes_back_with_bytes() {
    let mut machine = download(100, GetOptions::default());
    let head = headers(&[(ETAG, "\"e\""), (CONTENT_LENGTH, "18446744073709551615")]);
    assert_eq!(machine.opened(StatusCode::OK, &head), Opened::Read);
    let (mut rng, mut pauses) = (rng(), Vec::new());
    for _ in 0..100 {
        let Then::Again(pause) = machine.broke(&mut rng) else { panic!() };
        pauses.push(pause);
    }
    assert_eq!(machine.broke(&mut rng), Then::GiveUp);
    assert_eq!(pauses[0], Duration::ZERO);
    for (number, most) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (99, 5000)] {
        let most = Duration::from_millis(most);
        assert!(pauses[number] <= most && pauses[number] >= most / 2, "{number}: {pauses:?}");
    }
    // A MiB, and it may go on as often again.
    let mut machine = download(1, GetOptions::default());
    assert_eq!(machine.opened(StatusCode::OK, &head), Opened::Read);
    for _ in 0..50 {
        assert_eq!(machine.broke(&mut rng), Then::Again(Duration::ZERO));
        machine.piece(Bytes::from(vec![0; 1 << 20])).unwrap();
    }
    assert!(matches!(machine.broke(&mut rng), Then::Again(_)));
    machine.piece(Bytes::from(vec![0; (1 << 20) - 1])).unwrap();
    assert_eq!(machine.broke(&mut rng), Then::GiveUp);
}

#[test]
fn a_part_of_an_object_goes_on_within_that_part() {
    let part = |range: &'static str| headers(&[(ETAG, "\"e\""), (CONTENT_RANGE, range)]);
    let of = |range: ByteRange| {
        let tag = ETag::new("e");
        download(3, GetOptions { range: Some(range), if_none_match: tag, ..Default::default() })
    };
    let mut last = of(ByteRange::Last(4));
    assert_eq!(text(&last.request(), RANGE), Some("bytes=-4"));
    assert!(text(&last.request(), IF_NONE_MATCH).is_some());
    assert_eq!(last.opened(StatusCode::PARTIAL_CONTENT, &part("bytes 2-5/6")), Opened::Read);
    assert_eq!((last.size(), last.info().unwrap().size), (Some(4), Some(6)));
    last.piece(Bytes::from_static(b"c")).unwrap();
    assert!(matches!(last.broke(&mut rng()), Then::Again(_)));
    let request = last.request();
    assert_eq!(text(&request, RANGE), Some("bytes=3-5"));
    assert_eq!((text(&request, IF_MATCH), text(&request, IF_NONE_MATCH)), (Some("\"e\""), None));
    // What is not that part is not taken for it.
    let mut between = of(ByteRange::Between(1, 3));
    for (status, head) in [
        (StatusCode::OK, part("bytes 1-3/6")),
        (StatusCode::PARTIAL_CONTENT, part("bytes 0-3/6")),
        (StatusCode::PARTIAL_CONTENT, part("bytes 1-4/6")),
        (StatusCode::PARTIAL_CONTENT, headers(&[])),
    ] {
        assert_eq!(between.opened(status, &head), Opened::Refused);
        let error = between.refused(status, &head, b"", &mut rng()).unwrap_err();
        assert_eq!(error.code, Code::RangeIgnored);
    }
    assert_eq!(between.opened(StatusCode::PARTIAL_CONTENT, &part("bytes 1-3/6")), Opened::Read);
    assert!(between.piece(Bytes::from_static(b"bcde")).is_err(), "more than there is");
}

#[test]
fn the_clock_of_the_server_is_taken_once() {
    let config = StorageConfig {
        access_key: Some("k".to_owned()),
        secret_key: Secret::new("s"),
        ..StorageConfig::default()
    };
    let settings = Arc::new(Settings::of(&config, "storage", |_| None).unwrap());
    let mut machine = Download::new(&settings, "b", "k", GetOptions::default()).unwrap();
    let late = headers(&[(DATE, "Fri, 24 May 2013 00:00:00 GMT")]);
    let body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let status = StatusCode::FORBIDDEN;
    let no_date = machine.clone().refused(status, &headers(&[]), body, &mut rng());
    assert_eq!(no_date.unwrap_err().code, Code::RequestTimeTooSkewed);
    assert_eq!(machine.opened(status, &late), Opened::Refused);
    let then = machine.refused(status, &late, body, &mut rng());
    assert_eq!(then, Ok(Then::Again(Duration::ZERO)));
    assert!(machine.request().signer.unwrap().is_at());
    let again = machine.refused(status, &late, body, &mut rng());
    assert_eq!(again.unwrap_err().code, Code::RequestTimeTooSkewed);
}

proptest! {
    /// Long histories, at random: the same holds.
    #[test]
    fn long_histories_hold_too(
        acts in proptest::collection::vec(0..ACTS.len(), 0..20), resumes in 0..12_u8,
    ) {
        let acts: Vec<Act> = acts.into_iter().map(|number| ACTS[number]).collect();
        let (got, came, asked) = play(resumes, Some("\"one\""), &acts);
        let object: &[u8] = if got.first() == Some(&b'X') { b"XXXXXX" } else { OBJECT };
        prop_assert!(object.starts_with(&got));
        prop_assert_eq!(came == Came::Whole, got.len() == 6);
        prop_assert!(asked <= usize::from(resumes) + 1);
    }

    /// Whatever heads and numbers come, nothing panics.
    #[test]
    fn any_head_is_survived(
        codes in proptest::collection::vec((100..600_u16, "\\PC{0,24}", "\\PC{0,12}"), 0..6),
    ) {
        let mut machine = download(3, GetOptions::default());
        for (code, range, length) in codes {
            let mut head = HeaderMap::new();
            for (name, value) in [(CONTENT_RANGE, range), (CONTENT_LENGTH, length)] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    head.insert(name, value);
                }
            }
            let status = StatusCode::from_u16(code).unwrap();
            let _ = machine.request();
            if machine.opened(status, &head) == Opened::Refused {
                let _ = machine.refused(status, &head, b"", &mut rng());
            }
            let _ = machine.piece(Bytes::from_static(b"xyz"));
            let _ = machine.ended(&mut rng());
        }
    }
}

//! Reading the answers of HTTP and script checks. gRPC has its own file.

use http::HeaderMap;
use serde_json::Value;

use super::{Fail, ProbeOutcome, Settings, Status};
use crate::outcome::Fault;

/// Longest body that is read for its health word, in bytes: an adapter need not collect more.
pub const BODY_MOST: usize = 64 << 10;
/// Longest body that is taken for a bare word.
const WORD_MOST: usize = 64;

/// Judges the answer of an HTTP check: its status, the degraded marker, and, where the settings
/// ask for it, the health word in its body. Redirects are not followed; they are a status like
/// any other.
///
/// Services answer 200 while the body says that they are not ready, so a body that is to be read
/// must have a known word: without one the check fails.
#[must_use]
pub fn http(settings: &Settings, status: u16, headers: &HeaderMap, body: &[u8]) -> ProbeOutcome {
    if !settings.expects(status) {
        return ProbeOutcome::Fail(Fail::Status(status));
    }
    let marker = settings.degraded_header.as_deref();
    let marked = marker.is_some_and(|name| headers.contains_key(name));
    let word = if settings.read_body { word(body) } else { Some(Status::Healthy) };
    match word {
        Some(Status::Healthy) if !marked => ProbeOutcome::Pass,
        Some(Status::Healthy | Status::Degraded) => ProbeOutcome::Degraded,
        Some(Status::Unhealthy) => ProbeOutcome::Fail(Fail::Word),
        Some(Status::Unknown) | None => ProbeOutcome::Fail(Fail::Wordless),
    }
}

/// The health word of a body: in `data.status` (an envelope has a status of its own, which says
/// that the call went well), else in `status`, else the body as a whole, bare or as JSON text.
#[must_use]
pub fn word(body: &[u8]) -> Option<Status> {
    if body.len() > BODY_MOST {
        return None;
    }
    // The reader has a limit of its own against deep nesting.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let read = |value: &Value| value.as_str().and_then(Status::parse);
        let inner = value.get("data").and_then(|data| data.get("status")).and_then(read);
        return inner.or_else(|| value.get("status").and_then(read)).or_else(|| read(&value));
    }
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= WORD_MOST)?;
    Status::parse(text)
}

/// Judges the exit code of a script by the convention of Consul and Nagios: 0 passes, 1 warns,
/// anything else fails, and so does a script that was killed (`None`).
#[must_use]
pub const fn exit(code: Option<i32>) -> ProbeOutcome {
    match code {
        Some(0) => ProbeOutcome::Pass,
        Some(1) => ProbeOutcome::Degraded,
        Some(code) => ProbeOutcome::Fail(Fail::Exit(code)),
        None => ProbeOutcome::Fail(Fail::Exit(-1)),
    }
}

/// Judges a probe that met no answer. What the endpoint cannot be blamed for (its address is not
/// an HTTP address, the request cannot be built) is no result.
#[must_use]
pub const fn fault(fault: Fault) -> ProbeOutcome {
    match fault {
        Fault::NotHttp | Fault::Request => ProbeOutcome::Dropped,
        fault => ProbeOutcome::Fail(Fail::Fault(fault)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const UNSAID: ProbeOutcome = ProbeOutcome::Fail(Fail::Wordless);
    const SAID: ProbeOutcome = ProbeOutcome::Fail(Fail::Word);

    fn settings(read_body: bool) -> Settings {
        Settings { read_body, ..Settings::default() }
    }

    fn marked() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("X-Envoy-Degraded", HeaderValue::from_static(""));
        headers
    }

    #[test]
    fn x_05_the_words_of_all_systems_are_read() {
        let all = [
            (Status::Healthy, "healthy ok passing ready alive SERVING pass up"),
            (Status::Degraded, "degraded warning warn partial"),
            (
                Status::Unhealthy,
                "unhealthy critical failing down NOT_SERVING fail error maintenance",
            ),
            (Status::Unknown, "unknown"),
        ];
        for (status, words) in all {
            assert_eq!(Status::parse(status.word()), Some(status));
            for word in words.split(' ') {
                for form in [word.to_owned(), word.to_uppercase(), format!(" {word}\n")] {
                    assert_eq!(Status::parse(&form), Some(status), "{form:?}");
                }
            }
        }
        for word in ["", "healthyish", "not healthy", "true", "200", "ΟΚ"] {
            assert_eq!(Status::parse(word), None, "{word}");
        }
    }

    #[test]
    fn status_and_marker_decide_without_the_body() {
        let (settings, none) = (settings(false), HeaderMap::new());
        let judge = |status, headers: &HeaderMap| http(&settings, status, headers, b"down");
        assert_eq!(judge(200, &none), ProbeOutcome::Pass);
        assert_eq!(judge(299, &none), ProbeOutcome::Pass);
        assert_eq!(judge(200, &marked()), ProbeOutcome::Degraded);
        for status in [0, 199, 300, 301, 404, 429, 503, 999] {
            assert_eq!(judge(status, &marked()), ProbeOutcome::Fail(Fail::Status(status)));
        }
        let deaf = Settings { degraded_header: None, ..settings.clone() };
        assert_eq!(http(&deaf, 200, &marked(), b""), ProbeOutcome::Pass);
    }

    /// The bodies are those of contracts 001, 002 and 003.
    #[test]
    fn case_001_55_a_body_that_is_read_decides() {
        let settings = settings(true);
        let judge = |body: &[u8]| http(&settings, 200, &HeaderMap::new(), body);
        for (body, expected) in [
            (&br#"{"status":"healthy","tree_loaded":true}"#[..], ProbeOutcome::Pass),
            (br#"{"status":"ok","service":"metadata-stamping"}"#, ProbeOutcome::Pass),
            (br#"{"status":"success","data":{"status":"healthy"}}"#, ProbeOutcome::Pass),
            (br#"{"status":"ok","data":{"status":"critical"}}"#, SAID),
            (br#"{"status":"ok","data":{"status":7}}"#, ProbeOutcome::Pass),
            (br#"{"status":"partial"}"#, ProbeOutcome::Degraded),
            (br#"{"status":"error"}"#, SAID),
            (br#"{"status":"unknown"}"#, UNSAID),
            (br#"{"status":"success"}"#, UNSAID),
            (br#"{"status":true}"#, UNSAID),
            (br#"{"status":"healthy""#, UNSAID),
            (b"{}", UNSAID),
            (b"[]", UNSAID),
            (b"", UNSAID),
            (b"OK\n", ProbeOutcome::Pass),
            (b"\"degraded\"", ProbeOutcome::Degraded),
            (b"<html>ok</html>", UNSAID),
            (b"\xff\xfe", UNSAID),
        ] {
            assert_eq!(judge(body), expected, "{}", String::from_utf8_lossy(body));
        }
        let marked = |body| http(&settings, 200, &marked(), body);
        assert_eq!((marked(b"ok"), marked(b"down")), (ProbeOutcome::Degraded, SAID));
    }

    #[test]
    fn large_and_deep_bodies_are_refused() {
        let settings = settings(true);
        let judge = |body: &[u8]| http(&settings, 200, &HeaderMap::new(), body);
        let padded = |n: usize| format!("{{\"status\":\"ok\"{}}}", " ".repeat(n));
        assert_eq!(judge(padded(BODY_MOST - 15).as_bytes()), ProbeOutcome::Pass);
        assert_eq!(judge(padded(BODY_MOST - 14).as_bytes()), UNSAID);
        assert_eq!(judge("[".repeat(BODY_MOST).as_bytes()), UNSAID);
    }

    #[test]
    fn case_003_07_exit_codes_are_those_of_consul() {
        assert_eq!(exit(Some(0)), ProbeOutcome::Pass);
        assert_eq!(exit(Some(1)), ProbeOutcome::Degraded);
        for code in [2, 255, i32::MIN] {
            assert_eq!(exit(Some(code)), ProbeOutcome::Fail(Fail::Exit(code)));
        }
        assert_eq!(exit(None), ProbeOutcome::Fail(Fail::Exit(-1)));
    }

    #[test]
    fn a_fault_of_our_own_is_not_the_endpoints() {
        assert_eq!(fault(Fault::Timeout), ProbeOutcome::Fail(Fail::Fault(Fault::Timeout)));
        assert_eq!(fault(Fault::NotHttp), ProbeOutcome::Dropped);
        assert_eq!(fault(Fault::Request), ProbeOutcome::Dropped);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status: u16, body in proptest::collection::vec(any::<u8>(), 0..200),
                                  read: bool) {
            let _ = http(&settings(read), status, &marked(), &body);
        }

        #[test]
        fn any_word_is_survived(word in ".*") {
            let _ = Status::parse(&word);
        }
    }
}

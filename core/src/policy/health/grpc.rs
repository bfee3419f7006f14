//! The gRPC health checking protocol as bytes: the request of `grpc.health.v1.Health/Check`, and
//! the reading of what comes back, which may be anything.
//!
//! Who is healthy follows gRPC proposal A17: SERVING, and nothing else; a server without the
//! health service (UNIMPLEMENTED) is taken for healthy, since it cannot be asked; any other
//! status, also NOT_FOUND for an unknown service, is a failure. A17 speaks of the streaming
//! `Watch`, which answers SERVICE_UNKNOWN where the unary `Check` ends with NOT_FOUND; both are
//! failures here. One difference: a bare HTTP 404 is not UNIMPLEMENTED here, as gRPC's mapping of
//! HTTP statuses has it, because it does not come from a gRPC server and vouches for nothing.

use http::HeaderMap;

use super::{Fail, ProbeOutcome};

/// Path of the check.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// Longest response message that is read, in bytes. A real one has two.
pub const MESSAGE_MOST: usize = 1024;

const OK: u32 = 0;
const UNIMPLEMENTED: u32 = 12;
const SERVING: i32 = 1;
/// Compression flag and length.
const FRAME: usize = 5;

/// The request body: one frame with a `HealthCheckRequest` for `service`; the empty name asks for
/// the server as a whole.
#[must_use]
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 11);
    if !service.is_empty() {
        message.push(0x0a); // field 1, length-delimited
        let mut rest = service.len();
        while rest >= 0x80 {
            message.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        message.push(rest.to_le_bytes()[0]);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(FRAME + message.len());
    frame.push(0); // not compressed
    frame.extend_from_slice(&length.to_be_bytes());
    frame.append(&mut message);
    frame
}

/// Judges an answer. `trailers` is `None` where there were none; `grpc-status` then stands among
/// the `headers` (the "trailers only" form).
#[must_use]
pub fn verdict(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> ProbeOutcome {
    let in_trailers = trailers.filter(|trailers| trailers.contains_key("grpc-status"));
    let code = match grpc_status(in_trailers.unwrap_or(headers)) {
        Ok(Some(code)) => code,
        Ok(None) if status != 200 => return ProbeOutcome::Fail(Fail::Status(status)),
        Ok(None) | Err(()) => return ProbeOutcome::Fail(Fail::Malformed),
    };
    match (code, serving(body)) {
        (OK, Some(SERVING)) => ProbeOutcome::Pass,
        (OK, Some(other)) => ProbeOutcome::Fail(Fail::NotServing(other)),
        (OK, None) => ProbeOutcome::Fail(Fail::Malformed),
        (UNIMPLEMENTED, _) => ProbeOutcome::Assumed,
        (code, _) => ProbeOutcome::Fail(Fail::Grpc(code)),
    }
}

/// `grpc-status`, if there is one; an error when it is no number or repeated differently.
fn grpc_status(headers: &HeaderMap) -> Result<Option<u32>, ()> {
    let mut values = headers.get_all("grpc-status").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(());
    }
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    Ok(Some(digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))))
}

/// The serving status in a response body: exactly one frame, not compressed, holding a
/// `HealthCheckResponse`. `None` for anything else.
#[must_use]
pub fn serving(body: &[u8]) -> Option<i32> {
    let (head, mut message) = body.split_at_checked(FRAME)?;
    let (flag, length) = head.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *flag != 0 || message.len() > MESSAGE_MOST || u32::try_from(message.len()) != Ok(length) {
        return None;
    }
    let mut status = 0; // UNKNOWN: what an absent field means
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        let (field, wire) = (key >> 3, key & 7);
        if field == 0 || field > 0x1fff_ffff {
            return None;
        }
        message = match wire {
            0 => {
                let (value, rest) = varint(rest)?;
                if field == 1 {
                    // Enums are 32 bits; protobuf drops the rest.
                    let [a, b, c, d, ..] = value.to_le_bytes();
                    status = i32::from_le_bytes([a, b, c, d]);
                }
                rest
            }
            1 => rest.get(8..)?,
            2 => {
                let (length, rest) = varint(rest)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            5 => rest.get(4..)?,
            // Groups were never part of proto3.
            _ => return None,
        };
    }
    Some(status)
}

/// A base-128 number of at most ten bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None; // beyond 64 bits
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SERVES: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

    fn status(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("grpc-status", HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn frame(message: &[u8]) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(message);
        frame
    }

    #[test]
    fn requests_are_the_bytes_that_other_encoders_write() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }

    /// The table of gRPC proposal A17.
    #[test]
    fn case_004_68_only_serving_is_healthy_and_unimplemented_is_assumed() {
        let judge =
            |code: &str, body: &[u8]| verdict(200, &HeaderMap::new(), body, Some(&status(&[code])));
        assert_eq!(judge("0", SERVES), ProbeOutcome::Pass);
        for (body, serving) in
            [(&[8, 0][..], 0), (&[], 0), (&[8, 2], 2), (&[8, 3], 3), (&[8, 9], 9)]
        {
            assert_eq!(judge("0", &frame(body)), ProbeOutcome::Fail(Fail::NotServing(serving)));
        }
        assert_eq!(judge("0", &[]), ProbeOutcome::Fail(Fail::Malformed));
        assert_eq!(judge("12", &[]), ProbeOutcome::Assumed);
        for code in (1..=16).filter(|code| *code != 12) {
            let expected = ProbeOutcome::Fail(Fail::Grpc(code));
            assert_eq!(judge(&code.to_string(), SERVES), expected, "a failure whatever the body");
        }
    }

    #[test]
    fn the_status_is_found_in_trailers_or_headers() {
        let none = HeaderMap::new();
        assert_eq!(verdict(200, &status(&["12"]), &[], None), ProbeOutcome::Assumed);
        assert_eq!(
            verdict(200, &status(&["14"]), &[], Some(&none)),
            ProbeOutcome::Fail(Fail::Grpc(14))
        );
        assert_eq!(
            verdict(200, &status(&["0"]), SERVES, Some(&status(&["14"]))),
            ProbeOutcome::Fail(Fail::Grpc(14))
        );
        assert_eq!(verdict(200, &none, SERVES, None), ProbeOutcome::Fail(Fail::Malformed));
        assert_eq!(verdict(404, &none, &[], None), ProbeOutcome::Fail(Fail::Status(404)));
        assert_eq!(verdict(503, &none, SERVES, Some(&none)), ProbeOutcome::Fail(Fail::Status(503)));
        for bad in [&["x"][..], &[""], &["-1"], &["0", "1"], &["99999999999"], &["0 "]] {
            let got = verdict(200, &none, SERVES, Some(&status(bad)));
            assert_eq!(got, ProbeOutcome::Fail(Fail::Malformed), "{bad:?}");
        }
        assert_eq!(verdict(200, &none, SERVES, Some(&status(&["0", "0"]))), ProbeOutcome::Pass);
    }

    #[test]
    fn unknown_fields_are_skipped_and_the_last_status_wins() {
        let skipped =
            [0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 2, 8, 2, 0x25, 1, 2, 3, 4, 0x28, 0xff, 1];
        let with = |before: &[u8], after: &[u8]| serving(&frame(&[before, after].concat()));
        assert_eq!(with(&skipped, &[8, 1]), Some(1));
        assert_eq!(with(&[8, 1], &skipped), Some(1));
        assert_eq!(with(&[8, 2], &[8, 1]), Some(1));
        assert_eq!(with(&[8, 1], &[8, 2]), Some(2));
        // A negative enum value takes ten bytes.
        assert_eq!(
            with(&[8], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Some(-1)
        );
    }

    #[test]
    fn hostile_frames_are_refused() {
        let whole = frame(&[8, 1, 0x1a, 3, 1, 2, 3, 0x11, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(serving(&whole), Some(1));
        for end in 0..whole.len() {
            assert_eq!(serving(&whole[..end]), None, "cut at {end}");
            // Cut with a length that fits: fine only between two fields.
            if end >= FRAME {
                let inner = [FRAME, FRAME + 2, FRAME + 7];
                assert_eq!(
                    serving(&frame(&whole[FRAME..end])).is_some(),
                    inner.contains(&end),
                    "{end}"
                );
            }
        }
        let long = frame(&[&[0x1a, 0xff, 7][..], &[0; 1023], &[8, 1]].concat());
        for bad in [
            &[1, 0, 0, 0, 2, 8, 1][..],         // compressed
            &[0, 0, 0, 0, 2, 8, 1, 0],          // something behind it
            &[0, 0xff, 0xff, 0xff, 0xff, 8, 1], // a length that lies
            &frame(&[0, 1]),                    // field 0
            &frame(&[0x0b]),                    // a group
            &frame(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), // length 2⁶⁴
            &frame(&[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]), // 65 bits
            &frame(&[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), // 11 bytes
            &long,                              // longer than any answer
        ] {
            assert_eq!(serving(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), flip: bool) {
            // Half of them with a frame that fits, so that the message is reached.
            let body = if flip { frame(&bytes) } else { bytes };
            let _ = serving(&body);
            if let Ok(value) = HeaderValue::from_bytes(&body) {
                let mut headers = HeaderMap::new();
                headers.insert("grpc-status", value);
                let _ = verdict(200, &headers, &body, None);
            }
        }

        #[test]
        fn any_status_is_read_as_it_was_written(status: i32) {
            let mut message = vec![8];
            let mut rest = i64::from(status).cast_unsigned();
            while rest >= 0x80 {
                message.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            message.push(rest as u8);
            prop_assert_eq!(serving(&frame(&message)), Some(status));
        }
    }
}

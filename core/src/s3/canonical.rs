//! The canonical form of a request, over which Signature Version 4 is made: whoever sends and
//! whoever receives must come to the same bytes, whatever happened to the spelling on the way.
//!
//! By the published rules (Amazon S3 API reference, "Signature Calculations for the Authorization
//! Header"): every byte but the unreserved ones is percent-encoded exactly once, the slashes of
//! the path are kept, parameters and headers are sorted, and runs of spaces in header values are
//! one. S3 servers decode the path they are sent and encode it anew, so that is done here too:
//! `%2E%2E` in a path stands in the canonical form as `..`.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn put_encoded(out: &mut String, bytes: impl Iterator<Item = u8>, keep_slash: bool) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// The canonical path of a path as it is sent.
pub(crate) fn path(sent: &str) -> String {
    let mut out = String::with_capacity(sent.len() + 16);
    if !sent.starts_with('/') {
        out.push('/');
    }
    put_encoded(&mut out, percent_decode_str(sent), true);
    out
}

/// The canonical query of a query as it is sent, without its `?`. A `+` is a plus sign.
pub(crate) fn query(sent: &str) -> String {
    let encode = |text: &str| {
        let mut out = String::with_capacity(text.len() + 8);
        put_encoded(&mut out, percent_decode_str(text), false);
        out
    };
    let pairs = sent.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(name), encode(value))
        })
        .collect();
    pairs.sort_unstable();
    let mut out = String::with_capacity(sent.len() + 16);
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&value);
    }
    out
}

/// Whether a header is part of the signature: the host, what S3 acts upon, and what changes what
/// is asked. The rest is the business of whoever stands between, and may change on the way.
pub(crate) fn is_signed(name: &str) -> bool {
    name.starts_with("x-amz-")
        || matches!(
            name,
            "host"
                | "date"
                | "range"
                | "content-type"
                | "content-md5"
                | "cache-control"
                | "content-disposition"
                | "content-encoding"
                | "content-language"
                | "if-match"
                | "if-none-match"
                | "if-modified-since"
                | "if-unmodified-since"
        )
}

/// The canonical headers, each on a line, and the list of their names. `host` is given apart: it
/// need not be among the headers.
pub(crate) fn headers(host: &[u8], headers: &HeaderMap) -> (Vec<u8>, String) {
    let mut names: Vec<&str> =
        headers.keys().map(http::HeaderName::as_str).filter(|name| is_signed(name)).collect();
    names.retain(|name| *name != "host");
    names.push("host");
    names.sort_unstable();
    let mut lines = Vec::with_capacity(256);
    for name in &names {
        lines.extend_from_slice(name.as_bytes());
        lines.push(b':');
        if *name == "host" {
            squeeze(&mut lines, host);
        } else {
            for (number, value) in headers.get_all(*name).iter().enumerate() {
                if number > 0 {
                    lines.push(b',');
                }
                squeeze(&mut lines, value.as_bytes());
            }
        }
        lines.push(b'\n');
    }
    (lines, names.join(";"))
}

/// The value without white space around it, and with one space for several.
fn squeeze(out: &mut Vec<u8>, value: &[u8]) {
    for (number, word) in
        value.split(|c| matches!(c, b' ' | b'\t')).filter(|word| !word.is_empty()).enumerate()
    {
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_and_queries_by_the_rules() {
        assert_eq!(path("/test$file.text"), "/test%24file.text");
        assert_eq!(path("/a%20b/%c3%bc/%2E%2E/%252F/x"), "/a%20b/%C3%BC/../%252F/x");
        assert_eq!(path(""), "/");
        assert_eq!(path("/a%zz"), "/a%25zz");
        assert_eq!(query("lifecycle"), "lifecycle=");
        assert_eq!(query("prefix=J&max-keys=2"), "max-keys=2&prefix=J");
        assert_eq!(query("b=2&a=2&a=1&&c=%2f/+"), "a=1&a=2&b=2&c=%2F%2F%2B");
    }

    #[test]
    fn headers_are_sorted_joined_and_squeezed() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("x-amz-meta-b", "  two   words "),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-a", "2"),
            ("user-agent", "nobody signs this"),
            ("host", "not this one"),
        ] {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (lines, names) = headers(b"h:80", &map);
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines, "host:h:80\nx-amz-meta-a:1,2\nx-amz-meta-b:two words\n");
        assert_eq!(names, "host;x-amz-meta-a;x-amz-meta-b");
    }

    proptest! {
        /// What is canonical stays as it is: the receiver, who starts from another spelling, comes
        /// to the same.
        #[test]
        fn canonical_forms_are_fixed_points(raw in ".{0,80}", names in ".{0,40}") {
            let once = path(&raw);
            prop_assert_eq!(&path(&once), &once);
            let once = query(&names);
            prop_assert_eq!(&query(&once), &once);
        }

        /// A key arrives as it is: decoding the canonical path gives its bytes.
        #[test]
        fn keys_come_back(key in ".{0,80}") {
            let sent = format!("/bucket/{}", crate::ops::segments(&key));
            let decoded: Vec<u8> = percent_decode_str(&path(&sent)).collect();
            prop_assert_eq!(decoded, format!("/bucket/{key}").into_bytes());
        }
    }
}

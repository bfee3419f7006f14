//! The two values a handler sees: the request that came and the answer to
//! give. How they travel over a socket lives in `wire`; this room knows no IO.

use std::time::Duration;

use serde::Serialize;

/// A request as the server understood it, body already collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method as sent: `GET`, `PUT`, ...
    pub method: String,
    /// The path with its query, as sent.
    pub path: String,
    /// Header lines in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The whole body, chunked framing removed.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name, compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The path without the query.
    #[must_use]
    pub fn route(&self) -> &str {
        route_of(&self.path)
    }

    /// The query without its question mark, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path.split_once('?').map(|(_, query)| query)
    }

    /// True if `If-None-Match` names this entity tag (weak comparison), which
    /// is when a 304 is the right answer.
    #[must_use]
    pub fn has_match(&self, etag: &str) -> bool {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let wanted = bare(etag);
        self.headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("if-none-match"))
            .flat_map(|(_, value)| value.split(','))
            .any(|tag| tag.trim() == "*" || bare(tag) == wanted)
    }
}

/// The path part of a request target.
pub(crate) fn route_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(route, _)| route)
}

/// The first header of that name in a list, compared without case.
pub(crate) fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers
        .iter()
        .find(|(header, _)| header.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// What a handler gives back. Content-Length and Connection are added on the
/// wire unless the handler set them itself, so that a test can also lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines in the order they are written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the server waits before it writes the answer.
    pub delay: Duration,
    /// Whether the connection is closed after this answer.
    pub close: bool,
}

impl Answer {
    /// An answer with no headers and no body.
    #[must_use]
    pub fn new(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
            close: false,
        }
    }

    /// An answer with a body of the given type.
    #[must_use]
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let mut answer = Answer::new(status).header("Content-Type", content_type);
        answer.body = body.into();
        answer
    }

    /// An answer whose body is the value as JSON. A value that cannot be
    /// written as JSON (a map with non-string keys) becomes a 500 saying so.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => Answer::bytes(status, "application/json", body),
            Err(error) => Answer::text(500, &format!("not JSON: {error}")),
        }
    }

    /// A plain text answer.
    #[must_use]
    pub fn text(status: u16, body: &str) -> Answer {
        Answer::bytes(status, "text/plain; charset=utf-8", body)
    }

    /// An HTML answer: what a real infrastructure sends when the client
    /// expected JSON.
    #[must_use]
    pub fn html(status: u16, body: &str) -> Answer {
        Answer::bytes(status, "text/html; charset=utf-8", body)
    }

    /// Adds one header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits that long before answering.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    /// Closes the connection after this answer.
    #[must_use]
    pub fn closing(mut self) -> Answer {
        self.close = true;
        self
    }
}

/// The reason phrase of a status code; empty for the ones nobody writes out.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        418 => "I'm a teapot",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            method: "GET".into(),
            path: path.into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: Vec::new(),
        }
    }

    #[test]
    fn route_and_query_are_split_at_the_first_question_mark() {
        let seen = request("/a/b?x=1?y", &[]);
        assert_eq!(seen.route(), "/a/b");
        assert_eq!(seen.query(), Some("x=1?y"));
        assert_eq!(request("/a", &[]).query(), None);
    }

    #[test]
    fn entity_tags_match_weakly_in_lists_and_by_star() {
        let tag = "\"v1\"";
        assert!(request("/", &[("If-None-Match", "\"v1\"")]).has_match(tag));
        assert!(request("/", &[("if-none-match", "\"x\", W/\"v1\"")]).has_match(tag));
        assert!(request("/", &[("If-None-Match", "*")]).has_match(tag));
        assert!(!request("/", &[("If-None-Match", "\"v2\"")]).has_match(tag));
        assert!(!request("/", &[]).has_match(tag));
    }

    #[test]
    fn a_value_that_is_not_json_becomes_a_500_and_not_a_panic() {
        let bad: std::collections::BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
        assert_eq!(Answer::json(200, &bad).status, 500);
        assert_eq!(Answer::json(200, &[1, 2]).body, b"[1,2]");
    }
}

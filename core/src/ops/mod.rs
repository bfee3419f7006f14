//! Typed operations, written once for every runtime. An operation is a [`Flow`]: a little machine
//! that says which request to send next and what the replies amount to. What running one yields
//! is the [`Caller`]'s: a `Result` in the blocking crate, a future of one in the async crates.

pub mod bridge;
pub mod consul;
pub mod design;
pub mod origin_vault;
pub mod rest;
mod sealed;
pub mod secrets;
pub mod storage;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::correlation::Correlation;
use crate::error::Error;
use crate::request::{Request, Response};

/// One or several requests to one service in sequence, and what they amount to.
pub trait Flow: Send + 'static {
    /// What it yields.
    type Output: Send + 'static;

    /// The service it talks to.
    fn service(&self) -> &str;

    /// Whether a token of the client has to be looked after before [`Flow::next`] is given this:
    /// one is needed, or the one that was sent may not be good any more. Whoever runs the flow
    /// waits for what is under way, and then goes on in any case.
    fn awaits_token(&self, reply: Option<&Response>) -> bool {
        let _ = reply;
        false
    }

    /// What is worth a line in a log once it has succeeded; asked after [`Step::Done`].
    fn remark(&mut self) -> Option<Remark> {
        None
    }

    /// What to do next: first with `None`, then with each reply.
    ///
    /// # Errors
    /// A request that cannot be made, or a reply that means failure.
    fn next(&mut self, reply: Option<Response>) -> Result<Step<Self::Output>, Error>;

    /// What to send when a request of it came to nothing; its reply goes to [`Flow::next`]. As a
    /// rule nothing: the error is that of the flow. A flow may ask why first, where the service
    /// can say more than its statuses did.
    ///
    /// # Errors
    /// The one it was given, or what it means.
    fn failed(&mut self, error: Error) -> Result<Request, Error> {
        Err(error)
    }
}

/// A line of a log about an operation that has succeeded, with its fields (contract 001-102).
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// The line.
    pub message: &'static str,
    /// What the call belonged to.
    pub correlation: Option<Correlation>,
    /// What was worked on, in bytes.
    pub file_size: u64,
    /// How long the service says that it took, or else how long the call took.
    pub execution_time_ms: f64,
}

/// What a flow wants. Moved once per request; boxing the request would cost an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Step<T> {
    /// This request to be sent.
    Send(Request),
    /// Nothing more: this is the result.
    Done(T),
}

/// Whoever can run flows: a client on some runtime.
pub trait Caller: Clone + Send + Sync + 'static {
    /// What running a flow yields: `Result<T, Error>`, or a future of it.
    type Reply<T: Send + 'static>;

    /// Runs a flow.
    fn run<F: Flow>(&self, flow: F) -> Self::Reply<F::Output>;
}

/// A caller whose replies can be put together: what operations over several services need.
pub trait Composer: Caller {
    /// Both of these at once, where the runtime can. The first error is that of both; what is
    /// still under way then is given up, or waited for where it cannot be.
    fn both<T: Send + 'static, U: Send + 'static>(
        &self,
        first: impl FnOnce() -> Self::Reply<T> + Send + 'static,
        second: impl FnOnce() -> Self::Reply<U> + Send + 'static,
    ) -> Self::Reply<(T, U)>;

    /// What `next` makes of a reply, be it an error.
    fn then<T: Send + 'static, U: Send + 'static>(
        &self,
        reply: Self::Reply<T>,
        next: impl FnOnce(Result<T, Error>) -> Self::Reply<U> + Send + 'static,
    ) -> Self::Reply<U>;

    /// A reply that is there already.
    fn ready<T: Send + 'static>(&self, result: Result<T, Error>) -> Self::Reply<T>;

    /// A new id, for what is more than one call.
    fn correlation(&self) -> Correlation;
}

/// Everything but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one path segment, `/` included. A segment of dots only is encoded too, so
/// that nobody on the way can take it for "the directory above".
pub(crate) fn segment(text: &str) -> String {
    match text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// Percent-encodes a name or value of a query.
#[must_use]
pub fn encode_query(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Percent-encodes each segment of a path and keeps the slashes.
pub(crate) fn segments(text: &str) -> String {
    text.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod fake {
    //! A caller for tests: answers every request from a script, and keeps what was sent.
    #![allow(clippy::disallowed_types)] // test code

    use std::sync::{Arc, Mutex};

    use http::StatusCode;

    use super::{Caller, Flow, Step};
    use crate::error::Error;
    use crate::request::{Report, Request, Response};

    /// A value that several hold.
    pub(super) type Shared<T> = Mutex<T>;

    type Script = dyn Fn(&Request) -> (u16, String) + Send + Sync;

    #[derive(Clone)]
    pub(super) struct Fake {
        script: Arc<Script>,
        sent: Arc<Mutex<Vec<Request>>>,
    }

    impl std::fmt::Debug for Fake {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Fake")
        }
    }

    impl Fake {
        pub(super) fn new(
            script: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static,
        ) -> Fake {
            Fake { script: Arc::new(script), sent: Arc::default() }
        }

        /// What was sent since the last look.
        pub(super) fn sent(&self) -> Vec<Request> {
            std::mem::take(&mut self.sent.lock().unwrap())
        }

        /// The only request sent since the last look, as a line.
        pub(super) fn line(&self) -> String {
            let sent = self.sent();
            assert_eq!(sent.len(), 1, "{sent:?}");
            let body = String::from_utf8(sent[0].body.to_vec()).unwrap();
            format!("{} {} {body}", sent[0].method, sent[0].path).trim_end().to_owned()
        }
    }

    impl Caller for Fake {
        type Reply<T: Send + 'static> = Result<T, Error>;

        fn run<F: Flow>(&self, mut flow: F) -> Result<F::Output, Error> {
            let mut reply = None;
            for _ in 0..10 {
                let request = match flow.next(reply)? {
                    Step::Done(value) => return Ok(value),
                    Step::Send(request) => request,
                };
                let (status, body) = (self.script)(&request);
                self.sent.lock().unwrap().push(request);
                reply = Some(Response {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers: http::HeaderMap::new(),
                    body: body.into(),
                    trailers: None,
                    report: Report { service: flow.service().into(), ..Report::default() },
                });
            }
            panic!("the flow does not end");
        }
    }

    impl super::Composer for Fake {
        fn both<T: Send + 'static, U: Send + 'static>(
            &self,
            first: impl FnOnce() -> Result<T, Error> + Send + 'static,
            second: impl FnOnce() -> Result<U, Error> + Send + 'static,
        ) -> Result<(T, U), Error> {
            Ok((first()?, second()?))
        }

        fn then<T: Send + 'static, U: Send + 'static>(
            &self,
            reply: Result<T, Error>,
            next: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
        ) -> Result<U, Error> {
            next(reply)
        }

        fn ready<T: Send + 'static>(&self, result: Result<T, Error>) -> Result<T, Error> {
            result
        }

        fn correlation(&self) -> crate::Correlation {
            crate::Correlation::random(7, 7)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_arrive_unmangled() {
        assert_eq!(segments("path/to/secret"), "path/to/secret");
        assert_eq!(segments("a b/ü/%2F/../x?y#z"), "a%20b/%C3%BC/%252F/%2E%2E/x%3Fy%23z");
    }

    proptest! {
        #[test]
        fn any_key_makes_a_valid_path(key in ".{0,200}") {
            let path: http::uri::PathAndQuery = format!("/{}", segments(&key)).parse().unwrap();
            prop_assert_eq!(path.query(), None);
        }
    }
}

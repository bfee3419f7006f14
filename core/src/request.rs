//! Requests and responses as data: what a caller asks, what it gets, and the report of how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::cache::{Label, Wish};
use crate::call::{CallSpec, Choice};
use crate::correlation::Correlation;
use crate::error::Error;
use crate::outcome::{Fault, Outcome};
use crate::policy::remaining;
use crate::s3::Signer;
use crate::time::Rounded;
use crate::trace::{TraceContext, TraceId};

/// A request to a service, not yet to an endpoint. Cheap to clone: attempts are made from it.
#[derive(Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Path and query below the endpoint's base path.
    pub path: PathAndQuery,
    /// Whether the path begins at the host instead, for what stands beside an API: `/health`.
    pub at_host: bool,
    /// Its headers. Values marked sensitive are not printed.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What decisions depend on.
    pub spec: CallSpec,
    /// Largest response body collected for it, instead of `limits.body`.
    pub max_body: Option<u64>,
    /// What it says about the cache.
    pub wish: Option<Box<Wish>>,
    /// What it belongs to; `None`: an id is made.
    pub correlation: Option<Correlation>,
    /// Which operation of a typed client it is. It is under the profile of that name, where the
    /// service has one.
    pub operation: Option<&'static str>,
    /// In which trace it stands; `None`: the driver asks who knows, or begins one.
    pub trace: Option<Box<TraceContext>>,
    /// What signs each attempt of it, at the place and the time that attempt is made.
    pub signer: Option<Box<Signer>>,
}

impl Request {
    /// A request with an empty body. Whether it may be repeated is told by its method
    /// (`retry.on.methods`; RFC 9110 §9.2.2), unless [`CallSpec::idempotent`] says otherwise.
    #[must_use]
    pub fn new(method: Method, path: PathAndQuery) -> Request {
        let spec = CallSpec { method: (&method).into(), ..CallSpec::default() };
        Request {
            method,
            path,
            at_host: false,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            spec,
            max_body: None,
            wish: None,
            correlation: None,
            operation: None,
            trace: None,
            signer: None,
        }
    }

    /// The ids that it goes under, as far as `settings` name headers for them. What stands in its
    /// headers counts, then what it was given; `seed` and `call` make those that are missing.
    #[must_use]
    pub fn identify(&self, settings: &remaining::Settings, seed: u64, call: u64) -> Ids {
        let (correlation, request) = settings.id_headers();
        let mut made = None;
        let mut id = |name: Option<&str>, given: Option<&Correlation>| {
            let name = name?;
            if !self.headers.is_empty()
                && let Some(present) = self.headers.get(name)
            {
                // One that is no id is the caller's affair.
                return Correlation::new(present.to_str().unwrap_or_default()).ok();
            }
            let made = || made.get_or_insert_with(|| Correlation::random(seed, call)).clone();
            Some(given.cloned().unwrap_or_else(made))
        };
        let correlation = id(correlation, self.correlation.as_ref());
        Ids { correlation, request: id(request, None), trace: None }
    }

    /// The HTTP request of one attempt at `address`.
    ///
    /// # Errors
    /// [`Fault::NotHttp`] when the address is not an HTTP address.
    pub fn at(&self, address: &Address) -> Result<http::Request<Bytes>, Fault> {
        let uri = self.uri(address).ok_or(Fault::NotHttp)?;
        let mut told = HeaderMap::new();
        if let Some(host) = self.host_at(address) {
            told.insert(HOST, host.clone());
        }
        Ok(self.to(uri, told))
    }

    /// Where it goes at `address`; `None` when that is not an HTTP address.
    #[must_use]
    pub fn uri(&self, address: &Address) -> Option<Uri> {
        if self.at_host { address.root(&self.path) } else { address.join(&self.path) }
    }

    /// The value of [`Address::host`], unless its headers have another one: what HTTP clients
    /// otherwise write anew for every request.
    #[must_use]
    pub fn host_at<'a>(&self, address: &'a Address) -> Option<&'a HeaderValue> {
        let own = !self.headers.is_empty() && self.headers.contains_key(HOST);
        address.host().filter(|_| !own)
    }

    /// The HTTP request of one attempt to `uri`, which [`Request::uri`] made; `told` is what the
    /// attempt is told ([`Told`](crate::told::Told)).
    #[must_use]
    pub fn to(&self, uri: Uri, told: HeaderMap) -> http::Request<Bytes> {
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        if self.headers.is_empty() {
            *headers = told;
        } else {
            headers.clone_from(&self.headers);
            // The length is that of the body and nothing else: a library that believed a wrong
            // one would wait for what never comes.
            headers.remove(CONTENT_LENGTH);
            headers.remove(TRANSFER_ENCODING);
            headers.extend(told);
        }
        request
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither query nor body: either may carry a secret.
        write!(f, "{} {} ({} body bytes)", self.method, self.path.path(), self.body.len())
    }
}

/// A response with its whole body, and the report of how it came about.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What came after the body, where a server says something there and the transport passes it
    /// on: that of the async runtimes, not ureq's. Not remembered by a cache.
    pub trailers: Option<Box<HeaderMap>>,
    /// How it came about.
    pub report: Report,
}

impl Response {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// Its body as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body read as JSON, whatever its content type says.
    ///
    /// # Errors
    /// [`Error::Decode`] with the position, never with the content.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|e| Error::Decode {
            service: self.report.service.clone(),
            what: "JSON body",
            reason: json_reason(&e),
        })
    }

    /// Itself if the status is a success (2xx), an error otherwise.
    ///
    /// # Errors
    /// [`Error::Status`].
    pub fn ok(self) -> Result<Response, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(Error::of_status(self))
    }

    /// How it came about: which endpoints were tried, why, and what they said.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// What is wrong with a JSON text, without repeating any of it.
pub(crate) fn json_reason(e: &serde_json::Error) -> String {
    let what = match e.classify() {
        serde_json::error::Category::Eof => "it is cut off",
        serde_json::error::Category::Data => "it has another shape than expected",
        _ => "it is not valid JSON",
    };
    format!("{what} (line {}, column {})", e.line(), e.column())
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} body bytes) {:?}", self.status, self.body.len(), self.report)
    }
}

/// How a call went: every attempt with its place, reason and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The service called.
    pub service: Arc<str>,
    /// From begin to verdict.
    pub elapsed: Duration,
    /// The attempts, in order.
    pub attempts: Vec<AttemptReport>,
    /// Where the answer was remembered and why it was used; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Label>,
    /// Under which ids it went.
    #[serde(flatten)]
    pub ids: Ids,
}

/// The ids a call went under, for finding it in the logs of the services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// What it belonged to; `None`: none was sent.
    #[serde(default, rename = "correlation_id", skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Correlation>,
    /// The call itself; `None`: none was sent.
    #[serde(default, rename = "request_id", skip_serializing_if = "Option::is_none")]
    pub request: Option<Correlation>,
    /// The trace its attempts were told to belong to; `None`: to none.
    #[serde(default, rename = "trace_id", skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Cluster of the endpoint.
    pub cluster: Arc<str>,
    /// Its address.
    pub endpoint: Arc<str>,
    /// Why it went there.
    pub why: Choice,
    /// When it was sent, counted from the begin of the call.
    pub sent_after: Duration,
    /// How long it took.
    pub took: Duration,
    /// What it met.
    pub outcome: Outcome,
}

impl Report {
    /// One line per attempt, for people: where, why, what, how long.
    #[must_use]
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.service)?;
        if let Some(label) = &self.cache {
            write!(f, "answered {label}; ")?;
        }
        match self.attempts.len() {
            1 => write!(f, "1 attempt in {:.1?}", self.elapsed)?,
            count => write!(f, "{count} attempts in {:.1?}", self.elapsed)?,
        }
        for (number, a) in (1..).zip(&self.attempts) {
            let why = a.why;
            write!(
                f,
                "\n  {number}. +{} {} ({}): {} after {:.1?}; chosen as {why}",
                Rounded(a.sent_after),
                a.endpoint,
                a.cluster,
                a.outcome,
                a.took
            )?;
        }
        Ok(())
    }
}

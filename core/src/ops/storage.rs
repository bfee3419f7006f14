//! Object storage (S3, path style): reading an object. Requests are not signed yet, so this
//! reads what the storage lets anonymous or network-authenticated clients read.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::{Caller, Flow, Step, segment, segments};
use crate::error::Error;
use crate::request::{Report, Request, Response};

/// Name of the service in the discovery document.
pub const SERVICE: &str = "storage";

/// The storage service of a client.
#[derive(Clone, Debug)]
pub struct Storage<C> {
    caller: C,
}

impl<C: Caller> Storage<C> {
    /// Storage as reached by `caller`.
    pub fn new(caller: C) -> Storage<C> {
        Storage { caller }
    }

    /// Reads an object. Any bucket and key are safe: they are percent-encoded.
    ///
    /// Yields [`Error::Status`] with 404 when there is none, and [`Error::Request`] for an empty
    /// bucket or key.
    pub fn get_object(&self, bucket: &str, key: &str) -> C::Reply<Object> {
        self.caller.run(GetObject { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Its entity tag.
    pub etag: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
    /// How it was had.
    pub report: Report,
}

/// `GET /{bucket}/{key}`.
#[derive(Clone, Debug)]
pub struct GetObject {
    /// The bucket.
    pub bucket: String,
    /// The key; slashes separate segments.
    pub key: String,
}

impl Flow for GetObject {
    type Output = Object;

    fn service(&self) -> &str {
        SERVICE
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<Object>, Error> {
        let Some(reply) = reply else { return self.request().map(Step::Send) };
        if !matches!(reply.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(Error::of_status(reply));
        }
        let text = |name| {
            reply
                .headers
                .get(name)
                .and_then(|v: &http::HeaderValue| v.to_str().ok())
                .map(str::to_owned)
        };
        Ok(Step::Done(Object {
            etag: text(ETAG),
            content_type: text(CONTENT_TYPE),
            bytes: reply.body,
            report: reply.report,
        }))
    }
}

impl GetObject {
    fn request(&self) -> Result<Request, Error> {
        let refuse =
            |reason: &str| Error::Request { service: SERVICE.into(), reason: reason.to_owned() };
        if self.bucket.is_empty() || self.key.is_empty() {
            return Err(refuse("bucket and key must not be empty"));
        }
        let path = format!("/{}/{}", segment(&self.bucket), segments(&self.key));
        let path: PathAndQuery = path.parse().map_err(|_| refuse("bucket or key is too long"))?;
        Ok(Request::new(Method::GET, path))
    }
}

//! Requests to storage, put together from names and options: checked, signed later, at each
//! attempt. What may be repeated is decided here: reading and unconditional writing may, a
//! conditional write may not once it may have arrived, since it would then meet its own effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::credentials::Settings;
use super::list::{self, ListOptions};
use super::object::{self, ByteRange, ETag};
use super::sign::Signer;
use crate::error::Error;
use crate::ops::encode_query;
use crate::request::Request;

/// Name of the service in the discovery document.
pub(crate) const SERVICE: &str = "storage";

/// Which object, or part of one, under which condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Only this part.
    pub range: Option<ByteRange>,
    /// Only if it is this one; otherwise [`super::Code::PreconditionFailed`].
    pub if_match: Option<ETag>,
    /// Only if it is not this one; otherwise [`super::Code::NotModified`].
    pub if_none_match: Option<ETag>,
    /// This version, where the bucket has versions.
    pub version: Option<String>,
}

impl GetOptions {
    /// A part of an object.
    #[must_use]
    pub fn range(range: ByteRange) -> GetOptions {
        GetOptions { range: Some(range), ..GetOptions::default() }
    }
}

/// What is written with an object, under which condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Its media type.
    pub content_type: Option<String>,
    /// Only if there is no such object yet; otherwise [`super::Code::PreconditionFailed`].
    pub only_new: bool,
    /// Only in place of this one; otherwise [`super::Code::PreconditionFailed`].
    pub if_match: Option<ETag>,
    /// Names and values to be kept with it: 2 KiB of printable ASCII at most, without runs of
    /// spaces.
    pub metadata: BTreeMap<String, String>,
}

pub(crate) fn refuse(reason: impl Into<String>) -> Error {
    Error::Request { service: SERVICE.into(), reason: reason.into() }
}

/// `GET` or `HEAD` of an object.
pub(crate) fn read(
    settings: &Arc<Settings>,
    method: Method,
    (bucket, key): (&str, &str),
    options: &GetOptions,
) -> Result<Request, Error> {
    let mut path = object::object_path(bucket, key).map_err(refuse)?;
    if let Some(version) = &options.version {
        path.push_str("?versionId=");
        path.push_str(&encode_query(version));
    }
    let mut request = begin(settings, method, &path, Bytes::new())?;
    if let Some(range) = options.range {
        if !range.is_sound() {
            return Err(refuse("the range holds no byte"));
        }
        put(&mut request, RANGE, &range.to_string())?;
    }
    for (name, tag) in [(IF_MATCH, &options.if_match), (IF_NONE_MATCH, &options.if_none_match)] {
        if let Some(tag) = tag {
            put(&mut request, name, tag.as_str())?;
        }
    }
    Ok(request)
}

/// `PUT` of an object.
pub(crate) fn write(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
    body: Bytes,
    options: &PutOptions,
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    let mut request = begin(settings, Method::PUT, &path, body)?;
    describe(&mut request, options)?;
    condition(&mut request, options)?;
    let conditional = options.only_new || options.if_match.is_some();
    request.spec.idempotent = Some(!conditional);
    Ok(request)
}

/// What is kept with an object.
pub(crate) fn describe(request: &mut Request, options: &PutOptions) -> Result<(), Error> {
    let metadata = object::metadata(&options.metadata).map_err(refuse)?;
    request.headers.extend(metadata);
    if let Some(kind) = &options.content_type {
        // Runs of spaces mean nothing there, and servers sign them differently.
        let kind: Vec<&str> = kind.split(' ').filter(|word| !word.is_empty()).collect();
        put(request, CONTENT_TYPE, &kind.join(" "))?;
    }
    Ok(())
}

/// Under which condition an object is written.
pub(crate) fn condition(request: &mut Request, options: &PutOptions) -> Result<(), Error> {
    if options.only_new && options.if_match.is_some() {
        return Err(refuse("an object cannot both be new and take the place of another"));
    }
    if options.only_new {
        put(request, IF_NONE_MATCH, "*")?;
    }
    if let Some(tag) = &options.if_match {
        put(request, IF_MATCH, tag.as_str())?;
    }
    Ok(())
}

/// `DELETE` of an object.
pub(crate) fn delete(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    begin(settings, Method::DELETE, &path, Bytes::new())
}

/// A page of a listing.
pub(crate) fn page(
    settings: &Arc<Settings>,
    bucket: &str,
    options: &ListOptions,
    after: Option<&str>,
) -> Result<Request, Error> {
    let path = object::bucket_path(bucket).map_err(refuse)?;
    let path = format!("{path}{}", options.query(after));
    let mut request = begin(settings, Method::GET, &path, Bytes::new())?;
    request.max_body = Some(list::LARGEST as u64);
    Ok(request)
}

pub(crate) fn begin(
    settings: &Arc<Settings>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request, Error> {
    let path: PathAndQuery = path.parse().map_err(|_| refuse("the names are too long"))?;
    let mut request = Request::new(method, path);
    request.signer = Signer::new(settings, &body).map(Box::new);
    request.body = body;
    // "Too many requests" is said before anything is done; another node may have time.
    request.spec.also_retry = [429, 0, 0, 0];
    Ok(request)
}

fn put(request: &mut Request, name: HeaderName, value: &str) -> Result<(), Error> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| refuse(format!("the value of {name} cannot be sent")))?;
    request.headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Arc<Settings> {
        Arc::default()
    }

    fn tag(text: &str) -> Option<ETag> {
        ETag::new(text)
    }

    #[test]
    fn case_000_44_conditional_writes_are_not_repeated_once_they_may_have_arrived() {
        let of = |options: &PutOptions| {
            let request = write(&settings(), ("b", "k"), Bytes::from_static(b"x"), options);
            request.unwrap().spec.idempotent
        };
        assert_eq!(of(&PutOptions::default()), Some(true));
        assert_eq!(of(&PutOptions { only_new: true, ..PutOptions::default() }), Some(false));
        assert_eq!(of(&PutOptions { if_match: tag("e"), ..PutOptions::default() }), Some(false));
    }

    #[test]
    fn options_become_headers_and_contradictions_errors() {
        let options = GetOptions {
            range: Some(ByteRange::Last(5)),
            if_match: tag("a"),
            if_none_match: tag("b"),
            version: Some("v/1".to_owned()),
        };
        let request = read(&settings(), Method::GET, ("b", "a b"), &options).unwrap();
        assert_eq!(request.path.as_str(), "/b/a%20b?versionId=v%2F1");
        assert_eq!(request.headers[RANGE], "bytes=-5");
        assert_eq!(request.headers[IF_MATCH], "\"a\"");
        assert_eq!(request.headers[IF_NONE_MATCH], "\"b\"");
        assert!(request.signer.is_none());
        for range in [ByteRange::Last(0), ByteRange::Between(2, 1)] {
            let options = GetOptions::range(range);
            assert!(read(&settings(), Method::GET, ("b", "k"), &options).is_err());
        }
        let both = PutOptions { only_new: true, if_match: tag("e"), ..PutOptions::default() };
        let odd =
            PutOptions { content_type: Some("a\r\nb: c".to_owned()), ..PutOptions::default() };
        for options in [both, odd] {
            assert!(write(&settings(), ("b", "k"), Bytes::new(), &options).is_err());
        }
        assert!(delete(&settings(), ("b", "../k")).is_err());
        assert!(page(&settings(), "b/c", &ListOptions::default(), None).is_err());
    }
}

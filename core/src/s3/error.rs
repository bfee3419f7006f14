//! What storage says when it says no: a code with a meaning, whoever wrote the server. What else
//! it says is kept apart: its message may tell about its inside and is handed out only when asked
//! for.

use std::fmt;

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use super::xml;

/// Largest error document read, in bytes; of a larger one only the status counts.
pub const LARGEST: usize = 64 << 10;
const LONGEST_MESSAGE: usize = 1024;

/// What is wrong, by the name S3 has for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// There is no such object. Also a 404 that does not say more.
    NoSuchKey,
    /// There is no such bucket.
    NoSuchBucket,
    /// There is no such version of the object.
    NoSuchVersion,
    /// There is no such upload in parts, or none any more.
    NoSuchUpload,
    /// Storage does not have a part that it was to put together.
    InvalidPart,
    /// Whoever asks may not. Also a 403 that does not say more, as to `HEAD`.
    AccessDenied,
    /// The signature is wrong: another secret, or a request that was changed on the way.
    SignatureDoesNotMatch,
    /// The access key is unknown.
    InvalidAccessKeyId,
    /// The session token has expired.
    ExpiredToken,
    /// The clocks of both sides differ too much.
    RequestTimeTooSkewed,
    /// The condition of the request does not hold.
    PreconditionFailed,
    /// Another writer was at it at the same time.
    Conflict,
    /// The object is still the one that the caller has.
    NotModified,
    /// The range is outside the object.
    InvalidRange,
    /// The object is another one than when the download began.
    Changed,
    /// Storage answered with another part of the object than was asked for.
    RangeIgnored,
    /// Storage has too much to do.
    SlowDown,
    /// The name cannot be that of a bucket.
    InvalidBucketName,
    /// The object is larger than storage takes.
    EntityTooLarge,
    /// Something failed inside storage.
    InternalError,
    /// The bucket is elsewhere: another region, or another address.
    Redirect,
    /// Any other, by its own name; empty when there is none.
    Other(Box<str>),
}

impl Code {
    fn of(name: &str) -> Code {
        match name {
            "NoSuchKey" => Code::NoSuchKey,
            "NoSuchBucket" => Code::NoSuchBucket,
            "NoSuchVersion" => Code::NoSuchVersion,
            "NoSuchUpload" => Code::NoSuchUpload,
            "InvalidPart" => Code::InvalidPart,
            "AccessDenied" | "AllAccessDisabled" => Code::AccessDenied,
            "SignatureDoesNotMatch" => Code::SignatureDoesNotMatch,
            "InvalidAccessKeyId" | "NotSignedUp" => Code::InvalidAccessKeyId,
            "ExpiredToken" | "TokenRefreshRequired" => Code::ExpiredToken,
            "RequestTimeTooSkewed" => Code::RequestTimeTooSkewed,
            "PreconditionFailed" => Code::PreconditionFailed,
            "ConditionalRequestConflict" | "OperationAborted" => Code::Conflict,
            "NotModified" => Code::NotModified,
            "InvalidRange" => Code::InvalidRange,
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "Busy"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "ServiceUnavailable" => Code::SlowDown,
            "InvalidBucketName" => Code::InvalidBucketName,
            "EntityTooLarge" => Code::EntityTooLarge,
            "InternalError" => Code::InternalError,
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
                Code::Redirect
            }
            // Codes are words; anything else may be prose, or worse.
            name if name.bytes().all(|b| b.is_ascii_alphabetic()) => Code::Other(word(name, 64)),
            _ => Code::Other("".into()),
        }
    }

    fn of_status(status: u16) -> Code {
        match status {
            301 | 302 | 307 | 308 => Code::Redirect,
            304 => Code::NotModified,
            401 | 403 => Code::AccessDenied,
            404 => Code::NoSuchKey,
            409 => Code::Conflict,
            412 => Code::PreconditionFailed,
            413 => Code::EntityTooLarge,
            416 => Code::InvalidRange,
            429 | 503 => Code::SlowDown,
            500 => Code::InternalError,
            _ => Code::Other("".into()),
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Code::NoSuchKey => "there is no such object",
            Code::NoSuchBucket => "there is no such bucket",
            Code::NoSuchVersion => "there is no such version of the object",
            Code::NoSuchUpload => "there is no such upload in parts, or none any more",
            Code::InvalidPart => "storage does not have a part that it was sent",
            Code::AccessDenied => "access is denied",
            Code::SignatureDoesNotMatch => "the signature does not match: is the secret key right?",
            Code::InvalidAccessKeyId => "the access key is not known",
            Code::ExpiredToken => "the session token has expired",
            Code::RequestTimeTooSkewed => "the clocks of client and storage differ too much",
            Code::PreconditionFailed => "the condition does not hold",
            Code::Conflict => "another writer was there at the same time",
            Code::NotModified => "the object has not changed",
            Code::InvalidRange => "the range is outside the object",
            Code::Changed => "the object changed while it was read",
            Code::RangeIgnored => "another part of the object came than was asked for",
            Code::SlowDown => "storage has too much to do",
            Code::InvalidBucketName => "the name cannot be that of a bucket",
            Code::EntityTooLarge => "the object is too large",
            Code::InternalError => "storage failed",
            Code::Redirect => "the bucket is in another region or at another address",
            Code::Other(_) => "storage refused",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Code::Other(name) if !name.is_empty() => write!(f, " ({name})"),
            _ => Ok(()),
        }
    }
}

/// An answer of storage that is no success.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct StorageError {
    /// Its status.
    pub status: u16,
    /// What is wrong.
    pub code: Code,
    /// What storage calls the request: for asking its operators.
    pub request_id: Option<Box<str>>,
    message: Box<str>,
}

impl StorageError {
    /// What an answer to a request of this method says. `body` may be cut off.
    #[must_use]
    pub fn of(method: &Method, status: u16, headers: &HeaderMap, body: &[u8]) -> StorageError {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let id = header("x-amz-request-id").map(|id| word(id, 128));
        let mut error = StorageError::plain(status, Code::of_status(status));
        error.request_id = id.filter(|id| !id.is_empty());
        let document = if *method == Method::HEAD { &[] } else { body };
        match xml::read(document, LARGEST) {
            Ok(root) if root.name == "Error" => error.take(&root),
            // MinIO says it to `HEAD` in a header.
            _ => match header("x-minio-error-code").map(Code::of) {
                Some(Code::Other(name)) if name.is_empty() => {}
                Some(code) => error.code = code,
                None => {}
            },
        }
        error
    }

    /// One without any words of a server.
    pub(crate) fn plain(status: u16, code: Code) -> StorageError {
        StorageError { status, code, request_id: None, message: "".into() }
    }

    /// Takes over what an `Error` element says.
    pub(crate) fn take(&mut self, root: &xml::Element<'_>) {
        if let Some(name) = root.text_of("Code").map(str::trim).filter(|name| !name.is_empty()) {
            self.code = Code::of(name);
        }
        if let Some(id) = root.text_of("RequestId").map(|id| word(id, 128))
            && !id.is_empty()
        {
            self.request_id = Some(id);
        }
        let message = root.text_of("Message").unwrap_or("");
        self.message = message.chars().take(LONGEST_MESSAGE).collect::<String>().into();
    }

    /// What storage says in its own words, at most 1 024 characters, empty when it says nothing.
    /// It may name hosts, paths and keys: not for logs.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self.code {
            Code::SlowDown | Code::InternalError | Code::Conflict => true,
            Code::Changed => true,
            _ => self.status >= 500,
        }
    }

    /// Whether the credentials are at fault, or their absence.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(
            self.code,
            Code::AccessDenied
                | Code::SignatureDoesNotMatch
                | Code::InvalidAccessKeyId
                | Code::ExpiredToken
                | Code::RequestTimeTooSkewed
        )
    }

    /// Whether it says that there is nothing there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.code, Code::NoSuchKey | Code::NoSuchBucket | Code::NoSuchVersion)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (answered {}", self.code, self.status)?;
        match &self.request_id {
            Some(id) => write!(f, ", request {id})"),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageError({:?}: {self})", self.code)
    }
}

/// A name that a server made up, fit for a log line: empty unless it is letters, digits and the
/// like throughout.
fn word(text: &str, most: usize) -> Box<str> {
    let text = text.trim();
    let fine =
        |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'+' | b'/' | b'=');
    if text.len() <= most && text.bytes().all(fine) { text.into() } else { "".into() }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, body: &str) -> StorageError {
        StorageError::of(&Method::GET, status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn codes_have_meanings() {
        let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code>\
                    <Message>node-7.inside says no</Message><RequestId>4442587FB7D0A2F9</RequestId>\
                    <HostId>x</HostId></Error>";
        let error = of(404, text);
        assert_eq!((error.status, &error.code), (404, &Code::NoSuchBucket));
        assert_eq!(error.request_id.as_deref(), Some("4442587FB7D0A2F9"));
        assert!(error.is_not_found() && !error.is_permission() && !error.retryable());
        assert_eq!(error.message(), "node-7.inside says no");
        let code = |name: &str| of(400, &format!("<Error><Code>{name}</Code></Error>")).code;
        assert_eq!(code("SlowDown"), Code::SlowDown);
        assert_eq!(code(" AccessDenied\n"), Code::AccessDenied);
        assert_eq!(code("XMinioInvalidObjectName"), Code::Other("XMinioInvalidObjectName".into()));
        assert_eq!(code("see http://inside"), Code::Other("".into()));
        assert_eq!(code(""), Code::Other("".into()));
    }

    #[test]
    fn without_a_document_the_status_counts() {
        for (status, code) in [
            (304, Code::NotModified),
            (403, Code::AccessDenied),
            (404, Code::NoSuchKey),
            (412, Code::PreconditionFailed),
            (416, Code::InvalidRange),
            (429, Code::SlowDown),
            (503, Code::SlowDown),
            (301, Code::Redirect),
        ] {
            for body in ["", "<html><body>404 Not Found</body></html>", "<Error>", "no"] {
                assert_eq!(of(status, body).code, code, "{status} {body}");
            }
        }
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-minio-error-code");
        headers.insert(name, HeaderValue::from_static("NoSuchBucket"));
        let error = StorageError::of(&Method::HEAD, 404, &headers, b"");
        assert_eq!(error.code, Code::NoSuchBucket);
    }

    #[test]
    fn case_001_92_what_a_server_says_of_its_inside_is_not_printed() {
        let error = of(
            500,
            "<Error><Code>Oops</Code><Message>pl4nted at /var/lib</Message>\
             <RequestId>pl4nted id</RequestId><Resource>pl4nted</Resource></Error>",
        );
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("pl4nted"), "{shown}");
        assert_eq!(error.message(), "pl4nted at /var/lib");
        assert_eq!(of(500, &format!("<Error>{}</Error>", "x".repeat(LARGEST))).message(), "");
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status in 100..1000_u16, body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let error = StorageError::of(&Method::GET, status, &HeaderMap::new(), &body);
            prop_assert!(error.to_string().is_ascii());
        }
    }
}

//! Writing an object in parts, as the protocol has it: the four requests, what the replies say,
//! and the entity tag that such an object gets. When which is sent is in `upload.rs`.
//!
//! By the published rules (Amazon S3 API reference, `CreateMultipartUpload`, `UploadPart`,
//! `CompleteMultipartUpload`, `AbortMultipartUpload`). Replies are read whole or not at all: one
//! without the name of the upload, or without the tag of the object, is none.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use md5::{Digest, Md5};

use super::ask::{self, PutOptions, refuse};
use super::credentials::Settings;
use super::error::{Code, StorageError};
use super::object::{self, ETag};
use super::xml::{self, BadXml, Element};
use crate::error::Error;
use crate::ops::encode_query;
use crate::request::Request;

/// Largest reply read, in bytes; they have a few hundred.
pub const LARGEST: usize = 64 << 10;
/// Longest name of an upload, in bytes. It stands in the address of every part.
pub const LONGEST_ID: usize = 2048;

/// Why a reply is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadReply {
    /// It cannot be read.
    Unreadable(BadXml),
    /// It says no, in spite of its status.
    Refused(StorageError),
}

/// What an upload in parts is called: the reply to `POST /{bucket}/{key}?uploads`.
///
/// # Errors
/// [`BadReply`].
pub fn created(body: &[u8]) -> Result<String, BadReply> {
    let root = root(body, "InitiateMultipartUploadResult")?;
    let id = root.text_of("UploadId").unwrap_or("").trim();
    let sound = (1..=LONGEST_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    if sound { Ok(id.to_owned()) } else { Err(BadReply::Unreadable(BadXml::Shape)) }
}

/// The tag of an object that was put together: the reply to `POST /{bucket}/{key}?uploadId=`.
/// Storage may say yes at first, while it is at work, and then no: that is
/// [`BadReply::Refused`].
///
/// # Errors
/// [`BadReply`].
pub fn completed(body: &[u8]) -> Result<ETag, BadReply> {
    let root = root(body, "CompleteMultipartUploadResult")?;
    let tag = root.text_of("ETag").and_then(ETag::new);
    tag.ok_or(BadReply::Unreadable(BadXml::Shape))
}

fn root<'a>(body: &'a [u8], name: &str) -> Result<Element<'a>, BadReply> {
    let root = xml::read(body, LARGEST).map_err(BadReply::Unreadable)?;
    if root.name == "Error" {
        let mut error = StorageError::plain(200, Code::Other("".into()));
        error.take(&root);
        return Err(BadReply::Refused(error));
    }
    if root.name == name { Ok(root) } else { Err(BadReply::Unreadable(BadXml::Shape)) }
}

/// The tag of an object of these parts: the MD5 of the MD5s of the parts, and how many there are.
/// `None` where the tags of the parts are no MD5s, as with keys of the caller's own: the tag of
/// the object cannot be foreseen then.
#[must_use]
pub fn composed(parts: &[ETag]) -> Option<ETag> {
    let mut hash = Md5::new();
    for part in parts {
        let hex = part.as_str().strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        if hex.len() != 32 {
            return None;
        }
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for pair in hex.chunks_exact(2) {
            hash.update([digit(pair[0])? << 4 | digit(pair[1])?]);
        }
    }
    let mut text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text.push_str(&format!("-{}", parts.len()));
    ETag::new(&text)
}

/// Begins an upload in parts. Repeated, it may leave one behind that has no parts.
pub(crate) fn create(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
    options: &PutOptions,
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    let path = format!("{path}?uploads");
    let mut request = begin(settings, Method::POST, &path, Bytes::new())?;
    ask::describe(&mut request, options)?;
    Ok(request)
}

/// A part, counted from 1. Sent again it takes the place of itself.
pub(crate) fn part(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
    id: &str,
    number: usize,
    body: Bytes,
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    let path = format!("{path}?partNumber={number}&uploadId={}", encode_query(id));
    begin(settings, Method::PUT, &path, body)
}

/// Puts the parts together. Once it has happened storage may say that there is no such upload.
pub(crate) fn complete(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
    id: &str,
    parts: &[ETag],
    options: &PutOptions,
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    let path = format!("{path}?uploadId={}", encode_query(id));
    let mut body = String::with_capacity(64 + parts.len() * 96);
    body.push_str("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (number, tag) in (1..).zip(parts) {
        body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>"));
        // A tag may hold whatever is visible.
        for c in tag.as_str().chars() {
            match c {
                '&' => body.push_str("&amp;"),
                '<' => body.push_str("&lt;"),
                '>' => body.push_str("&gt;"),
                '"' => body.push_str("&quot;"),
                c => body.push(c),
            }
        }
        body.push_str("</ETag></Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    let mut request = begin(settings, Method::POST, &path, body.into())?;
    ask::condition(&mut request, options)?;
    Ok(request)
}

/// Ends an upload in parts, and frees what its parts take up.
pub(crate) fn abort(
    settings: &Arc<Settings>,
    (bucket, key): (&str, &str),
    id: &str,
) -> Result<Request, Error> {
    let path = object::object_path(bucket, key).map_err(refuse)?;
    let path = format!("{path}?uploadId={}", encode_query(id));
    begin(settings, Method::DELETE, &path, Bytes::new())
}

fn begin(
    settings: &Arc<Settings>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request, Error> {
    let mut request = ask::begin(settings, method, path, body)?;
    request.spec.idempotent = Some(true);
    // A part takes as long as the line is slow, and putting them together may take minutes.
    request.spec.patient = true;
    request.max_body = Some(LARGEST as u64);
    Ok(request)
}

/// The tag that the reply to a part gives it.
pub(crate) fn tag_of(headers: &HeaderMap) -> Option<ETag> {
    headers.get(http::header::ETAG)?.to_str().ok().and_then(ETag::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn created_by(inside: &str) -> Result<String, BadReply> {
        let root = "InitiateMultipartUploadResult";
        created(format!("<{root} xmlns=\"x\">{inside}</{root}>").as_bytes())
    }

    fn completed_by(inside: &str) -> Result<ETag, BadReply> {
        let root = "CompleteMultipartUploadResult";
        completed(format!("  \n<?xml version=\"1.0\"?><{root}>{inside}</{root}>").as_bytes())
    }

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        assert_eq!(created_by("<Key>k</Key><UploadId> VX/+=&amp; </UploadId>").unwrap(), "VX/+=&");
        assert_eq!(completed_by("<ETag>&quot;e-2&quot;</ETag>").unwrap().as_str(), "\"e-2\"");
        let shape = BadReply::Unreadable(BadXml::Shape);
        let long = format!("<UploadId>{}</UploadId>", "x".repeat(LONGEST_ID + 1));
        for bad in ["", "<UploadId/>", "<UploadId>a\u{1}b</UploadId>", &long] {
            assert_eq!(created_by(bad).unwrap_err(), shape, "{bad}");
        }
        for bad in ["", "<ETag/>", "<ETag>a b</ETag>"] {
            assert_eq!(completed_by(bad).unwrap_err(), shape, "{bad}");
        }
        assert_eq!(created(b"<html/>").unwrap_err(), shape);
        assert_eq!(completed(b"").unwrap_err(), BadReply::Unreadable(BadXml::Cut));
        let refused = completed(b" <Error><Code>InternalError</Code></Error>");
        assert!(matches!(refused, Err(BadReply::Refused(e)) if e.code == Code::InternalError));
    }

    #[test]
    fn the_tag_of_an_object_in_parts_can_be_foreseen() {
        let tag = |text: &str| ETag::new(text).unwrap();
        // md5(md5("a") ‖ md5("b")), by md5sum.
        let parts =
            [tag("0cc175b9c0f1b6a831c399e269772661"), tag("92eb5ffee6ae2fec3ad71c777531578f")];
        let expected = "\"96e024ba2074fe77e8e965ba43a704be-2\"";
        assert_eq!(composed(&parts).unwrap().as_str(), expected);
        for odd in
            ["abc", "0cc175b9c0f1b6a831c399e26977266g", "W/\"0cc175b9c0f1b6a831c399e269772661\""]
        {
            assert_eq!(composed(&[parts[0].clone(), tag(odd)]), None);
        }
    }

    #[test]
    fn requests_say_what_they_mean() {
        let (settings, object) = (Arc::default(), ("b", "a b"));
        let options = PutOptions {
            content_type: Some("text/plain".to_owned()),
            only_new: true,
            ..PutOptions::default()
        };
        let created = create(&settings, object, &options).unwrap();
        assert_eq!((created.method, created.path.as_str()), (Method::POST, "/b/a%20b?uploads"));
        assert_eq!(created.headers["content-type"], "text/plain");
        assert!(!created.headers.contains_key("if-none-match"), "the condition is for the end");
        let part = part(&settings, object, "i/+", 7, Bytes::from_static(b"x")).unwrap();
        assert_eq!(part.path.as_str(), "/b/a%20b?partNumber=7&uploadId=i%2F%2B");
        let tags = [ETag::new("e&<").unwrap()];
        let done = complete(&settings, object, "i", &tags, &options).unwrap();
        assert_eq!(done.headers["if-none-match"], "*");
        assert!(!done.headers.contains_key("content-type"));
        let body = std::str::from_utf8(&done.body).unwrap();
        assert!(body.contains("<ETag>&quot;e&amp;&lt;&quot;</ETag>"), "{body}");
        assert!(xml::read(&done.body, LARGEST).is_ok());
        let end = abort(&settings, object, "i").unwrap();
        assert_eq!((end.method, end.path.as_str()), (Method::DELETE, "/b/a%20b?uploadId=i"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (created(&bytes), completed(&bytes));
        }

        /// However a reply is cut off or mangled, what is read of it is complete.
        #[test]
        fn nothing_is_half_filled(cut in 0..160_usize, place in 0..160_usize, byte in any::<u8>()) {
            let whole = b"<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>abc</UploadId>\
                </InitiateMultipartUploadResult>";
            if cut < whole.len() {
                prop_assert!(created(&whole[..cut]).is_err());
            }
            let mut mangled = whole.to_vec();
            if let Some(at) = mangled.get_mut(place) {
                *at = byte;
            }
            prop_assert!(created(&mangled).is_ok_and(|id| !id.is_empty()) || created(&mangled).is_err());
            let whole = b"<CompleteMultipartUploadResult><ETag>\"abc-1\"</ETag>\
                </CompleteMultipartUploadResult>";
            if cut < whole.len() {
                prop_assert!(completed(&whole[..cut]).is_err());
            }
        }

        /// Any name of an upload arrives as it is, whatever stands in it.
        #[test]
        fn any_name_of_an_upload_stays_in_the_query(id in "[ -~ü]{1,60}") {
            let request = abort(&Arc::default(), ("b", "k"), &id).unwrap();
            prop_assert_eq!(request.path.path(), "/b/k");
            let query = request.path.query().unwrap().strip_prefix("uploadId=").unwrap().to_owned();
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&query).collect();
            prop_assert_eq!(decoded, id.into_bytes());
        }
    }
}

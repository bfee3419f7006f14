//! Reading an object to its end although connections break.
//!
//! A large object takes long, and what takes long meets every restart and every failover on its
//! way. Beginning anew would make it take longer still; so the rest is asked for, from the byte
//! where it broke (`Range`), and only of the very same object (`If-Match`), since parts of two
//! objects make a third one that never existed. The second part may come from another cluster:
//! the tag tells whether that has the same bytes. It follows what download tools and the AWS
//! transfer managers do; what differs: how often it goes on is counted against what has come
//! since, so that an object of any size can be read over a bad line, and a server that hangs up
//! at once is not asked for ever.
//!
//! Without a strong entity tag nothing can be put together: a break after the first byte is then
//! the reader's; one that only wants the whole ([`Download::collect`]) has seen nothing yet, and
//! it is begun anew. Switched off by `storage.resumes = 0`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{DATE, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::ask::{self, GetOptions};
use super::credentials::Settings;
use super::date;
use super::error::{Code, StorageError};
use super::object::{ByteRange, ETag, Info, Part};
use crate::error::Error;
use crate::request::Request;
use crate::rng::Pcg32;

/// So many bytes restore the right to go on after breaks.
const REFILL: u64 = 1 << 20;
/// Pause before the second attempt to go on without a byte in between; doubles.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What to do with an answer at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Read its body and hand every piece to [`Download::piece`].
    Read,
    /// Collect its body, 64 KiB at most, and hand it to [`Download::refused`].
    Refused,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The object has been read to its end.
    Done,
    /// Send [`Download::request`] after this pause.
    Again(Duration),
    /// What broke it is the error of the reader.
    GiveUp,
}

/// One object on its way.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use origin_core::rng::Pcg32;
/// use origin_core::s3::download::{Download, Opened, Then};
/// use origin_core::s3::{GetOptions, Settings};
///
/// let settings = Arc::new(Settings::default());
/// let mut download = Download::new(&settings, "bucket", "key", GetOptions::default())?;
/// let mut headers = HeaderMap::new();
/// headers.insert("etag", HeaderValue::from_static("\"one\""));
/// headers.insert("content-length", HeaderValue::from_static("6"));
/// assert_eq!(download.opened(StatusCode::OK, &headers), Opened::Read);
/// assert_eq!(download.piece(Bytes::from_static(b"abc")).unwrap(), "abc");
/// // The connection breaks: the rest is asked for, of the same object.
/// assert!(matches!(download.broke(&mut Pcg32::new(1, 1)), Then::Again(_)));
/// let request = download.request();
/// assert_eq!(request.headers["range"], "bytes=3-5");
/// assert_eq!(request.headers["if-match"], "\"one\"");
/// # Ok::<(), origin_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Download {
    request: Request,
    /// What the caller asked for.
    wanted: Option<ByteRange>,
    /// What the first answer said; from then on the object is known.
    info: Option<Info>,
    /// First byte of the object that the caller gets.
    start: u64,
    /// Bytes the caller gets in all, where that is known.
    size: Option<u64>,
    /// Bytes the caller has got.
    got: u64,
    /// Bytes of the present body that the caller has already.
    skip: u64,
    resumes: u8,
    /// How often it may still go on.
    credit: u8,
    /// Bytes since the credit was full.
    since: u64,
    /// Breaks in a row without a byte in between.
    idle: u32,
    /// What has come, if it is kept.
    kept: Option<Kept>,
}

/// An object that is collected.
#[derive(Clone, Debug)]
struct Kept {
    limit: u64,
    /// Nearly every small object is one piece, which needs no copy.
    first: Bytes,
    whole: BytesMut,
}

impl Kept {
    fn put(&mut self, piece: Bytes, size: Option<u64>) {
        if self.first.is_empty() && self.whole.is_empty() {
            self.first = piece;
            return;
        }
        if self.whole.is_empty() {
            // Whoever says how much it is may be wrong, but not beyond the limit.
            let size = size.unwrap_or(0).min(self.limit);
            self.whole.reserve(usize::try_from(size).unwrap_or(0));
            self.whole.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.whole.extend_from_slice(&piece);
    }
}

impl Download {
    /// A download of an object, or of a part of one.
    ///
    /// # Errors
    /// [`Error::Request`] for names and options that cannot be sent.
    pub fn new(
        settings: &Arc<Settings>,
        bucket: &str,
        key: &str,
        options: GetOptions,
    ) -> Result<Download, Error> {
        let mut request = ask::read(settings, Method::GET, (bucket, key), &options)?;
        // It is not collected, so it may be as large as it is.
        request.max_body = Some(u64::MAX);
        request.spec.streamed = true;
        Ok(Download {
            request,
            wanted: options.range,
            info: None,
            start: 0,
            size: None,
            got: 0,
            skip: 0,
            resumes: settings.resumes,
            credit: settings.resumes,
            since: 0,
            idle: 0,
            kept: None,
        })
    }

    /// Keeps what comes, up to so many bytes, instead of handing it on: [`Download::piece`] yields
    /// nothing then, and [`Download::take`] all of it.
    #[must_use]
    pub fn collect(mut self, limit: u64) -> Download {
        self.kept = Some(Kept { limit, first: Bytes::new(), whole: BytesMut::new() });
        self
    }

    /// What was collected.
    pub fn take(&mut self) -> Bytes {
        match &mut self.kept {
            Some(Kept { first, whole, .. }) if whole.is_empty() => std::mem::take(first),
            Some(Kept { whole, .. }) => std::mem::take(whole).freeze(),
            None => Bytes::new(),
        }
    }

    /// What to send now.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = self.request.clone();
        let Some(info) = &self.info else { return request };
        let headers = &mut request.headers;
        headers.remove(IF_NONE_MATCH);
        if let Some(tag) =
            info.etag.as_ref().and_then(|tag| HeaderValue::from_str(tag.as_str()).ok())
        {
            headers.insert(IF_MATCH, tag);
        }
        if self.got > 0 || self.wanted.is_some() {
            let from = self.start.saturating_add(self.got);
            let range = match self.size {
                Some(size) => ByteRange::Between(from, self.start.saturating_add(size) - 1),
                None => ByteRange::From(from),
            };
            if let Ok(range) = HeaderValue::from_str(&range.to_string()) {
                headers.insert(RANGE, range);
            }
        }
        request
    }

    /// What is known of the object, once the first answer has come.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// Bytes handed on so far.
    #[must_use]
    pub fn got(&self) -> u64 {
        self.got
    }

    /// Bytes there are in all, where that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The head of an answer.
    #[must_use]
    pub fn opened(&mut self, status: StatusCode, headers: &HeaderMap) -> Opened {
        self.skip = 0;
        let fits = match &self.info {
            None => self.first(status, headers),
            Some(known) => {
                let same = Info::of(headers).etag == known.etag;
                same && self.rest(status, headers)
            }
        };
        if fits { Opened::Read } else { Opened::Refused }
    }

    /// Takes over what the first answer says. Whether that is what was asked for.
    fn first(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        let info = Info::of(headers);
        let part = Part::of(headers);
        match (status, self.wanted, part) {
            (StatusCode::OK, None, _) => self.size = info.size,
            (StatusCode::PARTIAL_CONTENT, Some(wanted), Some(part)) => {
                let fits = match wanted {
                    ByteRange::From(from) => part.from == from,
                    ByteRange::Between(from, to) => part.from == from && part.to <= to,
                    ByteRange::Last(count) => part.size() <= count,
                };
                if !fits {
                    return false;
                }
                (self.start, self.size) = (part.from, Some(part.size()));
            }
            _ => return false,
        }
        self.info = Some(info);
        true
    }

    /// Whether an answer holds the rest of the object, whose tag is known to be the same.
    fn rest(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        match (status, Part::of(headers)) {
            (StatusCode::PARTIAL_CONTENT, Some(part)) => {
                let from = self.start.saturating_add(self.got);
                let left = self.size.map(|size| size.saturating_sub(self.got));
                if self.size.is_none() {
                    self.size = Some(self.got.saturating_add(part.size()));
                }
                part.from == from && left.is_none_or(|left| part.size() == left)
            }
            // All of it once more: what the caller has is passed over.
            (StatusCode::OK, None) if self.wanted.is_none() => {
                self.skip = self.got;
                let size = Info::of(headers).size;
                self.size.is_none() || size.is_none() || size == self.size
            }
            _ => false,
        }
    }

    /// A refused answer, with its body.
    ///
    /// # Errors
    /// What it says, unless there is something to be done about it.
    pub fn refused(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        rng: &mut Pcg32,
    ) -> Result<Then, StorageError> {
        let mut error = if status.is_success() {
            let code = if self.info.is_some() { Code::Changed } else { Code::RangeIgnored };
            StorageError::plain(status.as_u16(), code)
        } else {
            StorageError::of(&Method::GET, status.as_u16(), headers, body)
        };
        if error.code == Code::RequestTimeTooSkewed && correct(&mut self.request, headers) {
            return Ok(Then::Again(Duration::ZERO));
        }
        if self.info.is_some() {
            if matches!(error.code, Code::PreconditionFailed | Code::InvalidRange) {
                error.code = Code::Changed;
            }
            let again = error.code != Code::Changed && error.retryable();
            if again && let then @ Then::Again(_) = self.broke(rng) {
                return Ok(then);
            }
        }
        Err(error)
    }

    /// A piece of the body: what the caller gets of it. Empty when it has all of it already.
    ///
    /// # Errors
    /// [`Error::Storage`] with [`Code::RangeIgnored`] for more bytes than there are, and
    /// [`Error::TooLarge`] for more than are to be collected.
    pub fn piece(&mut self, mut piece: Bytes) -> Result<Bytes, Error> {
        let known = u64::try_from(piece.len()).unwrap_or(u64::MAX).min(self.skip);
        self.skip -= known;
        piece.advance(usize::try_from(known).unwrap_or(piece.len()));
        let count = piece.len() as u64;
        let got = self.got.saturating_add(count);
        if self.size.is_some_and(|size| got > size) {
            let error = Box::new(StorageError::plain(200, Code::RangeIgnored));
            return Err(Error::Storage { error, report: None });
        }
        if let Some(Kept { limit, .. }) = self.kept
            && self.size.unwrap_or(got).max(got) > limit
        {
            return Err(Error::TooLarge { service: ask::SERVICE.into(), limit });
        }
        self.got = got;
        if count > 0 {
            self.idle = 0;
            self.since = self.since.saturating_add(count);
            if self.since >= REFILL {
                (self.since, self.credit) = (0, self.resumes);
            }
        }
        if let Some(kept) = &mut self.kept {
            kept.put(piece, self.size);
            return Ok(Bytes::new());
        }
        Ok(piece)
    }

    /// The body is over: whether that was all.
    #[must_use]
    pub fn ended(&mut self, rng: &mut Pcg32) -> Then {
        let whole = self.size.is_none_or(|size| self.got >= size);
        if whole && self.skip == 0 { Then::Done } else { self.broke(rng) }
    }

    /// The body broke off, or the rest could not be had.
    #[must_use]
    pub fn broke(&mut self, rng: &mut Pcg32) -> Then {
        let Some(info) = &self.info else { return Then::GiveUp };
        if self.size.is_some_and(|size| self.got >= size) {
            // The connection broke after the last byte.
            return Then::Done;
        }
        if !info.etag.as_ref().is_some_and(ETag::is_strong) {
            if self.got > 0 && self.kept.is_none() {
                return Then::GiveUp;
            }
            // Nothing was handed on, so it can be another object.
            drop(self.take());
            (self.info, self.size, self.start, self.got) = (None, None, 0, 0);
        }
        let Some(credit) = self.credit.checked_sub(1) else { return Then::GiveUp };
        (self.credit, self.since) = (credit, 0);
        let pause = match self.idle {
            0 => Duration::ZERO,
            times => PAUSE.saturating_mul(1 << (times - 1).min(10)).min(LONGEST_PAUSE),
        };
        self.idle = self.idle.saturating_add(1);
        // Downloads that broke together shall not come back together.
        let half = pause / 2;
        let more = rng.up_to(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        Then::Again(half.saturating_add(Duration::from_nanos(more)))
    }
}

/// Signs by the clock of the server from now on, which its answer tells; once. Whether it does.
pub(crate) fn correct(request: &mut Request, headers: &HeaderMap) -> bool {
    let server = headers.get(DATE).and_then(|v| v.to_str().ok()).and_then(date::http);
    match (&mut request.signer, server) {
        (Some(signer), Some(server)) if !signer.is_at() => {
            **signer = signer.as_ref().clone().at(server);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! Writing an object of any size although connections break and servers restart.
//!
//! What is known to be small goes as one `PUT`. As soon as there is more than a part, the object
//! is written in parts: each is kept until storage has it, and sent again alone, so that a break
//! costs a part and not the object, and memory is bounded by one part. Nothing is seen of the
//! object before the parts are put together, and then all of it. It follows the published rules
//! of S3 (Amazon S3 user guide, "Uploading and copying objects using multipart upload") and what
//! the AWS transfer managers do; what differs: the size need not be known, parts grow as the
//! object does, and what became of putting them together is found out rather than guessed.
//!
//! An upload lives in the cluster that began it: another one does not know it, and its saying so
//! means nothing but that the first is to be waited for.
//!
//! If the answer to putting the parts together is lost, that is asked for once more. Storage then
//! says that it has done so, or that there is no such upload; in the latter case the object is
//! looked at: it was done if its entity tag is the one that these very parts make
//! ([`super::multipart::composed`]) and its size fits. Where tags cannot be foreseen the caller
//! gets the error, and has to look for itself.

mod answers;
mod replies;
mod terms;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;

use super::ask::{self, GetOptions, PutOptions, refuse};
use super::credentials::Settings;
use super::multipart;
use super::object::ETag;
use super::sign::Signer;
use crate::error::Error;
use crate::request::{Report, Request};
use crate::rng::Pcg32;

pub use self::replies::aborted;
use self::replies::{may_have_arrived, unreadable};
pub use self::terms::{LARGEST_PART, MOST_PARTS, SMALLEST_PART, UploadOptions, Uploaded, Want};

/// Parts are twice as large after so many of them: 10 000 of 5 MiB at first make 8 TiB.
const GROWS_AFTER: usize = 900;
/// Pause before the second attempt in a row; doubles.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One object on its way to storage.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use origin_core::s3::upload::{Upload, UploadOptions, Want};
///
/// let mut upload = Upload::new(&Arc::default(), "bucket", "key", UploadOptions::default())?;
/// upload.push(Bytes::from_static(b"not even a part"));
/// assert!(matches!(upload.poll()?, Want::More));
/// upload.end();
/// let Want::Send(request, _) = upload.poll()? else { panic!() };
/// assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/bucket/key"));
/// # Ok::<(), origin_core::Error>(())
/// ```
pub struct Upload {
    settings: Arc<Settings>,
    bucket: Box<str>,
    key: Box<str>,
    options: PutOptions,
    part_size: u64,
    /// Bytes that were taken and are to be part of a part.
    buffer: BytesMut,
    /// Bytes that were given and do not fit in there yet.
    waiting: Bytes,
    /// There are more bytes than fit in there.
    more: bool,
    /// There are no more.
    ended: bool,
    /// What is to be sent, until it is answered.
    out: Option<Out>,
    /// What storage calls the upload.
    id: Option<String>,
    /// The cluster that knows it.
    home: Option<Arc<str>>,
    parts: Vec<ETag>,
    /// Bytes in those.
    stored: u64,
    /// The parts may have been put together, and the answer was lost.
    doubt: bool,
    /// How the last request was signed: by which clock.
    signer: Option<Box<Signer>>,
    resumes: u8,
    credit: u8,
    /// Failures in a row.
    idle: u32,
    done: Option<Uploaded>,
    over: bool,
}

struct Out {
    ask: Ask,
    request: Request,
    pause: Duration,
}

/// What is asked.
enum Ask {
    /// To take the object as a whole.
    Put,
    /// To begin.
    Create,
    /// To take a part.
    Part,
    /// To put the parts together.
    Complete,
    /// Whether that has happened; otherwise this is the error.
    Look(Error),
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, stored, held) = (self.parts.len(), self.stored, self.buffer.len());
        write!(f, "Upload({parts} parts of {stored} bytes, {held} more)")
    }
}

impl Upload {
    /// An upload to this place.
    ///
    /// # Errors
    /// [`Error::Request`] for names and options that cannot be sent.
    pub fn new(
        settings: &Arc<Settings>,
        bucket: &str,
        key: &str,
        options: UploadOptions,
    ) -> Result<Upload, Error> {
        let UploadOptions { object, part_size, size } = options;
        if !(SMALLEST_PART..=LARGEST_PART).contains(&part_size) {
            return Err(refuse("part_size is not from 5 MiB to 5 GiB"));
        }
        let part_size = part_size.max(size.unwrap_or(0).div_ceil(MOST_PARTS as u64));
        if part_size > LARGEST_PART {
            return Err(refuse("the size is more than 10 000 parts of 5 GiB"));
        }
        // Whatever is wrong with the names and options shows before anything is sent.
        ask::write(settings, (bucket, key), Bytes::new(), &object)?;
        Ok(Upload {
            settings: settings.clone(),
            bucket: bucket.into(),
            key: key.into(),
            options: object,
            part_size,
            buffer: BytesMut::new(),
            waiting: Bytes::new(),
            more: false,
            ended: false,
            out: None,
            id: None,
            home: None,
            parts: Vec::new(),
            stored: 0,
            doubt: false,
            signer: None,
            resumes: settings.resumes,
            credit: settings.resumes,
            idle: 0,
            done: None,
            over: false,
        })
    }

    /// Takes bytes over. They are kept as they are until there is room for them, so
    /// [`Upload::poll`] is to be asked before more are given.
    pub fn push(&mut self, bytes: Bytes) {
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            let mut both = BytesMut::from(&self.waiting[..]);
            both.extend_from_slice(&bytes);
            self.waiting = both.freeze();
        }
    }

    /// Copies as many bytes as there is room for; 0: [`Upload::poll`] first.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        self.settle();
        let count = if self.waiting.is_empty() { self.room().min(bytes.len()) } else { 0 };
        self.buffer.extend_from_slice(&bytes[..count]);
        self.more |= count < bytes.len();
        count
    }

    /// There are no more bytes.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes that storage has, in parts.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Bytes of the part that is being filled.
    fn limit(&self) -> usize {
        let doubled = u32::try_from(self.parts.len() / GROWS_AFTER).unwrap_or(u32::MAX).min(20);
        let size = (self.part_size << doubled).min(LARGEST_PART);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    fn room(&self) -> usize {
        self.limit().saturating_sub(self.buffer.len())
    }

    /// Takes in what waits, as far as there is room.
    fn settle(&mut self) {
        // A whole part that waits needs no copy.
        if self.buffer.is_empty() && self.waiting.len() >= self.limit() {
            return;
        }
        let count = self.room().min(self.waiting.len());
        if count > 0 {
            self.buffer.extend_from_slice(&self.waiting.split_to(count));
        }
    }

    /// What it wants now. The same until something is told to it.
    ///
    /// # Errors
    /// [`Error::Request`] for more than 10 000 parts, and once it has failed.
    pub fn poll(&mut self) -> Result<Want, Error> {
        if self.over {
            return Err(refuse("the upload has ended with an error already"));
        }
        if let Some(done) = &self.done {
            return Ok(Want::Done(done.clone()));
        }
        if self.out.is_none() {
            self.settle();
            let Some((ask, request)) = self.ask().inspect_err(|_| self.over = true)? else {
                return Ok(Want::More);
            };
            self.send(ask, request);
        }
        Ok(match &self.out {
            Some(out) => Want::Send(out.request.clone(), out.pause),
            None => Want::More,
        })
    }

    /// What to ask for with what is there; `None`: nothing yet.
    fn ask(&mut self) -> Result<Option<(Ask, Request)>, Error> {
        let full = self.room() == 0 || self.waiting.len() >= self.limit();
        let beyond = full && (self.more || self.buffer.len() + self.waiting.len() > self.limit());
        let object = (&*self.bucket, &*self.key);
        let Some(id) = &self.id else {
            if beyond {
                let request = multipart::create(&self.settings, object, &self.options)?;
                return Ok(Some((Ask::Create, request)));
            }
            if !self.ended {
                return Ok(None);
            }
            let whole = match self.buffer.is_empty() {
                true => std::mem::take(&mut self.waiting),
                false => std::mem::take(&mut self.buffer).freeze(),
            };
            self.stored = whole.len() as u64;
            let request = ask::write(&self.settings, object, whole, &self.options)?;
            return Ok(Some((Ask::Put, request)));
        };
        if !full && !self.ended {
            return Ok(None);
        }
        let body = match self.buffer.is_empty() {
            true => self.waiting.split_to(self.waiting.len().min(self.limit())),
            false => std::mem::take(&mut self.buffer).freeze(),
        };
        if body.is_empty() {
            let request =
                multipart::complete(&self.settings, object, id, &self.parts, &self.options)?;
            return Ok(Some((Ask::Complete, request)));
        }
        if self.parts.len() >= MOST_PARTS {
            return Err(refuse("the object has more than 10 000 parts: make them larger"));
        }
        self.more = false;
        let number = self.parts.len() + 1;
        let request = multipart::part(&self.settings, object, id, number, body)?;
        Ok(Some((Ask::Part, request)))
    }

    fn send(&mut self, ask: Ask, mut request: Request) {
        // Once the clock of storage is known to differ it stays so.
        if let (Some(next), Some(last)) = (&mut request.signer, &self.signer) {
            next.follow(last);
        }
        self.out = Some(Out { ask, request, pause: Duration::ZERO });
    }

    /// The call that was to be made failed: there is no answer.
    ///
    /// # Errors
    /// Why, unless it is worth another attempt; the upload is over then.
    pub fn failed(&mut self, why: Error, rng: &mut Pcg32) -> Result<(), Error> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let passing =
            why.failure().is_some() || matches!(why, Error::Discovery { .. } | Error::Body { .. });
        let arrived = match why.failure() {
            Some(failure) => failure.report.attempts.iter().any(may_have_arrived),
            None => matches!(why, Error::Body { .. } | Error::TooLarge { .. }),
        };
        if let Ask::Complete = out.ask {
            self.doubt |= arrived;
        }
        let wait = why.failure().and_then(|failure| failure.retry_in);
        let out = match passing && (!arrived || self.is_repeatable(&out)) {
            true => match self.again(out, wait, rng) {
                Some(out) => out,
                None => return Ok(()),
            },
            false => out,
        };
        match out.ask {
            Ask::Look(before) => Err(self.fail(before)),
            Ask::Complete if self.doubt => self.look(why),
            _ => Err(self.fail(why)),
        }
    }

    /// A conditional write would meet its own effect; all else may be sent again.
    fn is_repeatable(&self, out: &Out) -> bool {
        let conditional = self.options.only_new || self.options.if_match.is_some();
        !(conditional && matches!(out.ask, Ask::Put))
    }

    /// Sends it once more, if that may be; otherwise gives it back.
    fn again(&mut self, mut out: Out, wait: Option<Duration>, rng: &mut Pcg32) -> Option<Out> {
        let Some(credit) = self.credit.checked_sub(1) else { return Some(out) };
        self.credit = credit;
        let pause = match self.idle {
            0 => Duration::ZERO,
            times => PAUSE.saturating_mul(1 << (times - 1).min(10)),
        };
        self.idle = self.idle.saturating_add(1);
        let pause = pause.min(LONGEST_PAUSE);
        // Uploads that broke together shall not come back together.
        let half = pause / 2;
        let more = rng.up_to(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        let pause = half.saturating_add(Duration::from_nanos(more));
        // Before that nobody would be asked.
        out.pause = pause.max(wait.unwrap_or(Duration::ZERO).min(LONGEST_PAUSE));
        self.out = Some(out);
        None
    }

    /// Looks whether the parts were put together.
    ///
    /// # Errors
    /// `why`, where there is nothing to be seen.
    fn look(&mut self, why: Error) -> Result<(), Error> {
        let object = (&*self.bucket, &*self.key);
        let request = ask::read(&self.settings, Method::HEAD, object, &GetOptions::default());
        match (request, multipart::composed(&self.parts)) {
            (Ok(request), Some(_)) => {
                self.send(Ask::Look(why), request);
                Ok(())
            }
            _ => Err(self.fail(why)),
        }
    }

    fn went_well(&mut self) {
        (self.credit, self.idle) = (self.resumes, 0);
    }

    fn is_done(&mut self, etag: Option<ETag>, version: Option<String>, report: Report) {
        let (size, parts) = (self.stored, self.parts.len());
        self.done = Some(Uploaded { etag, version, size, parts, report });
    }

    fn fail(&mut self, why: Error) -> Error {
        self.over = true;
        why
    }

    fn unreadable(&mut self, what: &'static str, reason: String) -> Error {
        self.fail(unreadable(what, reason))
    }

    /// Ends it: what to send, so that storage forgets the parts it has. `None`: it has none, or
    /// the object is there.
    #[must_use]
    pub fn abort(&mut self) -> Option<Request> {
        self.over = self.done.is_none();
        self.out = None;
        let id = self.id.take().filter(|_| self.over)?;
        let object = (&*self.bucket, &*self.key);
        let mut request = multipart::abort(&self.settings, object, &id).ok()?;
        if let (Some(next), Some(last)) = (&mut request.signer, &self.signer) {
            next.follow(last);
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests;

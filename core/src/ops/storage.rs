//! Object storage (S3, path style): read, write, list, delete. Requests are signed where the
//! configuration names an access key (`storage`); what they look like and what replies mean is in
//! [`crate::s3`].
//!
//! Names of buckets and keys may be nearly anything and arrive as they are; see
//! [`crate::s3::object`] for what is refused before anything is sent. What storage answers is in
//! [`Error::Storage`], by its meaning. A 404 is an answer and not tried elsewhere: buckets are
//! copied between clusters with some delay, so a copy that does not have an object says less than
//! the cluster that was asked. Conditional writes are not repeated once they may have arrived.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Caller, Flow, Step};
use crate::address::Address;
use crate::error::Error;
use crate::request::{Report, Request, Response};
use crate::s3::download::{Download, correct};
use crate::s3::list::BadPage;
use crate::s3::{
    Code, ETag, Entry, GetOptions, Info, ListOptions, Page, PutOptions, Settings, StorageError,
    Upload, UploadOptions, ask, list, object, sign,
};
use crate::time::Wall;

/// Name of the service in the discovery document.
pub const SERVICE: &str = ask::SERVICE;

/// The storage service of a client.
#[derive(Clone)]
pub struct Storage<C> {
    caller: C,
    keys: Arc<dyn Keys>,
}

impl<C: fmt::Debug> fmt::Debug for Storage<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Whoever has the settings of the moment. A driver implements it over its locks; settings that
/// never change are one as well.
pub trait Keys: Send + Sync {
    /// What a call that begins now is signed with.
    fn settings(&self) -> Arc<Settings>;
}

impl Keys for Arc<Settings> {
    fn settings(&self) -> Arc<Settings> {
        self.clone()
    }
}

/// A caller that can also do what takes more than calls one after the other: leave a body open,
/// wait in between, go on after a call has failed.
pub trait Streams: Caller {
    /// An object being read: how, is the runtime's.
    type Download;
    /// An object being written.
    type Upload;

    /// Reads an object; nothing is sent before it is first read from.
    fn download(&self, download: Result<Download, Error>) -> Self::Download;

    /// Reads the whole of an object, up to the limit of bodies.
    fn collect(&self, download: Result<Download, Error>) -> Self::Reply<Object>;

    /// Whether answers of storage may come from a cache, which keeps them whole.
    fn remembers(&self) -> bool;

    /// Writes an object; nothing is sent before there is a part of it, or the end.
    fn upload(&self, upload: Result<Upload, Error>) -> Self::Upload;
}

impl<C: Caller> Storage<C> {
    /// Storage as reached by `caller`, asked under these settings.
    pub fn new(caller: C, settings: Arc<Settings>) -> Storage<C> {
        Storage::with(caller, Arc::new(settings))
    }

    /// The same, each call under the settings that `keys` has when it begins.
    pub fn with(caller: C, keys: Arc<dyn Keys>) -> Storage<C> {
        Storage { caller, keys }
    }

    fn run<T: Send + 'static>(
        &self,
        request: Result<Request, Error>,
        read: impl FnMut(Response) -> Result<Read<T>, Error> + Send + 'static,
    ) -> C::Reply<T> {
        let method = request.as_ref().map_or(Method::GET, |request| request.method.clone());
        self.caller.run(Operation { request: Some(request), method, sent: None, read })
    }

    /// Asks about an object without its bytes. Storage says little when it refuses that: a 404 is
    /// [`Code::NoSuchKey`], also where the bucket is missing.
    pub fn head_object(&self, bucket: &str, key: &str, options: &GetOptions) -> C::Reply<Info> {
        let request = ask::read(&self.keys.settings(), Method::HEAD, (bucket, key), options);
        self.run(request, |reply| Ok(Read::Done(Info::of(&reply.headers))))
    }

    /// Writes an object, in place of any there is. It is sent from memory; the whole of it takes
    /// effect, or nothing.
    pub fn put_object(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
    ) -> C::Reply<Written> {
        self.put_object_with(bucket, key, bytes, &PutOptions::default())
    }

    /// Writes an object with media type and metadata, under a condition.
    ///
    /// Yields [`Error::Storage`] with [`Code::PreconditionFailed`] when the condition does not
    /// hold and [`Code::Conflict`] when another writer was there at the same time. A conditional
    /// write that breaks off is not repeated, since it may have taken effect.
    pub fn put_object_with(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
        options: &PutOptions,
    ) -> C::Reply<Written> {
        let request = ask::write(&self.keys.settings(), (bucket, key), bytes.into(), options);
        self.run(request, |reply| {
            let Info { etag, version, .. } = Info::of(&reply.headers);
            Ok(Read::Done(Written { etag, version, report: reply.report }))
        })
    }

    /// Deletes an object. One that is not there is no error: most storage does not tell, and what
    /// was wanted is so.
    pub fn delete_object(&self, bucket: &str, key: &str) -> C::Reply<()> {
        let request = ask::delete(&self.keys.settings(), (bucket, key));
        self.run(request, |_| Ok(Read::Done(())))
    }

    /// A page of the objects in a bucket; `after` is [`Page::next`] of the page before.
    pub fn list_page(
        &self,
        bucket: &str,
        options: &ListOptions,
        after: Option<&str>,
    ) -> C::Reply<Page> {
        let request = ask::page(&self.keys.settings(), bucket, options, after);
        self.run(request, |reply| read_page(&reply).map(Read::Done))
    }

    /// All objects in a bucket that `options` mean, page after page, `most` at the most: memory
    /// is bounded by that. Keys that were put together up to a delimiter are left out.
    ///
    /// Yields [`Error::Decode`] when storage gives pages in a circle.
    pub fn list_objects(
        &self,
        bucket: &str,
        options: &ListOptions,
        most: usize,
    ) -> C::Reply<Vec<Entry>> {
        let settings = self.keys.settings();
        let request = ask::page(&settings, bucket, options, None);
        let (settings, bucket, options) = (settings, bucket.to_owned(), options.clone());
        let (mut found, mut before) = (Vec::new(), None);
        self.run(request, move |reply| {
            let page = read_page(&reply)?;
            found.extend(page.objects);
            if found.len() >= most {
                found.truncate(most);
                return Ok(Read::Done(std::mem::take(&mut found)));
            }
            let Some(next) = page.next else { return Ok(Read::Done(std::mem::take(&mut found))) };
            if before.as_ref() == Some(&next) {
                return Err(unreadable("it leads back to itself".to_owned()));
            }
            let request = ask::page(&settings, &bucket, &options, Some(&next))?;
            before = Some(next);
            Ok(Read::More(request))
        })
    }

    /// A URL that lets whoever has it read an object for `expires`, seven days at most, counted
    /// from `now`. `endpoint` is where they reach storage: not every address that this client
    /// knows is one for others. No request is made.
    ///
    /// The URL is a credential: whoever sees it can use it.
    ///
    /// # Errors
    /// [`Error::Credential`] without an access key, [`Error::Request`] for names or an address
    /// that cannot be ones.
    pub fn presigned_get(
        &self,
        endpoint: &str,
        bucket: &str,
        key: &str,
        now: Wall,
        expires: Duration,
    ) -> Result<String, Error> {
        let settings = self.keys.settings();
        if settings.credentials.is_none() {
            let what = "an access key: set storage.access_key and its secret";
            return Err(Error::Credential { service: SERVICE.into(), what });
        }
        let path = object::object_path(bucket, key).map_err(ask::refuse)?;
        let address = Address::parse(endpoint).map_err(|bad| ask::refuse(bad.reason()))?;
        sign::presigned(&settings, &address, &path, now, expires)
            .ok_or_else(|| ask::refuse("the endpoint is not an http or https address"))
    }
}

impl<C: Streams> Storage<C> {
    /// Reads an object. A connection that breaks is followed by another that brings the rest, as
    /// long as it is the same object; see [`crate::s3::download`]. All of it takes one deadline.
    ///
    /// Yields [`Error::Storage`] with [`Code::NoSuchKey`] when there is none and with
    /// [`Code::Changed`] when it was exchanged meanwhile, [`Error::TooLarge`] beyond
    /// `limits.body`, and [`Error::Request`] for a bucket or key that cannot be one.
    pub fn get_object(&self, bucket: &str, key: &str) -> C::Reply<Object> {
        self.get_object_with(bucket, key, &GetOptions::default())
    }

    /// Reads an object, or a part of one, under a condition.
    ///
    /// Yields [`Error::Storage`] with [`Code::NotModified`], [`Code::PreconditionFailed`],
    /// [`Code::InvalidRange`], and [`Code::RangeIgnored`] when another part came.
    pub fn get_object_with(
        &self,
        bucket: &str,
        key: &str,
        options: &GetOptions,
    ) -> C::Reply<Object> {
        if !self.caller.remembers() {
            let download = Download::new(&self.keys.settings(), bucket, key, options.clone());
            return self.caller.collect(download);
        }
        let request = ask::read(&self.keys.settings(), Method::GET, (bucket, key), options);
        let part = options.range.is_some();
        self.run(request, move |reply| {
            if (reply.status == StatusCode::PARTIAL_CONTENT) != part {
                let error = StorageError::plain(reply.status.as_u16(), Code::RangeIgnored);
                return Err(failed(error, reply.report));
            }
            Ok(Read::Done(Object::of(Info::of(&reply.headers), reply.body, reply.report)))
        })
    }

    /// Reads an object piece by piece, however large it is. A connection that breaks is followed
    /// by another that brings the rest, as long as it is the same object; see
    /// [`crate::s3::download`]. Nothing is sent before it is first read from, and mistakes in the
    /// names show then.
    pub fn download(&self, bucket: &str, key: &str, options: GetOptions) -> C::Download {
        self.caller.download(Download::new(&self.keys.settings(), bucket, key, options))
    }

    /// Writes an object of any size piece by piece, in parts of 8 MiB; see [`crate::s3::upload`].
    /// It is there, all of it, when the upload was finished, and not before. Nothing is sent
    /// before there is more than a part; mistakes in the names show with the first write.
    pub fn upload(&self, bucket: &str, key: &str) -> C::Upload {
        self.upload_with(bucket, key, UploadOptions::default())
    }

    /// The same with media type, metadata, a condition, and parts of another size.
    pub fn upload_with(&self, bucket: &str, key: &str, options: UploadOptions) -> C::Upload {
        self.caller.upload(Upload::new(&self.keys.settings(), bucket, key, options))
    }
}

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content, or the part of it that was asked for.
    pub bytes: Bytes,
    /// Its entity tag.
    pub etag: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Everything else that storage tells of it.
    pub info: Info,
    /// How it was had.
    pub report: Report,
}

impl Object {
    /// An object with what storage tells of it.
    #[must_use]
    pub fn of(info: Info, bytes: Bytes, report: Report) -> Object {
        let etag = info.etag.as_ref().map(|tag| tag.as_str().to_owned());
        let content_type = info.content_type.clone();
        Object { bytes, etag, content_type, info, report }
    }
}

/// An object that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its entity tag.
    pub etag: Option<ETag>,
    /// Which version it is, where the bucket has versions.
    pub version: Option<String>,
    /// How it went.
    pub report: Report,
}

/// What a reply amounts to.
#[allow(clippy::large_enum_variant)] // moved once
enum Read<T> {
    Done(T),
    More(Request),
}

/// One exchange, or several of the same kind.
struct Operation<F> {
    request: Option<Result<Request, Error>>,
    method: Method,
    /// What was sent last, while it may be sent once more by the clock of the server.
    sent: Option<Request>,
    read: F,
}

impl<T, F> Flow for Operation<F>
where
    T: Send + 'static,
    F: FnMut(Response) -> Result<Read<T>, Error> + Send + 'static,
{
    type Output = T;

    fn service(&self) -> &str {
        SERVICE
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<T>, Error> {
        let Some(reply) = reply else {
            let request = self.request.take().unwrap_or_else(|| Err(ask::refuse("sent already")));
            return self.send(request?);
        };
        let sent = self.sent.take();
        if !reply.status.is_success() {
            let method = &self.method;
            let Response { status, headers, body, .. } = &reply;
            let error = StorageError::of(method, status.as_u16(), headers, body);
            // To `HEAD` storage does not say why it refuses; it may be the clock.
            let clock = error.code == Code::RequestTimeTooSkewed
                || error.code == Code::AccessDenied && *method == Method::HEAD;
            if clock
                && let Some(mut request) = sent
                && correct(&mut request, headers)
            {
                return self.send(request);
            }
            // Deleted already: what was wanted, also when this is the answer to a repetition.
            if *method != Method::DELETE || error.code != Code::NoSuchKey {
                return Err(failed(error, reply.report));
            }
            return match (self.read)(reply)? {
                Read::Done(output) => Ok(Step::Done(output)),
                Read::More(request) => self.send(request),
            };
        }
        match (self.read)(reply)? {
            Read::Done(output) => Ok(Step::Done(output)),
            Read::More(mut request) => {
                // Once the clock is known to differ it stays so.
                if let (Some(next), Some(last)) =
                    (&mut request.signer, sent.and_then(|sent| sent.signer))
                {
                    next.follow(&last);
                }
                self.send(request)
            }
        }
    }
}

impl<F> Operation<F> {
    fn send<T>(&mut self, request: Request) -> Result<Step<T>, Error> {
        self.sent = request.signer.is_some().then(|| request.clone());
        Ok(Step::Send(request))
    }
}

fn read_page(reply: &Response) -> Result<Page, Error> {
    match list::read(&reply.body) {
        Ok(page) => Ok(page),
        Err(BadPage::Unreadable(why)) => Err(unreadable(why.to_string())),
        Err(BadPage::Refused(error)) => Err(failed(error, reply.report.clone())),
    }
}

fn unreadable(reason: String) -> Error {
    Error::Decode { service: SERVICE.into(), what: "listing of a bucket", reason }
}

fn failed(error: StorageError, report: Report) -> Error {
    Error::Storage { error: Box::new(error), report: Some(Box::new(report)) }
}

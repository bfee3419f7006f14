//! Servers of object storage, each on a thread of its own. HTTP, XML and the checking of
//! signatures are those of the crate `s3s`. What is behind it is either a folder (`s3s-fs`) or
//! [`Shelf`], which also knows conditions and pages, and breaks off when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::parts::{self, Cut, Parts};
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3ServiceBuilder, SharedS3Service};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

pub(crate) const KEY: &str = "AKIDORIGIN";
pub(crate) const SECRET: &str = "pl4nted-secret-key/+=";
pub(crate) const BUCKET: &str = "vault-backups";

/// What the shelf was asked for: method, `Range` and `If-Match`.
pub(crate) type Asked = (&'static str, Option<String>, Option<String>);

#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) objects: Mutex<BTreeMap<String, Kept>>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// Bodies break off after so many bytes, so many times.
    pub(crate) breaks: Mutex<(usize, u32)>,
    /// Every object is exchanged for this one when a body breaks off.
    pub(crate) exchange: Mutex<Option<Bytes>>,
    /// Most entries of a page.
    pub(crate) page: Mutex<usize>,
    /// What its clock says, as an HTTP date and as a stamp: other stamps are too far off.
    pub(crate) clock: Mutex<Option<(&'static str, &'static str)>>,
    /// Objects on their way, in parts.
    pub(crate) parts: Parts,
}

#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<ContentType>,
    pub(crate) metadata: Option<Metadata>,
    /// Its tag, where that does not follow from the bytes.
    pub(crate) tag: Option<String>,
}

impl Kept {
    pub(crate) fn of(bytes: Bytes) -> Kept {
        Kept { bytes, content_type: None, metadata: None, tag: None }
    }

    pub(crate) fn tag(&self) -> String {
        if let Some(tag) = &self.tag {
            return tag.clone();
        }
        let hash = self
            .bytes
            .iter()
            .fold(7_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        format!("\"{hash:016x}\"")
    }
}

impl Shelf {
    pub(crate) fn find(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> S3Result<Kept> {
        if bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket, "pl4nted-message of node-7"));
        }
        let kept = self.objects.lock().unwrap().get(key).cloned();
        let kept = kept.ok_or_else(|| s3_error!(NoSuchKey, "pl4nted-message of node-7"))?;
        if if_match.is_some_and(|tag| tag != kept.tag()) {
            return Err(s3_error!(PreconditionFailed));
        }
        if if_none_match.is_some_and(|tag| tag == kept.tag()) {
            return Err(s3_error!(NotModified));
        }
        Ok(kept)
    }

    /// The pieces of a body, the last of which may be a broken line.
    fn body(&self, bytes: &Bytes) -> StreamingBlob {
        let mut pieces: Vec<io::Result<Bytes>> = Vec::new();
        let mut breaks = self.breaks.lock().unwrap();
        let most = if breaks.1 > 0 { breaks.0 } else { usize::MAX };
        for from in (0..bytes.len().min(most)).step_by(16 << 10) {
            pieces.push(Ok(bytes.slice(from..bytes.len().min(from + (16 << 10)))));
        }
        if most < bytes.len() {
            breaks.1 -= 1;
            pieces.push(Err(io::Error::other("the line breaks")));
            if let Some(other) = self.exchange.lock().unwrap().take() {
                for kept in self.objects.lock().unwrap().values_mut() {
                    kept.bytes = other.clone();
                }
            }
        }
        StreamingBlob::wrap(stream::iter(pieces))
    }
}

/// What a page encodes names with when it is asked to.
fn encoded(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
    let byte = |c: u8| match c {
        b' ' => "+".to_owned(),
        c if plain(c) => char::from(c).to_string(),
        c => format!("%{c:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The shelf behind a server, which others keep looking at.
pub(crate) struct Served(pub(crate) Arc<Shelf>);

impl std::ops::Deref for Served {
    type Target = Shelf;

    fn deref(&self) -> &Shelf {
        &self.0
    }
}

#[async_trait::async_trait]
impl S3 for Served {
    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let header =
            |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        self.asked.lock().unwrap().push(("GET", header("range"), header("if-match")));
        let input = request.input;
        let (wanted, known) = (input.if_match.as_deref(), input.if_none_match.as_deref());
        let kept = self.find(&input.bucket, &input.key, wanted, known)?;
        let size = kept.bytes.len() as u64;
        let range = match input.range {
            Some(range) => Some(range.check(size)?),
            None => None,
        };
        let bytes = match &range {
            Some(range) => kept.bytes.slice(range.start as usize..range.end as usize),
            None => kept.bytes.clone(),
        };
        Ok(S3Response::new(GetObjectOutput {
            body: Some(self.body(&bytes)),
            content_length: Some(bytes.len() as i64),
            content_range: range.map(|r| format!("bytes {}-{}/{size}", r.start, r.end - 1)),
            e_tag: Some(kept.tag()),
            content_type: kept.content_type,
            metadata: kept.metadata,
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (wanted, known) = (input.if_match.as_deref(), input.if_none_match.as_deref());
        let kept = self.find(&input.bucket, &input.key, wanted, known)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(kept.bytes.len() as i64),
            e_tag: Some(kept.tag()),
            content_type: kept.content_type,
            metadata: kept.metadata,
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.asked.lock().unwrap().push(("PUT", None, request.input.if_match.clone()));
        let input = request.input;
        let mut bytes = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        let there = self.find(&input.bucket, &input.key, input.if_match.as_deref(), None);
        match there {
            Ok(_) if input.if_none_match.as_deref() == Some("*") => {
                return Err(s3_error!(PreconditionFailed));
            }
            Err(error) if input.if_match.is_some() || input.bucket != BUCKET => return Err(error),
            _ => {}
        }
        let (content_type, metadata) = (input.content_type, input.metadata);
        let kept = Kept { bytes: bytes.into(), content_type, metadata, tag: None };
        let e_tag = Some(kept.tag());
        self.objects.lock().unwrap().insert(input.key, kept);
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.create(request.input)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.take_part(request.input).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.complete(request.input)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort(&request.input)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        if input.bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket));
        }
        self.objects.lock().unwrap().remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if input.bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket));
        }
        let url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == "url");
        let name = |text: &str| if url { encoded(text) } else { text.to_owned() };
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone());
        let after = after.unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|text| !text.is_empty());
        let most = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap();
        let most = most.min(*self.page.lock().unwrap());
        let (mut contents, mut prefixes) = (Vec::new(), Vec::<String>::new());
        let (mut last, mut cut) = (String::new(), false);
        for (key, kept) in &*self.objects.lock().unwrap() {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            let folder = delimiter
                .as_deref()
                .and_then(|d| rest.split_once(d).map(|(folder, _)| format!("{prefix}{folder}{d}")));
            let shown = folder.as_ref().unwrap_or(key);
            if *shown <= after || prefixes.last() == Some(shown) {
                continue;
            }
            if contents.len() + prefixes.len() >= most {
                cut = true;
                break;
            }
            last.clone_from(shown);
            match folder {
                Some(folder) => prefixes.push(folder),
                None => contents.push(Object {
                    key: Some(name(key)),
                    size: Some(kept.bytes.len() as i64),
                    e_tag: Some(kept.tag()),
                    ..Object::default()
                }),
            }
        }
        let folder = |text: &String| CommonPrefix { prefix: Some(name(text)) };
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(contents),
            common_prefixes: Some(prefixes.iter().map(folder).collect()),
            is_truncated: Some(cut),
            next_continuation_token: cut.then_some(last),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        }))
    }
}

/// Starts a server over `storage` that lets [`KEY`] with [`SECRET`] in; yields its URL. It ends
/// with the program; killed by [`parts::Cut::Kill`] it comes back at the same place.
pub(crate) fn start(storage: impl S3, shelf: Arc<Shelf>) -> String {
    let mut builder = S3ServiceBuilder::new(storage);
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build().into_shared();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut place = "127.0.0.1:0".to_owned();
        loop {
            // Everything a server has open dies with its runtime.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(&place).await.unwrap();
                place = listener.local_addr().unwrap().to_string();
                let _ = told.send(format!("http://{place}"));
                tokio::select! {
                    () = serve(&listener, &service, &shelf) => {}
                    () = shelf.parts.killed.notified() => {}
                }
            });
        }
    });
    heard.recv().unwrap()
}

async fn serve(listener: &tokio::net::TcpListener, service: &SharedS3Service, shelf: &Arc<Shelf>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, shelf) = (service.clone(), shelf.clone());
        let answer = service_fn(move |request| answer(service.clone(), shelf.clone(), request));
        let http = hyper::server::conn::http1::Builder::new();
        let serving = http.serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(async move { drop(serving.await) });
    }
}

/// Answers, or breaks the connection off.
async fn answer(
    service: SharedS3Service,
    shelf: Arc<Shelf>,
    mut request: hyper::Request<hyper::body::Incoming>,
) -> io::Result<hyper::Response<s3s::Body>> {
    let cut = shelf.parts.met(request.method(), request.uri().query().unwrap_or(""));
    let broken = || io::Error::other("the line breaks");
    match cut {
        Some(Cut::Middle) => {
            parts::read(request.body_mut(), 256 << 10).await;
            return Err(broken());
        }
        Some(Cut::Kill) => {
            parts::read(request.body_mut(), 256 << 10).await;
            shelf.parts.killed.notify_one();
            std::future::pending::<()>().await;
        }
        Some(Cut::Answer) | None => {}
    }
    let clock = *shelf.clock.lock().unwrap();
    let stamp = request.headers().get("x-amz-date").and_then(|v| v.to_str().ok());
    if let Some((date, right)) = clock
        && stamp.is_some_and(|stamp| stamp != right)
    {
        // An answer before the end of the request may be missed by who is still sending.
        parts::read(request.body_mut(), usize::MAX).await;
        let body = "<Error><Code>RequestTimeTooSkewed</Code></Error>".to_owned();
        let head = request.method() == hyper::Method::HEAD;
        let body = if head { s3s::Body::empty() } else { s3s::Body::from(body) };
        let response = hyper::Response::builder().status(403).header("date", date).body(body);
        return Ok(response.unwrap());
    }
    let failed = |error: S3Error| {
        hyper::Response::builder().status(500).body(s3s::Body::from(format!("{error:?}"))).unwrap()
    };
    let mut response = service.call(request).await.unwrap_or_else(failed);
    if let Some(Cut::Answer) = cut {
        // The end of an upload is carried out while its answer is being sent.
        parts::read(response.body_mut(), usize::MAX).await;
        return Err(broken());
    }
    Ok(response)
}

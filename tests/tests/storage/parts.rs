//! What the shelf does with objects in parts, tagged as S3 does (the MD5 of the MD5s), and what is
//! done to their requests on the way.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use futures_lite::StreamExt;
use hyper::Method;
use hyper::body::Body;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};
use tokio::sync::Notify;

use crate::server::{BUCKET, Kept, Served};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cut {
    /// The line breaks while it is being read.
    Middle,
    /// It has its effect; the line breaks before the answer.
    Answer,
    /// The server dies while it is being read.
    Kill,
}

#[derive(Default)]
pub(crate) struct Parts {
    uploads: Mutex<BTreeMap<String, Begun>>,
    begun: Mutex<usize>,
    /// The requests for it: `create`, `part 1`, `complete`, `abort`; and `put` and `head`.
    said: Mutex<Vec<String>>,
    cuts: Mutex<Vec<(&'static str, Cut)>>,
    pub(crate) killed: Notify,
}

struct Begun {
    key: String,
    content_type: Option<ContentType>,
    metadata: Option<Metadata>,
    parts: BTreeMap<i32, Bytes>,
}

impl Parts {
    /// Lets this befall the next request of that name.
    pub(crate) fn cut(&self, name: &'static str, cut: Cut) {
        self.cuts.lock().unwrap().push((name, cut));
    }

    /// Whether no upload is under way, and with it no part.
    pub(crate) fn is_empty(&self) -> bool {
        self.uploads.lock().unwrap().is_empty()
    }

    /// What was asked for since the last look.
    pub(crate) fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }

    /// A request has come.
    pub(crate) fn met(&self, method: &Method, query: &str) -> Option<Cut> {
        let number =
            query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap_or("?");
        let name = match (method.as_str(), query.contains("uploadId=")) {
            ("POST", false) => "create".to_owned(),
            ("PUT", true) => format!("part {number}"),
            ("POST", true) => "complete".to_owned(),
            ("DELETE", true) => "abort".to_owned(),
            (method, _) => method.to_lowercase(),
        };
        let mut cuts = self.cuts.lock().unwrap();
        let cut = cuts.iter().position(|(cut, _)| *cut == name).map(|at| cuts.remove(at).1);
        self.said.lock().unwrap().push(name);
        cut
    }
}

/// Reads the beginning of a body, or all of it.
pub(crate) async fn read<B: Body<Data = Bytes> + Unpin>(body: &mut B, most: usize) {
    let mut read = 0;
    while read < most {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        match frame.await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Served {
    pub(crate) fn create(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        if input.bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket));
        }
        let mut begun = self.parts.begun.lock().unwrap();
        *begun += 1;
        // Names of uploads may hold what has a meaning in a query.
        let id = format!("up+load/{begun}==&x");
        let CreateMultipartUploadInput { key, content_type, metadata, bucket, .. } = input;
        let begun = Begun { key: key.clone(), content_type, metadata, parts: BTreeMap::new() };
        self.parts.uploads.lock().unwrap().insert(id.clone(), begun);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(crate) async fn take_part(
        &self,
        input: UploadPartInput,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let mut bytes = Vec::new();
        let mut body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
        }
        let e_tag = Some(format!("\"{}\"", hex(&Md5::digest(&bytes))));
        let mut uploads = self.parts.uploads.lock().unwrap();
        let begun = uploads.get_mut(&input.upload_id).filter(|begun| begun.key == input.key);
        let begun = begun.ok_or_else(|| s3_error!(NoSuchUpload))?;
        begun.parts.insert(input.part_number, bytes.into());
        Ok(S3Response::new(UploadPartOutput { e_tag, ..UploadPartOutput::default() }))
    }

    pub(crate) fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let mut uploads = self.parts.uploads.lock().unwrap();
        let begun = uploads.get(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let there = self.find(&input.bucket, &input.key, input.if_match.as_deref(), None);
        match there {
            Ok(_) if input.if_none_match.as_deref() == Some("*") => {
                return Err(s3_error!(PreconditionFailed));
            }
            Err(error) if input.if_match.is_some() => return Err(error),
            _ => {}
        }
        let named = input.multipart_upload.and_then(|all| all.parts).unwrap_or_default();
        let (mut whole, mut hash) = (Vec::new(), Md5::new());
        for (count, part) in (1..).zip(&named) {
            let bytes = part.part_number.and_then(|number| begun.parts.get(&number));
            let bytes = bytes.ok_or_else(|| s3_error!(InvalidPart))?;
            let digest = Md5::digest(bytes);
            let told = part.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_owned());
            if told != Some(hex(&digest)) {
                return Err(s3_error!(InvalidPart));
            }
            if count < named.len() && bytes.len() < 5 << 20 {
                return Err(s3_error!(EntityTooSmall));
            }
            whole.extend_from_slice(bytes);
            hash.update(digest);
        }
        let tag = format!("\"{}-{}\"", hex(&hash.finalize()), named.len());
        let kept = Kept {
            bytes: whole.into(),
            content_type: begun.content_type.clone(),
            metadata: begun.metadata.clone(),
            tag: Some(tag.clone()),
        };
        self.objects.lock().unwrap().insert(begun.key.clone(), kept);
        uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(tag),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(crate) fn abort(
        &self,
        input: &AbortMultipartUploadInput,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        match self.parts.uploads.lock().unwrap().remove(&input.upload_id) {
            Some(_) => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }
}

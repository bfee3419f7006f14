//! What an answer means for an upload: how far it is then, or what there is to be done about it.

use std::time::Duration;

use http::Method;

use super::replies::{cluster, earlier_may_have_arrived, said, unreadable};
use super::{Ask, Out, Upload};
use crate::error::Error;
use crate::request::{Report, Response};
use crate::rng::Pcg32;
use crate::s3::download::correct;
use crate::s3::error::{Code, StorageError};
use crate::s3::multipart::{self, BadReply};
use crate::s3::object::Info;

impl Upload {
    /// The answer to what was sent, collected.
    ///
    /// # Errors
    /// What storage says, unless there is something to be done about it; the upload is over then,
    /// and [`Upload::abort`] frees what it takes up.
    pub fn answered(&mut self, reply: Response, rng: &mut Pcg32) -> Result<(), Error> {
        let Some(mut out) = self.out.take() else { return Ok(()) };
        if !reply.status.is_success() {
            let Response { status, headers, body, report, .. } = reply;
            let method = &out.request.method;
            let error = StorageError::of(method, status.as_u16(), &headers, &body);
            // To `HEAD` storage does not say why it refuses; it may be the clock.
            let clock = error.code == Code::RequestTimeTooSkewed
                || error.code == Code::AccessDenied && *method == Method::HEAD;
            if clock && correct(&mut out.request, &headers) {
                self.signer.clone_from(&out.request.signer);
                out.pause = Duration::ZERO;
                self.out = Some(out);
                return Ok(());
            }
            return self.refused(out, error, report, rng);
        }
        match out.ask {
            Ask::Put => {
                let Info { etag, version, .. } = Info::of(&reply.headers);
                self.is_done(etag, version, reply.report);
            }
            Ask::Create => match multipart::created(&reply.body) {
                Ok(id) => {
                    self.id = Some(id);
                    self.home = cluster(&reply.report).cloned();
                    self.went_well();
                }
                Err(BadReply::Refused(error)) => {
                    return self.refused(out, error, reply.report, rng);
                }
                Err(BadReply::Unreadable(why)) => {
                    return Err(self.unreadable("name of an upload", why.to_string()));
                }
            },
            Ask::Part => {
                let Some(tag) = multipart::tag_of(&reply.headers) else {
                    return Err(self.unreadable("reply to a part", "it has no tag".to_owned()));
                };
                self.parts.push(tag);
                self.stored = self.stored.saturating_add(out.request.body.len() as u64);
                self.went_well();
                // The memory of one part serves for the next, if nobody else has a hand in it.
                if let (true, Ok(mut memory)) =
                    (self.buffer.capacity() == 0, out.request.body.try_into_mut())
                {
                    memory.clear();
                    self.buffer = memory;
                }
            }
            Ask::Complete => match multipart::completed(&reply.body) {
                Ok(tag) => {
                    let version = Info::of(&reply.headers).version;
                    self.is_done(Some(tag), version, reply.report);
                }
                Err(BadReply::Refused(error)) => {
                    return self.refused(out, error, reply.report, rng);
                }
                Err(BadReply::Unreadable(why)) => {
                    let why = unreadable("reply to the end of an upload", why.to_string());
                    return self.look(why);
                }
            },
            Ask::Look(why) => {
                let found = Info::of(&reply.headers);
                let fits = found.size.is_none_or(|size| size == self.stored);
                if found.etag.is_none() || found.etag != multipart::composed(&self.parts) || !fits {
                    return Err(self.fail(why));
                }
                self.is_done(found.etag, found.version, reply.report);
            }
        }
        Ok(())
    }

    /// Storage said no.
    fn refused(
        &mut self,
        out: Out,
        error: StorageError,
        report: Report,
        rng: &mut Pcg32,
    ) -> Result<(), Error> {
        // A cluster that did not begin the upload does not have it, nor what came of it.
        let elsewhere = matches!(error.code, Code::NoSuchUpload | Code::NoSuchKey)
            && !matches!(out.ask, Ask::Put | Ask::Create)
            && cluster(&report).is_some_and(|at| self.home.as_ref().is_some_and(|home| home != at));
        let busy = error.retryable() && error.code != Code::Conflict && self.is_repeatable(&out);
        if let Ask::Complete = out.ask {
            self.doubt |= busy || earlier_may_have_arrived(&report);
        }
        let out = match elsewhere || busy {
            true => match self.again(out, None, rng) {
                Some(out) => out,
                None => return Ok(()),
            },
            false => out,
        };
        match out.ask {
            Ask::Look(why) => Err(self.fail(why)),
            Ask::Complete if self.doubt => self.look(said(error, report)),
            _ => Err(self.fail(said(error, report))),
        }
    }
}

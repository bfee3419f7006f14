//! What it costs to write the request of each operation of each typed client, and to read a good
//! answer to it. No call is made: what a call costs is `cases.rs`. The operations are those of
//! `core/tests/operations`, with the answers that are there: short ones, as tests have them, so
//! these figures are the least that an operation costs. With long answers the reading of JSON is
//! all there is to it.

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use origin_core::ops::storage::{Object, Streams};
use origin_core::ops::{Caller, Composer, Flow, Step};
use origin_core::s3::{Download, Upload};
use origin_core::{Correlation, Error, Report, Request, Response};

use crate::operations::{Input, Operation, Waits, all, whole};

/// How much of an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The request is made.
    Encode,
    /// The request is made, and the answer read.
    Both,
}

impl Part {
    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Part::Encode => "encode",
            Part::Both => "both",
        }
    }
}

/// One operation, to be done again and again.
pub struct Codec {
    operation: Operation<Answerer>,
    caller: Answerer,
}

impl Codec {
    /// `Client.method`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.operation.name
    }

    /// Bytes of the answer.
    #[must_use]
    pub fn answer(&self) -> usize {
        self.operation.good.1.len()
    }

    /// Does it once; whether it went as it should.
    #[must_use]
    pub fn run(&self) -> bool {
        let result = (self.operation.run)(&self.caller, &Input::PLAIN);
        // Only the answer makes it a success.
        black_box(&result).is_ok() == (self.caller.part == Part::Both)
    }
}

/// That part of every operation of one request. Those of several clients together are sums of them.
#[must_use]
pub fn codecs(part: Part) -> Vec<Codec> {
    let composed = ["Bridge.", "validate_connection", "_or_fallback"];
    let single = |name: &str| !composed.iter().any(|part| name.contains(part));
    all::<Answerer>()
        .into_iter()
        .filter(|operation| single(operation.name))
        .map(|operation| {
            let status = StatusCode::from_u16(operation.good.0).unwrap_or_default();
            let body = Bytes::from_static(operation.good.1.as_bytes());
            let service = Arc::from(operation.service);
            Codec { operation, caller: Answerer { part, status, body, service } }
        })
        .collect()
}

/// A caller that answers itself, at once.
#[derive(Clone, Debug)]
pub(crate) struct Answerer {
    part: Part,
    status: StatusCode,
    body: Bytes,
    service: Arc<str>,
}

impl Caller for Answerer {
    type Reply<T: Send + 'static> = Result<T, Error>;

    fn run<F: Flow>(&self, mut flow: F) -> Result<F::Output, Error> {
        let mut reply = None;
        loop {
            reply = match flow.next(reply)? {
                Step::Done(value) => return Ok(value),
                Step::Send(request) => Some(self.answer(request)?),
            };
        }
    }
}

impl Answerer {
    fn answer(&self, request: Request) -> Result<Response, Error> {
        drop(black_box(request));
        if self.part == Part::Encode {
            return Err(Error::NotHealthy { services: Vec::new() });
        }
        Ok(Response {
            status: self.status,
            headers: HeaderMap::new(),
            body: self.body.clone(),
            trailers: None,
            report: Report { service: self.service.clone(), ..Report::default() },
        })
    }
}

impl Streams for Answerer {
    type Download = ();
    type Upload = ();

    fn download(&self, _: Result<Download, Error>) {}

    fn collect(&self, download: Result<Download, Error>) -> Result<Object, Error> {
        whole(download, |request| self.answer(request))
    }

    fn remembers(&self) -> bool {
        false
    }

    fn upload(&self, _: Result<Upload, Error>) {}
}

impl Waits for Answerer {
    fn wait<T: Send + 'static>(&self, reply: Result<T, Error>) -> Result<T, Error> {
        reply
    }

    fn done<T: Debug + Send + 'static>(&self, reply: Result<T, Error>) -> Result<String, Error> {
        reply.map(|value| {
            drop(black_box(value));
            String::new()
        })
    }
}

impl Composer for Answerer {
    fn both<T: Send + 'static, U: Send + 'static>(
        &self,
        first: impl FnOnce() -> Result<T, Error> + Send + 'static,
        second: impl FnOnce() -> Result<U, Error> + Send + 'static,
    ) -> Result<(T, U), Error> {
        Ok((first()?, second()?))
    }

    fn then<T: Send + 'static, U: Send + 'static>(
        &self,
        reply: Result<T, Error>,
        next: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
    ) -> Result<U, Error> {
        next(reply)
    }

    fn ready<T: Send + 'static>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result
    }

    fn correlation(&self) -> Correlation {
        Correlation::random(7, 7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_goes_as_it_should() {
        for part in [Part::Encode, Part::Both] {
            let codecs = codecs(part);
            assert!(codecs.len() > 100);
            for codec in codecs {
                assert!(codec.run(), "{}", codec.name());
            }
        }
    }
}

//! Every operation of every typed client, by name: how it is called, what a good answer to it is,
//! and which fields of that answer it cannot do without. The property tests of the core, the
//! conformance suite over all runtimes and the benchmarks of the codecs go through this one list;
//! `core/tests/operations.rs` compares it with the sources, so that none is missing.
#![allow(dead_code)] // not every user of the list needs all of it

mod bridge;
mod keeping;
mod platform;

use std::fmt::Debug;

use origin_core::ops::Composer;
use origin_core::ops::storage::{Object, Streams};
use origin_core::outcome::Fault;
use origin_core::rng::Pcg32;
use origin_core::s3::download::Opened;
use origin_core::s3::{Download, Then};
use origin_core::{Error, Request, Response};

/// A caller whose replies can be waited for on the spot.
pub(crate) trait Waits: Composer + Streams {
    fn wait<T: Send + 'static>(&self, reply: Self::Reply<T>) -> Result<T, Error>;

    /// What came of it as text. A benchmark has other things to do with it.
    fn done<T: Debug + Send + 'static>(&self, reply: Self::Reply<T>) -> Result<String, Error> {
        self.wait(reply).map(|value| format!("{value:?}"))
    }
}

/// Reads the whole of an object as a runtime does, where `send` answers on the spot.
pub(crate) fn whole(
    download: Result<Download, Error>,
    mut send: impl FnMut(Request) -> Result<Response, Error>,
) -> Result<Object, Error> {
    let (mut download, mut rng) = (download?.collect(1 << 20), Pcg32::new(1, 1));
    loop {
        let Response { status, headers, body, report, .. } = send(download.request())?;
        let then = match download.opened(status, &headers) {
            Opened::Refused => download
                .refused(status, &headers, &body, &mut rng)
                .map_err(|error| Error::Storage { error: Box::new(error), report: None })?,
            Opened::Read => {
                download.piece(body)?;
                download.ended(&mut rng)
            }
        };
        match (then, download.info().cloned()) {
            (Then::Done, Some(info)) => return Ok(Object::of(info, download.take(), report)),
            (Then::Again(_), _) => {}
            _ => return Err(Error::Body { service: "storage".into(), fault: Fault::Reset }),
        }
    }
}

/// What an operation makes of the body of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Its fields: anything else is an error.
    Fields,
    /// Fields that it does not know: any object will do.
    Object,
    /// Fields, or nothing at all.
    Maybe,
    /// Bytes, whatever they are.
    Bytes,
    /// Nothing: the status has said it.
    Status,
    /// It is never an error, whatever comes.
    Anything,
}

/// Where the text of [`Input`] is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Into the path, as one segment of it.
    Segment,
    /// Into the path, where `/` parts segments.
    Path,
    /// Into the query, a header or the body.
    Elsewhere,
    /// It takes no text.
    Nowhere,
}

/// What an operation is called with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// Stands for every text argument.
    pub text: &'a str,
    /// Another path for one operation, where the client can be told one.
    pub moved: Option<(&'a str, &'a str)>,
}

impl Input<'static> {
    /// A text that is good for everything.
    pub(crate) const PLAIN: Input<'static> = Input { text: "plain-text", moved: None };
}

/// One operation.
pub(crate) struct Operation<C> {
    /// `Client.method`.
    pub name: &'static str,
    /// The service it goes to.
    pub service: &'static str,
    /// What it reads.
    pub reads: Reads,
    /// Where its text goes.
    pub text: Text,
    /// A good answer: status and body.
    pub good: (u16, &'static str),
    /// The fields of that body (RFC 6901) without which there is no result.
    pub needs: &'static [&'static str],
    /// Does it; what came of it as `Debug` shows it.
    pub run: fn(&C, &Input<'_>) -> Result<String, Error>,
}

/// All of them.
pub(crate) fn all<C: Waits>() -> Vec<Operation<C>> {
    let mut all = keeping::storage::<C>();
    all.extend(keeping::secrets::<C>());
    all.extend(keeping::origin_vault::<C>());
    all.extend(bridge::stamping::<C>());
    all.extend(bridge::tree::<C>());
    all.extend(bridge::together::<C>());
    all.extend(platform::users::<C>());
    all.extend(platform::projects::<C>());
    all.extend(platform::knowledge::<C>());
    all.extend(platform::designs::<C>());
    all.extend(platform::others::<C>());
    all
}

/// The services they go to.
pub(crate) const SERVICES: [&str; 11] = [
    "storage",
    "secrets",
    "origin-vault",
    "metadata-stamping",
    "onextree",
    "user-service",
    "project-service",
    "knowledge-service",
    "design-service",
    "analytics-service",
    "marketplace-service",
];

/// A list of operations: name, what it reads, where the text goes, the good answer, what it needs,
/// and the call.
macro_rules! operations {
    ($service:expr; $($name:literal $reads:ident $text:ident $good:expr, [$($need:literal),*],
      |$caller:ident, $input:pat_param| $reply:expr;)*) => {
        vec![$(crate::operations::Operation {
            name: $name,
            service: $service,
            reads: crate::operations::Reads::$reads,
            text: crate::operations::Text::$text,
            good: $good,
            needs: &[$($need),*],
            run: |$caller: &C, $input: &crate::operations::Input<'_>| {
                $caller.done($reply)
            },
        }),*]
    };
}
use operations;

/// A caller that answers every request from a script, and keeps what was sent.
pub(crate) mod fake {
    #![allow(clippy::disallowed_types)] // test code

    use std::sync::{Arc, Mutex};

    use origin_core::ops::storage::{Object, Streams};
    use origin_core::ops::{Caller, Composer, Flow, Step};
    use origin_core::s3::{Download, Upload};
    use origin_core::{Correlation, Error, Report, Request, Response};

    use super::{Waits, whole};

    #[derive(Clone)]
    pub(crate) struct Fake {
        answer: Arc<(u16, Vec<u8>)>,
        sent: Arc<Mutex<Vec<Request>>>,
    }

    impl Fake {
        pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Fake {
            Fake { answer: Arc::new((status, body.into())), sent: Arc::default() }
        }

        /// What was sent since the last look.
        pub(crate) fn sent(&self) -> Vec<Request> {
            std::mem::take(&mut self.sent.lock().unwrap())
        }
    }

    impl Fake {
        fn answer(&self, service: &str, request: Request) -> Response {
            let (status, body) = &*self.answer;
            self.sent.lock().unwrap().push(request);
            Response {
                status: http::StatusCode::from_u16(*status).unwrap(),
                headers: http::HeaderMap::new(),
                body: body.clone().into(),
                trailers: None,
                report: Report { service: service.into(), ..Report::default() },
            }
        }
    }

    impl Streams for Fake {
        type Download = ();
        type Upload = ();

        fn download(&self, _: Result<Download, Error>) {}

        fn collect(&self, download: Result<Download, Error>) -> Result<Object, Error> {
            whole(download, |request| Ok(self.answer("storage", request)))
        }

        fn remembers(&self) -> bool {
            false
        }

        fn upload(&self, _: Result<Upload, Error>) {}
    }

    impl Waits for Fake {
        fn wait<T: Send + 'static>(&self, reply: Result<T, Error>) -> Result<T, Error> {
            reply
        }
    }

    impl Caller for Fake {
        type Reply<T: Send + 'static> = Result<T, Error>;

        fn run<F: Flow>(&self, mut flow: F) -> Result<F::Output, Error> {
            let mut reply = None;
            for _ in 0..1_000 {
                let request = match flow.next(reply)? {
                    Step::Done(value) => return Ok(value),
                    Step::Send(request) => request,
                };
                reply = Some(self.answer(flow.service(), request));
            }
            panic!("the flow does not end");
        }
    }

    impl Composer for Fake {
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
}

//! An object of storage, read piece by piece over as many connections as it takes. What is asked
//! next, and when it is over, `origin_core::s3::Download` decides; here is who asks it: an async
//! loop and a blocking one, which differ in how they wait.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use origin_core::ops::storage::{Object, SERVICE};
use origin_core::outcome::Fault;
use origin_core::rng::Pcg32;
use origin_core::s3::download::{Opened, Then};
use origin_core::s3::{self, Info, StorageError, error};
use origin_core::{Error, Report, Request, Time};

use crate::hub::{Hub, Slot, lock};
use crate::response::Streaming;
use crate::runtime::Runtime;

/// An object being read. Nothing is sent before it is first read from. On an async runtime read it
/// with `chunk().await`, on a blocking one it is a reader.
pub struct Download<R: Runtime> {
    hub: Arc<Hub<R>>,
    /// What it is about; a mistake, until it is told.
    state: Result<State<R>, Option<Error>>,
}

struct State<R: Runtime> {
    slot: Arc<Slot>,
    machine: s3::Download,
    rng: Pcg32,
    /// The body that is being read.
    open: Option<R::Body>,
    /// Nothing is sent before.
    not_before: Time,
    /// How the calls went.
    reports: Vec<Report>,
    /// Read to its end, or failed.
    over: bool,
    /// All of it takes one deadline, instead of each call its own.
    whole: bool,
    /// When the first call began.
    began: Time,
    /// When the present call began.
    asked: Time,
    /// When it is over at the latest.
    until: Time,
}

impl<R: Runtime> fmt::Debug for Download<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Ok(state) => {
                write!(f, "Download({} of {:?} bytes)", state.machine.got(), state.machine.size())
            }
            Err(_) => f.write_str("Download(a mistake)"),
        }
    }
}

/// What a loop does next.
enum Next {
    /// Open the next body.
    Open,
    /// It is over.
    Over,
}

impl<R: Runtime> Download<R> {
    pub(crate) fn new(
        hub: Arc<Hub<R>>,
        slot: Result<Arc<Slot>, Error>,
        machine: Result<s3::Download, Error>,
    ) -> Download<R> {
        let rng = Pcg32::new(hub.seed, hub.call_number());
        let state = slot.and_then(|slot| {
            let machine = machine?;
            let (open, not_before, reports, over) = (None, Time::ZERO, Vec::new(), false);
            let (whole, began, asked, until) = (false, Time::ZERO, Time::ZERO, Time::NEVER);
            Ok(State {
                slot,
                machine,
                rng,
                open,
                not_before,
                reports,
                over,
                whole,
                began,
                asked,
                until,
            })
        });
        Download { hub, state: state.map_err(Some) }
    }

    /// One that is collected, up to the limit of bodies and within the deadline of a call.
    pub(crate) fn whole(
        hub: Arc<Hub<R>>,
        slot: Result<Arc<Slot>, Error>,
        machine: Result<s3::Download, Error>,
    ) -> Download<R> {
        let machine = machine.map(|machine| machine.collect(hub.max_body()));
        let mut download = Download::new(hub, slot, machine);
        if let Ok(state) = &mut download.state {
            state.whole = true;
        }
        download
    }

    /// What storage tells of the object, once the first piece has come.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.state.as_ref().ok()?.machine.info()
    }

    /// How the calls went that this took, the last 16 of them.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        self.state.as_ref().map_or(&[], |state| &state.reports)
    }
}

impl<R: Runtime> State<R> {
    fn then(&mut self, now: Time, then: Then, why: impl FnOnce() -> Error) -> Result<Next, Error> {
        match then {
            Then::Done => Ok(Next::Over),
            Then::Again(pause) if now.plus(pause) < self.until => {
                self.not_before = now.plus(pause);
                Ok(Next::Open)
            }
            Then::Again(_) => Err(why()),
            Then::GiveUp => Err(why()),
        }
    }

    /// The next request, now.
    fn request(&mut self, now: Time) -> Request {
        let mut request = self.machine.request();
        if self.whole {
            if self.until == Time::NEVER {
                self.began = now;
                self.until = now.plus(lock(&self.slot.service).rules().total);
            }
            request.spec.total = Some(now.until(self.until));
        }
        self.asked = now;
        request
    }

    /// What has been collected.
    fn object(mut self, now: Time) -> Object {
        let mut report = self.reports.pop().unwrap_or_default();
        let mut attempts: Vec<_> =
            self.reports.into_iter().flat_map(|report| report.attempts).collect();
        attempts.append(&mut report.attempts);
        report.attempts = attempts;
        report.elapsed = now.since(self.began);
        let info = self.machine.info().cloned().unwrap_or_default();
        Object::of(info, self.machine.take(), report)
    }

    /// A body has broken off.
    fn broke(&mut self, now: Time, why: Error) -> Result<Next, Error> {
        self.open = None;
        let then = self.machine.broke(&mut self.rng);
        self.then(now, then, || why)
    }

    /// A body is over.
    fn ended(&mut self, now: Time) -> Result<Next, Error> {
        self.open = None;
        let then = self.machine.ended(&mut self.rng);
        let service = self.slot.name.clone();
        self.then(now, then, || Error::Body { service, fault: Fault::Reset })
    }

    /// An answer has come: its body is to be read on, or this is what to collect it for.
    fn opened(&mut self, answer: Streaming<R::Body>) -> Option<Refused<R>> {
        let Streaming { status, headers, body, mut report } = answer;
        if self.whole {
            // One report for all of it counts from its begin.
            let before = self.asked.since(self.began);
            for attempt in &mut report.attempts {
                attempt.sent_after += before;
            }
        }
        let refused = self.machine.opened(status, &headers) == Opened::Refused;
        if self.reports.len() >= 16 {
            self.reports.remove(0);
        }
        self.reports.push(report);
        if refused {
            return Some(Refused { status, headers, body });
        }
        self.open = Some(body);
        None
    }

    /// A refusal has been read.
    fn refused(
        &mut self,
        now: Time,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Next, Error> {
        let then = self.machine.refused(status, headers, body, &mut self.rng);
        let then = then.map_err(|error| self.failed(error))?;
        let service = self.slot.name.clone();
        self.then(now, then, || Error::Body { service, fault: Fault::Reset })
    }

    /// A piece of the body; what the reader gets of it.
    fn piece(&mut self, piece: Bytes) -> Result<Bytes, Error> {
        self.machine.piece(piece).map_err(|error| match error {
            Error::Storage { error, .. } => self.failed(*error),
            error => error,
        })
    }

    fn failed(&self, error: StorageError) -> Error {
        let report = self.reports.last().cloned().map(Box::new);
        Error::Storage { error: Box::new(error), report }
    }
}

/// A mistake is told once.
fn told() -> Error {
    Error::Request { service: SERVICE.into(), reason: "it has failed already".to_owned() }
}

/// An answer that says no; its body says why.
struct Refused<R: Runtime> {
    status: StatusCode,
    headers: HeaderMap,
    body: R::Body,
}

#[cfg(feature = "hyper")]
pub(crate) mod asynchronous {
    use super::*;
    use crate::asynchronous::{AsyncRuntime, stream};

    impl<R: AsyncRuntime> Download<R> {
        /// The next piece; `None` at the end. May be dropped at any time and called again.
        ///
        /// # Errors
        /// [`Error::Storage`] for what storage says, [`origin_core::s3::Code::Changed`] among it;
        /// else that of the last call, when the rest cannot be had. After an error there is
        /// nothing more.
        pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
            let state = match &mut self.state {
                Ok(state) if state.over => return Ok(None),
                Ok(state) => state,
                Err(mistake) => return mistake.take().map_or(Ok(None), Err),
            };
            let result = state.next_chunk(&self.hub).await;
            state.over = !matches!(result, Ok(Some(_)));
            result
        }
    }

    /// Reads the whole of an object.
    ///
    /// # Errors
    /// As [`Download::chunk`], and [`Error::TooLarge`].
    pub async fn get<R: AsyncRuntime>(mut download: Download<R>) -> Result<Object, Error> {
        // What comes is kept, so there are no pieces.
        while download.chunk().await?.is_some() {}
        let now = download.hub.runtime.now();
        match download.state {
            Ok(state) => Ok(state.object(now)),
            Err(mistake) => Err(mistake.unwrap_or_else(told)),
        }
    }

    impl<R: AsyncRuntime> State<R> {
        async fn next_chunk(&mut self, hub: &Arc<Hub<R>>) -> Result<Option<Bytes>, Error> {
            loop {
                let next = match &mut self.open {
                    Some(body) => match body.chunk().await {
                        Ok(Some(piece)) => {
                            let piece = self.piece(piece)?;
                            if piece.is_empty() {
                                continue;
                            }
                            return Ok(Some(piece));
                        }
                        Ok(None) => self.ended(hub.runtime.now())?,
                        Err(why) => self.broke(hub.runtime.now(), why)?,
                    },
                    None => self.open_next(hub).await?,
                };
                if let Next::Over = next {
                    return Ok(None);
                }
            }
        }

        async fn open_next(&mut self, hub: &Arc<Hub<R>>) -> Result<Next, Error> {
            if hub.runtime.now() < self.not_before {
                hub.runtime.sleep_until(self.not_before).await;
            }
            let request = self.request(hub.runtime.now());
            let answer = stream(hub.clone(), self.slot.clone(), request);
            let answer = match Box::pin(answer).await {
                Ok(answer) => answer,
                Err(why) => return self.broke(hub.runtime.now(), why),
            };
            let Some(Refused { status, headers, mut body }) = self.opened(answer) else {
                return Ok(Next::Open);
            };
            let mut whole = Vec::new();
            // What cannot be read of it is not told.
            while let Ok(Some(piece)) = body.chunk().await {
                whole.extend_from_slice(&piece);
                if status.is_success() || whole.len() > error::LARGEST {
                    break;
                }
            }
            self.refused(hub.runtime.now(), status, &headers, &whole)
        }
    }
}

pub(crate) mod blocking {
    use std::io::{self, Read};

    use super::*;
    use crate::blocking::{BlockingRuntime, stream};

    impl<R: BlockingRuntime> Read for Download<R> {
        /// Reads on. An error holds an [`Error`]: [`Error::Storage`] for what storage says,
        /// [`origin_core::s3::Code::Changed`] among it; else that of the last call, when the rest
        /// cannot be had. After an error there is nothing more.
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if buffer.is_empty() {
                return Ok(0);
            }
            let state = match &mut self.state {
                Ok(state) if state.over => return Ok(0),
                Ok(state) => state,
                Err(mistake) => return mistake.take().map_or(Ok(0), |e| Err(io::Error::other(e))),
            };
            let result = state.read_next(&self.hub, buffer);
            state.over = !matches!(result, Ok(1..));
            result.map_err(io::Error::other)
        }
    }

    impl<R: BlockingRuntime> Download<R> {
        /// Reads to the end and writes it there. Yields how many bytes that were.
        ///
        /// # Errors
        /// As reading does, and those of the writer.
        pub fn get_to(&mut self, writer: &mut impl io::Write) -> io::Result<u64> {
            io::copy(self, writer)
        }
    }

    /// Reads the whole of an object.
    ///
    /// # Errors
    /// Those of [`Download`] as a reader, and [`Error::TooLarge`].
    pub fn get<R: BlockingRuntime>(download: Download<R>) -> Result<Object, Error> {
        let mut state = download.state.map_err(|mistake| mistake.unwrap_or_else(told))?;
        let mut buffer = vec![0; 64 << 10];
        // What comes is kept, so there are no pieces.
        while state.read_next(&download.hub, &mut buffer)? > 0 {}
        Ok(state.object(download.hub.runtime.now()))
    }

    impl<R: BlockingRuntime> State<R> {
        fn read_next(&mut self, hub: &Arc<Hub<R>>, buffer: &mut [u8]) -> Result<usize, Error> {
            loop {
                let next = match &mut self.open {
                    Some(body) => match body.read(buffer) {
                        Ok(0) => self.ended(hub.runtime.now())?,
                        Ok(count) => {
                            let piece = Bytes::copy_from_slice(&buffer[..count]);
                            let piece = self.piece(piece)?;
                            if piece.is_empty() {
                                continue;
                            }
                            buffer[..piece.len()].copy_from_slice(&piece);
                            return Ok(piece.len());
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        Err(e) => {
                            let service = self.slot.name.clone();
                            let why = Error::Body { service, fault: R::body_fault(&e) };
                            self.broke(hub.runtime.now(), why)?
                        }
                    },
                    None => self.send_next(hub)?,
                };
                if let Next::Over = next {
                    return Ok(0);
                }
            }
        }

        fn send_next(&mut self, hub: &Arc<Hub<R>>) -> Result<Next, Error> {
            if hub.runtime.now() < self.not_before {
                hub.runtime.sleep_until(self.not_before);
            }
            let request = self.request(hub.runtime.now());
            let answer = match stream(hub.clone(), self.slot.clone(), request) {
                Ok(answer) => answer,
                Err(why) => return self.broke(hub.runtime.now(), why),
            };
            let Some(Refused { status, headers, body }) = self.opened(answer) else {
                return Ok(Next::Open);
            };
            let mut whole = Vec::new();
            if !status.is_success() {
                // What cannot be read of it is not told.
                let _ = body.take(error::LARGEST as u64 + 1).read_to_end(&mut whole);
            }
            self.refused(hub.runtime.now(), status, &headers, &whole)
        }
    }
}

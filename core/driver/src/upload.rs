//! An object of storage, written piece by piece. What is sent when, and what to do when that
//! fails, `origin_core::s3::Upload` decides; here is who asks it: an async loop and a blocking
//! one, which differ in how they wait and in how they are given bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use origin_core::ops::storage::SERVICE;
use origin_core::rng::Pcg32;
use origin_core::s3::{self, Uploaded, upload};
use origin_core::{Error, Report};

use crate::hub::{Hub, Slot};
use crate::runtime::Runtime;

/// How long a dropped upload may take to say so.
const FAREWELL: Duration = Duration::from_secs(2);

/// An object being written. It is there when [`Upload::finish`] says so, and not before. On an
/// async runtime write to it with `write(bytes).await`, on a blocking one it is a writer.
///
/// Memory is bounded by one part. Dropped before the end it is given up: storage is asked to
/// forget the parts that it has, beside everything else on an async runtime, within two seconds
/// on a blocking one. That is tried once; what is left behind after all (the program ended, the
/// line was down) stays there unseen, so give the bucket a rule that ends uploads which go on for
/// days. [`Upload::abort`] waits for it and says what came of it.
pub struct Upload<R: Runtime> {
    hub: Arc<Hub<R>>,
    /// What it is about; a mistake, until it is told.
    state: Result<State, Option<Error>>,
}

struct State {
    slot: Arc<Slot>,
    machine: s3::Upload,
    rng: Pcg32,
    /// How the calls went.
    reports: Vec<Report>,
}

impl<R: Runtime> fmt::Debug for Upload<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Ok(state) => state.machine.fmt(f),
            Err(_) => f.write_str("Upload(a mistake)"),
        }
    }
}

impl<R: Runtime> Upload<R> {
    pub(crate) fn new(
        hub: Arc<Hub<R>>,
        slot: Result<Arc<Slot>, Error>,
        machine: Result<s3::Upload, Error>,
    ) -> Upload<R> {
        let rng = Pcg32::new(hub.seed, hub.call_number());
        let state =
            slot.and_then(|slot| Ok(State { slot, machine: machine?, rng, reports: Vec::new() }));
        Upload { hub, state: state.map_err(Some) }
    }

    /// Writes what is left and puts the object in its place. Yields its entity tag.
    ///
    /// Yields [`Error::Storage`] for what storage says,
    /// [`PreconditionFailed`](origin_core::s3::Code::PreconditionFailed) among it, or the error of
    /// the last call. The object is then what it was before; but if it is said that the answer was
    /// lost ([`Error::Deadline`], [`Error::Exhausted`],
    /// [`NoSuchUpload`](origin_core::s3::Code::NoSuchUpload)), it may be the new one after all.
    pub fn finish(self) -> R::Reply<Uploaded> {
        R::finish(self)
    }

    /// Gives it up: storage forgets the parts that it has.
    ///
    /// Yields the error of the call that asks for that; the parts may still be there then.
    pub fn abort(mut self) -> R::Reply<()> {
        let request = match &mut self.state {
            Ok(state) => state.machine.abort().map(|request| (state.slot.clone(), request)),
            Err(_) => None,
        };
        match request {
            Some((slot, request)) => {
                let reply = R::call(self.hub.clone(), slot, request);
                R::then(reply, |reply| R::ready(reply.and_then(upload::aborted)))
            }
            None => R::ready(Ok(())),
        }
    }

    /// Bytes that storage has already, in parts.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.machine.stored())
    }

    /// How the calls went that this took, the last 16 of them.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        self.state.as_ref().map_or(&[], |state| &state.reports)
    }

    fn state(&mut self) -> Result<&mut State, Error> {
        self.state.as_mut().map_err(|mistake| mistake.take().unwrap_or_else(told))
    }
}

impl<R: Runtime> Drop for Upload<R> {
    fn drop(&mut self) {
        let Ok(state) = &mut self.state else { return };
        let Some(mut request) = state.machine.abort() else { return };
        request.spec.total = Some(FAREWELL);
        let (hub, slot) = (self.hub.clone(), state.slot.clone());
        R::aside(&self.hub, move || R::call(hub, slot, request));
    }
}

impl State {
    fn note(&mut self, report: &Report) {
        if self.reports.len() >= 16 {
            self.reports.remove(0);
        }
        self.reports.push(report.clone());
    }
}

/// A mistake is told once, and an upload that did not end has failed before.
fn told() -> Error {
    Error::Request { service: SERVICE.into(), reason: "the upload has failed already".to_owned() }
}

#[cfg(feature = "hyper")]
pub(crate) mod asynchronous {
    use std::future::Future;

    use bytes::Bytes;
    use origin_core::s3::upload::Want;

    use super::*;
    use crate::asynchronous::{AsyncRuntime, Reply, call};

    impl<R: AsyncRuntime> Upload<R> {
        /// Writes on. The bytes are taken at once; it takes long when they fill a part, which is
        /// then sent. Dropped meanwhile nothing is lost: the next write, or the end, goes on.
        ///
        /// # Errors
        /// [`Error::Request`] for mistakes in the names, [`Error::Storage`] for what storage says,
        /// else that of the last call. After an error there is nothing more to be written.
        pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
            self.state()?.machine.push(bytes.into());
            go_on(self).await.map(drop)
        }
    }

    /// Does what is to be done before more bytes can be taken.
    async fn go_on<R: AsyncRuntime>(upload: &mut Upload<R>) -> Result<Option<Uploaded>, Error> {
        let hub = upload.hub.clone();
        let state = upload.state()?;
        loop {
            let (request, pause) = match state.machine.poll()? {
                Want::More => return Ok(None),
                Want::Done(uploaded) => return Ok(Some(uploaded)),
                Want::Send(request, pause) => (request, pause),
            };
            if !pause.is_zero() {
                hub.runtime.sleep_until(hub.runtime.now().plus(pause)).await;
            }
            match Box::pin(call(hub.clone(), state.slot.clone(), request)).await {
                Ok(reply) => {
                    state.note(&reply.report);
                    state.machine.answered(reply, &mut state.rng)?;
                }
                Err(why) => state.machine.failed(why, &mut state.rng)?,
            }
        }
    }

    /// Writes what is left of an object.
    ///
    /// # Errors
    /// As [`Upload::finish`].
    pub async fn finish<R: AsyncRuntime>(mut upload: Upload<R>) -> Result<Uploaded, Error> {
        upload.state()?.machine.end();
        go_on(&mut upload).await?.ok_or_else(told)
    }

    /// Does what nobody waits for, in the background.
    pub fn aside<R: AsyncRuntime, T: Send + 'static>(
        hub: &Arc<Hub<R>>,
        work: impl FnOnce() -> Reply<T> + Send + 'static,
    ) {
        let task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(async move { drop(work().await) });
        hub.runtime.spawn(task);
    }
}

pub(crate) mod blocking {
    use std::io::{self, Read, Write};

    use origin_core::s3::upload::Want;

    use super::*;
    use crate::blocking::{BlockingRuntime, call};

    impl<R: BlockingRuntime> Write for Upload<R> {
        /// Takes bytes as far as there is room in the part; a full part is sent first. An error
        /// holds an [`Error`]: [`Error::Request`] for mistakes in the names, [`Error::Storage`] for
        /// what storage says, else that of the last call. After an error nothing more is taken.
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.is_empty() {
                return Ok(0);
            }
            loop {
                match self.state().map_err(io::Error::other)?.machine.fill(bytes) {
                    0 => drop(go_on(self).map_err(io::Error::other)?),
                    count => return Ok(count),
                }
            }
        }

        /// Does nothing: what is less than a part waits for the rest of it, or the end.
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<R: BlockingRuntime> Upload<R> {
        /// Writes all that a reader has, and finishes.
        ///
        /// # Errors
        /// Those of the reader, and as writing and [`Upload::finish`]: an error of storage holds
        /// an [`Error`].
        pub fn put_from(mut self, mut reader: impl Read) -> io::Result<Uploaded> {
            io::copy(&mut reader, &mut self)?;
            finish(self).map_err(io::Error::other)
        }
    }

    /// Does what is to be done before more bytes can be taken.
    fn go_on<R: BlockingRuntime>(upload: &mut Upload<R>) -> Result<Option<Uploaded>, Error> {
        let hub = upload.hub.clone();
        let state = upload.state()?;
        loop {
            let (request, pause) = match state.machine.poll()? {
                Want::More => return Ok(None),
                Want::Done(uploaded) => return Ok(Some(uploaded)),
                Want::Send(request, pause) => (request, pause),
            };
            if !pause.is_zero() {
                hub.runtime.sleep_until(hub.runtime.now().plus(pause));
            }
            match call(hub.clone(), state.slot.clone(), request) {
                Ok(reply) => {
                    state.note(&reply.report);
                    state.machine.answered(reply, &mut state.rng)?;
                }
                Err(why) => state.machine.failed(why, &mut state.rng)?,
            }
        }
    }

    /// Writes what is left of an object.
    ///
    /// # Errors
    /// As [`Upload::finish`].
    pub fn finish<R: BlockingRuntime>(mut upload: Upload<R>) -> Result<Uploaded, Error> {
        upload.state()?.machine.end();
        go_on(&mut upload)?.ok_or_else(told)
    }
}

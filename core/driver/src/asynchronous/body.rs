//! Response bodies: collected, or read piece by piece.

use std::sync::Arc;

use ::hyper::body::Incoming;
use bytes::{Bytes, BytesMut};
use futures_lite::future::or;
use http::HeaderMap;
use http_body_util::BodyExt;
use origin_core::call::Ticket;
use origin_core::outcome::Fault;
use origin_core::{Error, Time};

use super::AsyncRuntime;
use crate::flight::Flight;
use crate::hub::{Hub, Slot, lock};
use crate::hyper::body_fault;
use crate::runtime::Runtime;

/// Reads a whole body of at most `limit` bytes, and what comes after it, which hyper bounds as it
/// does heads. The body is used where the future keeps it; an
/// `async fn` would keep it twice.
pub(super) fn collect(
    mut body: Incoming,
    limit: u64,
) -> impl Future<Output = Result<(Bytes, Option<Box<HeaderMap>>), Fault>> + Send {
    use http_body::Body as _;
    async move {
        if body.size_hint().lower() > limit {
            return Err(Fault::BodyTooLarge);
        }
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let data = match frame.map_err(|e| body_fault(&e))?.into_data() {
                Ok(data) => data,
                Err(other) => {
                    trailers = other.into_trailers().ok().map(Box::new);
                    continue;
                }
            };
            let before = if whole.is_empty() { first.len() } else { whole.len() };
            if (before + data.len()) as u64 > limit {
                return Err(Fault::BodyTooLarge);
            }
            // Nearly every body is one piece, which needs no copy.
            if before == 0 {
                first = data;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok((if whole.is_empty() { first } else { whole.freeze() }, trailers))
    }
}

/// The body of a streamed response. Read it with [`Body::chunk`].
pub struct Body<R: Runtime> {
    /// `None` when it is over.
    incoming: Option<Incoming>,
    left: u64,
    limit: u64,
    deadline: Time,
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    ticket: Ticket,
}

impl<R: Runtime> std::fmt::Debug for Body<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({}, at most {} bytes)", self.slot.name, self.left)
    }
}

impl<R: AsyncRuntime> Body<R> {
    /// The rest of a call that has ended with this body.
    pub(super) fn new(flight: &Flight<R>, incoming: Option<Incoming>, ticket: Ticket) -> Body<R> {
        Body {
            incoming,
            left: flight.max_body(),
            limit: flight.max_body(),
            deadline: flight.deadline(),
            hub: flight.hub.clone(),
            slot: flight.slot.clone(),
            ticket,
        }
    }

    /// Tells the service what became of it.
    fn done(&self, result: Result<(), Fault>) {
        let mut service = lock(&self.slot.service);
        service.body_done(self.hub.runtime.now(), self.ticket, result);
        self.slot.told(&mut service, &self.hub.news);
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Body`] when it breaks off or the call's deadline passes, [`Error::TooLarge`] past
    /// the limit. After an error there is nothing more, and its connection is closed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        // The body stays in its place over every await, so that a dropped `chunk` loses nothing.
        while let Some(incoming) = &mut self.incoming {
            let frame = async { incoming.frame().await.transpose().map_err(|e| body_fault(&e)) };
            let limit = async {
                self.hub.runtime.sleep_until(self.deadline).await;
                Err(Fault::Timeout)
            };
            let frame = match or(frame, limit).await {
                Ok(frame) => frame,
                Err(fault) => {
                    self.incoming = None;
                    self.done(Err(fault));
                    return Err(Error::Body { service: self.slot.name.clone(), fault });
                }
            };
            let Some(frame) = frame else {
                self.incoming = None;
                self.done(Ok(()));
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                self.incoming = None;
                return Err(Error::TooLarge { service: self.slot.name.clone(), limit: self.limit });
            };
            self.left = left;
            return Ok(Some(data));
        }
        Ok(None)
    }
}

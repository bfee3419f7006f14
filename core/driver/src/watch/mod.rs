//! Watching a service: being told of its endpoints, now and whenever discovery finds others.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | what applications call, callbacks and their guard |
//! | `line.rs` | one subscription, and those of a service |
//! | `asynchronous.rs`, `blocking.rs` | waiting, as a future or as a thread |
//!
//! What is delivered is the newest state and not each change, one call at a time, gathered and
//! repeated as [`origin_core::discovery::delivery`] says.

#[cfg(feature = "hyper")]
pub(crate) mod asynchronous;
pub(crate) mod blocking;
mod line;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use origin_core::config::DeliveryConfig;
use origin_core::discovery::delivery::{Handler, Settings};
use origin_core::{ConfigError, Error, Time};

use crate::client::Client;
use crate::hub::{Hub, lock};
use crate::runtime::Runtime;
pub use line::{Line, Update, WatchStatus};
pub(crate) use line::{Next, Watchers};

/// What a callback says when it could not take an update over.
pub type CallbackError = Box<dyn std::error::Error + Send + Sync>;

type Callback = Box<dyn FnMut(&Update) -> Result<(), CallbackError> + Send>;

impl<R: Runtime> Client<R> {
    /// Watches a service: yields its endpoints as they are now, as soon as they are known, and
    /// then whenever discovery finds others. Changes in quick succession are gathered, as
    /// `services.NAME.delivery` or else `discovery.delivery` says ([`DeliveryConfig`], by default
    /// 50 ms of quiet and at most two updates a second; [`Client::reconfigure`] changes that for
    /// watches that are under way, too). Of what changed while nobody was waiting, the newest
    /// state is kept. Dropping it ends it.
    ///
    /// The service is looked up from now on. An async client does so by itself, in the background
    /// task that this starts (to be called on the runtime; otherwise it starts with the first
    /// wait). **A blocking client does it only while there is a background**
    /// (`Client::background`), or as far as calls happen to.
    ///
    /// # Errors
    /// [`Error::UnknownService`] as for [`Client::service`]; [`Error::Config`] for a service
    /// whose endpoints are configured, which discovery never changes; [`Error::Request`] when it
    /// has 64 subscriptions already.
    pub fn watch(&self, service: &str) -> Result<R::Watch, Error> {
        let line = self.hub.subscribe(service, None)?;
        Ok(R::watch(&self.hub, line))
    }

    /// The same with a gathering of your own; [`DeliveryConfig::immediate`] for none. It stays
    /// whatever the configuration becomes.
    ///
    /// # Errors
    /// As for [`Client::watch`], and [`Error::Config`] for settings that cannot work.
    pub fn watch_with(&self, service: &str, delivery: &DeliveryConfig) -> Result<R::Watch, Error> {
        let line = self.hub.subscribe(service, Some(delivery))?;
        Ok(R::watch(&self.hub, line))
    }

    /// Calls `callback` with the endpoints of a service, as [`Client::watch`] would yield them,
    /// until the returned guard or the last clone of the client is dropped.
    ///
    /// One call at a time, never an older list after a newer one. When the callback returns an
    /// error or panics, it is called again with the same update, or a newer one that has come
    /// meanwhile, after a wait that doubles from 100 ms to a minute. [`Subscription::status`]
    /// says so, and so do two notices of the client: one when it begins to fail
    /// (`service_watch_error`) and one when it succeeds again. Each subscription is on its own: one that fails or hangs holds up no other. The
    /// `kind` says what it is for.
    ///
    /// An async client calls it in a task of its runtime, where it must not block for long (to
    /// await something, use [`Client::watch`]); a blocking client in a thread of its own, which
    /// needs a background as [`Client::watch`] does. It should not keep the client, which would
    /// then live as long as the guard.
    ///
    /// # Errors
    /// As for [`Client::watch`]; [`Error::Request`] also when there is no runtime, or no thread,
    /// to call it on.
    pub fn on_change(
        &self,
        service: &str,
        kind: Handler,
        callback: impl FnMut(&Update) -> Result<(), CallbackError> + Send + 'static,
    ) -> Result<Subscription<R>, Error> {
        let line = self.hub.subscribe(service, None)?;
        self.follow(line, kind, Box::new(callback))
    }

    /// The same with a gathering and waits of your own.
    ///
    /// # Errors
    /// As for [`Client::on_change`], and [`Error::Config`] for settings that cannot work.
    pub fn on_change_with(
        &self,
        service: &str,
        kind: Handler,
        delivery: &DeliveryConfig,
        callback: impl FnMut(&Update) -> Result<(), CallbackError> + Send + 'static,
    ) -> Result<Subscription<R>, Error> {
        let line = self.hub.subscribe(service, Some(delivery))?;
        self.follow(line, kind, Box::new(callback))
    }

    fn follow(
        &self,
        line: Arc<Line>,
        kind: Handler,
        callback: Callback,
    ) -> Result<Subscription<R>, Error> {
        let hub = Arc::downgrade(&self.hub);
        let follower = Follower { hub: hub.clone(), line: line.clone(), kind, callback };
        // Made first: where nobody can follow, it ends the line.
        let subscription = Subscription { hub, line, kind };
        R::follow(&self.hub, follower).map_err(|error| Error::Request {
            service: subscription.line.service.clone(),
            reason: format!("there is nobody to call the callback: {error}"),
        })?;
        Ok(subscription)
    }
}

impl<R: Runtime> Hub<R> {
    fn subscribe(
        &self,
        service: &str,
        delivery: Option<&DeliveryConfig>,
    ) -> Result<Arc<Line>, Error> {
        let own = delivery.map(|own| Settings::of(own, "delivery")).transpose()?;
        let slot = self.slot(service)?;
        // Kept until the line is there: settings that are replaced in between would miss it.
        let config = self.read_config();
        let settings = own.map_or_else(|| config.delivery_for(service), Ok)?;
        let line = Arc::new(Line::new(slot.name.clone(), settings, own.is_none()));
        let added = self.resolve_with(&slot, |now, resolution, changed| {
            slot.watchers.add(now, resolution, changed, &line)
        });
        let Some(added) = added else {
            let field = format!("services.{service}.endpoints");
            let reason =
                "are given here, so discovery never changes them; there is nothing to watch";
            return Err(ConfigError::new(field, reason).into());
        };
        drop(config);
        added.map_err(|error| line::too_many(&slot.name, error))?;
        if self.is_closing() {
            line.end();
        }
        // A background may not know yet that this service is looked up.
        self.news.notify(usize::MAX);
        Ok(line)
    }
}

/// A callback that is told of changes. Dropping this ends it: no further call begins, and one
/// that is under way is not waited for.
#[must_use = "no callback is called when this is dropped"]
pub struct Subscription<R: Runtime> {
    hub: Weak<Hub<R>>,
    line: Arc<Line>,
    kind: Handler,
}

impl<R: Runtime> Subscription<R> {
    /// The name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.line.service
    }

    /// What the callback is for.
    #[must_use]
    pub fn kind(&self) -> Handler {
        self.kind
    }

    /// What became of the updates so far: failures with the last error, what was delivered, how
    /// far behind it is.
    #[must_use]
    pub fn status(&self) -> WatchStatus {
        self.line.status(now(&self.hub))
    }
}

impl<R: Runtime> fmt::Debug for Subscription<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({}, {})", self.line.service, self.kind.word())
    }
}

impl<R: Runtime> Drop for Subscription<R> {
    fn drop(&mut self) {
        self.line.end();
    }
}

/// The present, while there is a client.
fn now<R: Runtime>(hub: &Weak<Hub<R>>) -> Option<Time> {
    hub.upgrade().map(|hub| hub.runtime.now())
}

/// Who calls a callback: an adapter gives it a task or a thread. Ends its subscription when it is
/// dropped.
pub struct Follower<R: Runtime> {
    hub: Weak<Hub<R>>,
    line: Arc<Line>,
    kind: Handler,
    callback: Callback,
}

impl<R: Runtime> Follower<R> {
    /// The runtime, while there is a client. The client itself is not kept, or it could not end.
    fn runtime(&self) -> Option<Arc<R>> {
        self.hub.upgrade().map(|hub| hub.runtime.clone())
    }

    /// Calls the callback if that is due. Returns when to look again; `None`: never.
    fn step(&mut self, runtime: &R) -> Option<Time> {
        let update = match self.line.take(runtime.now()) {
            Next::Tell(update) => update,
            Next::Wait(until) => return Some(until),
            Next::Over => return None,
        };
        // What a panic has left half-done is the callback's own, and it is called again with
        // the same update.
        let result = catch_unwind(AssertUnwindSafe(|| (self.callback)(&update)));
        let result = match result {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(payload) => Err(panic_text(&*payload)),
        };
        let now = runtime.now();
        let said = result.err();
        let done = self.line.done(now, update.version, said.as_deref());
        let number = self.line.number.load(Ordering::Relaxed);
        if let Some(notice) = done.notice(self.kind, number, said.as_deref())
            && let Some(hub) = self.hub.upgrade()
            && let Ok(slot) = hub.slot(&self.line.service)
        {
            lock(&slot.service).say(now, notice);
        }
        Some(now)
    }
}

impl<R: Runtime> Drop for Follower<R> {
    fn drop(&mut self) {
        self.line.end();
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}

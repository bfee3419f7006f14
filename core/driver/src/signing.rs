//! How requests to storage are signed at the moment, and the files of its credentials
//! (`s3::rotation`) among the machines of a client. When they are read and what counts as a change is
//! decided in the core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use origin_core::job::{JobId, JobOutcome, Poll};
use origin_core::notice::{Notice, Notices};
use origin_core::ops::storage::{Keys, Storage};
use origin_core::s3::rotation::Rotation;
use origin_core::s3::{Place, Settings};
use origin_core::{Config, ConfigError, Time};

use crate::client::Client;
use crate::hub::{Hub, lock};
use crate::observe::bell::{Bell, Noted, Speaks};
use crate::runtime::Runtime;

/// The settings of storage, with what follows their files.
pub(crate) struct Signing {
    settings: RwLock<Arc<Settings>>,
    pub(crate) rotation: Noted<Follower>,
    followed: AtomicBool,
    /// Since when they sign.
    since: Mutex<Time>,
}

/// What follows the files, if there are any, and what was said by those before it.
#[derive(Default)]
pub(crate) struct Follower {
    machine: Option<Rotation>,
    before: Notices,
}

impl Follower {
    /// Another machine, or none, goes on from here.
    fn replace(&mut self, machine: Option<Rotation>) {
        if let Some(last) = &mut self.machine {
            last.exchange_notices(&mut self.before);
        }
        self.machine = machine;
        if let Some(next) = &mut self.machine {
            next.exchange_notices(&mut self.before);
        }
    }
}

impl Speaks for Follower {
    fn said(&mut self) -> &Notices {
        self.machine.as_ref().map_or(&self.before, Rotation::notices)
    }
}

/// What a configuration says of storage, ready to be put in force.
pub(crate) struct Begun(Time, Arc<Settings>, Option<Rotation>);

impl Begun {
    /// With the secrets from where `config` says they are.
    pub(crate) fn new(now: Time, config: &Config) -> Result<Begun, ConfigError> {
        let Some(storage) = &config.storage else { return Ok(Begun(now, Arc::default(), None)) };
        let read = |place: Place<'_>| match place {
            Place::Variable(name) => std::env::var(name).ok(),
            Place::File(path) => std::fs::read_to_string(path).ok(),
        };
        let (settings, rotation) = Rotation::begin(now, storage, "storage", read)?;
        Ok(Begun(now, Arc::new(settings), rotation))
    }
}

impl Signing {
    pub(crate) fn new(Begun(now, settings, rotation): Begun, bell: &Arc<Bell>) -> Signing {
        Signing {
            followed: rotation.is_some().into(),
            settings: RwLock::new(settings),
            since: Mutex::new(now),
            rotation: Noted::new(Follower { machine: rotation, ..Follower::default() }, bell),
        }
    }

    /// Signs so from now on.
    pub(crate) fn replace(&self, Begun(now, settings, rotation): Begun) {
        let mut present = lock(&self.rotation);
        self.followed.store(rotation.is_some(), Ordering::Relaxed);
        present.replace(rotation);
        self.set(now, settings);
    }

    fn set(&self, now: Time, settings: Arc<Settings>) {
        if settings.credentials != self.settings().credentials {
            *lock(&self.since) = now;
        }
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since when requests are signed as they are now, if they are.
    pub(crate) fn in_use_since(&self) -> Option<Time> {
        self.settings().credentials.as_ref().map(|_| *lock(&self.since))
    }

    /// Whether there are files to look at. No lock.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    pub(crate) fn poll(&self, now: Time) -> Poll {
        if !self.is_followed() {
            return Poll::Wait(Time::NEVER);
        }
        lock(&self.rotation)
            .machine
            .as_mut()
            .map_or(Poll::Wait(Time::NEVER), |machine| machine.poll(now))
    }

    pub(crate) fn done(&self, now: Time, id: JobId, outcome: JobOutcome) {
        // Locked until they are in force: those of a reconfiguration are newer.
        let mut rotation = lock(&self.rotation);
        if let Some(settings) = rotation.machine.as_mut().and_then(|it| it.done(now, id, outcome)) {
            self.set(now, Arc::new(settings));
        }
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        lock(&self.rotation).said().since(0).cloned().collect()
    }
}

/// The settings of the moment, for calls.
struct Present<R: Runtime>(Arc<Hub<R>>);

impl<R: Runtime> Keys for Present<R> {
    fn settings(&self) -> Arc<Settings> {
        self.0.storage.settings()
    }
}

impl<R: Runtime> Client<R> {
    /// Object storage: the service `storage`, with the credentials of the configuration. Files of
    /// credentials are read again by the background (of a blocking client: `background()`), and
    /// [`Client::reconfigure`] reads variables and files anew; each call is signed with those of the
    /// moment when it begins.
    #[must_use]
    pub fn storage(&self) -> Storage<Client<R>> {
        Storage::with(self.clone(), Arc::new(Present(self.hub.clone())))
    }
}

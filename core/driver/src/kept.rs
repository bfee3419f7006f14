//! What was learnt of endpoints, kept in a file over a restart (`state.path`): read when the client
//! is built, written by its background and when it is closed. When that is, and what of a file is
//! believed, is decided in the core (`learned::keeper`).

use std::sync::Arc;
use std::time::Duration;

use origin_core::config::StateConfig;
use origin_core::job::{JobId, JobOutcome, Poll, Work};
use origin_core::learned::{Keeper, Learned};
use origin_core::notice::Notices;
use origin_core::{Time, Wall};

use crate::carry::{Carrier, Limit};
use crate::hub::{Hub, lock};
use crate::observe::bell::{Bell, Noted, Speaks};
use crate::runtime::Runtime;

/// How long a client that is built waits for its file.
const PATIENCE: Duration = Duration::from_secs(10);

impl Speaks for Keeper {
    fn said(&mut self) -> &Notices {
        self.notices()
    }
}

/// The machine of `config`, if it keeps anything, and what an earlier run has left.
pub(crate) fn begin(
    (now, wall): (Time, Wall),
    config: &StateConfig,
    bell: &Arc<Bell>,
) -> (Option<Noted<Keeper>>, Option<Learned>) {
    let Some(mut keeper) = Keeper::of(now, config) else { return (None, None) };
    let (path, most) = keeper.file();
    let work = Work::Read { path: path.clone(), most };
    let read = Carrier::default().carry(work, &Limit::within(PATIENCE));
    let learned = keeper.restore(now, wall, read);
    (Some(Noted::new(keeper, bell)), learned)
}

impl<R: Runtime> Hub<R> {
    /// What is to be written now, if anything is.
    pub(crate) fn poll_kept(&self, now: Time) -> Poll {
        let Some(kept) = &self.kept else { return Poll::Wait(Time::NEVER) };
        let due = lock(kept).due();
        if now < due {
            return Poll::Wait(due);
        }
        // Its own lock is not held meanwhile: this takes that of every service.
        let learned = self.learned();
        lock(kept).poll(now, &learned)
    }

    /// Takes the result of a write; `false`: it is none.
    pub(crate) fn kept_done(&self, id: JobId, outcome: Option<&JobOutcome>) -> bool {
        if let (true, Some(kept), Some(outcome)) = (Keeper::owns(id), &self.kept, outcome) {
            lock(kept).done(self.runtime.now(), id, outcome);
            self.news.notify(usize::MAX);
            return true;
        }
        false
    }
}

//! A file that names services, looked at again and again. When, and what counts as a change, is
//! [`crate::discovery::file`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Data, Progress, Sources, Want};
use crate::discovery::DiscoveryError;
use crate::discovery::file::{FileSource, Heard};
use crate::job::{JobId, JobOutcome, Poll};
use crate::time::Time;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::discovery) struct FileFetch {
    source: FileSource,
    out: Option<JobId>,
}

impl FileFetch {
    pub(super) fn target(&self, sources: &Sources) -> Arc<str> {
        let path = sources.config.file.path.as_deref();
        path.unwrap_or("no file").into()
    }

    pub(super) fn want(&mut self, now: Time, sources: &Sources) -> Want {
        let Some(settings) = &sources.file else { return Want::Later(Time::NEVER) };
        match self.source.poll(now, settings) {
            Poll::Wait(at) => Want::Later(at),
            Poll::Run(job) => {
                self.out = Some(job.id);
                Want::Until { work: job.work, until: job.deadline }
            }
        }
    }

    pub(super) fn done(&mut self, now: Time, outcome: JobOutcome, sources: &Sources) -> Progress {
        let (Some(settings), Some(id)) = (&sources.file, self.out.take()) else {
            return Progress::More;
        };
        let heard = self.source.done(now, id, outcome, settings);
        // Looked at again when the source says so; what it said holds until then and longer.
        let ttl = sources.config.file.poll;
        match (heard, self.source.content(), self.source.problem()) {
            (_, Some(content), None) => Progress::Fresh { data: Data::File(content.clone()), ttl },
            (_, _, Some(problem)) => {
                Progress::Failed(DiscoveryError::Impossible(problem.to_string().into()))
            }
            (Heard::Settling, None, None) => Progress::More,
            (_, None, None) => Progress::Same { ttl },
        }
    }

    pub(super) fn dropped(&mut self, now: Time, sources: &Sources) {
        if let (Some(settings), Some(id)) = (&sources.file, self.out.take()) {
            let _ = self.source.done(now, id, JobOutcome::Dropped, settings);
        }
    }
}

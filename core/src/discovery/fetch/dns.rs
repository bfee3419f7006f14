//! SRV and address records of one service: one lookup at a time, question by question. The lookup
//! itself is [`crate::dns::Lookup`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Data, Progress, Sources, Want, unexpected};
use crate::discovery::DiscoveryError;
use crate::dns::{Lookup, Step};
use crate::job::JobOutcome;
use crate::rng::Pcg32;
use crate::time::Time;

/// What is asked of DNS about one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::discovery) struct DnsFetch {
    name: Arc<str>,
    lookup: Option<Box<Lookup>>,
}

impl DnsFetch {
    pub(in crate::discovery) fn new(name: &Arc<str>) -> DnsFetch {
        DnsFetch { name: name.clone(), lookup: None }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn target(&self, sources: &Sources) -> Arc<str> {
        let servers = sources.dns.as_ref().map(|dns| dns.servers()).unwrap_or_default();
        let texts: Vec<String> = servers.iter().map(ToString::to_string).collect();
        format!("dns {}", texts.join(" ")).into()
    }

    pub(super) fn want(&mut self, now: Time, sources: &Sources, rng: &mut Pcg32) -> Want {
        let Some(settings) = &sources.dns else { return Want::Later(Time::NEVER) };
        let lookup = self
            .lookup
            .get_or_insert_with(|| Box::new(Lookup::new(now, settings, &self.name, rng)));
        match lookup.next(now, settings) {
            Step::Ask(ask) => {
                let until = ask.deadline;
                Want::Until { work: ask.work(), until }
            }
            Step::Done(result) => {
                self.lookup = None;
                match result {
                    // Over before the first question: nothing can be asked for this name.
                    Err(error) => Want::Failed(DiscoveryError::Reply(error.to_string().into())),
                    Ok(_) => Want::Later(now),
                }
            }
        }
    }

    pub(super) fn done(&mut self, now: Time, outcome: JobOutcome, sources: &Sources) -> Progress {
        let (Some(settings), Some(lookup)) = (&sources.dns, &mut self.lookup) else {
            return Progress::Failed(unexpected(outcome));
        };
        if let JobOutcome::Impossible(why) = outcome {
            self.lookup = None;
            return Progress::Failed(DiscoveryError::Impossible(why));
        }
        lookup.job_done(now, settings, &outcome);
        match lookup.next(now, settings) {
            Step::Ask(_) => Progress::More,
            Step::Done(result) => {
                self.lookup = None;
                match result {
                    Ok(answer) => Progress::Fresh {
                        ttl: answer.ttl.min(sources.config.ttl),
                        data: Data::Instances(answer.instances.into()),
                    },
                    Err(error) => Progress::Failed(DiscoveryError::Reply(error.to_string().into())),
                }
            }
        }
    }

    pub(super) fn dropped(&mut self) {
        self.lookup = None;
    }
}

//! Discovery in the simulated client: the twin of the hub, of `tend` and `park`, and of the
//! background task.

use std::sync::Arc;

use origin_core::config::check_service_name;
use origin_core::discovery::directory::{Moved, Resolution};
use origin_core::discovery::plan::injected;
use origin_core::job::{Asker, Job, JobId, JobOutcome, Poll};
use origin_core::outcome::Fault;
use origin_core::{Address, ConfigError, Event as Input, Service, Time};

use super::drive::At;
use super::record::What;
use super::world::{Background, Event, Slot, World};

impl World {
    /// The slot of a service, made on first use; `None` when the name is not known.
    pub(super) fn slot(&mut self, name: &str) -> Option<Arc<str>> {
        if let Some((known, _)) = self.slots.get_key_value(name) {
            return Some(known.clone());
        }
        let directory = self.directory.as_mut()?;
        if let Resolution::Absent(_) = directory.resolve(self.now, name) {
            return None;
        }
        self.open(name).ok()?;
        self.slots.get_key_value(name).map(|(known, _)| known.clone())
    }

    pub(super) fn open(&mut self, name: &str) -> Result<(), ConfigError> {
        check_service_name(name)?;
        let own = self.config.services.get(name);
        let (rules, profiles) = self.config.rules_for(name)?;
        let mut service = Service::new(name.into(), rules, self.seed).with_profiles(profiles);
        let mut endpoints = Vec::new();
        for endpoint in own.into_iter().flat_map(|own| &own.endpoints) {
            let address = Address::parse(&endpoint.address)
                .map_err(|e| ConfigError::new("services", e.to_string()))?;
            endpoints.push((Arc::from(endpoint.cluster.as_str()), endpoint.role, address));
        }
        let discovered = endpoints.is_empty();
        let resolution = match &mut self.directory {
            _ if !discovered => {
                Resolution::Found(injected(&endpoints, self.config.local_cluster.as_deref()))
            }
            Some(directory) => directory.resolve(self.now, name),
            None => Resolution::Absent(Vec::new()),
        };
        service.resolve(self.now, resolution);
        self.slots.insert(service.name().clone(), Slot { service, discovered });
        Ok(())
    }

    fn poll_job(&mut self, asker: Asker<'_>) -> Poll {
        let now = self.now;
        let Some(directory) = &mut self.directory else { return Poll::Wait(Time::NEVER) };
        let poll = directory.poll_job(now, asker);
        if let Poll::Wait(at) = &poll
            && *at <= now
        {
            self.audit.note(format!("told at {now:?} to wait until {at:?}"));
        }
        poll
    }

    /// Sends a job; its end is put in the queue.
    fn send_job(&mut self, carrier: Option<u64>, job: &Job) {
        self.audit.job_sent(self.now, job);
        self.write(carrier, What::JobSent(job.id));
        let (at, outcome) = self
            .network
            .fetch(self.now, job)
            .filter(|(at, _)| *at <= job.deadline)
            .unwrap_or((job.deadline, JobOutcome::Failed(Fault::Timeout)));
        self.queue.push(at, Event::JobEnd { carrier, id: job.id, outcome });
    }

    /// Brings a result back and wakes who waits for it.
    pub(super) fn finish_job(&mut self, carrier: Option<u64>, id: JobId, outcome: JobOutcome) {
        let now = self.now;
        let Some(directory) = &mut self.directory else { return };
        self.audit.job_done(now, id, &outcome);
        let moved = directory.job_done(now, id, outcome);
        self.write(carrier, What::JobDone(id, !moved.services.is_empty()));
        if moved == Moved::default() {
            return;
        }
        let Some(directory) = &mut self.directory else { return };
        for (name, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.discovered) {
            slot.service.resolve(now, directory.resolve(now, name));
        }
        for (number, flight) in &self.flights {
            if let At::Parked { carrying: None, .. } = flight.at {
                self.queue.push(now, Event::Wake { call: *number, turn: flight.turn });
            }
        }
    }

    /// A job came back to whoever carried it; a carrier that is gone has said so before.
    pub(super) fn job_ended(&mut self, carrier: Option<u64>, id: JobId, outcome: JobOutcome) {
        let Some(number) = carrier else {
            self.finish_job(None, id, outcome);
            return self.background_turn();
        };
        let Some(flight) = self.flights.get_mut(&number) else { return };
        if flight.job() != Some(id) {
            return;
        }
        let tending = matches!(flight.at, At::Tending(_));
        let redirected =
            matches!(outcome, JobOutcome::Answered { status: 301 | 302 | 307 | 308, .. });
        if let At::Parked { carrying, .. } = &mut flight.at {
            *carrying = None;
        }
        self.finish_job(carrier, id, outcome);
        if tending && redirected {
            // One job follows another only here: without cache every answer is old at once, and
            // asking until nothing is due would ask for ever.
            self.tend(number);
        } else if tending {
            self.begin(number);
        } else if !self.park(number) {
            self.step(number, Input::Wake);
        }
    }

    /// A call looks after discovery, then begins.
    pub(super) fn tend(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else { return };
        let (service, until) = (flight.service.clone(), flight.deadline);
        match self.poll_job(Asker::Call { service: &service, until }) {
            Poll::Run(job) => {
                if let Some(flight) = self.flights.get_mut(&number) {
                    flight.at = At::Tending(job.id);
                }
                self.send_job(Some(number), &job);
            }
            Poll::Wait(_) => self.begin(number),
        }
    }

    /// Whether a parked call has to stay parked; it may carry the fetch from now on.
    pub(super) fn park(&mut self, number: u64) -> bool {
        let Some(flight) = self.flights.get_mut(&number) else { return false };
        let At::Parked { until, epoch, .. } = flight.at else { return false };
        flight.turn += 1;
        let turn = flight.turn;
        let moved =
            self.slots.get(&flight.service).is_none_or(|slot| slot.service.epoch() != epoch);
        if moved || self.now >= until {
            return false;
        }
        let service = flight.service.clone();
        match self.poll_job(Asker::Call { service: &service, until }) {
            Poll::Run(job) => {
                if let Some(flight) = self.flights.get_mut(&number) {
                    flight.at = At::Parked { until, epoch, carrying: Some(job.id) };
                }
                self.send_job(Some(number), &job);
            }
            Poll::Wait(at) => {
                self.queue.push(at.min(until), Event::Wake { call: number, turn });
            }
        }
        true
    }

    /// Starts the background, once.
    pub(super) fn attend(&mut self) {
        if self.background == Background::Idle {
            self.background = Background::Running;
            self.queue.push(self.now, Event::Background);
        }
    }

    /// One round of the background task.
    pub(super) fn background_turn(&mut self) {
        if self.background != Background::Running {
            return;
        }
        let mut sent = false;
        loop {
            match self.poll_job(Asker::Background) {
                Poll::Run(job) => self.send_job(None, &job),
                // The end of a job is another turn.
                Poll::Wait(_) if sent => return,
                Poll::Wait(at) => return self.queue.push(at, Event::Background),
            }
            sent = true;
        }
    }
}

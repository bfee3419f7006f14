//! Threads: ureq's agent, shared by all of them.

use std::thread;

use super::{
    Failed, IDLE, KEPT, Length, PATH, Pair, Progress, SERVICE, Side, check, config, failed,
};

pub(super) struct Blocking {
    raw: ureq::Agent,
    url: String,
    origin: origin_blocking::Upstream,
}

impl Blocking {
    pub(super) fn new(url: &str) -> Result<Blocking, Failed> {
        let raw = ureq::Agent::config_builder()
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .max_idle_age(KEPT)
            .build()
            .new_agent();
        let origin = origin_blocking::Client::builder().config(config()).endpoint(SERVICE, url);
        let origin = origin.build().map_err(failed)?.service(SERVICE).map_err(failed)?;
        Ok(Blocking { raw, url: format!("{url}{PATH}"), origin })
    }

    fn get(&self, side: Side) -> Result<(), Failed> {
        match side {
            Side::Raw => {
                let mut reply = self.raw.get(&self.url).call().map_err(failed)?;
                let body = reply.body_mut().read_to_vec().map_err(failed)?;
                check(reply.status(), body.len())
            }
            Side::Origin => {
                let reply = self.origin.get(PATH).send().map_err(failed)?;
                check(reply.status(), reply.bytes().len())
            }
        }
    }

    fn worker(&self, side: Side, length: Length) -> Result<u64, Failed> {
        let mut progress = Progress::new(length);
        while progress.goes_on() {
            self.get(side)?;
            progress.advance();
        }
        Ok(progress.done)
    }
}

impl Pair for Blocking {
    fn round(&self, side: Side, concurrent: usize, length: Length) -> Result<u64, Failed> {
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..concurrent).map(|_| scope.spawn(|| self.worker(side, length))).collect();
            let mut done = 0;
            for worker in workers {
                done += worker.join().map_err(|_| Failed("a worker panicked".to_owned()))??;
            }
            Ok(done)
        })
    }
}

//! The scripted outage: what breaks when, as data, and the thread that makes
//! it happen to a world. What a client makes of it is the report's business.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clusters::{Group, World};
use crate::lock;
use crate::mode::Mode;
use crate::timeline::{Mark, Timeline, as_millis};

/// One thing that happens at the beginning of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The cluster it happens to.
    pub cluster: String,
    /// Only this instance of it; all of them when left out.
    #[serde(default)]
    pub instance: Option<usize>,
    /// The mode it is put in.
    pub mode: Mode,
}

impl Action {
    /// An action on a whole cluster.
    #[must_use]
    pub fn cluster(cluster: &str, mode: Mode) -> Action {
        Action { cluster: cluster.to_owned(), instance: None, mode }
    }

    /// An action on one instance.
    #[must_use]
    pub fn instance(cluster: &str, instance: usize, mode: Mode) -> Action {
        Action { instance: Some(instance), ..Action::cluster(cluster, mode) }
    }

    fn group<'w>(&self, world: &'w World) -> Group<'w> {
        match self.instance {
            Some(index) => world.instance(&self.cluster, index),
            None => world.cluster(&self.cluster),
        }
    }
}

/// A stretch of the script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// A short name: it labels the picture.
    pub name: String,
    /// When it begins, from the start of the run.
    #[serde(rename = "at_ms", with = "as_millis")]
    pub at: Duration,
    /// What happens then, in order.
    #[serde(default)]
    pub actions: Vec<Action>,
}

/// A scripted outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The cluster the client is in.
    pub local: String,
    /// The phases in order of time.
    pub phases: Vec<Phase>,
    /// How long the whole run takes.
    #[serde(rename = "duration_ms", with = "as_millis")]
    pub duration: Duration,
}

impl Default for Outage {
    /// The default script over 20 seconds.
    fn default() -> Outage {
        Outage::default_for(Duration::from_secs(20))
    }
}

impl Outage {
    /// The default script for the default world: beta is local, alpha the
    /// primary.
    #[must_use]
    pub fn default_for(duration: Duration) -> Outage {
        Outage::scripted(duration, "beta", "alpha")
    }

    /// The default script: calm; one local instance answers 503; the whole
    /// local cluster refuses; the primary also accepts and never answers;
    /// everything recovers; a calm end.
    #[must_use]
    pub fn scripted(duration: Duration, local: &str, primary: &str) -> Outage {
        let phase = |name: &str, percent: u32, actions| Phase {
            name: name.to_owned(),
            // Divided first: no duration is too long for that.
            at: duration / 100 * percent,
            actions,
        };
        let phases = vec![
            phase("calm", 0, Vec::new()),
            phase("one local 503", 15, vec![Action::instance(local, 0, Mode::status(503))]),
            phase("local refuses", 30, vec![Action::cluster(local, Mode::Refuse)]),
            phase("primary hangs", 50, vec![Action::cluster(primary, Mode::HangBeforeHead)]),
            phase(
                "recovery",
                70,
                vec![Action::cluster(local, Mode::Ok), Action::cluster(primary, Mode::Ok)],
            ),
            phase("calm again", 90, Vec::new()),
        ];
        Outage { local: local.to_owned(), phases, duration }
    }

    /// Checks the script against a world: phases in order and inside the
    /// run, every action aimed at something that exists.
    ///
    /// # Errors
    /// A sentence that names the phase and what is wrong with it.
    pub fn check(&self, world: &World) -> Result<(), String> {
        let mut last = Duration::ZERO;
        for phase in &self.phases {
            if phase.at < last || phase.at > self.duration {
                return Err(format!(
                    "phase \"{}\" at {:?} is out of order or outside the run",
                    phase.name, phase.at
                ));
            }
            last = phase.at;
            for action in &phase.actions {
                if action.group(world).is_empty() {
                    return Err(format!(
                        "phase \"{}\" acts on {} {:?}, which does not exist",
                        phase.name, action.cluster, action.instance
                    ));
                }
            }
        }
        Ok(())
    }

    /// The phase boundaries as planned. [`Outage::run`] returns them as they
    /// happened, which is what a report should be made from.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let planned: Vec<Duration> = self.phases.iter().map(|phase| phase.at).collect();
        self.timeline_of(&planned)
    }

    /// The timeline for phases that happened at these moments.
    fn timeline_of(&self, moments: &[Duration]) -> Timeline {
        let mut timeline =
            Timeline { local: self.local.clone(), end: self.duration, ..Timeline::default() };
        let mut broken: Vec<(&str, Option<usize>)> = Vec::new();
        for (phase, at) in self.phases.iter().zip(moments) {
            let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            if timeline.recovered_ms.is_some() && timeline.calm_ms.is_none() {
                timeline.calm_ms = Some(at_ms);
            }
            for action in &phase.actions {
                broken.retain(|(cluster, instance)| {
                    *cluster != action.cluster
                        || (action.instance.is_some() && *instance != action.instance)
                });
                if action.mode == Mode::Ok {
                    continue;
                }
                broken.push((&action.cluster, action.instance));
                timeline.disturbed_ms.get_or_insert(at_ms);
                let whole = action.instance.is_none() && action.cluster == self.local;
                if whole && action.mode == Mode::Refuse {
                    timeline.refused_ms.get_or_insert(at_ms);
                }
            }
            if timeline.refused_ms.is_some() && broken.is_empty() {
                timeline.recovered_ms.get_or_insert(at_ms);
            }
            timeline.phases.push(Mark { name: phase.name.clone(), at: *at });
        }
        timeline
    }

    /// Runs the script on this thread, from now. `on_phase` is called after
    /// the actions of each phase. Afterwards everything that was touched is
    /// healthy again. Returns the timeline as it happened.
    pub fn run(&self, world: &World, on_phase: impl FnMut(&Phase)) -> Timeline {
        self.run_from(Instant::now(), world, &Stop::default(), on_phase)
    }

    /// Runs the script on a thread of its own. `start` is the zero of the
    /// timeline; give the same to whoever records samples.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn spawn(
        self,
        start: Instant,
        world: Arc<World>,
        on_phase: impl FnMut(&Phase) + Send + 'static,
    ) -> io::Result<Running> {
        let stop = Arc::new(Stop::default());
        let signal = Arc::clone(&stop);
        let planned = self.timeline();
        let thread = thread::Builder::new()
            .name("lab-outage".into())
            .spawn(move || self.run_from(start, &world, &signal, on_phase))?;
        Ok(Running { stop, planned, thread: Some(thread) })
    }

    fn run_from(
        &self,
        start: Instant,
        world: &World,
        stop: &Stop,
        mut on_phase: impl FnMut(&Phase),
    ) -> Timeline {
        let mut moments = Vec::with_capacity(self.phases.len());
        let mut stopped = false;
        for phase in &self.phases {
            stopped = stop.wait_until(start, phase.at);
            if stopped {
                break;
            }
            for action in &phase.actions {
                action.group(world).set(action.mode.clone());
            }
            // After the actions: from here on the phase is true everywhere.
            // Rounded up to the unit of the timeline, so that no moment of
            // it lies before what it stands for.
            // The phase that begins the run holds from its very first call.
            let at_once = phase.at.is_zero() && phase.actions.is_empty();
            let moment = if at_once { Duration::ZERO } else { ceil_to_millis(start.elapsed()) };
            moments.push(moment);
            on_phase(phase);
        }
        if !stopped {
            stopped = stop.wait_until(start, self.duration);
        }
        for action in self.phases.iter().flat_map(|phase| &phase.actions) {
            let group = action.group(world);
            if group.servers().iter().any(|server| server.mode() != Mode::Ok) {
                group.set(Mode::Ok);
            }
        }
        let mut timeline = self.timeline_of(&moments);
        if stopped {
            timeline.end = start.elapsed().min(self.duration);
        }
        timeline
    }
}

fn ceil_to_millis(span: Duration) -> Duration {
    let millis = span.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// A flag that can be slept on.
#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    fn ask(&self) {
        *lock(&self.asked) = true;
        self.wake.notify_all();
    }

    /// Sleeps until the offset; true if it was told to stop instead.
    fn wait_until(&self, start: Instant, offset: Duration) -> bool {
        let mut asked = lock(&self.asked);
        loop {
            let left = offset.saturating_sub(start.elapsed());
            if *asked || left.is_zero() {
                return *asked;
            }
            asked = self.wake.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A script that is running on its own thread. Dropping it stops the script.
#[derive(Debug)]
pub struct Running {
    stop: Arc<Stop>,
    planned: Timeline,
    thread: Option<JoinHandle<Timeline>>,
}

impl Running {
    /// Asks the script to end now; [`Running::join`] then returns soon.
    pub fn stop(&self) {
        self.stop.ask();
    }

    /// Whether the script has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end and returns the timeline as it happened; the planned
    /// one if the callback panicked.
    #[must_use]
    pub fn join(mut self) -> Timeline {
        let happened = self.thread.take().and_then(|thread| thread.join().ok());
        happened.unwrap_or_else(|| self.planned.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::WorldSpec;
    use crate::probe::{dial, fetch};

    fn world() -> World {
        World::start(WorldSpec::default().only(&["billing"])).unwrap()
    }

    #[test]
    fn the_default_script_has_its_moments_in_order() {
        let timeline = Outage::default().timeline();
        let names: Vec<&str> = timeline.spans().map(|(name, _, _)| name).collect();
        assert_eq!(
            names,
            ["calm", "one local 503", "local refuses", "primary hangs", "recovery", "calm again"]
        );
        assert!(timeline.phases.is_sorted_by_key(|mark| mark.at));
        assert_eq!(timeline.disturbed_ms, Some(3_000));
        assert_eq!(timeline.refused_ms, Some(6_000));
        assert_eq!(timeline.recovered_ms, Some(14_000));
        assert_eq!(timeline.calm_ms, Some(18_000));
        let text = serde_json::to_string(&Outage::default()).unwrap();
        let again: Outage = serde_json::from_str(&text).unwrap();
        assert_eq!(again, Outage::default());
    }

    #[test]
    fn running_breaks_in_order_and_leaves_everything_healthy() {
        let world = world();
        let outage = Outage::default_for(Duration::from_millis(400));
        outage.check(&world).unwrap();
        let beta = |index| world.server("billing", "beta", index).unwrap();
        let mut seen = Vec::new();
        let timeline = outage.run(&world, |phase| {
            match phase.name.as_str() {
                "one local 503" => {
                    assert_eq!(fetch(beta(0).addr(), "/", "").0, 503);
                    assert_eq!(fetch(beta(1).addr(), "/", "").0, 200);
                }
                "local refuses" => assert!(dial(beta(1).addr()).is_err()),
                "primary hangs" => {
                    assert!(dial(beta(0).addr()).is_err());
                    let alpha = world.server("billing", "alpha", 1).unwrap();
                    assert_eq!(alpha.mode(), Mode::HangBeforeHead);
                }
                _ => assert_eq!(fetch(beta(0).addr(), "/", "").0, 200),
            }
            seen.push(phase.name.clone());
        });
        assert_eq!(seen.len(), 6);
        assert!(timeline.refused_ms >= Some(120));
        assert!(timeline.phases.is_sorted_by_key(|mark| mark.at));
        for server in world.all().servers() {
            assert_eq!(server.mode(), Mode::Ok);
        }
    }

    #[test]
    fn stopping_heals_and_returns_what_happened() {
        let world = Arc::new(world());
        let (sender, phases) = std::sync::mpsc::channel();
        let outage = Outage::default_for(Duration::from_secs(4000));
        let mut outage = outage;
        outage.phases[1].at = Duration::from_millis(10);
        let running = outage
            .spawn(Instant::now(), Arc::clone(&world), move |phase| {
                let _ = sender.send(phase.name.clone());
            })
            .unwrap();
        for _ in 0..2 {
            phases.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(!running.is_finished());
        running.stop();
        let timeline = running.join();
        assert_eq!(timeline.phases.len(), 2);
        assert!(timeline.end < Duration::from_secs(100));
        assert_eq!(timeline.refused_ms, None);
        assert_eq!(world.server("billing", "beta", 0).unwrap().mode(), Mode::Ok);
    }

    #[test]
    fn scripts_that_make_no_sense_are_named() {
        let world = world();
        let mut outage = Outage::default();
        outage.phases[2].actions[0].cluster = "bta".into();
        assert!(outage.check(&world).unwrap_err().contains("local refuses"));
        let mut outage = Outage::default();
        outage.phases.swap(1, 2);
        assert!(outage.check(&world).unwrap_err().contains("one local 503"));
    }
}

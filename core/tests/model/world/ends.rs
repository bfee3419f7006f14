//! What must come of every state: calls end, and what is closed opens again.

use origin_core::{Call, CallSpec, Event, Time};

use super::{Out, TIMEOUT, Track, Variant, World, outcome};
use crate::walk::{Facts, MOST, Walk};

impl World {
    /// From here a driver that is never late ends every call by its deadline, whatever the
    /// attempts come to; then nothing is held, and after a while somebody is called again.
    pub fn drain(mut self, v: &Variant, answers: bool) {
        let latest = self.calls.iter().map(|t| t.deadline).max().unwrap_or(self.now);
        let latest = latest.max(self.now);
        for round in 0.. {
            assert!(round < 200, "does not end");
            let due = |track: &Track| {
                let out = track.outs.iter().flatten().map(|out| out.at).min();
                let wake = if self.wakes(track) { self.now } else { track.wake };
                wake.min(out.unwrap_or(Time::NEVER))
            };
            let first = self.calls.iter().enumerate().map(|(n, track)| (due(track), n)).min();
            let Some((at, n)) = first else { break };
            if answers && let Some(m) = self.calls[n].outs.iter().position(Option::is_some) {
                self.finish(v, n, m, outcome(0));
                self.key(v);
                continue;
            }
            if at > self.now {
                self.now = at;
                self.tick_service();
                self.key(v);
            }
            assert!(self.now <= latest, "a call outlives its deadline: {:?}", self.calls[n]);
            let over = |out: &Option<Out>| out.is_some_and(|out| out.at <= self.now);
            match self.calls[n].outs.iter().position(over) {
                Some(m) => self.finish(v, n, m, outcome(TIMEOUT)),
                None => self.step(v, n, Event::Wake),
            }
            self.key(v);
        }
        self.now = self.now.plus(v.patience);
        self.tick_service();
        self.tick_service();
        self.key(v);
        self.begin(v, 0);
        let sent = self.calls.first().is_some_and(|track| track.sent == 1);
        assert!(sent, "nobody is called after {:?}: {:?}", v.patience, self.facts);
    }

    /// Nothing comes back: time alone opens every endpoint for an attempt, one after the other.
    pub fn recover(&self, v: &Variant) {
        let mut closed = [false; MOST];
        let mut any = false;
        for (n, e) in self.facts.endpoints.iter().take(self.facts.count).enumerate() {
            closed[n] = e.list == u64::MAX;
            any |= closed[n];
        }
        if !any && self.facts.gate.phase == 0 {
            return;
        }
        let mut service = self.service.clone();
        let (mut facts, mut now) = (self.facts, self.now);
        let admits =
            |facts: &Facts| facts.gate.phase == 0 || facts.gate.out == 0 && facts.gate.phase == 2;
        let mut gate = admits(&facts);
        for _ in 0..8 {
            let known = facts.endpoints.iter().take(facts.count).enumerate();
            let due = known.filter(|(n, _)| closed[*n]).map(|(_, e)| e.breaker.until);
            let gate_due = if gate { u64::MAX } else { facts.gate.until };
            let Some(due) = due.chain([gate_due]).min().filter(|due| *due != u64::MAX) else {
                break;
            };
            now = now.max(Time::from_nanos(due));
            let mut ghost = Call::new(CallSpec::default(), 0, 0);
            let _ = ghost.step(&mut service, now, Event::Abandoned);
            let mut walk = Walk::new(now, v.profile);
            walk.service(&service);
            facts = walk.facts;
            for (n, e) in facts.endpoints.iter().take(facts.count).enumerate() {
                closed[n] &= e.list == u64::MAX;
            }
            gate |= admits(&facts);
        }
        assert!(closed.iter().all(|closed| !closed), "stuck: {facts:?}");
        assert!(gate, "the service is stuck: {facts:?}");
        assert!(now <= self.now.plus(v.patience), "stuck until {now:?}: {facts:?}");
    }
}

//! The course of a lookup: which question follows from what has been settled, and what is put
//! together in the end. Asking and being answered is in [`super`].

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::instances::{Srv, instances, usable};
use super::super::meaning::Topic;
use super::super::message::Kind;
use super::super::{Answer, DnsError, Missing, Name, Nothing, Settings, Trouble};
use super::{Asking, Fate, Lookup, Settled, Stage, Target};
use crate::config::{DnsFamily, DnsHost};

const SECOND: u64 = 1_000_000_000;

impl Lookup {
    /// A question is settled: what follows from that.
    pub(super) fn settle(&mut self, settings: &Settings, settled: Settled) {
        self.asking = None;
        match self.stage {
            Stage::Find(at) => match settled {
                Settled::Services(services, brought, ttl) => {
                    self.take_services(settings, services, &brought, ttl);
                }
                Settled::Nothing(nothing) => {
                    self.nothing = self.nothing.max(nothing);
                    self.stage = Stage::Find(at.saturating_add(1));
                }
                Settled::Failed(_) => self.give_up(),
                Settled::Addresses(..) => {}
            },
            Stage::Target(at, family) => self.settle_target(settings, at, family, settled),
        }
    }

    fn take_services(
        &mut self,
        settings: &Settings,
        mut services: Vec<(Srv, Name)>,
        brought: &BTreeMap<Name, Vec<(IpAddr, u32)>>,
        ttl: u32,
    ) {
        self.ttl = ttl;
        // Servers turn the order round with every answer; what is looked up, and what is left out
        // where there are too many, must not depend on that.
        services.sort_unstable();
        let mut known: BTreeMap<Name, u32> = BTreeMap::new();
        for (mut srv, name) in services.into_iter().filter(|(_, name)| !name.is_root()) {
            let next = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
            srv.target = *known.entry(name.clone()).or_insert(next);
            self.records.push(srv);
            if srv.target == next {
                let wanted = families(settings.family);
                let given = brought.get(&name).map_or(&[][..], Vec::as_slice);
                let of = |kind: Kind| given.iter().filter(move |(ip, _)| kind_of(*ip) == kind);
                let mut addresses: Vec<IpAddr> = Vec::new();
                for kind in wanted {
                    if addresses.is_empty() || settings.family == DnsFamily::Both {
                        addresses.extend(of(*kind).map(|(ip, _)| *ip).filter(|ip| usable(*ip)));
                        self.ttl = of(*kind).fold(self.ttl, |ttl, (_, of)| ttl.min(*of));
                    }
                }
                let fate = if name.host().is_none() {
                    Fate::Without(Nothing::NoRecords)
                } else if settings.host == DnsHost::Name || !addresses.is_empty() {
                    Fate::Known
                } else {
                    Fate::Open
                };
                self.targets.push(Target { name, addresses, fate });
            }
        }
        if self.targets.is_empty() {
            self.nothing = Nothing::Unavailable;
            return self.finish(settings);
        }
        self.stage = Stage::Target(0, 0);
    }

    fn settle_target(&mut self, settings: &Settings, at: u32, family: u32, settled: Settled) {
        let kinds = families(settings.family);
        let taken: usize = self.targets.iter().map(|target| target.addresses.len()).sum();
        let room = (settings.max_records as usize).saturating_sub(taken);
        let Some(target) = self.targets.get_mut(at as usize) else { return };
        let mut last = family as usize + 1 >= kinds.len();
        match settled {
            Settled::Addresses(ips, ttl) => {
                let before = target.addresses.len();
                let mut ips: Vec<IpAddr> = ips.into_iter().filter(|ip| usable(*ip)).collect();
                let cut = ips.len().saturating_sub(room);
                self.cut = self.cut.saturating_add(u32::try_from(cut).unwrap_or(u32::MAX));
                ips.truncate(room);
                target.addresses.append(&mut ips);
                if target.addresses.len() > before || cut > 0 {
                    self.ttl = self.ttl.min(ttl);
                    last |= settings.family != DnsFamily::Both;
                }
            }
            Settled::Nothing(nothing) => {
                // No such name: for neither family.
                last |= nothing == Nothing::NoName;
                if target.fate == Fate::Open {
                    target.fate = Fate::Without(nothing);
                }
            }
            Settled::Failed(trouble) => target.fate = Fate::Failed(trouble),
            Settled::Services(..) => {}
        }
        if !last {
            self.stage = Stage::Target(at, family.saturating_add(1));
            return;
        }
        if !target.addresses.is_empty() {
            target.fate = Fate::Known;
        } else if target.fate == Fate::Open {
            target.fate = Fate::Without(Nothing::NoRecords);
        }
        self.stage = Stage::Target(at.saturating_add(1), 0);
    }

    /// Finds the next question, or that there is none.
    pub(super) fn advance(&mut self, settings: &Settings) {
        match self.stage {
            Stage::Find(at) => match self.wanted.get(at as usize) {
                Some(wanted) if wanted.srv => {
                    let topic = Topic::new(wanted.name.clone(), Kind::Srv);
                    self.ask(settings, topic);
                }
                Some(wanted) => {
                    // One target, at the port that is configured.
                    let (name, port) = (wanted.name.clone(), settings.port.unwrap_or(0));
                    self.records = vec![Srv { priority: 0, weight: 1, port, target: 0 }];
                    self.targets = vec![Target { name, addresses: Vec::new(), fate: Fate::Open }];
                    self.bare = Some(at);
                    self.stage = Stage::Target(0, 0);
                }
                None => self.finish(settings),
            },
            Stage::Target(at, family) => self.advance_target(settings, at, family),
        }
    }

    fn advance_target(&mut self, settings: &Settings, at: u32, family: u32) {
        let Some(target) = self.targets.get_mut(at as usize) else {
            return self.end_targets(settings);
        };
        if target.fate != Fate::Open && family == 0 {
            self.stage = Stage::Target(at.saturating_add(1), 0);
            return;
        }
        if family == 0 && self.bare.is_none() {
            if self.lookups >= settings.max_lookups {
                target.fate = Fate::Beyond;
                return;
            }
            self.lookups = self.lookups.saturating_add(1);
        }
        let kinds = families(settings.family);
        let kind = kinds.get(family as usize).copied().unwrap_or(Kind::A);
        let topic = Topic::new(target.name.clone(), kind);
        self.ask(settings, topic);
    }

    /// All targets have their fate.
    fn end_targets(&mut self, settings: &Settings) {
        match (self.bare, self.targets.first().map(|target| target.fate)) {
            (Some(at), Some(Fate::Without(nothing))) => {
                // Not under this name: the next one.
                self.nothing = self.nothing.max(nothing);
                (self.records, self.targets, self.bare) = (Vec::new(), Vec::new(), None);
                self.stage = Stage::Find(at.saturating_add(1));
            }
            (Some(_), Some(Fate::Failed(_))) => self.give_up(),
            _ => self.finish(settings),
        }
    }

    pub(super) fn ask(&mut self, settings: &Settings, topic: Topic) {
        let plain = self.asking.as_ref().is_some_and(|before| before.plain);
        self.asking = Some(Asking { topic, turn: 0, tcp: settings.tcp, plain, sent: None });
    }

    /// The time is over: what is known has to do.
    pub(super) fn run_out(&mut self, settings: &Settings) {
        let sent = self.asking.take().and_then(|asking| asking.sent);
        self.last = sent.map(|sent| (sent.server, Trouble::OutOfTime)).or(self.last);
        if let Stage::Target(at, _) = self.stage {
            for target in self.targets.iter_mut().skip(at as usize) {
                match target.fate {
                    Fate::Known | Fate::Beyond => {}
                    _ if !target.addresses.is_empty() => target.fate = Fate::Known,
                    // Also where one family was denied, as the other one is not known.
                    _ => target.fate = Fate::Failed(Trouble::OutOfTime),
                }
            }
            if self.bare.is_none() || self.targets.iter().any(|t| t.fate == Fate::Known) {
                return self.finish(settings);
            }
        }
        self.give_up();
    }

    fn give_up(&mut self) {
        let error = match self.last {
            Some((server, trouble)) => DnsError::NoAnswer { asked: self.asked, server, trouble },
            None => DnsError::NoServers,
        };
        self.result = Some(Err(error));
    }

    /// Puts together what was found.
    fn finish(&mut self, settings: &Settings) {
        let mut missing = Missing { beyond: self.cut, ..Missing::default() };
        let mut trouble = None;
        for target in &self.targets {
            match target.fate {
                Fate::Known => {}
                Fate::Without(_) => missing.without += 1,
                Fate::Beyond => missing.beyond = missing.beyond.saturating_add(1),
                Fate::Failed(why) => (missing.failed, trouble) = (missing.failed + 1, Some(why)),
                Fate::Open => missing.failed += 1,
            }
        }
        let usable = |target: &Target| target.fate == Fate::Known;
        let targets: Vec<(&Name, &[IpAddr])> =
            self.targets.iter().map(|target| (&target.name, target.addresses.as_slice())).collect();
        let known = |record: &&Srv| self.targets.get(record.target as usize).is_some_and(usable);
        let records: Vec<Srv> = self.records.iter().filter(known).copied().collect();
        let (instances, beyond) = instances(settings, self.bare.is_none(), &records, &targets);
        missing.beyond = missing.beyond.saturating_add(beyond);
        // Empty means that the servers said so, and nothing else.
        let trouble = trouble
            .or((missing.beyond > 0).then_some(Trouble::TooManyTargets(settings.max_lookups)));
        if let (true, Some(trouble)) = (instances.is_empty(), trouble) {
            let targets = missing.failed.saturating_add(missing.beyond);
            self.result = Some(Err(DnsError::NoTargets { targets, trouble }));
            return;
        }
        let seconds = |ttl: u32| u64::from(ttl).saturating_mul(SECOND);
        let negative = self.negative.map_or(settings.negative_ttl, seconds);
        let negative = negative.max(settings.min_ttl).min(settings.max_negative_ttl);
        let mut ttl = seconds(self.ttl).max(settings.min_ttl).min(settings.max_ttl);
        let why = if self.targets.is_empty() { self.nothing } else { Nothing::NoRecords };
        let nothing = instances.is_empty().then_some(why);
        if nothing.is_some() {
            ttl = negative;
        } else if missing.failed > 0 {
            ttl = ttl.min(settings.negative_ttl.max(settings.min_ttl));
        }
        let ttl = Duration::from_nanos(ttl);
        self.result = Some(Ok(Answer { instances, ttl, nothing, missing }));
    }
}

const fn kind_of(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(_) => Kind::A,
        IpAddr::V6(_) => Kind::Aaaa,
    }
}

/// What is asked for, in this order.
const fn families(family: DnsFamily) -> &'static [Kind] {
    match family {
        DnsFamily::Ipv4 => &[Kind::A],
        DnsFamily::Ipv6 => &[Kind::Aaaa],
        DnsFamily::PreferIpv4 | DnsFamily::Both => &[Kind::A, Kind::Aaaa],
        DnsFamily::PreferIpv6 => &[Kind::Aaaa, Kind::A],
    }
}

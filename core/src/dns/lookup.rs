//! One lookup of a service: which question is asked of which server, and whether what comes back
//! is an answer. What it means is in [`super::meaning`], what follows from that in `course`.
//!
//! Questions come one after the other. SRV first; addresses that the answer brings along are
//! taken, the targets without one are asked for. Each question goes through the list of servers
//! `tries` times, beginning with the one that answered last. A message that does not belong to
//! the question costs one turn like any other failure, so that whoever forges them gains a delay
//! at most.

mod course;

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::form::Wanted;
use super::instances::Srv;
use super::meaning::{Meaning, Topic, brought};
use super::message::{self, Belongs, Message, belonging};
use super::{Answer, Ask, DnsError, Name, Nothing, Settings, Step, Trouble};
use crate::job::JobOutcome;
use crate::outcome::Fault;
use crate::rng::Pcg32;
use crate::time::Time;

/// A question on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    query: Arc<[u8]>,
    server: SocketAddr,
    deadline: Time,
}

/// What is being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asking {
    topic: Topic,
    /// Turns taken: servers times tries.
    turn: u32,
    tcp: bool,
    /// Without EDNS: a server did not know it.
    plain: bool,
    sent: Option<Sent>,
}

/// What came of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    /// To be looked up.
    Open,
    /// It has addresses, or needs none.
    Known,
    /// It has none; whether it is known at all.
    Without(Nothing),
    Failed(Trouble),
    Beyond,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Target {
    name: Name,
    addresses: Vec<IpAddr>,
    fate: Fate,
}

/// What came of a question. Lists come with how long they hold.
enum Settled {
    Services(Vec<(Srv, Name)>, BTreeMap<Name, Vec<(IpAddr, u32)>>, u32),
    Addresses(Vec<IpAddr>, u32),
    Nothing(Nothing),
    Failed(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Looking for the service under the name of this number.
    Find(u32),
    /// Looking up this target, in this of the wanted families.
    Target(u32, u32),
}

/// One lookup of one service, from the first question to the list of its instances.
///
/// ```
/// use origin_core::config::{DnsConfig, DnsForm, DnsRecords};
/// use origin_core::dns::{Lookup, Settings, Step};
/// use origin_core::rng::Pcg32;
/// use origin_core::time::Time;
///
/// let settings = Settings::of(
///     &DnsConfig {
///         servers: vec!["10.0.0.2".to_owned()],
///         form: DnsForm::Plain,
///         domain: Some("example".to_owned()),
///         records: DnsRecords::Address,
///         port: Some(8080),
///         ..DnsConfig::default()
///     },
///     "dns",
/// )?;
/// let now = Time::ZERO;
/// let mut lookup = Lookup::new(now, &settings, "web", &mut Pcg32::new(1, 1));
/// let Step::Ask(ask) = lookup.next(now, &settings) else { panic!() };
/// assert_eq!((ask.server, ask.tcp), ("10.0.0.2:53".parse().unwrap(), false));
///
/// // The answer: the question, with one address. (Sent without EDNS to keep this short.)
/// let mut reply = ask.query[..ask.query.len() - 11].to_vec();
/// (reply[2], reply[7], reply[11]) = (0x80, 1, 0);
/// reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 9]);
/// lookup.answered(now, &settings, &reply);
/// let Step::Done(Ok(answer)) = lookup.next(now, &settings) else { panic!() };
/// assert_eq!(answer.instances[0].address.as_str(), "http://10.0.0.9:8080");
/// assert_eq!(answer.ttl.as_secs(), 60);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    rng: Pcg32,
    ends: Time,
    wanted: Vec<Wanted>,
    stage: Stage,
    asking: Option<Asking>,
    /// The server that answered last.
    server: u32,
    /// Messages sent, and targets looked up.
    asked: u32,
    lookups: u32,
    records: Vec<Srv>,
    targets: Vec<Target>,
    /// Whose addresses the targets are, when they are of no SRV record: the name of this number.
    bare: Option<u32>,
    /// Addresses left out because there are too many.
    cut: u32,
    /// Seconds that what was found holds, and what was not found.
    ttl: u32,
    negative: Option<u32>,
    nothing: Nothing,
    last: Option<(SocketAddr, Trouble)>,
    result: Option<Result<Answer, DnsError>>,
}

impl Lookup {
    /// A lookup of `service` that begins now. A service that has no name, or no servers, is done
    /// at once. What it draws (ids, case) comes from a generator of its own that `rng` seeds;
    /// that is no cryptography, and protects against those who cannot see the questions.
    #[must_use]
    pub fn new(now: Time, settings: &Settings, service: &str, rng: &mut Pcg32) -> Lookup {
        let seed = (u64::from(rng.bits()) << 32) | u64::from(rng.bits());
        let (wanted, result) = match settings.wanted(service) {
            Err(bad) => (Vec::new(), Some(Err(DnsError::Name(bad)))),
            Ok(_) if settings.servers.is_empty() => (Vec::new(), Some(Err(DnsError::NoServers))),
            Ok(wanted) => (wanted, None),
        };
        Lookup {
            rng: Pcg32::new(seed, u64::from(rng.bits())),
            ends: now.plus(Duration::from_nanos(settings.total)),
            wanted,
            stage: Stage::Find(0),
            asking: None,
            server: 0,
            asked: 0,
            lookups: 0,
            records: Vec::new(),
            targets: Vec::new(),
            bare: None,
            cut: 0,
            ttl: u32::MAX,
            negative: None,
            nothing: Nothing::NoName,
            last: None,
            result,
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Time, settings: &Settings) -> Step {
        loop {
            if let Some(result) = &self.result {
                return Step::Done(result.clone());
            }
            if now >= self.ends {
                self.run_out(settings);
                continue;
            }
            let Some(asking) = &mut self.asking else {
                self.advance(settings);
                continue;
            };
            if let Some(sent) = &asking.sent {
                if now < sent.deadline {
                    let query = Bytes::copy_from_slice(&sent.query);
                    let (server, deadline) = (sent.server, sent.deadline);
                    return Step::Ask(Ask { server, query, tcp: asking.tcp, deadline });
                }
                self.spend(settings, Trouble::Fault(Fault::Timeout));
                continue;
            }
            let servers = u32::try_from(settings.servers.len()).unwrap_or(u32::MAX);
            let index = self.server.saturating_add(asking.turn) % servers.max(1);
            let Some(server) = settings.servers.get(index as usize) else {
                // They were taken away meanwhile.
                self.result = Some(Err(DnsError::NoServers));
                continue;
            };
            let id = u16::try_from(self.rng.bits() >> 16).unwrap_or(0);
            let edns = if asking.plain { 0 } else { settings.edns };
            let case = settings.mix_case.then_some(&mut self.rng);
            let query = message::question(id, &asking.topic.name, asking.topic.kind, edns, case);
            let deadline = now.plus(Duration::from_nanos(settings.timeout)).min(self.ends);
            asking.sent = Some(Sent { query: query.into(), server: *server, deadline });
            self.asked = self.asked.saturating_add(1);
        }
    }

    /// Takes the answer to what was asked last; ignored if nothing is asked.
    pub fn answered(&mut self, now: Time, settings: &Settings, bytes: &[u8]) {
        let Some(asking) = &mut self.asking else { return };
        let Some(sent) = &mut asking.sent else { return };
        let belongs = belonging(&sent.query, bytes);
        if belongs == Belongs::Not {
            return self.spend(settings, Trouble::NotOurs);
        }
        // Over TCP forging takes more than guessing, and some servers do not keep the case.
        let mut again_over_tcp = belongs == Belongs::ButForCase && !asking.tcp;
        let message = match Message::parse(bytes, settings.max_records) {
            Ok(message) => message,
            Err(bad) => return self.spend(settings, Trouble::Message(bad)),
        };
        // FORMERR, NOTIMP and BADVERS: of a server that does not know EDNS (RFC 6891 §7).
        if matches!(message.code, 1 | 4 | 16) && !asking.plain && settings.edns > 0 {
            (asking.plain, asking.sent) = (true, None);
            return;
        }
        if !matches!(message.code, 0 | 3) {
            return self.spend(settings, Trouble::Code(message.code));
        }
        if message.truncated && asking.tcp {
            return self.spend(settings, Trouble::Truncated);
        }
        again_over_tcp |= message.truncated;
        if again_over_tcp {
            asking.tcp = true;
            sent.deadline = now.plus(Duration::from_nanos(settings.timeout)).min(self.ends);
            self.asked = self.asked.saturating_add(1);
            return;
        }
        self.understand(settings, &message);
    }

    /// Takes note that what was asked last failed; ignored if nothing is asked.
    pub fn failed(&mut self, settings: &Settings, fault: Fault) {
        self.spend(settings, Trouble::Fault(fault));
    }

    /// Takes the outcome of a job made of an [`Ask`]. One that was dropped is asked again.
    pub fn job_done(&mut self, now: Time, settings: &Settings, outcome: &JobOutcome) {
        match outcome {
            JobOutcome::Datagram(bytes) => self.answered(now, settings, bytes),
            JobOutcome::Failed(fault) => self.failed(settings, *fault),
            JobOutcome::Dropped => {}
            _ => self.spend(settings, Trouble::Impossible),
        }
    }

    /// A turn is over without an answer: the next server, or none is left.
    fn spend(&mut self, settings: &Settings, trouble: Trouble) {
        let Some(asking) = &mut self.asking else { return };
        let Some(sent) = asking.sent.take() else { return };
        self.last = Some((sent.server, trouble));
        asking.turn = asking.turn.saturating_add(1);
        asking.tcp = settings.tcp;
        let servers = u32::try_from(settings.servers.len()).unwrap_or(u32::MAX);
        if asking.turn >= servers.saturating_mul(settings.tries) {
            self.settle(settings, Settled::Failed(trouble));
        }
    }

    /// Takes the meaning of an answer that is none of a failure.
    fn understand(&mut self, settings: &Settings, message: &Message<'_>) {
        let Some(asking) = &mut self.asking else { return };
        let settled = match asking.topic.read(message) {
            Meaning::Trouble(trouble) => return self.spend(settings, trouble),
            Meaning::Elsewhere(topic) => return self.ask(settings, topic),
            Meaning::Nothing(nothing, soa) => {
                if let Some(soa) = soa {
                    self.negative = Some(self.negative.map_or(soa, |known| known.min(soa)));
                }
                Settled::Nothing(nothing)
            }
            Meaning::Services(services, ttl) => Settled::Services(services, brought(message), ttl),
            Meaning::Addresses(ips, ttl) => Settled::Addresses(ips, ttl),
        };
        // The server has answered: it is asked first from now on.
        let sent = self.asking.as_ref().and_then(|asking| asking.sent.as_ref());
        let index = sent.and_then(|sent| settings.servers.iter().position(|s| *s == sent.server));
        self.server = index.and_then(|index| u32::try_from(index).ok()).unwrap_or(self.server);
        self.settle(settings, settled);
    }
}

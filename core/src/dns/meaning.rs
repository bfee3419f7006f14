//! What an answer that reports no failure means for the question: records, another name, or that
//! there are none. What follows from that is decided in [`super::lookup`].

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instances::Srv;
use super::message::{BadMessage, Data, Kind, Message, Section};
use super::{Name, Nothing, Trouble};

/// Names that may lead from one to another before the records come.
const MOST_ALIASES: u32 = 8;

/// What is asked for: records of this kind under this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// Names that led here, and how long that holds, in seconds.
    aliases: u32,
    ttl: u32,
}

/// What an answer means. Lists come with the seconds they hold.
pub(super) enum Meaning {
    /// SRV records and their targets.
    Services(Vec<(Srv, Name)>, u32),
    /// Addresses.
    Addresses(Vec<IpAddr>, u32),
    /// There are none; how long that holds, if the server says so.
    Nothing(Nothing, Option<u32>),
    /// They are to be had under another name.
    Elsewhere(Topic),
    /// It is of no use.
    Trouble(Trouble),
}

impl Topic {
    pub(super) fn new(name: Name, kind: Kind) -> Topic {
        Topic { name, kind, aliases: 0, ttl: u32::MAX }
    }

    /// Reads an answer whose code is 0 or 3 (there is no such name).
    pub(super) fn read(&self, message: &Message<'_>) -> Meaning {
        let mut end = self.clone();
        let answers = || message.records().filter(|record| record.section() == Section::Answer);
        while let Some(alias) = answers().find(|r| r.kind() == Kind::Cname && r.is_of(&end.name)) {
            end.aliases += 1;
            if end.aliases > MOST_ALIASES {
                return Meaning::Trouble(Trouble::Aliases(MOST_ALIASES));
            }
            end.ttl = end.ttl.min(alias.ttl());
            let Some(Data::Cname(to)) = alias.data() else { break };
            end.name = to;
        }
        let found: Vec<Data> = answers()
            .filter(|record| record.kind() == self.kind && record.is_of(&end.name))
            .filter_map(|record| {
                end.ttl = end.ttl.min(record.ttl());
                record.data()
            })
            .collect();
        if found.is_empty() {
            return self.none(end, message);
        }
        if message.code != 0 {
            return Meaning::Trouble(Trouble::Message(BadMessage::Contradiction));
        }
        if self.kind == Kind::Srv {
            let services = found.into_iter().filter_map(|data| match data {
                Data::Srv { priority, weight, port, target } => {
                    Some((Srv { priority, weight, port, target: 0 }, target))
                }
                _ => None,
            });
            return Meaning::Services(services.collect(), end.ttl);
        }
        Meaning::Addresses(found.iter().filter_map(ip).collect(), end.ttl)
    }

    /// Reads an answer without records of what was asked for; `end` is where names led to.
    fn none(&self, end: Topic, message: &Message<'_>) -> Meaning {
        let head = message
            .records()
            .find(|record| record.section() == Section::Authority && record.kind() == Kind::Soa);
        if message.code == 0 && head.is_none() {
            if end.name != self.name {
                // The end of the chain is in somebody else's zone: it is asked for by itself.
                return match end.name.host() {
                    Some(_) => Meaning::Elsewhere(end),
                    None => Meaning::Trouble(Trouble::Alias),
                };
            }
            let refers = message.records().any(|record| record.kind() == Kind::Ns);
            if refers && !message.authoritative && !message.recursive {
                return Meaning::Trouble(Trouble::Referral);
            }
        }
        // RFC 2308 §5: the lower one of the two.
        let seconds = head.and_then(|head| match head.data() {
            Some(Data::Soa(minimum)) => Some(minimum.min(head.ttl())),
            _ => None,
        });
        let nothing = if message.code == 3 { Nothing::NoName } else { Nothing::NoRecords };
        Meaning::Nothing(nothing, seconds)
    }
}

/// The addresses that a message brings along, by name, with the seconds they hold.
pub(super) fn brought(message: &Message<'_>) -> BTreeMap<Name, Vec<(IpAddr, u32)>> {
    let mut found: BTreeMap<Name, Vec<(IpAddr, u32)>> = BTreeMap::new();
    for record in message.records().filter(|r| matches!(r.kind(), Kind::A | Kind::Aaaa)) {
        if let (Some(owner), Some(ip)) = (record.owner(), record.data().as_ref().and_then(ip)) {
            found.entry(owner).or_default().push((ip, record.ttl()));
        }
    }
    found
}

fn ip(data: &Data) -> Option<IpAddr> {
    match data {
        Data::A(ip) => Some(IpAddr::V4(*ip)),
        Data::Aaaa(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

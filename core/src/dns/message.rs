//! DNS messages (RFC 1035 §4, RFC 2782, RFC 3596, EDNS of RFC 6891): a question is written, an
//! answer is read. What an answer means for a lookup is in [`super::Lookup`].
//!
//! The reader keeps positions, not copies: a message of 64 KiB can neither be made to unfold into
//! megabytes nor to be walked through more than a few hundred steps per record. It is strict where
//! leniency would shorten a list of instances without a word (lengths that do not fit, bytes left
//! over), and does not look at records of types that are not asked for.

use core::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::rng::Pcg32;

/// Types of records that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Host, port, priority and weight of a service.
    Srv,
    /// Another name for the same.
    Cname,
    /// A name server.
    Ns,
    /// The head of a zone.
    Soa,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Ns => 2,
            Kind::Cname => 5,
            Kind::Soa => 6,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }

    fn of(code: u16) -> Option<Kind> {
        [Kind::A, Kind::Ns, Kind::Cname, Kind::Soa, Kind::Aaaa, Kind::Srv]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

const OPT: u16 = 41;
const INTERNET: u16 = 1;
const HEADER: usize = 12;
/// The largest message there can be.
pub const MOST_BYTES: usize = 65_535;

/// Why bytes are not an answer. Never repeats their content.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum BadMessage {
    /// More bytes than a message can have.
    #[error("it has {0} bytes, more than 65535")]
    TooLarge(usize),
    /// It ends before what it announces.
    #[error("it ends too early")]
    Short,
    /// It goes on after what it announces.
    #[error("it has {0} bytes too many")]
    Trailing(u32),
    /// A question, not an answer.
    #[error("it is not an answer")]
    NotAnswer,
    /// Another number of questions than one.
    #[error("it has {0} questions")]
    Questions(u16),
    /// A name runs in circles, is too long or has a label of an unknown kind.
    #[error("it has a name that cannot be read")]
    Name,
    /// A record has another length than its type has.
    #[error("a record of type {0} has a wrong length")]
    Length(u16),
    /// More records than allowed.
    #[error("it has more than dns.max_records of {0} records")]
    TooMany(u32),
    /// EDNS more than once (RFC 6891 §6.1.1).
    #[error("it has more than one OPT record")]
    TwoOpts,
    /// It says that there is no such name, and names records.
    #[error("it denies a name and has records of it")]
    Contradiction,
}

/// A question: the name, in mixed case if `rng` is given, and what is wanted. `edns` is the
/// largest answer wanted over UDP, 0 for none said.
#[must_use]
pub fn question(id: u16, name: &Name, kind: Kind, edns: u16, rng: Option<&mut Pcg32>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + name.wire().len() + 4 + 11);
    bytes.extend(id.to_be_bytes());
    // Recursion desired; one question; one additional record with EDNS.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns > 0)]);
    bytes.extend(name.wire());
    if let Some(rng) = rng {
        let (mut bits, mut left) = (0, 0);
        for byte in bytes[HEADER..].iter_mut().filter(|byte| byte.is_ascii_lowercase()) {
            if left == 0 {
                (bits, left) = (rng.bits(), 32);
            }
            *byte ^= u8::from(bits & 1 == 1) << 5;
            (bits, left) = (bits >> 1, left - 1);
        }
    }
    bytes.extend(kind.code().to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    if edns > 0 {
        bytes.push(0);
        bytes.extend(OPT.to_be_bytes());
        bytes.extend(edns.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

/// How far an answer belongs to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    Not,
    ButForCase,
    Exactly,
}

/// Compares the id and the question. A server that cannot read a question may leave it out.
pub(super) fn belonging(query: &[u8], answer: &[u8]) -> Belongs {
    let (Some(asked), Some(head)) = (query.get(..HEADER), answer.get(..HEADER)) else {
        return Belongs::Not;
    };
    if head[..2] != asked[..2] || head[2] & 0x80 == 0 || head[2] & 0x78 != 0 {
        return Belongs::Not;
    }
    if head[4..6] == [0, 0] && !matches!(head[3] & 0x0f, 0 | 3) {
        return Belongs::Exactly;
    }
    let end = Name::skip(query, HEADER, query.len()).map_or(0, |end| end + 4);
    match (query.get(HEADER..end), answer.get(HEADER..end)) {
        (Some(asked), Some(told)) if head[4..6] == [0, 1] => {
            if asked == told {
                return Belongs::Exactly;
            }
            // Lengths, types and class are numbers below those of the letters.
            if asked.eq_ignore_ascii_case(told) { Belongs::ButForCase } else { Belongs::Not }
        }
        _ => Belongs::Not,
    }
}

/// Whether `answer` can be the answer to `query`: an adapter drops datagrams of which this is not
/// so and listens on, so that a forged one with a wrong id costs nothing.
#[must_use]
pub fn belongs(query: &[u8], answer: &[u8]) -> bool {
    belonging(query, answer) != Belongs::Not
}

/// The section a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who is responsible.
    Authority,
    /// What the server expects to be asked next.
    Additional,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    section: Section,
    kind: Kind,
    ttl: u32,
    owner: u16,
    data: u16,
}

/// An answer that has been read.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// The response code, with the upper bits of EDNS.
    pub code: u16,
    /// Whether it is cut. Nothing is read of one that is: it is asked for again over TCP.
    pub truncated: bool,
    /// Whether the server is responsible for the name.
    pub authoritative: bool,
    /// Whether the server asks others if it is not.
    pub recursive: bool,
    places: Vec<Place>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// An instance of a service.
    Srv {
        /// Lower ones are tried first.
        priority: u16,
        /// Its share among those of the same priority.
        weight: u16,
        /// Its port.
        port: u16,
        /// Its host.
        target: Name,
    },
    /// Another name for the same.
    Cname(Name),
    /// A name server.
    Ns,
    /// The head of a zone: how long it says that a denial holds.
    Soa(u32),
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
    place: Place,
}

impl Record<'_> {
    /// Where it stands.
    #[must_use]
    pub fn section(&self) -> Section {
        self.place.section
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.place.kind
    }

    /// How many seconds it holds. More than 2³¹ counts as zero (RFC 2181 §8).
    #[must_use]
    pub fn ttl(&self) -> u32 {
        if self.place.ttl > u32::MAX / 2 { 0 } else { self.place.ttl }
    }

    /// Whether it is about `name`.
    #[must_use]
    pub fn is_of(&self, name: &Name) -> bool {
        name.is_at(self.bytes, usize::from(self.place.owner))
    }

    /// The name it is about.
    #[must_use]
    pub fn owner(&self) -> Option<Name> {
        name_at(self.bytes, usize::from(self.place.owner))
    }

    /// What it says. `None` cannot happen: it has been read before.
    #[must_use]
    pub fn data(&self) -> Option<Data> {
        let (bytes, at) = (self.bytes, usize::from(self.place.data));
        Some(match self.place.kind {
            Kind::A => Data::A(Ipv4Addr::from(array::<4>(bytes, at)?)),
            Kind::Aaaa => Data::Aaaa(Ipv6Addr::from(array::<16>(bytes, at)?)),
            Kind::Srv => Data::Srv {
                priority: short(bytes, at).ok()?,
                weight: short(bytes, at + 2).ok()?,
                port: short(bytes, at + 4).ok()?,
                target: name_at(bytes, at + 6)?,
            },
            Kind::Cname => Data::Cname(name_at(bytes, at)?),
            Kind::Ns => Data::Ns,
            Kind::Soa => {
                let at = Name::skip(bytes, at, bytes.len()).ok()?;
                let at = Name::skip(bytes, at, bytes.len()).ok()?;
                Data::Soa(u32::from_be_bytes(array(bytes, at + 16)?))
            }
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn short(bytes: &[u8], at: usize) -> Result<u16, BadMessage> {
    array(bytes, at).map(u16::from_be_bytes).ok_or(BadMessage::Short)
}

fn name_at(bytes: &[u8], at: usize) -> Option<Name> {
    Name::read(bytes, at, bytes.len()).ok().map(|(name, _)| name)
}

impl<'a> Message<'a> {
    /// Reads an answer with at most `most` records of the types in [`Kind`].
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn parse(bytes: &'a [u8], most: u32) -> Result<Message<'a>, BadMessage> {
        if bytes.len() > MOST_BYTES {
            return Err(BadMessage::TooLarge(bytes.len()));
        }
        let flags = short(bytes, 2)?;
        let counts = [short(bytes, 6)?, short(bytes, 8)?, short(bytes, 10)?];
        let code = flags & 0x0f;
        // Answers only, to plain questions only.
        if flags & 0xf800 != 0x8000 {
            return Err(BadMessage::NotAnswer);
        }
        let questions = short(bytes, 4)?;
        let mut at = HEADER;
        match questions {
            // A server that cannot read a question, or does not want to, may leave it out.
            0 if !matches!(code, 0 | 3) => {}
            1 => at = Name::skip(bytes, at, bytes.len())? + 4,
            other => return Err(BadMessage::Questions(other)),
        }
        if at > bytes.len() {
            return Err(BadMessage::Short);
        }
        let mut message = Message {
            bytes,
            code,
            truncated: flags & 0x0200 != 0,
            authoritative: flags & 0x0400 != 0,
            recursive: flags & 0x0080 != 0,
            places: Vec::new(),
        };
        if message.truncated {
            return Ok(message);
        }
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let mut edns = false;
        for (section, count) in sections.into_iter().zip(counts) {
            for _ in 0..count {
                at = message.record(section, at, most, &mut edns)?;
            }
        }
        match u32::try_from(bytes.len() - at) {
            Ok(0) => Ok(message),
            left => Err(BadMessage::Trailing(left.unwrap_or(u32::MAX))),
        }
    }

    /// Takes note of the record at `at`; returns where the next one begins.
    fn record(
        &mut self,
        section: Section,
        at: usize,
        most: u32,
        edns: &mut bool,
    ) -> Result<usize, BadMessage> {
        let bytes = self.bytes;
        let fields = Name::skip(bytes, at, bytes.len())?;
        let (code, class) = (short(bytes, fields)?, short(bytes, fields + 2)?);
        let ttl = u32::from_be_bytes(array(bytes, fields + 4).ok_or(BadMessage::Short)?);
        let data = fields + 10;
        let end = data + usize::from(short(bytes, fields + 8)?);
        if end > bytes.len() {
            return Err(BadMessage::Short);
        }
        if code == OPT && section == Section::Additional {
            if std::mem::replace(edns, true) || bytes[at] != 0 {
                return Err(BadMessage::TwoOpts);
            }
            let upper = u16::try_from(ttl >> 24).unwrap_or(0);
            self.code |= upper << 4;
        }
        let Some(kind) = Kind::of(code).filter(|_| class == INTERNET) else { return Ok(end) };
        let after = match kind {
            Kind::A => data + 4,
            Kind::Aaaa => data + 16,
            Kind::Srv if data + 6 > end => return Err(BadMessage::Length(code)),
            Kind::Srv => Name::skip(bytes, data + 6, end)?,
            Kind::Cname | Kind::Ns => Name::skip(bytes, data, end)?,
            Kind::Soa => Name::skip(bytes, Name::skip(bytes, data, end)?, end)? + 20,
        };
        if after != end {
            return Err(BadMessage::Length(code));
        }
        if self.places.len() >= most as usize {
            return Err(BadMessage::TooMany(most));
        }
        let (Ok(owner), Ok(data)) = (u16::try_from(at), u16::try_from(data)) else {
            return Err(BadMessage::Short);
        };
        self.places.push(Place { section, kind, ttl, owner, data });
        Ok(end)
    }

    /// Its records, in their order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'a>> {
        let bytes = self.bytes;
        self.places.iter().map(move |place| Record { bytes, place: *place })
    }
}

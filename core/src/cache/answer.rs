//! One HTTP answer, and its form as bytes for the second level.
//!
//! What Redis holds may be anybody's: another version's, cut off, of another key, garbage. All of
//! it is checked before any of it is used, and what fails costs a fetch, nothing else. The form:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `OrgC` |
//! | 1 | version, 1 |
//! | 8 | FNV-1a of all that follows |
//! | 32 | the key |
//! | 8, 8 | when it was made, when it expires: seconds since 1970 |
//! | 4, 4, 1 | `stale-while-revalidate` and `stale-if-error` in seconds (all ones: as set), flags |
//! | 2, … | scope, tags, status, headers, `Vary`, body; each with its length in front |
//!
//! Numbers are little-endian.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::entry::{MOST_TAGS, Put};
use super::{Fill, Key, Label, Level, Reason, Settings, Wants};
use crate::time::{Wall, nanos};

/// Longest time for which an answer may be fresh, in seconds: what no record exceeds.
const LONGEST: u64 = 7 * 24 * 3_600;
/// How far the clock of whoever wrote a record may be ahead, in seconds.
const AHEAD: u64 = 60;
const MOST_HEADERS: usize = 256;
const AS_SET: u32 = u32::MAX;
const MAGIC: &[u8; 4] = b"OrgC";
const VERSION: u8 = 1;
const HEAD: usize = 13;

/// An HTTP answer as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, without those of the connection.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The request headers that it varies by, with digests of their values.
    pub vary: Vec<(HeaderName, Key)>,
}

/// Whether a header is about the connection and not the answer (RFC 9110 §7.6.1).
pub(super) fn hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

impl Answer {
    /// An answer as it arrived; headers of the connection are left out.
    #[must_use]
    pub fn new(status: u16, headers: &HeaderMap, body: Bytes) -> Answer {
        let named = headers.get_all(http::header::CONNECTION);
        let named: Vec<&str> =
            named.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
        let of_connection = |name: &HeaderName| {
            hop_by_hop(name) || named.iter().any(|n| n.trim().eq_ignore_ascii_case(name.as_str()))
        };
        let kept = headers.iter().filter(|(name, _)| !of_connection(name));
        let headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Answer { status, headers, body, vary: Vec::new() }
    }

    /// What it takes, in bytes, about.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        let all = self.body.len() + headers + self.vary.len() * 64 + size_of::<Answer>();
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither headers nor body: either may carry a secret.
        write!(
            f,
            "{} ({} headers, {} body bytes)",
            self.status,
            self.headers.len(),
            self.body.len()
        )
    }
}

/// Why bytes are not a record. Never repeats their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// More bytes than allowed.
    #[error("it has {bytes} bytes, more than {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Something else is kept there.
    #[error("it is not an answer that Origin stored")]
    NotOurs,
    /// Written by another version.
    #[error("it has version {0}, not 1")]
    Version(u8),
    /// Its checksum is wrong: cut off or changed.
    #[error("it is damaged")]
    Damaged,
    /// It is the answer of another key.
    #[error("it belongs to another key")]
    OtherKey,
    /// The checksum is right and the content is not.
    #[error("its {0} is not as it should be")]
    Shape(&'static str),
}

/// An answer in the second level.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// When the answer was made.
    pub created: Wall,
    /// When its freshness ends.
    pub expires: Wall,
    /// Its own `stale-while-revalidate`; `None`: as set.
    pub revalidate: Option<Duration>,
    /// Its own `stale-if-error`; `None`: as set.
    pub on_error: Option<Duration>,
    /// Never to be served stale.
    pub strict: bool,
    /// It says that there is none.
    pub negative: bool,
    /// What it is about.
    pub scope: Option<Arc<str>>,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
    /// The answer.
    pub answer: Answer,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}: {:?}", self.key, self.expires.0, self.answer)
    }
}

impl Record {
    /// The record of what is about to be stored. `None` when its time has passed already.
    #[must_use]
    pub fn of(
        key: Key,
        put: &Put<Answer>,
        negative: bool,
        wall: Wall,
        settings: &Settings,
    ) -> Option<Record> {
        let default = if negative { settings.negative_ttl } else { settings.ttl };
        let fresh = put.ttl.map_or(default, nanos) / 1_000_000_000;
        let created = Wall(wall.0.saturating_sub(put.age.as_secs()));
        let expires = Wall(wall.0.saturating_add(fresh.min(LONGEST)));
        let created = Wall(created.0.max(expires.0.saturating_sub(LONGEST)));
        (fresh > 0 && put.tags.len() <= MOST_TAGS).then(|| Record {
            key,
            created,
            expires,
            revalidate: put.revalidate,
            on_error: put.on_error,
            strict: put.strict || negative,
            negative,
            scope: put.scope.clone(),
            tags: put.tags.clone(),
            answer: put.value.clone(),
        })
    }

    /// How long Redis keeps it: while it is fresh, and while somebody may want it stale.
    #[must_use]
    pub fn keep_for(&self, wall: Wall, settings: &Settings) -> Duration {
        let own = |own: Option<Duration>, reason| {
            own.unwrap_or(Duration::from_nanos(settings.bound(reason)))
        };
        let stale = own(self.revalidate, Reason::Revalidating)
            .max(own(self.on_error, Reason::Error))
            .max(Duration::from_nanos(settings.longest));
        let stale = if self.strict { Duration::ZERO } else { stale };
        let fresh = Duration::from_secs(self.expires.0.saturating_sub(wall.0));
        fresh.saturating_add(stale).min(Duration::from_secs(2 * LONGEST))
    }

    /// What is to be kept here of it: fresh until it expires there, by this program's own clock,
    /// whatever the calendar does meanwhile. `None` when it has expired, or may have: the calendar
    /// counts whole seconds, so the one that has begun is taken for over.
    #[must_use]
    pub fn put(&self, wall: Wall) -> Option<Put<Answer>> {
        let left = self.expires.0.saturating_sub(wall.0).saturating_sub(1);
        // A calendar that is behind gives it no more time than it had.
        let left = left.min(self.expires.0.saturating_sub(self.created.0));
        (left > 0).then(|| Put {
            ttl: Some(Duration::from_secs(left)),
            age: self.age(wall),
            revalidate: self.revalidate,
            on_error: self.on_error,
            strict: self.strict,
            scope: self.scope.clone(),
            tags: self.tags.clone(),
            level: Level::Shared,
            ..Put::new(self.answer.clone(), self.answer.weight())
        })
    }

    fn age(&self, wall: Wall) -> Duration {
        Duration::from_secs(wall.0.saturating_sub(self.created.0))
    }

    /// What it is worth to a request: a fresh answer that suits `wants`, to be kept here as well,
    /// and its label. `None`: at best [`Record::on_failure`] has a use for it.
    #[must_use]
    pub fn fresh(&self, wall: Wall, wants: &Wants) -> Option<(Fill<Answer>, Label)> {
        let put = self.put(wall)?;
        let left = put.ttl.unwrap_or_default();
        let suits = wants.max_age.is_none_or(|most| put.age <= most) && left >= wants.min_fresh;
        let label = Label {
            age: put.age,
            stale: Duration::ZERO,
            reason: Reason::Fresh,
            level: Level::Shared,
            negative: self.negative,
        };
        let fill = if self.negative { Fill::Absent(put) } else { Fill::Found(put) };
        suits.then_some((fill, label))
    }

    /// Whether it may be served, expired, for `reason`. See [`super::Store::on_failure`].
    #[must_use]
    pub fn on_failure(&self, wall: Wall, reason: Reason, settings: &Settings) -> Option<Label> {
        let stale = Duration::from_secs(wall.0.saturating_sub(self.expires.0));
        let bound = match (reason, self.on_error) {
            (Reason::Error, Some(own)) => own,
            _ => Duration::from_nanos(settings.bound(reason)),
        };
        let may = !self.strict && !bound.is_zero() && stale <= bound;
        may.then(|| Label {
            age: self.age(wall),
            stale,
            reason,
            level: Level::Shared,
            negative: false,
        })
    }

    /// Its bytes. `None` when something in it is longer than the form allows.
    #[must_use]
    pub fn encode(&self) -> Option<Bytes> {
        let seconds = |span: Option<Duration>| match span {
            Some(span) => u32::try_from(span.as_secs()).unwrap_or(AS_SET - 1).min(AS_SET - 1),
            None => AS_SET,
        };
        let count = |count: usize| u16::try_from(count).ok();
        if self.answer.headers.len() > MOST_HEADERS {
            return None;
        }
        let mut to = Vec::with_capacity(256 + self.answer.weight() as usize);
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0, 0]);
        to.extend_from_slice(self.key.bytes());
        to.extend_from_slice(&self.created.0.to_le_bytes());
        to.extend_from_slice(&self.expires.0.to_le_bytes());
        to.extend_from_slice(&seconds(self.revalidate).to_le_bytes());
        to.extend_from_slice(&seconds(self.on_error).to_le_bytes());
        to.push(
            u8::from(self.strict)
                | u8::from(self.negative) << 1
                | u8::from(self.scope.is_some()) << 2,
        );
        short(&mut to, self.scope.as_deref().unwrap_or("").as_bytes())?;
        to.extend_from_slice(&count(self.tags.len())?.to_le_bytes());
        for tag in &self.tags {
            short(&mut to, tag.as_bytes())?;
        }
        to.extend_from_slice(&self.answer.status.to_le_bytes());
        to.extend_from_slice(&count(self.answer.headers.len())?.to_le_bytes());
        for (name, value) in &self.answer.headers {
            short(&mut to, name.as_str().as_bytes())?;
            long(&mut to, value.as_bytes())?;
        }
        to.extend_from_slice(&count(self.answer.vary.len())?.to_le_bytes());
        for (name, values) in &self.answer.vary {
            short(&mut to, name.as_str().as_bytes())?;
            to.extend_from_slice(values.bytes());
        }
        long(&mut to, &self.answer.body)?;
        let sum = fnv(to.get(HEAD..)?).to_le_bytes();
        to.get_mut(HEAD - 8..HEAD)?.copy_from_slice(&sum);
        Some(to.into())
    }

    /// Reads a record of at most `most` bytes for `key`. Everything in it is checked.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn decode(bytes: &Bytes, key: &Key, wall: Wall, most: usize) -> Result<Record, BadRecord> {
        if bytes.len() > most {
            return Err(BadRecord::TooLarge { bytes: bytes.len(), most });
        }
        let mut from = Reader { bytes, at: 0 };
        if from.take(4).is_none_or(|magic| magic != MAGIC) {
            return Err(BadRecord::NotOurs);
        }
        let version = from.byte().ok_or(BadRecord::Damaged)?;
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let sum = from.u64().ok_or(BadRecord::Damaged)?;
        if sum != fnv(bytes.get(HEAD..).unwrap_or(&[])) {
            return Err(BadRecord::Damaged);
        }
        let record = from.record()?;
        if record.key != *key {
            return Err(BadRecord::OtherKey);
        }
        let (created, expires) = (record.created.0, record.expires.0);
        let sound = created <= wall.0.saturating_add(AHEAD)
            && created <= expires
            && expires - created <= LONGEST;
        if sound { Ok(record) } else { Err(BadRecord::Shape("time")) }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn short(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    to.extend_from_slice(&u16::try_from(bytes.len()).ok()?.to_le_bytes());
    to.extend_from_slice(bytes);
    Some(())
}

fn long(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    to.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    to.extend_from_slice(bytes);
    Some(())
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    fn word(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(self.short()?).ok().map(Arc::from)
    }

    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(self.short()?).ok()
    }

    fn record(&mut self) -> Result<Record, BadRecord> {
        let bad = |what| move || BadRecord::Shape(what);
        let key = self.array().map(Key::from_bytes).ok_or_else(bad("key"))?;
        let created = Wall(self.u64().ok_or_else(bad("time"))?);
        let expires = Wall(self.u64().ok_or_else(bad("time"))?);
        let span = |seconds| {
            (seconds != AS_SET).then(|| Duration::from_secs(u64::from(seconds).min(LONGEST)))
        };
        let revalidate = span(self.u32().ok_or_else(bad("window"))?);
        let on_error = span(self.u32().ok_or_else(bad("window"))?);
        let flags = self.byte().filter(|flags| *flags < 8).ok_or_else(bad("flags"))?;
        let scope = self.word().ok_or_else(bad("scope"))?;
        let tags = usize::from(self.u16().ok_or_else(bad("tags"))?);
        if tags > MOST_TAGS {
            return Err(BadRecord::Shape("tags"));
        }
        let tags = (0..tags).map(|_| self.word()).collect::<Option<_>>().ok_or_else(bad("tags"))?;
        let answer = self.answer()?;
        if self.at != self.bytes.len() {
            return Err(BadRecord::Shape("end"));
        }
        Ok(Record {
            key,
            created,
            expires,
            revalidate,
            on_error,
            strict: flags & 1 != 0,
            negative: flags & 2 != 0,
            scope: (flags & 4 != 0).then_some(scope),
            tags,
            answer,
        })
    }

    fn answer(&mut self) -> Result<Answer, BadRecord> {
        let bad = |what| move || BadRecord::Shape(what);
        let status = self.u16().filter(|s| (100..1_000).contains(s)).ok_or_else(bad("status"))?;
        let count = usize::from(self.u16().ok_or_else(bad("headers"))?);
        if count > MOST_HEADERS {
            return Err(BadRecord::Shape("headers"));
        }
        let mut headers = HeaderMap::with_capacity(count.min(self.bytes.len() / 6));
        for _ in 0..count {
            let name = self.name().ok_or_else(bad("headers"))?;
            let length = self.u32().ok_or_else(bad("headers"))?;
            let value = self.take(length as usize).ok_or_else(bad("headers"))?;
            let value = HeaderValue::from_bytes(value).map_err(|_| BadRecord::Shape("headers"))?;
            headers.append(name, value);
        }
        let count = usize::from(self.u16().ok_or_else(bad("vary"))?);
        if count > super::http::MOST_VARY {
            return Err(BadRecord::Shape("vary"));
        }
        let vary = (0..count).map(|_| Some((self.name()?, Key::from_bytes(self.array()?))));
        let vary = vary.collect::<Option<_>>().ok_or_else(bad("vary"))?;
        let length = self.u32().ok_or_else(bad("body"))? as usize;
        let from = self.at;
        self.take(length).ok_or_else(bad("body"))?;
        // Its own copy: a slice would keep the whole reply alive, unknown to the weight.
        let body = Bytes::copy_from_slice(&self.bytes[from..from + length]);
        Ok(Answer { status, headers, body, vary })
    }
}

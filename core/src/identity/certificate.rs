//! What a certificate says of itself, for operators and for the calendar: whose it is, its number,
//! from when to when it holds (X.509, RFC 5280 §4.1). It is read, not verified: that is for the TLS
//! library, which keeps these to itself.
//!
//! The reader of DER knows what it needs and passes over the rest. Every length is checked against
//! what is there, nothing is copied before it is bounded, and there is no recursion.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::s3::date;
use crate::time::Wall;

/// Most characters of a name that are kept.
const SHOWN: usize = 256;
/// Largest serial number, in bytes (RFC 5280 §4.1.2.2 allows 20).
const SERIAL: usize = 32;

/// A certificate as far as people ask about it. Never a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leaf {
    /// The common name of its subject, if it has one.
    pub subject: Option<Arc<str>>,
    /// Its SPIFFE id, if it has one.
    pub spiffe_id: Option<Arc<str>>,
    /// Its serial number, hexadecimal.
    pub serial: Arc<str>,
    /// It does not hold before this.
    pub not_before: Wall,
    /// Nor after this.
    pub not_after: Wall,
}

impl Leaf {
    /// The first certificate of a PEM text; `None` when there is none that can be read.
    #[must_use]
    pub fn pem(text: &[u8]) -> Option<Leaf> {
        let text = core::str::from_utf8(text).ok()?;
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
        let (inner, _) = rest.split_once("-----END CERTIFICATE-----")?;
        let base64: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        Leaf::der(&STANDARD.decode(base64).ok()?)
    }

    /// All certificates of a PEM text that can be read.
    pub fn all(text: &[u8]) -> impl Iterator<Item = Leaf> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        let text = core::str::from_utf8(text).unwrap_or_default();
        text.match_indices(BEGIN).filter_map(|(at, _)| Leaf::pem(text.get(at..)?.as_bytes()))
    }

    /// A certificate as DER; `None` when it cannot be read.
    #[must_use]
    pub fn der(bytes: &[u8]) -> Option<Leaf> {
        let (mut certificate, _) = take(bytes, SEQUENCE)?;
        let mut body = next(&mut certificate, SEQUENCE)?;
        let _version = optional(&mut body, CONTEXT_0);
        let serial = next(&mut body, INTEGER)?;
        let _algorithm = next(&mut body, SEQUENCE)?;
        let _issuer = next(&mut body, SEQUENCE)?;
        let mut validity = next(&mut body, SEQUENCE)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = common_name(next(&mut body, SEQUENCE)?);
        let _key = next(&mut body, SEQUENCE)?;
        let mut spiffe_id = None;
        while let Some((tag, content, rest)) = value(body) {
            if tag == CONTEXT_3 {
                spiffe_id = take(content, SEQUENCE).and_then(|(all, _)| spiffe(all));
            }
            body = rest;
        }
        // A zero in front says only that the number is positive.
        let digits = match serial {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        let serial = digits.iter().take(SERIAL).map(|byte| format!("{byte:02x}")).collect();
        let serial: String = serial;
        Some(Leaf { subject, spiffe_id, serial: serial.into(), not_before, not_after })
    }

    /// How it is called: by its SPIFFE id, its subject, or its number.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spiffe_id.as_deref().or(self.subject.as_deref()).unwrap_or(&self.serial)
    }

    /// Seconds from the first to the last it holds.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.not_after.0.saturating_sub(self.not_before.0)
    }
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const URI: u8 = 0x86;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_3: u8 = 0xa3;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Tag and content of the first value, and what follows it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Of what fits into memory three bytes can tell the length.
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Content of the first value, which has this tag, and what follows it.
fn take(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    value(bytes).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// The same, moving on.
fn next<'a>(bytes: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let (content, rest) = take(bytes, wanted)?;
    *bytes = rest;
    Some(content)
}

/// The same where it need not be there.
fn optional<'a>(bytes: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(bytes, wanted)
}

/// `YYMMDDHHMMSSZ`, where a year below 50 is one of this century, or `YYYYMMDDHHMMSSZ`.
fn time(bytes: &mut &[u8]) -> Option<Wall> {
    let (tag, content, rest) = value(bytes)?;
    *bytes = rest;
    let text = core::str::from_utf8(content).ok()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |from: usize| rest.get(from..from + 2);
    let (month, day, hour) = (part(0)?, part(2)?, part(4)?);
    let (minute, second, end) = (part(6)?, part(8)?, rest.get(10..)?);
    date::iso(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}{end}"))
}

fn common_name(mut names: &[u8]) -> Option<Arc<str>> {
    let mut found = None;
    // The last one is the most specific.
    while let Some(mut set) = next(&mut names, SET) {
        while let Some(pair) = next(&mut set, SEQUENCE) {
            let Some((kind, rest)) = take(pair, OID) else { continue };
            let text = value(rest).filter(|(tag, ..)| matches!(*tag, UTF8 | PRINTABLE | IA5));
            if let Some((_, text, _)) = text.filter(|_| kind == COMMON_NAME) {
                found = shown(text).or(found);
            }
        }
    }
    found
}

fn spiffe(mut extensions: &[u8]) -> Option<Arc<str>> {
    while let Some(extension) = next(&mut extensions, SEQUENCE) {
        let Some((kind, mut rest)) = take(extension, OID) else { continue };
        if kind != ALTERNATIVE_NAMES {
            continue;
        }
        let _critical = optional(&mut rest, 0x01);
        let (mut names, _) = take(take(rest, OCTETS)?.0, SEQUENCE)?;
        while let Some((tag, content, more)) = value(names) {
            if tag == URI && content.starts_with(b"spiffe://") {
                return shown(content);
            }
            names = more;
        }
    }
    None
}

/// Text for a person: bounded, and without anything a terminal would act upon.
fn shown(text: &[u8]) -> Option<Arc<str>> {
    let text = core::str::from_utf8(text).ok().filter(|text| !text.is_empty())?;
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let text: String = text.chars().take(SHOWN).map(printable).collect();
    Some(text.into())
}

#[cfg(test)]
mod tests;

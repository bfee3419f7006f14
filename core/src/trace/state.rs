//! The list of vendors, `tracestate`: passed on as it came, within the bounds of the
//! recommendation. Nothing is added to it here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Members a list has at most.
pub(super) const MEMBERS: usize = 32;
/// Characters that are passed on. More need not be, and a list is not the place for secrets or
/// essays.
pub(super) const CHARACTERS: usize = 512;
/// Members longer than this go first when the list is too long.
const LONG: usize = 128;
/// Bytes that are looked at, in all lines together.
const MOST: usize = 8_192;

/// A checked list; empty by default. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TraceState(Option<Arc<str>>);

/// The text is no list of vendors. It is not repeated: it may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tracestate is a list of at most 32 key=value, each key once")]
pub struct BadState;

impl TraceState {
    /// The list that stands in these header lines, in their order. Longer than 512 characters, it
    /// is cut by whole members: those longer than 128 first, then from the end.
    ///
    /// # Errors
    /// Anything that the recommendation calls invalid: more than 32 members, a key twice, other
    /// characters. The list is then to be left out as a whole.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<TraceState, BadState> {
        let (mut members, mut keys, mut seen) = (Vec::new(), BTreeSet::new(), 0);
        for line in lines {
            seen += line.len();
            if seen > MOST {
                return Err(BadState);
            }
            let line = std::str::from_utf8(line).map_err(|_| BadState)?;
            for member in line.split(',') {
                let member = member.trim_matches([' ', '\t']);
                if member.is_empty() {
                    continue;
                }
                let (key, value) = member.split_once('=').ok_or(BadState)?;
                let sound = is_key(key.as_bytes()) && is_value(value.as_bytes());
                if !sound || !keys.insert(key) || keys.len() > MEMBERS {
                    return Err(BadState);
                }
                members.push(member);
            }
        }
        let mut length = members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
        members.retain(|member| {
            let drop = length > CHARACTERS && member.len() > LONG;
            if drop {
                length = length.saturating_sub(member.len() + 1);
            }
            !drop
        });
        while length > CHARACTERS
            && let Some(last) = members.pop()
        {
            length = length.saturating_sub(last.len() + 1);
        }
        Ok(TraceState((!members.is_empty()).then(|| members.join(",").into())))
    }

    /// The list as one header value; `None` when it is empty.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Level 2, which is wider than level 1 by where an `@` may stand.
fn is_key(key: &[u8]) -> bool {
    let small = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let within = |b: &u8| small(b) || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256 && key.first().is_some_and(small) && key.iter().all(within)
}

fn is_value(value: &[u8]) -> bool {
    let within = |b: &u8| (0x20..=0x7e).contains(b) && *b != b',' && *b != b'=';
    (1..=256).contains(&value.len()) && value.iter().all(within) && value.last() != Some(&b' ')
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or_default())
    }
}

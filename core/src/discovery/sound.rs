//! What an instance must be to be believed when it comes from a file: bounds on everything that
//! a text can say. The address itself is checked by [`Address`]; sources that speak to a registry
//! check what they receive in their own parsers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Instance, health_path};
use crate::address::Address;

/// Services beyond this many are refused.
pub const MOST_SERVICES: usize = 10_000;
/// Instances of all services together beyond this many are refused.
pub const MOST_INSTANCES: usize = 100_000;
/// Largest weight, as in the configuration.
pub const MOST_WEIGHT: u32 = 1_000_000;
const MOST_TAGS: usize = 256;
const MOST_METADATA: usize = 128;
const LONGEST_ID: usize = 512;
const LONGEST_CLUSTER: usize = 128;
const LONGEST_TAG: usize = 512;
const LONGEST_KEY: usize = 256;
const LONGEST_VALUE: usize = 4_096;

/// What is wrong with an instance. Never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsound {
    /// Its id is empty or longer than 512 bytes.
    Id,
    /// The name of its cluster is empty, longer than 128 bytes, or has control characters.
    Cluster,
    /// Its address is none.
    Address,
    /// The port of its address is not between 1 and 65535.
    Port,
    /// Its health path is none.
    Health,
    /// Its weight is above 1 000 000.
    Weight(u32),
    /// It has more than 256 tags.
    Tags(usize),
    /// A tag is longer than 512 bytes.
    Tag,
    /// It has more than 128 entries of metadata.
    Metadata(usize),
    /// A key of its metadata is empty or longer than 256 bytes.
    Key,
    /// A value of its metadata is longer than 4096 bytes.
    Value,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsound::Id => write!(f, "its id does not have 1 to {LONGEST_ID} bytes"),
            Unsound::Cluster => f.write_str("its cluster is not a name of 1 to 128 bytes"),
            Unsound::Address => f.write_str("its address is none"),
            Unsound::Port => f.write_str("its port is not between 1 and 65535"),
            Unsound::Health => f.write_str("its health path is none"),
            Unsound::Weight(weight) => write!(f, "its weight {weight} is above {MOST_WEIGHT}"),
            Unsound::Tags(count) => write!(f, "it has {count} tags, more than {MOST_TAGS}"),
            Unsound::Tag => write!(f, "a tag is longer than {LONGEST_TAG} bytes"),
            Unsound::Metadata(count) => {
                write!(f, "it has {count} entries of metadata, more than {MOST_METADATA}")
            }
            Unsound::Key => write!(f, "a key of its metadata has not 1 to {LONGEST_KEY} bytes"),
            Unsound::Value => {
                write!(f, "a value of its metadata is longer than {LONGEST_VALUE} bytes")
            }
        }
    }
}

/// Whether `instance` is within all bounds.
///
/// # Errors
/// The first one that it is not within.
pub fn check(instance: &Instance) -> Result<(), Unsound> {
    let Instance { id, cluster, address, health, weight, tags, metadata, .. } = instance;
    if !(1..=LONGEST_ID).contains(&id.len()) {
        return Err(Unsound::Id);
    }
    check_cluster(cluster)?;
    check_port(address)?;
    if health.as_deref().is_some_and(|path| health_path::fault(path).is_some()) {
        return Err(Unsound::Health);
    }
    if *weight > MOST_WEIGHT {
        return Err(Unsound::Weight(*weight));
    }
    if tags.len() > MOST_TAGS {
        return Err(Unsound::Tags(tags.len()));
    }
    if tags.iter().any(|tag| tag.len() > LONGEST_TAG) {
        return Err(Unsound::Tag);
    }
    if metadata.len() > MOST_METADATA {
        return Err(Unsound::Metadata(metadata.len()));
    }
    for (key, value) in metadata {
        if !(1..=LONGEST_KEY).contains(&key.len()) {
            return Err(Unsound::Key);
        }
        if value.len() > LONGEST_VALUE {
            return Err(Unsound::Value);
        }
    }
    Ok(())
}

fn check_cluster(name: &str) -> Result<(), Unsound> {
    let fine = (1..=LONGEST_CLUSTER).contains(&name.len()) && !name.chars().any(char::is_control);
    if fine { Ok(()) } else { Err(Unsound::Cluster) }
}

/// The port of an HTTP address is checked when it is read; that of any other text only here.
fn check_port(address: &Address) -> Result<(), Unsound> {
    if address.is_http() {
        return Ok(());
    }
    let text = address.as_str();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let Some((host, port)) = authority.rsplit_once(':') else { return Ok(()) };
    // Without brackets the last group of an IPv6 address is no port.
    let is_port = !host.contains(':') || host.ends_with(']');
    if is_port && !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(Unsound::Port);
    }
    Ok(())
}

/// Reads `null` as the default of what is expected: an empty list, an empty map, nothing.
pub(super) fn or_null<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Role;

    fn with(change: impl FnOnce(&mut Instance)) -> Result<(), Unsound> {
        let address = Address::parse("http://a:1").unwrap();
        let mut instance = Instance::new("c".into(), Role::Backup, address);
        change(&mut instance);
        check(&instance)
    }

    #[test]
    fn each_bound_holds_and_is_named() {
        assert_eq!(with(|_| ()), Ok(()));
        let text = |n: usize| -> std::sync::Arc<str> { "x".repeat(n).into() };
        assert_eq!(with(|i| i.id = text(512)), Ok(()));
        assert_eq!(with(|i| i.id = text(513)), Err(Unsound::Id));
        assert_eq!(with(|i| i.id = "".into()), Err(Unsound::Id));
        assert_eq!(with(|i| i.cluster = "".into()), Err(Unsound::Cluster));
        assert_eq!(with(|i| i.cluster = "a\nb".into()), Err(Unsound::Cluster));
        assert_eq!(with(|i| i.health = Some("x".into())), Err(Unsound::Health));
        assert_eq!(with(|i| i.health = Some("//health".into())), Ok(()));
        assert_eq!(with(|i| i.weight = 1_000_000), Ok(()));
        assert_eq!(with(|i| i.weight = u32::MAX), Err(Unsound::Weight(u32::MAX)));
        assert_eq!(with(|i| i.tags = vec!["t".into(); 257]), Err(Unsound::Tags(257)));
        assert_eq!(with(|i| i.tags = vec![text(513)]), Err(Unsound::Tag));
        let many = (0..129).map(|n| (n.to_string().into(), "v".into()));
        assert_eq!(with(|i| i.metadata = many.collect()), Err(Unsound::Metadata(129)));
        assert_eq!(with(|i| i.metadata = [("".into(), "v".into())].into()), Err(Unsound::Key));
        let value = text(4_097);
        assert_eq!(with(|i| i.metadata = [("k".into(), value)].into()), Err(Unsound::Value));
    }

    #[test]
    fn ports_of_addresses_that_are_not_http() {
        for (text, fine) in [
            ("db:5432", true),
            ("postgres://db:5432/x", true),
            ("db", true),
            ("fe80::1", true),
            ("[fe80::1]:5432", true),
            ("[fe80::1]", true),
            ("[fe80::1]:0", false),
            ("db:0", false),
            ("db:65536", false),
            ("postgres://db:x/y", false),
            ("db:", false),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(with(|i| i.address = address).is_ok(), fine, "{text}");
        }
    }
}

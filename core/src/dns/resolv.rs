//! The system's own resolver configuration, `resolv.conf(5)`, as text: an adapter reads the file,
//! this reads what it says.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::Name;

/// Servers beyond this many are not used; the C library stops after three.
const MOST_SERVERS: usize = 8;
/// Domains beyond this many are not tried, as in the C library until 2.25.
pub(super) const MOST_DOMAINS: usize = 6;
/// The C library caps `ndots` here.
pub(super) const MOST_DOTS: u8 = 15;
/// What is looked at of the file, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// What `resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResolvConf {
    /// Servers in order of preference; never empty.
    pub servers: Vec<SocketAddr>,
    /// Domains to be tried for short names.
    pub search: Vec<Arc<str>>,
    /// Names with at least this many dots are tried as they are first.
    pub ndots: u8,
}

impl Default for ResolvConf {
    /// What an absent file means: a server on this machine.
    fn default() -> Self {
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
        ResolvConf { servers: vec![local], search: Vec::new(), ndots: 1 }
    }
}

/// Reads the text of `resolv.conf`. Nothing in it is an error: what cannot be read is skipped, as
/// the C library does; link-local servers (`fe80::1%eth0`) among it, since interfaces have no
/// numbers here.
///
/// ```
/// let conf = origin_core::dns::resolv_conf("nameserver 10.0.0.2\nsearch prod.svc.cluster.local\noptions ndots:5\n");
/// assert_eq!(conf.servers, ["10.0.0.2:53".parse().unwrap()]);
/// assert_eq!((&*conf.search[0], conf.ndots), ("prod.svc.cluster.local", 5));
/// ```
#[must_use]
pub fn resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf { servers: Vec::new(), ..ResolvConf::default() };
    let most = (0..=MOST_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    for line in text[..most.unwrap_or(0)].lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if conf.servers.len() < MOST_SERVERS => {
                let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                let server = ip.map(|ip| SocketAddr::new(ip, 53));
                conf.servers.extend(server.filter(|server| !conf.servers.contains(server)));
            }
            // The last of these lines counts.
            Some("search" | "domain") => {
                let fine = |word: &&str| Name::parse(word).is_ok();
                conf.search = words.filter(fine).take(MOST_DOMAINS).map(Arc::from).collect();
            }
            Some("options") => {
                for dots in words.filter_map(|word| word.strip_prefix("ndots:")) {
                    conf.ndots = dots.parse().map_or(conf.ndots, |dots: u8| dots.min(MOST_DOTS));
                }
            }
            _ => {}
        }
    }
    if conf.servers.is_empty() {
        conf.servers = ResolvConf::default().servers;
    }
    conf
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The forms of resolv.conf(5), and what Kubernetes, Docker and systemd-resolved write.
    #[test]
    fn known_files_are_read() {
        let kubernetes = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        let conf = resolv_conf(kubernetes);
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!((conf.search.len(), &*conf.search[1], conf.ndots), (3, "svc.cluster.local", 5));
        let systemd = "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        let conf = resolv_conf(systemd);
        assert_eq!((conf.servers.len(), conf.search.len(), conf.ndots), (1, 0, 1));
        let odd = "; c\nnameserver\t2001:db8::1 # x\nnameserver fe80::1%eth0\nnameserver x\nnameserver 2001:db8::1\nsearch a b\ndomain c\noptions ndots:99 ndots:x\nnameserver";
        let conf = resolv_conf(odd);
        assert_eq!(conf.servers, ["[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!((conf.search, conf.ndots), (vec![Arc::from("c")], 15));
    }

    #[test]
    fn nothing_means_this_machine_and_too_much_is_cut() {
        assert_eq!(resolv_conf(""), ResolvConf::default());
        let many: String = (0..99).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        assert_eq!(resolv_conf(&many).servers.len(), 8);
        let domains: String = (0..99).map(|n| format!(" d{n}")).collect();
        assert_eq!(resolv_conf(&format!("search{domains}")).search.len(), 6);
        let huge = format!("{}ß\nnameserver 10.0.0.1\n", "#".repeat(MOST_BYTES - 1));
        assert_eq!(resolv_conf(&huge), ResolvConf::default());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(nameserver|search|options|domain|ndots:|[ \\n#;.:a-z0-9]|\\PC){0,60}") {
            let conf = resolv_conf(&text);
            prop_assert!((1..=8).contains(&conf.servers.len()) && conf.search.len() <= 6);
        }
    }
}

//! What the machine around a client says: environment variables and the system's resolvers. Read
//! once, when a client is built, and only where its configuration asks for it.

use origin_core::Config;
use origin_core::discovery::Surroundings;

/// Reads what the sources of `config` need.
pub(crate) fn surroundings(config: &Config) -> Surroundings {
    let Some(discovery) = &config.discovery else { return Surroundings::default() };
    let mut around = Surroundings::default();
    if discovery.environment.enabled || discovery.consul.is_some() {
        // `std::env::vars` panics on a variable that is not Unicode.
        let variables = std::env::vars_os();
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        around.variables = variables.filter_map(text).collect();
    }
    if discovery.dns.is_some() {
        around.resolv_conf = std::fs::read_to_string("/etc/resolv.conf").ok();
    }
    around
}

//! Reading `origin.toml`. Unknown keys and values of the wrong kind are refused with their line.
//! Where a policy names a preset, what is written is laid on it, key by key; a list is replaced
//! as a whole.

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer, Error, ValueDeserializer};
use toml::{Spanned, Table, Value};

use super::{Config, ConfigError, PRESETS, Policy};

/// The key that names the preset.
const KEY: &str = "preset";

impl Config {
    /// Reads the text of an `origin.toml`. Unknown keys are refused, so that a typing error is
    /// not silently a default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use origin_core::Config;
    ///
    /// let text = r#"
    ///     [services.stamping.policy]
    ///     preset = "omninode"
    ///     deadline.total = "10s"
    ///     deadline.attempt = "4s"
    /// "#;
    /// let config = Config::from_toml(text)?;
    /// let policy = config.services["stamping"].policy.as_ref().unwrap();
    /// assert_eq!(policy.deadline.total, Duration::from_secs(10));
    /// assert_eq!(policy.retry.backoff.max, Duration::from_secs(10)); // of the preset
    ///
    /// let wrong = Config::from_toml("[policy.retry]\nmax_attemps = 3\n").unwrap_err();
    /// assert_eq!(wrong.field, "origin.toml line 2");
    /// # Ok::<(), origin_core::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] with the position and reason. Values are checked at build, not here.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let refuse = |e: &Error| refusal(text, e.span().map_or(0, |span| span.start), e.message());
        let mut document = DeTable::parse(text).map_err(|e| refuse(&e))?;
        let mut on_presets = Vec::new();
        for (place, table) in policies(document.get_mut()) {
            if let Some(preset) = table.remove(KEY) {
                let base = find(&preset, &place, text)?;
                on_presets.push((place, base, table.clone()));
            }
        }
        // All of it is read once in its own right: that finds every mistake, with its line.
        let mut config =
            Config::deserialize(Deserializer::from(document)).map_err(|e| refuse(&e))?;
        for (place, base, written) in on_presets {
            let laid_on = lay_on(&base, written).map_err(|reason| {
                ConfigError::new(place.path(), format!("cannot be laid on its preset: {reason}"))
            })?;
            if let Some(policy) = place.of(&mut config) {
                *policy = laid_on;
            }
        }
        Ok(config)
    }
}

/// A place where a policy can stand.
#[derive(Debug)]
enum Place {
    Client,
    Profile(String),
    Service(String),
    ServiceProfile(String, String),
}

impl Place {
    fn path(&self) -> String {
        match self {
            Place::Client => "policy".to_owned(),
            Place::Profile(profile) => format!("profiles.{profile}"),
            Place::Service(service) => format!("services.{service}.policy"),
            Place::ServiceProfile(service, profile) => {
                format!("services.{service}.profiles.{profile}")
            }
        }
    }

    fn of<'a>(&self, config: &'a mut Config) -> Option<&'a mut Policy> {
        match self {
            Place::Client => Some(&mut config.policy),
            Place::Profile(profile) => config.profiles.get_mut(profile),
            Place::Service(service) => config.services.get_mut(service)?.policy.as_mut(),
            Place::ServiceProfile(service, profile) => {
                config.services.get_mut(service)?.profiles.get_mut(profile)
            }
        }
    }
}

/// The tables of all policies in the document.
fn policies<'a, 'i>(document: &'a mut DeTable<'i>) -> Vec<(Place, &'a mut DeTable<'i>)> {
    let mut found = Vec::new();
    for (key, value) in document.iter_mut() {
        let DeValue::Table(table) = value.get_mut() else { continue };
        match key.get_ref().as_ref() {
            "policy" => found.push((Place::Client, table)),
            "profiles" => {
                found.extend(tables(table).map(|(name, table)| (Place::Profile(name), table)));
            }
            "services" => {
                for (service, table) in tables(table) {
                    within_service(&service, table, &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

fn within_service<'a, 'i>(
    service: &str,
    table: &'a mut DeTable<'i>,
    found: &mut Vec<(Place, &'a mut DeTable<'i>)>,
) {
    for (key, table) in tables(table) {
        let service = || service.to_owned();
        match key.as_str() {
            "policy" => found.push((Place::Service(service()), table)),
            "profiles" => found.extend(
                tables(table)
                    .map(|(profile, table)| (Place::ServiceProfile(service(), profile), table)),
            ),
            _ => {}
        }
    }
}

/// The tables in a table, with their names.
fn tables<'a, 'i>(
    table: &'a mut DeTable<'i>,
) -> impl Iterator<Item = (String, &'a mut DeTable<'i>)> {
    table.iter_mut().filter_map(|(key, value)| match value.get_mut() {
        DeValue::Table(table) => Some((key.get_ref().to_string(), table)),
        _ => None,
    })
}

/// The policy of the preset that is named at `place`.
fn find(preset: &Spanned<DeValue<'_>>, place: &Place, text: &str) -> Result<Policy, ConfigError> {
    let path = place.path();
    let refuse = |reason: &str| refusal(text, preset.span().start, reason);
    let Some(name) = preset.get_ref().as_str() else {
        return Err(refuse(&format!("{path}.preset is not a text")));
    };
    Policy::preset(name).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        let name: String = name.chars().take(64).collect();
        refuse(&format!("{path}.preset: there is no {name:?}, but {}", known.join(", ")))
    })
}

/// What is written, laid on `base`.
fn lay_on(base: &Policy, written: DeTable<'_>) -> Result<Policy, String> {
    let mut whole = Table::try_from(base).map_err(|e| e.to_string())?;
    let written = Spanned::new(0..0, DeValue::Table(written));
    let written =
        Table::deserialize(ValueDeserializer::from(written)).map_err(|e| e.message().to_owned())?;
    merge(&mut whole, written);
    Policy::deserialize(whole).map_err(|e| e.message().to_owned())
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

/// A refusal of what stands at byte `at` of the file.
fn refusal(text: &str, at: usize, reason: &str) -> ConfigError {
    let before = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    ConfigError::new(format!("origin.toml line {}", before + 1), reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Headroom, Mode};

    fn refused(text: &str) -> String {
        let e = Config::from_toml(text).unwrap_err();
        format!("{}: {}", e.field, e.reason)
    }

    /// What is wrong, in the very words, with the line on which it stands.
    #[test]
    fn mistakes_are_refused_with_their_line() {
        for (text, words) in [
            ("[policy.retry]\nmax_attemps = 3\n", "line 2: unknown field `max_attemps`"),
            ("[policy]\npreset = \"off\"\nretry.max_attemps = 3\n", "line 3: unknown field"),
            ("[policy]\n\n[policy.queue]\ncapacity = -1\n", "line 4: invalid value"),
            ("seed = 1\n[policy.breaker]\nopen = 5\n", "line 3: invalid type"),
            ("[policy]\nprest = \"off\"\n", "line 2: unknown field `prest`"),
            ("preset = \"off\"\n", "line 1: unknown field `preset`"),
            ("[policy.retry]\npreset = \"off\"\n", "line 2: unknown field `preset`"),
            ("[policy]\npreset = 3\n", "line 2: policy.preset is not a text"),
            (
                "[profiles.slow]\n[services.a.profiles.b]\npreset = \"aws\"\n",
                "line 3: services.a.profiles.b.preset: there is no \"aws\", but origin, omninode, \
                 designsynapse, datapunk, envoy-like, aws-like, off",
            ),
            ("[policy\n", "line 1: "),
        ] {
            let got = refused(text);
            assert!(got.starts_with(&format!("origin.toml {words}")), "{text:?} gave {got:?}");
        }
    }

    #[test]
    fn a_preset_alone_is_that_preset_wherever_it_stands() {
        for (name, _) in PRESETS {
            let policy = Policy::preset(name).unwrap();
            let text = format!(
                "[policy]\npreset = \"{name}\"\n[profiles.p]\npreset = \"{name}\"\n\
                 [services.s.policy]\npreset = \"{name}\"\n\
                 [services.s.profiles.q]\npreset = \"{name}\"\n"
            );
            let mut config = Config::from_toml(&text).unwrap();
            for place in [
                Place::Client,
                Place::Profile("p".into()),
                Place::Service("s".into()),
                Place::ServiceProfile("s".into(), "q".into()),
            ] {
                let got = place.of(&mut config).unwrap();
                assert_eq!(*got, policy, "{name} at {}", place.path());
                crate::config::Rules::of(got, "p").unwrap();
            }
        }
    }

    #[test]
    fn what_is_written_is_laid_on_the_preset_in_any_order() {
        let text = r#"
            [services.s.policy.breaker]
            minimum_throughput = 10
            failure_rate = 0.25
            [services.s.policy.retry.on]
            statuses = [502]
            [services.s.policy]
            preset = "omninode"
            expected_rate = 20
        "#;
        let config = Config::from_toml(text).unwrap();
        let got = config.services["s"].policy.clone().unwrap();
        let mut want = Policy::preset("omninode").unwrap();
        (want.breaker.minimum_throughput, want.breaker.failure_rate) = (10, Some(0.25));
        want.retry.on.statuses = vec![502];
        want.expected_rate = Some(20.0);
        assert_eq!(got, want);
        // "off" takes a value away that the preset has, and a value one that it has not.
        let text = "[policy]\npreset = \"datapunk\"\nbreaker.failures = \"off\"\n\
                    concurrency.headroom = \"root\"\nbreaker.mode = \"shadow\"\n";
        let policy = Config::from_toml(text).unwrap().policy;
        assert_eq!((policy.breaker.failures, policy.breaker.mode), (None, Mode::Shadow));
        assert_eq!(policy.concurrency.headroom, Headroom::Root);
        assert_eq!(policy.breaker.open, Duration::from_secs(60));
    }

    /// What TOML can say and a check must refuse reaches the check.
    #[test]
    fn nan_in_a_file_is_refused_by_its_field() {
        for preset in ["", "preset = \"origin\"\n"] {
            let text = format!("[policy]\n{preset}budget.ratio = nan\n");
            let policy = Config::from_toml(&text).unwrap().policy;
            let refused = crate::config::Rules::of(&policy, "policy").unwrap_err();
            assert_eq!(refused.field, "policy.budget.ratio");
        }
    }

    #[test]
    fn a_seed_beyond_the_range_of_toml_survives_beside_a_preset() {
        let text = "seed = 18446744073709551615\n[policy]\npreset = \"off\"\n";
        assert_eq!(Config::from_toml(text).unwrap().seed, Some(u64::MAX));
    }
}

//! What entries suggest, as the rules of one service.

use std::sync::Arc;
use std::time::Duration;

use super::Suggestion;
use crate::config::{Config, ConfigError, Limits, Policy, Rules};

impl Suggestion {
    /// The rules and profiles of `service` by `config`, with this where it leaves something open.
    ///
    /// # Errors
    /// Those of [`Config::rules_for`].
    #[allow(clippy::type_complexity)] // that of `rules_for`
    pub fn rules(
        &self,
        config: &Config,
        service: &str,
    ) -> Result<(Rules, Vec<(Arc<str>, Rules)>), ConfigError> {
        if *self == Suggestion::default() {
            return config.rules_for(service);
        }
        let mut only = Config {
            policy: config.policy.clone(),
            profiles: config.profiles.clone(),
            ..Config::default()
        };
        if let Some(own) = config.services.get(service) {
            only.services.insert(service.to_owned(), own.clone());
        }
        // The limits of a client are no rules of a service.
        let mut limits = Limits::default();
        let mut fill = |policy: &mut Policy| self.apply(&mut policy.deadline, &mut limits);
        fill(&mut only.policy);
        only.profiles.values_mut().for_each(&mut fill);
        for own in only.services.values_mut() {
            own.policy.iter_mut().chain(own.profiles.values_mut()).for_each(&mut fill);
        }
        only.rules_for(service)
    }

    /// How long connecting may take, and how long a connection may idle, for the client as a whole:
    /// by `config`, and by this where it leaves them open. An idle time that is not the default was
    /// meant.
    ///
    /// # Errors
    /// Those of [`Rules::of`].
    pub fn client(&self, config: &Config) -> Result<(Duration, Duration), ConfigError> {
        let (mut policy, mut limits) = (config.policy.clone(), config.limits.clone());
        self.apply(&mut policy.deadline, &mut limits);
        let own = config.limits.idle_timeout;
        let meant = own != Limits::default().idle_timeout;
        let idle = if meant { own } else { limits.idle_timeout };
        Ok((Rules::of(&policy, "policy")?.connect, idle))
    }
}

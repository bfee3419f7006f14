//! What the desk goes by.

use std::fmt;

use crate::config::{ConfigError, VaultConfig};
use crate::secret::Secret;
use crate::vault::keeper::{self, How};
use crate::vault::leases;
use crate::vault::settings::{Auth, Settings};

/// The settings of the desk, and what stands in the environment.
#[derive(Clone)]
pub struct Rules {
    /// Vault itself.
    pub vault: Settings,
    pub(super) keeper: keeper::Settings,
    pub(super) leases: leases::Settings,
    /// The token, or the secret id of the login.
    pub(super) given: Option<Secret>,
}

impl Rules {
    /// Checks `config`, which stands at `path`, and compiles it; `variable` reads an environment
    /// variable. A token that is not there is no error: calls that need one say so (000-03).
    ///
    /// # Errors
    /// The first field that cannot be meant; a secret id that was asked for and is not there.
    pub fn of(
        config: &VaultConfig,
        path: &str,
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<Rules, ConfigError> {
        let vault = Settings::of(config, path)?;
        let name = vault.auth().env();
        let given = name.and_then(|name| variable(name)).and_then(|text| Secret::new(&text));
        if let (Auth::AppRole { env: Some(name), .. }, None) = (vault.auth(), &given) {
            let field = format!("{path}.auth.approle.secret_id_env");
            return Err(ConfigError::new(field, format!("the variable {name:?} is not set")));
        }
        Ok(Rules::with(vault, given))
    }

    /// The rules for a token that the program gives, or will give.
    #[must_use]
    pub fn with(vault: Settings, given: Option<Secret>) -> Rules {
        let how = match vault.auth() {
            Auth::Given | Auth::Env(_) => How::Given,
            Auth::File { poll, .. } => How::File { poll: *poll },
            login => How::Login { reads: login.file().is_some() },
        };
        let (keeper, leases) = (keeper::Settings::of(how, &vault), leases::Settings::of(&vault));
        Rules { vault, keeper, leases, given }
    }

    /// The same with the token that the program gives.
    ///
    /// # Errors
    /// The settings, which stand at `path`, get it from elsewhere: which of the two is meant?
    pub fn given(self, token: Secret, path: &str) -> Result<Rules, ConfigError> {
        match self.vault.auth() {
            Auth::Given => Ok(Rules { given: Some(token), ..self }),
            other => {
                let word = other.word();
                let reason = format!("is {word}, and the program gives a token as well: say one");
                Err(ConfigError::new(format!("{path}.auth"), reason))
            }
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("vault", &self.vault).finish_non_exhaustive()
    }
}

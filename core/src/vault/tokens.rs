//! Who has the token of the moment. What a token is as text is in [`crate::secret`].

use super::event::Trouble;
use super::lease::{Lease, LeaseId};
use crate::secret::Secret;

/// Whoever has the token of the moment. A driver implements it over its locks; a token that never
/// changes is one as well.
pub trait Tokens: Send + Sync {
    /// The token, if there is one.
    fn token(&self) -> Option<Secret>;

    /// Vault has answered 403 to it. It may be revoked, or only not allowed this.
    fn doubted(&self) {}

    /// Why there is none, where somebody has tried to get one.
    fn trouble(&self) -> Option<Trouble> {
        None
    }

    /// Looks after a lease from now on. `false`: nobody does, or there are too many.
    fn adopt(&self, _: &Lease) -> bool {
        false
    }

    /// Gives a lease back that is looked after. `false`: it is not.
    fn release(&self, _: &LeaseId) -> bool {
        false
    }
}

impl Tokens for Option<Secret> {
    fn token(&self) -> Option<Secret> {
        self.clone()
    }
}

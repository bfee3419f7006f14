//! Whose certificates count for a target: the application's own, those for the agents of Consul, or
//! those of the mesh. Three walls, so that nobody vouches for what is not theirs: an authority of
//! the mesh for no other https service, and the one of the agents for neither. Plain data; how it is
//! enforced is in `tls/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::expect::Target;
use crate::identity::Identity;
use crate::roots::Roots;

/// Whose certificates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Realm {
    /// The application's own.
    Own,
    /// Those for the agents of Consul.
    Agents,
    /// Those of Consul Connect.
    Mesh,
}

/// Whom to believe, and what to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `None`: the application's own.
    pub(crate) roots: Option<Roots>,
    pub(crate) identity: Option<Identity>,
}

/// Who a target of the mesh is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// An instance of this service.
    Service(Arc<str>),
    /// Of two services, says Consul. One certificate cannot be of both, and connections are
    /// shared: believing either would let it answer for the other.
    Contested,
}

/// The targets of the mesh.
pub(crate) type Places = BTreeMap<Target, Place>;

/// What TLS is told besides what the application says. Opaque: adapters hand it on.
#[derive(Clone, Debug, Default)]
pub struct Realms {
    pub(crate) agents: Option<Credentials>,
    pub(crate) agent_targets: BTreeSet<Target>,
}

/// One change of it.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "rustls"), allow(dead_code))] // what is told is enforced there only
pub(crate) enum RealmChange {
    /// Other certificates for the agents.
    Agents(Credentials),
    /// Other certificates of the mesh, and its trust domain; `None`: there are none.
    Mesh(Option<(Credentials, Arc<str>)>),
    /// Other targets of the mesh.
    Places(Places),
}

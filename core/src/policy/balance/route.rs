//! Routes: which endpoints a call may go to, by the metadata that discovery gave them
//! (004-04). The conditions are evaluated when endpoints or routes change and leave two bits per
//! endpoint and route; a pick tests one bit of a word.
//!
//! Required and excluded metadata decide whether an endpoint is used at all: if none fits, the
//! call is refused rather than sent somewhere it must not go. A preference only orders: while an
//! endpoint that is preferred is acceptable it is used, then any that fits. (In a long list the
//! picks of [`super::choose`] look at a sample. Where less than one in about ten endpoints is
//! preferred, some calls miss them; a strict rule is a requirement.)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Match, RouteConfig};

/// Metadata of an endpoint.
pub type Metadata = BTreeMap<Arc<str>, Arc<str>>;

/// Routes in all, the default one included.
pub const MOST_ROUTES: usize = 16;
/// Conditions of one list, and values of one condition.
const MOST_CONDITIONS: usize = 64;
/// Longest key and value: the limits of Consul (004-81).
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 512;
/// The route of calls that name none.
const DEFAULT: &str = "default";

/// A route of [`Routes`], as one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteId(u16);

impl Default for RouteId {
    fn default() -> Self {
        RouteId::DEFAULT
    }
}

impl RouteId {
    /// The route of calls that name none.
    pub const DEFAULT: RouteId = RouteId(1);
}

/// What routes say about one endpoint. 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tags {
    fits: u16,
    preferred: u16,
}

impl Default for Tags {
    fn default() -> Self {
        Tags::ALL
    }
}

impl Tags {
    /// Fits every route and is preferred by all: an endpoint where nothing is configured.
    pub const ALL: Tags = Tags { fits: u16::MAX, preferred: u16::MAX };

    /// Whether `route` may use the endpoint.
    #[must_use]
    #[inline]
    pub const fn fits(self, route: RouteId) -> bool {
        self.fits & route.0 != 0
    }

    /// Whether it may and prefers it; a route without preference prefers all it may use.
    #[must_use]
    #[inline]
    pub const fn preferred(self, route: RouteId) -> bool {
        self.fits & self.preferred & route.0 != 0
    }
}

/// One compiled condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Test {
    Present,
    Absent,
    /// Sorted.
    OneOf(Vec<Arc<str>>),
}

impl Test {
    fn holds(&self, value: Option<&Arc<str>>) -> bool {
        match self {
            Test::Present => value.is_some(),
            Test::Absent => value.is_none(),
            Test::OneOf(list) => value.is_some_and(|value| list.binary_search(value).is_ok()),
        }
    }
}

/// Conditions on metadata: all of `require` hold and none of `exclude`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Predicate {
    require: Vec<(Arc<str>, Test)>,
    exclude: Vec<(Arc<str>, Test)>,
}

impl Predicate {
    /// Checks and compiles. Without any condition it holds for everything.
    ///
    /// # Errors
    /// An empty or too long key or value, an empty list of values, too many of either, or a
    /// condition that is required and excluded at once.
    pub fn of(
        require: &BTreeMap<String, Match>,
        exclude: &BTreeMap<String, Match>,
        path: &str,
    ) -> Result<Predicate, ConfigError> {
        let compiled = Predicate {
            require: compile(require, &format!("{path}.require"))?,
            exclude: compile(exclude, &format!("{path}.exclude"))?,
        };
        for (key, test) in &compiled.exclude {
            // Every value that satisfies the requirement is excluded.
            let contradicts = |required: &Test| match (required, test) {
                (Test::OneOf(wanted), Test::OneOf(out)) => {
                    wanted.iter().all(|value| out.binary_search(value).is_ok())
                }
                (Test::OneOf(_) | Test::Present, Test::Present) => true,
                (Test::Absent, Test::Absent) => true,
                _ => false,
            };
            if compiled
                .require
                .iter()
                .any(|(other, required)| other == key && contradicts(required))
            {
                return Err(ConfigError::new(
                    format!("{path}.exclude.{key}"),
                    format!("excludes all that {path}.require.{key} asks for: nothing could match"),
                ));
            }
        }
        Ok(compiled)
    }

    /// Whether it has no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.require.is_empty() && self.exclude.is_empty()
    }

    /// Whether an endpoint with this metadata satisfies it.
    #[must_use]
    pub fn holds(&self, metadata: &Metadata) -> bool {
        let test = |(key, test): &(Arc<str>, Test)| test.holds(metadata.get(key));
        self.require.iter().all(test) && !self.exclude.iter().any(test)
    }
}

fn compile(
    conditions: &BTreeMap<String, Match>,
    path: &str,
) -> Result<Vec<(Arc<str>, Test)>, ConfigError> {
    if conditions.len() > MOST_CONDITIONS {
        let reason = format!("{} conditions are more than {MOST_CONDITIONS}", conditions.len());
        return Err(ConfigError::new(path, reason));
    }
    let mut compiled = Vec::with_capacity(conditions.len());
    for (key, wanted) in conditions {
        let field = format!("{path}.{key}");
        if key.is_empty() || key.len() > LONGEST_KEY {
            let reason = format!("a metadata key has 1 to {LONGEST_KEY} bytes, not {}", key.len());
            return Err(ConfigError::new(field, reason));
        }
        let values = match wanted {
            Match::Present(true) => {
                compiled.push((key.as_str().into(), Test::Present));
                continue;
            }
            Match::Present(false) => {
                compiled.push((key.as_str().into(), Test::Absent));
                continue;
            }
            Match::Equals(value) => std::slice::from_ref(value),
            Match::OneOf(values) => values,
        };
        if values.is_empty() || values.len() > MOST_CONDITIONS {
            let reason =
                format!("a list of values has 1 to {MOST_CONDITIONS}, not {}", values.len());
            return Err(ConfigError::new(field, reason));
        }
        if let Some(value) = values.iter().find(|value| value.len() > LONGEST_VALUE) {
            let reason =
                format!("a metadata value has at most {LONGEST_VALUE} bytes, not {}", value.len());
            return Err(ConfigError::new(field, reason));
        }
        let mut list: Vec<Arc<str>> = values.iter().map(|value| value.as_str().into()).collect();
        list.sort();
        list.dedup();
        compiled.push((key.as_str().into(), Test::OneOf(list)));
    }
    Ok(compiled)
}

/// All routes, compiled. When they change, endpoints are tagged anew; nothing else remembers.
///
/// ```
/// use std::collections::BTreeMap;
/// use origin_core::config::{Match, RouteConfig};
/// use origin_core::policy::balance::route::{RouteId, Routes};
///
/// let canary = RouteConfig {
///     require: BTreeMap::from([("version".to_owned(), Match::Equals("2".to_owned()))]),
///     ..RouteConfig::default()
/// };
/// let config = BTreeMap::from([("canary".to_owned(), canary)]);
/// let routes = Routes::of(&config, "policy.balance.routes")?;
/// let tags = routes.tags(&BTreeMap::from([("version".into(), "1".into())]));
/// assert!(tags.fits(RouteId::DEFAULT));
/// assert!(!tags.fits(routes.find("canary").unwrap()));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Routes {
    /// By number; the default route is the first.
    routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Route {
    name: Arc<str>,
    fits: Predicate,
    prefers: Predicate,
}

impl Default for Routes {
    fn default() -> Self {
        let route = Route {
            name: DEFAULT.into(),
            fits: Predicate::default(),
            prefers: Predicate::default(),
        };
        Routes { routes: vec![route] }
    }
}

impl Routes {
    /// Checks and compiles `config`. Without a route `default`, that one accepts everything.
    ///
    /// # Errors
    /// Too many routes, an empty name, or what [`Predicate::of`] refuses.
    pub fn of(config: &BTreeMap<String, RouteConfig>, path: &str) -> Result<Routes, ConfigError> {
        let mut routes = Routes::default();
        let count = config.len() + usize::from(!config.contains_key(DEFAULT));
        if count > MOST_ROUTES {
            let reason = format!("{count} routes, `default` included, are more than {MOST_ROUTES}");
            return Err(ConfigError::new(path, reason));
        }
        for (name, route) in config {
            let path = format!("{path}.{name}");
            if name.is_empty() || name.len() > LONGEST_KEY {
                let reason = format!("a route's name has 1 to {LONGEST_KEY} bytes");
                return Err(ConfigError::new(path, reason));
            }
            let fits = Predicate::of(&route.require, &route.exclude, &path)?;
            let prefer = compile(&route.prefer, &format!("{path}.prefer"))?;
            let prefers = Predicate { require: prefer, exclude: Vec::new() };
            let route = Route { name: name.as_str().into(), fits, prefers };
            if name == DEFAULT {
                routes.routes[0] = route;
            } else {
                routes.routes.push(route);
            }
        }
        Ok(routes)
    }

    /// The route with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<RouteId> {
        let number = self.routes.iter().position(|route| &*route.name == name)?;
        Some(RouteId(1 << number))
    }

    /// Whether `route` excludes any endpoint.
    #[must_use]
    pub fn restricts(&self, route: RouteId) -> bool {
        self.route(route).is_some_and(|route| !route.fits.is_empty())
    }

    /// Whether `route` prefers some of its endpoints.
    #[must_use]
    pub fn prefers(&self, route: RouteId) -> bool {
        self.route(route).is_some_and(|route| !route.prefers.is_empty())
    }

    #[inline]
    fn route(&self, route: RouteId) -> Option<&Route> {
        self.routes.get(route.0.trailing_zeros() as usize)
    }

    /// The name of `route`.
    #[must_use]
    pub fn name(&self, route: RouteId) -> Option<&str> {
        let number = route.0.trailing_zeros() as usize;
        self.routes.get(number).map(|route| &*route.name)
    }

    /// What the routes say about an endpoint with this metadata.
    #[must_use]
    pub fn tags(&self, metadata: &Metadata) -> Tags {
        let mut tags = Tags { fits: 0, preferred: 0 };
        for (number, route) in self.routes.iter().enumerate() {
            tags.fits |= u16::from(route.fits.holds(metadata)) << number;
            tags.preferred |= u16::from(route.prefers.holds(metadata)) << number;
        }
        tags
    }
}

/// No endpoint fits the route of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoneFits {
    /// The route.
    pub route: Arc<str>,
    /// How many endpoints there are.
    pub endpoints: u32,
}

impl fmt::Display for NoneFits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} endpoints fits the route {}", self.endpoints, self.route)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conditions(list: &[(&str, Match)]) -> BTreeMap<String, Match> {
        list.iter().map(|(key, wanted)| ((*key).to_owned(), wanted.clone())).collect()
    }

    fn is(value: &str) -> Match {
        Match::Equals(value.to_owned())
    }

    fn one_of(values: &[&str]) -> Match {
        Match::OneOf(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn metadata(list: &[(&str, &str)]) -> Metadata {
        list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn refused(routes: &[(&str, RouteConfig)]) -> String {
        let routes = routes.iter().map(|(n, r)| ((*n).to_owned(), r.clone())).collect();
        Routes::of(&routes, "routes").unwrap_err().field
    }

    #[test]
    fn case_004_04_metadata_steers_routing() {
        let none = BTreeMap::new();
        let a = metadata(&[("zone", "a"), ("version", "2"), ("gpu", "")]);
        let b = metadata(&[("zone", "b"), ("version", "1")]);
        let holds = |require: &[(&str, Match)], exclude: &[(&str, Match)]| {
            let p = Predicate::of(&conditions(require), &conditions(exclude), "p").unwrap();
            (p.holds(&a), p.holds(&b), p.holds(&Metadata::new()))
        };
        assert!(Predicate::of(&none, &none, "p").unwrap().holds(&a));
        assert_eq!(holds(&[("zone", is("a"))], &[]), (true, false, false));
        assert_eq!(holds(&[("zone", one_of(&["b", "a"]))], &[]), (true, true, false));
        assert_eq!(holds(&[("gpu", Match::Present(true))], &[]), (true, false, false));
        assert_eq!(holds(&[("gpu", Match::Present(false))], &[]), (false, true, true));
        assert_eq!(holds(&[("zone", is("a")), ("version", is("1"))], &[]), (false, false, false));
        assert_eq!(holds(&[], &[("version", one_of(&["1", "0"]))]), (true, false, true));
        assert_eq!(holds(&[], &[("zone", is("a")), ("version", is("1"))]), (false, false, true));
        assert_eq!(
            holds(&[("zone", one_of(&["a", "b"]))], &[("zone", is("a"))]),
            (false, true, false)
        );
    }

    #[test]
    fn preferences_order_and_requirements_decide() {
        let canary = RouteConfig {
            require: conditions(&[("version", is("2"))]),
            prefer: conditions(&[("zone", is("a"))]),
            ..RouteConfig::default()
        };
        let default =
            RouteConfig { exclude: conditions(&[("version", is("2"))]), ..RouteConfig::default() };
        let config = BTreeMap::from([("canary".to_owned(), canary), (DEFAULT.to_owned(), default)]);
        let routes = Routes::of(&config, "routes").unwrap();
        let canary = routes.find("canary").unwrap();
        assert_eq!(routes.find(DEFAULT), Some(RouteId::DEFAULT));
        assert_eq!((routes.name(canary), routes.find("other")), (Some("canary"), None));
        let far = routes.tags(&metadata(&[("version", "2"), ("zone", "b")]));
        let near = routes.tags(&metadata(&[("version", "2"), ("zone", "a")]));
        let old = routes.tags(&metadata(&[("version", "1"), ("zone", "a")]));
        let says = |tags: Tags, route| (tags.fits(route), tags.preferred(route));
        assert_eq!(says(far, canary), (true, false));
        assert_eq!(says(near, canary), (true, true));
        assert_eq!(says(old, canary), (false, false), "preferred does not mean fit");
        assert_eq!(says(near, RouteId::DEFAULT), (false, false));
        assert_eq!(says(old, RouteId::DEFAULT), (true, true), "no preference prefers all");
        assert_eq!(Routes::default().tags(&Metadata::new()), Tags { fits: 1, preferred: 1 });
    }

    #[test]
    fn bad_routes_name_the_field() {
        let require = |list: &[(&str, Match)]| RouteConfig {
            require: conditions(list),
            ..RouteConfig::default()
        };
        let long = "x".repeat(513);
        assert_eq!(refused(&[("", RouteConfig::default())]), "routes.");
        assert_eq!(refused(&[("r", require(&[("", is("a"))]))]), "routes.r.require.");
        assert_eq!(refused(&[("r", require(&[("k", is(&long))]))]), "routes.r.require.k");
        assert_eq!(refused(&[("r", require(&[("k", one_of(&[]))]))]), "routes.r.require.k");
        let prefer =
            RouteConfig { prefer: conditions(&[("k", one_of(&[]))]), ..RouteConfig::default() };
        assert_eq!(refused(&[("r", prefer)]), "routes.r.prefer.k");
        for (wanted, out) in [
            (is("a"), is("a")),
            (one_of(&["a", "b"]), one_of(&["b", "c", "a"])),
            (is("a"), Match::Present(true)),
            (Match::Present(true), Match::Present(true)),
            (Match::Present(false), Match::Present(false)),
        ] {
            let mut route = require(&[("k", wanted)]);
            route.exclude = conditions(&[("k", out)]);
            assert_eq!(refused(&[("r", route)]), "routes.r.exclude.k");
        }
        let many: Vec<String> = (0..16).map(|n| format!("r{n}")).collect();
        let routes: Vec<(&str, RouteConfig)> =
            many.iter().map(|name| (name.as_str(), RouteConfig::default())).collect();
        assert_eq!(refused(&routes), "routes");
        let fifteen = routes[..15].iter().map(|(n, r)| ((*n).to_owned(), r.clone())).collect();
        let routes = Routes::of(&fifteen, "routes").unwrap();
        assert!(routes.tags(&Metadata::new()).fits(routes.find("r14").unwrap()));
    }

    #[cfg(feature = "toml")]
    #[test]
    fn toml_as_a_person_writes_it() {
        let text = "[routes.canary]\nrequire = { version = [\"2\", \"3\"], gpu = true }\n\
                    exclude = { state = \"draining\" }\nprefer = { zone = \"a\" }\n";
        let config: crate::config::BalanceConfig = toml::from_str(text).unwrap();
        let canary = &config.routes["canary"];
        assert_eq!(canary.require["version"], one_of(&["2", "3"]));
        assert_eq!(canary.require["gpu"], Match::Present(true));
        assert_eq!(canary.exclude["state"], is("draining"));
        let error = toml::from_str::<crate::config::BalanceConfig>(
            "[routes.canary]\nrequire = { version = 2 }\n",
        );
        assert!(error.unwrap_err().to_string().contains("a list of texts"));
    }

    proptest! {
        /// Against the definition, over a small universe of keys and values.
        #[test]
        fn tags_are_the_definition(
            routes in proptest::collection::vec(proptest::collection::vec((0_u8..3, 0_u8..3, 0_u8..5), 0..4), 0..15),
            has in proptest::collection::btree_map(0_u8..3, 0_u8..3, 0..4),
        ) {
            let wanted = |value: u8| match value {
                0 => Match::Present(true),
                1 => Match::Present(false),
                2 => one_of(&["0", "1"]),
                value => is(&(value - 3).to_string()),
            };
            let holds = |key: u8, value: u8| match (value, has.get(&key)) {
                (0, found) => found.is_some(),
                (1, found) => found.is_none(),
                (2, found) => found.is_some_and(|v| *v < 2),
                (value, found) => found == Some(&(value - 3)),
            };
            let mut config = BTreeMap::new();
            for (number, list) in routes.iter().enumerate() {
                let mut route = RouteConfig::default();
                for (role, key, value) in list {
                    let map = match role {
                        0 => &mut route.require,
                        1 => &mut route.exclude,
                        _ => &mut route.prefer,
                    };
                    map.insert(key.to_string(), wanted(*value));
                }
                config.insert(format!("r{number}"), route);
            }
            let Ok(compiled) = Routes::of(&config, "routes") else {
                // Refused as a contradiction: then really nothing fits.
                return Ok(());
            };
            let metadata: Metadata =
                has.iter().map(|(k, v)| (k.to_string().into(), v.to_string().into())).collect();
            let tags = compiled.tags(&metadata);
            for (number, list) in routes.iter().enumerate() {
                let route = compiled.find(&format!("r{number}")).unwrap();
                // The last of a role and key counts, as in the map.
                let last: BTreeMap<(u8, u8), u8> =
                    list.iter().map(|(role, key, value)| ((*role, *key), *value)).collect();
                let all = |role| last.iter().filter(move |((r, _), _)| *r == role);
                let fits = all(0).all(|((_, k), v)| holds(*k, *v))
                    && !all(1).any(|((_, k), v)| holds(*k, *v));
                let prefers = all(2).all(|((_, k), v)| holds(*k, *v));
                prop_assert_eq!(tags.fits(route), fits);
                prop_assert_eq!(tags.preferred(route), fits && prefers);
            }
        }
    }
}

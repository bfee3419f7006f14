//! The client and its builder: the same for every runtime.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use origin_core::config::{DiscoveryConfig, EndpointConfig, Policy, Rules};
use origin_core::learned::Learned;
use origin_core::notice::Notice;
use origin_core::ops::bridge::{self, Bridge};
use origin_core::ops::design::{Analytics, Designs, Knowledge, Marketplace, Projects, Users};
use origin_core::ops::origin_vault::{self, Credentials};
use origin_core::ops::storage::{Object, SERVICE, Streams};
use origin_core::ops::{Caller, Composer, Flow};
use origin_core::s3;
use origin_core::snapshot::Snapshot;
use origin_core::trace::TraceContext;
use origin_core::{Config, ConfigError, Correlation, Error, Secret};

use crate::around;
use crate::checks;
use crate::consul::Consul;
use crate::custom::CheckTarget;
use crate::download::Download;
use crate::expect::{Expect, Expectations};
use crate::hub::{Customs, Hub};
use crate::identity::Identity;
use crate::observe::bell::Bell;
use crate::observe::context::Source;
use crate::origin_vault::Purse;
use crate::own::{self, Own, Start};
use crate::request::Upstream;
use crate::roots::Roots;
use crate::runtime::{Options, Runtime};
use crate::upload::Upload;

/// A client. Cheap to clone; all clones share breakers, budgets, connections and discovery.
/// Dropping the last one ends its background work; [`Client::close`] does that in an orderly way.
pub struct Client<R: Runtime> {
    pub(crate) hub: Arc<Hub<R>>,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Client { hub: self.hub.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.hub.source(""))
    }
}

impl<R: Runtime> Client<R> {
    /// Starts building a client.
    #[must_use]
    pub fn builder() -> Builder<R> {
        Builder {
            config: Config::default(),
            token: None,
            origin_vault: None,
            service_token: None,
            roots: Roots::default(),
            identity: None,
            expect: Expectations::new(),
            customs: Customs::new(),
            trouble: None,
            trace_source: None,
            learned: None,
            runtime: std::marker::PhantomData,
        }
    }

    /// The service called `name`, for requests of your own. Keep the handle: it is cheap to clone.
    ///
    /// # Errors
    /// [`Error::UnknownService`] when the present discovery document, or the configuration, does
    /// not know it; before the first document that shows with the first call instead.
    pub fn service(&self, name: &str) -> Result<Upstream<R>, Error> {
        Ok(Upstream::new(self.hub.clone(), self.hub.slot(name)?))
    }

    /// The services of the `OmniNode` bridge, `metadata-stamping` and `onextree`.
    #[must_use]
    pub fn bridge(&self) -> Bridge<Client<R>> {
        Bridge::new(self.clone())
    }

    /// A client of the platform DesignSynapse, with no arguments: its services are where the
    /// environment says and its policies those of [`Config::design_synapse`]. Change that by
    /// `Client::builder().config(…)`.
    ///
    /// # Errors
    /// [`ConfigError`] that names the variable which cannot be used.
    pub fn design_synapse() -> Result<Client<R>, ConfigError> {
        Client::builder().config(Config::design_synapse()).build()
    }

    /// Users, roles and signing in: the service `user-service`.
    #[must_use]
    pub fn users(&self) -> Users<Client<R>> {
        Users::new(self.clone())
    }

    /// Projects and comments: the service `project-service`.
    #[must_use]
    pub fn projects(&self) -> Projects<Client<R>> {
        Projects::new(self.clone())
    }

    /// Resources, search, citations: the service `knowledge-service`.
    #[must_use]
    pub fn knowledge(&self) -> Knowledge<Client<R>> {
        Knowledge::new(self.clone())
    }

    /// Designs: the service `design-service`.
    #[must_use]
    pub fn designs(&self) -> Designs<Client<R>> {
        Designs::new(self.clone())
    }

    /// Analytics: the service `analytics-service`.
    #[must_use]
    pub fn analytics(&self) -> Analytics<Client<R>> {
        Analytics::new(self.clone())
    }

    /// The marketplace: the service `marketplace-service`.
    #[must_use]
    pub fn marketplace(&self) -> Marketplace<Client<R>> {
        Marketplace::new(self.clone())
    }

    /// Consul: own registrations, and typed calls to its agents.
    ///
    /// # Errors
    /// [`Error::Config`] when `discovery.consul` is not configured, or switched off.
    pub fn consul(&self) -> Result<Consul<R>, Error> {
        Consul::of(&self.hub)
    }

    /// Everything the client knows at this moment: health, breakers, last successes, failures,
    /// primaries and backups, discovery with its age, recent notices.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.hub.snapshot()
    }

    /// Recent notices of discovery and all services, oldest first: every connection issue, breaker
    /// change, failover and discovery trouble, each once.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.hub.notices()
    }

    /// The configuration it was built from, the seed filled in.
    #[must_use]
    pub fn config(&self) -> Config {
        Config { seed: Some(self.hub.seed), ..Config::clone(&self.hub.config()) }
    }

    /// Puts another configuration in force while the client runs: policies, profiles, endpoints of
    /// configured services, body limits. Calls under way go on; what each policy keeps of its
    /// state is said in [`origin_core::Service::reconfigure`].
    ///
    /// # Errors
    /// [`ConfigError`] for what [`Builder::build`] would refuse, and for fields that cannot change
    /// while a client runs (discovery but for `discovery.delivery`, Vault, local cluster, seed,
    /// connection limits, buckets of metrics). Nothing has changed then.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        self.hub.reconfigure(config)
    }
}

impl<R: Runtime> Caller for Client<R> {
    type Reply<T: Send + 'static> = R::Reply<T>;

    fn run<F: Flow>(&self, flow: F) -> R::Reply<F::Output> {
        match self.hub.slot(flow.service()) {
            Ok(slot) => R::run(self.hub.clone(), slot, flow),
            Err(error) => R::ready(Err(error)),
        }
    }
}

impl<R: Runtime> Composer for Client<R> {
    fn both<T: Send + 'static, U: Send + 'static>(
        &self,
        first: impl FnOnce() -> R::Reply<T> + Send + 'static,
        second: impl FnOnce() -> R::Reply<U> + Send + 'static,
    ) -> R::Reply<(T, U)> {
        R::both(first, second)
    }

    fn then<T: Send + 'static, U: Send + 'static>(
        &self,
        reply: R::Reply<T>,
        next: impl FnOnce(Result<T, Error>) -> R::Reply<U> + Send + 'static,
    ) -> R::Reply<U> {
        R::then(reply, next)
    }

    fn ready<T: Send + 'static>(&self, result: Result<T, Error>) -> R::Reply<T> {
        R::ready(result)
    }

    fn correlation(&self) -> Correlation {
        Correlation::random(self.hub.seed, self.hub.call_number())
    }
}

impl<R: Runtime> Streams for Client<R> {
    type Download = Download<R>;
    type Upload = Upload<R>;

    fn download(&self, download: Result<s3::Download, Error>) -> Download<R> {
        Download::new(self.hub.clone(), self.hub.slot(SERVICE), download)
    }

    fn collect(&self, download: Result<s3::Download, Error>) -> R::Reply<Object> {
        R::get(Download::whole(self.hub.clone(), self.hub.slot(SERVICE), download))
    }

    fn remembers(&self) -> bool {
        self.hub.slot(SERVICE).is_ok_and(|slot| slot.memory.is_on())
    }

    fn upload(&self, upload: Result<s3::Upload, Error>) -> Upload<R> {
        Upload::new(self.hub.clone(), self.hub.slot(SERVICE), upload)
    }
}

/// Builds a [`Client`]. Everything has a default but where the services are: give a discovery
/// URL, or endpoints, or both.
#[derive(Clone)]
pub struct Builder<R> {
    config: Config,
    token: Option<Secret>,
    origin_vault: Option<Credentials>,
    service_token: Option<Secret>,
    roots: Roots,
    identity: Option<Identity>,
    expect: Expectations,
    customs: Customs,
    /// What was found wrong on the way, for [`Builder::build`].
    trouble: Option<ConfigError>,
    trace_source: Option<Source>,
    learned: Option<Learned>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("token", &self.token)
            .field("origin_vault", &self.origin_vault)
            .field("checks", &self.customs.keys())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Builder<R> {
    /// Starts from a whole configuration, for example one read by [`Config::from_toml`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Changes any part of the configuration.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Where the discovery document is.
    #[must_use]
    pub fn discovery(mut self, url: impl Into<String>) -> Self {
        let config = self.config.discovery.take().unwrap_or_default();
        self.config.discovery = Some(DiscoveryConfig { url: url.into(), ..config });
        self
    }

    /// The name of the cluster this program runs in.
    #[must_use]
    pub fn local_cluster(mut self, name: impl Into<String>) -> Self {
        self.config.local_cluster = Some(name.into());
        self
    }

    /// Injects an endpoint of `service`, which is then never looked up in discovery. Call it again
    /// for more.
    #[must_use]
    pub fn endpoint(mut self, service: impl Into<String>, address: impl Into<String>) -> Self {
        let service = self.config.services.entry(service.into()).or_default();
        service.endpoints.push(EndpointConfig::at(address));
        self
    }

    /// Fills in what the services of the `OmniNode` bridge need: addresses from
    /// `METADATA_STAMPING_SERVICE_URL` and `ONEXTREE_SERVICE_URL`, or the usual ports of this
    /// machine; their retries, time limits, breakers and cache. What is configured already is kept,
    /// so this comes last: see [`origin_core::ops::bridge::configure`]. A variable that cannot be
    /// used is an error of [`Builder::build`].
    #[must_use]
    pub fn bridge(mut self) -> Self {
        let done = bridge::configure(&mut self.config, |name| std::env::var(name).ok());
        self.trouble = self.trouble.or(done.err());
        self
    }

    /// Fills in what the other Origin vault needs: its address from `ORIGIN_VAULT_API_URL`, unless
    /// one is configured, and who logs in from `ORIGIN_VAULT_USER_ID` and
    /// `ORIGIN_VAULT_AUTH_FACTOR`. Unset or empty is no error: calls that need them say so.
    #[must_use]
    pub fn origin_vault(mut self) -> Self {
        origin_vault::configure(&mut self.config, |name| std::env::var(name).ok());
        self.origin_vault = Credentials::of(|name| std::env::var(name).ok());
        self
    }

    /// Who logs in to the other Origin vault.
    #[must_use]
    pub fn origin_vault_as(mut self, credentials: Credentials) -> Self {
        self.origin_vault = Some(credentials);
        self
    }

    /// The policies of every service that has none of its own.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Deadline of a whole call. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, total: Duration) -> Self {
        self.config.policy.deadline.total = total;
        self
    }

    /// Limit of one attempt. Default 10 s, or the total.
    #[must_use]
    pub fn attempt_timeout(mut self, attempt: Duration) -> Self {
        self.config.policy.deadline.attempt = Some(attempt);
        self
    }

    /// Limit of connecting. Default 1 s, or the attempt.
    #[must_use]
    pub fn connect_timeout(mut self, connect: Duration) -> Self {
        self.config.policy.deadline.connect = Some(connect);
        self
    }

    /// Takes over what an earlier run has learnt of its endpoints ([`Client::learned`]): breakers
    /// that are open stay so for the rest of their time. What is older than ten minutes is not
    /// used, endpoints that are not known are ignored, and nothing in it can keep an endpoint out
    /// for longer than its breaker could.
    #[must_use]
    pub fn learned(mut self, learned: Learned) -> Self {
        self.learned = Some(learned);
        self
    }

    /// Seed of every random choice, for reproducible behaviour.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// The Vault token. Sent to the service `secrets`, to `vault.urls` if there are any, and to no
    /// other. Empty counts as none. Refused by [`Builder::build`] together with a `vault.auth` that
    /// gets a token from elsewhere.
    #[must_use]
    pub fn vault_token(mut self, token: &str) -> Self {
        self.token = Secret::new(token);
        self
    }

    /// The Vault token from an environment variable, `VAULT_CLIENT_TOKEN` as a rule. Unset or
    /// empty is no error: calls that need the token say so.
    #[must_use]
    pub fn vault_token_from_env(mut self, variable: &str) -> Self {
        self.token = std::env::var(variable).ok().and_then(|text| Secret::new(&text));
        self
    }

    /// The token of a service account, sent as `Authorization: Bearer` to the services of
    /// `identity.services` and to no other; one in a file is `identity.token_file`. Empty counts
    /// as none. [`Client::set_service_token`] exchanges it while the client runs.
    #[must_use]
    pub fn service_token(mut self, text: &str) -> Self {
        self.service_token = Secret::new(text);
        self
    }

    /// Who is trusted to vouch for servers. Default: Mozilla's list.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Who the client is to servers that ask for a certificate. Default: nobody, so that servers
    /// which require one refuse it. [`Client::set_identity`] exchanges it while the client runs.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// What the server at `host` (as in the URL) and `port` has to prove. Default: the name or
    /// address it is reached by. Call it again for more; [`Client::set_expectations`] exchanges
    /// all of them while the client runs.
    #[must_use]
    pub fn expect(mut self, host: &str, port: u16, expect: Expect) -> Self {
        self.expect.set(host, port, expect);
        self
    }

    /// Registers the health check that a policy names with `checks.kind = "custom"` and
    /// `checks.custom = name`. It is given an endpoint and answers 0 for healthy, 1 for degraded,
    /// anything else for unhealthy; `None` counts as unhealthy, too.
    /// [`command_check`](crate::command_check) makes one that runs a program.
    ///
    /// It runs on a thread of its own, so it may block. It should keep to
    /// [`CheckTarget::left`]: one that takes longer has failed, and while too many of them hang
    /// (twice `checks.max_concurrent` of the service) no more are made. One that panics says
    /// nothing about the endpoint. It must not keep the client, which would then keep itself.
    #[must_use]
    pub fn check(
        mut self,
        name: impl Into<Arc<str>>,
        check: impl Fn(&CheckTarget) -> Option<i32> + Send + Sync + 'static,
    ) -> Self {
        self.customs.insert(name.into(), Arc::new(check));
        self
    }

    /// Who knows in which trace the program is at this moment, for calls that are given none: a
    /// bridge to a tracing library, which tells the ids of its current span. It is asked before
    /// each attempt, on the thread that makes it and outside of every lock, once beside the span of
    /// the attempt and once in it; it must be quick.
    #[must_use]
    pub fn trace_source(
        mut self,
        source: impl Fn() -> Option<TraceContext> + Send + Sync + 'static,
    ) -> Self {
        self.trace_source = Some(Source(Arc::new(source)));
        self
    }

    /// Checks everything and builds the client. No connection is made and no thread started.
    ///
    /// # Errors
    /// [`ConfigError`], naming the field and the reason.
    pub fn build(self) -> Result<Client<R>, ConfigError> {
        self.trouble.map_or(Ok(()), Err)?;
        self.config.check()?;
        checks::possible::<R>(&self.config, &self.customs)?;
        let rules = Rules::of(&self.config.policy, "policy")?;
        let limits = &self.config.limits;
        let start = Start::of(&self.config, self.roots, self.identity)?;
        let carrier = around::carrier(&self.config, &start.roots)?;
        let (realms, papers) = around::agents(&self.config)?;
        let runtime = R::build(&Options {
            connect: rules.connect,
            max_head: limits.head,
            idle_connections: limits.idle_connections,
            idle_timeout: limits.idle_timeout,
            roots: start.roots.clone(),
            identity: start.identity.clone(),
            expect: self.expect.clone(),
            realms,
        })
        .map_err(|error| own::named(self.config.identity.as_ref(), error))?;
        let (now, wall) = (runtime.now(), runtime.wall());
        let bell = Arc::new(Bell::default());
        let given = (self.service_token.as_ref(), self.expect);
        let own = Own::new(now, wall, &self.config, start, given, &bell)?;
        // The driver is where randomness enters: once, here, unless the user chose a seed.
        let seed =
            self.config.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        let (token, customs) = (self.token, self.customs);
        let mut hub = Hub::new(
            runtime,
            self.config,
            seed,
            token,
            customs,
            carrier,
            (papers, own, bell, self.learned),
        )?;
        hub.purse = Purse::of(self.origin_vault);
        hub.trace_source = self.trace_source;
        Ok(Client { hub: Arc::new(hub) })
    }
}

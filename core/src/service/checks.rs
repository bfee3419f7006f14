//! Active health checks of a service: what a driver should ask which endpoint now, and what an
//! answer means for it. The schedule and the thresholds are in `policy/health`.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderValue, Method, Version};

use super::Service;
use crate::address::Address;
use crate::discovery::HealthPath;
use crate::job::{Check, CheckId, CheckOutcome, How, Poll};
use crate::notice::Event;
use crate::policy::health::{Kind, ProbeOutcome, grpc, verdict};
use crate::time::Time;

impl Service {
    /// The endpoints have changed: so does who is to be checked.
    pub(super) fn reschedule(&mut self, now: Time) {
        if !self.rules.checks.on() {
            return;
        }
        let gone: Vec<u32> = self.checks.iter().map(|(index, _)| index).collect();
        for index in gone {
            // A place that another endpoint has taken begins anew.
            let known = self.pool.generation_of(index);
            if known.is_none() || known != self.checked.get(&index).copied() {
                self.checks.remove(index);
                self.checked.remove(&index);
            }
        }
        for index in 0..u32::try_from(self.pool.endpoints.len()).unwrap_or(u32::MAX) {
            if let Some(generation) = self.pool.generation_of(index)
                && self.checks.add(index, now, &self.rules.checks, &mut self.rng)
            {
                self.checked.insert(index, generation);
            }
        }
    }

    /// The checks were retuned: what they say may have become unknown.
    pub(super) fn reread_checks(&mut self, now: Time) {
        self.reschedule(now);
        for (index, endpoint) in (0..).zip(&mut self.pool.endpoints) {
            if let Some(endpoint) = endpoint {
                endpoint.health = self.checks.status(index);
            }
        }
    }

    /// A call is made: checks are wanted at their normal pace.
    pub(crate) fn traffic(&mut self, now: Time) {
        self.checks.traffic(now);
    }

    /// What to check now. [`Poll::Wait`] with [`Time::NEVER`]: nothing, until endpoints change.
    pub fn poll_check(&mut self, now: Time) -> Poll<Check> {
        let settings = &self.rules.checks;
        while let Some(probe) = self.checks.poll(now, settings, &mut self.rng) {
            let id = CheckId(probe.id);
            let found = self.pool.endpoints.get(probe.endpoint as usize).and_then(Option::as_ref);
            let how = found.and_then(|e| how(settings, &e.address, e.check.as_deref()));
            if let (Some(endpoint), Some(how)) = (found, how) {
                let (address, deadline) = (endpoint.address.clone(), probe.deadline);
                return Poll::Run(Box::new(Check { id, how, address, deadline }));
            }
            // It cannot be asked in this way: it stays unknown.
            let _ = self.checks.done(now, probe.id, ProbeOutcome::Dropped, settings, &mut self.rng);
        }
        Poll::Wait(self.checks.due(settings))
    }

    /// Takes the result of a check. Returns whether the verdict on an endpoint has changed.
    pub fn check_done(&mut self, now: Time, id: CheckId, outcome: &CheckOutcome) -> bool {
        let settings = &self.rules.checks;
        let outcome = match outcome {
            CheckOutcome::Answered { status, headers, body, trailers } => match &settings.kind {
                Kind::Grpc(_) => grpc::verdict(*status, headers, body, trailers.as_ref()),
                _ => verdict::http(settings, *status, headers, body),
            },
            CheckOutcome::Connected => ProbeOutcome::Pass,
            CheckOutcome::Ended(code) => verdict::exit(*code),
            CheckOutcome::Failed(fault) => verdict::fault(*fault),
            CheckOutcome::Dropped => ProbeOutcome::Dropped,
        };
        self.tally.check(outcome);
        let heard = self.checks.done(now, id.0, outcome, settings, &mut self.rng);
        let Some(heard) = heard else { return false };
        let Some(Some(endpoint)) = self.pool.endpoints.get_mut(heard.endpoint as usize) else {
            return false;
        };
        endpoint.health = heard.status;
        let (tier, label) = (endpoint.tier, endpoint.label.clone());
        if let Some(change) = heard.change {
            let cluster = self.pool.tiers[tier as usize].cluster.clone();
            self.notices.push(now, Event::HealthChanged { cluster, endpoint: label, change });
        }
        if heard.vouched {
            self.vouched(now, heard.endpoint);
        }
        self.sync(now, heard.endpoint);
        if heard.change.is_some() {
            // Who waits should look.
            self.epoch += 1;
        }
        heard.change.is_some()
    }
}

/// What to ask an endpoint; `None` when it cannot be asked in this way.
fn how(
    settings: &crate::policy::health::Settings,
    address: &Address,
    path: Option<&str>,
) -> Option<How> {
    let exchange = |method: Method, uri: http::Uri, version: Version, body: Vec<u8>| {
        let mut request = http::Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        let headers = request.headers_mut();
        if let (Some(host), Version::HTTP_11) = (address.host(), version) {
            headers.insert(HOST, host.clone());
        }
        headers.insert(USER_AGENT, HeaderValue::from_static("origin-health-check"));
        request
    };
    match &settings.kind {
        Kind::Off => None,
        Kind::Http(_) => {
            // Below the base path: the document's health paths are appended to addresses.
            let uri = HealthPath::of(settings.path(path)).at(address)?;
            let mut request = exchange(Method::GET, uri, Version::HTTP_11, Vec::new());
            request
                .headers_mut()
                .insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
            Some(How::Http { request, max_body: verdict::BODY_MOST })
        }
        Kind::Grpc(service) => {
            let message = grpc::request(service);
            let uri = address.root(&grpc::PATH.parse().ok()?)?;
            let mut request = exchange(Method::POST, uri, Version::HTTP_2, message);
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
            Some(How::Http { request, max_body: grpc::MESSAGE_MOST })
        }
        Kind::Tcp => address.host_and_port().map(|_| How::Connect),
        Kind::Custom(name) => Some(How::Custom(name.clone())),
    }
}

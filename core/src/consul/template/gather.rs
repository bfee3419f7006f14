//! What a template needs, asked of Consul: one request for each, and what its answer adds.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::renderer::Failure;
use super::{Data, Missing, Query};
use crate::consul::catalogue;
use crate::consul::error::ConsulError;
use crate::consul::health::{self, Lookup};
use crate::consul::kv::{self, Key};
use crate::consul::settings::Settings;
use crate::consul::wire::{Api, Head};
use crate::job::JobOutcome;
use crate::time::Rounded;

/// Most questions of one rendering: `range services` asks about each of them.
pub(super) const MOST_ASKED: usize = 4_096;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Catalogue,
    Service(Query),
    Key(Arc<str>),
}

/// The questions that are open.
pub(super) fn open(missing: Missing) -> VecDeque<Ask> {
    let catalogue = missing.catalogue.then_some(Ask::Catalogue);
    let keys = missing.keys.into_iter().map(Ask::Key);
    catalogue
        .into_iter()
        .chain(keys)
        .chain(missing.services.into_iter().map(Ask::Service))
        .collect()
}

pub(super) fn request(api: &Api<'_>, ask: &Ask) -> Result<Request<Bytes>, ConsulError> {
    match ask {
        Ask::Catalogue => catalogue::services(api, None),
        Ask::Service(query) => {
            let lookup = Lookup {
                datacenter: query.datacenter.as_deref(),
                tag: query.tag.as_deref(),
                ..Lookup::of(&query.name)
            };
            health::request(api, &lookup)
        }
        Ask::Key(path) => kv::get(api, &Key::new(path)?, None),
    }
}

/// Adds an answer to what there is; how many bytes it had.
pub(super) fn take(
    settings: &Settings,
    ask: Ask,
    outcome: JobOutcome,
    data: &mut Data,
) -> Result<usize, Failure> {
    let (status, headers, body) = match outcome {
        JobOutcome::Answered { status, headers, body } => (status, headers, body),
        JobOutcome::Failed(fault) => return Err(Failure::Consul(fault.to_string().into())),
        _ => return Err(Failure::Consul("the exchange is none for this adapter".into())),
    };
    let bad = |error: ConsulError| Failure::Consul(error.to_string().into());
    let head = Head::of(&headers);
    if let Some(excess) = head.too_stale(settings) {
        let text = format!(
            "the server was without a leader for {excess} too long",
            excess = Rounded(excess)
        );
        return Err(Failure::Consul(text.into()));
    }
    match ask {
        Ask::Catalogue => {
            let mut services = catalogue::parse_services(settings, status, &body).map_err(bad)?;
            // The server puts tags in any order, another one each time.
            services.values_mut().for_each(|tags| tags.sort());
            data.catalogue = Some(services);
        }
        Ask::Service(query) => {
            let mut found = health::parse(settings, status, &body).map_err(bad)?.instances;
            if found.is_empty() && head.known_leader == Some(false) {
                let text = "no instances, and the server knows no leader";
                return Err(Failure::Consul(text.into()));
            }
            found.sort_by(|a, b| (&a.id, a.address.as_str()).cmp(&(&b.id, b.address.as_str())));
            data.services.insert(query, found);
        }
        Ask::Key(path) => {
            let entry = kv::parse_get(settings, status, &body).map_err(bad)?;
            let text = match entry {
                None => None,
                Some(entry) => match std::str::from_utf8(&entry.value) {
                    Ok(text) => Some(text.into()),
                    Err(_) => return Err(Failure::KeyNotText(path)),
                },
            };
            data.keys.insert(path, text);
        }
    }
    Ok(body.len())
}

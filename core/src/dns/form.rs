//! Which names a service is asked for by: templates, Consul's long and short names, and the
//! search list.

use super::name::{BadName, Name, check_label};
use super::settings::Settings;
use crate::config::{DnsForm, DnsRecords};

/// What the placeholders of a template stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) service: &'a str,
    pub(super) tag: &'a str,
    pub(super) datacenter: &'a str,
    pub(super) domain: &'a str,
}

/// The template of a form for SRV, and for A and AAAA.
pub(super) const fn templates(form: DnsForm) -> (&'static str, &'static str) {
    match form {
        DnsForm::Consul => {
            const STANDARD: &str = "{tag}.{service}.service.{dc}.{domain}.";
            (STANDARD, STANDARD)
        }
        DnsForm::Short => {
            const SHORT: &str = "{tag}.{service}.{dc}.{domain}.";
            (SHORT, SHORT)
        }
        DnsForm::Rfc2782 => ("_{service}._tcp.{domain}", "{service}.{domain}"),
        DnsForm::Plain => ("{service}.{domain}", "{service}.{domain}"),
    }
}

/// The text that `template` gives; a label that its placeholders leave empty is left out.
/// `Err` is a placeholder that there is none of.
pub(super) fn fill(template: &str, parts: Parts<'_>) -> Result<String, String> {
    let mut labels = Vec::new();
    for label in template.split('.') {
        let (mut rest, mut filled) = (label, String::new());
        while let Some((front, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or_else(|| tail.to_owned())?;
            filled.push_str(front);
            filled.push_str(match name {
                "service" => parts.service,
                "tag" => parts.tag,
                "dc" => parts.datacenter,
                "domain" => parts.domain,
                other => return Err(other.to_owned()),
            });
            rest = tail;
        }
        filled.push_str(rest);
        if !filled.is_empty() || !label.contains('{') {
            labels.push(filled);
        }
    }
    Ok(labels.join("."))
}

/// A name to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Wanted {
    pub(super) name: Name,
    /// For SRV records; else for addresses.
    pub(super) srv: bool,
}

impl Settings {
    /// The names that `service` is asked for by, in order: those of SRV, then those of addresses.
    ///
    /// # Errors
    /// A service that cannot be part of a name.
    pub(super) fn wanted(&self, service: &str) -> Result<Vec<Wanted>, BadName> {
        let consul = matches!(self.form, DnsForm::Consul | DnsForm::Short) && !self.own_template;
        let (tag, dc) =
            (self.tag.as_deref().unwrap_or(""), self.datacenter.as_deref().unwrap_or(""));
        let mut parts = Parts { service, tag, datacenter: dc, domain: &self.domain };
        if consul && service.contains('.') {
            parts = consul_name(service, parts)?;
        }
        for label in [parts.tag, parts.datacenter] {
            if !label.is_empty() {
                check_label(label)?;
            }
        }
        if self.name.contains("{service}") || self.address_name.contains("{service}") {
            check_label(parts.service)?;
        }
        let (srv, address) = match self.records {
            DnsRecords::Srv => (true, false),
            DnsRecords::Address => (false, true),
            DnsRecords::Auto => (true, self.port.is_some()),
        };
        let mut wanted = Vec::new();
        let kinds = [(srv, &self.name, true), (address, &self.address_name, false)];
        for (_, template, srv) in kinds.into_iter().filter(|(used, ..)| *used) {
            let text = fill(template, parts).map_err(|_| BadName::Character)?;
            for name in self.searched(&text)? {
                wanted.push(Wanted { name, srv });
            }
        }
        Ok(wanted)
    }

    /// `text` with the search list, in the order of `resolv.conf(5)`.
    fn searched(&self, text: &str) -> Result<Vec<Name>, BadName> {
        let itself = Name::parse(text)?;
        if text.ends_with('.') || self.search.is_empty() {
            return Ok(vec![itself]);
        }
        let dots = text.bytes().filter(|byte| *byte == b'.').count();
        // What becomes too long in a domain is not in that domain.
        let below = self.search.iter().map(|domain| Name::parse(&format!("{text}.{domain}")));
        let mut names: Vec<Name> = below.filter_map(Result::ok).collect();
        if dots >= usize::from(self.ndots) {
            names.insert(0, itself);
        } else {
            names.push(itself);
        }
        names.dedup();
        Ok(names)
    }
}

/// Reads `service.service.dc.consul` and `service.dc.consul`, each also without the datacenter
/// (`service.service.consul`) and the former with a tag in front (003-16).
fn consul_name<'a>(text: &'a str, preset: Parts<'a>) -> Result<Parts<'a>, BadName> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let tail = text.len().checked_sub(preset.domain.len()).filter(|_| !preset.domain.is_empty());
    let (front, domain) = tail.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
    let front = front.strip_suffix('.').ok_or(BadName::NotConsul)?;
    if !domain.eq_ignore_ascii_case(preset.domain) {
        return Err(BadName::NotConsul);
    }
    let labels: Vec<&str> = front.split('.').collect();
    let marks = |label: &str| label.eq_ignore_ascii_case("service");
    let (tag, service, dc) = match labels[..] {
        [service, mark] if marks(mark) => (preset.tag, service, preset.datacenter),
        [service, dc] => (preset.tag, service, dc),
        [service, mark, dc] if marks(mark) => (preset.tag, service, dc),
        [tag, service, mark] if marks(mark) => (tag, service, preset.datacenter),
        [tag, service, mark, dc] if marks(mark) => (tag, service, dc),
        _ => return Err(BadName::NotConsul),
    };
    Ok(Parts { service, tag, datacenter: dc, ..preset })
}

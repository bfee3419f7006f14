//! What an operator needs to know about handshakes that failed: `Fault::Tls` says that one did,
//! here is why, per target. No clock: the latest is last.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::expect::Target;
use crate::secure::TlsFailure;

/// Targets remembered.
const KEPT: usize = 64;

/// The latest failure of each target.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<TlsFailure>);

impl Failures {
    pub(super) fn note(&mut self, (host, port): &Target, reason: String) {
        let known = self.0.iter().position(|f| f.host == *host && f.port == *port);
        let count = known.and_then(|at| self.0.remove(at)).map_or(0, |failure| failure.count);
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(TlsFailure {
            host: host.clone(),
            port: *port,
            reason,
            count: count.saturating_add(1),
        });
    }

    pub(super) fn list(&self) -> Vec<TlsFailure> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Layers of wrapping looked through.
const DEPTH: usize = 16;

/// The TLS error in an error of a connector or of a secured stream.
#[must_use]
pub fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    for _ in 0..DEPTH {
        let error = next?;
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            // It hides what it wraps from `source`.
            Some(io) => io.get_ref().map(|inner| -> &'a (dyn StdError + 'static) { inner }),
            None => error.source(),
        };
    }
    None
}

/// Whether a TLS error is the peer's refusal of our certificate, or of our having none.
///
/// In TLS 1.3 a client is done with the handshake before the server has looked at its certificate,
/// so this arrives in place of an answer, on a connection that seemed to be good.
#[must_use]
pub fn is_refusal(error: &Error) -> bool {
    use AlertDescription as Alert;
    let Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure
    )
}

/// What is wrong with a server that breaks off where it could decline.
pub(super) fn broken_session(error: &Error) -> String {
    let alert = match error {
        Error::AlertReceived(alert) => format!("{alert:?}"),
        error => error.to_string(),
    };
    format!("the server breaks off when it is offered a session ({alert}); connected in full")
}

/// What is wrong, in words for an operator.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, and none was sent".to_owned()
        }
        Error::AlertReceived(alert) if is_refusal(error) => {
            format!("the server refused our certificate, or our having none: {alert:?}")
        }
        // The verifier for SPIFFE ids says it all.
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "none of our roots vouches for the certificate (UnknownIssuer)".to_owned()
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::target;

    #[test]
    fn the_latest_failure_of_each_target_is_kept_and_counted() {
        let mut failures = Failures::default();
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        for port in 0..200 {
            failures.note(&target("host", port), reason(&Error::DecryptError));
        }
        failures.note(&target("host", 150), reason(&alert));
        let list = failures.list();
        assert_eq!(list.len(), KEPT);
        let last = list.last().unwrap();
        assert_eq!((last.port, last.count), (150, 2));
        assert!(last.to_string().contains("host:150"), "{last}");
        assert!(last.reason.contains("requires a client certificate"), "{last}");
        assert_eq!(list[0].port, 136);
    }

    #[test]
    fn only_what_the_peer_says_about_certificates_is_a_refusal() {
        let alert = Error::AlertReceived;
        assert!(is_refusal(&alert(AlertDescription::CertificateRequired)));
        assert!(is_refusal(&alert(AlertDescription::BadCertificate)));
        for other in [
            alert(AlertDescription::CloseNotify),
            alert(AlertDescription::InternalError),
            alert(AlertDescription::UserCanceled),
            Error::NoCertificatesPresented,
        ] {
            assert!(!is_refusal(&other), "{other}");
        }
    }
}

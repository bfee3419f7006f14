//! What object storage answers.

use http::{HeaderMap, Method};
use origin_core::s3::error::StorageError;
use origin_core::s3::list::{self, BadPage};
use origin_core::s3::multipart::{self, BadReply};

use super::{Verdict, discreet, text};

/// A page of a listing: every entry complete, and no page without end.
pub(crate) fn page(_: &str, bytes: &[u8]) -> Verdict {
    match list::read(bytes) {
        Ok(page) => {
            assert!(page.objects.iter().all(|entry| !entry.key.is_empty()));
            assert!(page.prefixes.iter().all(|prefix| !prefix.is_empty()));
            assert!(page.next.is_none_or(|next| !next.is_empty()));
            Ok(())
        }
        Err(BadPage::Unreadable(why)) => {
            discreet(&text(&why), bytes);
            Err(why.to_string())
        }
        Err(BadPage::Refused(error)) => Err(error.to_string()),
    }
}

/// The replies to the begin and the end of an upload in parts: a name that can be sent, a tag that
/// can stand in a header, and what the parts of such tags make.
pub(crate) fn upload(_: &str, bytes: &[u8]) -> Verdict {
    let said = |bad: BadReply| match bad {
        BadReply::Unreadable(why) => {
            discreet(&text(&why), bytes);
            why.to_string()
        }
        BadReply::Refused(error) => {
            silent(&error);
            text(&error)
        }
    };
    let created = multipart::created(bytes).map(|id| {
        assert!((1..=multipart::LONGEST_ID).contains(&id.len()) && !id.contains(char::is_control));
    });
    let completed = multipart::completed(bytes).map(|tag| {
        assert!(tag.as_str().bytes().all(|c| c.is_ascii_graphic()));
        if let Some(composed) = multipart::composed(&[tag.clone(), tag]) {
            assert!(composed.as_str().ends_with("-2\""), "{composed}");
        }
    });
    assert!(created.is_err() || completed.is_err(), "it is one of both");
    created.or(completed).map_err(said)
}

/// No word of the message is repeated. What the server calls the request is, whatever it is: it is
/// what its operators ask for.
fn silent(error: &StorageError) {
    let mut nameless = error.clone();
    nameless.request_id = None;
    let shown = text(&nameless);
    assert!(!shown.contains("hunter2"), "it repeats the message: {shown}");
}

/// An error document: what is shown of it is short and fit for a line of a log. Whether it was
/// one at all shows in the code: that of the status is `SlowDown`.
pub(crate) fn error(_: &str, bytes: &[u8]) -> Verdict {
    let error = StorageError::of(&Method::GET, 503, &HeaderMap::new(), bytes);
    let shown = text(&error);
    assert!(shown.len() <= 1_024 && shown.chars().all(|c| (' '..='~').contains(&c)), "{shown}");
    silent(&error);
    match error.code {
        origin_core::s3::Code::SlowDown => Err(error.to_string()),
        _ => Ok(()),
    }
}

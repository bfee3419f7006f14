//! The files of the credentials of storage, read again now and then, so that somebody can exchange
//! them under a client that runs. How they are looked at is [`crate::files`]: both halves count
//! only when they hold still together. What cannot be used changes nothing and is said.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ask::SERVICE;
use super::credentials::{Place, Settings};
use crate::config::StorageConfig;
use crate::files::{self, Content, Files};
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{self, Notices};
use crate::time::Time;

/// Marks the numbers of its jobs: those of discovery count up from zero, those of Consul and of
/// Vault have one of the three bits above.
const OWN: u64 = mark::STORAGE;
const MARKS: u64 = mark::ALL;

/// What happened to the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// What is sent from now on is signed with others.
    Rotated,
    /// A file cannot be read; those that were read before stay in force.
    Unreadable {
        /// Why, without its content.
        reason: Arc<str>,
    },
    /// What the files hold cannot be credentials; those of before stay in force.
    Refused {
        /// The field of the configuration.
        field: Arc<str>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Rotated => {
                f.write_str("the files of the credentials have changed; the new ones sign")
            }
            Event::Unreadable { reason } => {
                write!(f, "a file of the credentials cannot be read: {reason}; the old ones sign")
            }
            Event::Refused { field } => {
                write!(f, "the files hold what {field} cannot be; the old ones sign")
            }
        }
    }
}

/// The machine. `Debug` shows nothing of the credentials.
pub struct Rotation {
    config: StorageConfig,
    settings: files::Settings<3>,
    /// What stood in the environment, which does not change.
    variables: BTreeMap<String, String>,
    files: Files<3>,
    out: Option<u64>,
    notices: Notices,
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Rotation {
    /// The credentials of `config` at `now`, and the machine that follows their files; none where
    /// no file is read. `read` looks up variables and files, each once.
    ///
    /// # Errors
    /// Those of [`Settings::of`].
    pub fn begin(
        now: Time,
        config: &StorageConfig,
        path: &str,
        read: impl Fn(Place<'_>) -> Option<String>,
    ) -> Result<(Settings, Option<Rotation>), crate::config::ConfigError> {
        config.check(path)?;
        let mut variables = BTreeMap::new();
        let mut first = BTreeMap::new();
        let mut watched = |variable: &Option<String>, file: &Option<String>| {
            if let Some(name) = variable {
                variables.extend(read(Place::Variable(name)).map(|text| (name.clone(), text)));
                return None; // it wins over the file
            }
            let name = file.as_ref()?;
            first.extend(read(Place::File(name)).map(|text| (name.clone(), text)));
            Some(Arc::from(name.as_str()))
        };
        let paths = [
            watched(&config.access_key_env, &config.access_key_file),
            watched(&config.secret_key_env, &config.secret_key_file),
            watched(&config.session_token_env, &config.session_token_file),
        ];
        let settings = Settings::of(config, path, |place| match place {
            Place::Variable(name) => variables.get(name).cloned(),
            Place::File(name) => first.get(name).cloned(),
        })?;
        if paths.iter().all(Option::is_none) {
            return Ok((settings, None));
        }
        let content = |path: &Option<Arc<str>>| {
            let text = path.as_ref().and_then(|path| first.get(&**path));
            text.map(|text| Bytes::copy_from_slice(text.as_bytes()))
        };
        let used = Content([content(&paths[0]), content(&paths[1]), content(&paths[2])]).digest();
        let files = files::Settings { paths, poll: config.poll };
        let rotation = Rotation {
            config: config.clone(),
            files: Files::new(now, used, &files),
            settings: files,
            variables,
            out: None,
            notices: Notices::new(Some(SERVICE.into())),
        };
        Ok((settings, Some(rotation)))
    }

    /// What to read now, or when to ask again.
    pub fn poll(&mut self, now: Time) -> Poll {
        match self.files.poll(now, &self.settings) {
            Poll::Wait(at) => Poll::Wait(at),
            Poll::Run(look) => {
                let files::Look { id, path, deadline } = *look;
                self.out = Some(id);
                let work = Work::Read { path, most: files::MOST };
                Poll::Run(Box::new(Job { id: JobId(OWN | (id & !MARKS)), work, deadline }))
            }
        }
    }

    /// Takes what came of it. Yields the settings that sign from now on, where they are others.
    pub fn done(&mut self, now: Time, id: JobId, outcome: JobOutcome) -> Option<Settings> {
        let look = self.out.take_if(|look| OWN | (*look & !MARKS) == id.0)?;
        let found = self.files.done(now, look, files::read(outcome), &self.settings);
        let content = match found {
            Ok(content) => content?,
            Err(reason) => {
                self.say(now, Event::Unreadable { reason });
                return None;
            }
        };
        let read = |place: Place<'_>| match place {
            Place::Variable(name) => self.variables.get(name).cloned(),
            Place::File(name) => {
                let mut files = self.settings.paths.iter().zip(&content.0);
                let (_, bytes) = files.find(|(path, _)| path.as_deref() == Some(name))?;
                String::from_utf8(bytes.as_ref()?.to_vec()).ok()
            }
        };
        match Settings::of(&self.config, "storage", read) {
            Ok(settings) => {
                self.say(now, Event::Rotated);
                Some(settings)
            }
            Err(error) => {
                self.say(now, Event::Refused { field: error.field.into() });
                None
            }
        }
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & MARKS == OWN
    }

    fn say(&mut self, now: Time, what: Event) {
        self.notices.push(now, notice::Event::Storage { what });
    }

    /// What happened of late.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Goes on with other notices: those of the machine that was there before it.
    pub fn exchange_notices(&mut self, with: &mut Notices) {
        std::mem::swap(&mut self.notices, with);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Disk = BTreeMap<&'static str, &'static str>;

    fn config() -> StorageConfig {
        StorageConfig {
            access_key_file: Some("/k".into()),
            secret_key_file: Some("/s".into()),
            session_token_env: Some("T".into()),
            ..StorageConfig::default()
        }
    }

    fn at(disk: &Disk, place: Place<'_>) -> Option<String> {
        match place {
            Place::Variable(_) => Some("t0ken".into()),
            Place::File(path) => disk.get(path).map(ToString::to_string),
        }
    }

    /// Looks for `span` milliseconds; yields the access key of each change.
    fn look(machine: &mut Rotation, now: &mut Time, span: u64, disk: &Disk) -> Vec<String> {
        let end = now.plus(std::time::Duration::from_millis(span));
        let mut changes = Vec::new();
        loop {
            match machine.poll(*now) {
                Poll::Wait(next) if next > end => break,
                Poll::Wait(next) => *now = next,
                Poll::Run(job) => {
                    assert!(Rotation::owns(job.id) && !crate::vault::desk::Desk::owns(job.id));
                    let Work::Read { path, .. } = &job.work else { panic!("{job:?}") };
                    let bytes = disk.get(&**path).map(|text| Bytes::from_static(text.as_bytes()));
                    let change = machine.done(*now, job.id, JobOutcome::Content(bytes));
                    changes.extend(change.map(|it| it.credentials.unwrap().access_key.to_string()));
                }
            }
        }
        *now = end;
        changes
    }

    #[test]
    fn both_halves_change_together_and_what_cannot_be_used_changes_nothing() {
        let (mut now, mut disk) = (Time::ZERO, Disk::from([("/k", "k1"), ("/s", "s3cret-1\n")]));
        let begun = Rotation::begin(now, &config(), "storage", |place| at(&disk, place));
        let (first, machine) = begun.unwrap();
        let mut machine = machine.unwrap();
        assert_eq!(&*first.credentials.unwrap().access_key, "k1");
        assert!(look(&mut machine, &mut now, 100_000, &disk).is_empty(), "nothing has changed");
        disk.insert("/k", "k2");
        disk.insert("/s", "s3cret-2");
        assert_eq!(look(&mut machine, &mut now, 32_000, &disk), ["k2"]);
        // One that is gone, is no access key, or comes back as it was.
        disk.remove("/s");
        assert!(look(&mut machine, &mut now, 100_000, &disk).is_empty());
        disk.insert("/s", "s3cret-2");
        disk.insert("/k", "a b");
        assert!(look(&mut machine, &mut now, 100_000, &disk).is_empty());
        disk.insert("/k", "k3");
        assert_eq!(look(&mut machine, &mut now, 40_000, &disk), ["k3"]);
        let said: Vec<String> = machine.notices().since(0).map(ToString::to_string).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        let shown = format!("{said:?} {machine:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
        assert!(said[2].contains("storage.access_key"), "{said:?}");
    }

    #[test]
    fn without_a_file_there_is_nothing_to_follow() {
        let text = StorageConfig {
            access_key: Some("k".into()),
            secret_key: crate::Secret::new("s"),
            ..StorageConfig::default()
        };
        // A variable wins over a file.
        let variable = StorageConfig {
            access_key_env: Some("K".into()),
            secret_key_env: Some("S".into()),
            access_key_file: Some("/none".into()),
            ..StorageConfig::default()
        };
        for config in [text, variable, StorageConfig::default()] {
            let begun = Rotation::begin(Time::ZERO, &config, "storage", |place| match place {
                Place::Variable(_) => Some("v".into()),
                Place::File(_) => None,
            });
            assert!(begun.unwrap().1.is_none());
        }
    }
}

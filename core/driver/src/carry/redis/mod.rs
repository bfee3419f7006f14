//! Redis commands: a few connections that are kept from job to job. No command is ever sent
//! twice: a connection that turns out to be dead is given up with its job, and the next job makes
//! a new one.

mod connection;
mod options;

use std::sync::Mutex;
use std::time::Duration;

use origin_core::ConfigError;
use origin_core::outcome::Fault;
use origin_core::redis::resp::{Bounds, encode};
use origin_core::redis::{Command, Reply};

use self::connection::Connection;
pub use self::options::RedisOptions;
use self::options::Target;
use super::Tried;
use super::net::Limit;
use crate::hub::lock;
use crate::roots::Roots;

/// Connections kept while nobody uses them. Jobs are few; more of them at once make more
/// connections and close them again.
const KEPT: usize = 4;
/// How long they are kept. Whatever stands between may forget them without a word.
const IDLE: Duration = Duration::from_secs(60);

/// One Redis server and the connections to it.
#[derive(Debug)]
pub(super) struct Redis {
    target: Target,
    /// The one used last is last.
    idle: Mutex<Vec<Connection>>,
}

impl Redis {
    pub(super) fn new(options: &RedisOptions, roots: &Roots) -> Result<Redis, ConfigError> {
        Ok(Redis { target: Target::of(options, roots)?, idle: Mutex::default() })
    }

    /// Sends `commands` together; as many replies, in their order. Commands that leave the
    /// connection other than it was (`SUBSCRIBE`, `SELECT`, an open `MULTI`) must not be among
    /// them. Where the server refuses the login, that is its reply to each of them.
    pub(super) fn exchange(&self, commands: &[Command], limit: &Limit) -> Tried<Vec<Reply>> {
        // Redis does not answer a command without words, so the wait would be in vain.
        let hopeless = commands.iter().any(|Command(words)| words.is_empty());
        if hopeless || commands.len() > Bounds::default().elements {
            return Err(Fault::Request);
        }
        limit.left()?;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => match Connection::open(&self.target, limit)? {
                Ok(connection) => connection,
                Err(refused) => return Ok(vec![Reply::Refused(refused); commands.len()]),
            },
        };
        let replies = connection.exchange(&encode(commands), commands.len(), limit)?;
        self.keep(connection, &replies);
        Ok(replies)
    }

    /// A connection that is as good as new, as far as one can see.
    fn kept(&self) -> Option<Connection> {
        loop {
            let mut connection = lock(&self.idle).pop()?;
            if connection.idle() < IDLE && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection, replies: &[Reply]) {
        // A primary that is none any more, or has forgotten who we are: the address may lead
        // elsewhere by now, which only a new connection finds out.
        let astray = |reply: &Reply| match reply {
            Reply::Refused(word) => matches!(&**word, "READONLY" | "MASTERDOWN" | "NOAUTH"),
            _ => false,
        };
        let mut idle = lock(&self.idle);
        if replies.iter().any(astray) {
            idle.clear();
        } else if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}

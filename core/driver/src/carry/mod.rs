//! Carrying out the jobs that are no HTTP exchange: DNS messages, Redis commands, files. One way
//! for all adapters, with the sockets of the standard library: such a job is rare, and a thread
//! of the pool that every async runtime has anyway costs less than three implementations.
//!
//! No decision is made here: one exchange, no retry, no fallback, nothing is cached. What an
//! answer means is the core's, and so is every message on the wire.
//!
//! Nothing here waits past its [`Limit`], with two exceptions that a portable program cannot
//! avoid: a file system that hangs, and closing a file on it. And nothing that a peer sends is
//! kept in memory beyond a fixed bound.

mod dns;
mod file;
mod net;
#[cfg(feature = "redis")]
mod redis;

use origin_core::job::{JobOutcome, Work};
use origin_core::outcome::Fault;

#[cfg(feature = "redis")]
pub use self::redis::RedisOptions;
pub use net::{Limit, open};

/// What carries jobs out: with Redis if it is told where that is.
#[derive(Debug, Default)]
pub struct Carrier {
    #[cfg(feature = "redis")]
    redis: Option<redis::Redis>,
}

#[cfg(feature = "redis")]
impl Carrier {
    /// A carrier whose Redis commands go to the server that `options` name. `roots` vouch for it
    /// where the URL says `rediss`. No connection is made yet.
    ///
    /// # Errors
    /// Options that cannot be meant, by their field under `redis`.
    pub fn with_redis(
        options: &RedisOptions,
        roots: &crate::Roots,
    ) -> Result<Carrier, origin_core::ConfigError> {
        Ok(Carrier { redis: Some(redis::Redis::new(options, roots)?) })
    }
}

impl Carrier {
    /// Carries one job out, on this thread. HTTP is not done here.
    #[must_use]
    pub fn carry(&self, work: Work, limit: &Limit) -> JobOutcome {
        let done = match work {
            Work::Dns { server, query, tcp: false } => {
                dns::datagram(server, &query, limit).map(JobOutcome::Datagram)
            }
            Work::Dns { server, query, tcp: true } => {
                dns::stream(server, &query, limit).map(JobOutcome::Datagram)
            }
            Work::Redis(commands) => return self.redis(&commands, limit),
            Work::Read { path, most } => file::read(&path, most, limit),
            Work::Write { path, content } => file::write(&path, &content, limit),
            Work::Http { .. } => Ok(JobOutcome::Impossible("HTTP is not carried out here".into())),
        };
        done.unwrap_or_else(JobOutcome::Failed)
    }

    #[cfg(feature = "redis")]
    fn redis(&self, commands: &[origin_core::redis::Command], limit: &Limit) -> JobOutcome {
        match &self.redis {
            Some(redis) => {
                let replies = redis.exchange(commands, limit).map(JobOutcome::Replies);
                replies.unwrap_or_else(JobOutcome::Failed)
            }
            None => JobOutcome::Impossible("no Redis server is configured".into()),
        }
    }

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_self, reason = "its twin uses it")]
    fn redis(&self, _: &[origin_core::redis::Command], _: &Limit) -> JobOutcome {
        JobOutcome::Impossible("built without the feature `redis`".into())
    }
}

/// Carries one job out on a thread beside the runtime. The thread ends soon after this is dropped,
/// and in any case at the deadline.
#[cfg(feature = "hyper")]
pub async fn aside<R: crate::asynchronous::AsyncRuntime>(
    runtime: &R,
    carrier: std::sync::Arc<Carrier>,
    work: Work,
    deadline: origin_core::Time,
) -> JobOutcome {
    let life = std::sync::Arc::new(());
    // From here, since the thread may begin late.
    let limit = Limit::within(runtime.now().until(deadline)).while_alive(&life);
    let outcome =
        futures_lite::future::or(runtime.unblock(move || carrier.carry(work, &limit)), async {
            runtime.sleep_until(deadline).await;
            Some(JobOutcome::Failed(Fault::Timeout))
        });
    outcome.await.unwrap_or(JobOutcome::Dropped)
}

/// What a job has found out when it fails: a fault, as yet without a job around it.
type Tried<T> = Result<T, Fault>;

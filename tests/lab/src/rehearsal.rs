//! The whole laboratory once through, with the plainest client there is: a
//! fresh connection per try, clusters in a fixed order, one timeout. Not a
//! test of clients, but of the pieces fitting together.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outage, Pace, Recorder, Report, Sample, State, World, WorldSpec};

const TIMEOUT: Duration = Duration::from_millis(120);

fn attempt(addr: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    (head == *b"HTTP/1.1 200").then_some(())
}

fn call(world: &World, start: Instant, at: Duration) -> Sample {
    let mut attempts = 0;
    let mut cluster = None;
    'tries: for name in ["beta", "alpha", "gamma"] {
        for server in world.cluster(name).servers() {
            attempts += 1;
            if attempt(server.addr()).is_some() {
                cluster = Some(name.to_owned());
                break 'tries;
            }
        }
    }
    Sample {
        at,
        latency: start.elapsed().saturating_sub(at),
        ok: cluster.is_some(),
        attempts,
        error: cluster.is_none().then(|| "exhausted".to_owned()),
        cluster,
    }
}

#[test]
fn an_outage_from_registry_to_picture() {
    let duration = Duration::from_secs(3);
    let spec = WorldSpec::default().only(&["billing"]).latency("alpha", 3);
    let world = Arc::new(World::start(spec).unwrap());
    let outage = Outage::default_for(duration);
    outage.check(&world).unwrap();
    let (recorder, pace) = (Recorder::new(), Pace::new(60.0, duration));
    let start = Instant::now();
    let marks = recorder.clone();
    let running = outage
        .spawn(start, Arc::clone(&world), move |phase| {
            marks.state(State {
                at: phase.at,
                cluster: "beta".into(),
                breaker: if phase.name.contains("refuses") {
                    "open".into()
                } else {
                    "closed".into()
                },
            });
        })
        .unwrap();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| pace.run(start, |at| recorder.record(call(&world, start, at))));
        }
    });
    let timeline = running.join();
    let report = Report::new(&recorder, &timeline);
    let summary = &report.summary;
    println!("{report}");
    assert_eq!(summary.calls, pace.total());
    assert_eq!(summary.ok + summary.failed, summary.calls);
    // This client tries everything everywhere, so it loses next to nothing
    // and pays with attempts.
    assert!(summary.success_rate > 0.9);
    assert!(summary.amplification > 1.2);
    assert!(summary.failover_ms.is_some() && summary.failback_ms.is_some());
    let hanging = &report.breakdown.phases[3];
    assert!(hanging.clusters.contains_key("gamma"));
    assert_eq!(report.states().len(), 3);
    assert!(report.svg("rehearsal").contains("primary hangs"));
    assert!(report.text().contains("failover"));
}

//! gRPC health checks over real HTTP/2, on the runtimes that can carry them; and the refusal of
//! the one that cannot.

use origin_core::config::{CheckKind, ChecksConfig};
use origin_core::policy::health::{Fail, ProbeOutcome, Status};
use origin_lab::{FaultServer, GrpcHealth, Serving};

use crate::checks::{becomes, checked, quick, verdict};
use crate::subject::{Subject, eventually, get};

on_every_async_runtime! {
    case_000_27_a_grpc_server_is_used_while_it_serves
    every_other_answer_is_read_by_the_protocol
}

fn case_000_27_a_grpc_server_is_used_while_it_serves<S: Subject>() {
    let (first, second) = (GrpcHealth::start().unwrap(), GrpcHealth::start().unwrap());
    first.set(Serving::NotServing);
    let urls = [first.url(), second.url()];
    let client = checked::<S>(quick(CheckKind::Grpc), &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    becomes(&client, &urls[1], Status::Healthy);
    let (_, history) = verdict(&client, &urls[0]);
    let not_serving = ProbeOutcome::Fail(Fail::NotServing(2));
    assert!(history.iter().all(|entry| entry.outcome == not_serving), "{history:?}");
    for _ in 0..20 {
        assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    }
    assert_eq!((first.calls(), second.calls()), (0, 20));
    first.set(Serving::Serving);
    becomes(&client, &urls[0], Status::Healthy);
    eventually("it is called again", || {
        get(&client, "billing", "/x").unwrap();
        first.calls() > 0
    });
    drop((_background, client));
    let checks = first.checks() + second.checks();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(first.checks() + second.checks() <= checks + 2);
    assert_eq!((first.wrong(), second.wrong()), (vec![], vec![]));
}

fn every_other_answer_is_read_by_the_protocol<S: Subject>() {
    let plain = FaultServer::start().unwrap();
    let server = |serving| {
        let server = GrpcHealth::start().unwrap();
        server.set_service("billing.v1", serving);
        server
    };
    let servers = [
        // It cannot be asked, so it is taken for healthy (gRPC proposal A17).
        (server(Serving::Unimplemented), Status::Healthy, Some(ProbeOutcome::Assumed)),
        (server(Serving::NoTrailers), Status::Unhealthy, Some(ProbeOutcome::Fail(Fail::Malformed))),
        (server(Serving::Huge), Status::Unhealthy, None),
        (server(Serving::Hang), Status::Unhealthy, None),
        (GrpcHealth::start().unwrap(), Status::Unhealthy, Some(ProbeOutcome::Fail(Fail::Grpc(5)))),
    ];
    let mut urls: Vec<String> = servers.iter().map(|(server, _, _)| server.url()).collect();
    urls.push(plain.url());
    let checks = ChecksConfig { grpc_service: "billing.v1".to_owned(), ..quick(CheckKind::Grpc) };
    let client = checked::<S>(checks, &urls).build().unwrap();
    let _background = S::background(&client);
    for ((server, status, outcome), url) in servers.iter().zip(&urls) {
        becomes(&client, url, *status);
        let (_, history) = verdict(&client, url);
        if let Some(outcome) = outcome {
            assert!(history.iter().all(|entry| entry.outcome == *outcome), "{history:?}");
        }
        assert_eq!(server.wrong(), Vec::<String>::new());
    }
    // A server that does not speak HTTP/2 is no gRPC server.
    becomes(&client, &plain.url(), Status::Unhealthy);
}

#[test]
fn a_runtime_without_http_2_refuses_them_and_names_the_field() {
    use origin_blocking::Blocking;
    let urls = ["http://127.0.0.1:9".to_owned()];
    let error = checked::<Blocking>(quick(CheckKind::Grpc), &urls).build().unwrap_err();
    assert_eq!(error.field, "policy.checks.kind");
    assert!(error.reason.contains("HTTP/2") && error.reason.contains("tcp"), "{error}");
    let own = |config: &mut origin_core::Config| {
        let mut policy = config.policy.clone();
        policy.checks = quick(CheckKind::Grpc);
        config.services.get_mut("billing").unwrap().policy = Some(policy);
    };
    let builder = checked::<Blocking>(ChecksConfig::default(), &urls).configure(own);
    assert_eq!(builder.build().unwrap_err().field, "services.billing.policy.checks.kind");
}

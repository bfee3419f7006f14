//! The policies of DesignSynapse as its typed clients meet them: what is repeated and what is not,
//! what a breaker counts, keys, and redirects that lead elsewhere.

use std::time::Duration;

use origin_core::Error;
use origin_core::config::Policy;
use origin_core::ops::design::{NewComment, NewProject, Upload};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use serde_json::json;

use crate::subject::Subject;
use crate::synapse::{TOKEN, as_clients_expect, project_service};

on_every_runtime! {
    case_002_03_04_timeouts_and_connections_are_repeated
    case_002_05_06_07_no_answer_is_repeated
    case_002_11_14_15_a_breaker_counts_a_call_once
    keys_make_creating_safe_to_repeat
    case_x_13_a_redirect_elsewhere_is_not_followed
}

/// The services on one server, with the waits of the platform made short.
fn client<S: Subject>(server: &FaultServer) -> Client<S> {
    let base = format!("{}/api/v1", server.url());
    let names = ["user-service", "project-service", "knowledge-service", "design-service"];
    names
        .iter()
        .fold(Client::<S>::builder(), |builder, name| builder.endpoint(*name, &base))
        .policy(Policy::preset("designsynapse").unwrap())
        .configure(|config| {
            config.policy.retry.backoff.base = Duration::from_millis(1);
            config.policy.deadline.attempt = Some(Duration::from_millis(150));
        })
        .build()
        .unwrap()
}

fn case_002_03_04_timeouts_and_connections_are_repeated<S: Subject>() {
    let server = as_clients_expect();
    let users = client::<S>(&server).users();
    server.set(Mode::HangBeforeHead);
    let error = S::wait(users.get(1)).unwrap_err();
    // Three attempts in total (002-08), and visibly none of the caller's mistakes (002-07).
    assert_eq!((server.request_count(), error.attempts()), (3, 3), "{error}");
    assert!(error.is_unavailable() && error.is_retryable(), "{error:?}");
    server.set(Mode::Refuse);
    let error = S::wait(users.get(1)).unwrap_err();
    assert_eq!(error.attempts(), 3, "{error}");
}

fn case_002_05_06_07_no_answer_is_repeated<S: Subject>() {
    let server = as_clients_expect();
    let client = client::<S>(&server);
    for code in [400, 404, 409, 429, 500, 502, 503] {
        server.reset_counts();
        server.set(Mode::status(code));
        let error = S::wait(client.projects().get(1)).unwrap_err();
        assert_eq!((server.request_count(), error.status()), (1, Some(code)), "{error}");
        assert_eq!(error.is_retryable(), code >= 500 || code == 429, "{error}");
    }
}

fn case_002_11_14_15_a_breaker_counts_a_call_once<S: Subject>() {
    let server = as_clients_expect();
    let users = client::<S>(&server).users();
    server.set(Mode::HangBeforeHead);
    for call in 1..=5 {
        // Three attempts each: if they counted one by one, the second call would open it. The first
        // failure of the fifth call is the fifth that counts, so that call goes no further.
        let error = S::wait(users.get(1)).unwrap_err();
        assert!(!error.is_circuit_open(), "call {call}: {error}");
        assert_eq!(server.request_count(), if call < 5 { 3 * call } else { 13 });
    }
    server.set(Mode::Ok);
    let before = server.request_count();
    let error = S::wait(users.get(1)).unwrap_err();
    assert!(error.is_circuit_open(), "{error}");
    let left = error.failure().unwrap().retry_in.unwrap();
    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
    assert_eq!(server.request_count(), before);
}

fn keys_make_creating_safe_to_repeat<S: Subject>() {
    let server = as_clients_expect();
    let client = client::<S>(&server);
    let (users, projects, designs) = (client.users(), client.projects(), client.designs());
    let (body, knowledge) = (json!({"name": "n"}), client.knowledge());
    let said = NewComment { content: "c".to_owned(), parent_id: None };
    let upload = Upload { filename: "f.pdf", content: b"x", description: None };
    // It may have arrived: without a key that is the end of it.
    server.set(Mode::HangBeforeHead);
    let requests = |failed: bool| {
        assert!(failed);
        let seen = server.requests();
        server.reset_counts();
        // The breaker is not what this is about.
        for name in ["user-service", "project-service", "knowledge-service", "design-service"] {
            let order = origin_core::service::Order::Reset;
            client.service(name).unwrap().order_service(order);
            client.service(name).unwrap().order(&format!("{}/api/v1", server.url()), order);
        }
        seen
    };
    let one = requests(S::wait(users.create(&body)).is_err());
    assert_eq!(one.len(), 1);
    assert_eq!(requests(S::wait(designs.optimize(1, &body)).is_err()).len(), 1);
    let keyed = [
        requests(S::wait(users.create_with_key(&body, "key-1")).is_err()),
        requests(S::wait(users.create_role_with_key(&body, "key-1")).is_err()),
        requests(S::wait(projects.create_with_key(&body, "key-1")).is_err()),
        requests(S::wait(projects.add_comment_with_key(1, &said, "key-1")).is_err()),
        requests(S::wait(knowledge.create_resource_with_key(&body, "key-1")).is_err()),
        requests(S::wait(knowledge.cite_with_key(1, 2, "c", "key-1")).is_err()),
        requests(S::wait(designs.create_with_key(&body, "key-1")).is_err()),
        requests(S::wait(designs.generate_visuals_with_key(1, &body, "key-1")).is_err()),
        requests(S::wait(designs.validate_with_key(1, &body, "key-1")).is_err()),
        requests(S::wait(designs.optimize_with_key(1, &body, "key-1")).is_err()),
        requests(S::wait(designs.apply_optimization_with_key(1, "key-1")).is_err()),
        requests(S::wait(designs.upload_file_with_key(1, &upload, "key-1")).is_err()),
        requests(S::wait(designs.add_comment_with_key(1, &said, "key-1")).is_err()),
    ];
    for (number, seen) in keyed.iter().enumerate() {
        assert_eq!(seen.len(), 3, "{number}");
        assert!(seen.iter().all(|one| one.header("idempotency-key") == Some("key-1")));
    }
}

fn case_x_13_a_redirect_elsewhere_is_not_followed<S: Subject>() {
    let (server, other) = (project_service(), as_clients_expect());
    let token = origin_core::Secret::new(TOKEN).unwrap();
    let projects = client::<S>(&server).projects().bearer(&token);
    let new = NewProject { name: "n".to_owned(), owner_id: Some(7), ..Default::default() };
    for location in [
        format!("{}/api/v1/projects/", other.url()),
        format!("//{}/api/v1/projects/", other.addr()),
        "/elsewhere/projects/".to_owned(),
        "/api/v1/../../projects/".to_owned(),
    ] {
        server.set(Mode::Redirect { to: location.clone(), code: 307 });
        let error = S::wait(projects.create(&new)).unwrap_err();
        assert_eq!(error.status(), Some(307), "{location}: {error}");
        assert!(!format!("{error:?}").contains(TOKEN));
    }
    // One that goes round in circles ends.
    server.reset_counts();
    server.set(Mode::Redirect { to: "/api/v1/projects/".to_owned(), code: 307 });
    let error: Error = S::wait(projects.create(&new)).unwrap_err();
    assert_eq!((error.status(), server.request_count()), (Some(307), 4), "{error}");
    assert_eq!(other.request_count(), 0, "the token has left the service");
}

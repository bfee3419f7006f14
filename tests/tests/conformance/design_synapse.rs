//! The typed clients of DesignSynapse: every method against a server that speaks as the platform's
//! client code expects, and against servers as they really are (`synapse.rs`).

use std::process::Command;
use std::time::{Duration, Instant};

use origin_core::config::Policy;
use origin_core::ops::design::{
    DesignFilter, NewComment, NewDesign, NewProject, Paging, ProjectStatus, ResourceFilter, Search,
    Upload,
};
use origin_core::{Error, Secret};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use serde_json::json;

use crate::subject::Subject;
use crate::synapse::{
    PASSWORD, TOKEN, as_clients_expect, design_service, knowledge_service, project_service, titled,
    user_service,
};

on_every_runtime! {
    case_002_32_to_34_users_roles_and_signing_in
    case_002_35_and_36_projects_and_comments
    case_002_37_to_40_knowledge
    case_002_33_the_user_service_as_it_is
    case_002_35_the_project_service_as_it_is
    case_002_37_the_knowledge_service_as_it_is
    case_002_28_the_design_service_as_it_is
    case_002_26_and_27_health_is_asked_at_the_host
    case_002_42_and_31_built_with_no_arguments
    case_002_43_closed_after_an_error
    case_002_46_ownership_and_membership
    case_002_47_a_hung_server_does_not_hang_the_caller
    case_002_49_the_password_is_nowhere
    case_002_51_a_failing_service_leaves_the_others_alone
}

const SERVICES: [&str; 6] = [
    "user-service",
    "project-service",
    "knowledge-service",
    "design-service",
    "analytics-service",
    "marketplace-service",
];

/// A client of that server for all services, with the policies of the platform made quick.
fn client<S: Subject>(server: &FaultServer) -> Client<S> {
    let base = format!("{}/api/v1", server.url());
    let builder = Client::<S>::builder().policy(Policy::preset("designsynapse").unwrap());
    SERVICES
        .iter()
        .fold(builder, |builder, name| builder.endpoint(*name, &base))
        .configure(|config| config.policy.retry.backoff.base = Duration::from_millis(1))
        .build()
        .unwrap()
}

fn token() -> Secret {
    Secret::new(TOKEN).unwrap()
}

fn case_002_32_to_34_users_roles_and_signing_in<S: Subject>() {
    let server = as_clients_expect();
    let users = client::<S>(&server).users();
    let user = S::wait(users.create(&json!({"email": "a@b", "plan": "free"}))).unwrap();
    assert_eq!((user.id, user.other["plan"].as_str()), (1, Some("free")));
    assert_eq!(S::wait(users.get(1)).unwrap(), user);
    let user = S::wait(users.update(1, &json!({"email": "c@d"}))).unwrap();
    assert_eq!(user.email.as_deref(), Some("c@d"));
    assert_eq!(S::wait(users.roles(1)).unwrap()[0].name, "admin");
    // 204, and gone.
    S::wait(users.delete(1)).unwrap();
    assert_eq!(S::wait(users.get(1)).unwrap_err().status(), Some(404));
    let session = S::wait(users.authenticate("a@b", PASSWORD)).unwrap();
    assert_eq!((session.access_token, session.user_id), (token(), Some(7)));
    // What is no id is not sent.
    let before = server.request_count();
    assert!(matches!(S::wait(users.get(0)), Err(Error::Request { .. })));
    assert_eq!(server.request_count(), before);
    let keyed = users.create_with_key(&json!({"email": "a@b"}), "key-1");
    S::wait(keyed).unwrap();
    assert_eq!(server.requests().pop().unwrap().header("idempotency-key"), Some("key-1"));
}

fn case_002_35_and_36_projects_and_comments<S: Subject>() {
    let server = as_clients_expect();
    let projects = client::<S>(&server).projects();
    for name in ["one", "two", "three"] {
        let new = NewProject { name: name.to_owned(), owner_id: Some(7), ..Default::default() };
        S::wait(projects.create(&new)).unwrap();
    }
    assert_eq!(S::wait(projects.get(2)).unwrap().name, "two");
    let two = S::wait(projects.list(Paging { skip: 1, limit: 2 })).unwrap();
    assert_eq!(two.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["two", "three"]);
    assert_eq!(server.requests().pop().unwrap().path, "/api/v1/projects?skip=1&limit=2");
    let project = S::wait(projects.update(2, &json!({"status": "review"}))).unwrap();
    assert_eq!(project.status, Some(ProjectStatus::Review));
    let comment = NewComment { content: "well done".to_owned(), parent_id: None };
    assert_eq!(S::wait(projects.add_comment(2, &comment)).unwrap().project_id, Some(2));
    assert_eq!(S::wait(projects.comments(2)).unwrap()[0].content, "well done");
    S::wait(projects.delete(2)).unwrap();
    assert_eq!(S::wait(projects.get(2)).unwrap_err().status(), Some(404));
}

fn case_002_37_to_40_knowledge<S: Subject>() {
    let server = as_clients_expect();
    let knowledge = client::<S>(&server).knowledge();
    let resource = S::wait(knowledge.create_resource(&titled("Concrete"))).unwrap();
    assert_eq!(
        S::wait(knowledge.resource(resource.id)).unwrap().title.as_deref(),
        Some("Concrete")
    );
    // 002-50: any text arrives as it was meant.
    let search = Search { resource_type: Some("pdf"), ..Search::new("ä & b#c=d +e?") };
    let found = S::wait(knowledge.search(&search)).unwrap();
    assert_eq!(
        found.results[0].title.as_deref(),
        Some("query=%C3%A4%20%26%20b%23c%3Dd%20%2Be%3F&limit=20&resource_type=pdf")
    );
    let citation = S::wait(knowledge.cite(1, 2, "as said")).unwrap();
    assert_eq!((citation.resource_id, citation.project_id), (Some(1), Some(2)));
    assert_eq!(S::wait(knowledge.project_resources(2)).unwrap().len(), 1);
    assert_eq!(S::wait(knowledge.recommendations(2)).unwrap()[0].id, Some(1));
}

fn case_002_33_the_user_service_as_it_is<S: Subject>() {
    let server = user_service();
    let users = client::<S>(&server).users().published();
    let error = S::wait(users.own_roles()).unwrap_err();
    assert!(error.to_string().contains("401 (AUTHENTICATION_ERROR)"), "{error}");
    let session = S::wait(users.authenticate("a@b", PASSWORD)).unwrap();
    assert_eq!(session.roles[0].name, "architect");
    let session = S::wait(users.refresh(&session.refresh_token.unwrap())).unwrap();
    let users = users.bearer(&session.access_token);
    assert_eq!(S::wait(users.create_role(&json!({"name": "lead"}))).unwrap().name, "lead");
    assert_eq!(S::wait(users.all_roles()).unwrap().len(), 1);
    S::wait(users.grant(7, "lead architect")).unwrap();
    S::wait(users.revoke(7, "lead architect")).unwrap();
    assert_eq!(S::wait(users.own_roles()).unwrap()[0].name, "architect");
    assert_eq!(S::wait(users.profile()).unwrap()["bio"], "b");
    assert_eq!(S::wait(users.replace_profile(&json!({"bio": "c"}))).unwrap()["bio"], "c");
    assert_eq!(S::wait(users.change_profile(&json!({"bio": "d"}))).unwrap()["bio"], "d");
    assert_eq!(S::wait(users.get(7)).unwrap_err().status(), Some(404)); // it has none
    let other = users.header("accept-version", "v3");
    assert_eq!(S::wait(other.own_roles()).unwrap_err().status(), Some(406));
}

fn case_002_35_the_project_service_as_it_is<S: Subject>() {
    let server = project_service();
    let client = client::<S>(&server);
    let new = NewProject { name: "n".to_owned(), owner_id: Some(7), ..Default::default() };
    for (projects, redirects) in [(client.projects().published(), 0), (client.projects(), 4)] {
        let before = server.request_count();
        let projects = projects.bearer(&token());
        let project = S::wait(projects.create(&new)).unwrap();
        let id = project.id;
        assert_eq!((project.name.as_str(), project.owner_id), ("n", Some(7)));
        assert!(!S::wait(projects.list(Paging::default())).unwrap().is_empty());
        let status = S::wait(projects.set_status(id, &ProjectStatus::Completed)).unwrap().status;
        assert_eq!(status, Some(ProjectStatus::Completed));
        let said = NewComment { content: "c".to_owned(), parent_id: None };
        let comment = S::wait(projects.add_comment(id, &said)).unwrap();
        assert!(!S::wait(projects.comments(id)).unwrap().is_empty());
        let comment = comment.id;
        assert_eq!(S::wait(projects.comment(id, comment)).unwrap().author_id, Some(7));
        let said = json!({"content": "d"});
        assert_eq!(S::wait(projects.update_comment(id, comment, &said)).unwrap().content, "d");
        S::wait(projects.delete_comment(id, comment)).unwrap();
        S::wait(projects.delete(id)).unwrap();
        assert_eq!(server.request_count() - before, 9 + redirects);
    }
    // The token stays out of what is asked without one.
    let none = S::wait(client.projects().published().comments(1)).unwrap_err();
    assert_eq!(none.status(), Some(401));
    let wide = Paging { skip: 0, limit: 1001 };
    let error = S::wait(client.projects().published().list(wide)).unwrap_err();
    let words = error.said().unwrap().message();
    assert_eq!((error.status(), words.as_deref()), (Some(422), Some("out of range")));
    let anything = client.projects().header("accept", "*/*");
    assert_eq!(S::wait(anything.get(1)).unwrap_err().status(), Some(406));
}

fn case_002_37_the_knowledge_service_as_it_is<S: Subject>() {
    let server = knowledge_service();
    let client = client::<S>(&server);
    let nobody = S::wait(client.knowledge().published().resource(1)).unwrap_err();
    assert_eq!(nobody.status(), Some(401));
    let knowledge = client.knowledge().published().acting_as(7);
    let resource = S::wait(knowledge.create_resource(&titled("Concrete"))).unwrap();
    assert_eq!(S::wait(knowledge.resource(resource.id)).unwrap(), resource);
    let page = S::wait(knowledge.resources(ResourceFilter::default())).unwrap();
    assert_eq!((page.total, page.items.len()), (Some(1), 1));
    S::wait(knowledge.cite(1, 2, "as said")).unwrap();
    assert_eq!(S::wait(knowledge.project_citations(2)).unwrap().len(), 1);
    assert_eq!(S::wait(knowledge.resource_citations(1)).unwrap().len(), 1);
    let found = S::wait(knowledge.search(&Search::new("x"))).unwrap();
    assert_eq!((found.results[0].resource_id, found.page_size), (Some(1), Some(20)));
    assert_eq!(S::wait(knowledge.search_project(2, &Search::new("x"))).unwrap().total, Some(1));
    assert_eq!(S::wait(knowledge.recommendations(2)).unwrap().len(), 1);
    // The paths of the client code find their way by redirects.
    let as_clients = client.knowledge().acting_as(7);
    S::wait(as_clients.cite(1, 2, "again")).unwrap();
    assert_eq!(server.requests().pop().unwrap().path, "/api/v1/citations/");
    // One operation moved by hand.
    let moved = as_clients.path("search", "/search/global");
    assert_eq!(S::wait(moved.search(&Search::new("x"))).unwrap().results.len(), 1);
}

fn case_002_28_the_design_service_as_it_is<S: Subject>() {
    let server = design_service();
    let designs = client::<S>(&server).designs();
    let new = NewDesign { project_id: 2, name: "House".to_owned(), ..Default::default() };
    assert_eq!(S::wait(designs.create(&new)).unwrap_err().status(), Some(401));
    let designs = designs.bearer(&token());
    let design = S::wait(designs.create(&new)).unwrap();
    assert_eq!((design.id, design.version), (1, Some(1)));
    S::wait(designs.create_with_key(&new, "key-1")).unwrap();
    assert_eq!(S::wait(designs.list(DesignFilter::default())).unwrap().len(), 2);
    assert_eq!(S::wait(designs.get(1)).unwrap().name.as_deref(), Some("House"));
    let renamed = S::wait(designs.update(1, &json!({"name": "Hut"}))).unwrap();
    assert_eq!(renamed.name.as_deref(), Some("Hut"));
    let wishes = json!({"visual_types": ["rendering"]});
    let visuals = S::wait(designs.generate_visuals(1, &wishes)).unwrap();
    let error = S::wait(designs.generate_visuals(1, &wishes)).unwrap_err();
    assert!(error.to_string().contains("409 (CONFLICT)"), "{error}");
    let status = S::wait(designs.visual_status(1)).unwrap();
    assert_eq!(status.state(), Some("pending"));
    let task = S::wait(designs.task(&visuals.task_id.unwrap())).unwrap();
    assert!(!task.is_over());
    assert_eq!(S::wait(designs.task("t-2")).unwrap_err().status(), Some(408));
    let validation = S::wait(designs.validate(1, &json!({"rule_set": "r"}))).unwrap();
    assert_eq!((validation.is_compliant, validation.violations.len()), (false, 1));
    assert_eq!(S::wait(designs.validations(1)).unwrap(), [validation]);
    let proposals = S::wait(designs.optimize(1, &json!({"optimization_types": ["cost"]}))).unwrap();
    assert_eq!(S::wait(designs.optimizations(1)).unwrap(), proposals);
    assert_eq!(S::wait(designs.apply_optimization(proposals[0].id)).unwrap().version, Some(2));
    let upload = Upload { filename: "plan.pdf", content: b"%PDF", description: Some("a plan") };
    let file = S::wait(designs.upload_file(1, &upload)).unwrap();
    assert_eq!(S::wait(designs.files(1)).unwrap(), [file]);
    assert_eq!(&S::wait(designs.download_file(1)).unwrap()[..], b"%PDF \xff\x00");
    S::wait(designs.delete_file(1)).unwrap();
    let comment = S::wait(designs.add_comment(1, &json!({"content": "c"}))).unwrap();
    assert_eq!(S::wait(designs.comments(1)).unwrap(), [comment]);
    assert_eq!(S::wait(designs.update_comment(1, &json!({"content": "d"}))).unwrap().content, "d");
    S::wait(designs.delete_comment(1)).unwrap();
    let export = S::wait(designs.export(1, "ifc")).unwrap();
    assert_eq!(export.content_type.as_deref(), Some("application/x-step"));
    S::wait(designs.delete(1)).unwrap();
}

fn case_002_26_and_27_health_is_asked_at_the_host<S: Subject>() {
    let server = as_clients_expect();
    let all = client::<S>(&server);
    let probes = [
        all.users().health(),
        all.projects().health(),
        all.knowledge().health(),
        all.designs().health(),
        all.analytics().health(),
        all.marketplace().health(),
    ];
    for probe in probes {
        assert!(S::wait(probe).unwrap().is_healthy());
        assert_eq!(server.requests().pop().unwrap().path, "/health");
    }
    let ready = S::wait(all.marketplace().ready()).unwrap();
    assert_eq!((ready.code, ready.is_up(), ready.other.contains_key("checks")), (503, false, true));
    // As it is published.
    let (users, projects, knowledge) = (user_service(), project_service(), knowledge_service());
    let probe = S::wait(client::<S>(&users).users().published().health()).unwrap();
    assert!(probe.is_up() && !probe.is_healthy(), "{probe:?}");
    assert!(S::wait(client::<S>(&projects).projects().published().health()).unwrap().is_healthy());
    let probe = client::<S>(&knowledge).knowledge().published().health();
    assert!(S::wait(probe).unwrap().is_healthy());
    // What is known of analytics and the marketplace is the address, and raw calls.
    let own = all.analytics();
    let call = own.api().get("projects", "/projects").query("skip", 0).query("limit", 1);
    assert!(S::wait(call.read::<Vec<serde_json::Value>>()).unwrap().is_empty());
}

/// What tells the test that it is the child.
const CHILD: &str = "ORIGIN_TESTS_SYNAPSE";

/// The environment of a process belongs to the process, so another one is started.
fn case_002_42_and_31_built_with_no_arguments<S: Subject>() {
    match std::env::var(CHILD).as_deref() {
        Ok("good") => {
            let client = S::there(Client::<S>::design_synapse).unwrap();
            assert_eq!(S::wait(client.users().roles(7)).unwrap()[0].name, "admin");
            assert!(S::wait(client.projects().list(Paging::default())).unwrap().is_empty());
            for name in SERVICES {
                assert!(client.service(name).is_ok(), "{name}");
            }
            return;
        }
        Ok(_) => {
            let error = S::there(Client::<S>::design_synapse).unwrap_err();
            assert!(error.to_string().contains("KNOWLEDGE_SERVICE_PORT"), "{error}");
            return;
        }
        Err(_) => (),
    }
    let server = as_clients_expect();
    let name = format!(
        "design_synapse::case_002_42_and_31_built_with_no_arguments::on_{}",
        S::NAME.replace('-', "_")
    );
    for (kind, knowledge) in [("good", "8002"), ("bad", "eight")] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name])
            .env(CHILD, kind)
            .env("USER_SERVICE_HOST", "127.0.0.1")
            .env("USER_SERVICE_PORT", server.addr().port().to_string())
            .env("PROJECT_SERVICE_HOST", "127.0.0.1")
            .env("PROJECT_SERVICE_PORT", server.addr().port().to_string())
            .env("KNOWLEDGE_SERVICE_PORT", knowledge)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{kind}: {said}");
    }
    let seen: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(seen, ["/api/v1/users/7/roles", "/api/v1/projects?skip=0&limit=100"]);
}

fn case_002_43_closed_after_an_error<S: Subject>() {
    let server = as_clients_expect();
    let client = client::<S>(&server);
    let worked = S::wait(client.users().get(99));
    // Whatever came of it, the client is closed; a call that is still to be made is made.
    let closed = S::wait(client.close(Duration::from_secs(5))).unwrap();
    assert_eq!((worked.unwrap_err().status(), closed), (Some(404), true));
    assert_eq!(S::wait(client.users().roles(7)).unwrap().len(), 1);
    assert!(S::wait(client.close(Duration::from_secs(5))).unwrap());
}

fn case_002_46_ownership_and_membership<S: Subject>() {
    let server = as_clients_expect();
    let projects = client::<S>(&server).projects();
    for owner_id in [Some(7), Some(8), None] {
        let new = NewProject { name: "n".to_owned(), owner_id, ..Default::default() };
        S::wait(projects.create(&new)).unwrap();
    }
    let owns = |project| S::wait(projects.is_owner(7, project)).unwrap();
    assert_eq!([1, 2, 3, 4].map(owns), [true, false, false, false]);
    // Project 1 is that of user 7, and nobody's whose number is 1.
    assert!(!S::wait(projects.is_owner(1, 1)).unwrap());
    let member = |user| S::wait(projects.is_member(1, user));
    assert_eq!([7, 8, 9].map(|user| member(user).unwrap()), [true, false, false]);
    assert_eq!(member(500).unwrap_err().status(), Some(500));
    server.set(Mode::status(500));
    assert_eq!(S::wait(projects.is_owner(7, 1)).unwrap_err().status(), Some(500));
}

fn case_002_47_a_hung_server_does_not_hang_the_caller<S: Subject>() {
    let server = as_clients_expect();
    let client = client::<S>(&server);
    let mut config = client.config();
    config.policy.deadline.attempt = Some(Duration::from_millis(100));
    client.reconfigure(config).unwrap();
    for mode in [Mode::HangBeforeHead, Mode::HangAfterHead] {
        server.set(mode.clone());
        server.reset_counts();
        let began = Instant::now();
        let error = S::wait(client.users().get(7)).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{mode:?}: {error}");
        assert!(!matches!(error, Error::Decode { .. } | Error::Status { .. }), "{error}");
        assert!(server.request_count() <= 3, "{mode:?}");
        server.set(Mode::Ok);
    }
}

fn case_002_49_the_password_is_nowhere<S: Subject>() {
    let server = as_clients_expect();
    let client = client::<S>(&server);
    let users = client.users();
    let wrong = format!("{PASSWORD}-wrong");
    let refused = S::wait(users.authenticate("a@b", &wrong)).unwrap_err();
    // The server repeats it; only who asks for its words sees them.
    assert!(refused.said().unwrap().message().unwrap().contains("pl4nted"));
    server.set(Mode::ResetBeforeHead);
    let broken = S::wait(users.authenticate("a@b", PASSWORD)).unwrap_err();
    server.set(Mode::Ok);
    let session = S::wait(users.authenticate("a@b", PASSWORD)).unwrap();
    let signed_in = users.bearer(&session.access_token);
    S::wait(signed_in.roles(7)).unwrap();
    let all = format!(
        "{refused} {refused:?} {} {broken} {broken:?} {} {session:?} {signed_in:?} {client:?} {:?} {:?} {:?}",
        refused.advice(),
        broken.advice(),
        client.snapshot(),
        client.notices(),
        client.config()
    );
    assert!(!all.contains("pl4nted"), "{all}");
    // Nor in what the server logs of a request line; and to sign in twice is two requests.
    assert!(server.requests().iter().all(|seen| !seen.path.contains("pl4nted")));
    assert_eq!(
        server.requests().pop().unwrap().header("authorization"),
        Some("Bearer pl4nted-token")
    );
}

fn case_002_51_a_failing_service_leaves_the_others_alone<S: Subject>() {
    let (bad, good) = (as_clients_expect(), as_clients_expect());
    bad.set(Mode::status(500));
    let client = Client::<S>::builder()
        .policy(Policy::preset("designsynapse").unwrap())
        .endpoint("user-service", format!("{}/api/v1", bad.url()))
        .endpoint("project-service", format!("{}/api/v1", good.url()))
        .build()
        .unwrap();
    for _ in 0..5 {
        assert_eq!(S::wait(client.users().get(1)).unwrap_err().status(), Some(500));
    }
    let before = bad.request_count();
    let began = Instant::now();
    let open = S::wait(client.users().get(1)).unwrap_err();
    assert!(matches!(open, Error::Refused(_)), "{open:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(bad.request_count(), before);
    assert!(S::wait(client.projects().list(Paging::default())).is_ok());
}

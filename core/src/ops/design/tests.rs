//! What each operation sends and what becomes of the answers (contracts §4.4–4.6).

use http::header::{ACCEPT, AUTHORIZATION};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Error;
use crate::ops::fake::Fake;
use crate::secret::Secret;

const PASSWORD: &str = "pl4nted-password";

/// Answers everything so.
fn server(status: u16, body: &str) -> Fake {
    let body = body.to_owned();
    Fake::new(move |_| (status, body.clone()))
}

fn token() -> Secret {
    Secret::new("pl4nted-token").unwrap()
}

#[test]
fn case_002_32_to_34_users() {
    let fake = server(200, r#"{"id": 7, "email": "a@b", "plan": "free"}"#);
    let users = Users::new(fake.clone());
    let user = users.get(7).unwrap();
    assert_eq!((user.id, user.email.as_deref()), (7, Some("a@b")));
    assert_eq!(user.other["plan"], "free");
    assert_eq!(fake.line(), "GET /users/7");
    let fields = json!({"email": "a@b"});
    users.create(&fields).unwrap();
    assert_eq!(fake.line(), r#"POST /users {"email":"a@b"}"#);
    users.update(7, &fields).unwrap();
    assert_eq!(fake.line(), r#"PUT /users/7 {"email":"a@b"}"#);
    // Without a key a creating call is what its method says, with one it may be repeated.
    users.create(&fields).unwrap();
    users.create_with_key(&fields, "k-1").unwrap();
    let sent = fake.sent();
    assert_eq!((sent[0].spec.idempotent, sent[1].spec.idempotent), (None, Some(true)));
    assert_eq!(sent[1].headers["idempotency-key"], "k-1");

    let fake = server(204, "");
    let users = Users::new(fake.clone());
    users.delete(7).unwrap();
    assert_eq!(fake.line(), "DELETE /users/7");
    users.grant(7, "a/b").unwrap();
    assert_eq!(fake.line(), "POST /users/7/roles/a%2Fb");
    users.revoke(7, "admin").unwrap();
    assert_eq!(fake.line(), "DELETE /users/7/roles/admin");

    let fake = server(
        200,
        r#"[{"id": 1, "name": "admin", "scope": 2}, {"name": "x", "role": 1}, "viewer"]"#,
    );
    let users = Users::new(fake.clone());
    let names = |roles: Vec<Role>| roles.into_iter().map(|r| r.name).collect::<Vec<_>>();
    assert_eq!(names(users.roles(7).unwrap()), ["admin", "x", "viewer"]);
    assert_eq!(fake.line(), "GET /users/7/roles");
    users.own_roles().unwrap();
    assert_eq!(fake.line(), "GET /users/me/roles");
    users.all_roles().unwrap();
    assert_eq!(fake.line(), "GET /roles");
    let fake = server(201, r#"{"id": 1, "name": "x"}"#);
    let users = Users::new(fake.clone());
    users.create_role(&json!({"name": "x"})).unwrap();
    assert_eq!(fake.line(), r#"POST /roles {"name":"x"}"#);
    for call in [users.profile(), users.replace_profile(&json!(1)), users.change_profile(&json!(1))]
    {
        assert_eq!(call.unwrap()["name"], "x");
    }
    let methods: Vec<String> = fake.sent().iter().map(|r| format!("{r:?}")).collect();
    assert_eq!(
        methods,
        [
            "GET /users/me/profile (0 body bytes)",
            "PUT /users/me/profile (1 body bytes)",
            "PATCH /users/me/profile (1 body bytes)"
        ]
    );
}

#[test]
fn case_002_33_and_49_signing_in_keeps_the_password_to_itself() {
    let fake = server(
        200,
        r#"{"access_token": "pl4nted-token", "refresh_token": "pl4nted-r", "token_type": "bearer",
            "user_id": 7, "roles": ["admin"]}"#,
    );
    let users = Users::new(fake.clone());
    let session = users.authenticate("a@b", PASSWORD).unwrap();
    assert_eq!((session.user_id, session.roles[0].name.as_str()), (Some(7), "admin"));
    let sent = fake.sent().remove(0);
    assert_eq!((sent.path.as_str(), sent.spec.idempotent), ("/auth/login", Some(true)));
    let body = String::from_utf8(sent.body.to_vec()).unwrap();
    assert_eq!(body, format!(r#"{{"email":"a@b","password":"{PASSWORD}"}}"#));
    let printed = format!("{session:?} {users:?} {sent:?}");
    assert!(!printed.contains("pl4nted"), "{printed}");
    // As the server publishes it: a form.
    users.clone().published().authenticate("a+b@c", "x&y=z ä").unwrap();
    assert_eq!(fake.line(), "POST /token username=a%2Bb%40c&password=x%26y%3Dz%20%C3%A4");
    users.refresh(&session.refresh_token.unwrap()).unwrap();
    assert_eq!(fake.line(), r#"POST /token/refresh {"refresh_token":"pl4nted-r"}"#);
    // With the token from now on.
    let users = users.bearer(&session.access_token);
    users.authenticate("a", "b").unwrap();
    let sent = fake.sent().remove(0);
    assert_eq!(sent.headers[AUTHORIZATION], "Bearer pl4nted-token");
    assert!(sent.headers[AUTHORIZATION].is_sensitive());
    assert!(!format!("{:?} {users:?}", sent.headers).contains("pl4nted"));
    // A refusal repeats nothing; a session without a token, or as a list, is none.
    let refusal = server(401, &format!(r#"{{"detail": "bad password {PASSWORD}"}}"#));
    let error = Users::new(refusal).authenticate("a@b", PASSWORD).unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    for body in ["{}", r#"{"access_token": ""}"#, r#"["pl4nted-token"]"#, "null"] {
        let error = Users::new(server(200, body)).authenticate("a", "b").unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{body}");
        assert!(!format!("{error} {error:?}").contains("pl4nted"));
    }
}

#[test]
fn case_002_35_and_36_projects() {
    let whole = r#"{"id": 42, "name": "n", "description": null, "is_public": true, "owner_id": 7,
        "status": "in_progress", "version": 3, "project_metadata": null, "is_archived": false,
        "new_field": [1]}"#;
    let fake = server(200, whole);
    let projects = Projects::new(fake.clone());
    let project = projects.get(42).unwrap();
    assert_eq!(project.status, Some(ProjectStatus::InProgress));
    assert!(project.is_owned_by(7) && !project.is_owned_by(8));
    let sent = fake.sent().remove(0);
    assert_eq!(sent.path, "/projects/42");
    assert_eq!(sent.headers[ACCEPT], "application/vnd.design-synapse.v1+json");
    let new = NewProject { name: "n".to_owned(), owner_id: Some(7), ..NewProject::default() };
    projects.create(&new).unwrap();
    assert_eq!(fake.line(), r#"POST /projects {"name":"n","owner_id":7}"#);
    projects.update(42, &json!({"name": "m"})).unwrap();
    assert_eq!(fake.line(), r#"PUT /projects/42 {"name":"m"}"#);
    projects.set_status(42, &ProjectStatus::Review).unwrap();
    assert_eq!(fake.line(), r#"PATCH /projects/42/status {"status":"review"}"#);
    let odd = ProjectStatus::Other("on_hold".to_owned());
    projects.set_status(42, &odd).unwrap();
    assert_eq!(fake.line(), r#"PATCH /projects/42/status {"status":"on_hold"}"#);
    projects.create_with_key(&new, "k").unwrap();
    assert_eq!(fake.sent()[0].headers["idempotency-key"], "k");

    let fake = server(200, &format!("[{whole}]"));
    let projects = Projects::new(fake.clone());
    assert_eq!(projects.list(Paging::default()).unwrap().len(), 1);
    assert_eq!(fake.line(), "GET /projects?skip=0&limit=100");
    projects.clone().published().list(Paging { skip: 5, limit: 1 }).unwrap();
    assert_eq!(fake.line(), "GET /projects/?skip=5&limit=1");

    let comment =
        r#"{"id": 1, "content": "c", "replies": [{"id": 2, "content": "d", "replies": null}]}"#;
    let fake = server(200, &format!("[{comment}]"));
    let projects = Projects::new(fake.clone());
    assert_eq!(projects.comments(42).unwrap()[0].replies[0].id, 2);
    assert_eq!(fake.line(), "GET /projects/42/comments");
    let fake = server(201, comment);
    let projects = Projects::new(fake.clone());
    let new = NewComment { content: "c".to_owned(), parent_id: None };
    projects.add_comment(42, &new).unwrap();
    assert_eq!(fake.line(), r#"POST /projects/42/comments {"content":"c"}"#);
    projects.clone().published().add_comment_with_key(42, &new, "k").unwrap();
    assert_eq!(fake.line(), r#"POST /projects/42/comments/ {"content":"c"}"#);
    projects.comment(42, 1).unwrap();
    assert_eq!(fake.line(), "GET /projects/42/comments/1");
    projects.update_comment(42, 1, &new).unwrap();
    assert_eq!(fake.line(), r#"PUT /projects/42/comments/1 {"content":"c"}"#);
    let fake = server(204, "");
    let projects = Projects::new(fake.clone());
    projects.delete_comment(42, 1).unwrap();
    assert_eq!(fake.line(), "DELETE /projects/42/comments/1");
    projects.delete(42).unwrap();
    assert_eq!(fake.line(), "DELETE /projects/42");
}

#[test]
fn case_002_46_ownership_compares_owners_and_membership_asks() {
    let owner = |status, body: &str| Projects::new(server(status, body)).is_owner(7, 42);
    assert!(owner(200, r#"{"id": 42, "name": "n", "owner_id": 7}"#).unwrap());
    assert!(!owner(200, r#"{"id": 42, "name": "n", "owner_id": 8}"#).unwrap());
    // The id of the project is not that of its owner.
    assert!(!owner(200, r#"{"id": 7, "name": "n", "owner_id": 8}"#).unwrap());
    assert!(!owner(200, r#"{"id": 42, "name": "n"}"#).unwrap());
    assert!(!owner(404, r#"{"detail": "Project not found"}"#).unwrap());
    assert_eq!(owner(403, "{}").unwrap_err().status(), Some(403));
    assert!(owner(200, "7").is_err());
    let fake = server(204, "");
    assert!(Projects::new(fake.clone()).is_member(42, 7).unwrap());
    assert_eq!(fake.line(), "GET /projects/42/members/7");
    for (status, member) in [(200, Some(true)), (403, Some(false)), (404, Some(false)), (401, None)]
    {
        let found = Projects::new(server(status, "")).is_member(42, 7);
        assert_eq!(found.ok(), member, "{status}");
    }
}

#[test]
fn case_002_37_to_40_and_50_knowledge() {
    let fake = server(200, r#"{"id": 1, "resource_id": 3, "title": "t", "topics": ["x"]}"#);
    let knowledge = Knowledge::new(fake.clone());
    assert_eq!(knowledge.resource(1).unwrap().title.as_deref(), Some("t"));
    assert_eq!(fake.line(), "GET /resources/1");
    knowledge.create_resource(&json!({"title": "t"})).unwrap();
    assert_eq!(fake.line(), r#"POST /resources {"title":"t"}"#);
    knowledge.clone().published().create_resource_with_key(&json!({}), "k").unwrap();
    assert_eq!(fake.line(), "POST /resources/ {}");
    knowledge.cite(3, 42, "as said").unwrap();
    let body = r#"{"context":"as said","project_id":42,"resource_id":3}"#;
    assert_eq!(fake.line(), format!("POST /citations {body}"));
    knowledge.clone().published().cite_with_key(3, 42, "as said", "k").unwrap();
    assert_eq!(fake.line(), format!("POST /citations/ {body}"));

    let fake =
        server(200, r#"{"results": [{"id": 1, "resource_id": 3, "score": 0.75}], "total": 9}"#);
    let knowledge = Knowledge::new(fake.clone());
    let search = Search { resource_type: Some("pdf"), page: Some(2), ..Search::new("ä & b#c=d") };
    let found = knowledge.search(&search).unwrap();
    assert_eq!((found.results[0].id, found.total), (Some(1), Some(9)));
    let query = "query=%C3%A4%20%26%20b%23c%3Dd";
    assert_eq!(fake.line(), format!("GET /search?{query}&limit=20&resource_type=pdf"));
    knowledge.search(&Search::new("x")).unwrap();
    assert_eq!(fake.line(), "GET /search?query=x&limit=20");
    let published = knowledge.clone().published();
    let search = Search { min_score_permille: Some(300), ..search };
    published.search(&search).unwrap();
    assert_eq!(
        fake.line(),
        format!("GET /search/global?{query}&page_size=20&resource_type=pdf&min_score=0.300&page=2")
    );
    published.search_project(42, &Search::new("x")).unwrap();
    assert_eq!(fake.line(), "GET /search/project/42?query=x&page_size=20");
    assert!(Knowledge::new(server(200, r#"{"results": null}"#)).search(&search).is_ok());
    assert!(Knowledge::new(server(200, "{}")).search(&search).is_err());

    let fake = server(200, r#"[{"id": 1, "score": 1}]"#);
    let knowledge = Knowledge::new(fake.clone()).acting_as(7);
    knowledge.project_resources(42).unwrap();
    assert_eq!(fake.sent()[0].headers[AUTHORIZATION], "Bearer 7");
    knowledge.recommendations(42).unwrap();
    assert_eq!(fake.line(), "GET /projects/42/recommendations");
    knowledge.clone().published().recommendations(42).unwrap();
    assert_eq!(fake.line(), "GET /search/project/42/recommendations");
    knowledge.project_citations(42).unwrap();
    assert_eq!(fake.line(), "GET /citations/project/42");
    knowledge.resource_citations(1).unwrap();
    assert_eq!(fake.line(), "GET /citations/resource/1");
    let fake = server(200, r#"{"total": 1, "page": 1, "limit": 20, "items": [{"id": 1}]}"#);
    let filter = ResourceFilter { content_type: Some("pdf"), page: Some(1), ..Default::default() };
    let page = Knowledge::new(fake.clone()).published().resources(filter).unwrap();
    assert_eq!((page.total, page.items[0].id), (Some(1), 1));
    assert_eq!(fake.line(), "GET /resources/?content_type=pdf&page=1");
}

#[test]
fn scores_are_fractions() {
    for (permille, text) in [(0, "0.000"), (5, "0.005"), (300, "0.300"), (1000, "1.000")] {
        assert_eq!(knowledge::score_text(permille), text);
    }
}

#[test]
fn case_002_28_designs_by_their_server() {
    let one = r#"{"id": 5, "content": "c", "filename": "f.pdf", "is_compliant": true,
        "task_id": "t-1", "state": "SUCCESS", "status": "pending"}"#;
    let fake = server(200, one);
    let designs = Designs::new(fake.clone()).bearer(&token());
    let body = json!({});
    let mut lines = Vec::new();
    let mut did = |ok: bool| {
        assert!(ok, "{lines:?}");
        lines.push(fake.line());
    };
    did(designs.create(&body).is_ok());
    did(designs.create_with_key(&body, "k").is_ok());
    did(designs.get(5).is_ok());
    did(designs.update(5, &body).is_ok());
    did(designs.visual_status(5).is_ok());
    did(designs.generate_visuals(5, &body).unwrap().task_id.as_deref() == Some("t-1"));
    did(designs.validate(5, &body).unwrap().is_compliant);
    did(designs.apply_optimization(6).is_ok());
    did(designs.add_comment(5, &body).is_ok());
    did(designs.update_comment(8, &body).is_ok());
    did(designs.task("t-1").unwrap().is_over());
    did(designs.export(5, "pdf").unwrap().bytes == one);
    did(designs.download_file(9).unwrap() == one);
    let list = server(200, &format!("[{one}]"));
    let many = Designs::new(list.clone());
    assert_eq!(
        many.list(DesignFilter { project_id: Some(42), ..Default::default() }).unwrap()[0].id,
        5
    );
    assert_eq!(list.line(), "GET /designs/?project_id=42&limit=50&offset=0");
    many.validations(5).unwrap();
    many.optimize(5, &body).unwrap();
    many.optimizations(5).unwrap();
    many.files(5).unwrap();
    many.comments(5).unwrap();
    let nothing = server(204, "");
    let none = Designs::new(nothing.clone());
    none.delete(5).unwrap();
    none.delete_file(9).unwrap();
    none.delete_comment(8).unwrap();
    for request in list.sent().into_iter().chain(nothing.sent()) {
        lines.push(format!("{} {}", request.method, request.path));
    }
    assert_eq!(
        lines,
        [
            "POST /designs/ {}",
            "POST /designs/ {}",
            "GET /designs/5",
            "PUT /designs/5 {}",
            "GET /designs/5/visual-status",
            "POST /designs/5/generate-visuals {}",
            "POST /designs/5/validate {}",
            "POST /optimizations/6/apply",
            "POST /designs/5/comments {}",
            "PUT /comments/8 {}",
            "GET /tasks/t-1",
            r#"POST /designs/5/export {"format":"pdf"}"#,
            "GET /files/9/download",
            "GET /designs/5/validations",
            "POST /designs/5/optimize",
            "GET /designs/5/optimizations",
            "GET /designs/5/files",
            "GET /designs/5/comments",
            "DELETE /designs/5",
            "DELETE /files/9",
            "DELETE /comments/8",
        ]
    );
    let upload = Upload { filename: "f.pdf", content: b"x", description: None };
    assert_eq!(designs.upload_file(5, &upload).unwrap().filename, "f.pdf");
    let sent = fake.sent().remove(0);
    assert_eq!(sent.headers["content-type"], "multipart/form-data; boundary=origin-part-0");
}

#[test]
fn case_002_26_and_27_health_stands_at_the_host() {
    let up = server(200, r#"{"status": "degraded", "database": {"ok": false}}"#);
    let at = |fake: &Fake| {
        let sent = fake.sent().remove(0);
        let api = crate::Address::parse("http://h:1/api/v1").unwrap();
        sent.uri(&api).unwrap().to_string()
    };
    let users = Users::new(up.clone());
    let probe = users.health().unwrap();
    assert!(probe.is_up() && !probe.is_healthy() && probe.other.contains_key("database"));
    assert_eq!(at(&up), "http://h:1/health");
    users.ready().unwrap();
    assert_eq!(at(&up), "http://h:1/ready");
    // Where the servers publish it (§4.6); a prefix does not change that.
    users.published().prefix("/x").health().unwrap();
    assert_eq!(at(&up), "http://h:1/");
    Projects::new(up.clone()).published().health().unwrap();
    assert_eq!(at(&up), "http://h:1/");
    Knowledge::new(up.clone()).published().health().unwrap();
    assert_eq!(at(&up), "http://h:1/api/v1/health");
    Analytics::new(up.clone()).path("health", "/up").health().unwrap();
    assert_eq!(at(&up), "http://h:1/up");
    Marketplace::new(up.clone()).ready().unwrap();
    assert_eq!(at(&up), "http://h:1/ready");
    // An answer of 503 is an answer, anything else is none; what is no JSON says nothing.
    let down = Designs::new(server(503, r#"{"status": "not_ready", "checks": {}}"#));
    let probe = down.ready().unwrap();
    assert_eq!(
        (probe.is_up(), probe.code, probe.status.as_deref()),
        (false, 503, Some("not_ready"))
    );
    assert!(Designs::new(server(200, "OK")).health().unwrap().is_healthy());
    assert!(!Designs::new(server(200, r#"{"status":"unhealthy"}"#)).health().unwrap().is_up());
    assert_eq!(Designs::new(server(404, "")).health().unwrap_err().status(), Some(404));
    // Analytics and the marketplace: one's own operations.
    let own = Analytics::new(server(200, "[1]"));
    assert_eq!(own.api().get("reports", "/reports").read::<Vec<u8>>().unwrap(), [1]);
}

#[test]
fn ids_are_positive_and_places_can_be_elsewhere() {
    for id in [0, -1, i64::MIN] {
        let fake = server(200, "{}");
        let errors = [
            Users::new(fake.clone()).get(id).unwrap_err(),
            Projects::new(fake.clone()).is_owner(7, id).unwrap_err(),
            Projects::new(fake.clone()).comment(1, id).unwrap_err(),
            Knowledge::new(fake.clone()).cite(id, 1, "").unwrap_err(),
            Designs::new(fake.clone()).apply_optimization(id).unwrap_err(),
        ];
        let named = ["user_id", "project_id", "comment_id", "resource_id", "optimization_id"];
        for (error, name) in errors.iter().zip(named) {
            assert!(matches!(error, Error::Request { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("{name} must be positive")), "{error}");
        }
        assert!(fake.sent().is_empty());
    }
    let fake = server(200, r#"{"id": 1}"#);
    Users::new(fake.clone()).path("get", "/people/{user_id}").prefix("/v9/").get(i64::MAX).unwrap();
    assert_eq!(fake.line(), format!("GET /v9/people/{}", i64::MAX));
    let id = crate::Correlation::new("c-1").unwrap();
    Users::new(fake.clone()).correlated(&id).header("accept-version", "v2").get(1).unwrap();
    let sent = fake.sent().remove(0);
    assert_eq!(
        (sent.correlation, &sent.headers["accept-version"]),
        (Some(id), &"v2".parse().unwrap())
    );
}

/// Runs every reader over an answer of 200 with this body.
fn read_all(body: &str) -> Vec<(&'static str, Result<(), Error>)> {
    let fake = server(200, body);
    let (users, projects) = (Users::new(fake.clone()), Projects::new(fake.clone()));
    let (knowledge, designs) = (Knowledge::new(fake.clone()), Designs::new(fake));
    vec![
        ("user", users.get(1).map(drop)),
        ("session", users.authenticate("a", "b").map(drop)),
        ("roles", users.roles(1).map(drop)),
        ("profile", users.profile().map(drop)),
        ("project", projects.get(1).map(drop)),
        ("projects", projects.list(Paging::default()).map(drop)),
        ("owner", projects.is_owner(1, 1).map(drop)),
        ("comment", projects.comment(1, 1).map(drop)),
        ("comments", projects.comments(1).map(drop)),
        ("resource", knowledge.resource(1).map(drop)),
        ("resources", knowledge.resources(ResourceFilter::default()).map(drop)),
        ("found", knowledge.search(&Search::new("x")).map(drop)),
        ("citation", knowledge.cite(1, 1, "").map(drop)),
        ("recommendations", knowledge.recommendations(1).map(drop)),
        ("design", designs.get(1).map(drop)),
        ("visuals", designs.visual_status(1).map(drop)),
        ("validation", designs.validate(1, "").map(drop)),
        ("optimizations", designs.optimizations(1).map(drop)),
        ("files", designs.files(1).map(drop)),
        ("design comments", designs.comments(1).map(drop)),
        ("task", designs.task("t").map(drop)),
    ]
}

#[test]
fn nothing_is_half_filled() {
    // Of wrong shape for all: no field that is demanded, or a list for an object's fields.
    for body in ["", "7", "\"x\"", "{", "[7]", r#"[1, "n", 7]"#, r#"{"id": "1"}"#, "[[]]"] {
        for (name, read) in read_all(body) {
            // A profile and visuals are whatever object comes.
            let free = matches!(name, "profile" | "visuals") && body.starts_with("{\"");
            assert!(read.is_err() || free, "{name} of {body}");
        }
    }
    // `null` is the empty list, and no object.
    for (name, read) in read_all("null") {
        let list = name.ends_with('s') && !matches!(name, "resources" | "visuals");
        assert_eq!(read.is_ok(), list, "{name}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused_and_not_repeated(body in "\\PC{0,60}") {
        let planted = format!("pl4nted{body}");
        for text in [body, json!({"id": planted}).to_string(), json!([planted]).to_string()] {
            for (name, read) in read_all(&text) {
                if let Err(error) = read {
                    let said = format!("{error} {error:?}");
                    prop_assert!(!said.contains("pl4nted"), "{}: {}", name, said);
                }
            }
        }
    }
}

//! The services of DesignSynapse, as the platform's client code has them.

use origin_core::Secret;
use origin_core::ops::design::{
    Analytics, DesignFilter, Designs, Knowledge, Marketplace, Paging, ProjectStatus, Projects,
    ResourceFilter, Search, Upload, Users,
};
use serde_json::json;

use super::keeping::TOKEN;
use super::{Input, Operation, Waits, operations};

macro_rules! handles {
    ($($name:ident $client:ident),*) => {$(
        fn $name<C: Waits>(caller: &C, input: &Input<'_>) -> $client<C> {
            let client = $client::new(caller.clone()).bearer(&Secret::new(TOKEN).unwrap());
            match input.moved {
                Some((name, path)) => client.path(name, path),
                None => client,
            }
        }
    )*};
}

handles!(u Users, p Projects, k Knowledge, d Designs, a Analytics, m Marketplace);

/// The body of a creating or changing call.
fn fields(input: &Input<'_>) -> serde_json::Value {
    json!({"name": input.text, "content": input.text})
}

const GONE: (u16, &str) = (204, "");
const UP: (u16, &str) = (200, r#"{"status":"healthy"}"#);
const USER: (u16, &str) = (200, r#"{"id":1,"email":"a@b","plan":"free"}"#);
const SESSION: (u16, &str) = (200, r#"{"access_token":"t","token_type":"bearer","user_id":7}"#);
const ROLE: (u16, &str) = (200, r#"{"id":1,"name":"admin"}"#);
const ROLES: (u16, &str) = (200, r#"[{"id":1,"name":"admin"}]"#);
const PROFILE: (u16, &str) = (200, r#"{"bio":"b"}"#);

pub(super) fn users<C: Waits>() -> Vec<Operation<C>> {
    operations! { "user-service";
        "Users.get" Fields Nowhere USER, ["/id"], |c, i| u(c, i).get(1);
        "Users.create" Fields Elsewhere USER, ["/id"], |c, i| u(c, i).create(&fields(i));
        "Users.create_with_key" Fields Elsewhere USER, ["/id"],
            |c, i| u(c, i).create_with_key(&fields(i), "key");
        "Users.update" Fields Elsewhere USER, ["/id"], |c, i| u(c, i).update(1, &fields(i));
        "Users.delete" Status Nowhere GONE, [], |c, i| u(c, i).delete(1);
        "Users.authenticate" Fields Elsewhere SESSION, ["/access_token"],
            |c, i| u(c, i).authenticate(i.text, "pl4nted-password");
        "Users.refresh" Fields Nowhere SESSION, ["/access_token"],
            |c, i| u(c, i).refresh(&Secret::new(TOKEN).unwrap());
        "Users.roles" Fields Nowhere ROLES, ["/0/name"], |c, i| u(c, i).roles(1);
        "Users.own_roles" Fields Nowhere ROLES, ["/0/name"], |c, i| u(c, i).own_roles();
        "Users.grant" Status Segment GONE, [], |c, i| u(c, i).grant(1, i.text);
        "Users.revoke" Status Segment GONE, [], |c, i| u(c, i).revoke(1, i.text);
        "Users.all_roles" Fields Nowhere ROLES, ["/0/name"], |c, i| u(c, i).all_roles();
        "Users.create_role" Fields Elsewhere ROLE, ["/name"],
            |c, i| u(c, i).create_role(&fields(i));
        "Users.create_role_with_key" Fields Elsewhere ROLE, ["/name"],
            |c, i| u(c, i).create_role_with_key(&fields(i), "key");
        "Users.profile" Object Nowhere PROFILE, [], |c, i| u(c, i).profile();
        "Users.replace_profile" Object Elsewhere PROFILE, [],
            |c, i| u(c, i).replace_profile(&fields(i));
        "Users.change_profile" Object Elsewhere PROFILE, [],
            |c, i| u(c, i).change_profile(&fields(i));
        "Users.health" Status Nowhere UP, [], |c, i| u(c, i).health();
        "Users.ready" Status Nowhere UP, [], |c, i| u(c, i).ready();
    }
}

const PROJECT: (u16, &str) = (200, r#"{"id":1,"name":"n","owner_id":7,"status":"draft"}"#);
const PROJECTS: (u16, &str) = (200, r#"[{"id":1,"name":"n","owner_id":7}]"#);
const COMMENT: (u16, &str) = (200, r#"{"id":1,"content":"c","replies":[]}"#);
const COMMENTS: (u16, &str) = (200, r#"[{"id":1,"content":"c"}]"#);

pub(super) fn projects<C: Waits>() -> Vec<Operation<C>> {
    operations! { "project-service";
        "Projects.get" Fields Nowhere PROJECT, ["/id", "/name"], |c, i| p(c, i).get(1);
        "Projects.list" Fields Nowhere PROJECTS, ["/0/id", "/0/name"],
            |c, i| p(c, i).list(Paging::default());
        "Projects.create" Fields Elsewhere PROJECT, ["/id", "/name"],
            |c, i| p(c, i).create(&fields(i));
        "Projects.create_with_key" Fields Elsewhere PROJECT, ["/id", "/name"],
            |c, i| p(c, i).create_with_key(&fields(i), "key");
        "Projects.update" Fields Elsewhere PROJECT, ["/id", "/name"],
            |c, i| p(c, i).update(1, &fields(i));
        "Projects.set_status" Fields Elsewhere PROJECT, ["/id", "/name"],
            |c, i| p(c, i).set_status(1, &ProjectStatus::Other(i.text.to_owned()));
        "Projects.delete" Status Nowhere GONE, [], |c, i| p(c, i).delete(1);
        "Projects.is_owner" Fields Nowhere PROJECT, ["/id", "/name"],
            |c, i| p(c, i).is_owner(7, 1);
        "Projects.is_member" Status Nowhere GONE, [], |c, i| p(c, i).is_member(1, 7);
        "Projects.comments" Fields Nowhere COMMENTS, ["/0/id", "/0/content"],
            |c, i| p(c, i).comments(1);
        "Projects.add_comment" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| p(c, i).add_comment(1, &fields(i));
        "Projects.add_comment_with_key" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| p(c, i).add_comment_with_key(1, &fields(i), "key");
        "Projects.comment" Fields Nowhere COMMENT, ["/id", "/content"],
            |c, i| p(c, i).comment(1, 2);
        "Projects.update_comment" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| p(c, i).update_comment(1, 2, &fields(i));
        "Projects.delete_comment" Status Nowhere GONE, [], |c, i| p(c, i).delete_comment(1, 2);
        "Projects.health" Status Nowhere UP, [], |c, i| p(c, i).health();
        "Projects.ready" Status Nowhere UP, [], |c, i| p(c, i).ready();
    }
}

const RESOURCE: (u16, &str) = (200, r#"{"id":1,"title":"t"}"#);
const RESOURCES: (u16, &str) = (200, r#"[{"id":1,"title":"t"}]"#);
const RESOURCE_PAGE: (u16, &str) = (200, r#"{"total":1,"page":1,"items":[{"id":1}]}"#);
const HITS: (u16, &str) = (200, r#"{"results":[{"id":1,"score":0.5}],"total":1}"#);
const CITATION: (u16, &str) = (200, r#"{"id":1,"resource_id":3}"#);
const CITATIONS: (u16, &str) = (200, r#"[{"id":1,"resource_id":3}]"#);

pub(super) fn knowledge<C: Waits>() -> Vec<Operation<C>> {
    operations! { "knowledge-service";
        "Knowledge.resource" Fields Nowhere RESOURCE, ["/id"], |c, i| k(c, i).resource(1);
        "Knowledge.resources" Fields Nowhere RESOURCE_PAGE, ["/items", "/items/0/id"],
            |c, i| k(c, i).resources(ResourceFilter::default());
        "Knowledge.create_resource" Fields Elsewhere RESOURCE, ["/id"],
            |c, i| k(c, i).create_resource(&fields(i));
        "Knowledge.create_resource_with_key" Fields Elsewhere RESOURCE, ["/id"],
            |c, i| k(c, i).create_resource_with_key(&fields(i), "key");
        "Knowledge.project_resources" Fields Nowhere RESOURCES, ["/0/id"],
            |c, i| k(c, i).project_resources(1);
        "Knowledge.search" Fields Elsewhere HITS, ["/results"],
            |c, i| k(c, i).search(&Search::new(i.text));
        "Knowledge.search_project" Fields Elsewhere HITS, ["/results"],
            |c, i| k(c, i).search_project(1, &Search::new(i.text));
        "Knowledge.cite" Fields Elsewhere CITATION, ["/id"], |c, i| k(c, i).cite(3, 1, i.text);
        "Knowledge.cite_with_key" Fields Elsewhere CITATION, ["/id"],
            |c, i| k(c, i).cite_with_key(3, 1, i.text, "key");
        "Knowledge.project_citations" Fields Nowhere CITATIONS, ["/0/id"],
            |c, i| k(c, i).project_citations(1);
        "Knowledge.resource_citations" Fields Nowhere CITATIONS, ["/0/id"],
            |c, i| k(c, i).resource_citations(1);
        "Knowledge.recommendations" Fields Nowhere (200, r#"[{"id":1,"score":0.5}]"#), [],
            |c, i| k(c, i).recommendations(1);
        "Knowledge.health" Status Nowhere UP, [], |c, i| k(c, i).health();
        "Knowledge.ready" Status Nowhere UP, [], |c, i| k(c, i).ready();
    }
}

const DESIGN: (u16, &str) = (200, r#"{"id":1,"name":"n","version":1}"#);
const DESIGNS: (u16, &str) = (200, r#"[{"id":1,"name":"n"}]"#);
const VISUALS: (u16, &str) = (200, r#"{"task_id":"t-1","status":"pending"}"#);
const VALIDATION: (u16, &str) = (200, r#"{"id":1,"is_compliant":true}"#);
const VALIDATIONS: (u16, &str) = (200, r#"[{"id":1,"is_compliant":true}]"#);
const PROPOSALS: (u16, &str) = (200, r#"[{"id":1,"title":"t"}]"#);
const FILE: (u16, &str) = (200, r#"{"id":1,"filename":"f.pdf"}"#);
const FILES: (u16, &str) = (200, r#"[{"id":1,"filename":"f.pdf"}]"#);

fn upload<'a>(input: &Input<'a>) -> Upload<'a> {
    Upload { filename: input.text, content: b"%PDF", description: None }
}

pub(super) fn designs<C: Waits>() -> Vec<Operation<C>> {
    operations! { "design-service";
        "Designs.create" Fields Elsewhere DESIGN, ["/id"], |c, i| d(c, i).create(&fields(i));
        "Designs.create_with_key" Fields Elsewhere DESIGN, ["/id"],
            |c, i| d(c, i).create_with_key(&fields(i), "key");
        "Designs.list" Fields Elsewhere DESIGNS, ["/0/id"], |c, i| d(c, i).list(DesignFilter {
            status: Some(i.text), ..DesignFilter::default() });
        "Designs.get" Fields Nowhere DESIGN, ["/id"], |c, i| d(c, i).get(1);
        "Designs.update" Fields Elsewhere DESIGN, ["/id"], |c, i| d(c, i).update(1, &fields(i));
        "Designs.delete" Status Nowhere GONE, [], |c, i| d(c, i).delete(1);
        "Designs.visual_status" Object Nowhere VISUALS, [], |c, i| d(c, i).visual_status(1);
        "Designs.generate_visuals" Object Elsewhere VISUALS, [],
            |c, i| d(c, i).generate_visuals(1, &fields(i));
        "Designs.generate_visuals_with_key" Object Elsewhere VISUALS, [],
            |c, i| d(c, i).generate_visuals_with_key(1, &fields(i), "key");
        "Designs.validate" Fields Elsewhere VALIDATION, ["/id", "/is_compliant"],
            |c, i| d(c, i).validate(1, &fields(i));
        "Designs.validate_with_key" Fields Elsewhere VALIDATION, ["/id", "/is_compliant"],
            |c, i| d(c, i).validate_with_key(1, &fields(i), "key");
        "Designs.validations" Fields Nowhere VALIDATIONS, ["/0/id", "/0/is_compliant"],
            |c, i| d(c, i).validations(1);
        "Designs.optimize" Fields Elsewhere PROPOSALS, ["/0/id"],
            |c, i| d(c, i).optimize(1, &fields(i));
        "Designs.optimize_with_key" Fields Elsewhere PROPOSALS, ["/0/id"],
            |c, i| d(c, i).optimize_with_key(1, &fields(i), "key");
        "Designs.optimizations" Fields Nowhere PROPOSALS, ["/0/id"],
            |c, i| d(c, i).optimizations(1);
        "Designs.apply_optimization" Fields Nowhere DESIGN, ["/id"],
            |c, i| d(c, i).apply_optimization(1);
        "Designs.apply_optimization_with_key" Fields Nowhere DESIGN, ["/id"],
            |c, i| d(c, i).apply_optimization_with_key(1, "key");
        "Designs.files" Fields Nowhere FILES, ["/0/id", "/0/filename"], |c, i| d(c, i).files(1);
        "Designs.upload_file" Fields Elsewhere FILE, ["/id", "/filename"],
            |c, i| d(c, i).upload_file(1, &upload(i));
        "Designs.upload_file_with_key" Fields Elsewhere FILE, ["/id", "/filename"],
            |c, i| d(c, i).upload_file_with_key(1, &upload(i), "key");
        "Designs.download_file" Bytes Nowhere (200, "%PDF"), [], |c, i| d(c, i).download_file(1);
        "Designs.delete_file" Status Nowhere GONE, [], |c, i| d(c, i).delete_file(1);
        "Designs.comments" Fields Nowhere COMMENTS, ["/0/id", "/0/content"],
            |c, i| d(c, i).comments(1);
        "Designs.add_comment" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| d(c, i).add_comment(1, &fields(i));
        "Designs.add_comment_with_key" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| d(c, i).add_comment_with_key(1, &fields(i), "key");
        "Designs.update_comment" Fields Elsewhere COMMENT, ["/id", "/content"],
            |c, i| d(c, i).update_comment(1, &fields(i));
        "Designs.delete_comment" Status Nowhere GONE, [], |c, i| d(c, i).delete_comment(1);
        "Designs.export" Bytes Elsewhere (200, "%PDF"), [], |c, i| d(c, i).export(1, i.text);
        "Designs.task" Fields Segment (200, r#"{"task_id":"t-1","state":"SUCCESS"}"#),
            ["/task_id", "/state"], |c, i| d(c, i).task(i.text);
        "Designs.health" Status Nowhere UP, [], |c, i| d(c, i).health();
        "Designs.ready" Status Nowhere UP, [], |c, i| d(c, i).ready();
    }
}

pub(super) fn others<C: Waits>() -> Vec<Operation<C>> {
    let mut all = operations! { "analytics-service";
        "Analytics.health" Status Nowhere UP, [], |c, i| a(c, i).health();
        "Analytics.ready" Status Nowhere UP, [], |c, i| a(c, i).ready();
    };
    all.extend(operations! { "marketplace-service";
        "Marketplace.health" Status Nowhere UP, [], |c, i| m(c, i).health();
        "Marketplace.ready" Status Nowhere UP, [], |c, i| m(c, i).ready();
    });
    all
}

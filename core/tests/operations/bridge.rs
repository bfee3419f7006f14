//! The services of the bridge, as the clients' contract has them; what only the published servers
//! have is asked at the same paths.

use origin_core::ops::bridge::{
    Bridge, IntelligenceQuery, KnowledgeQuery, NewStamp, OnexTree, PageOf, QueryKind, Stamping,
    Walk,
};
use serde_json::json;

use super::{Input, Operation, Waits, operations};

fn stamping_of<C: Waits>(caller: &C, input: &Input<'_>) -> Stamping<C> {
    let stamping = Stamping::new(caller.clone());
    match input.moved {
        Some((name, path)) => stamping.path(name, path),
        None => stamping,
    }
}

fn tree_of<C: Waits>(caller: &C, input: &Input<'_>) -> OnexTree<C> {
    let tree = OnexTree::new(caller.clone());
    match input.moved {
        Some((name, path)) => tree.path(name, path),
        None => tree,
    }
}

fn bridge_of<C: Waits>(caller: &C, input: &Input<'_>) -> Bridge<C> {
    Bridge::new(caller.clone())
        .with_stamping(stamping_of(caller, input))
        .with_tree(tree_of(caller, input))
}

const HASH: (u16, &str) = (200, r#"{"status":"success","data":{"hash":"af13"}}"#);
const STAMP: (u16, &str) =
    (200, r#"{"status":"success","data":{"file_hash":"af13","stamp_id":"s"},"error":null}"#);
const VALIDATION: (u16, &str) = (
    200,
    r#"{"status":"success","data":{"validation_result":true,"stamps_found":1,"details":[]}}"#,
);
const BATCH: (u16, &str) =
    (200, r#"{"status":"success","data":{"total":2,"successful":1,"failed":1,"results":[]}}"#);
const PROTOCOL: (u16, &str) =
    (200, r#"{"status":"success","data":{"validation_result":{"is_valid":true,"issues":[]}}}"#);
const STAMPS: (u16, &str) = (
    200,
    r#"{"status":"success","data":{"namespace":"n","total_stamps":0,"stamps":[],"pagination":{}}}"#,
);
const NAMED: (u16, &str) = (200, r#"{"status":"success","data":{"a":1}}"#);
const HEALTH: (u16, &str) = (200, r#"{"status":"healthy"}"#);
const INTELLIGENCE: (u16, &str) =
    (200, r#"{"status":"success","data":{"intelligence":{"analysis_type":"full"},"patterns":[]}}"#);
const KNOWLEDGE: (u16, &str) = (200, r#"{"status":"success","data":{"results":[1],"paths":[]}}"#);
const SEEN: (u16, &str) = (200, r#"{"status":"success","data":{"nodes":[1],"edges":[]}}"#);
const GENERATED: (u16, &str) =
    (200, r#"{"success":true,"total_files":2,"total_directories":1,"total_size_mb":0.5}"#);
const FOUND: (u16, &str) =
    (200, r#"{"success":true,"results":[{"path":"/a/b","name":"b","type":"file"}],"count":1}"#);
const STATS: (u16, &str) = (200, r#"{"tree_loaded":true,"statistics":{"files":2}}"#);
const PROCESSED: (u16, &str) =
    (200, r#"{"status":"success","data":{"file_hash":"af13","intelligence":{}}}"#);

fn new(text: &str) -> NewStamp {
    NewStamp::new("af13", text, 1).content("x").with("k", "v")
}

pub(super) fn stamping<C: Waits>() -> Vec<Operation<C>> {
    operations! { "metadata-stamping";
        "Stamping.generate_hash" Fields Elsewhere HASH, ["/status", "/data", "/data/hash"],
            |c, i| stamping_of(c, i).generate_hash(b"content", Some(i.text));
        "Stamping.create_stamp" Fields Elsewhere STAMP, ["/status", "/data", "/data/file_hash"],
            |c, i| stamping_of(c, i).create_stamp(&new(i.text), None);
        "Stamping.validate_stamp" Fields Elsewhere VALIDATION,
            ["/status", "/data/validation_result", "/data/stamps_found"],
            |c, i| stamping_of(c, i).validate_stamp(i.text, None);
        "Stamping.get_stamp" Fields Segment STAMP, ["/data"],
            |c, i| stamping_of(c, i).get_stamp(i.text, None);
        "Stamping.batch_create_stamps" Fields Elsewhere BATCH,
            ["/status", "/data/total", "/data/successful", "/data/failed"],
            |c, i| stamping_of(c, i).batch_create_stamps(&[new(i.text), new("b")], None);
        "Stamping.service_metrics" Object Nowhere (200, r#"{"hashes":7}"#), [],
            |c, i| stamping_of(c, i).service_metrics();
        "Stamping.health_check" Object Nowhere HEALTH, [],
            |c, i| stamping_of(c, i).health_check();
        "Stamping.ready" Object Nowhere HEALTH, [], |c, i| stamping_of(c, i).ready();
        "Stamping.live" Object Nowhere HEALTH, [], |c, i| stamping_of(c, i).live();
        "Stamping.validate_connection" Anything Nowhere HEALTH, [],
            |c, i| stamping_of(c, i).validate_connection();
        "Stamping.validate_protocol" Fields Elsewhere PROTOCOL,
            ["/status", "/data/validation_result", "/data/validation_result/is_valid"],
            |c, i| stamping_of(c, i).validate_protocol(i.text, "1.0", "strict", None);
        "Stamping.namespace_stamps" Fields Segment STAMPS,
            ["/status", "/data/total_stamps", "/data/stamps"],
            |c, i| stamping_of(c, i).namespace_stamps(i.text, PageOf::default());
        "Stamping.transform_stamp" Fields Elsewhere NAMED, ["/status", "/data"],
            |c, i| stamping_of(c, i).transform_stamp(&json!({"content": i.text}));
        "Stamping.transform_validate" Fields Elsewhere NAMED, ["/status", "/data"],
            |c, i| stamping_of(c, i).transform_validate(&json!({"content": i.text}));
        "Stamping.transformers" Fields Nowhere NAMED, ["/status", "/data"],
            |c, i| stamping_of(c, i).transformers();
        "Stamping.schemas" Fields Nowhere NAMED, ["/status", "/data"],
            |c, i| stamping_of(c, i).schemas();
    }
}

pub(super) fn tree<C: Waits>() -> Vec<Operation<C>> {
    operations! { "onextree";
        "OnexTree.get_intelligence" Fields Elsewhere INTELLIGENCE,
            ["/status", "/data", "/data/intelligence"],
            |c, i| tree_of(c, i).get_intelligence(&IntelligenceQuery::new(i.text));
        "OnexTree.get_intelligence_or_fallback" Anything Elsewhere INTELLIGENCE, [],
            |c, i| tree_of(c, i).get_intelligence_or_fallback(&IntelligenceQuery::new(i.text));
        "OnexTree.query_knowledge" Fields Elsewhere KNOWLEDGE, ["/status", "/data/results"],
            |c, i| tree_of(c, i).query_knowledge(&KnowledgeQuery::new(i.text));
        "OnexTree.navigate_tree" Fields Elsewhere SEEN, ["/status", "/data/nodes"],
            |c, i| tree_of(c, i).navigate_tree(&Walk::new(i.text));
        "OnexTree.health_check" Object Nowhere HEALTH, [], |c, i| tree_of(c, i).health_check();
        "OnexTree.validate_connection" Anything Nowhere HEALTH, [],
            |c, i| tree_of(c, i).validate_connection();
        "OnexTree.info" Fields Nowhere NAMED, ["/status", "/data"], |c, i| tree_of(c, i).info();
        "OnexTree.generate_tree" Fields Elsewhere GENERATED,
            ["/total_files", "/total_directories"],
            |c, i| tree_of(c, i).generate_tree(i.text);
        "OnexTree.query_tree" Fields Elsewhere FOUND,
            ["/results", "/results/0/path", "/results/0/name"],
            |c, i| tree_of(c, i).query_tree(i.text, QueryKind::Auto, 100);
        "OnexTree.tree_stats" Fields Nowhere STATS, ["/tree_loaded"],
            |c, i| tree_of(c, i).tree_stats();
    }
}

pub(super) fn together<C: Waits>() -> Vec<Operation<C>> {
    operations! { "metadata-stamping";
        "Bridge.process" Fields Elsewhere PROCESSED,
            ["/status", "/data/file_hash", "/data/intelligence"],
            |c, i| bridge_of(c, i).process("content", i.text, "context");
        "Bridge.validate" Fields Nowhere HEALTH, ["/status"], |c, i| bridge_of(c, i).validate();
        "Bridge.health" Anything Nowhere HEALTH, [], |c, i| bridge_of(c, i).health();
    }
}

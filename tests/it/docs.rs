//! The documentation of all plugins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plugbay::base::error::{Error, Kind, Result};
use plugbay::base::json::Json;
use plugbay::base::manifest::Manifest;
use plugbay::base::name::{Prefix, ToolName};
use plugbay::kernel::call::{Body, Request, Response};
use plugbay::kernel::contribution::{Mount, Pattern, Schema, Tool};
use plugbay::kernel::gate::Admitted;
use plugbay::kernel::handler::{Answer, RouteHandler, TextHandler, ToolHandler};
use plugbay::kernel::registry::{Draft, Engine};
use serde_json::{Value, json};

use crate::support::Host;

/// An engine for one test: gives its document, or fails, or never answers.
enum Gives {
    Document(Value),
    Failure,
    Nothing,
}

struct Plain {
    gives: Gives,
    asked: Arc<AtomicUsize>,
}

impl RouteHandler for Plain {
    fn answer(&self, _: Request) -> Answer<Response> {
        Box::pin(async { Ok(Response::new(Body::Empty)) })
    }
}

impl TextHandler for Plain {
    fn read(&self, _: Json) -> Answer<Json> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer: Option<Result<Json>> = match &self.gives {
            Gives::Document(document) => Some(Ok(Json::of(document))),
            Gives::Failure => Some(Err(Error::new(Kind::Plugin, "ValueError: no document"))),
            Gives::Nothing => None,
        };
        Box::pin(async {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

impl ToolHandler for Plain {
    fn run(&self, _: Admitted) -> Answer<Json> {
        Box::pin(async { Json::parse(Bytes::from_static(b"1")) })
    }
}

fn plain(gives: Gives) -> (Arc<Plain>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    (Arc::new(Plain { gives, asked: asked.clone() }), asked)
}

fn draft(id: &str, gives: Gives) -> (Draft, Arc<AtomicUsize>) {
    let manifest = Manifest::check(id, id, "1", "", ">=1,<2").unwrap();
    let prefix = Prefix::of_plugin(&manifest.id);
    let mut draft = Draft::new(manifest, format!("{id}.py"), Engine::Python);
    let (handler, asked) = plain(gives);
    draft.add_mount(Mount {
        prefix,
        patterns: vec![Pattern::everything()],
        handler: handler.clone(),
        openapi: Some(handler),
    });
    (draft, asked)
}

fn document(path: &str, item: Value) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {path: {
            "get": {
                "operationId": "read",
                "tags": ["mine"],
                "responses": {"200": {"description": "", "content": {"application/json": {
                    "schema": {"oneOf": [{"$ref": "#/components/schemas/Item"}],
                        "discriminator": {"propertyName": "kind", "mapping": {
                            "a": "#/components/schemas/Item", "b": "Item", "c": "Other"}}}}}}},
                "security": [{"key": []}],
            },
            "parameters": [{"$ref": "#/components/parameters/page"}],
        }},
        "components": {
            "schemas": {"Item": item, "List": {"type": "array", "items": {"$ref": "#/components/schemas/Item/properties/id"}}},
            "parameters": {"page": {"name": "page", "in": "query"}},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-key"}},
        },
    })
}

/// Every `$ref` of a document that leads nowhere.
fn dangling(whole: &Value, part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                let place = reference.strip_prefix('#').unwrap_or("/none");
                if whole.pointer(place).is_none() {
                    found.push(reference.to_owned());
                }
            }
            object.values().for_each(|value| dangling(whole, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| dangling(whole, value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn two_plugins_with_equal_names_are_documented_side_by_side() {
    let host = Host::start().await;
    let item = |id: &str| json!({"type": "object", "properties": {"id": {"const": id}, "next": {"$ref": "#/components/schemas/Item"}}});
    // One gives paths below its mount, the other the whole path.
    let (a, _) = draft("a", Gives::Document(document("/items", item("a"))));
    let (b, _) = draft("b", Gives::Document(document("/api/plugins/b/items", item("b"))));
    host.parts.registry.commit(a).unwrap();
    host.parts.registry.commit(b).unwrap();
    let whole = host.owned("GET /openapi.json", "").await.json();
    let mut missing = Vec::new();
    dangling(&whole, &whole, &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    for id in ["a", "b"] {
        let schemas = &whole["components"]["schemas"];
        assert_eq!(schemas[format!("{id}__Item")]["properties"]["id"]["const"], id);
        assert_eq!(
            schemas[format!("{id}__Item")]["properties"]["next"]["$ref"],
            format!("#/components/schemas/{id}__Item")
        );
        assert_eq!(
            schemas[format!("{id}__List")]["items"]["$ref"],
            format!("#/components/schemas/{id}__Item/properties/id")
        );
        let path = &whole["paths"][format!("/api/plugins/{id}/items")];
        assert_eq!(path["get"]["tags"], json!([id]));
        assert_eq!(path["get"]["security"], json!([{format!("{id}__key"): []}]));
        assert_eq!(path["parameters"][0]["$ref"], format!("#/components/parameters/{id}__page"));
        let mapping =
            &path["get"]["responses"]["200"]["content"]["application/json"]["schema"]["discriminator"]["mapping"];
        assert_eq!(mapping["a"], format!("#/components/schemas/{id}__Item"));
        assert_eq!((&mapping["b"], &mapping["c"]), (&json!(format!("{id}__Item")), &json!("Other")));
    }
    assert_eq!(whole["components"]["schemas"].get("Item"), None);
    let ids = ["a", "b"].map(|id| whole["paths"][format!("/api/plugins/{id}/items")]["get"]["operationId"].clone());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(whole["tags"], json!([{"name": "a"}, {"name": "b"}]));
}

#[tokio::test]
async fn a_name_that_one_plugin_has_stays_as_it_is() {
    let host = Host::start().await;
    let (a, _) = draft("a", Gives::Document(document("/items", json!({"type": "string"}))));
    host.parts.registry.commit(a).unwrap();
    let whole = host.owned("GET /openapi.json", "").await.json();
    assert_eq!(whole["components"]["schemas"]["Item"], json!({"type": "string"}));
    assert_eq!(whole["paths"]["/api/plugins/a/items"]["get"]["operationId"], "read");
}

#[tokio::test]
async fn a_plugin_without_a_document_is_left_out_and_recorded_and_asked_once_for_each_snapshot() {
    let host = Host::start_with(|settings| settings.limits.hook_time = Duration::from_millis(50)).await;
    let (good, asked) = draft("good", Gives::Document(document("/items", json!({}))));
    host.parts.registry.commit(good).unwrap();
    host.parts.registry.commit(draft("failing", Gives::Failure).0).unwrap();
    host.parts.registry.commit(draft("silent", Gives::Nothing).0).unwrap();
    host.parts.registry.commit(draft("odd", Gives::Document(json!([1]))).0).unwrap();
    host.parts
        .registry
        .commit(draft("odder", Gives::Document(json!({"paths": [1], "components": {"schemas": 1}}))).0)
        .unwrap();
    for _ in 0..3 {
        let whole = host.owned("GET /openapi.json", "").await.json();
        assert_eq!(whole["paths"].as_object().unwrap().len(), 1);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let errors = host.parts.registry.errors();
    let mut failed: Vec<_> =
        errors.iter().map(|error| (error.plugin.as_deref().unwrap(), error.stage.as_str(), error.code)).collect();
    failed.sort_unstable();
    assert_eq!(failed, [("failing", "run", "plugin"), ("odd", "run", "plugin"), ("silent", "run", "timeout")]);
    host.parts.registry.withdraw("odd");
    host.owned("GET /openapi.json", "").await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_tool_is_documented_with_its_schema() {
    let host = Host::start().await;
    let (mut a, _) = draft("a", Gives::Document(json!({})));
    let schema = json!({
        "type": "object",
        "properties": {"item": {"$ref": "#/$defs/Item"}},
        "$defs": {"Item": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Item"}}}},
    });
    a.add_tool(Tool {
        name: ToolName::parse("a.echo").unwrap(),
        description: "Says it again.".into(),
        parameters: Schema::compile("parameters", &schema).unwrap(),
        output: None,
        side_effect: false,
        specifier_template: None,
        group: None,
        timeout: Duration::from_secs(1),
        concurrency: None,
        handler: plain(Gives::Nothing).0,
    })
    .unwrap();
    host.parts.registry.commit(a).unwrap();
    let whole = host.owned("GET /openapi.json", "").await.json();
    let mut missing = Vec::new();
    dangling(&whole, &whole, &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    let operation = &whole["paths"]["/api/host/tools/a.echo"]["post"];
    assert_eq!((&operation["tags"], &operation["description"]), (&json!(["a"]), &json!("Says it again.")));
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_elsewhere() {
    let host = Host::start().await;
    let page = host.owned("GET /docs", "").await;
    assert!(!page.text().contains("//") && page.text().contains("swagger-ui-bundle.js"), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self';") && !policy.contains("http"), "{policy}");
    for (path, media_type, least) in [
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8", 1_000_000),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8", 100_000),
        ("/docs/start.js", "text/javascript; charset=utf-8", 50),
    ] {
        let file = host.owned(&format!("GET {path}"), "").await;
        assert_eq!((file.status, file.header("content-type")), (200, Some(media_type)), "{path}");
        assert!(file.body.len() > least, "{path}: {} bytes", file.body.len());
    }
    assert_eq!(host.owned("GET /docs/index.html", "").await.status, 404);
}

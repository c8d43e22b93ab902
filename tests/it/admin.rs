//! The host's own routes.

use plugbay::base::error::{Error, Kind, Traceback};
use plugbay::base::manifest::Manifest;
use plugbay::edge::failure;
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::fault::{PluginError, Stage};
use plugbay::kernel::registry::{Draft, Engine};
use serde_json::json;

use crate::support::Host;

fn draft(id: &str, name: &str) -> Draft {
    Draft::new(Manifest::check(id, name, "1.2.3", "", ">=1,<2").unwrap(), format!("/plugins/{id}.py"), Engine::Python)
}

#[tokio::test]
async fn health_is_open_and_readiness_says_when_plugins_serve() {
    let host = Host::start().await;
    assert_eq!(host.get("/healthz", &[]).await.json(), json!({"status": "ok"}));
    let early = host.get("/readyz", &[]).await;
    assert_eq!((early.status, early.json()), (503, json!({"ready": false})));
    assert!(early.header("retry-after").is_some());
    host.parts.ready.set();
    assert_eq!(host.get("/readyz", &[]).await.json(), json!({"ready": true}));
}

#[tokio::test]
async fn a_plugin_that_serves_and_one_that_failed_are_both_listed() {
    let host = Host::start().await;
    host.parts.registry.commit(draft("good", "A good one")).unwrap();
    let error = Error::new(Kind::Plugin, "ValueError: no").with_source(Traceback("secret line".into()));
    host.parts.registry.record(PluginError::new("/plugins/bad.py", Some("bad".into()), Stage::Setup, &error));
    host.parts.registry.record(PluginError::new("/plugins/worse.py", None, Stage::Import, &error));

    let list = host.owned("GET /api/host/plugins", "").await.json();
    let plugins = list["plugins"].as_array().unwrap();
    assert_eq!(plugins.len(), 2);
    assert_eq!(plugins[0]["id"], "good");
    assert_eq!((&plugins[0]["name"], &plugins[0]["version"]), (&json!("A good one"), &json!("1.2.3")));
    assert_eq!((&plugins[0]["kind"], &plugins[0]["state"]), (&json!("python"), &json!("running")));
    assert_eq!((&plugins[1]["id"], &plugins[1]["state"]), (&json!("bad"), &json!("failed")));
    assert_eq!(plugins[1]["error"]["message"], "ValueError: no");
    assert_eq!(host.owned("GET /api/host/plugins/good", "").await.json(), plugins[0]);
    assert_eq!(host.owned("GET /api/host/plugins/bad", "").await.json(), plugins[1]);
    assert_eq!(host.owned("GET /api/host/plugins/none", "").await.status, 404);

    let errors = host.owned("GET /api/host/errors", "").await.json();
    let first = &errors["errors"][0];
    assert_eq!(
        (&first["source"], &first["plugin"], &first["stage"], &first["code"], &first["message"], &first["traceback"]),
        (
            &json!("/plugins/bad.py"),
            &json!("bad"),
            &json!("setup"),
            &json!("plugin"),
            &json!("ValueError: no"),
            &json!("secret line")
        )
    );
    assert!(first["at"].as_str().unwrap().ends_with('Z'));
    let (token, _) = host.parts.auth.add("bot", Scopes::of(&[Scope::Call]), None).unwrap();
    let seen = host.get("/api/host/errors", &[&format!("Authorization: Bearer {token}")]).await;
    assert_eq!(seen.json()["errors"].as_array().unwrap().len(), 2);
    assert!(!seen.text().contains("secret line"));
}

#[tokio::test]
async fn status_and_channels_are_json_objects() {
    let host = Host::start().await;
    assert_eq!(host.owned("GET /api/host/channels", "").await.json(), json!({"channels": []}));
    let status = host.owned("GET /api/host/status", "").await.json();
    assert_eq!((&status["ready"], &status["mode"], &status["plugins"]), (&json!(false), &json!("default"), &json!(0)));
    assert_eq!(status["pid"], std::process::id());
}

#[tokio::test]
async fn the_page_about_this_host_shows_what_plugins_say_as_text_and_runs_nothing() {
    let host = Host::start().await;
    host.parts.registry.commit(draft("good", "<script>alert('1')</script>&\"")).unwrap();
    let error = Error::new(Kind::Plugin, "<img src=x onerror=alert(1)>");
    host.parts.registry.record(PluginError::new("<b>", None, Stage::Import, &error));
    let page = host.owned("GET /", "").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<b>"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"), "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains("/docs") && text.contains("/healthz"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("script"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_405_with_allow() {
    let host = Host::start().await;
    for (start, allow) in [
        ("POST /healthz", "GET,HEAD"),
        ("DELETE /api/host/plugins", "GET,HEAD,POST"),
        ("PUT /api/host/tokens", "GET,HEAD,POST"),
        ("GET /api/host/tokens/a", "DELETE"),
    ] {
        let reply = host.owned(start, "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{start}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(reply.json()["status"], 405);
    }
}

#[test]
fn every_kind_is_a_problem_with_its_status_and_code() {
    for kind in Kind::ALL {
        let response = failure::response(&Error::new(kind, "why").blame("ping"));
        assert_eq!(response.status().as_u16(), kind.status());
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers().contains_key("retry-after"), kind == Kind::Busy);
        assert_eq!(response.headers().contains_key("www-authenticate"), kind == Kind::Unauthenticated);
        let plugbay::kernel::call::Body::Full(bytes) = response.into_body() else { panic!("{kind}: not whole") };
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let expected = json!({
            "type": format!("urn:plugbay:problem:{kind}"), "title": kind.title(), "status": kind.status(),
            "detail": "why", "code": kind.code(), "plugin": "ping",
        });
        assert_eq!(problem, expected);
    }
    let refused = failure::method_not_allowed("GET, HEAD");
    assert_eq!((refused.status().as_u16(), &refused.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

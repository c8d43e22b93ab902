//! Answers to approvals: what is kept of one, and that nothing is where it does not count.

use std::time::Duration;

use plugbay::base::settings::Limits;
use plugbay::edge::mcp_asking::{Manner, comes_back, input_required};
use plugbay::kernel::approvals::{Answer, Approval, Through};
use plugbay::kernel::auth::{Principal, Scope, Scopes};
use plugbay::kernel::contribution::{Schema, Tool};
use plugbay::kernel::specifier::Template;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::scene::{Scene, heard};
use crate::stand::{answer, tool, within};

async fn kept(scene: &Scene) -> Vec<Value> {
    let (_, permissions) = scene.stand.as_of(&scene.person, "GET /api/host/permissions", Value::Null).await;
    permissions["rules"].as_array().unwrap().iter().map(|row| row["rule"].clone()).collect()
}

fn ann() -> Principal {
    Principal::new("ann", Scopes::of(&[Scope::Approve]))
}

fn yes() -> Answer {
    Answer { allowed: true, by: "ann".into(), reason: None }
}

/// Waits for the moment at which an approval lapses that nothing holds.
async fn past_its_time(filed: &Value) {
    let lapses =
        OffsetDateTime::parse(filed["lapses"].as_str().unwrap(), &Rfc3339).unwrap() + Duration::from_millis(20);
    tokio::time::sleep((lapses - OffsetDateTime::now_utc()).try_into().unwrap_or_default()).await;
}

fn pending(scene: &Scene) -> Approval {
    scene.stand.parts.toolbox.gate().approvals().pending().remove(0)
}

#[tokio::test]
async fn of_several_rules_all_are_kept_or_none() {
    let scene = Scene::new();
    let (_, body) = scene.call_async("/data/a").await;
    let filed = &body["approval"];
    for rules in [
        json!(["files.write(/data/*)", "files.write(/data/a)"]),
        json!(["files.write(/data/a)", "files.write(/data/*)"]),
        json!(["files.write(/data/*)", "files.write({path})"]),
        json!(["files.write(/data/*)", "files.write("]),
    ] {
        let (status, problem) = scene.answer(filed, json!({ "decision": "always", "rule": rules })).await;
        assert_eq!((status, kept(&scene).await), (422, vec![]), "{rules} {problem}");
    }
    let rules = json!(["files.write(/data/*)", "files.write(/tmp/*)"]);
    assert_eq!(scene.answer(filed, json!({ "decision": "always", "rule": rules })).await.0, 200);
    assert_eq!(json!(kept(&scene).await), rules);
    assert_eq!((scene.call("/data/a").await.0, scene.call("/tmp/b").await.0), (200, 200));
}

#[tokio::test]
async fn of_the_narrowest_rules_none_is_for_what_another_of_them_allows() {
    let scene = Scene::new();
    let schema = json!({ "type": "object", "properties": { "line": { "type": "string" } } });
    let run = Tool {
        side_effect: true,
        parameters: Schema::compile("parameters", &schema).unwrap(),
        specifier_template: Some(Template::parse("{line:shell}").unwrap()),
        ..tool("run", |_| answer(&json!("ran")))
    };
    scene.stand.plugin("sh", |draft| draft.add_tool(run).unwrap());
    for line in ["cat a.txt; cat *.txt", "cat *.md; cat a.md; echo b"] {
        let body = json!({ "line": line }).to_string();
        let start = "POST /api/host/tools/run";
        let (_, body) = scene.stand.request(&scene.stand.token, start, &["Prefer: respond-async"], &body).await;
        let (status, problem) = scene.answer(&body["approval"], json!({ "decision": "always" })).await;
        assert_eq!(status, 200, "{line} {problem}");
    }
}

#[tokio::test]
async fn a_rule_that_cannot_be_kept_lets_nothing_through() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let file = scene.stand.home().join("rules.json");
    std::fs::create_dir_all(file.join("full")).unwrap();
    let ((status, _), ()) = tokio::join!(scene.call("/a"), async {
        let filed = heard(&mut person, "filed").await;
        let (status, problem) = scene.answer(&filed, json!({ "decision": "always" })).await;
        assert_eq!((status, scene.runs()), (503, 0), "{problem}");
        assert_eq!(pending(&scene).id.as_ref(), filed["id"], "it waits on");
        std::fs::remove_dir_all(&file).unwrap();
        assert_eq!(scene.answer(&filed, json!({ "decision": "always" })).await.0, 200);
    });
    assert_eq!((status, scene.runs()), (200, 1));
    assert_eq!(kept(&scene).await, [json!("files.write(/a)")]);
}

#[tokio::test]
async fn an_approval_that_is_being_answered_does_not_lapse_and_takes_no_other_answer() {
    let scene = Scene::with(|settings| {
        settings.limits = Limits { approval_time: Duration::from_millis(300), ..Limits::default() };
    });
    let mut person = scene.listen().await;
    let approvals = scene.stand.parts.toolbox.gate().approvals().clone();
    let ((status, problem), ()) = tokio::join!(scene.call("/a"), async {
        let filed = heard(&mut person, "filed").await;
        let (id, digest) = (filed["id"].as_str().unwrap(), filed["digest"].as_str().unwrap());
        let claim = approvals.claim(id, digest, (&ann(), Through::OwnDoor)).unwrap();
        past_its_time(&filed).await;
        approvals.sweep();
        assert_eq!(scene.answer(&filed, json!({ "decision": "always" })).await.0, 409);
        assert_eq!((scene.runs(), kept(&scene).await), (0, vec![]));
        assert_eq!(claim.answer(yes()).state.as_str(), "allowed");
    });
    assert_eq!((status, scene.runs()), (200, 1), "{problem}");
    // A claim that comes to nothing: what would have lapsed meanwhile lapses, and nothing is left of it.
    assert_eq!(heard(&mut person, "answered").await["state"], "allowed");
    let ((status, problem), ()) = tokio::join!(scene.call("/b"), async {
        let filed = heard(&mut person, "filed").await;
        let (id, digest) = (filed["id"].as_str().unwrap(), filed["digest"].as_str().unwrap());
        let claim = approvals.claim(id, digest, (&ann(), Through::OwnDoor)).unwrap();
        past_its_time(&filed).await;
        drop(claim);
        assert_eq!(heard(&mut person, "lapsed").await["state"], "lapsed");
        assert_eq!(scene.answer(&filed, json!({ "decision": "always" })).await.0, 409);
    });
    assert_eq!((status, scene.runs()), (403, 1), "{problem}");
    assert_eq!(kept(&scene).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_caller_that_leaves_while_it_is_answered_takes_the_approval_along() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let approvals = scene.stand.parts.toolbox.gate().approvals().clone();
    let (audit, mut seen) = (scene.stand.parts.toolbox.audit(), 0);
    for answered in [false, true] {
        let mut raw = scene.stand.open().await;
        let head = scene.stand.head("POST", "/api/host/tools/files.write");
        raw.say(&format!("{head}Content-Length: 2\r\n\r\n{{}}")).await;
        let filed = heard(&mut person, "filed").await;
        let (id, digest) = (filed["id"].as_str().unwrap(), filed["digest"].as_str().unwrap());
        let claim = approvals.claim(id, digest, (&ann(), Through::OwnDoor)).unwrap();
        drop(raw);
        // The host has noticed when the call's record is there.
        seen = within(audit.news(seen)).await.unwrap();
        let event = if answered {
            claim.answer(yes());
            "answered"
        } else {
            drop(claim);
            "lapsed"
        };
        let expected = if answered { "allowed" } else { "left" };
        assert_eq!(heard(&mut person, event).await["state"], expected);
    }
    // The answer was for the call that is gone.
    let (head, _) =
        scene.stand.request(&scene.stand.token, crate::scene::WRITE, &["Prefer: respond-async"], "{}").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn what_was_answered_for_a_revoked_agent_is_not_for_another_of_its_name() {
    let scene = Scene::new();
    let ask = |token: String| {
        let body = json!({ "path": "/a" }).to_string();
        let stand = &scene.stand;
        async move { stand.request(&token, crate::scene::WRITE, &["Prefer: respond-async"], &body).await }
    };
    let first = ask(scene.stand.add("bot", &[Scope::Call])).await.1;
    assert_eq!(scene.answer(&first["approval"], json!({ "decision": "once" })).await.0, 200);
    scene.stand.parts.auth.revoke("bot").unwrap();
    let (head, next) = ask(scene.stand.add("bot", &[Scope::Call])).await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    assert_ne!(next["approval"]["id"], first["approval"]["id"]);
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_page_shows_all_of_a_rule() {
    let scene = Scene::new();
    let (_, body) = scene.call_async("/data/</textarea><b>").await;
    let path = body["approval"]["url"].as_str().unwrap();
    let path = &path[path.find("/approvals/").unwrap()..];
    let asked = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        scene.stand.address, scene.person
    );
    let (head, page) = scene.stand.ask(&asked).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let field = "<textarea name=\"rule\" rows=\"2\" cols=\"80\" aria-label=\"rule\">\
                 files.write(/data/&lt;/textarea&gt;&lt;b&gt;)</textarea>";
    assert!(page.contains(field), "{page}");
}

/// What a trusted client's form says, and its fields.
fn form(approval: &Approval) -> (String, Value) {
    let question = serde_json::to_value(input_required(Manner::Form, approval).unwrap()).unwrap();
    let params = &question["inputRequests"]["approval"]["params"];
    (params["message"].as_str().unwrap().to_owned(), params["requestedSchema"]["properties"].clone())
}

#[tokio::test]
async fn a_form_shows_all_of_a_call_or_asks_nothing() {
    let scene = Scene::with(|settings| settings.permissions.trusted_clients = vec!["tester".into()]);
    let gate = scene.stand.parts.toolbox.gate();
    let agent = scene.stand.parts.auth.token(scene.stand.token.as_bytes()).unwrap();
    let said = |approval: &Approval| {
        let request = json!({
            "name": "files.write",
            "inputResponses": { "approval": { "action": "accept", "content": { "allow": true } } },
            "requestState": &*approval.id,
        });
        let request: CallToolRequestParams = serde_json::from_value(request).unwrap();
        assert!(comes_back(gate, Manner::Form, &agent, &request));
    };
    scene.call_async(&format!("/{}", "x".repeat(600))).await;
    let long = pending(&scene);
    let (message, fields) = form(&long);
    assert!(message.contains(&*long.url) && message.len() < 500, "{message}");
    assert_eq!(fields, json!({}));
    said(&long);
    assert_eq!(pending(&scene).id, long.id, "nobody was asked in the form");
    gate.approvals()
        .claim(&long.id, &long.question.digest.to_string(), (&ann(), Through::OwnDoor))
        .unwrap()
        .answer(yes());

    scene.call_async("/a\u{202e}txt.exe").await;
    let short = pending(&scene);
    let (message, fields) = form(&short);
    assert!(message.contains("a\\u{202e}txt.exe") && !message.contains('\u{202e}'), "{message}");
    assert_eq!(fields["allow"]["type"], "boolean");
    said(&short);
    assert!(gate.approvals().pending().is_empty());
}

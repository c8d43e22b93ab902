//! Recorded calls, judged by the rules of now: never more leniently than the gate.

use plugbay::base::permissions::Written;
use plugbay::base::settings::Settings;
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::contribution::{Schema, Tool};
use plugbay::kernel::specifier::Template;
use serde_json::{Value, json};

use crate::stand::{Stand, answer, tool};

fn rules(texts: &[&str]) -> Vec<Written> {
    texts.iter().map(|text| Written { text: (*text).into(), place: "plugbay.toml:1".into() }).collect()
}

fn change(name: &str, template: &str) -> Tool {
    let schema = json!({
        "type": "object",
        "properties": { "value": { "type": "string" }, "key": { "type": "string", "writeOnly": true } },
    });
    Tool {
        side_effect: true,
        parameters: Schema::compile("parameters", &schema).unwrap(),
        specifier_template: Some(Template::parse(template).unwrap()),
        ..tool(name, |_| answer(&json!("done")))
    }
}

fn stand(more: impl FnOnce(&mut Settings)) -> Stand {
    let stand = Stand::set(Scopes::of(&[Scope::Call, Scope::Admin]), |settings| {
        settings.permissions.deny = rules(&["run(bash *)"]);
        settings.permissions.allow = rules(&["run(echo *)", "get(http://good/*)", "write(/*)", "say(*)"]);
        more(settings);
    });
    stand.plugin("kit", |draft| {
        for (name, template) in
            [("run", "{value:shell}"), ("get", "{value:url}"), ("write", "{value:path}"), ("say", "{value}")]
        {
            draft.add_tool(change(name, template)).unwrap();
        }
    });
    stand
}

async fn call(stand: &Stand, tool: &str, value: &str) -> String {
    let start = format!("POST /api/host/tools/{tool}");
    let body = json!({ "value": value, "key": "secret" }).to_string();
    let (head, _) = stand.request(&stand.token, &start, &["Prefer: respond-async"], &body).await;
    head[9..12].to_owned()
}

async fn simulated(stand: &Stand) -> Value {
    stand.get("/api/host/audit/simulate?since=1h").await.1
}

#[tokio::test]
async fn what_the_gate_denied_or_asked_for_is_judged_no_more_leniently_by_the_same_rules() {
    let stand = stand(|_| {});
    for (tool, value, status) in [
        ("run", "bash -c 'echo 1'", "403"),
        ("run", "echo 1", "200"),
        ("run", "echo $(", "202"),
        ("get", "http://u:p@good/x", "202"),
        ("get", "http://good/x", "200"),
        ("write", "~/x", "202"),
        ("write", "/x", "200"),
        ("say", "hi", "200"),
    ] {
        assert_eq!(call(&stand, tool, value).await, status, "{tool} {value}");
    }
    let told = simulated(&stand).await;
    assert_eq!((&told["changes"], &told["unjudged"], &told["calls"]), (&json!([]), &json!({}), &json!(8)), "{told}");
    assert_eq!(told["verdicts"], json!({ "allow": 4, "ask": 3, "deny": 1 }));
}

#[tokio::test]
async fn without_the_arguments_only_what_its_text_says_all_of_is_judged() {
    let stand = stand(|settings| settings.audit.arguments = false);
    for (tool, value) in [("run", "bash -c 'echo 1'"), ("get", "http://u:p@good/x"), ("write", "~/x"), ("say", "hi")] {
        call(&stand, tool, value).await;
    }
    let told = simulated(&stand).await;
    assert_eq!((&told["calls"], &told["changes"], &told["verdicts"]), (&json!(4), &json!([]), &json!({ "allow": 1 })));
    let unjudged = told["unjudged"].as_object().unwrap();
    assert_eq!(unjudged.values().collect::<Vec<_>>(), [&json!(3)], "{told}");
}

#[tokio::test]
async fn arguments_that_mean_something_else_now_are_not_judged() {
    let stand = stand(|_| {});
    let link = stand.home().join("link");
    std::os::unix::fs::symlink("/one", &link).unwrap();
    call(&stand, "write", link.to_str().unwrap()).await;
    call(&stand, "write", "/y").await;
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/other", &link).unwrap();
    let told = simulated(&stand).await;
    assert_eq!((&told["calls"], &told["verdicts"]), (&json!(2), &json!({ "allow": 1 })), "{told}");
    assert_eq!(told["unjudged"], json!({ "its arguments mean something else now": 1 }));
}

#[tokio::test]
async fn a_call_that_there_was_no_room_to_ask_about_was_asked_about() {
    let stand = stand(|settings| {
        settings.limits.approvals = 1;
        settings.permissions.ask = rules(&["say(secret)"]);
    });
    assert_eq!(call(&stand, "write", "~/x").await, "202");
    assert_eq!(call(&stand, "write", "~/y").await, "503", "nothing speaks of it");
    assert_eq!(call(&stand, "say", "secret").await, "503", "a rule asks");
    assert_eq!(call(&stand, "run", "bash x").await, "403");
    let told = simulated(&stand).await;
    assert_eq!((&told["changes"], &told["calls"]), (&json!([]), &json!(4)), "{told}");
    assert_eq!(told["verdicts"], json!({ "ask": 3, "deny": 1 }));
}

//! Tools over HTTP and over `/ws`: one answer at both doors.

use std::sync::Arc;
use std::time::Duration;

use plugbay::base::error::Kind;
use plugbay::base::json::Json;
use plugbay::base::settings::{Limits, Mode};
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::call::ToolCall;
use plugbay::kernel::contribution::{Schema, Tool};
use plugbay::kernel::handler::Answer;
use plugbay::kernel::specifier::Template;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::stand::{Stand, answer, failure, tool, within};

/// Offers the tools as one plugin called `kit`.
fn offer(stand: &Stand, tools: Vec<Tool>) {
    stand.plugin("kit", |draft| {
        for tool in tools {
            draft.add_tool(tool).unwrap();
        }
    });
}

fn echo() -> Tool {
    tool("text.echo", |call| Box::pin(async move { Ok(call.arguments.text().clone()) }))
}

/// A tool that never ends; the first channel says that a call began, the second that one was cancelled.
fn stuck() -> (Tool, mpsc::UnboundedReceiver<()>, mpsc::UnboundedReceiver<()>) {
    let (began, begins) = mpsc::unbounded_channel();
    let (ended, ends) = mpsc::unbounded_channel();
    let run = move |_: ToolCall| -> Answer<Json> {
        let guard = OnDrop(ended.clone());
        began.send(()).unwrap();
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    };
    (tool("stuck", run), begins, ends)
}

struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The tools that show every way to fail, with the code of each.
fn faulty() -> Vec<(Tool, Value, Kind)> {
    let changing = Tool { side_effect: true, ..tool("changing", |_| answer(&Value::Null)) };
    let slow = Tool { timeout: Duration::from_millis(20), ..tool("slow", |_| Box::pin(std::future::pending())) };
    let promise = Schema::compile("output", &json!({ "type": "integer" })).unwrap();
    let lying = Tool { output: Some(promise), ..tool("lying", |_| answer(&json!("text"))) };
    vec![
        (tool("picky", |_| answer(&Value::Null)), json!({ "text": 5 }), Kind::Invalid),
        (changing, json!({}), Kind::Denied),
        (slow, json!({}), Kind::Timeout),
        (lying, json!({}), Kind::Plugin),
        (tool("raising", |_| failure(Kind::Plugin, "ValueError: no")), json!({}), Kind::Plugin),
        (tool("full", |_| failure(Kind::Busy, "the queue is full")), json!({}), Kind::Busy),
        (tool("panicking", |_| panic!("at once")), json!({}), Kind::Plugin),
    ]
}

#[tokio::test]
async fn a_call_over_http_takes_the_body_as_arguments_and_answers_the_result() {
    let stand = Stand::start();
    offer(&stand, vec![echo()]);
    let arguments = r#"{"text":"hi","n":1.50}"#;
    let (head, body) = stand
        .ask(&format!(
            "{}Connection: close\r\nContent-Length: {}\r\n\r\n{arguments}",
            stand.head("POST", "/api/host/tools/text.echo"),
            arguments.len()
        ))
        .await;
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(body, format!("{{\"result\":{arguments}}}"), "byte for byte");
    for body in ["", " \n"] {
        assert_eq!(stand.post("/api/host/tools/text.echo", body).await, (200, json!({ "result": {} })));
    }
}

#[tokio::test]
async fn every_failure_has_one_code_at_both_doors() {
    let stand = Stand::set(Scopes::of(&[Scope::Call]), |settings| settings.mode = Mode::Plan);
    let table = faulty();
    offer(&stand, table.iter().map(|(tool, ..)| tool.clone()).collect());
    let mut client = stand.connect().await;
    let table = table.iter().map(|(tool, arguments, kind)| (tool.name.as_str(), arguments.to_string(), *kind));
    let unreadable = [
        ("nobody", "{}".to_owned(), Kind::NotFound),
        ("not%20a%20name", "{}".to_owned(), Kind::Invalid),
        ("picky", "[1]".to_owned(), Kind::Invalid),
    ];
    for (name, arguments, kind) in table.chain(unreadable) {
        let (status, problem) = stand.post(&format!("/api/host/tools/{name}"), &arguments).await;
        assert_eq!((status, &problem["code"]), (kind.status(), &json!(kind.code())), "{name}: {problem}");
        let name = name.replace("%20", " ");
        client.say_text(format!(r#"{{"channel":"tools","event":"call","ref":"{name}","data":{{"tool":"{name}","arguments":{arguments}}}}}"#)).await;
        let error = client.hear().await;
        assert_eq!((&error["event"], &error["ref"]), (&json!("error"), &json!(name)), "{error}");
        assert_eq!(error["data"], json!({ "code": kind.code(), "message": problem["detail"] }));
    }
    let (status, problem) = stand.post("/api/host/tools/raising", "{").await;
    assert_eq!((status, &problem["code"]), (400, &json!("malformed")));
    let (_, problem) = stand.post("/api/host/tools/raising", "").await;
    assert_eq!(problem["plugin"], "kit");
}

#[tokio::test]
async fn a_body_at_the_limit_passes_and_one_byte_more_is_too_large() {
    let stand = Stand::with(Limits { body_bytes: 100, ..Limits::default() });
    offer(&stand, vec![echo()]);
    let body = |bytes: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(bytes - 11));
    assert_eq!(stand.post("/api/host/tools/text.echo", &body(100)).await.0, 200);
    assert_eq!(stand.post("/api/host/tools/text.echo", &body(101)).await.0, 413);
    let chunked = format!(
        "{}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
        stand.head("POST", "/api/host/tools/text.echo"),
        body(101)
    );
    assert!(stand.ask(&chunked).await.0.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn an_http_client_that_goes_away_cancels_its_call() {
    let stand = Stand::start();
    let (tool, mut begins, mut ends) = stuck();
    offer(&stand, vec![tool]);
    let mut raw = stand.open().await;
    raw.say(&format!("{}Content-Length: 0\r\n\r\n", stand.head("POST", "/api/host/tools/stuck"))).await;
    within(begins.recv()).await;
    drop(raw);
    within(ends.recv()).await;
}

#[tokio::test]
async fn the_list_shows_every_tool_by_name_with_all_that_is_known() {
    let stand = Stand::start();
    let promise = Schema::compile("output", &json!({ "type": "string" })).unwrap();
    let rich = Tool {
        output: Some(promise),
        side_effect: true,
        specifier_template: Some(Template::parse("{text}").unwrap()),
        group: Some("Files".into()),
        ..tool("files.write", |_| answer(&Value::Null))
    };
    offer(&stand, vec![echo(), rich]);
    let (status, list) = stand.get("/api/host/tools").await;
    assert_eq!(status, 200);
    let parameters = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    assert_eq!(
        list["tools"][0],
        json!({
            "name": "files.write", "plugin": "kit", "description": "The tool files.write.", "parameters": parameters,
            "output_schema": { "type": "string" }, "side_effect": true, "specifier_template": "{text}",
            "group": "Files", "timeout_s": 60.0, "max_concurrency": null,
        })
    );
    assert_eq!(list["tools"][1]["name"], "text.echo");
    let (_, found) = stand.get("/api/host/tools?search=FILES+write").await;
    assert_eq!(found["tools"].as_array().unwrap().len(), 1);
    assert_eq!(stand.get("/api/host/tools?search=nothing").await.1, json!({ "tools": [] }));
}

#[tokio::test]
async fn the_list_speaks_the_formats_of_the_providers() {
    let stand = Stand::start();
    offer(&stand, vec![echo()]);
    let parameters = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let description = "The tool text.echo.";
    let table = [
        (
            "openai",
            json!({ "type": "function", "function": { "name": "text__echo", "description": description, "parameters": parameters } }),
        ),
        ("anthropic", json!({ "name": "text__echo", "description": description, "input_schema": parameters })),
        (
            "mcp",
            json!({ "name": "text__echo", "description": description, "inputSchema": parameters, "annotations": { "readOnlyHint": true } }),
        ),
    ];
    for (format, entry) in table {
        let (_, list) = stand.get(&format!("/api/host/tools?format={format}")).await;
        assert_eq!(list, json!({ "tools": [entry], "names": { "text__echo": "text.echo" } }));
    }
    assert_eq!(stand.get("/api/host/tools?format=other").await.0, 422);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_a_problem() {
    let stand = Stand::start();
    for path in ["/api/host/tools", "/ws"] {
        let (status, problem) = stand.post(path, "").await;
        assert_eq!((status, &problem["status"]), (405, &json!(405)), "{path}");
    }
    assert_eq!(stand.get("/api/host/tools/text.echo").await.0, 405);
}

#[tokio::test]
async fn who_may_not_call_sees_no_tool_and_runs_none() {
    let stand = Stand::of(Limits::default(), Scopes::of(&[Scope::Approve]));
    offer(&stand, vec![echo()]);
    assert_eq!(stand.get("/api/host/tools").await, (200, json!({ "tools": [] })));
    assert_eq!(stand.post("/api/host/tools/text.echo", "").await.0, 403);
}

fn call(reference: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({ "channel": "tools", "event": "call", "ref": reference.into(), "data": { "tool": tool, "arguments": arguments } })
}

#[tokio::test]
async fn a_call_over_the_socket_tells_its_progress_and_then_its_result() {
    let stand = Stand::start();
    let run = |call: ToolCall| -> Answer<Json> {
        let progress = call.progress.clone().unwrap();
        progress(0.5, "half");
        progress(1.0, "");
        answer(&json!(["done"]))
    };
    offer(&stand, vec![tool("work", run), echo()]);
    let mut client = stand.connect().await;
    client.say(call("a", "work", json!({}))).await;
    let frame = |event: &str, data: Value| json!({ "channel": "tools", "event": event, "ref": "a", "data": data });
    assert_eq!(client.hear().await, frame("progress", json!({ "fraction": 0.5, "message": "half" })));
    assert_eq!(client.hear().await, frame("progress", json!({ "fraction": 1.0, "message": "" })));
    assert_eq!(client.hear().await, frame("result", json!({ "result": ["done"] })));
    let result =
        client.ask(json!({ "channel": "tools", "event": "call", "ref": "a", "data": { "tool": "text.echo" } })).await;
    assert_eq!(result, frame("result", json!({ "result": {} })), "a ref may be used again, arguments may be missing");
    client.say(json!({ "channel": "tools", "event": "call", "data": { "tool": "text.echo" } })).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn progress_after_the_end_of_a_call_is_not_sent() {
    let stand = Stand::start();
    let (sent, mut kept) = mpsc::unbounded_channel();
    let run = move |call: ToolCall| -> Answer<Json> {
        sent.send(call.progress.clone().unwrap()).unwrap();
        answer(&Value::Null)
    };
    offer(&stand, vec![tool("work", run)]);
    let mut client = stand.connect().await;
    assert_eq!(client.ask(call(1, "work", json!({}))).await["event"], "result");
    within(kept.recv()).await.unwrap()(0.9, "late");
    client.expect_silence().await;
}

#[tokio::test]
async fn progress_beyond_half_an_outbox_is_left_out_and_the_result_arrives() {
    let stand = Stand::with(Limits { outbox_frames: 10, ..Limits::default() });
    let run = |call: ToolCall| -> Answer<Json> {
        let progress = call.progress.clone().unwrap();
        for step in 0..1000 {
            progress(f64::from(step) / 1000.0, "");
        }
        answer(&Value::Null)
    };
    offer(&stand, vec![tool("work", run)]);
    let mut client = stand.connect().await;
    client.say(call(1, "work", json!({}))).await;
    let mut progress = 0;
    while client.hear().await["event"] == "progress" {
        progress += 1;
    }
    assert!((1..=6).contains(&progress), "{progress}");
}

#[tokio::test]
async fn calls_run_side_by_side_and_a_ref_that_is_in_use_is_a_conflict() {
    let stand = Stand::start();
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let run = move |_: ToolCall| -> Answer<Json> {
        let gate = gate.clone();
        Box::pin(async move {
            gate.notified().await;
            Ok(Json::NULL)
        })
    };
    offer(&stand, vec![tool("wait", run), echo()]);
    let mut client = stand.connect().await;
    client.say(call(1, "wait", json!({}))).await;
    assert_eq!(client.ask(call(2, "text.echo", json!({}))).await["event"], "result");
    assert_eq!(client.ask(call(1, "text.echo", json!({}))).await["data"]["code"], "conflict");
    assert_eq!(client.ask(call("1", "text.echo", json!({}))).await["event"], "result", "text is not a number");
    go.notify_one();
    let result = client.hear().await;
    assert_eq!((&result["event"], &result["ref"]), (&json!("result"), &json!(1)));
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_dropped_and_ends_with_one_error() {
    let stand = Stand::start();
    let (tool, _begins, mut ends) = stuck();
    offer(&stand, vec![tool]);
    let mut client = stand.connect().await;
    client.say(call("a", "stuck", json!({}))).await;
    let cancel = json!({ "channel": "tools", "event": "cancel", "ref": "a" });
    let error = client.ask(cancel.clone()).await;
    assert_eq!((&error["ref"], &error["data"]["code"]), (&json!("a"), &json!("cancelled")));
    within(ends.recv()).await;
    assert_eq!(client.ask(cancel).await["data"]["code"], "not_found");
    client.expect_silence().await;
}

#[tokio::test]
async fn a_connection_runs_its_number_of_calls_and_the_next_is_busy() {
    let stand = Stand::with(Limits { mailbox_messages: 2, ..Limits::default() });
    let (tool, _begins, mut ends) = stuck();
    offer(&stand, vec![tool]);
    let mut client = stand.connect().await;
    client.say(call(1, "stuck", json!({}))).await;
    client.say(call(2, "stuck", json!({}))).await;
    assert_eq!(client.ask(call(3, "stuck", json!({}))).await["data"]["code"], "busy");
    drop(client);
    within(ends.recv()).await;
    within(ends.recv()).await;
}

#[tokio::test]
async fn a_call_that_cannot_be_read_is_invalid_and_an_unknown_event_is_not_found() {
    let stand = Stand::start();
    let mut client = stand.connect().await;
    for data in
        [json!(null), json!(["text.echo"]), json!({}), json!({ "tool": 1 }), json!({ "tool": "x", "arguments": 1 })]
    {
        let error = client.ask(json!({ "channel": "tools", "event": "call", "ref": 1, "data": data })).await;
        assert_eq!((&error["ref"], &error["data"]["code"]), (&json!(1), &json!("invalid")), "{data}");
    }
    let error = client.ask(json!({ "channel": "tools", "event": "result", "ref": 1 })).await;
    assert_eq!(error["data"]["code"], "not_found");
}

#[test]
fn no_specifier_template_names_a_secret_wherever_the_mark_stands() {
    let secret = json!({ "writeOnly": true });
    let marked = [
        json!({ "properties": { "key": secret } }),
        json!({ "additionalProperties": secret }),
        json!({ "patternProperties": { "^k": secret } }),
        json!({ "allOf": [{ "properties": { "key": secret } }] }),
        json!({ "$ref": "#/$defs/all", "$defs": { "all": { "properties": { "key": secret } } } }),
        json!({ "properties": { "key": { "contentSchema": { "properties": { "pin": secret } } } } }),
        secret,
    ];
    let open = [
        json!({}),
        json!({ "$ref": "#all", "$defs": { "all": { "$anchor": "all" } } }),
        json!({ "patternProperties": { "^k": {} } }),
        json!({ "allOf": [{ "properties": { "key": {}, "pin": { "writeOnly": true } } }] }),
    ];
    let checked = |schema: &Value| {
        let parameters = Schema::compile("parameters", schema).unwrap();
        let template = Some(Template::parse("{key}").unwrap());
        Tool { parameters, specifier_template: template, ..echo() }.check_template()
    };
    for schema in marked {
        let error = checked(&schema).unwrap_err();
        assert!(error.message().contains("marks as secret"), "{schema}: {error}");
    }
    for schema in open {
        assert!(checked(&schema).is_ok(), "{schema}");
    }
}

#[test]
fn what_does_not_fit_is_told_without_what_is_hidden() {
    let secret = json!({ "writeOnly": true, "additionalProperties": { "type": "integer" } });
    let strict = json!({ "writeOnly": true, "properties": { "a": {} }, "additionalProperties": false });
    let late = json!({ "writeOnly": true, "properties": { "a": {} }, "unevaluatedProperties": false });
    let named = json!({ "propertyNames": { "maxLength": 3, "format": "password" } });
    let plain = json!({ "propertyNames": { "maxLength": 3 } });
    let cases = [
        (secret, json!({ "SECRET": "SECRET" }), "/o: value is not of type \"integer\""),
        (strict, json!({ "SECRET": 1 }), "/o: a property has a name that is not allowed"),
        (late, json!({ "SECRET": 1 }), "/o: a property has a name that is not allowed"),
        (named, json!({ "SECRET": 1 }), "/o: a property has a name that is not allowed"),
        (plain, json!({ "plain": 1 }), "/o: \"plain\" is longer than 3 characters"),
    ];
    for (below, value, expected) in cases {
        let schema = json!({ "properties": { "o": below, "pin": { "writeOnly": true } } });
        let failures = Schema::compile("parameters", &schema).unwrap().failures(&json!({ "o": value }));
        assert_eq!(failures.as_deref(), Some(expected), "{schema}");
    }
    let schema = json!({ "properties": { "pin": { "writeOnly": true } }, "additionalProperties": false });
    let failures = Schema::compile("parameters", &schema).unwrap().failures(&json!({ "pun": 1 })).unwrap();
    assert!(failures.contains("'pun'"), "what is shown is told: {failures}");
}

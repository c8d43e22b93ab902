//! Calls that wait for a person: who is asked, who may answer, and what an answer lets through.

use std::time::Duration;

use plugbay::base::permissions::Written;
use plugbay::base::settings::{Limits, Mode};
use plugbay::kernel::auth::Scope;
use serde_json::{Value, json};

use crate::scene::{Scene, WRITE, heard};

#[tokio::test]
async fn a_side_effect_waits_for_a_person_who_is_told_all_about_it() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let call = scene.stand.as_of(&scene.stand.token, WRITE, json!({ "path": "/data/a", "key": "secret" }));
    let (called, ()) = tokio::join!(call, async {
        let filed = heard(&mut person, "filed").await;
        for (field, value) in [
            ("tool", json!("files.write")),
            ("plugin", json!("kit")),
            ("specifier", json!("/data/a")),
            ("arguments", json!({ "path": "/data/a", "key": "[hidden]" })),
            ("caller", json!("tester")),
            ("door", json!("http")),
            ("reason", json!("no_rule")),
            ("rules", json!(["files.write(/data/a)"])),
            ("state", json!("pending")),
            ("differences", json!([])),
        ] {
            assert_eq!(filed[field], value, "{field}");
        }
        assert_eq!(filed["digest"].as_str().unwrap().len(), 64);
        assert_eq!(filed["fingerprint"].as_str().unwrap().len(), 64);
        let (_, list) = scene.stand.as_of(&scene.person, "GET /api/host/approvals", Value::Null).await;
        assert_eq!(list["approvals"], json!([filed]));
        assert_eq!(scene.runs(), 0);
        let (status, answered) = scene.answer(&filed, json!({ "decision": "once" })).await;
        assert_eq!((status, &answered["state"], &answered["answer"]["by"]), (200, &json!("allowed"), &json!("ann")));
        assert_eq!(heard(&mut person, "answered").await["id"], filed["id"]);
    });
    assert_eq!(called, (200, json!({ "result": { "wrote": "/data/a" } })));
    assert_eq!(scene.runs(), 1);
    let (_, list) = scene.stand.as_of(&scene.person, "GET /api/host/approvals", Value::Null).await;
    assert_eq!(list, json!({ "approvals": [] }));
}

#[tokio::test]
async fn a_denial_gives_the_agent_its_reason() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let ((status, problem), ()) = tokio::join!(scene.call("/x"), async {
        let filed = heard(&mut person, "filed").await;
        // Over the socket, as a console would.
        let said =
            json!({ "id": filed["id"], "digest": filed["digest"], "decision": "deny", "reason": "not on a Sunday" });
        person.say(json!({ "channel": "approvals", "event": "answer", "ref": 1, "data": said })).await;
        let (one, other) = (person.hear().await, person.hear().await);
        let events: Vec<_> = [one, other].iter().map(|frame| frame["event"].as_str().unwrap().to_owned()).collect();
        assert!(events.contains(&"reply".into()) && events.contains(&"answered".into()), "{events:?}");
    });
    assert_eq!((status, &problem["code"]), (403, &json!("denied")));
    assert!(problem["detail"].as_str().unwrap().contains("ann has denied files.write: not on a Sunday"), "{problem}");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn always_keeps_the_narrowest_rule_and_the_next_call_is_not_asked_for() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let ((status, _), ()) = tokio::join!(scene.call("/data/a"), async {
        let filed = heard(&mut person, "filed").await;
        let (status, problem) =
            scene.answer(&filed, json!({ "decision": "always", "rule": "files.write(/other)" })).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid")), "a rule that does not fit the call");
        let (status, problem) = scene.answer(&filed, json!({ "decision": "always", "rule": "files.write(" })).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid")));
        assert_eq!(scene.answer(&filed, json!({ "decision": "always", "rule": "files.write(/data/*)" })).await.0, 200);
        heard(&mut person, "answered").await;
    });
    assert_eq!(status, 200);
    assert_eq!(scene.call("/data/b").await.0, 200);
    let (_, permissions) = scene.stand.as_of(&scene.person, "GET /api/host/permissions", Value::Null).await;
    let kept = &permissions["rules"][0];
    assert_eq!(
        (&kept["rule"], &kept["by"], &kept["plugin"]),
        (&json!("files.write(/data/*)"), &json!("ann"), &json!("kit"))
    );
    // Another asks for another path.
    let (head, _) = scene.call_async("/etc/x").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
}

#[tokio::test]
async fn a_tool_that_changed_since_always_was_said_is_asked_for_with_the_difference() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    tokio::join!(scene.call("/a"), async {
        let filed = heard(&mut person, "filed").await;
        assert_eq!(scene.answer(&filed, json!({ "decision": "always" })).await.0, 200);
        heard(&mut person, "answered").await;
    });
    assert_eq!(scene.call("/a").await.0, 200, "the same tool runs");
    scene.stand.parts.registry.withdraw("kit");
    scene.offer("kit", "content");
    let (head, body) = scene.call_async("/a").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    let approval = &body["approval"];
    assert_eq!(approval["reason"], "tool_changed");
    let differences = approval["differences"].to_string();
    assert!(
        differences.contains("/parameters/properties/content") && differences.contains("/parameters/properties/text")
    );
    // The same name and form from another plugin is another tool, too.
    scene.stand.parts.registry.withdraw("kit");
    scene.offer("evil", "text");
    let (_, body) = scene.call_async("/a").await;
    assert_eq!(body["approval"]["differences"], json!(["plugin: kit → evil"]));
}

#[tokio::test]
async fn only_another_principal_with_the_scope_may_answer_and_only_what_was_shown() {
    let scene = Scene::new();
    let caller = scene.stand.add("both", &[Scope::Call, Scope::Approve]);
    let admin = scene.stand.add("root", &[Scope::Call, Scope::Admin]);
    let body = json!({ "path": "/a" }).to_string();
    let (_, filed) = scene.stand.request(&caller, WRITE, &["Prefer: respond-async"], &body).await;
    let filed = &filed["approval"];
    for (token, said, status) in [
        (&caller, json!({ "decision": "once" }), 403),
        (&admin, json!({ "decision": "once" }), 404),
        (&scene.stand.token, json!({ "decision": "once" }), 404),
        (&scene.person, json!({ "decision": "once", "digest": "0".repeat(64) }), 409),
        (&scene.person, json!({ "decision": "perhaps" }), 422),
        (&scene.person, json!({ "decision": "once", "rule": "files.write" }), 422),
        (&scene.person, json!({ "decision": "once", "more": 1 }), 422),
        (&scene.person, json!({ "decision": "once" }), 200),
        (&scene.person, json!({ "decision": "once" }), 409),
        (&scene.person, json!({ "decision": "deny" }), 409),
    ] {
        let (found, problem) = scene.answer_as(token, filed, said.clone()).await;
        assert_eq!(found, status, "{said} {problem}");
    }
    // The caller sees its own, another caller does not, and nobody an id that is none.
    let path = format!("GET /api/host/approvals/{}", filed["id"].as_str().unwrap());
    assert_eq!(scene.stand.as_of(&caller, &path, Value::Null).await.1["state"], "allowed");
    assert_eq!(scene.stand.as_of(&scene.stand.token, &path, Value::Null).await.0, 404);
    assert_eq!(scene.stand.as_of(&scene.person, "GET /api/host/approvals/none", Value::Null).await.0, 404);
    // Who may not answer cannot listen or answer over the socket either.
    let mut agent = scene.stand.connect().await;
    let refused = agent.ask(json!({ "channel": "approvals", "event": "list", "ref": 1 })).await;
    assert_eq!(refused["data"]["code"], "denied");
}

#[tokio::test]
async fn the_same_call_comes_back_to_its_approval_once() {
    let scene = Scene::new();
    let (head, first) = scene.call_async("/a").await;
    let id = first["approval"]["id"].as_str().unwrap().to_owned();
    assert!(head.contains(&format!("location: /api/host/approvals/{id}")), "{head}");
    assert!(head.contains("preference-applied: respond-async"), "{head}");
    let (_, again) = scene.call_async("/a").await;
    assert_eq!(again["approval"]["id"], *id, "the same call joins");
    let (_, other) = scene.call_async("/b").await;
    assert_ne!(other["approval"]["id"], *id, "another argument is another call");
    let stranger = scene.stand.add("stranger", &[Scope::Call]);
    let body = json!({ "path": "/a" }).to_string();
    let (_, theirs) = scene.stand.request(&stranger, WRITE, &["Prefer: respond-async"], &body).await;
    assert_ne!(theirs["approval"]["id"], *id, "another's call is another's");
    scene.answer(&first["approval"], json!({ "decision": "once" })).await;
    assert_eq!(scene.call_async("/a").await.1, json!({ "result": { "wrote": "/a" } }));
    assert_eq!(scene.runs(), 1);
    let (head, next) = scene.call_async("/a").await;
    assert!(head.starts_with("HTTP/1.1 202 ") && next["approval"]["id"] != *id, "once is once");
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn a_held_call_takes_over_the_wait_of_one_that_left() {
    let scene = Scene::new();
    let (_, first) = scene.call_async("/a").await;
    let mut person = scene.listen().await;
    let (called, ()) = tokio::join!(scene.call("/a"), async {
        let list = person.ask(json!({ "channel": "approvals", "event": "list", "ref": 1 })).await;
        assert_eq!(list["data"]["approvals"][0]["id"], first["approval"]["id"]);
        scene.answer(&first["approval"], json!({ "decision": "once" })).await;
    });
    assert_eq!((called.0, scene.runs()), (200, 1));
}

#[tokio::test]
async fn nobody_in_time_is_a_denial_and_listeners_hear_that_it_lapsed() {
    let scene = Scene::with(|settings| {
        settings.limits = Limits { approval_time: Duration::from_millis(30), ..Limits::default() };
    });
    let mut person = scene.listen().await;
    let (status, problem) = scene.call("/a").await;
    assert_eq!((status, &problem["code"]), (403, &json!("denied")));
    assert!(problem["detail"].as_str().unwrap().contains("nobody has answered within 0.03 s"), "{problem}");
    let filed = heard(&mut person, "filed").await;
    assert_eq!(heard(&mut person, "lapsed").await["state"], "lapsed");
    assert_eq!(scene.answer(&filed, json!({ "decision": "once" })).await.0, 409);
    // One that nobody waits for lapses as well.
    scene.call_async("/b").await;
    heard(&mut person, "filed").await;
    assert_eq!(heard(&mut person, "lapsed").await["specifier"], "/b");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_is_a_denial() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let mut raw = scene.stand.open().await;
    raw.say(&format!("{}Content-Length: 2\r\n\r\n{{}}", scene.stand.head("POST", "/api/host/tools/files.write"))).await;
    let filed = heard(&mut person, "filed").await;
    drop(raw);
    assert_eq!(heard(&mut person, "lapsed").await["state"], "left");
    assert_eq!(scene.answer(&filed, json!({ "decision": "once" })).await.0, 409);
    let mut agent = scene.stand.connect().await;
    agent.say(json!({ "channel": "tools", "event": "call", "ref": 7, "data": { "tool": "files.write" } })).await;
    let told = agent.hear().await;
    let filed = heard(&mut person, "filed").await;
    let expected = json!({ "approval": filed["id"], "url": filed["url"] });
    assert_eq!((&told["event"], &told["ref"], &told["data"]), (&json!("progress"), &json!(7), &expected));
    let cancelled = agent.ask(json!({ "channel": "tools", "event": "cancel", "ref": 7 })).await;
    assert_eq!(cancelled["data"]["code"], "cancelled");
    assert_eq!(heard(&mut person, "lapsed").await["state"], "left");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_deny_rule_that_came_meanwhile_outranks_the_answer() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let ((status, problem), ()) = tokio::join!(scene.call("/a"), async {
        let filed = heard(&mut person, "filed").await;
        let rule = json!({ "list": "deny", "rule": "files.write(/a)" });
        assert_eq!(scene.stand.as_of(&scene.person, "POST /api/host/permissions/rules", rule).await.0, 201);
        scene.answer(&filed, json!({ "decision": "once" })).await;
    });
    assert_eq!(status, 403);
    assert!(
        problem["detail"].as_str().unwrap().contains("deny rule \"files.write(/a)\" (rules.json, rule 1)"),
        "{problem}"
    );
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_token_that_was_revoked_while_its_call_waited_runs_nothing() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let gone = scene.stand.add("gone", &[Scope::Call]);
    let ((status, problem), ()) = tokio::join!(scene.stand.as_of(&gone, WRITE, json!({ "path": "/a" })), async {
        let filed = heard(&mut person, "filed").await;
        scene.stand.parts.auth.revoke("gone").unwrap();
        // The call ends with its token; whether it has ended already does not matter.
        scene.answer(&filed, json!({ "decision": "once" })).await;
    });
    assert!(matches!(status, 401 | 403), "{status} {problem}");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn what_was_taken_out_while_a_person_was_asked_does_not_run() {
    let scene = Scene::new();
    let mut person = scene.listen().await;
    let ((status, _), ()) = tokio::join!(scene.call("/a"), async {
        let filed = heard(&mut person, "filed").await;
        scene.stand.parts.registry.withdraw("kit");
        scene.offer("kit", "text");
        scene.answer(&filed, json!({ "decision": "once" })).await;
    });
    assert_eq!((status, scene.runs()), (403, 0));
}

#[tokio::test]
async fn in_plan_nobody_is_asked_and_an_ask_rule_asks_even_for_a_reader() {
    let scene = Scene::with(|settings| settings.mode = Mode::Plan);
    assert_eq!(scene.call("/a").await.0, 403);
    let (_, list) = scene.stand.as_of(&scene.person, "GET /api/host/approvals", Value::Null).await;
    assert_eq!(list, json!({ "approvals": [] }));
    let asking = Scene::with(|settings| {
        settings.mode = Mode::Autonomous;
        settings.permissions.ask = vec![Written { text: "files.*".into(), place: "plugbay.toml:3".into() }];
    });
    let (_, body) = asking.call_async("/a").await;
    let approval = &body["approval"];
    assert_eq!((&approval["reason"], &approval["rules"]), (&json!("rule"), &json!([])));
    assert_eq!(approval["rule"], "ask rule \"files.*\" (plugbay.toml:3)");
    let (status, problem) = asking.answer(approval, json!({ "decision": "always" })).await;
    assert_eq!(status, 409, "an allow rule would change nothing: {problem}");
    assert_eq!(asking.answer(approval, json!({ "decision": "once" })).await.0, 200);
}

#[tokio::test]
async fn a_breaker_asks_for_what_the_mode_allows() {
    let scene = Scene::with(|settings| {
        settings.mode = Mode::Autonomous;
        settings.limits = Limits { breaker_calls: 2, ..Limits::default() };
    });
    assert_eq!((scene.call("/a").await.0, scene.call("/b").await.0), (200, 200));
    let (head, body) = scene.call_async("/c").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    assert_eq!(body["approval"]["reason"], "too_many_calls");
}

#[tokio::test]
async fn too_many_calls_that_wait_are_busy_and_one_caller_leaves_room_for_others() {
    let scene = Scene::with(|settings| settings.limits = Limits { approvals: 4, ..Limits::default() });
    for path in ["/a", "/b"] {
        assert!(scene.call_async(path).await.0.starts_with("HTTP/1.1 202 "));
    }
    let (head, problem) = scene.call_async("/c").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && problem["code"] == "busy", "{head}");
    let stranger = scene.stand.add("stranger", &[Scope::Call]);
    let (head, _) = scene.stand.request(&stranger, WRITE, &["Prefer: respond-async"], "{}").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
}

#[tokio::test]
async fn rules_are_added_explained_and_removed_by_who_may_do_both() {
    let scene = Scene::new();
    let call = json!({ "tool": "files.write", "arguments": { "path": "/data/a" } });
    let explain = "POST /api/host/permissions/explain";
    let (_, told) = scene.stand.as_of(&scene.person, explain, call.clone()).await;
    assert_eq!(
        (&told["decision"], &told["reason"], &told["without"]),
        (&json!("ask"), &json!("no_rule"), &Value::Null)
    );
    let (status, made) = scene
        .stand
        .as_of(
            &scene.person,
            "POST /api/host/permissions/rules",
            json!({ "list": "allow", "rule": "files.write(/data/*)" }),
        )
        .await;
    assert_eq!((status, &made["id"]), (201, &json!(1)));
    let (_, told) = scene.stand.as_of(&scene.person, explain, call.clone()).await;
    assert_eq!((&told["decision"], &told["rule"]["place"]), (&json!("allow"), &json!("rules.json, rule 1")));
    assert_eq!((&told["without"]["decision"], &told["without"]["reason"]), (&json!("ask"), &json!("no_rule")));
    assert_eq!(scene.call("/data/a").await.0, 200);
    for (rule, status) in
        [("files.write(data/*)", 201), ("text.none(*)", 201), ("files.raed", 422), ("files.write(", 422)]
    {
        let wish = json!({ "list": "deny", "rule": rule });
        assert_eq!(
            scene.stand.as_of(&scene.person, "POST /api/host/permissions/rules", wish).await.0,
            status,
            "{rule}"
        );
    }
    let admin = scene.stand.add("root", &[Scope::Admin]);
    for (start, body) in [
        ("POST /api/host/permissions/rules", json!({ "list": "allow", "rule": "*" })),
        ("DELETE /api/host/permissions/rules/1", Value::Null),
    ] {
        assert_eq!(scene.stand.as_of(&admin, start, body.clone()).await.0, 403, "{start} without approve");
        assert_eq!(scene.stand.as_of(&scene.stand.token, start, body).await.0, 403, "{start} without admin");
    }
    assert_eq!(scene.stand.as_of(&scene.person, "DELETE /api/host/permissions/rules/1", Value::Null).await.0, 204);
    assert_eq!(scene.stand.as_of(&scene.person, "DELETE /api/host/permissions/rules/1", Value::Null).await.0, 404);
    let (_, told) = scene.stand.as_of(&scene.person, explain, call).await;
    assert_eq!(told["decision"], "ask");
}

#[tokio::test]
async fn five_hundred_calls_wait_and_each_runs_once_when_it_is_let_through() {
    let scene = Scene::with(|settings| {
        settings.limits = Limits { approvals: 1000, breaker_calls: 10_000, ..Limits::default() }
    });
    let mut person = scene.listen().await;
    let mut agent = scene.stand.connect().await;
    for number in 0..250 {
        let data = json!({ "tool": "files.write", "arguments": { "path": format!("/{number}") } });
        agent.say(json!({ "channel": "tools", "event": "call", "ref": number, "data": data })).await;
    }
    let other = scene.stand.add("other", &[Scope::Call]);
    let mut second = scene.stand.connect_as(&other).await;
    for number in 0..250 {
        let data = json!({ "tool": "files.write", "arguments": { "path": format!("/{number}") } });
        second.say(json!({ "channel": "tools", "event": "call", "ref": number, "data": data })).await;
    }
    let mut filed = Vec::new();
    while filed.len() < 500 {
        filed.push(heard(&mut person, "filed").await);
    }
    assert_eq!(scene.stand.parts.toolbox.gate().approvals().pending().len(), 500);
    for approval in &filed {
        let said = json!({ "id": approval["id"], "digest": approval["digest"], "decision": "once" });
        person.say(json!({ "channel": "approvals", "event": "answer", "data": said })).await;
    }
    for client in [&mut agent, &mut second] {
        let mut results = 0;
        while results < 250 {
            let frame = client.hear().await;
            assert!(matches!(frame["event"].as_str(), Some("progress" | "result")), "{frame}");
            results += usize::from(frame["event"] == "result");
        }
    }
    assert_eq!(scene.runs(), 500);
}

#[tokio::test]
async fn names_that_only_look_like_a_tool_never_reach_its_handler() {
    let scene = Scene::with(|settings| {
        settings.mode = Mode::Autonomous;
        settings.permissions.deny = vec![Written { text: "files.write".into(), place: "plugbay.toml:1".into() }];
    });
    let mut variants = vec!["files.write".to_owned()];
    for insert in [
        "%20",
        "%00",
        "%09",
        "%0a",
        "%2e",
        "/",
        "%2f",
        "..",
        "%e2%80%8b",
        "%c2%a0",
        "%cc%81",
        "%ef%bc%8e",
        "*",
        "\u{2024}",
    ] {
        for at in 0..="files.write".len() {
            let mut name = "files.write".to_owned();
            name.insert_str(at, insert);
            variants.push(name);
        }
    }
    for (index, letter) in "files.write".char_indices() {
        variants.push("files.write".replace(letter, &letter.to_uppercase().to_string()));
        variants.push(format!("{}{}", &"files.write"[..index], &"files.write"[index + 1..]));
    }
    assert!(variants.len() > 180);
    for name in variants {
        let name: String =
            name.chars().map(|c| if c.is_ascii() { c.to_string() } else { "%E2%80%A4".into() }).collect();
        let (status, _) = scene.stand.post(&format!("/api/host/tools/{name}"), "").await;
        assert!((400..500).contains(&status), "{name} {status}");
    }
    assert_eq!(scene.runs(), 0);
}

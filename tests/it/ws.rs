//! What is said on `/ws`: refs and answers, order, mailboxes, the host's own channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plugbay::base::error::Kind;
use plugbay::base::json::Json;
use plugbay::base::settings::Limits;
use plugbay::kernel::auth::{Scope, Scopes};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::stand::{Stand, answer, failure, within};

/// The event, the ref, and the data or the error's code.
fn gist(frame: &Value) -> (&str, &Value, &Value) {
    let data = if frame["event"] == "error" { &frame["data"]["code"] } else { &frame["data"] };
    (frame["event"].as_str().unwrap(), &frame["ref"], data)
}

/// A channel that answers with the data of the frame.
fn echo(stand: &Stand) -> mpsc::UnboundedReceiver<String> {
    stand.channel("echo", |message| Box::pin(async move { Ok(message.frame.data) }))
}

#[tokio::test]
async fn hello_names_the_version_and_an_id_that_no_other_connection_has() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    let hello = raw.text().await;
    assert_eq!(hello["data"]["version"], env!("CARGO_PKG_VERSION"));
    let (one, two) = (stand.connect().await, stand.connect().await);
    assert_eq!(one.id.len(), 32);
    assert_ne!(one.id, two.id);
}

#[tokio::test]
async fn a_system_ping_is_answered_with_its_ref_and_data() {
    let stand = Stand::start();
    let mut client = stand.connect().await;
    let pong = client.ask(json!({ "channel": "system", "event": "ping", "ref": 7, "data": [1] })).await;
    assert_eq!(pong, json!({ "channel": "system", "event": "pong", "ref": 7, "data": [1] }));
    let pong = client.ask(json!({ "channel": "system", "event": "ping" })).await;
    assert_eq!(pong, json!({ "channel": "system", "event": "pong", "data": null }));
}

#[tokio::test]
async fn a_frame_with_a_ref_has_one_reply_and_one_without_has_none() {
    let stand = Stand::start();
    echo(&stand);
    let mut client = stand.connect().await;
    client.say(json!({ "channel": "echo", "data": "unanswered" })).await;
    for reference in [json!(1), json!(-9_007_199_254_740_993_i64), json!("text \" \u{e9}"), json!("")] {
        let reply = client.ask(json!({ "channel": "echo", "ref": reference, "data": { "a": 1 } })).await;
        assert_eq!(reply, json!({ "channel": "echo", "event": "reply", "ref": reference, "data": { "a": 1 } }));
    }
    let reply = client.ask(json!({ "channel": "echo", "ref": 2 })).await;
    assert_eq!(gist(&reply), ("reply", &json!(2), &Value::Null));
    client.expect_silence().await;
}

#[tokio::test]
async fn a_handler_gets_the_whole_frame_as_it_came() {
    let stand = Stand::start();
    stand.channel("whole", |message| Box::pin(async move { Ok(message.frame.text) }));
    let mut client = stand.connect().await;
    client.say_text(r#"{"channel":"whole","ref":1,"more":{"n":1.50},"data":1e2}"#.to_owned()).await;
    let reply = client.hear().await;
    assert_eq!(reply["data"], json!({ "channel": "whole", "ref": 1, "more": { "n": 1.5 }, "data": 1e2 }));
}

#[tokio::test]
async fn a_failure_is_an_error_frame_with_and_without_a_ref_and_the_socket_stays_open() {
    let stand = Stand::start();
    stand.channel("broken", |_| failure(Kind::Plugin, "ValueError: no"));
    let mut client = stand.connect().await;
    let error = client.ask(json!({ "channel": "broken", "ref": "a" })).await;
    let data = json!({ "code": "plugin", "message": "ValueError: no" });
    assert_eq!(error, json!({ "channel": "broken", "event": "error", "ref": "a", "data": data }));
    let error = client.ask(json!({ "channel": "broken" })).await;
    assert_eq!(error, json!({ "channel": "broken", "event": "error", "data": data }));
    client.expect_silence().await;
}

#[tokio::test]
async fn a_handler_that_panics_fails_that_message_alone() {
    let stand = Stand::start();
    stand.channel("eager", |_| panic!("at once"));
    stand.channel("late", |_| Box::pin(async { panic!("while it was waited for") }));
    let mut client = stand.connect().await;
    for channel in ["eager", "late"] {
        for reference in 0..3 {
            let error = client.ask(json!({ "channel": channel, "ref": reference })).await;
            assert_eq!(gist(&error), ("error", &json!(reference), &json!("plugin")));
        }
    }
    assert_eq!(stand.parts.shutdown.panics(), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_and_the_socket_stays_open() {
    let stand = Stand::start();
    echo(&stand);
    let mut client = stand.connect().await;
    let table = [
        ("no json", "system", Value::Null, "malformed"),
        ("[\"echo\"]", "system", Value::Null, "malformed"),
        ("7", "system", Value::Null, "malformed"),
        (r#"{"ref":1}"#, "system", json!(1), "invalid"),
        (r#"{"channel":"Not A Name","ref":2}"#, "system", json!(2), "invalid"),
        (r#"{"channel":"echo","ref":1.5}"#, "echo", Value::Null, "invalid"),
        (r#"{"channel":"echo","event":[],"ref":3}"#, "echo", json!(3), "invalid"),
        (r#"{"channel":"nobody","ref":4}"#, "nobody", json!(4), "not_found"),
        (r#"{"channel":"nobody"}"#, "nobody", Value::Null, "not_found"),
        (r#"{"channel":"system","event":"dance","ref":5}"#, "system", json!(5), "not_found"),
        (r#"{"channel":"approvals","event":"list","ref":6}"#, "approvals", json!(6), "denied"),
    ];
    for (text, channel, reference, code) in table {
        client.say_text(text.to_owned()).await;
        let error = client.hear().await;
        assert_eq!((&error["channel"], gist(&error)), (&json!(channel), ("error", &reference, &json!(code))), "{text}");
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn messages_of_one_channel_are_handled_one_at_a_time_in_their_order() {
    let stand = Stand::start();
    let inside = Arc::new(AtomicUsize::new(0));
    stand.channel("slow", move |message| {
        let inside = inside.clone();
        Box::pin(async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "the one before was not answered");
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(message.frame.data)
        })
    });
    let mut client = stand.connect().await;
    for number in 0..200 {
        client.say(json!({ "channel": "slow", "ref": number, "data": number })).await;
    }
    for number in 0..200 {
        assert_eq!(gist(&client.hear().await), ("reply", &json!(number), &json!(number)));
    }
}

#[tokio::test]
async fn a_slow_handler_holds_up_neither_other_channels_nor_other_connections() {
    let stand = Stand::start();
    echo(&stand);
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    stand.channel("slow", move |message| {
        let gate = gate.clone();
        Box::pin(async move {
            if message.frame.data == Json::parse("\"wait\"").unwrap() {
                gate.notified().await;
            }
            Ok(Json::NULL)
        })
    });
    let (mut one, mut two) = (stand.connect().await, stand.connect().await);
    one.say(json!({ "channel": "slow", "ref": "slow", "data": "wait" })).await;
    assert_eq!(gist(&one.ask(json!({ "channel": "echo", "ref": 1 })).await).0, "reply");
    assert_eq!(gist(&two.ask(json!({ "channel": "slow", "ref": 1 })).await).0, "reply");
    go.notify_one();
    assert_eq!(gist(&one.hear().await).1, &json!("slow"));
}

#[tokio::test]
async fn a_mailbox_takes_its_number_of_messages_and_the_next_is_answered_busy() {
    let stand = Stand::with(Limits { mailbox_messages: 3, ..Limits::default() });
    let go = Arc::new(Semaphore::new(0));
    let gate = go.clone();
    stand.channel("slow", move |_| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(Json::NULL)
        })
    });
    let mut client = stand.connect().await;
    // One is with its handler, three wait, the fifth finds no room.
    for number in 1..=5 {
        client.say(json!({ "channel": "slow", "ref": number })).await;
    }
    assert_eq!(gist(&client.hear().await), ("error", &json!(5), &json!("busy")));
    client.expect_silence().await;
    go.add_permits(1);
    assert_eq!(gist(&client.hear().await).1, &json!(1));
    client.say(json!({ "channel": "slow", "ref": 6 })).await;
    go.add_permits(4);
    for number in [2, 3, 4, 6] {
        assert_eq!(gist(&client.hear().await), ("reply", &json!(number), &Value::Null));
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_given_up_and_the_next_message_is_handled() {
    let stand = Stand::with(Limits { call_time: Duration::from_millis(50), ..Limits::default() });
    let (dropped, mut drops) = mpsc::unbounded_channel();
    stand.channel("stuck", move |message| {
        let guard = OnDrop(dropped.clone());
        Box::pin(async move {
            let _guard = guard;
            match message.frame.data == Json::NULL {
                true => std::future::pending().await,
                false => Ok(Json::NULL),
            }
        })
    });
    let mut client = stand.connect().await;
    client.say(json!({ "channel": "stuck", "ref": 1 })).await;
    client.say(json!({ "channel": "stuck", "ref": 2 })).await;
    client.say(json!({ "channel": "stuck", "ref": 3, "data": 1 })).await;
    assert_eq!(gist(&client.hear().await), ("error", &json!(1), &json!("timeout")));
    within(drops.recv()).await;
    assert_eq!(gist(&client.hear().await), ("error", &json!(2), &json!("timeout")));
    assert_eq!(gist(&client.hear().await), ("reply", &json!(3), &Value::Null));
}

/// Says when it is dropped.
struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_handlers_and_each_channel_that_it_used_hears_of_it() {
    let stand = Stand::start();
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let mut left_stuck = stand.channel("stuck", move |_| {
        let guard = OnDrop(dropped.clone());
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    });
    let mut left_echo = echo(&stand);
    let mut left_unused = stand.channel("unused", |_| answer(&Value::Null));
    let mut client = stand.connect().await;
    client.say(json!({ "channel": "stuck" })).await;
    client.ask(json!({ "channel": "echo", "ref": 1 })).await;
    let id = client.id.clone();
    drop(client);
    within(drops.recv()).await;
    assert_eq!(within(left_stuck.recv()).await.as_ref(), Some(&id));
    assert_eq!(within(left_echo.recv()).await.as_ref(), Some(&id));
    stand.until_connections(0).await;
    assert!(left_unused.try_recv().is_err());
}

#[tokio::test]
async fn messages_that_wait_for_a_plugin_that_is_withdrawn_are_answered_not_found() {
    let stand = Stand::start();
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    stand.channel("gone", move |_| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.notified().await;
            Ok(Json::NULL)
        })
    });
    let mut client = stand.connect().await;
    for number in 1..=2 {
        client.say(json!({ "channel": "gone", "ref": number })).await;
    }
    client.expect_silence().await;
    stand.parts.registry.withdraw("gone");
    assert_eq!(client.hear().await["event"], "registry_changed");
    go.notify_one();
    assert_eq!(gist(&client.hear().await), ("reply", &json!(1), &Value::Null));
    assert_eq!(gist(&client.hear().await), ("error", &json!(2), &json!("not_found")));
    stand.channel("gone", |_| answer(&json!("new")));
    assert_eq!(client.hear().await["event"], "registry_changed");
    let reply = client.ask(json!({ "channel": "gone", "ref": 3 })).await;
    assert_eq!(gist(&reply), ("reply", &json!(3), &json!("new")));
}

#[tokio::test]
async fn every_client_is_told_that_the_plugins_have_changed() {
    let stand = Stand::start();
    let (mut one, mut two) = (stand.connect().await, stand.connect().await);
    echo(&stand);
    let generation = stand.parts.registry.snapshot().generation();
    let told = json!({ "channel": "system", "event": "registry_changed", "data": { "generation": generation } });
    assert_eq!(one.hear().await, told);
    assert_eq!(two.hear().await, told);
}

#[tokio::test]
async fn without_the_scope_call_the_channels_are_denied_and_a_ping_is_answered() {
    let stand = Stand::of(Limits::default(), Scopes::of(&[Scope::Approve]));
    echo(&stand);
    let mut client = stand.connect().await;
    for channel in ["echo", "tools"] {
        let error = client.ask(json!({ "channel": channel, "event": "call", "ref": 1 })).await;
        assert_eq!(gist(&error), ("error", &json!(1), &json!("denied")));
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn a_handler_subscribes_its_connection_and_publishes_to_all_in_order() {
    let stand = Stand::start();
    let hub = stand.parts.hub.clone();
    stand.channel("chat", move |message| {
        let outcome = match &*message.frame.event {
            "join" => hub.subscribe(&message.connection, "chat/room").map(|()| Json::NULL),
            _ => Ok(Json::of(&hub.publish("chat", "chat/room", &message.frame.data))),
        };
        Box::pin(async move { outcome })
    });
    let (mut one, mut two, mut other) = (stand.connect().await, stand.connect().await, stand.connect().await);
    for client in [&mut one, &mut two] {
        client.ask(json!({ "channel": "chat", "event": "join", "ref": 1 })).await;
    }
    for number in 0..50 {
        one.say(json!({ "channel": "chat", "event": "say", "data": number })).await;
    }
    for number in 0..50 {
        let message = json!({ "channel": "chat", "event": "message", "topic": "chat/room", "data": number });
        assert_eq!(one.hear().await, message);
        assert_eq!(two.hear().await, message);
    }
    other.expect_silence().await;
}

#[tokio::test]
async fn what_a_handler_sends_before_it_closes_arrives_before_the_close() {
    use plugbay::base::frame::ServerFrame;
    let stand = Stand::start();
    stand.channel("bye", |message| {
        let frame = ServerFrame::whole(Json::parse(r#"{"channel":"bye","event":"last"}"#).unwrap());
        message.connection.send(frame).unwrap();
        message.connection.close(4000, "as you wish");
        answer(&Value::Null)
    });
    let mut client = stand.connect().await;
    let last = client.ask(json!({ "channel": "bye", "ref": 1 })).await;
    assert_eq!(last["event"], "last");
    assert_eq!(client.closed().await, (4000, "as you wish".to_owned()));
}

#[tokio::test]
async fn a_stop_closes_every_socket_with_1001_and_waits_for_their_tasks() {
    let stand = Stand::start();
    stand.channel("stuck", |_| Box::pin(std::future::pending()));
    let (mut one, mut two) = (stand.connect().await, stand.connect().await);
    one.say(json!({ "channel": "stuck", "ref": 1 })).await;
    one.expect_silence().await;
    stand.parts.shutdown.stop();
    assert_eq!(one.closed().await.0, 1001);
    assert_eq!(two.closed().await.0, 1001);
    drop((one, two));
    stand.parts.toolbox.audit().close(Duration::from_secs(20)).await;
    assert_eq!(stand.parts.shutdown.finished(Duration::from_secs(20)).await.len(), 0);
}

#[tokio::test]
async fn the_sockets_of_a_revoked_token_are_closed_with_1008() {
    let stand = Stand::start();
    let mut client = stand.connect().await;
    stand.parts.auth.revoke("tester").unwrap();
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test]
async fn who_comes_after_a_change_is_not_told_of_it() {
    let stand = Stand::start();
    echo(&stand);
    // The task that tells has not run since: the runtime has this one thread.
    let mut late = stand.connect().await;
    late.expect_silence().await;
}

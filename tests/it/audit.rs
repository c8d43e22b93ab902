//! The record of every call: that it is there, that it is true, and what becomes of it when the disk fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plugbay::base::error::Kind;
use plugbay::base::json::Json;
use plugbay::base::settings::{Keeping, Limits, Mode, Settings};
use plugbay::base::shutdown::Shutdown;
use plugbay::kernel::audit::Audit;
use plugbay::kernel::auth::{Scope, Scopes};
use plugbay::kernel::contribution::{Schema, Tool};
use plugbay::kernel::database::{Database, Place};
use plugbay::kernel::entry::Proof;
use plugbay::kernel::fingerprint::Fingerprint;
use plugbay::kernel::journal::{Journal, Order, Wish};
use plugbay::kernel::record::{Record, Text};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::stand::{Stand, answer, failure, tool, within};

/// A stand whose gate lets side effects through, and whose tester is an administrator.
pub fn stand(limits: Limits) -> Stand {
    let scopes = Scopes::of(&[Scope::Call, Scope::Admin]);
    Stand::set(scopes, |settings| {
        settings.limits = limits;
        settings.mode = Mode::Autonomous;
    })
}

pub fn offer(stand: &Stand, tools: Vec<Tool>) {
    stand.plugin("kit", |draft| {
        for tool in tools {
            draft.add_tool(tool).unwrap();
        }
    });
}

pub fn write() -> Tool {
    Tool { side_effect: true, ..tool("kit.write", |_| answer(&json!("written"))) }
}

fn echo() -> Tool {
    tool("kit.echo", |call| Box::pin(async move { Ok(call.arguments.text().clone()) }))
}

/// What another process finds in the file now.
pub async fn on_disk(home: &Path) -> Vec<Record> {
    let journal = Journal::of(Database::open(&Place::File(home.join("plugbay.db"))).await.unwrap());
    let records = journal.read(&Wish { limit: 100_000, order: Order::OldestFirst, ..Wish::default() }).await.unwrap();
    journal.close().await;
    records
}

/// Another process's own connection to the file.
pub async fn raw(home: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(home.join("plugbay.db")).connect().await.unwrap()
}

pub async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

/// A log without a host around it.
pub struct Log {
    pub audit: Audit,
    pub home: TempDir,
    shutdown: Shutdown,
}

impl Log {
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change)
    }

    pub fn at(home: TempDir, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::defaults(home.path().to_owned());
        change(&mut settings);
        let audit = Audit::new(&settings, Place::of(&settings, home.path()).unwrap()).unwrap();
        let shutdown = Shutdown::new();
        audit.start(&shutdown);
        Self { audit, home, shutdown }
    }

    pub async fn call(&self, tool: &str, proof: Proof) {
        let entry = self.audit.enter("http", "tester".into(), Text::of(tool)).await.unwrap();
        entry.close(proof).await.unwrap();
    }

    pub async fn all(&self) -> Vec<Record> {
        let wish = Wish { limit: 100_000, order: Order::OldestFirst, ..Wish::default() };
        self.audit.read(&wish).await.unwrap()
    }
}

#[tokio::test]
async fn every_call_is_one_record_that_says_how_it_ended() {
    let stand = stand(Limits { result_bytes: 100, ..Limits::default() });
    let slow = Tool { timeout: Duration::from_millis(20), ..tool("kit.slow", |_| Box::pin(std::future::pending())) };
    let large = tool("kit.large", |_| answer(&json!("x".repeat(200))));
    let failing = tool("kit.failing", |_| failure(Kind::Plugin, "ValueError: no"));
    offer(&stand, vec![echo(), write(), slow, large, failing]);
    let calls = [
        ("kit.echo", json!({ "text": "hi" }), "ok", None),
        ("kit.echo", json!({ "text": 5 }), "refused", Some("invalid")),
        ("kit.nothing", json!({}), "refused", Some("not_found")),
        ("kit.write", json!({}), "ok", None),
        ("kit.slow", json!({}), "failed", Some("timeout")),
        ("kit.large", json!({}), "failed", Some("too_large")),
        ("kit.failing", json!({}), "failed", Some("plugin")),
    ];
    for (name, arguments, ..) in &calls {
        stand.post(&format!("/api/host/tools/{name}"), &arguments.to_string()).await;
    }
    let (status, page) = stand.get("/api/host/audit?after=0").await;
    assert_eq!(status, 200, "{page}");
    let records = page["records"].as_array().unwrap();
    assert_eq!(records.len(), calls.len());
    for (record, (name, arguments, outcome, code)) in records.iter().zip(&calls) {
        assert_eq!(record["tool"], *name, "{record}");
        assert_eq!((&record["outcome"], &record["code"]), (&json!(outcome), &json!(code)), "{record}");
        assert_eq!((&record["door"], &record["principal"]), (&json!("http"), &json!("tester")));
        assert_eq!(record["digest"].as_str().unwrap().len(), 64);
        let known = *name != "kit.nothing";
        assert_eq!(record["arguments"], if known { arguments.clone() } else { Value::Null });
        assert_eq!(record["plugin"], if known { json!("kit") } else { Value::Null });
        assert_eq!(record["version"], if known { json!("1") } else { Value::Null });
        assert_eq!(record["side_effect"], if known { json!(*name == "kit.write") } else { Value::Null });
    }
    let decided: Vec<_> = records.iter().map(|record| record["decision"].as_str().unwrap_or("none")).collect();
    assert_eq!(decided, ["allowed", "none", "none", "allowed", "allowed", "allowed", "allowed"]);
    assert_eq!((&records[0]["reason"], &records[3]["reason"]), (&json!("no_side_effect"), &json!("autonomous")));
    let slow = &records[4];
    assert!(slow["duration_us"].as_i64().unwrap() >= 20_000, "{slow}");
    let mut names: Vec<_> = records.iter().map(|record| record["call"].to_string()).collect();
    names.dedup();
    assert_eq!(names.len(), calls.len());
}

#[tokio::test]
async fn the_record_of_a_side_effect_is_on_the_disk_before_its_answer() {
    let stand = stand(Limits::default());
    offer(&stand, vec![write()]);
    for number in 1..=10 {
        assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
        assert_eq!(on_disk(stand.home()).await.len(), number);
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_recorded_as_that() {
    let stand = stand(Limits::default());
    let began = Arc::new(Notify::new());
    let begins = began.clone();
    let stuck = tool("kit.stuck", move |_| {
        began.notify_one();
        Box::pin(std::future::pending())
    });
    offer(&stand, vec![stuck]);
    let mut raw = stand.open().await;
    raw.say(&format!("{}Content-Length: 0\r\n\r\n", stand.head("POST", "/api/host/tools/kit.stuck"))).await;
    within(begins.notified()).await;
    drop(raw);
    let (_, page) = stand.get("/api/host/audit?after=0&wait_s=20").await;
    assert_eq!(page["records"][0]["outcome"], "cancelled");
    assert_eq!(page["records"][0]["code"], "cancelled");
}

#[tokio::test]
async fn pages_give_every_record_once_and_a_follower_hears_of_new_ones() {
    let stand = stand(Limits::default());
    offer(&stand, vec![echo(), write()]);
    for _ in 0..10 {
        stand.post("/api/host/tools/kit.echo", "{}").await;
        stand.post("/api/host/tools/kit.write", "{}").await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/host/audit?limit=7".to_owned();
    loop {
        let (_, page) = stand.get(&path).await;
        seen.extend(page["records"].as_array().unwrap().iter().map(|record| record["id"].as_i64().unwrap()));
        let Some(next) = page["next"].as_i64() else { break };
        path = format!("/api/host/audit?limit=7&cursor={next}");
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
    let (_, page) = stand.get("/api/host/audit?tool=kit.write&limit=100").await;
    assert_eq!(page["records"].as_array().unwrap().len(), 10);
    assert_eq!(page["next"], Value::Null);
    let (_, page) = stand.get("/api/host/audit?since=1h&limit=1000").await;
    assert_eq!(page["records"].as_array().unwrap().len(), 20);
    let (_, page) = stand.get("/api/host/audit?since=2100-01-01T00:00:00Z").await;
    assert_eq!(page["records"], json!([]));
    // A follower of one tool is not woken for good by another's.
    let follow = format!("/api/host/audit?after={}&tool=kit.write&wait_s=20", seen[0]);
    let follower = async { stand.get(&follow).await.1 };
    let calls = async {
        stand.post("/api/host/tools/kit.echo", "{}").await;
        stand.post("/api/host/tools/kit.write", r#"{"text":"news"}"#).await;
    };
    let (page, ()) = Box::pin(within(async { tokio::join!(follower, calls) })).await;
    assert_eq!(page["records"][0]["arguments"]["text"], "news");
    for wrong in ["limit=0", "limit=1001", "since=yesterday", "cursor=x", "colour=red"] {
        assert!((400..500).contains(&stand.get(&format!("/api/host/audit?{wrong}")).await.0), "{wrong}");
    }
}

#[tokio::test]
async fn without_the_scope_admin_nobody_reads_the_log() {
    let stand = Stand::start();
    assert_eq!(stand.get("/api/host/audit").await.0, 403);
}

#[tokio::test]
async fn thousands_of_calls_are_appended_in_batches_and_none_is_lost() {
    let log = Log::with(|_| {});
    for number in 0..5000 {
        log.call(if number % 2 == 0 { "even" } else { "odd" }, Proof::Later).await;
    }
    log.audit.flush().await;
    let records = log.all().await;
    assert_eq!(records.len(), 5000);
    assert!(records.windows(2).all(|pair| pair[0].id < pair[1].id));
    log.audit.close(Duration::from_secs(20)).await;
    assert_eq!(on_disk(log.home.path()).await.len(), 5000);
    assert_eq!(
        log.audit.enter("http", "tester".into(), "late".into()).await.err().map(|error| error.kind()),
        Some(Kind::Unavailable)
    );
}

#[tokio::test]
async fn a_full_log_makes_calls_busy_and_loses_none() {
    let log = Log::with(|settings| {
        settings.limits.audit_records = 3;
        settings.limits.audit_time = Duration::from_millis(50);
    });
    let mut entries = Vec::new();
    for _ in 0..3 {
        entries.push(log.audit.enter("http", "tester".into(), "kept".into()).await.unwrap());
    }
    assert_eq!(
        log.audit.enter("http", "tester".into(), "one more".into()).await.err().map(|error| error.kind()),
        Some(Kind::Busy)
    );
    drop(entries.pop());
    for entry in entries {
        entry.close(Proof::Later).await.unwrap();
    }
    within(log.audit.flush()).await;
    assert!(log.audit.enter("http", "tester".into(), "again".into()).await.is_ok());
    assert_eq!(log.all().await.len(), 4, "the dropped ones too");
}

#[tokio::test]
async fn a_database_that_another_process_holds_stops_side_effects_and_nothing_else() {
    let stand = stand(Limits { audit_time: Duration::from_millis(300), ..Limits::default() });
    offer(&stand, vec![echo(), write()]);
    assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
    let mut other = raw(stand.home()).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let (status, problem) = stand.post("/api/host/tools/kit.write", "{}").await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("has run"), "{problem}");
    assert_eq!(stand.post("/api/host/tools/kit.echo", "{}").await.0, 200);
    execute(&mut other, "COMMIT").await;
    within(stand.parts.toolbox.audit().flush()).await;
    assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
    assert_eq!(on_disk(stand.home()).await.len(), 4);
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_the_call_that_runs() {
    let stand = stand(Limits::default());
    let (begun, begins) = tokio::sync::watch::channel(false);
    let waits = tool("kit.wait", move |_| {
        begun.send_replace(true);
        Box::pin(std::future::pending())
    });
    offer(&stand, vec![waits]);
    let gone = stand.add("gone", &[Scope::Call]);
    let mut begins = begins;
    let ((status, problem), ()) =
        tokio::join!(within(stand.as_of(&gone, "POST /api/host/tools/kit.wait", json!({}))), async {
            within(begins.wait_for(|begun| *begun)).await.unwrap();
            stand.parts.auth.revoke("gone").unwrap();
        });
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{problem}");
    within(stand.parts.toolbox.audit().flush()).await;
    let records = on_disk(stand.home()).await;
    assert_eq!(records.iter().map(|record| &*record.outcome).collect::<Vec<_>>(), ["cancelled"]);
}

#[tokio::test]
async fn old_records_are_let_go_by_age_and_by_size() {
    let log = Log::with(|_| {});
    for _ in 0..2500 {
        log.call("old", Proof::Later).await;
    }
    log.audit.flush().await;
    let mut other = raw(log.home.path()).await;
    execute(&mut other, "UPDATE plugbay_audit SET time = time - 100000000000000").await;
    log.call("new", Proof::OnDisk).await;
    let journal = Journal::of(Database::open(&Place::File(log.home.path().join("plugbay.db"))).await.unwrap());
    let month_ago = time::OffsetDateTime::now_utc() - time::Duration::days(30);
    let mut rounds = 1;
    while journal.let_go(month_ago, 0).await.unwrap().more {
        rounds += 1;
    }
    assert_eq!(rounds, 3, "not all at once");
    assert_eq!(log.all().await.len(), 1);
    for _ in 0..100 {
        log.call("more", Proof::Later).await;
    }
    let records = log.all().await;
    let half: i64 = records[51..].iter().map(Record::bytes).sum();
    let all = journal.bytes().await.unwrap();
    let gone = journal.let_go(month_ago, all - half).await.unwrap();
    assert_eq!(gone.bytes, records[..51].iter().map(Record::bytes).sum::<i64>());
    let left = log.all().await;
    assert_eq!(left.first().map(|record| record.id), Some(records[51].id), "{} left", left.len());
    // What changed something stays while there is anything else.
    let oldest = "UPDATE plugbay_audit SET side_effect = 1, outcome = 'ok' WHERE id IN (SELECT id FROM plugbay_audit \
                  ORDER BY id LIMIT 10)";
    execute(&mut other, oldest).await;
    let gone = journal.let_go(month_ago, left[10..20].iter().map(Record::bytes).sum()).await.unwrap();
    assert_eq!(gone.bytes, left[10..20].iter().map(Record::bytes).sum::<i64>());
    let kept: Vec<i64> = log.all().await.iter().map(|record| record.id).collect();
    assert_eq!(kept[..11], left.iter().take(10).chain(&left[20..21]).map(|record| record.id).collect::<Vec<_>>());
    journal.let_go(month_ago, i64::MAX).await.unwrap();
    assert_eq!(log.all().await.len(), 10);
    journal.let_go(month_ago, i64::MAX).await.unwrap();
    assert!(log.all().await.is_empty());
    journal.close().await;
}

#[tokio::test]
async fn a_damaged_or_a_newer_database_is_an_error_with_a_cure() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("plugbay.db"), "this was never a database, but it is long enough").unwrap();
    let log = Log::at(home, |_| {});
    let error = log.audit.look().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("damaged") && error.message().contains("move it away"), "{error}");
    assert!(log.audit.ready().await.is_err(), "no side effect runs");

    let log = Log::with(|_| {});
    log.call("first", Proof::OnDisk).await;
    log.audit.close(Duration::from_secs(20)).await;
    execute(&mut raw(log.home.path()).await, "UPDATE plugbay_version SET version = 99").await;
    let log = Log::at(log.home, |_| {});
    let error = log.audit.look().await.unwrap_err();
    assert!(error.message().contains("newer Plugbay (version 99"), "{error}");
    let mut other = raw(log.home.path()).await;
    execute(&mut other, "UPDATE plugbay_version SET version = 2").await;
    log.audit.look().await.unwrap();
    log.call("second", Proof::OnDisk).await;
    assert_eq!(log.all().await.len(), 2, "it works again without a new start");
    log.shutdown.stop();
}

#[tokio::test]
async fn what_a_schema_marks_as_secret_is_not_in_the_record() {
    let stand = stand(Limits::default());
    let schema = json!({
        "type": "object",
        "properties": { "user": {}, "password": { "type": "string", "format": "password" }, "pin": { "writeOnly": true } },
    });
    let login = Tool { parameters: Schema::compile("parameters", &schema).unwrap(), ..echo() };
    offer(&stand, vec![login]);
    let said = [
        r#"{"user":"ann","password":"hunter2","pin":1234}"#,
        r#"{"user":"ann","password":5555,"pin":1234}"#,
        r#"{"password":"hunter2"}"#,
    ];
    for (name, said) in ["echo", "echo", "unknown"].iter().zip(said) {
        stand.post(&format!("/api/host/tools/kit.{name}"), said).await;
    }
    let (_, page) = stand.get("/api/host/audit?after=0").await;
    let kept: Vec<_> = page["records"].as_array().unwrap().iter().map(|record| record["arguments"].clone()).collect();
    let hidden = json!({ "user": "ann", "password": "[hidden]", "pin": "[hidden]" });
    assert_eq!(kept, [hidden.clone(), hidden, Value::Null]);
    for (record, said) in page["records"].as_array().unwrap().iter().zip(said) {
        let guess = Fingerprint::of(&serde_json::from_str(said).unwrap()).to_string();
        assert_eq!(record["digest"].as_str().unwrap().len(), guess.len());
        assert_ne!(record["digest"], json!(guess), "nobody finds a secret by trying: {said}");
    }
    let whole = std::fs::read(stand.home().join("plugbay.db-wal")).unwrap_or_default();
    assert!(!whole.windows(7).any(|bytes| bytes == b"hunter2"), "not on the disk either");
}

#[tokio::test]
async fn arguments_are_kept_only_where_the_operator_wants_them() {
    let stand = Stand::set(Scopes::of(&[Scope::Call, Scope::Admin]), |settings| {
        settings.audit = Keeping { arguments: false, ..Keeping::default() };
    });
    offer(&stand, vec![echo()]);
    stand.post("/api/host/tools/kit.echo", r#"{"text":"one", "n": 1.0}"#).await;
    stand.post("/api/host/tools/kit.echo", r#"{"n":1,"text":"\u006fne"}"#).await;
    let (_, page) = stand.get("/api/host/audit").await;
    let records = page["records"].as_array().unwrap();
    assert!(records.iter().all(|record| record["arguments"].is_null()));
    assert_eq!(records[0]["digest"], records[1]["digest"], "the digest is of what they mean, not of how it is written");
}

#[tokio::test]
async fn a_caller_and_a_tool_have_at_most_so_many_calls_at_a_time() {
    let stand = stand(Limits { caller_calls: 3, ..Limits::default() });
    let (began, go) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(Notify::new()));
    let (begins, goes) = (began.clone(), go.clone());
    let gated = tool("kit.gated", move |_| {
        began.add_permits(1);
        let go = goes.clone();
        Box::pin(async move {
            go.notified().await;
            Ok(Json::NULL)
        })
    });
    let single = Tool { concurrency: std::num::NonZeroUsize::new(1), ..gated.clone() };
    let single = Tool { name: plugbay::base::name::ToolName::parse("kit.single").unwrap(), ..single };
    offer(&stand, vec![echo(), gated, single]);
    let ask = async |name: &str| stand.post(&format!("/api/host/tools/{name}"), "{}").await;
    let all = async { tokio::join!(ask("kit.single"), ask("kit.gated"), ask("kit.gated")) };
    let checks = async {
        drop(within(begins.acquire_many(3)).await);
        let (status, problem) = ask("kit.echo").await;
        assert_eq!((status, &problem["code"]), (503, &json!("busy")));
        assert!(problem["detail"].as_str().unwrap().contains("tester"), "{problem}");
        go.notify_waiters();
    };
    Box::pin(within(async { tokio::join!(all, checks) })).await;
    assert_eq!(ask("kit.echo").await.0, 200);
    let two = async { tokio::join!(ask("kit.single"), ask("kit.single")) };
    let end = async {
        drop(within(begins.acquire_many(4)).await);
        while stand.parts.toolbox.tally().1 < 2 {
            tokio::task::yield_now().await;
        }
        go.notify_waiters();
    };
    let ((one, other), ()) = Box::pin(within(async { tokio::join!(two, end) })).await;
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    let busy = if one.0 == 503 { one.1 } else { other.1 };
    assert!(busy["detail"].as_str().unwrap().contains("all that it allows at a time"), "{busy}");
}

//! The record of calls where something goes wrong: a token that is taken back, a caller that is always refused, a clock
//! that was ahead, and a database that is held, damaged, or gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use plugbay::base::error::Kind;
use plugbay::base::settings::Limits;
use plugbay::kernel::audit::Audit;
use plugbay::kernel::auth::Scope;
use plugbay::kernel::contribution::Tool;
use plugbay::kernel::database::{Database, Place};
use plugbay::kernel::entry::Proof;
use plugbay::kernel::journal::{Journal, Wish};
use serde_json::{Value, json};
use sqlx::Row;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::audit::{Log, execute, offer, on_disk, raw, stand, write};
use crate::stand::{Stand, tool, within};

/// A tool with a side effect that never ends, and what says that it has begun.
fn stuck() -> (Tool, watch::Receiver<()>) {
    let (begun, begins) = watch::channel(());
    let stuck = tool("kit.stuck", move |_| {
        begun.send_replace(());
        Box::pin(std::future::pending())
    });
    (Tool { side_effect: true, ..stuck }, begins)
}

/// Calls the tool that never ends, takes the caller's token back once it runs, and gives the answer.
async fn call_and_take_back(stand: &Stand, name: &str, begins: &mut watch::Receiver<()>) -> (u16, Value) {
    begins.mark_unchanged();
    let token = stand.add(name, &[Scope::Call]);
    let call = within(stand.as_of(&token, "POST /api/host/tools/kit.stuck", json!({})));
    let take_back = async {
        within(begins.changed()).await.unwrap();
        stand.parts.auth.revoke(name).unwrap();
    };
    tokio::join!(call, take_back).0
}

#[tokio::test]
async fn a_side_effect_whose_token_is_taken_back_is_answered_when_its_record_is_on_the_disk() {
    let stand = stand(Limits { audit_time: Duration::from_millis(300), ..Limits::default() });
    let (stuck, mut begins) = stuck();
    offer(&stand, vec![stuck]);
    let (status, problem) = call_and_take_back(&stand, "one", &mut begins).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("had begun to run"), "{problem}");
    let records = on_disk(stand.home()).await;
    let told: Vec<_> = records.iter().map(|record| (&*record.outcome, record.code.as_deref())).collect();
    assert_eq!(told, [("cancelled", Some("cancelled"))]);
    let mut other = raw(stand.home()).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let (status, problem) = call_and_take_back(&stand, "other", &mut begins).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("has run"), "{problem}");
    execute(&mut other, "COMMIT").await;
}

#[tokio::test]
async fn who_is_always_refused_cannot_push_out_what_was_changed() {
    let log = Log::with(|_| {});
    let told = [
        ("ran", "ok", Some("allowed")),
        ("refused", "refused", Some("denied")),
        ("broken off", "cancelled", Some("allowed")),
        ("let through and left", "cancelled", Some("asked_allowed")),
        ("left", "cancelled", Some("asked_denied")),
        ("not decided", "cancelled", None),
        ("invalid", "refused", None),
    ];
    for (tool, outcome, decision) in told {
        let mut entry = log.audit.enter("http", "tester".into(), tool.into()).await.unwrap();
        entry.note(|_, record| {
            record.side_effect = Some(true);
            record.outcome = outcome.into();
            record.decision = decision.map(Into::into);
        });
        entry.close(Proof::OnDisk).await.unwrap();
    }
    let journal = Journal::of(Database::open(&Place::File(log.home.path().join("plugbay.db"))).await.unwrap());
    let month_ago = OffsetDateTime::now_utc() - time::Duration::days(30);
    journal.let_go(month_ago, i64::MAX).await.unwrap();
    let left = log.all().await;
    let left: Vec<_> = left.iter().map(|record| &*record.tool).collect();
    assert_eq!(left, ["ran", "broken off", "let through and left"]);
    journal.close().await;
}

#[tokio::test]
async fn a_call_that_is_too_large_or_has_no_readable_name_is_recorded() {
    let stand = stand(Limits { body_bytes: 1000, ..Limits::default() });
    let head = stand.head("POST", "/api/host/tools/kit.large");
    let (head, _) = stand.ask(&format!("{head}Connection: close\r\nContent-Length: 1001\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(stand.post("/api/host/tools/%ff", "{}").await.0, 404);
    let (_, page) = stand.get("/api/host/audit?after=0").await;
    let records = page["records"].as_array().unwrap().iter();
    let told: Vec<_> =
        records.map(|record| json!([record["tool"], record["principal"], record["outcome"], record["code"]])).collect();
    assert_eq!(
        told,
        [json!(["kit.large", "tester", "refused", "too_large"]), json!(["\u{fffd}", "tester", "refused", "not_found"])]
    );
}

/// A log over a database that another process holds, and that process's connection.
async fn held(audit_time: Duration) -> (Log, sqlx::sqlite::SqliteConnection) {
    let log = Log::with(|_| {});
    log.call("first", Proof::OnDisk).await;
    log.audit.close(Duration::from_secs(20)).await;
    let mut other = raw(log.home.path()).await;
    for statement in ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "CREATE TABLE other (x)"] {
        execute(&mut other, statement).await;
    }
    (Log::at(log.home, |settings| settings.limits.audit_time = audit_time), other)
}

#[tokio::test]
async fn while_it_is_known_that_the_database_is_held_nobody_waits_for_it() {
    let (log, mut other) = held(Duration::from_secs(5)).await;
    let error = within(log.audit.look()).await.unwrap_err();
    assert!(error.message().contains("another process holds"), "{error}");
    for _ in 0..8 {
        let error = log.audit.ready().now_or_never().expect("it says so at once").unwrap_err();
        assert!(error.message().contains("another process holds"), "{error}");
        assert_eq!(log.audit.read(&Wish::default()).now_or_never().unwrap().unwrap_err().kind(), Kind::Unavailable);
    }
    execute(&mut other, "COMMIT").await;
    drop(other);
    within(log.audit.flush()).await;
    log.audit.ready().await.unwrap();
    assert_eq!(log.all().await.len(), 1);
}

#[tokio::test]
async fn calls_do_not_wait_for_one_another_while_the_database_cannot_be_opened() {
    let (log, other) = held(Duration::from_millis(100)).await;
    // As many as would wait for each other longer than a test waits.
    let errors = within(join_all((0..8).map(|_| log.audit.ready()))).await;
    for error in errors {
        let error = error.unwrap_err();
        assert!(error.message().contains("another process holds"), "{error}");
    }
    drop(other);
}

fn files(home: &Path) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(home).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("plugbay.db")).collect()
}

fn audit(stand: &Stand) -> &Audit {
    stand.parts.toolbox.audit()
}

#[tokio::test]
async fn a_database_that_is_damaged_while_the_host_runs_is_made_anew_when_it_was_moved_away() {
    let stand = stand(Limits { audit_time: Duration::from_secs(1), ..Limits::default() });
    offer(&stand, vec![write()]);
    assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
    let path = stand.home().join("plugbay.db");
    execute(&mut raw(stand.home()).await, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let damaged = vec![0xaa; fs::metadata(&path).unwrap().len() as usize];
    fs::write(&path, damaged).unwrap();
    let (status, problem) = stand.post("/api/host/tools/kit.write", "{}").await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("is damaged"), "{problem}");
    for file in files(stand.home()) {
        let away = stand.home().join(format!("away-{}", file.file_name().unwrap().to_str().unwrap()));
        fs::rename(file, away).unwrap();
    }
    within(audit(&stand).flush()).await;
    assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
    let outcomes: Vec<_> = on_disk(stand.home()).await.into_iter().map(|record| record.outcome.to_string()).collect();
    assert_eq!(outcomes, ["ok", "ok"], "that of the call which had run waited");
}

#[tokio::test]
async fn records_go_into_no_file_that_was_taken_away() {
    let stand = stand(Limits::default());
    offer(&stand, vec![write()]);
    assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200);
    for number in 1..=3 {
        files(stand.home()).into_iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(stand.post("/api/host/tools/kit.write", "{}").await.0, 200, "{number}");
        assert_eq!(on_disk(stand.home()).await.len(), 1, "{number}");
    }
    files(stand.home()).into_iter().for_each(|file| fs::remove_file(file).unwrap());
    let (status, page) = stand.get("/api/host/audit").await;
    assert_eq!((status, &page["records"]), (200, &json!([])), "nor is one read");
}

#[tokio::test]
async fn what_decides_what_is_let_go_is_read_without_the_records() {
    let log = Log::with(|_| {});
    log.call("first", Proof::OnDisk).await;
    log.audit.close(Duration::from_secs(20)).await;
    let mut other = raw(log.home.path()).await;
    // As an earlier version has left it.
    execute(&mut other, "DROP INDEX plugbay_audit_age").await;
    execute(&mut other, "UPDATE plugbay_version SET version = 1").await;
    let log = Log::at(log.home, |_| {});
    log.call("second", Proof::OnDisk).await;
    assert_eq!(log.all().await.len(), 2);
    // An EXPLAIN does not look whether its connection still knows the tables as they are.
    let mut other = raw(log.home.path()).await;
    for statement in [
        "EXPLAIN QUERY PLAN SELECT sum(bytes) FROM plugbay_audit",
        "EXPLAIN QUERY PLAN SELECT id, time, bytes FROM plugbay_audit WHERE time < 9 AND (coalesce(side_effect, 0) = 0 \
         OR outcome = 'refused' OR decision = 'denied') ORDER BY time LIMIT 9",
    ] {
        let plan = sqlx::query(statement).fetch_all(&mut other).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps.len() == 1 && steps[0].contains("COVERING INDEX plugbay_audit_age"), "{steps:?}");
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_does_not_make_old_records_new() {
    let log = Log::with(|_| {});
    for tool in ["old", "old", "new"] {
        log.call(tool, Proof::OnDisk).await;
    }
    let mut other = raw(log.home.path()).await;
    execute(&mut other, "UPDATE plugbay_audit SET id = id + 31536000000000").await;
    execute(&mut other, "UPDATE plugbay_audit SET time = time - 86400000000 WHERE tool = 'old'").await;
    let hour_ago = OffsetDateTime::now_utc() - time::Duration::hours(1);
    let wish = Wish { since: Some(hour_ago), limit: 10, ..Wish::default() };
    let tools = async || log.audit.read(&wish).await.unwrap().iter().map(|it| it.tool.to_string()).collect::<Vec<_>>();
    assert_eq!(tools().await, ["new"]);
    log.call("newer", Proof::OnDisk).await;
    assert_eq!(tools().await, ["newer", "new"], "in the order in which they were appended");
    let journal = Journal::of(Database::open(&Place::File(log.home.path().join("plugbay.db"))).await.unwrap());
    journal.let_go(hour_ago, 0).await.unwrap();
    journal.close().await;
    let left: Vec<_> = log.all().await.iter().map(|record| record.tool.to_string()).collect();
    assert_eq!(left, ["new", "newer"]);
}

//! `/api/host/audit`: who called what, what was decided and how it ended, by pages.
//!
//! That only the scope `admin` comes here is the gate's work.

use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, timeout_at};

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{json, kept};
use crate::edge::failure::Failure;
use crate::edge::parts::Parts;
use crate::kernel::audit::Audit;
use crate::kernel::journal::{Order, Wish};
use crate::kernel::record::Record;
use crate::kernel::replay::Replay;

/// Records of a page unless more or fewer are asked for, and the most.
const LIMITS: (u32, u32) = (100, 1000);
/// Changes that are told, those of the most calls.
const CHANGES: usize = 200;
/// How often records of other hosts are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// The longest that an answer waits for news.
const WAIT_S: f64 = 30.0;

/// The routes of the log of calls.
pub fn router() -> Router<Parts> {
    Router::new().route("/api/host/audit", get(list)).route("/api/host/audit/simulate", get(simulate))
}

/// Which records are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Only those of this tool.
    tool: Option<String>,
    /// Only those since then: a time (RFC 3339), or how long ago, as `30m`, `24h` or `7d`.
    since: Option<String>,
    /// The `next` of the page before.
    cursor: Option<i64>,
    /// Only those after this one, the earliest first.
    after: Option<i64>,
    /// With `after`: how long the answer may wait for the first, in seconds.
    wait_s: Option<f64>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Page<'a> {
    records: &'a [Record],
    /// Where the next page begins; with `after`, what to ask after next.
    next: Option<i64>,
}

/// `GET /api/host/audit`: `{"records": […], "next"}`, the latest first; `next` is `null` on the last page.
async fn list(State(parts): State<Parts>, asked: Result<Query<Asked>, QueryRejection>) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|error| Error::new(Kind::Malformed, error.body_text()))?;
    let limit = asked.limit.unwrap_or(LIMITS.0);
    if !(1..=LIMITS.1).contains(&limit) {
        let message = format!("limit is {limit}: ask for 1 to {} records at a time", LIMITS.1);
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let since = asked.since.as_deref().map(|text| moment(text, OffsetDateTime::now_utc())).transpose()?;
    let audit = parts.toolbox.audit();
    let Some(after) = asked.after else {
        let order = Order::NewestFirst;
        // One more than wanted tells whether there is another page.
        let wish = Wish { tool: asked.tool, since, before: asked.cursor, limit: limit + 1, order, after: None };
        let mut records = audit.read(&wish).await?;
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let next = records.last().filter(|_| more).map(|record| record.id);
        return Ok(json(StatusCode::OK, &Page { records: &records, next }));
    };
    let wish = Wish { tool: asked.tool, since, after: Some(after), before: None, limit, order: Order::OldestFirst };
    let wait = asked.wait_s.filter(|seconds| *seconds > 0.0).map_or(0.0, |seconds| seconds.min(WAIT_S));
    let (records, seen) = news(audit, &wish, Instant::now() + Duration::from_secs_f64(wait)).await?;
    let next = Some(records.last().map_or(seen, |record| record.id));
    Ok(json(StatusCode::OK, &Page { records: &records, next }))
}

/// The records of a wish, waiting for the first until `deadline`; and beyond which id there is nothing else.
async fn news(audit: &Audit, wish: &Wish, deadline: Instant) -> Result<(Vec<Record>, i64)> {
    let mut seen = wish.after.unwrap_or(0);
    loop {
        let records = audit.read(wish).await?;
        let now = Instant::now();
        if !records.is_empty() || now >= deadline {
            return Ok((records, seen));
        }
        // What is new may be of another tool; and of what another host appends nobody tells.
        let look = if audit.is_shared() { deadline.min(now + LOOK) } else { deadline };
        match timeout_at(look, audit.news(seen)).await {
            Ok(Some(latest)) => seen = latest,
            Ok(None) => return Ok((records, seen)),
            Err(_) => {}
        }
    }
}

/// Which calls are judged again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    /// Since when, as in a list.
    since: String,
}

/// `GET /api/host/audit/simulate`: what the rules of now say of the calls since then: `{"calls", "verdicts", "unjudged",
/// "changes"}`.
async fn simulate(State(parts): State<Parts>, asked: Result<Query<Span>, QueryRejection>) -> Result<Response, Failure> {
    let Query(Span { since }) = asked.map_err(|error| Error::new(Kind::Malformed, error.body_text()))?;
    let since = Some(moment(&since, OffsetDateTime::now_utc())?);
    let (audit, gate) = (parts.toolbox.audit(), parts.toolbox.gate());
    let snapshot = parts.registry.snapshot();
    let mut replay = Replay::default();
    let mut before = None;
    loop {
        let wish = Wish { since, before, limit: LIMITS.1, ..Wish::default() };
        let records = audit.read(&wish).await?;
        let last = records.last().filter(|_| records.len() == LIMITS.1 as usize).map(|last| last.id);
        let (gate, snapshot) = (gate.clone(), snapshot.clone());
        // Paths are looked up on the disk.
        replay = kept(move || {
            records.iter().for_each(|record| replay.add(&gate, &snapshot, record));
            Ok(replay)
        })
        .await?;
        if last.is_none() {
            break;
        }
        before = last;
    }
    let mut answer = serde_json::to_value(&replay)
        .map_err(|error| Error::new(Kind::Internal, "what was judged cannot be written").with_source(error))?;
    let changes = replay.changes(CHANGES).into_iter().map(|(change, calls)| {
        let mut row = serde_json::to_value(change).unwrap_or_default();
        row["calls"] = calls.into();
        row
    });
    answer["changes"] = changes.collect();
    Ok(json(StatusCode::OK, &answer))
}

/// A time, or how long before `now` it was.
///
/// # Errors
/// `Invalid`: it is neither.
fn moment(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
    let wrong = || {
        let message =
            format!("{text:?} is no time: write it like 2026-01-31T08:00:00Z, or how long ago, like 24h or 30d");
        Error::new(Kind::Invalid, message)
    };
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let ago = number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds));
    ago.and_then(|ago| now.checked_sub(ago.try_into().ok()?)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_whole_or_as_how_long_ago() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        let seconds = |text: &str| moment(text, now).map(OffsetDateTime::unix_timestamp).ok();
        assert_eq!(seconds("30d"), Some(1_000_000_000 - 30 * 86_400));
        assert_eq!(seconds("5m"), Some(1_000_000_000 - 300));
        assert_eq!(seconds("2001-09-09T01:46:40Z"), Some(1_000_000_000));
        for wrong in ["", "d", "x", "1w", "-1d", "1.5h", "30", "é", "4294967295d", "yesterday"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}

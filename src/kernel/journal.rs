//! The table of calls: how records are appended, read by pages and let go.
//!
//! An id is the time at which its record was appended, in microseconds since 1970, or one more than the last: ids grow,
//! and an age is a range of ids. Only one appends at a time, also when several hosts share a server.

use std::borrow::Cow;
use std::fmt::Write;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::base::error::Result;
use crate::kernel::database::{Database, Dialect, on};

/// Records of one statement. Each number of them is a statement that stays prepared, so there are not many.
const ROWS: usize = 16;
/// Records that are let go at a time, so that appending never waits long.
const LET_GO: i64 = 1000;
/// The longest that a database may take for one piece of work.
const PATIENCE: Duration = Duration::from_secs(5);

/// The id of the latest record.
const LAST: &str = "SELECT coalesce(max(id), 0) FROM plugbay_audit";
/// Whether a record was appended with an id or a later one.
const APPENDED: &str = "SELECT count(*) FROM plugbay_audit WHERE id >= $1 AND call = $2";

const COLUMNS: [&str; 23] = [
    "id",
    "call",
    "time",
    "door",
    "principal",
    "tool",
    "plugin",
    "version",
    "side_effect",
    "fingerprint",
    "prose",
    "specifier",
    "digest",
    "arguments",
    "decision",
    "reason",
    "rule",
    "approval",
    "answered_by",
    "duration_us",
    "outcome",
    "code",
    "bytes",
];

/// A word or a text of a record.
pub type Text = Cow<'static, str>;

/// A text that a record may have: PostgreSQL takes no NUL.
pub fn text(text: &str) -> Text {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.to_owned().into() }
}

/// One call, as it is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where it stands: greater than that of every earlier record; 0 until it is appended.
    pub id: i64,
    /// What names this call and no other.
    pub call: Text,
    /// When it was asked.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Which way it came in.
    pub door: Text,
    /// Who asked.
    pub principal: Text,
    /// Which tool was named.
    pub tool: Text,
    /// Who offers it; none when nobody does.
    pub plugin: Option<Text>,
    /// That plugin's version.
    pub version: Option<Text>,
    /// Whether the tool changes anything.
    pub side_effect: Option<bool>,
    /// The digest of what the tool promises.
    pub fingerprint: Option<Text>,
    /// The digest of what it says of itself.
    pub prose: Option<Text>,
    /// What the gate's rules were matched with.
    pub specifier: Option<Text>,
    /// The SHA-256 of the arguments as RFC 8785 writes them, in hexadecimal digits.
    pub digest: Text,
    /// The arguments, a JSON object without its secrets; none when they are not kept or too long.
    #[serde(serialize_with = "as_json")]
    pub arguments: Option<Text>,
    /// What was decided: `allowed`, `denied`, `asked_allowed`, `asked_denied`, `asked_lapsed` or `asked_pending`; none
    /// when the gate was not reached.
    pub decision: Option<Text>,
    /// Why, in a word.
    pub reason: Option<Text>,
    /// The rule that decided, with where it stands.
    pub rule: Option<Text>,
    /// The approval that was waited for.
    pub approval: Option<Text>,
    /// Who answered it.
    pub answered_by: Option<Text>,
    /// How long it took, in microseconds.
    pub duration_us: i64,
    /// How it ended: `ok`, `refused` (it never ran), `failed` or `cancelled`.
    pub outcome: Text,
    /// The code of its failure.
    pub code: Option<Text>,
}

impl Record {
    /// What is known of a call that is asked now.
    pub fn new(call: String, door: &'static str, principal: &str, tool: &str) -> Self {
        Self {
            id: 0,
            call: call.into(),
            time: OffsetDateTime::now_utc(),
            door: door.into(),
            principal: text(principal),
            tool: text(tool),
            plugin: None,
            version: None,
            side_effect: None,
            fingerprint: None,
            prose: None,
            specifier: None,
            digest: "".into(),
            arguments: None,
            decision: None,
            reason: None,
            rule: None,
            approval: None,
            answered_by: None,
            duration_us: 0,
            outcome: "refused".into(),
            code: None,
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> i64 {
        let must = [&self.call, &self.door, &self.principal, &self.tool, &self.digest, &self.outcome];
        let may = [
            &self.plugin,
            &self.version,
            &self.fingerprint,
            &self.prose,
            &self.specifier,
            &self.arguments,
            &self.decision,
            &self.reason,
            &self.rule,
            &self.approval,
            &self.answered_by,
            &self.code,
        ];
        let texts: usize = must.into_iter().chain(may.into_iter().flatten()).map(|text| text.len()).sum();
        // The numbers, the row's own head and its line in the index.
        texts as i64 + 64 + self.tool.len() as i64
    }
}

/// The text of a JSON value as that value.
fn as_json<S: serde::Serializer>(text: &Option<Text>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let raw = text.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only those of this tool.
    pub tool: Option<String>,
    /// Only those with a greater id.
    pub after: Option<i64>,
    /// Only those with a smaller id.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
    /// Which come first.
    pub order: Order,
}

/// Which records come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The latest.
    #[default]
    NewestFirst,
    /// The earliest.
    OldestFirst,
}

/// The table of calls. Cloning is cheap.
#[derive(Clone)]
pub struct Journal {
    database: Database,
    inserts: Arc<[OnceLock<Arc<str>>; ROWS]>,
}

impl Journal {
    /// The table of a database.
    pub fn of(database: Database) -> Self {
        Self { database, inserts: Arc::new([const { OnceLock::new() }; ROWS]) }
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Appends records, all or none, and gives them their ids. When this returns they are on the disk.
    ///
    /// # Errors
    /// `Unavailable`: the database failed. Whether it has the records is then not known; the same records may be given
    /// again, and are not appended twice.
    pub async fn append(&self, records: &mut [Record]) -> Result<()> {
        on!(self.database, |pool| {
            let mut connection = self.within(pool.acquire()).await?;
            let appended = async {
                sqlx::query::<Db>(<Db as Dialect>::BEGIN).execute(&mut *connection).await?;
                if let Some(lock) = <Db as Dialect>::LOCK {
                    sqlx::query::<Db>(lock).execute(&mut *connection).await?;
                }
                let again = records.first().filter(|first| first.id > 0).map(|first| (first.id, &*first.call));
                if let Some((id, call)) = again {
                    let query = sqlx::query_scalar::<Db, i64>(APPENDED).bind(id).bind(call);
                    if query.fetch_one(&mut *connection).await? > 0 {
                        return sqlx::query::<Db>("COMMIT").execute(&mut *connection).await.map(drop);
                    }
                }
                let last = sqlx::query_scalar::<Db, i64>(LAST).fetch_one(&mut *connection).await?;
                let first = microseconds(OffsetDateTime::now_utc()).max(last + 1);
                for (id, record) in (first..).zip(records.iter_mut()) {
                    record.id = id;
                }
                for rows in records.chunks(ROWS) {
                    let insert = sqlx::query::<Db>(AssertSqlSafe(self.insert::<Db>(rows.len())));
                    let insert = rows.iter().fold(insert, |insert, row| bound!(insert, row));
                    insert.execute(&mut *connection).await?;
                }
                sqlx::query::<Db>("COMMIT").execute(&mut *connection).await.map(drop)
            };
            let appended = self.within(appended).await;
            if appended.is_err() {
                // Not sqlx's own transactions: SQLite ends one by itself when the disk fails, and sqlx would go on as if
                // it were within it.
                let ended = timeout(PATIENCE, sqlx::query::<Db>("ROLLBACK").execute(&mut *connection)).await;
                if !matches!(ended, Ok(Ok(_))) && !<Db as Dialect>::LOCAL {
                    connection.close_on_drop();
                }
            }
            appended
        })
    }

    /// Some of the records.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn read(&self, wish: &Wish) -> Result<Vec<Record>> {
        let columns = COLUMNS[..COLUMNS.len() - 1].join(", ");
        let tool = if wish.tool.is_some() { " AND tool = $4" } else { "" };
        let order = if wish.order == Order::NewestFirst { "DESC" } else { "ASC" };
        let text =
            format!("SELECT {columns} FROM plugbay_audit WHERE id > $1 AND id < $2{tool} ORDER BY id {order} LIMIT $3");
        let (after, before) = (wish.after.unwrap_or(0), wish.before.unwrap_or(i64::MAX));
        let read = async {
            on!(self.database, |pool| {
                let mut query = sqlx::query::<Db>(AssertSqlSafe(text));
                query = query.bind(after).bind(before).bind(i64::from(wish.limit));
                if let Some(tool) = &wish.tool {
                    query = query.bind(tool);
                }
                let rows = query.fetch_all(pool).await?;
                rows.iter().map(|row| record!(row)).collect()
            })
        };
        self.within(read).await
    }

    /// Lets go of records that were appended before `oldest`, and of the oldest while all take more than `most` bytes.
    /// Not of all at once: whether there may be more to let go.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn let_go(&self, oldest: OffsetDateTime, most: i64) -> Result<bool> {
        let excess = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM plugbay_audit";
        // The oldest whose bytes, added up, are still less than what is too much; and the one after them.
        let chosen = "SELECT id FROM (SELECT id, CAST(sum(bytes) OVER (ORDER BY id) AS BIGINT) - bytes AS before FROM \
                      (SELECT id, bytes FROM plugbay_audit ORDER BY id LIMIT $1) AS oldest) AS added \
                      WHERE id < $2 OR before < $3 ORDER BY id DESC LIMIT 1";
        let gone = async {
            on!(self.database, |pool| {
                let excess = sqlx::query_scalar::<Db, i64>(excess).fetch_one(pool).await? - most;
                let query = sqlx::query_scalar::<Db, i64>(chosen).bind(LET_GO).bind(microseconds(oldest)).bind(excess);
                let Some(last) = query.fetch_optional(pool).await? else { return Ok(false) };
                let delete = sqlx::query::<Db>("DELETE FROM plugbay_audit WHERE id <= $1").bind(last);
                Ok(delete.execute(pool).await?.rows_affected() >= LET_GO as u64)
            })
        };
        self.within(gone).await
    }

    /// The statement that appends so many records.
    fn insert<Db: Dialect>(&self, rows: usize) -> Arc<str> {
        let write = || {
            let mut text = format!("INSERT INTO plugbay_audit ({}) VALUES ", COLUMNS.join(", "));
            for row in 0..rows {
                text.push_str(if row == 0 { "(" } else { ", (" });
                for column in 0..COLUMNS.len() {
                    let comma = if column == 0 { "" } else { ", " };
                    // Writing to a text does not fail.
                    let _ = write!(text, "{comma}{}", Db::bound(row * COLUMNS.len() + column + 1));
                }
                text.push(')');
            }
            text.into()
        };
        self.inserts[rows - 1].get_or_init(write).clone()
    }

    async fn within<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        match timeout(PATIENCE, work).await {
            Ok(done) => done.map_err(|error| self.database.failure(error)),
            Err(_) => Err(self.database.silence()),
        }
    }
}

/// The statement that appends with one more record bound to it, for either database.
macro_rules! bound {
    ($insert:expr, $row:expr) => {{
        let row: &Record = $row;
        $insert
            .bind(row.id)
            .bind(&*row.call)
            .bind(microseconds(row.time))
            .bind(&*row.door)
            .bind(&*row.principal)
            .bind(&*row.tool)
            .bind(row.plugin.as_deref())
            .bind(row.version.as_deref())
            .bind(row.side_effect.map(i64::from))
            .bind(row.fingerprint.as_deref())
            .bind(row.prose.as_deref())
            .bind(row.specifier.as_deref())
            .bind(&*row.digest)
            .bind(row.arguments.as_deref())
            .bind(row.decision.as_deref())
            .bind(row.reason.as_deref())
            .bind(row.rule.as_deref())
            .bind(row.approval.as_deref())
            .bind(row.answered_by.as_deref())
            .bind(row.duration_us)
            .bind(&*row.outcome)
            .bind(row.code.as_deref())
            .bind(row.bytes())
    }};
}
use bound;

/// A record from a row of either database.
macro_rules! record {
    ($row:expr) => {{
        let row = $row;
        let text = |index: usize| row.try_get::<String, _>(index).map(Text::from);
        let maybe = |index: usize| row.try_get::<Option<String>, _>(index).map(|text| text.map(Text::from));
        Ok(Record {
            id: row.try_get(0)?,
            call: text(1)?,
            time: moment(row.try_get(2)?),
            door: text(3)?,
            principal: text(4)?,
            tool: text(5)?,
            plugin: maybe(6)?,
            version: maybe(7)?,
            side_effect: row.try_get::<Option<i64>, _>(8)?.map(|number| number != 0),
            fingerprint: maybe(9)?,
            prose: maybe(10)?,
            specifier: maybe(11)?,
            digest: text(12)?,
            arguments: maybe(13)?,
            decision: maybe(14)?,
            reason: maybe(15)?,
            rule: maybe(16)?,
            approval: maybe(17)?,
            answered_by: maybe(18)?,
            duration_us: row.try_get(19)?,
            outcome: text(20)?,
            code: maybe(21)?,
        })
    }};
}
use record;

/// A time as ids and columns have it.
pub fn microseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

fn moment(microseconds: i64) -> OffsetDateTime {
    let nanoseconds = i128::from(microseconds) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

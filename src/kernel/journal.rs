//! The table of calls: how records are appended, read by pages and let go.
//!
//! An id is the time at which its record was appended, in microseconds since 1970, or one more than the last: ids grow,
//! and an age is a range of ids. Only one appends at a time, also when several hosts share a server.

use std::error::Error as _;
use std::fmt::Write;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::base::error::Result;
use crate::kernel::database::{Database, Dialect, is_unfit, on};
use crate::kernel::record::{Record, Text};

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

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only those of this tool.
    pub tool: Option<String>,
    /// Only those of calls that were asked at that time or later. Ids do not say that: while the clock is behind the last
    /// id they only count.
    pub since: Option<OffsetDateTime>,
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

/// Records that were let go.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// What they took.
    pub bytes: i64,
    /// Whether there may be more to let go.
    pub more: bool,
}

/// How records are appended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Many by one statement.
    Together,
    /// The same, but where a statement fails its records by themselves, and those that are not taken without their texts.
    Apart,
}

/// Which calls have changed nothing: what has no side effect, and what was refused or cancelled before it ran.
const HARMLESS: &str = "(coalesce(side_effect, 0) = 0 OR outcome = 'refused' \
                        OR (outcome = 'cancelled' AND coalesce(decision, '') NOT IN ('allowed', 'asked_allowed')))";

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

    /// Whether what is appended is lost; see [`Database::is_lost`].
    pub fn is_lost(&self) -> bool {
        self.database.is_lost()
    }

    /// Whether the database was found to be damaged.
    pub fn is_damaged(&self) -> bool {
        self.database.is_damaged()
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Appends records, all or none, and gives them their ids. When this returns they are on the disk. A record that the
    /// database does not take, for whatever is in its texts, is appended without them: it must not hold up all others.
    ///
    /// # Errors
    /// `Unavailable`: the database failed. Whether it has the records is then not known; the same records may be given
    /// again, and are not appended twice.
    pub async fn append(&self, records: &mut [Record]) -> Result<()> {
        let appended = self.append_as(records, Care::Together).await;
        let source = appended.as_ref().err().and_then(|error| error.source());
        if source.and_then(|source| source.downcast_ref()).is_some_and(is_unfit) {
            return self.append_as(records, Care::Apart).await;
        }
        appended
    }

    async fn append_as(&self, records: &mut [Record], care: Care) -> Result<()> {
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
                for rows in records.chunks_mut(ROWS) {
                    if care == Care::Together {
                        inserted!(self, connection, rows)?;
                        continue;
                    }
                    let one_by_one = if attempted!(self, connection, rows) { &mut [] } else { rows };
                    for row in one_by_one.chunks_mut(1) {
                        if !attempted!(self, connection, row) {
                            row.iter_mut().for_each(Record::strip);
                            inserted!(self, connection, row)?;
                        }
                    }
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
        let tool = if wish.tool.is_some() { " AND tool = $5" } else { "" };
        let order = if wish.order == Order::NewestFirst { "DESC" } else { "ASC" };
        // The sign keeps the order that of the ids, of which the time is none: a page is a range of them.
        let range = "id > $1 AND id < $2 AND +time >= $3";
        let text = format!("SELECT {columns} FROM plugbay_audit WHERE {range}{tool} ORDER BY id {order} LIMIT $4");
        let since = wish.since.map_or(i64::MIN, microseconds);
        let (after, before) =
            (wish.after.unwrap_or(0).max(since - i64::from(since > 0)), wish.before.unwrap_or(i64::MAX));
        let read = async {
            on!(self.database, |pool| {
                let mut query = sqlx::query::<Db>(AssertSqlSafe(text));
                query = query.bind(after).bind(before).bind(since).bind(i64::from(wish.limit));
                if let Some(tool) = &wish.tool {
                    query = query.bind(tool);
                }
                let rows = query.fetch_all(pool).await?;
                rows.iter().map(|row| record!(row)).collect()
            })
        };
        self.within(read).await
    }

    /// How many bytes all records take. Every record is looked at.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn bytes(&self) -> Result<i64> {
        let sum = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM plugbay_audit";
        self.within(async { on!(self.database, |pool| sqlx::query_scalar::<Db, i64>(sum).fetch_one(pool).await) }).await
    }

    /// Lets go of records of calls that were asked before `oldest`; when there are none, of the oldest that together take
    /// about `excess` bytes, first of those of calls that have changed nothing. Not of all at once.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn let_go(&self, oldest: OffsetDateTime, excess: i64) -> Result<Gone> {
        // Who may call what changes nothing, or is always refused, cannot push out what was changed.
        let wishes =
            [("true", microseconds(oldest), i64::MAX), (HARMLESS, i64::MAX, excess), ("true", i64::MAX, excess)];
        let gone = async {
            on!(self.database, |pool| {
                for (whose, before, excess) in wishes.into_iter().filter(|(.., excess)| *excess > 0) {
                    // The oldest whose bytes, added up, are still less than what is too much; and the one after them.
                    let delete = format!(
                        "DELETE FROM plugbay_audit WHERE id IN (SELECT id FROM \
                         (SELECT id, bytes, CAST(sum(bytes) OVER (ORDER BY time, id) AS BIGINT) AS added FROM \
                         (SELECT id, time, bytes FROM plugbay_audit WHERE time < $1 AND {whose} ORDER BY time LIMIT $2) \
                         AS oldest) AS added WHERE added - bytes < $3) RETURNING bytes"
                    );
                    let query = sqlx::query_scalar::<Db, i64>(AssertSqlSafe(delete));
                    let gone = query.bind(before).bind(LET_GO).bind(excess).fetch_all(pool).await?;
                    if !gone.is_empty() {
                        return Ok(Gone { bytes: gone.iter().sum(), more: gone.len() as i64 >= LET_GO });
                    }
                }
                Ok(Gone { bytes: 0, more: false })
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
            .bind(row.call.shared())
            .bind(microseconds(row.time))
            .bind(row.door.shared())
            .bind(row.principal.shared())
            .bind(row.tool.shared())
            .bind(row.plugin.as_ref().map(Text::shared))
            .bind(row.version.as_ref().map(Text::shared))
            .bind(row.side_effect.map(i64::from))
            .bind(row.fingerprint.as_ref().map(Text::shared))
            .bind(row.prose.as_ref().map(Text::shared))
            .bind(row.specifier.as_ref().map(Text::shared))
            .bind(row.digest.shared())
            .bind(row.arguments.as_ref().map(Text::shared))
            .bind(row.decision.as_ref().map(Text::shared))
            .bind(row.reason.as_ref().map(Text::shared))
            .bind(row.rule.as_ref().map(Text::shared))
            .bind(row.approval.as_ref().map(Text::shared))
            .bind(row.answered_by.as_ref().map(Text::shared))
            .bind(row.duration_us)
            .bind(row.outcome.shared())
            .bind(row.code.as_ref().map(Text::shared))
            .bind(row.bytes())
    }};
}
use bound;

/// What comes of appending some records by one statement.
macro_rules! inserted {
    ($journal:expr, $connection:expr, $rows:expr) => {{
        let insert = sqlx::query::<Db>(AssertSqlSafe($journal.insert::<Db>($rows.len())));
        let insert = $rows.iter().fold(insert, |insert, row| bound!(insert, row));
        insert.execute(&mut *$connection).await
    }};
}
use inserted;

/// Appends some records by one statement, and takes it back where the database does not take them. Whether it did.
macro_rules! attempted {
    ($journal:expr, $connection:expr, $rows:expr) => {{
        sqlx::query::<Db>("SAVEPOINT attempt").execute(&mut *$connection).await?;
        let inserted = inserted!($journal, $connection, $rows);
        let taken = !inserted.as_ref().is_err_and(is_unfit);
        if taken {
            inserted?;
        } else {
            sqlx::query::<Db>("ROLLBACK TO SAVEPOINT attempt").execute(&mut *$connection).await?;
        }
        sqlx::query::<Db>("RELEASE SAVEPOINT attempt").execute(&mut *$connection).await?;
        taken
    }};
}
use attempted;

/// A record from a row of either database.
macro_rules! record {
    ($row:expr) => {{
        let row = $row;
        let text = |index: usize| row.try_get::<&str, _>(index).map(Text::of);
        let maybe = |index: usize| row.try_get::<Option<&str>, _>(index).map(|text| text.map(Text::of));
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

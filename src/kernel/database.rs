//! What the host keeps as rows: a SQLite file in the home folder, or the PostgreSQL server of a URL.
//!
//! This file knows how a database is opened, which version its tables have, and what its failures mean; what is in the
//! tables belongs to those who keep them. Both databases take the same statements, with `$1` for what is bound; where there
//! is much of it, [`Dialect::bound`] says how.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Postgres, Sqlite};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;

/// The SQLite file in the home folder.
const FILE: &str = "plugbay.db";
/// Connections at a time: one writes, the others read.
const CONNECTIONS: u32 = 4;
/// A connection that nobody has used for so long is closed.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long a free connection is waited for, and a lock that another process holds.
const WAIT: Duration = Duration::from_secs(5);

/// The steps from each version of the tables to the next. A step that was released is never changed; `{key}` stands for
/// a key of 64 bits.
const STEPS: [&[&str]; 1] = [&[
    "CREATE TABLE plugbay_audit (
        id {key}, call TEXT NOT NULL, time BIGINT NOT NULL, door TEXT NOT NULL, principal TEXT NOT NULL,
        tool TEXT NOT NULL, plugin TEXT, version TEXT, side_effect BIGINT, fingerprint TEXT, prose TEXT,
        specifier TEXT, digest TEXT NOT NULL, arguments TEXT, decision TEXT, reason TEXT, rule TEXT,
        approval TEXT, answered_by TEXT,
        duration_us BIGINT NOT NULL, outcome TEXT NOT NULL, code TEXT, bytes BIGINT NOT NULL)",
    "CREATE INDEX plugbay_audit_tool ON plugbay_audit (tool, id)",
]];

/// What the two databases do not have in common.
pub trait Dialect {
    /// A key of 64 bits.
    const KEY: &'static str;
    /// Begins a transaction that will write.
    const BEGIN: &'static str;
    /// Whether it is in this process, so that a connection to it does not break.
    const LOCAL: bool;
    /// What a transaction that writes does first, so that such transactions follow one another.
    const LOCK: Option<&'static str>;

    /// How a statement of many bound values names the one of that number, from 1, in their order.
    fn bound(number: usize) -> String;
}

impl Dialect for Sqlite {
    const KEY: &'static str = "INTEGER PRIMARY KEY";
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const LOCAL: bool = true;
    const LOCK: Option<&'static str> = None;

    fn bound(_number: usize) -> String {
        // SQLite looks up each name among all names, which takes a time that grows with the square of their number.
        "?".into()
    }
}

impl Dialect for Postgres {
    const KEY: &'static str = "BIGINT PRIMARY KEY";
    const BEGIN: &'static str = "BEGIN";
    const LOCAL: bool = false;
    // Several hosts may share a server. The number means nothing but this.
    const LOCK: Option<&'static str> = Some("SELECT pg_advisory_xact_lock(7370125)");

    fn bound(number: usize) -> String {
        format!("${number}")
    }
}

/// Where the rows are.
#[derive(Clone)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL server.
    Server(Box<PgConnectOptions>),
}

impl Place {
    /// The server that the settings name, else the file in the home folder.
    ///
    /// # Errors
    /// `Invalid`: the setting is no URL of a PostgreSQL server.
    pub fn of(settings: &Settings, home: &Path) -> Result<Self> {
        let Some(url) = &settings.database else { return Ok(Self::File(home.join(FILE))) };
        let options = PgConnectOptions::from_str(url.as_str()).map_err(|error| {
            let message = format!("the database is not the URL of a PostgreSQL server ({error}): {EXAMPLE}");
            Error::new(Kind::Invalid, message)
        })?;
        Ok(Self::Server(Box::new(options.application_name("plugbay").disable_statement_logging())))
    }

    /// Whether there is anything yet, as far as can be told without asking.
    pub fn exists(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }

    /// What people call it; without the password.
    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Server(options) => {
                let database = options.get_database().unwrap_or_else(|| options.get_username());
                format!("the PostgreSQL database {database:?} at {}:{}", options.get_host(), options.get_port())
            }
        }
    }
}

const EXAMPLE: &str = "write it like postgres://user:password@127.0.0.1/plugbay";

/// The connections of one of the two.
pub enum Pools {
    /// To the file.
    Sqlite(SqlitePool),
    /// To the server.
    Postgres(PgPool),
}

/// An open database whose tables are of this host's version. Cloning is cheap.
#[derive(Clone)]
pub struct Database {
    pools: Arc<Pools>,
    shown: Arc<str>,
}

/// Does the same with whichever database it is: `$pool` is its pool and `Db` its type.
macro_rules! on {
    ($database:expr, |$pool:ident| $body:expr) => {
        match $database.pools() {
            $crate::kernel::database::Pools::Sqlite($pool) => {
                type Db = sqlx::Sqlite;
                $body
            }
            $crate::kernel::database::Pools::Postgres($pool) => {
                type Db = sqlx::Postgres;
                $body
            }
        }
    };
}
pub(in crate::kernel) use on;

impl Database {
    /// Opens the database, makes it where it is a file that is not there, and brings its tables to this version.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be reached, opened or written, is damaged, or is of a newer version; the message has the
    /// cure.
    pub async fn open(place: &Place) -> Result<Self> {
        let shown = place.shown();
        let pools = match place {
            Place::File(path) => {
                make_private(path).map_err(|error| {
                    Error::new(Kind::Unavailable, format!("cannot make {shown}: {error}")).with_source(error)
                })?;
                // What was said to be kept is on the disk, whatever becomes of the power.
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(WAIT)
                    .thread_name(|_| "plugbay-store".into())
                    .disable_statement_logging();
                // One stays open: to open another takes room on the disk.
                Pools::Sqlite(pool().test_before_acquire(false).min_connections(1).connect_lazy_with(options))
            }
            Place::Server(options) => Pools::Postgres(pool().connect_lazy_with((**options).clone())),
        };
        let database = Self { pools: Arc::new(pools), shown: shown.into() };
        let version = database.upgrade().await.map_err(|error| database.failure(error))?;
        if version > STEPS.len() as i64 {
            let message = format!(
                "{} was written by a newer Plugbay (version {version} of its tables, this one knows {}): run that one, \
                 or {}",
                database.shown,
                STEPS.len(),
                database.elsewhere()
            );
            return Err(Error::new(Kind::Unavailable, message));
        }
        Ok(database)
    }

    /// The connections.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Closes every connection, once those that are used are given back.
    pub async fn close(&self) {
        match &*self.pools {
            Pools::Sqlite(pool) => pool.close().await,
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// What a failure of the database means, and what to do.
    pub fn failure(&self, error: sqlx::Error) -> Error {
        let (shown, elsewhere) = (&self.shown, self.elsewhere());
        let message = match (&*self.pools, sqlite_code(&error)) {
            // The numbers are SQLite's result codes.
            (Pools::Sqlite(_), Some(11 | 26)) => {
                format!("{shown} is damaged ({error}): put a copy of it in its place, or {elsewhere}")
            }
            (Pools::Sqlite(_), Some(13)) => format!("the disk is full, {shown} cannot grow: make room"),
            (Pools::Sqlite(_), Some(8 | 14)) => {
                format!(
                    "{shown} cannot be opened or written ({error}): give its owner leave to write it and its folder"
                )
            }
            (Pools::Sqlite(_), Some(5 | 6)) => format!("another process holds {shown}: end it"),
            (Pools::Sqlite(_), _) => format!("{shown} failed: {error}"),
            (Pools::Postgres(_), _) => {
                format!("{shown} failed ({error}): see that the server runs and lets this host in")
            }
        };
        Error::new(Kind::Unavailable, message).with_source(error)
    }

    /// The failure of a database that does not answer.
    pub fn silence(&self) -> Error {
        Error::new(Kind::Unavailable, format!("{} does not answer: see that it runs", self.shown))
    }

    /// What to do with a database that cannot be used.
    fn elsewhere(&self) -> &'static str {
        match *self.pools {
            Pools::Sqlite(_) => "move it away with its -wal and -shm, and a new one is made",
            Pools::Postgres(_) => "name another one with --database",
        }
    }

    /// Takes every step that is missing, each whole or not at all, and returns the version that is there then.
    async fn upgrade(&self) -> sqlx::Result<i64> {
        on!(self, |pool| {
            loop {
                let mut step = pool.begin_with(<Db as Dialect>::BEGIN).await?;
                if let Some(lock) = <Db as Dialect>::LOCK {
                    sqlx::query::<Db>(lock).execute(&mut *step).await?;
                }
                let table = "CREATE TABLE IF NOT EXISTS plugbay_version (version BIGINT NOT NULL)";
                sqlx::query::<Db>(table).execute(&mut *step).await?;
                let sum = "SELECT CAST(coalesce(sum(version), 0) AS BIGINT) FROM plugbay_version";
                let version: i64 = sqlx::query_scalar::<Db, i64>(sum).fetch_one(&mut *step).await?;
                let Some(statements) = usize::try_from(version).ok().and_then(|done| STEPS.get(done)) else {
                    step.commit().await?;
                    return Ok(version);
                };
                for statement in *statements {
                    let statement = statement.replace("{key}", <Db as Dialect>::KEY);
                    sqlx::query::<Db>(AssertSqlSafe(statement)).execute(&mut *step).await?;
                }
                sqlx::query::<Db>("DELETE FROM plugbay_version").execute(&mut *step).await?;
                let next = "INSERT INTO plugbay_version (version) VALUES ($1)";
                sqlx::query::<Db>(next).bind(version + 1).execute(&mut *step).await?;
                step.commit().await?;
            }
        })
    }
}

fn pool<Db: sqlx::Database>() -> PoolOptions<Db> {
    PoolOptions::new().max_connections(CONNECTIONS).idle_timeout(IDLE_TIME).max_lifetime(None).acquire_timeout(WAIT)
}

/// Makes an empty file that only its owner may read; SQLite gives its other files the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// SQLite's result code, without what extends it.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

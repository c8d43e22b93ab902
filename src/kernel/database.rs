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
use std::sync::atomic::{AtomicBool, Ordering};
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
const STEPS: [&[&str]; 2] = [
    &[
        "CREATE TABLE plugbay_audit (
        id {key}, call TEXT NOT NULL, time BIGINT NOT NULL, door TEXT NOT NULL, principal TEXT NOT NULL,
        tool TEXT NOT NULL, plugin TEXT, version TEXT, side_effect BIGINT, fingerprint TEXT, prose TEXT,
        specifier TEXT, digest TEXT NOT NULL, arguments TEXT, decision TEXT, reason TEXT, rule TEXT,
        approval TEXT, answered_by TEXT,
        duration_us BIGINT NOT NULL, outcome TEXT NOT NULL, code TEXT, bytes BIGINT NOT NULL)",
        "CREATE INDEX plugbay_audit_tool ON plugbay_audit (tool, id)",
    ],
    // All that decides what is let go, so that no record is looked at for it: what stands behind long arguments takes a
    // read of each of their pages. It begins with the time, by which it grows at its end.
    &["CREATE INDEX plugbay_audit_age ON plugbay_audit (time, bytes, side_effect, outcome, decision)"],
];
/// The version of the tables.
const VERSION: &str = "SELECT CAST(coalesce(sum(version), 0) AS BIGINT) FROM plugbay_version";

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
    /// How many tables with the version there are.
    const VERSIONED: &'static str;

    /// How a statement of many bound values names the one of that number, from 1, in their order.
    fn bound(number: usize) -> String;
}

impl Dialect for Sqlite {
    const KEY: &'static str = "INTEGER PRIMARY KEY";
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const LOCAL: bool = true;
    const LOCK: Option<&'static str> = None;
    const VERSIONED: &'static str = "SELECT count(*) FROM sqlite_master WHERE name = 'plugbay_version'";

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
    const VERSIONED: &'static str = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('plugbay_version')";

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
        // What was said to be kept is on the disk, whatever the server or its database is set to.
        let options = options.options([("synchronous_commit", "on")]);
        Ok(Self::Server(Box::new(options.application_name("plugbay").disable_statement_logging())))
    }

    /// Whether there is anything yet, as far as can be told without asking.
    pub fn exists(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }

    /// Whether other hosts may write to it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// The failure of a database that does not answer.
    pub fn silence(&self) -> Error {
        let shown = self.shown();
        let message = match self {
            Self::File(_) => held(&shown),
            Self::Server(_) => format!("{shown} does not answer: see that it runs"),
        };
        Error::new(Kind::Unavailable, message)
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

/// What a file that does not answer is waited for.
fn held(shown: &str) -> String {
    format!("another process holds {shown}, or the disk is slow: end that process, or wait")
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
    shared: Arc<Shared>,
}

struct Shared {
    pools: Pools,
    place: Place,
    shown: String,
    /// Which file it is, where it is one: its device and its number there.
    file: Option<(u64, u64)>,
    /// Whether it was found to be damaged.
    damaged: AtomicBool,
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
        let (pools, file) = match place {
            Place::File(path) => {
                make_private(path).map_err(|error| {
                    Error::new(Kind::Unavailable, format!("cannot make {shown}: {error}")).with_source(error)
                })?;
                // Before it is opened: were another put in its place meanwhile, that would be noticed.
                let file = file_at(path).unwrap_or_default();
                // What was said to be kept is on the disk, whatever becomes of the power.
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(WAIT)
                    .thread_name(|_| "plugbay-store".into())
                    .disable_statement_logging();
                // One stays open: to open another takes room on the disk.
                let pool = pool().test_before_acquire(false).min_connections(1).connect_lazy_with(options);
                (Pools::Sqlite(pool), file)
            }
            Place::Server(options) => (Pools::Postgres(pool().connect_lazy_with((**options).clone())), None),
        };
        let shared = Shared { pools, place: place.clone(), shown, file, damaged: AtomicBool::new(false) };
        let database = Self { shared: Arc::new(shared) };
        database.takes_every_text().await?;
        let version = database.upgrade().await.map_err(|error| database.failure(error))?;
        if version > STEPS.len() as i64 {
            let message = format!(
                "{} was written by a newer Plugbay (version {version} of its tables, this one knows {}): run that one, \
                 or {}",
                database.shared.shown,
                STEPS.len(),
                database.elsewhere()
            );
            return Err(Error::new(Kind::Unavailable, message));
        }
        Ok(database)
    }

    /// The connections.
    pub fn pools(&self) -> &Pools {
        &self.shared.pools
    }

    /// Whether what is written to it is lost: it is damaged, or another file stands in its place, or none.
    pub fn is_lost(&self) -> bool {
        let moved = || match &self.shared.place {
            Place::File(path) => file_at(path).is_ok_and(|file| file != self.shared.file),
            Place::Server(_) => false,
        };
        self.is_damaged() || moved()
    }

    /// Whether it was found to be damaged.
    pub fn is_damaged(&self) -> bool {
        self.shared.damaged.load(Ordering::Relaxed)
    }

    /// Closes every connection, once those that are used are given back.
    pub async fn close(&self) {
        match self.pools() {
            Pools::Sqlite(pool) => pool.close().await,
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// What a failure of the database means, and what to do. One that is damaged is known to be from then on.
    pub fn failure(&self, error: sqlx::Error) -> Error {
        let (shown, elsewhere) = (&self.shared.shown, self.elsewhere());
        let message = match (self.pools(), sqlite_code(&error)) {
            // The numbers are SQLite's result codes.
            (Pools::Sqlite(_), Some(11 | 26)) => {
                self.shared.damaged.store(true, Ordering::Relaxed);
                format!("{shown} is damaged ({error}): put a copy of it in its place, or {elsewhere}")
            }
            (Pools::Sqlite(_), Some(13)) => format!("the disk is full, {shown} cannot grow: make room"),
            (Pools::Sqlite(_), Some(8 | 14)) => {
                format!(
                    "{shown} cannot be opened or written ({error}): give its owner leave to write it and its folder"
                )
            }
            (Pools::Sqlite(_), Some(5 | 6)) => format!("another process holds {shown}: end it"),
            (Pools::Sqlite(_), None) if matches!(error, sqlx::Error::PoolTimedOut) => held(shown),
            (Pools::Sqlite(_), _) => format!("{shown} failed: {error}"),
            // What is missing, but for the tables that a newer Plugbay needs, the server says itself.
            (Pools::Postgres(_), _) if sql_state(&error).is_some_and(|state| state == "42501") => {
                format!(
                    "{shown} does not let this host in far enough ({error}): let it, or start it once as their owner"
                )
            }
            (Pools::Postgres(_), _) => {
                format!("{shown} failed ({error}): see that the server runs and lets this host in")
            }
        };
        Error::new(Kind::Unavailable, message).with_source(error)
    }

    /// The failure of a database that does not answer.
    pub fn silence(&self) -> Error {
        self.shared.place.silence()
    }

    /// What to do with a database that cannot be used.
    fn elsewhere(&self) -> &'static str {
        match self.pools() {
            Pools::Sqlite(_) => "move it away with its -wal and -shm, and a new one is made",
            Pools::Postgres(_) => "name another one with --database",
        }
    }

    /// Says that every text can be kept: a server may have databases of other encodings.
    async fn takes_every_text(&self) -> Result<()> {
        let Pools::Postgres(pool) = self.pools() else { return Ok(()) };
        let asked = sqlx::query_scalar::<_, String>("SHOW server_encoding").fetch_one(pool).await;
        let encoding = asked.map_err(|error| self.failure(error))?;
        // The other takes every byte as it is.
        if matches!(&*encoding, "UTF8" | "SQL_ASCII") {
            return Ok(());
        }
        let message = format!(
            "{} has the encoding {encoding}, in which not every text can be kept: name one with the encoding UTF8, made \
             with createdb --encoding=UTF8 --template=template0",
            self.shared.shown
        );
        Err(Error::new(Kind::Unavailable, message))
    }

    /// Takes every step that is missing, all or none, and returns the version that is there then. Whoever may not make
    /// tables can use those that are there.
    async fn upgrade(&self) -> sqlx::Result<i64> {
        on!(self, |pool| {
            if sqlx::query_scalar::<Db, i64>(<Db as Dialect>::VERSIONED).fetch_one(pool).await? > 0 {
                let version = sqlx::query_scalar::<Db, i64>(VERSION).fetch_one(pool).await?;
                if version >= STEPS.len() as i64 {
                    return Ok(version);
                }
            }
            let mut steps = pool.begin_with(<Db as Dialect>::BEGIN).await?;
            if let Some(lock) = <Db as Dialect>::LOCK {
                sqlx::query::<Db>(lock).execute(&mut *steps).await?;
            }
            let table = "CREATE TABLE IF NOT EXISTS plugbay_version (version BIGINT NOT NULL)";
            sqlx::query::<Db>(table).execute(&mut *steps).await?;
            // Another host may have taken them meanwhile.
            let version = sqlx::query_scalar::<Db, i64>(VERSION).fetch_one(&mut *steps).await?;
            let missing = usize::try_from(version).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default();
            for statements in missing {
                for statement in *statements {
                    let statement = statement.replace("{key}", <Db as Dialect>::KEY);
                    sqlx::query::<Db>(AssertSqlSafe(statement)).execute(&mut *steps).await?;
                }
            }
            let version = version + missing.len() as i64;
            sqlx::query::<Db>("DELETE FROM plugbay_version").execute(&mut *steps).await?;
            let next = "INSERT INTO plugbay_version (version) VALUES ($1)";
            sqlx::query::<Db>(next).bind(version).execute(&mut *steps).await?;
            steps.commit().await?;
            Ok(version)
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

/// Which file stands at a path: its device and its number there; none when there is no file.
fn file_at(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        #[cfg(unix)]
        Ok(file) => Ok(Some((std::os::unix::fs::MetadataExt::dev(&file), std::os::unix::fs::MetadataExt::ino(&file)))),
        #[cfg(not(unix))]
        Ok(_) => Ok(Some((0, 0))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the database does not take what was to be kept, whoever asks and however often: a text that it has no letters
/// for, or that is too much for it.
pub fn is_unfit(error: &sqlx::Error) -> bool {
    sql_state(error).is_some_and(|state| state.starts_with("22") || state.starts_with("54"))
}

/// PostgreSQL's word for a failure (SQLSTATE).
fn sql_state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().filter(|code| code.len() == 5).map(Into::into)
}

/// SQLite's result code, without what extends it.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

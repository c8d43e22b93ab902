//! How long records of calls are kept: by their age, and by what all of them take.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::base::error::Result;
use crate::base::settings::Keeping;
use crate::kernel::journal::Journal;
use crate::kernel::record::Record;

/// After so many records it is time to let go of old ones.
const RECORDS: usize = 10_000;
/// When it is time for the first time after the start, and how often then, however few records there are.
const TIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Lets go of old records.
pub struct Retention {
    keeping: Keeping,
    /// Records that were appended since.
    since: usize,
    /// When it is time, however few there are.
    due_at: Instant,
    /// What all records take; none when they must be counted.
    bytes: Option<i64>,
}

impl Retention {
    /// Keeps as much as `keeping` says.
    pub fn new(keeping: Keeping) -> Self {
        Self { keeping, since: 0, due_at: Instant::now() + TIMES.0, bytes: None }
    }

    /// Hears of records that this host has appended.
    pub fn appended(&mut self, records: &[Record]) {
        self.since += records.len();
        if let Some(bytes) = &mut self.bytes {
            *bytes += records.iter().map(Record::bytes).sum::<i64>();
        }
    }

    /// When old records are to be let go at the latest.
    pub fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Whether old records are to be let go now.
    pub fn is_due(&self) -> bool {
        self.since >= RECORDS || self.due_at <= Instant::now()
    }

    /// Lets go of some old records. Whether there are more: then it is due again at once.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn let_go(&mut self, journal: &Journal) -> Result<bool> {
        self.since = 0;
        let now = Instant::now();
        if self.due_at <= now {
            self.due_at = now + TIMES.1;
            // Other hosts may have appended to the same table, or have let go.
            self.bytes = None;
        }
        let (days, most) = (u64::from(self.keeping.days), i64::from(self.keeping.mib) << 20);
        // Until it is known what has gone, what is left is not.
        let bytes = match self.bytes.take() {
            Some(bytes) => bytes,
            None => journal.bytes().await?,
        };
        let oldest = OffsetDateTime::now_utc() - Duration::from_secs(days * 86_400);
        let gone = journal.let_go(oldest, bytes - most).await?;
        self.bytes = Some(bytes - gone.bytes);
        // What was let go for its age, or of one kind, may not have been enough.
        let more = gone.more || (gone.bytes != 0 && bytes - gone.bytes > most);
        if more {
            self.since = RECORDS;
        }
        Ok(more)
    }
}

//! How long records of calls are kept: by their age, and by what all of them take.

use std::time::Duration;

use time::OffsetDateTime;

use crate::base::error::Result;
use crate::base::settings::Keeping;
use crate::kernel::journal::Journal;
use crate::kernel::record::Record;

/// After so many records it is time to let go of old ones.
const RECORDS: usize = 10_000;

/// Lets go of old records.
pub struct Retention {
    keeping: Keeping,
    /// Records that were appended since.
    since: usize,
    /// What all records take; none when they must be counted, which takes a look at each.
    bytes: Option<i64>,
}

impl Retention {
    /// Keeps as much as `keeping` says.
    pub fn new(keeping: Keeping) -> Self {
        Self { keeping, since: 0, bytes: None }
    }

    /// Hears of records that this host has appended.
    pub fn appended(&mut self, records: &[Record]) {
        self.since += records.len();
        if let Some(bytes) = &mut self.bytes {
            *bytes += records.iter().map(Record::bytes).sum::<i64>();
        }
    }

    /// Whether enough was appended to let go of old records now.
    pub fn is_due(&self) -> bool {
        self.since >= RECORDS
    }

    /// Counts anew next time, since other hosts may have appended to the same table.
    pub fn count_anew(&mut self) {
        self.bytes = None;
    }

    /// Lets go of some old records. Whether there are more: then it is due again at once.
    ///
    /// # Errors
    /// `Unavailable`: the database failed.
    pub async fn let_go(&mut self, journal: &Journal) -> Result<bool> {
        self.since = 0;
        let (days, most) = (u64::from(self.keeping.days), i64::from(self.keeping.mib) << 20);
        let bytes = match self.bytes {
            Some(bytes) => bytes,
            None => journal.bytes().await?,
        };
        let oldest = OffsetDateTime::now_utc() - Duration::from_secs(days * 86_400);
        let gone = journal.let_go(oldest, bytes - most).await?;
        self.bytes = Some(bytes - gone.bytes);
        if gone.more {
            self.since = RECORDS;
        }
        Ok(gone.more)
    }
}

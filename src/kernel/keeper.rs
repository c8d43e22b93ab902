//! The journal of the host while it is open: opened when it is first needed, and anew once what is written to it is lost,
//! so that a file that was moved away needs no restart.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::base::error::{Error, Result};
use crate::kernel::database::{Database, Place};
use crate::kernel::journal::Journal;
use crate::kernel::record::Record;

/// So long those who read may keep a journal that is closed.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Holds the journal.
pub struct Keeper {
    place: Place,
    journal: Mutex<Option<Journal>>,
    /// Held by whoever opens or closes it.
    turn: tokio::sync::Mutex<()>,
    /// Why the last batch could not be appended, or the database not be opened at the start; none when it could.
    trouble: Mutex<Option<Error>>,
}

impl Keeper {
    /// A keeper of the database at `place`, which is not open yet.
    pub fn new(place: Place) -> Self {
        Self { place, journal: Mutex::default(), turn: tokio::sync::Mutex::default(), trouble: Mutex::default() }
    }

    /// Where the database is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The journal, if it is open.
    pub fn current(&self) -> Option<Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The journal, which is opened for it, however long that takes.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be opened; the message has the cure.
    pub async fn open(&self) -> Result<Journal> {
        if let Some(journal) = self.current() {
            return Ok(journal);
        }
        let _turn = self.turn.lock().await;
        if let Some(journal) = self.current() {
            return Ok(journal);
        }
        let journal = Journal::of(Database::open(&self.place).await?);
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal.clone());
        Ok(journal)
    }

    /// The same for one who waits at most `limit`, and not at all while it is known that it cannot be opened: whoever
    /// appends tries again by itself, and calls that wait for one another would wait for ever longer.
    ///
    /// # Errors
    /// As [`Keeper::open`], and when it takes longer.
    pub async fn open_within(&self, limit: Duration) -> Result<Journal> {
        if let Some(journal) = self.current() {
            return Ok(journal);
        }
        if let Some(trouble) = self.trouble() {
            return Err(trouble);
        }
        timeout(limit, self.open()).await.unwrap_or_else(|_| Err(self.place.silence()))
    }

    /// Appends records, all or none, to a file that is there and whole. Without any it looks whether it is. For one at a
    /// time.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn append(&self, records: &mut [Record]) -> Result<()> {
        if records.is_empty() && self.trouble().is_none() && self.current().is_none() {
            return Ok(());
        }
        loop {
            let journal = self.open().await?;
            let appended = if records.is_empty() { Ok(()) } else { journal.append(records).await };
            // Looked at afterwards: what was written before the file was moved away is written once more.
            if !journal.is_lost() {
                return appended;
            }
            self.retire().await;
            if journal.is_damaged() {
                appended?;
            }
        }
    }

    /// Closes the journal; it is opened anew when it is needed again.
    async fn retire(&self) {
        let _turn = self.turn.lock().await;
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(journal) = journal {
            // Before another is opened: the last to close a file takes its -wal away, by its name.
            let _ = timeout(CLOSE_TIME, journal.close()).await;
        }
    }

    /// Closes the journal for good.
    pub async fn close(&self) {
        if let Some(journal) = self.current() {
            journal.close().await;
        }
    }

    /// Why nothing can be appended; none when it can.
    pub fn trouble(&self) -> Option<Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hears that nothing can be appended. Whether that is news.
    pub fn stumble(&self, error: Error) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).replace(error).is_none()
    }

    /// Hears that all is well. Whether that is news.
    pub fn recover(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

//! Which plugins were installed, from where, and what exactly: one file, replaced whole.
//!
//! A file that cannot be read is an error of everything that needs it and is left as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::store::Store;

/// The file: `{"version": 1, "plugins": {"<id>": {…}}}`.
pub const FILE: &str = "installed.json";
/// The version of the file that this host writes and reads.
const VERSION: u32 = 1;

/// The registry of installed plugins. A cheap handle: clones share it.
#[derive(Clone)]
pub struct Installed {
    store: Store,
    /// Held while the file is changed, so that two changes cannot lose one another.
    changes: Arc<Mutex<()>>,
}

/// What is known of an installed plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// A URL, or the path of a folder.
    pub source: String,
    /// The branch, tag or commit that was asked for.
    pub reference: Option<String>,
    /// The commit that it is; none for a folder.
    pub commit: Option<String>,
    /// Its own version, free text.
    pub version: String,
    /// The native modules that may be built for it.
    pub allow_build: Vec<String>,
    /// The digest of its code, as `integrity` makes it.
    pub digest: String,
    /// When it was installed or updated.
    #[serde(with = "time::serde::rfc3339")]
    pub installed: OffsetDateTime,
}

/// The records, by id.
pub type Records = BTreeMap<String, Record>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    plugins: Records,
}

impl Installed {
    /// The registry of a home folder. Nothing is read before it is asked for.
    pub fn open(store: Store) -> Self {
        Self { store, changes: Arc::default() }
    }

    /// All records. Waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`: the file is damaged or cannot be read.
    pub fn read(&self) -> Result<Records> {
        let Some(bytes) = self.store.read(FILE)? else { return Ok(Records::new()) };
        let damaged = |why: String| {
            let message = format!(
                "{} cannot be used ({why}), so nothing is installed, updated or started from it: mend the file, or move it \
                 away and install the plugins again",
                self.store.home().join(FILE).display()
            );
            Error::new(Kind::Unavailable, message)
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if kept.version != VERSION {
            return Err(damaged(format!("its version is {}, this host knows {VERSION}", kept.version)));
        }
        Ok(kept.plugins)
    }

    /// The record of a plugin, whatever the case of its id.
    ///
    /// # Errors
    /// As [`Installed::read`].
    pub fn find(&self, id: &str) -> Result<Option<(String, Record)>> {
        Ok(self.read()?.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(id)))
    }

    /// Keeps a record. When this returns, it is on the disk.
    ///
    /// # Errors
    /// As [`Installed::read`]; `Unavailable`: it cannot be written.
    pub fn keep(&self, id: &str, record: Record) -> Result<()> {
        self.change(|records| drop(records.insert(id.to_owned(), record)))
    }

    /// Forgets a plugin.
    ///
    /// # Errors
    /// As [`Installed::keep`].
    pub fn forget(&self, id: &str) -> Result<()> {
        self.change(|records| drop(records.remove(id)))
    }

    fn change(&self, change: impl FnOnce(&mut Records)) -> Result<()> {
        let _alone = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plugins = self.read()?;
        change(&mut plugins);
        let text = serde_json::to_vec_pretty(&Kept { version: VERSION, plugins })
            .map_err(|error| Error::new(Kind::Internal, "the registry cannot be written as JSON").with_source(error))?;
        self.store.write(FILE, &text)
    }
}

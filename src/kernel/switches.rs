//! Which installed plugins may run: the operator's switches, kept in one file.
//!
//! A plugin without an entry is on. A file that cannot be read turns every plugin off and is never overwritten: nothing
//! runs by accident.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::store::{self, Store};

/// The file: `{"version": 1, "plugins": {"<id>": {"enabled": false}}}`.
const FILE: &str = "plugins.json";
/// The version of the file that this host writes and reads.
const VERSION: u32 = 1;

/// The switches of all plugins. A cheap handle: clones share them.
#[derive(Clone)]
pub struct Switches {
    store: Store,
    /// What the file holds, or why it cannot be used. Held while the file is written.
    kept: Arc<Mutex<Result<Kept>>>,
}

/// The file as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    plugins: BTreeMap<String, Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    enabled: bool,
}

impl Switches {
    /// Reads the switches of a home folder. A file that cannot be used is said by [`Switches::damage`].
    pub fn open(store: Store) -> Self {
        let kept = read(store.home());
        Self { store, kept: Arc::new(Mutex::new(kept)) }
    }

    /// The plugins of a home folder that are off, for whoever has no host; waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`: the file cannot be used, so all are off.
    pub fn off_at(home: &Path) -> Result<Vec<String>> {
        let kept = read(home)?;
        Ok(kept.plugins.into_iter().filter(|(_, entry)| !entry.enabled).map(|(plugin, _)| plugin).collect())
    }

    /// Whether a plugin may run.
    pub fn enabled(&self, plugin: &str) -> bool {
        self.kept().as_ref().is_ok_and(|kept| kept.plugins.get(plugin).is_none_or(|entry| entry.enabled))
    }

    /// Why the file cannot be used, and the cure; `None` when it can.
    pub fn damage(&self) -> Option<Error> {
        self.kept().as_ref().err().cloned()
    }

    /// Turns a plugin on or off. When this returns, it is on the disk. Waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`: the file is damaged, or cannot be written; nothing has changed then.
    pub fn set_enabled(&self, plugin: &str, enabled: bool) -> Result<()> {
        self.change(|plugins| {
            plugins.insert(plugin.to_owned(), Entry { enabled });
        })
    }

    /// Forgets a plugin that is gone. Waits for the disk.
    ///
    /// # Errors
    /// As [`Switches::set_enabled`].
    pub fn forget(&self, plugin: &str) -> Result<()> {
        self.change(|plugins| {
            plugins.remove(plugin);
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) -> Result<()> {
        let mut kept = self.kept();
        let mut new = kept.clone()?;
        change(&mut new.plugins);
        let text = serde_json::to_vec_pretty(&new)
            .map_err(|error| Error::new(Kind::Internal, "the switches cannot be written as JSON").with_source(error))?;
        self.store.write(FILE, &text)?;
        *kept = Ok(new);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Result<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(home: &Path) -> Result<Kept> {
    let Some(bytes) = store::read(&home.join(FILE))? else {
        return Ok(Kept { version: VERSION, plugins: BTreeMap::new() });
    };
    let damaged = |why: String| {
        let message = format!(
            "{} cannot be used ({why}), so no plugin with a server is started and none of home/plugins is loaded: mend the \
             file, or remove it and disable anew what is not to run; then restart the host",
            home.join(FILE).display()
        );
        Error::new(Kind::Unavailable, message)
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if kept.version != VERSION {
        return Err(damaged(format!("its version is {}, this host knows {VERSION}", kept.version)));
    }
    Ok(kept)
}

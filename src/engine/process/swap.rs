//! Folders that take each other's place: a plugin's new version for the one before, and back.
//!
//! All of them lie in the home folder, so that a rename moves them; whoever looks sees one version or the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Kind, Result};

/// Where installed plugins lie.
pub const PLUGINS: &str = "plugins";
/// Where the version before each lies.
pub const PREVIOUS: &str = "previous";
/// Where new versions are made.
pub const STAGING: &str = "staging";

/// The places of one plugin in a home folder.
pub struct Places {
    /// Where it runs.
    pub current: PathBuf,
    /// Where the version before is kept.
    pub previous: PathBuf,
}

impl Places {
    /// Those of the plugin in the folder `name`.
    pub fn of(home: &Path, name: &str) -> Self {
        Self { current: home.join(PLUGINS).join(name), previous: home.join(PREVIOUS).join(name) }
    }

    /// Puts a new version in place; the one that was there becomes the previous one, and the one before that is gone.
    ///
    /// # Errors
    /// `Unavailable`: the system refuses; what was there is there still.
    pub fn put(&self, new: &Path) -> Result<()> {
        self.put_in_place(new).map_err(|error| self.refused("put in place", error))
    }

    /// Brings the previous version back and removes the one in place; without a previous one, only removes it.
    ///
    /// # Errors
    /// `Unavailable`: the system refuses.
    pub fn restore(&self) -> Result<()> {
        let restored = if self.previous.is_dir() {
            exchange(&self.previous, &self.current).and_then(|()| remove(&self.previous))
        } else {
            remove(&self.current)
        };
        restored.map_err(|error| self.refused("restored", error))
    }

    /// Removes every version. It vanishes in one step, then its files are deleted.
    ///
    /// # Errors
    /// `Unavailable`: the system refuses.
    pub fn clear(&self) -> Result<()> {
        let cleared = remove(&self.previous).and_then(|()| {
            if self.current.symlink_metadata().is_err() {
                return Ok(());
            }
            if let Some(parent) = self.previous.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(&self.current, &self.previous)?;
            remove(&self.previous)
        });
        cleared.map_err(|error| self.refused("removed", error))
    }

    fn put_in_place(&self, new: &Path) -> io::Result<()> {
        for folder in [&self.current, &self.previous].into_iter().filter_map(|path| path.parent()) {
            fs::create_dir_all(folder)?;
        }
        if self.current.symlink_metadata().is_err() {
            return fs::rename(new, &self.current);
        }
        remove(&self.previous)?;
        exchange(new, &self.current)?;
        fs::rename(new, &self.previous)
    }

    fn refused(&self, what: &str, error: io::Error) -> Error {
        let message = format!("{} cannot be {what}: {error}", self.current.display());
        Error::new(Kind::Unavailable, message).with_source(error)
    }
}

/// Removes a folder with all that is in it, or a link; harmless when there is none.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Lets two folders take each other's place, in one step where the system has one.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    // A file system that knows no exchange: for a moment `other` is not there.
    let aside = one.with_extension("aside");
    fs::rename(other, &aside)?;
    if let Err(error) = fs::rename(one, other) {
        fs::rename(&aside, other)?;
        return Err(error);
    }
    fs::rename(&aside, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(folder: &Path, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("version"), text).unwrap();
    }

    fn read(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join("version")).ok()
    }

    #[test]
    fn a_new_version_takes_the_place_and_the_one_before_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let (places, new) = (Places::of(home.path(), "demo"), home.path().join("new"));
        for (number, before) in [("1", None), ("2", Some("1")), ("3", Some("2"))] {
            version(&new, number);
            places.put(&new).unwrap();
            assert_eq!(read(&places.current).as_deref(), Some(number));
            assert_eq!(read(&places.previous).as_deref(), before);
            assert!(!new.exists());
        }
        places.restore().unwrap();
        assert_eq!((read(&places.current).as_deref(), read(&places.previous)), (Some("2"), None));
        places.restore().unwrap();
        assert!(!places.current.exists());
        places.clear().unwrap();
    }
}

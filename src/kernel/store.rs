//! What the host keeps on disk: one folder, one host at a time, every file whole or as it was before.
//!
//! This file knows how files are kept; what is in them belongs to those who keep them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;

/// The file that says where the running host is: `{"url", "pid", "started"}`.
const HOST_FILE: &str = "host.json";
/// The file whose lock the running host holds; inside, `{"pid", "url"}` of the holder.
const LOCK_FILE: &str = "lock";

/// The home folder, locked for this host. Cloning is cheap; the lock ends with the last clone, or by [`Store::release`].
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    home: PathBuf,
    /// The locked file, so that its text can be rewritten; none once it was released.
    lock: Mutex<Option<File>>,
    /// A file that is on its way to the disk.
    behind: Mutex<Option<JoinHandle<Result<()>>>>,
}

/// Who holds the lock, as the lock file says.
#[derive(Default, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    url: Option<String>,
}

impl Store {
    /// Makes the home folder where there is none (only its owner may look inside) and takes the lock on it.
    ///
    /// # Errors
    /// `Conflict`: another host holds it; the message has that host's process id and URL. `Unavailable`: the folder
    /// or the lock cannot be made.
    pub fn open(settings: &Settings) -> Result<Self> {
        let home = settings.home.clone();
        make_folder(&home).map_err(|error| {
            let message = format!("cannot make the home folder {}: {error}; set PLUGBAY_HOME", home.display());
            Error::new(Kind::Unavailable, message)
        })?;
        let home = home.canonicalize().unwrap_or(home);
        let lock = take_lock(&home)?;
        let store = Self { shared: Arc::new(Shared { home, lock: Mutex::new(Some(lock)), behind: Mutex::default() }) };
        store.sign_lock(None)?;
        Ok(store)
    }

    /// The folder, an absolute path.
    pub fn home(&self) -> &Path {
        &self.shared.home
    }

    /// Says in `host.json` and to later comers that this host serves at `url`.
    ///
    /// # Errors
    /// `Unavailable`: the files cannot be written, or one of [`Store::write_behind`] could not.
    pub fn announce(&self, url: &str) -> Result<()> {
        let started = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let text = serde_json::json!({"url": url, "pid": std::process::id(), "started": started}).to_string();
        // It counts for as long as this process runs, and need not outlive a power cut.
        let path = self.shared.home.join(HOST_FILE);
        place(&self.shared.home, &path, text.as_bytes()).map_err(|error| unwritten(&path, error))?;
        self.shared.catch_up()?;
        self.sign_lock(Some(url))
    }

    /// Takes back what [`Store::announce`] said.
    pub fn retract(&self) {
        let _ = fs::remove_file(self.shared.home.join(HOST_FILE));
        let _ = self.sign_lock(None);
    }

    /// Lets another host have the folder, with all that was on its way to the disk. What is kept in it stays readable.
    pub fn release(&self) {
        if let Err(error) = self.shared.catch_up() {
            tracing::error!("{error}");
        }
        self.retract();
        let lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lock) = lock {
            unlock(&lock);
        }
    }

    /// The bytes of a kept file; `None` when it is not there.
    ///
    /// # Errors
    /// `Unavailable`: it is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read(&self.shared.home.join(name))
    }

    /// Replaces a kept file as a whole; only its owner may read it. When this returns, the new bytes are on the disk;
    /// when it fails or the power does, the old ones are.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.shared.home.join(name);
        replace(&self.shared.home, &path, bytes).map_err(|error| unwritten(&path, error))
    }

    /// As [`Store::write`], on a thread of its own: a start does not wait for the disk. What goes wrong is said by
    /// [`Store::announce`]; the last clone of this waits for the thread.
    ///
    /// # Errors
    /// `Unavailable`: no thread can be had.
    pub fn write_behind(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let home = self.shared.home.clone();
        let path = home.join(name);
        let write = move || replace(&home, &path, &bytes).map_err(|error| unwritten(&path, error));
        let thread = thread::Builder::new().name("plugbay-store".to_owned()).spawn(write).map_err(|error| {
            Error::new(Kind::Unavailable, format!("cannot start a thread to write {name}: {error}"))
        })?;
        let before = self.shared.behind.lock().unwrap_or_else(PoisonError::into_inner).replace(thread);
        before.map_or(Ok(()), joined)
    }

    fn sign_lock(&self, url: Option<&str>) -> Result<()> {
        let holder = Holder { pid: std::process::id(), url: url.map(str::to_owned) };
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        let mut lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Without the lock the file is another's.
        let Some(lock) = lock.as_mut() else { return Ok(()) };
        rewrite(lock, &text).map_err(|error| unwritten(&self.shared.home.join(LOCK_FILE), error))
    }
}

impl Shared {
    /// Waits for what is on its way to the disk.
    fn catch_up(&self) -> Result<()> {
        let thread = self.behind.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map_or(Ok(()), joined)
    }
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Internal, "the thread that writes a kept file has failed")))
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display())).with_source(error)
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.catch_up() {
            tracing::error!("{error}");
        }
        let lock = self.lock.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lock) = lock {
            unlock(&lock);
        }
    }
}

fn unlock(lock: &File) {
    let _ = lock.set_len(0);
    // A forked child shares the open file, and with it the lock: closing ours would not be enough.
    let _ = lock.unlock();
}

fn take_lock(home: &Path) -> Result<File> {
    let path = home.join(LOCK_FILE);
    let unusable = |error: io::Error| {
        Error::new(Kind::Unavailable, format!("cannot lock {}: {error}", path.display())).with_source(error)
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut lock = options.open(&path).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::Error(error)) => Err(unusable(error)),
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            let holder: Holder = serde_json::from_str(&text).unwrap_or_default();
            let process = if holder.pid == 0 { "another process".into() } else { format!("process {}", holder.pid) };
            let place = holder.url.as_ref().map(|url| format!(" and serves at {url}")).unwrap_or_default();
            let ask = holder.url.map(|url| format!(", ask it with --url {url}")).unwrap_or_default();
            let message = format!(
                "another host uses {}: it is {process}{place}; stop it{ask}, or set PLUGBAY_HOME to another folder",
                home.display()
            );
            Err(Error::new(Kind::Conflict, message))
        }
    }
}

/// The bytes of a file; `None` when it is not there.
///
/// # Errors
/// `Unavailable`: it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Error::new(Kind::Unavailable, message).with_source(error))
        }
    }
}

/// Makes the home folder where there is none; only its owner may look inside.
///
/// # Errors
/// What the system says.
pub fn make_folder(home: &Path) -> io::Result<()> {
    if home.is_dir() {
        return Ok(());
    }
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(home) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && home.is_dir() => Ok(()),
        outcome => outcome,
    }
}

fn rewrite(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text)
}

/// As [`place`], and when this returns the new bytes are on the disk.
///
/// # Errors
/// What the system says; the old bytes are then still there.
pub fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let old = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old?),
    };
    put(folder, path, bytes, File::sync_all)?;
    // The rename itself is on the disk only when the folder is.
    #[cfg(unix)]
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        // What is said not to be kept must not be there at the next start. More than this try cannot be done.
        let _ = match old {
            Some(old) => put(folder, path, &old, File::sync_all),
            None => fs::remove_file(path),
        };
        return Err(error);
    }
    Ok(())
}

/// Writes beside the file, then renames: a reader sees the old bytes or the new ones, never half of them. Only the owner
/// may read it.
fn place(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(folder, path, bytes, |_| Ok(()))
}

fn put(folder: &Path, path: &Path, bytes: &[u8], settle: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    // A temporary file of this crate is readable by its owner alone.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    settle(new.as_file())?;
    new.persist(path).map(drop).map_err(|error| error.error)
}

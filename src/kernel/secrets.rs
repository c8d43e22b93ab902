//! The secrets of plugins that are processes of their own: kept in one file, given out as headers of a request.
//!
//! The command line and the host change the file under one lock and replace it whole. A change has been made when every
//! process sees it: it counts from the next question. A value never appears in a log line, an error or an answer.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::store::{make_folder, replace};

/// The secrets: `{"version": 1, "plugins": {"<plugin>": {"<name>": "<value>"}}}`, names in lower case.
const FILE: &str = "secrets.json";
/// Locked by whoever changes the file.
const LOCK_FILE: &str = "secrets.lock";
/// What the header of each secret begins with.
const HEADER_PREFIX: &str = "x-plugin-secret-";
/// What all secrets of one plugin may take as headers: Node's server takes 16 KiB of headers in all.
const HEADERS_BYTES: usize = 8 << 10;
/// How long what was read counts before the file is looked at again: a look costs more than all else that is done here
/// with every request. So long a change takes in a process that is no host: when it returns, nobody trusts what was before.
const TRUST_TIME: Duration = Duration::from_millis(20);
/// Bytes of a name.
const NAME_BYTES: usize = 64;

/// The secrets of all plugins. A cheap handle: clones share what was read.
#[derive(Clone)]
pub struct Secrets {
    shared: Arc<Shared>,
}

struct Shared {
    home: PathBuf,
    side: Side,
    /// What the file held when it was last read.
    seen: Mutex<Option<Seen>>,
}

/// On which side of a question this process is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// It is the host that answers it.
    Host,
    /// A host may run beside it.
    Beside,
}

/// The headers of each plugin, by its id in lower case.
type Headers = HashMap<String, Arc<[(HeaderName, HeaderValue)]>>;

/// What a file held, and how it is known that it is still that file.
struct Seen {
    /// When the file was last looked at.
    looked: Instant,
    mark: Option<Mark>,
    headers: Result<Headers>,
}

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    #[cfg(unix)]
    inode: u64,
    bytes: u64,
    changed: Option<SystemTime>,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    plugins: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { version: 1, plugins: BTreeMap::new() }
    }
}

impl Secrets {
    /// The secrets of the home folder `home`, which need not exist yet. Nothing is read before it is asked for.
    pub fn open(home: &Path) -> Self {
        Self::on(home, Side::Host)
    }

    /// The same for a process that is not the host of that folder, beside which one may run. A change takes a moment
    /// longer: when it has been made, that host knows it.
    pub fn beside_host(home: &Path) -> Self {
        Self::on(home, Side::Beside)
    }

    fn on(home: &Path, side: Side) -> Self {
        Self { shared: Arc::new(Shared { home: home.to_owned(), side, seen: Mutex::default() }) }
    }

    /// The headers `x-plugin-secret-<name>` that a request to this plugin's server carries, as the file is now; what
    /// was put there by other means than [`Secrets::set`] is seen within [`TRUST_TIME`].
    ///
    /// # Errors
    /// `Unavailable`: the file cannot be read, or is not what [`Secrets::set`] wrote.
    pub fn headers(&self, plugin: &str) -> Result<Arc<[(HeaderName, HeaderValue)]>> {
        let looked = Instant::now();
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *seen {
            Some(known) if looked.duration_since(known.looked) < TRUST_TIME => known,
            other => {
                let mark = self.mark()?;
                match other {
                    Some(known) if known.mark == mark => {
                        known.looked = looked;
                        known
                    }
                    other => {
                        let headers = self.read().and_then(|kept| as_headers(&kept));
                        other.insert(Seen { looked, mark, headers })
                    }
                }
            }
        };
        let headers = known.headers.as_ref().map_err(Error::clone)?;
        let found = match plugin.bytes().any(|letter| letter.is_ascii_uppercase()) {
            true => headers.get(&plugin.to_ascii_lowercase()),
            false => headers.get(plugin),
        };
        Ok(found.cloned().unwrap_or_default())
    }

    /// Keeps a secret of a plugin, known or not; the same name in another case is replaced. Waits for the disk and for
    /// whoever else changes the file.
    ///
    /// One newline at the end of `value` is cut, as `echo` and editors add one.
    ///
    /// # Errors
    /// `Invalid`: the name or the value breaks its rule, or the plugin's secrets are too many. `Unavailable`: the file
    /// cannot be read or written, or is damaged; it is left as it is.
    pub fn set(&self, plugin: &str, name: &str, value: &str) -> Result<()> {
        let (plugin, name) = (plugin_key(plugin)?, name_key(name)?);
        let value = value.strip_suffix('\n').map_or(value, |cut| cut.strip_suffix('\r').unwrap_or(cut));
        check_value(&name, value)?;
        self.change(|kept| {
            let secrets = kept.plugins.entry(plugin.clone()).or_default();
            secrets.insert(name.clone(), value.to_owned());
            let bytes: usize =
                secrets.iter().map(|(name, value)| HEADER_PREFIX.len() + name.len() + value.len() + 4).sum();
            if bytes > HEADERS_BYTES {
                let message = format!(
                    "the secrets of plugin {plugin} would be {bytes} bytes of headers, and {HEADERS_BYTES} are the most: \
                     remove some, or keep a key here and the rest where the plugin can fetch it"
                );
                return Err(Error::new(Kind::Invalid, message));
            }
            Ok(())
        })
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// `Invalid`: the name breaks its rule. `NotFound`: the plugin has no such secret. `Unavailable`: as [`Self::set`].
    pub fn remove(&self, plugin: &str, name: &str) -> Result<()> {
        let (plugin, name) = (plugin_key(plugin)?, name_key(name)?);
        self.change(|kept| {
            let secrets = kept.plugins.get_mut(&plugin);
            if secrets.and_then(|secrets| secrets.remove(&name)).is_none() {
                let message =
                    format!("plugin {plugin} has no secret {name:?}: `plugbay secrets list {plugin}` names them");
                return Err(Error::new(Kind::NotFound, message));
            }
            kept.plugins.retain(|_, secrets| !secrets.is_empty());
            Ok(())
        })
    }

    /// Removes all secrets of a plugin; harmless when there are none.
    ///
    /// # Errors
    /// `Unavailable`: as [`Self::set`].
    pub fn forget(&self, plugin: &str) -> Result<()> {
        let plugin = plugin.to_ascii_lowercase();
        if !self.read()?.plugins.contains_key(&plugin) {
            return Ok(());
        }
        self.change(|kept| {
            kept.plugins.remove(&plugin);
            Ok(())
        })
    }

    /// The names of a plugin's secrets, in order.
    ///
    /// # Errors
    /// `Invalid`: it is no plugin's name. `Unavailable`: the file cannot be read or is damaged.
    pub fn list(&self, plugin: &str) -> Result<Vec<String>> {
        let plugin = plugin_key(plugin)?;
        let mut kept = self.read()?;
        Ok(kept.plugins.remove(&plugin).unwrap_or_default().into_keys().collect())
    }

    fn path(&self) -> PathBuf {
        self.shared.home.join(FILE)
    }

    fn mark(&self) -> Result<Option<Mark>> {
        match fs::metadata(self.path()) {
            Ok(found) => Ok(Some(Mark {
                #[cfg(unix)]
                inode: std::os::unix::fs::MetadataExt::ino(&found),
                bytes: found.len(),
                changed: found.modified().ok(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable("read", error)),
        }
    }

    fn read(&self) -> Result<Kept> {
        let bytes = match fs::read(self.path()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(error) => return Err(self.unusable("read", error)),
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| {
            // Where, but not what: the text around it is a secret.
            self.damaged(&format!("not the JSON that was written, at line {} column {}", error.line(), error.column()))
        })?;
        if kept.version != 1 {
            return Err(self.damaged(&format!("version {}, and this host knows version 1", kept.version)));
        }
        for (plugin, secrets) in &kept.plugins {
            if plugin_key(plugin)? != *plugin {
                return Err(self.damaged(&format!("plugin {plugin:?} is not in lower case")));
            }
            for (name, value) in secrets {
                let sound = name_key(name).is_ok_and(|key| key == *name) && check_value(name, value).is_ok();
                if !sound {
                    return Err(self.damaged(&format!("secret {name:?} of plugin {plugin:?} cannot be a header")));
                }
            }
        }
        Ok(kept)
    }

    /// Reads, changes and replaces the file while nobody else does.
    fn change(&self, change: impl FnOnce(&mut Kept) -> Result<()>) -> Result<()> {
        let home = &self.shared.home;
        make_folder(home).map_err(|error| self.unusable("write", error))?;
        let lock = open_lock(&home.join(LOCK_FILE)).map_err(|error| self.unusable("lock", error))?;
        let mut kept = self.read()?;
        change(&mut kept)?;
        let text = serde_json::to_vec_pretty(&kept)
            .map_err(|error| Error::new(Kind::Internal, "the secrets cannot be written as JSON").with_source(error))?;
        let replaced = replace(home, &self.path(), &text).and_then(|()| {
            // The disk may keep time in ticks of milliseconds and give the new file the number of an older one.
            OpenOptions::new().write(true).open(self.path())?.set_modified(SystemTime::now())
        });
        let replaced = replaced.map_err(|error| self.unusable("write", error));
        // What this process reads next must not depend on how finely the disk keeps time.
        *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(lock);
        if self.shared.side == Side::Beside {
            // Whoever looked before the change has stopped trusting that look by then.
            #[expect(clippy::disallowed_methods, reason = "it is the time itself that has to pass")]
            std::thread::sleep(TRUST_TIME);
        }
        replaced
    }

    fn unusable(&self, what: &str, error: io::Error) -> Error {
        let message = format!("cannot {what} {}: {error}", self.path().display());
        Error::new(Kind::Unavailable, message).with_source(error)
    }

    fn damaged(&self, how: &str) -> Error {
        let message = format!(
            "{} is damaged ({how}); it was left as it is: mend it, or move it away and set the secrets again",
            self.path().display()
        );
        Error::new(Kind::Unavailable, message)
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    // Ends with the file.
    file.lock()?;
    Ok(file)
}

fn as_headers(kept: &Kept) -> Result<Headers> {
    let header = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(format!("{HEADER_PREFIX}{name}")).ok()?;
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let mut headers = Headers::new();
    for (plugin, secrets) in &kept.plugins {
        let lines: Option<Arc<[_]>> = secrets.iter().map(header).collect();
        let lines = lines.ok_or_else(|| Error::new(Kind::Internal, "a secret that was checked is no header"))?;
        headers.insert(plugin.clone(), lines);
    }
    Ok(headers)
}

fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// Ids that are equal but for case are of one plugin.
fn plugin_key(plugin: &str) -> Result<String> {
    if is_word(plugin, 64) {
        return Ok(plugin.to_ascii_lowercase());
    }
    let shown: String = plugin.chars().take(80).collect();
    let message = format!(
        "plugin {shown:?} is not valid: use 1 to 64 letters, digits, \"_\" and \"-\", for example web-terminal"
    );
    Err(Error::new(Kind::Invalid, message))
}

fn name_key(name: &str) -> Result<String> {
    if is_word(name, NAME_BYTES) {
        return Ok(name.to_ascii_lowercase());
    }
    let shown: String = name.chars().take(80).collect();
    let message = format!(
        "secret name {shown:?} is not valid: use 1 to {NAME_BYTES} letters, digits, \"_\" and \"-\", for example api_key"
    );
    Err(Error::new(Kind::Invalid, message))
}

/// A header's value in ASCII, which every server reads alike; a space at an end would be lost on the way.
fn check_value(name: &str, value: &str) -> Result<()> {
    let wrong = if value.is_empty() {
        "is empty"
    } else if value.bytes().any(|c| !matches!(c, b' '..=b'~' | b'\t')) {
        "has a line break, or another character that is not plain ASCII"
    } else if value.trim_ascii().len() != value.len() {
        "begins or ends with a space"
    } else if value.len() > HEADERS_BYTES {
        "is longer than 8 KiB"
    } else {
        return Ok(());
    };
    let message = format!(
        "the value of secret {name:?} {wrong}: it is sent as a header, so give plain ASCII text, and encode other values \
         as base64"
    );
    Err(Error::new(Kind::Invalid, message))
}

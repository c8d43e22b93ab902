//! Where settings come from: defaults, then the file, then the environment, then flags.
//!
//! Every setting is one row of [`SETTINGS`] or [`LIMITS`], so that a new one is read from everywhere at once. A setting
//! that is not known or not valid is an error that names its source and the cure.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::error::{Error, Kind, Result};
use crate::base::given::Given;
use crate::base::limits::LIMITS;
use crate::base::mcp_servers::Mcp;
use crate::base::permissions::{self, Said};
use crate::base::rows::{Partial, SETTINGS};
use crate::base::settings::{AuthMode, Settings};

/// The file that is read from the working directory unless another is named.
const FILE: &str = "plugbay.toml";
/// Begins the names of the variables that set limits.
const LIMIT_PREFIX: &str = "PLUGBAY_LIMITS_";
/// The table of rules, which has a reader of its own.
const PERMISSIONS: &str = "permissions";

/// What surrounds the process: the environment and the working directory.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment variables.
    pub environment: HashMap<OsString, OsString>,
    /// The working directory.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self { environment: std::env::vars_os().collect(), folder: std::env::current_dir().unwrap_or_default() }
    }

    /// A variable; an empty one counts as not set.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }
}

impl Settings {
    /// Reads the settings of this process. `flags` is a JSON object of those given on the command line, with the names
    /// of [`SETTINGS`], `config` and `limits`; `null` means not given.
    ///
    /// # Errors
    /// `Invalid`: a setting is unknown or not valid, or the file cannot be read.
    pub fn load(flags: &Value) -> Result<Self> {
        Self::read(flags, &Surroundings::of_process())
    }

    /// Reads the settings as [`Settings::load`] does, with other surroundings.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn read(flags: &Value, surroundings: &Surroundings) -> Result<Self> {
        let flags = flags.as_object().ok_or_else(|| invalid("the flags are not a JSON object".into()))?;
        let mut partial = Partial::new(Self::defaults(default_home(surroundings)));
        if let Some(list) = surroundings.variable("PLUGINS_DIR") {
            let folders = std::env::split_paths(list).filter(|folder| !folder.as_os_str().is_empty());
            partial.settings.plugins_dirs.extend(folders.map(|folder| surroundings.folder.join(folder)));
        }
        if let Some(path) = find_file(flags, surroundings)? {
            read_file(&path, surroundings, &mut partial)?;
            partial.settings.config = Some(path);
        }
        read_environment(surroundings, &mut partial)?;
        read_flags(flags, surroundings, &mut partial)?;
        finish(partial)
    }

    /// The settings in force as one flat JSON object: every row of [`SETTINGS`] and [`LIMITS`] by its name, with
    /// `plugins_dirs` for the folders of plugins and `config` for the file that was read.
    pub fn to_json(&self) -> Value {
        let mut limits = self.limits.clone();
        let mut json: Map<String, Value> = SETTINGS.iter().map(|row| (row.name.to_owned(), (row.get)(self))).collect();
        json.extend(LIMITS.iter().map(|row| (row.name.to_owned(), (row.slot)(&mut limits).value())));
        if let Some(folders) = json.remove("plugins_dir") {
            json.insert("plugins_dirs".into(), folders);
        }
        json.insert("config".into(), self.config.as_ref().map_or(Value::Null, |path| path.to_string_lossy().into()));
        Value::Object(json)
    }
}

fn read_file(path: &Path, surroundings: &Surroundings, partial: &mut Partial) -> Result<()> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| invalid(format!("cannot read {shown}: {error}")))?;
    let table: Map<String, Value> =
        toml::from_str(&text).map_err(|error| invalid(format!("{shown} is not TOML: {}", error.to_string().trim())))?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let said = permissions::of_toml(&text, &shown.to_string()).map_err(invalid)?;
    let mode_twice = table.contains_key("mode") && said.as_ref().is_some_and(|said| said.mode.is_some());
    if mode_twice {
        return Err(invalid(format!("{shown}: the mode is given twice, as mode and in [permissions]: remove one")));
    }
    said.map_or(Ok(()), |said| take_permissions(said, &shown.to_string(), partial))?;
    let table = table.into_iter().filter(|(name, _)| name != PERMISSIONS).collect();
    read_table(&table, &shown.to_string(), &folder, surroundings, partial)
}

fn read_flags(flags: &Map<String, Value>, surroundings: &Surroundings, partial: &mut Partial) -> Result<()> {
    let given = |(name, value): &(&String, &Value)| *name != "config" && !value.is_null();
    let flags: Map<String, Value> =
        flags.iter().filter(given).map(|(name, value)| (name.clone(), value.clone())).collect();
    read_table(&flags, "command line", &surroundings.folder, surroundings, partial)
}

fn read_table(
    table: &Map<String, Value>,
    source: &str,
    folder: &Path,
    surroundings: &Surroundings,
    partial: &mut Partial,
) -> Result<()> {
    for (name, value) in table {
        let given = Given { value, folder };
        if let Some(row) = SETTINGS.iter().find(|row| row.name == name) {
            (row.set)(partial, &given).map_err(|expected| bad_value(source, name, value, &expected))?;
        } else if name == "limits" {
            read_limits(value, source, folder, partial)?;
        } else if name == PERMISSIONS {
            let said = permissions::of_json(value, source).map_err(invalid)?;
            take_permissions(said, source, partial)?;
        } else if name == "mcp" {
            let variable = |name: &str| surroundings.variable(name)?.to_str().map(str::to_owned);
            let read = Mcp::read(value, folder, &variable);
            partial.settings.mcp = read.map_err(|problem| invalid(format!("{source}: {problem}")))?;
        } else {
            let known = SETTINGS.iter().map(|row| row.name).chain(["limits", "mcp", PERMISSIONS]);
            return Err(unknown(source, "setting", name, known));
        }
    }
    Ok(())
}

/// Takes the rules of one source to those of the others; of several modes the last holds.
fn take_permissions(said: Said, source: &str, partial: &mut Partial) -> Result<()> {
    partial.settings.permissions.extend(said.permissions);
    let Some(mode) = said.mode.map(Value::from) else { return Ok(()) };
    let table = Map::from_iter([("mode".to_owned(), mode)]);
    read_table(&table, source, Path::new(""), &Surroundings::default(), partial)
}

fn read_limits(table: &Value, source: &str, folder: &Path, partial: &mut Partial) -> Result<()> {
    let Some(table) = table.as_object() else {
        return Err(bad_value(source, "limits", table, "a table like [limits] with body_bytes = 16777216"));
    };
    for (name, value) in table {
        let Some(row) = LIMITS.iter().find(|row| row.name == name) else {
            return Err(unknown(source, "limit", name, LIMITS.iter().map(|row| row.name)));
        };
        let slot = (row.slot)(&mut partial.settings.limits);
        slot.set(&Given { value, folder })
            .map_err(|expected| bad_value(source, &format!("limits.{name}"), value, &expected))?;
    }
    Ok(())
}

fn read_environment(surroundings: &Surroundings, partial: &mut Partial) -> Result<()> {
    let folder = &surroundings.folder;
    let text = |name: &str| match surroundings.variable(name).map(OsStr::to_str) {
        Some(None) => Err(invalid(format!("environment: {name} is not UTF-8: write it anew"))),
        Some(Some(text)) => Ok(Some(Value::from(text))),
        None => Ok(None),
    };
    for row in SETTINGS {
        let Some(name) = row.env else { continue };
        if let Some(value) = text(name)? {
            let set = (row.set)(partial, &Given { value: &value, folder });
            set.map_err(|expected| bad_value("environment", name, &value, &expected))?;
        }
    }
    for name in surroundings.environment.keys().filter_map(|name| name.to_str()?.strip_prefix(LIMIT_PREFIX)) {
        if !LIMITS.iter().any(|row| row.name.to_ascii_uppercase() == name) {
            let known = LIMITS.iter().map(|row| row.name);
            return Err(unknown(&format!("environment, {LIMIT_PREFIX}…"), "limit", &name.to_ascii_lowercase(), known));
        }
    }
    for row in LIMITS {
        let name = format!("{LIMIT_PREFIX}{}", row.name.to_ascii_uppercase());
        if let Some(value) = text(&name)? {
            let set = (row.slot)(&mut partial.settings.limits).set(&Given { value: &value, folder });
            set.map_err(|expected| bad_value("environment", &name, &value, &expected))?;
        }
    }
    Ok(())
}

/// The file that is to be read: named by a flag or the environment, else the usual one if it is there.
fn find_file(flags: &Map<String, Value>, surroundings: &Surroundings) -> Result<Option<PathBuf>> {
    let named = match flags.get("config") {
        None | Some(Value::Null) => surroundings.variable("PLUGBAY_CONFIG").map(PathBuf::from),
        Some(Value::String(path)) => Some(PathBuf::from(path)),
        Some(other) => return Err(bad_value("command line", "config", other, "the path of a TOML file")),
    };
    match named {
        Some(path) => Ok(Some(surroundings.folder.join(path))),
        None => Ok(Some(surroundings.folder.join(FILE)).filter(|path| path.is_file())),
    }
}

/// What must hold among several settings.
fn finish(partial: Partial) -> Result<Settings> {
    let Partial { mut settings, tls_cert, tls_key } = partial;
    settings.tls = match (tls_cert, tls_key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(invalid("tls_cert is given without tls_key: give both, or none".into())),
        (None, Some(_)) => return Err(invalid("tls_key is given without tls_cert: give both, or none".into())),
    };
    if settings.auth == AuthMode::None && !settings.host.is_loopback() {
        return Err(invalid(format!(
            "auth none lets everybody in who reaches {}: it needs a loopback address like 127.0.0.1; give --host \
             127.0.0.1, or --auth token",
            settings.host
        )));
    }
    if settings.home.as_os_str().is_empty() {
        return Err(invalid("there is no home folder for the host's files: set PLUGBAY_HOME to a folder".into()));
    }
    Ok(settings)
}

fn default_home(surroundings: &Surroundings) -> PathBuf {
    let data = surroundings.variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || surroundings.variable("HOME").map(|home| Path::new(home).join(".local/share"));
    data.or_else(home).map(|data| data.join("plugbay")).unwrap_or_default()
}

fn invalid(message: String) -> Error {
    Error::new(Kind::Invalid, message)
}

fn bad_value(source: &str, name: &str, value: &Value, expected: &str) -> Error {
    let shown: String = value.to_string().chars().take(80).collect();
    invalid(format!("{source}: {name} is {shown}: expected {expected}"))
}

fn unknown<'a>(source: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let mut known: Vec<&str> = known.collect();
    known.sort_by_key(|other| distance(name, other));
    known.truncate(3);
    let shown: String = name.chars().take(80).collect();
    invalid(format!("{source}: there is no {what} {shown:?}: the nearest are {}", known.join(", ")))
}

/// How many letters must be put in, taken out or replaced to make one of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(80).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

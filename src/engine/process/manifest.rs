//! `manifest.json`: what a plugin that is a process of its own says of itself.
//!
//! The fields are those of CloudCLI's plugins, so that those run as they are, and three of ours: `command`, `restart` and
//! `limits`. Every message names the file, the field, what came and the cure.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::error::{Error, Kind, Result};
use crate::base::manifest::Manifest;
use crate::base::name::PluginId;

/// The file that makes a folder such a plugin.
pub const FILE: &str = "manifest.json";

/// The largest manifest that is read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The fields that mean something; others are noted.
const FIELDS: [&str; 14] = [
    "name",
    "displayName",
    "version",
    "description",
    "author",
    "entry",
    "server",
    "type",
    "slot",
    "permissions",
    "icon",
    "command",
    "restart",
    "limits",
];

/// Variables that would change what a child's program is; a manifest that sets one is refused.
const FORBIDDEN: [&str; 6] = ["LD_", "DYLD_", "NODE_OPTIONS", "PYTHONPATH", "PYTHONHOME", "PATH"];

/// When a child that has ended runs again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// By itself, after a while that grows; at once when a request comes.
    #[default]
    Always,
    /// When a request comes.
    OnDemand,
    /// When the operator starts it.
    Never,
}

impl Restart {
    /// The word for it in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnDemand => "on-demand",
            Self::Never => "never",
        }
    }
}

/// What a child and all that it starts may use; nothing where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildLimits {
    /// Bytes of memory, of the whole group together.
    pub memory_bytes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Processes of the whole group.
    pub processes: Option<u64>,
}

/// A manifest, checked.
#[derive(Clone, Debug)]
pub struct ChildManifest {
    /// The folder that it lies in, an absolute path.
    pub folder: PathBuf,
    /// Its `name`.
    pub id: PluginId,
    /// The name that people see.
    pub display_name: String,
    /// Free text; `0.0.0` where it is not said.
    pub version: String,
    /// One sentence, possibly empty.
    pub description: String,
    /// Possibly empty.
    pub author: String,
    /// The ES module of its page, relative to the folder.
    pub entry: String,
    /// The picture of its page, relative to the folder, where there is one.
    pub icon: Option<String>,
    /// `module` or `react`.
    pub page_type: String,
    /// Where its page stands: `tab`.
    pub slot: String,
    /// What it says that it needs; never enforced.
    pub permissions: Vec<String>,
    /// The program of its server, relative to the folder, where it has one.
    pub server: Option<String>,
    /// The words that start the server: a program and its arguments; empty when there is no server.
    pub command: Vec<String>,
    /// When it runs again after it has ended.
    pub restart: Restart,
    /// What it may use.
    pub limits: ChildLimits,
    /// What is odd in the manifest and does no harm.
    pub notes: Vec<String>,
}

impl ChildManifest {
    /// Reads the manifest of a folder.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be read. `Malformed`: it is not JSON. `Invalid`: a field is missing or wrong.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let shown = path.display();
        let unreadable = |error: std::io::Error| {
            let message = format!("cannot read {shown}: {error}: let the host's user read it");
            Error::new(Kind::Unavailable, message)
        };
        let length = fs::metadata(&path).map_err(unreadable)?.len();
        if length > FILE_BYTES {
            let message = format!("{shown} has {length} bytes: expected at most {FILE_BYTES}; a manifest is short");
            return Err(Error::new(Kind::Invalid, message));
        }
        let text = fs::read(&path).map_err(unreadable)?;
        let folder = folder.canonicalize().map_err(unreadable)?;
        Self::parse(&folder, &path.display().to_string(), &text)
    }

    /// Reads a manifest's text; `file` is its name in messages.
    ///
    /// # Errors
    /// As [`ChildManifest::read`].
    pub fn parse(folder: &Path, file: &str, text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            Error::new(Kind::Malformed, format!("{file} is not JSON: {error}: mend it there, a comma too many perhaps"))
        })?;
        let Value::Object(fields) = value else {
            let message = format!("{file} is {}: expected a JSON object like {{\"name\": …}}", shown(&value));
            return Err(Error::new(Kind::Invalid, message));
        };
        Fields { file, fields }.read(folder)
    }

    /// What the registry has of it.
    pub fn manifest(&self) -> Manifest {
        Manifest::of_child(self.id.clone(), &self.display_name, &self.version, &self.description)
    }

    /// Whether it has a server, and so is to be started.
    pub fn has_server(&self) -> bool {
        !self.command.is_empty()
    }
}

/// The fields of one manifest, and the file's name for messages.
struct Fields<'a> {
    file: &'a str,
    fields: Map<String, Value>,
}

impl Fields<'_> {
    fn read(&self, folder: &Path) -> Result<ChildManifest> {
        let name = self.needed("name", "1 to 64 letters, digits, \"_\" and \"-\"")?;
        let id = PluginId::parse_child(name)
            .map_err(|error| Error::new(Kind::Invalid, format!("{}: field \"name\": {error}", self.file)))?;
        let entry = self.needed("entry", "the path of the page's module, for example \"dist/index.js\"")?;
        self.inside("entry", entry)?;
        let server = self.optional("server", "the path of the server's program, for example \"dist/server.js\"")?;
        if let Some(server) = server {
            self.inside("server", server)?;
        }
        self.environment()?;
        Ok(ChildManifest {
            folder: folder.to_owned(),
            id,
            display_name: self.needed("displayName", "the name that people see")?.to_owned(),
            version: self.free("version", "0.0.0"),
            description: self.free("description", ""),
            author: self.free("author", ""),
            entry: entry.to_owned(),
            icon: self.icon(),
            page_type: self.word("type", &["module", "react"])?.to_owned(),
            slot: self.word("slot", &["tab"])?.to_owned(),
            permissions: self.permissions()?,
            server: server.map(ToOwned::to_owned),
            command: self.command(server)?,
            restart: match self.word("restart", &["always", "on-demand", "never"])? {
                "on-demand" => Restart::OnDemand,
                "never" => Restart::Never,
                _ => Restart::Always,
            },
            limits: self.limits()?,
            notes: self.notes()?,
        })
    }

    /// A text that must be there.
    fn needed(&self, field: &str, expected: &str) -> Result<&str> {
        match self.fields.get(field) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            other => Err(self.wrong(field, other, expected)),
        }
    }

    /// A text that may be missing; an empty one counts as missing.
    fn optional(&self, field: &str, expected: &str) -> Result<Option<&str>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            other => Err(self.wrong(field, other, expected)),
        }
    }

    /// What is shown and never checked: other hosts take anything here.
    fn free(&self, field: &str, default: &str) -> String {
        match self.fields.get(field) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => default.to_owned(),
        }
    }

    /// One of a few words, the first where nothing is said.
    fn word<'w>(&self, field: &str, words: &[&'w str]) -> Result<&'w str> {
        let found = match self.fields.get(field) {
            None | Some(Value::Null | Value::Bool(false)) => return Ok(words[0]),
            Some(Value::String(text)) if text.is_empty() => return Ok(words[0]),
            Some(Value::String(text)) => words.iter().find(|word| *word == text),
            _ => None,
        };
        found.copied().ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            self.wrong(field, self.fields.get(field), &format!("one of {}", words.join(", ")))
        })
    }

    /// A path below the plugin's folder. Whether the file is there is seen when it is needed: a build makes it.
    fn inside(&self, field: &str, path: &str) -> Result<()> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if path.contains("..") || path.contains('\0') || !Path::new(path).components().all(plain) {
            let expected = "a relative path without \"..\", for example \"dist/server.js\"";
            return Err(self.wrong(field, self.fields.get(field), expected));
        }
        Ok(())
    }

    /// Only a path is of use as an icon; other hosts never checked it.
    fn icon(&self) -> Option<String> {
        let icon = self.fields.get("icon").and_then(Value::as_str).filter(|icon| !icon.is_empty())?;
        self.inside("icon", icon).is_ok().then(|| icon.to_owned())
    }

    fn permissions(&self) -> Result<Vec<String>> {
        let wrong = || self.wrong("permissions", self.fields.get("permissions"), "a list of texts");
        match self.fields.get("permissions") {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect();
                texts.ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The words that start the server: those of `command`, else Node and the file of `server`.
    fn command(&self, server: Option<&str>) -> Result<Vec<String>> {
        let given = self.fields.get("command");
        let expected = "a list of texts, a program and its arguments, for example [\"python3\", \"server.py\"]";
        let words: Vec<String> = match given {
            None | Some(Value::Null) => {
                return Ok(server.map(|server| vec!["node".into(), server.into()]).unwrap_or_default());
            }
            Some(Value::Array(items)) => {
                let words: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect();
                words.ok_or_else(|| self.wrong("command", given, expected))?
            }
            Some(_) => return Err(self.wrong("command", given, expected)),
        };
        let first = words.first().filter(|word| !word.is_empty());
        if first.is_none() || words.iter().any(|word| word.contains('\0')) {
            return Err(self.wrong("command", given, expected));
        }
        if let Some(word) = words.iter().find(|word| word.split_once('=').is_some_and(|(name, _)| is_forbidden(name))) {
            let message = format!(
                "{}: field \"command\" sets {word:?}: the host decides what a child's programs are; remove that word",
                self.file
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(words)
    }

    /// A child's environment is the host's to decide. What is harmless is ignored as any unknown field is.
    fn environment(&self) -> Result<()> {
        for field in ["env", "environment"] {
            let Some(Value::Object(variables)) = self.fields.get(field) else { continue };
            if let Some(name) = variables.keys().find(|name| is_forbidden(name)) {
                let message = format!(
                    "{}: field {field:?} sets {name}, which changes what programs are run: remove the field",
                    self.file
                );
                return Err(Error::new(Kind::Invalid, message));
            }
        }
        Ok(())
    }

    fn limits(&self) -> Result<ChildLimits> {
        let expected = "an object like {\"memory_bytes\": 268435456, \"open_files\": 1024, \"processes\": 32}";
        let given = self.fields.get("limits");
        let limits = match given {
            None | Some(Value::Null) => return Ok(ChildLimits::default()),
            Some(Value::Object(limits)) => limits,
            Some(_) => return Err(self.wrong("limits", given, expected)),
        };
        let mut read = ChildLimits::default();
        for (name, value) in limits {
            let number = value.as_u64().filter(|number| *number > 0);
            let field = format!("limits.{name}");
            let number = number.ok_or_else(|| self.wrong(&field, Some(value), "a whole number from 1"))?;
            match name.as_str() {
                "memory_bytes" => read.memory_bytes = Some(number),
                "open_files" => read.open_files = Some(number),
                "processes" => read.processes = Some(number),
                _ => return Err(self.wrong("limits", given, expected)),
            }
        }
        Ok(read)
    }

    fn notes(&self) -> Result<Vec<String>> {
        let unknown = self.fields.keys().filter(|field| !FIELDS.contains(&field.as_str()));
        let mut notes: Vec<String> =
            unknown.map(|field| format!("{}: field {field:?} means nothing to this host", self.file)).collect();
        let most = most_open_files();
        if let Some(files) = self.limits()?.open_files.filter(|files| *files > most) {
            notes.push(format!(
                "{}: field \"limits.open_files\" is {files}: this host may give no process more than {most}, and so many \
                 it gets; raise the host's own hard limit (`ulimit -Hn`) for more",
                self.file
            ));
        }
        Ok(notes)
    }

    fn wrong(&self, field: &str, came: Option<&Value>, expected: &str) -> Error {
        let came = came.map_or_else(|| "missing".to_owned(), shown);
        Error::new(Kind::Invalid, format!("{}: field {field:?} is {came}: expected {expected}", self.file))
    }
}

/// How many files this host may let a process have open: its own hard limit.
pub fn most_open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn is_forbidden(variable: &str) -> bool {
    FORBIDDEN.iter().any(|name| variable == *name || (name.ends_with('_') && variable.starts_with(name)))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

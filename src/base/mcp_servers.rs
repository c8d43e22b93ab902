//! The outside MCP servers that the operator mounts: `[mcp.servers.NAME]` of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::base::name::PluginId;

/// What the operator says of MCP.
#[derive(Clone, Debug, Default)]
pub struct Mcp {
    /// The servers whose tools are mounted.
    pub servers: Vec<McpServer>,
}

/// One outside server. Its tools are named `NAME.tool`.
#[derive(Clone, Debug)]
pub struct McpServer {
    /// Its name, which is the id of its plugin.
    pub name: PluginId,
    /// How it is reached.
    pub way: Way,
    /// Whether its `readOnlyHint` is believed.
    pub trust_annotations: bool,
    /// Patterns (`*`, `?`) of its own tool names that change nothing, whatever it says.
    pub read_only: Vec<String>,
    /// How a call's specifier is made, by its own tool name: `{path:path}`.
    pub specifiers: Vec<(String, String)>,
    /// How long one call may take.
    pub call_time: Duration,
}

/// How a server is reached.
#[derive(Clone)]
pub enum Way {
    /// A command of its own, which speaks on its standard input and output.
    Command {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// Variables beside the few that every child gets.
        environment: Vec<(String, String)>,
        /// Where it runs.
        folder: PathBuf,
    },
    /// An address that speaks streamable HTTP.
    Http {
        /// The address.
        url: Url,
        /// Headers of each request, such as `Authorization`.
        headers: Vec<(String, String)>,
    },
}

impl fmt::Debug for Way {
    /// Names alone: values of variables and headers are secrets, and arguments and addresses may hold some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match self {
            Self::Command { program, environment, .. } => {
                write!(f, "command {program:?} with {:?}", names(environment))
            }
            Self::Http { url, headers } => write!(f, "server at {:?} with {:?}", url.host_str(), names(headers)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    servers: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Map<String, Value>,
    cwd: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    trust_annotations: bool,
    #[serde(default)]
    read_only: Vec<String>,
    #[serde(default)]
    specifiers: BTreeMap<String, String>,
    #[serde(default = "usual_call_time")]
    timeout_s: f64,
    #[serde(default = "enabled")]
    enabled: bool,
}

fn usual_call_time() -> f64 {
    60.0
}

fn enabled() -> bool {
    true
}

impl Mcp {
    /// Reads the table `mcp`. `variable` gives a variable of the environment, which values of `env` and `headers` may
    /// name as `${NAME}`; paths are relative to `folder`.
    ///
    /// # Errors
    /// It does not fit; the text says where, and what was expected.
    pub fn read(table: &Value, folder: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let expected = |error: &dyn fmt::Display| format!("mcp is no table like [mcp.servers.files]: {error}");
        let table: Table = serde_json::from_value(table.clone()).map_err(|error| expected(&error))?;
        let mut read = Self::default();
        for (name, value) in table.servers {
            let problem = |error: &dyn fmt::Display| format!("in [mcp.servers.{name}]: {error}");
            let entry: Entry = serde_json::from_value(value).map_err(|error| problem(&error))?;
            if !entry.enabled {
                continue;
            }
            let id = PluginId::parse(&name).map_err(|error| problem(&error))?;
            read.servers.push(entry.server(id, folder, variable).map_err(|error| problem(&error))?);
        }
        Ok(read)
    }
}

impl Entry {
    fn server(
        self,
        name: PluginId,
        folder: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<McpServer, String> {
        let way = match (self.command, self.url) {
            (Some(program), None) => Way::Command {
                program,
                arguments: self.args,
                environment: texts(self.env, "env", variable)?,
                folder: folder.join(self.cwd.unwrap_or_default()),
            },
            (None, Some(url)) => {
                let read = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                let url = read.ok_or_else(|| format!("url {url:?} is no address like http://127.0.0.1:9000/mcp"))?;
                Way::Http { url, headers: texts(self.headers, "headers", variable)? }
            }
            (Some(_), Some(_)) => return Err("it has both command and url: give one of them".into()),
            (None, None) => return Err("it has neither command nor url: give one of them".into()),
        };
        let call_time = Duration::try_from_secs_f64(self.timeout_s)
            .ok()
            .filter(|time| !time.is_zero())
            .ok_or_else(|| format!("timeout_s = {} is no time in seconds", self.timeout_s))?;
        let (trust_annotations, read_only) = (self.trust_annotations, self.read_only);
        let specifiers = self.specifiers.into_iter().collect();
        Ok(McpServer { name, way, trust_annotations, read_only, specifiers, call_time })
    }
}

/// A table of texts, with the variables of the environment that they name put in.
fn texts(
    table: Map<String, Value>,
    what: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, String> {
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => {
            Ok((name.clone(), expanded(&text, variable).map_err(|error| format!("{what}.{name}: {error}"))?))
        }
        other => Err(format!("{what}.{name} is {other}, not a text: put it into quotes")),
    };
    table.into_iter().map(text).collect()
}

/// `Bearer ${TOKEN}` with the variable's value in its place.
fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let Some((before, rest)) = text.split_once("${") else { return Ok(text.to_owned()) };
    let (name, after) = rest.split_once('}').ok_or_else(|| format!("{text:?} has a ${{ without its }}"))?;
    let value = variable(name).ok_or_else(|| format!("the environment has no variable {name}: set it"))?;
    Ok(format!("{before}{value}{}", expanded(after, variable)?))
}

//! Every setting and every limit as a row: its name, where it can be given, what it does, how it is read and shown.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::base::authority::Authority;
use crate::base::settings::{AuthMode, Limits, LogFormat, Mode, Settings, SourceKind};

/// Settings on the way to be complete.
pub struct Partial {
    /// What is complete.
    pub settings: Settings,
    /// Half of `tls`.
    pub tls_cert: Option<PathBuf>,
    /// The other half.
    pub tls_key: Option<PathBuf>,
}

impl Partial {
    /// Nothing given yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, tls_cert: None, tls_key: None }
    }
}

/// A value as a source gave it.
pub struct Given<'a> {
    /// A JSON value; from the environment always a text.
    pub value: &'a Value,
    /// What relative paths are relative to.
    pub folder: &'a Path,
}

/// One setting.
pub struct Setting {
    /// Its name in the TOML file and in the JSON of flags and settings.
    pub name: &'static str,
    /// Its flag on the command line.
    pub flag: Option<&'static str>,
    /// Its environment variable.
    pub env: Option<&'static str>,
    /// What it does, in one line.
    pub help: &'static str,
    /// Puts a given value in its place. The error says what was expected.
    pub set: fn(&mut Partial, &Given<'_>) -> Result<(), String>,
    /// The value in force.
    pub get: fn(&Settings) -> Value,
}

/// One limit.
pub struct Limit {
    /// Its name, with its unit, in the table `limits`; its environment variable is `PLUGBAY_LIMITS_` and the name.
    pub name: &'static str,
    /// What it limits, in one line.
    pub help: &'static str,
    /// Its place.
    pub slot: for<'a> fn(&'a mut Limits) -> Slot<'a>,
}

/// The place of a limit.
pub enum Slot<'a> {
    /// A number of bytes or of things, at least one.
    Number(&'a mut usize),
    /// The same, or 0 for no limit at all.
    Perhaps(&'a mut Option<usize>),
    /// A time, given in seconds.
    Time(&'a mut Duration),
}

impl Slot<'_> {
    /// Puts a given value in its place.
    ///
    /// # Errors
    /// It does not fit; the text says what was expected.
    pub fn set(self, given: &Given<'_>) -> Result<(), String> {
        match self {
            Self::Number(place) => {
                *place = given.number(1, usize::MAX as u64, "a whole number from 1, for example 1048576")? as usize;
            }
            Self::Perhaps(place) => {
                let number = given.number(0, usize::MAX as u64, "a whole number, 0 for no limit")? as usize;
                *place = (number > 0).then_some(number);
            }
            Self::Time(place) => *place = given.seconds()?,
        }
        Ok(())
    }

    /// The value in force.
    pub fn value(&self) -> Value {
        match self {
            Self::Number(place) => Value::from(**place),
            Self::Perhaps(place) => Value::from(place.unwrap_or(0)),
            Self::Time(place) => Value::from(place.as_secs_f64()),
        }
    }
}

/// Every setting but `config`, which names the file, and the limits.
pub const SETTINGS: [Setting; 22] = [
    Setting {
        name: "host",
        flag: Some("--host"),
        env: Some("PLUGBAY_HOST"),
        help: "the address to listen on (127.0.0.1)",
        set: |to, given| given.address().map(|address| to.settings.host = address),
        get: |from| from.host.to_string().into(),
    },
    Setting {
        name: "port",
        flag: Some("--port"),
        env: Some("PLUGBAY_PORT"),
        help: "the port to listen on; 0 picks one (8000)",
        set: |to, given| {
            let port = given.number(0, 65_535, "a port from 0 to 65535, for example 8000")?;
            to.settings.port = port as u16;
            Ok(())
        },
        get: |from| from.port.into(),
    },
    Setting {
        name: "plugins_dir",
        flag: Some("--plugins-dir"),
        env: None,
        help: "a folder of plugins beside those of PLUGINS_DIR; can be given more than once",
        set: |to, given| given.paths().map(|folders| to.settings.plugins_dirs.extend(folders)),
        get: |from| from.plugins_dirs.iter().map(|path| shown(path)).collect(),
    },
    Setting {
        name: "auth",
        flag: Some("--auth"),
        env: Some("PLUGBAY_AUTH"),
        help: "who may ask without a credential: token (nobody) or none (everybody on this machine) (token)",
        set: |to, given| {
            given.word(&[("token", AuthMode::Token), ("none", AuthMode::None)]).map(|auth| to.settings.auth = auth)
        },
        get: |from| if from.auth == AuthMode::Token { "token" } else { "none" }.into(),
    },
    Setting {
        name: "mode",
        flag: Some("--mode"),
        env: Some("PLUGBAY_MODE"),
        help: "what becomes of tools with side effects: default, plan or autonomous (default)",
        set: |to, given| given.word(&MODES).map(|mode| to.settings.mode = mode),
        get: |from| MODES.iter().find(|(_, mode)| *mode == from.mode).map(|(word, _)| *word).into(),
    },
    Setting {
        name: "ready_json",
        flag: Some("--ready-json"),
        env: Some("PLUGBAY_READY_JSON"),
        help: "write {\"ready\": true, \"port\": N} to standard output once the host serves (off)",
        set: |to, given| given.truth().map(|on| to.settings.ready_json = on),
        get: |from| from.ready_json.into(),
    },
    Setting {
        name: "log_format",
        flag: Some("--log-format"),
        env: Some("PLUGBAY_LOG_FORMAT"),
        help: "how log lines are written: human or json (human)",
        set: |to, given| {
            let words = [("human", LogFormat::Human), ("json", LogFormat::Json)];
            given.word(&words).map(|format| to.settings.log_format = format)
        },
        get: |from| if from.log_format == LogFormat::Human { "human" } else { "json" }.into(),
    },
    Setting {
        name: "log_level",
        flag: Some("--log-level"),
        env: Some("PLUGBAY_LOG_LEVEL"),
        help: "which log lines are written: error, warn, info, debug, trace, or a filter like plugbay=debug,warn (info)",
        set: |to, given| given.text("a level like info").map(|level| to.settings.log_level = level.to_owned()),
        get: |from| from.log_level.clone().into(),
    },
    Setting {
        name: "access_log",
        flag: Some("--access-log"),
        env: Some("PLUGBAY_ACCESS_LOG"),
        help: "write a log line for each request: on or off (on)",
        set: |to, given| given.truth().map(|on| to.settings.access_log = on),
        get: |from| from.access_log.into(),
    },
    Setting {
        name: "workers",
        flag: Some("--workers"),
        env: Some("PLUGBAY_WORKERS"),
        help: "how many threads the core runs on (as many as there are usable cores)",
        set: |to, given| {
            to.settings.workers = given.number(1, 1024, "a number of threads from 1 to 1024")? as usize;
            Ok(())
        },
        get: |from| from.workers.into(),
    },
    Setting {
        name: "public_url",
        flag: Some("--public-url"),
        env: Some("PLUGBAY_PUBLIC_URL"),
        help: "the address that clients use when it is not the one listened on",
        set: |to, given| given.origin().map(|url| to.settings.public_url = Some(url)),
        get: |from| from.public_url.as_ref().map(url_text).into(),
    },
    Setting {
        name: "allow_host",
        flag: Some("--allow-host"),
        env: Some("PLUGBAY_ALLOW_HOST"),
        help: "a further name that a Host header may have, as NAME (any port) or NAME:PORT; can be given more than once",
        set: |to, given| {
            let hosts = given.list("a host name, for example plugbay.example.com")?;
            match hosts.iter().find(|host| Authority::parse(host.as_bytes()).is_none()) {
                Some(bad) => Err(format!("host names like plugbay.example.com, not {bad:?}")),
                None => {
                    to.settings.allow_hosts = hosts;
                    Ok(())
                }
            }
        },
        get: |from| from.allow_hosts.clone().into(),
    },
    Setting {
        name: "allow_origin",
        flag: Some("--allow-origin"),
        env: Some("PLUGBAY_ALLOW_ORIGIN"),
        help: "a further origin whose pages may ask, as https://app.example.com; can be given more than once",
        set: |to, given| {
            let origins = given.list(ORIGIN)?;
            let origins: Option<Vec<Url>> = origins.iter().map(|text| origin(text)).collect();
            origins.map(|origins| to.settings.allow_origins = origins).ok_or_else(|| ORIGIN.to_owned())
        },
        get: |from| from.allow_origins.iter().map(url_text).collect(),
    },
    Setting {
        name: "trust_proxy",
        flag: Some("--trust-proxy"),
        env: Some("PLUGBAY_TRUST_PROXY"),
        help: "the addresses of proxies whose Forwarded and X-Forwarded-* headers are believed, as 10.0.0.0/8",
        set: |to, given| {
            let expected = "an address or a range of addresses, for example 10.0.0.0/8";
            let ranges: Option<Vec<_>> = given.list(expected)?.iter().map(|text| range(text)).collect();
            ranges.map(|ranges| to.settings.trust_proxies = ranges).ok_or_else(|| expected.to_owned())
        },
        get: |from| from.trust_proxies.iter().map(ToString::to_string).collect(),
    },
    Setting {
        name: "tls_cert",
        flag: Some("--tls-cert"),
        env: Some("PLUGBAY_TLS_CERT"),
        help: "a file with the certificate chain (PEM); together with tls_key",
        set: |to, given| given.path("the path of a PEM file").map(|path| to.tls_cert = Some(path)),
        get: |from| from.tls.as_ref().map(|(certificate, _)| shown(certificate)).into(),
    },
    Setting {
        name: "tls_key",
        flag: Some("--tls-key"),
        env: Some("PLUGBAY_TLS_KEY"),
        help: "a file with the private key (PEM); together with tls_cert",
        set: |to, given| given.path("the path of a PEM file").map(|path| to.tls_key = Some(path)),
        get: |from| from.tls.as_ref().map(|(_, key)| shown(key)).into(),
    },
    Setting {
        name: "fast_routes",
        flag: Some("--fast-routes"),
        env: Some("PLUGBAY_FAST_ROUTES"),
        help: "let the core answer FastAPI routes where it can: on or off (on)",
        set: |to, given| given.truth().map(|on| to.settings.fast_routes = on),
        get: |from| from.fast_routes.into(),
    },
    Setting {
        name: "handle_signals",
        flag: None,
        env: None,
        help: "whether SIGTERM and SIGINT stop the host; off where another program embeds it (on)",
        set: |to, given| given.truth().map(|on| to.settings.handle_signals = on),
        get: |from| from.handle_signals.into(),
    },
    Setting {
        name: "install_sources",
        flag: None,
        env: Some("PLUGBAY_INSTALL_SOURCES"),
        help: "what else plugins may be installed from: file, http, private (a list)",
        set: |to, given| {
            let kind = |word: &String| SourceKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            let kinds: Option<Vec<_>> = given.list("file, http or private")?.iter().map(kind).collect();
            kinds.map(|kinds| to.settings.install_sources = kinds).ok_or_else(|| "file, http or private".to_owned())
        },
        get: |from| from.install_sources.iter().map(|kind| kind.as_str()).collect(),
    },
    Setting {
        name: "install_env",
        flag: None,
        env: Some("PLUGBAY_INSTALL_ENV"),
        help: "names of variables that git, npm and builds may see, for example HTTPS_PROXY (a list)",
        set: |to, given| given.list("the name of a variable").map(|names| to.settings.install_env = names),
        get: |from| from.install_env.clone().into(),
    },
    Setting {
        name: "children",
        flag: None,
        env: None,
        help: "whether child processes start with the host; off where a command loads plugins for one call (on)",
        set: |to, given| given.truth().map(|on| to.settings.children = on),
        get: |from| from.children.into(),
    },
    Setting {
        name: "home",
        flag: None,
        env: Some("PLUGBAY_HOME"),
        help: "the folder of everything that the host keeps ($XDG_DATA_HOME/plugbay, else ~/.local/share/plugbay)",
        set: |to, given| given.path("the path of a folder").map(|path| to.settings.home = path),
        get: |from| shown(&from.home).into(),
    },
];

const MODES: [(&str, Mode); 3] = [("default", Mode::Default), ("plan", Mode::Plan), ("autonomous", Mode::Autonomous)];
const ORIGIN: &str = "a URL without a path, for example https://app.example.com";

/// Every limit.
pub const LIMITS: &[Limit] = &[
    Limit { name: "body_bytes", help: "bytes of a request's body", slot: |to| Slot::Number(&mut to.body_bytes) },
    Limit {
        name: "proxy_body_bytes",
        help: "bytes of a request's body to a plugin's server; 0 is no limit",
        slot: |to| Slot::Perhaps(&mut to.proxy_body_bytes),
    },
    Limit { name: "head_bytes", help: "bytes of a request's head", slot: |to| Slot::Number(&mut to.head_bytes) },
    Limit {
        name: "head_time_s",
        help: "from the first byte of a request's head to its end",
        slot: |to| Slot::Time(&mut to.head_time),
    },
    Limit {
        name: "idle_time_s",
        help: "a kept-alive connection without a request",
        slot: |to| Slot::Time(&mut to.idle_time),
    },
    Limit {
        name: "silent_time_s",
        help: "a new connection that says nothing",
        slot: |to| Slot::Time(&mut to.silent_time),
    },
    Limit {
        name: "stall_time_s",
        help: "a body of which no byte comes, an answer of which no byte can be written",
        slot: |to| Slot::Time(&mut to.stall_time),
    },
    Limit { name: "connections", help: "open connections", slot: |to| Slot::Number(&mut to.connections) },
    Limit { name: "call_time_s", help: "from a question to its answer", slot: |to| Slot::Time(&mut to.call_time) },
    Limit { name: "frame_bytes", help: "bytes of a frame on /ws", slot: |to| Slot::Number(&mut to.frame_bytes) },
    Limit {
        name: "outbox_frames",
        help: "frames that wait for a /ws client",
        slot: |to| Slot::Number(&mut to.outbox_frames),
    },
    Limit {
        name: "outbox_bytes",
        help: "bytes that wait for a /ws client",
        slot: |to| Slot::Number(&mut to.outbox_bytes),
    },
    Limit {
        name: "mailbox_messages",
        help: "messages of one connection that wait for one channel",
        slot: |to| Slot::Number(&mut to.mailbox_messages),
    },
    Limit {
        name: "bridge_questions",
        help: "questions that wait for Python",
        slot: |to| Slot::Number(&mut to.bridge_questions),
    },
    Limit {
        name: "worker_threads",
        help: "Python threads for def handlers",
        slot: |to| Slot::Number(&mut to.worker_threads),
    },
    Limit {
        name: "hook_time_s",
        help: "import, setup and each hook of a plugin",
        slot: |to| Slot::Time(&mut to.hook_time),
    },
    Limit { name: "install_time_s", help: "each step of an installation", slot: |to| Slot::Time(&mut to.install_time) },
    Limit {
        name: "ready_time_s",
        help: "from the start of a child process to its ready line",
        slot: |to| Slot::Time(&mut to.ready_time),
    },
    Limit {
        name: "stop_grace_s",
        help: "from TERM to KILL when a child process is stopped",
        slot: |to| Slot::Time(&mut to.stop_grace),
    },
    Limit { name: "drain_time_s", help: "from the stop signal to the end", slot: |to| Slot::Time(&mut to.drain_time) },
];

impl Given<'_> {
    fn text(&self, expected: &str) -> Result<&str, String> {
        self.value.as_str().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| expected.to_owned())
    }

    /// A list, or a text with commas.
    fn list(&self, expected: &str) -> Result<Vec<String>, String> {
        let parts: Option<Vec<&str>> = match self.value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(text.split(',').collect()),
            _ => None,
        };
        let parts = parts.ok_or_else(|| format!("a list of texts, each {expected}"))?;
        Ok(parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }

    fn path(&self, expected: &str) -> Result<PathBuf, String> {
        self.text(expected).map(|text| self.folder.join(text))
    }

    fn paths(&self) -> Result<Vec<PathBuf>, String> {
        let expected = "the path of a folder, or a list of them";
        let paths: Option<Vec<&str>> = match self.value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(vec![text]),
            _ => None,
        };
        let paths = paths.ok_or_else(|| expected.to_owned())?;
        Ok(paths.into_iter().map(|path| self.folder.join(path)).collect())
    }

    fn number(&self, least: u64, most: u64, expected: &str) -> Result<u64, String> {
        let number = match self.value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| expected.to_owned())
    }

    /// Seconds, perhaps with a fraction; more than none, at most a year.
    fn seconds(&self) -> Result<Duration, String> {
        let seconds = match self.value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        seconds
            .filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 31_536_000.0)
            .map(Duration::from_secs_f64)
            .ok_or_else(|| "a number of seconds above 0, at most a year, for example 10 or 0.5".to_owned())
    }

    fn truth(&self) -> Result<bool, String> {
        match self.value {
            Value::Bool(truth) => Ok(*truth),
            Value::String(text) => match text.trim() {
                "on" | "true" | "1" | "yes" => Ok(true),
                "off" | "false" | "0" | "no" => Ok(false),
                _ => Err("on or off".into()),
            },
            _ => Err("on or off, or true or false".into()),
        }
    }

    fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let found = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text.trim()));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("one of {}", words.join(", "))
        })
    }

    fn address(&self) -> Result<IpAddr, String> {
        let expected = "an address to listen on, for example 127.0.0.1 or ::1";
        match self.text(expected)? {
            "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
            text => text.trim_matches(['[', ']']).parse().map_err(|_| expected.to_owned()),
        }
    }

    fn origin(&self) -> Result<Url, String> {
        origin(self.text(ORIGIN)?).ok_or_else(|| ORIGIN.to_owned())
    }
}

fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (bare && url.host().is_some()).then_some(url)
}

fn range(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn url_text(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

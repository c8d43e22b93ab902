//! Every setting as a row: its name, where it can be given, what it does, how it is read and shown.

use std::path::PathBuf;

use serde_json::Value;
use url::Url;

use crate::base::authority::Authority;
use crate::base::given::{Given, origin, range, shown, url_text, without_password};
use crate::base::settings::{AuthMode, LogFormat, Mode, Settings, SourceKind};

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

/// Every setting but `config`, which names the file, and the limits.
pub const SETTINGS: &[Setting] = &[
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
        set: |to, given| given.origin(ORIGIN).map(|url| to.settings.public_url = Some(url)),
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
            let words = given.list("a list of file, http, private")?;
            let kind = |word: &String| SourceKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            let kinds: Option<Vec<_>> = words.iter().map(kind).collect();
            to.settings.install_sources = kinds.ok_or("file, http or private")?;
            Ok(())
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
    Setting {
        name: "database",
        flag: Some("--database"),
        env: Some("PLUGBAY_DATABASE"),
        help: "a PostgreSQL server that keeps what is recorded, instead of plugbay.db in the home folder",
        set: |to, given| {
            let url = Url::parse(given.text(DATABASE)?).ok();
            let url = url.filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
            url.map(|url| to.settings.database = Some(url)).ok_or_else(|| DATABASE.to_owned())
        },
        get: |from| from.database.as_ref().map(without_password).into(),
    },
    Setting {
        name: "audit_arguments",
        flag: None,
        env: Some("PLUGBAY_AUDIT_ARGUMENTS"),
        help: "keep the arguments of calls, without those that their schema marks as secret: on or off (on)",
        set: |to, given| given.truth().map(|on| to.settings.audit.arguments = on),
        get: |from| from.audit.arguments.into(),
    },
    Setting {
        name: "audit_days",
        flag: None,
        env: Some("PLUGBAY_AUDIT_DAYS"),
        help: "how many days the record of a call is kept (90)",
        set: |to, given| {
            let days = given.number(1, 36_500, "a whole number of days from 1 to 36500, for example 90")?;
            to.settings.audit.days = days as u16;
            Ok(())
        },
        get: |from| from.audit.days.into(),
    },
    Setting {
        name: "audit_mib",
        flag: None,
        env: Some("PLUGBAY_AUDIT_MIB"),
        help: "how many MiB the records of calls may take; the oldest are let go (1024)",
        set: |to, given| {
            let expected = "a whole number of MiB from 1, for example 1024";
            to.settings.audit.mib = given.number(1, u64::from(u32::MAX), expected)? as u32;
            Ok(())
        },
        get: |from| from.audit.mib.into(),
    },
];

const MODES: [(&str, Mode); 3] = [("default", Mode::Default), ("plan", Mode::Plan), ("autonomous", Mode::Autonomous)];
const DATABASE: &str = "the URL of a PostgreSQL server, for example postgres://user:password@127.0.0.1/plugbay";
const ORIGIN: &str = "a URL without a path, for example https://app.example.com";

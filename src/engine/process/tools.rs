//! The programs that an installation runs, and the little of the host's environment that they see.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::Result;
use crate::base::settings::Settings;
use crate::engine::process::command::{Step, find_program};

/// What every step sees where the host has it: who and where the user is, how text is written, whom to trust.
const USUAL: [&str; 16] = [
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SHELL",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "XDG_CACHE_HOME",
];

/// Variables that would let git run or read what the host did not ask for, whatever the operator lists.
const GIT: [(&str, &str); 9] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ASKPASS", "true"),
    ("SSH_ASKPASS", "true"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
];

/// Finds programs and makes steps of them.
pub struct Tools {
    /// `PATH` without folders that are not absolute.
    path: OsString,
    usual: Vec<(OsString, OsString)>,
    limit: Duration,
}

impl Tools {
    /// With the environment that this process has now.
    pub fn new(settings: &Settings) -> Self {
        let folders = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = env::split_paths(&folders).filter(|folder| folder.is_absolute()).collect();
        let names: BTreeSet<&str> = USUAL
            .into_iter()
            .chain(settings.install_env.iter().map(String::as_str))
            .filter(|name| *name != "PATH")
            .collect();
        let usual = names.into_iter().filter_map(|name| Some((name.into(), env::var_os(name)?))).collect();
        Self { path: env::join_paths(folders).unwrap_or_default(), usual, limit: settings.limits.install_time }
    }

    /// A step that runs git in `folder`, without prompts, hooks and anybody's configuration. It speaks `protocols` alone.
    ///
    /// # Errors
    /// `Unavailable`: git is not installed.
    pub fn git(&self, folder: &Path, protocols: &str, arguments: Vec<String>) -> Result<Step> {
        let program = find_program("git", &self.path)?;
        let quiet = ["-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "core.fsmonitor=false"];
        let name = arguments.iter().find(|word| !word.starts_with('-') && !word.contains('='));
        let name = format!("git {}", name.map(String::as_str).unwrap_or_default());
        let mut environment = self.environment(&self.path);
        environment.retain(|(name, _)| !GIT.iter().any(|(known, _)| name == *known));
        environment.extend(GIT.iter().map(|(name, value)| (name.into(), value.into())));
        environment.push(("GIT_ALLOW_PROTOCOL".into(), protocols.into()));
        // An agent's keys, for ssh alone.
        if protocols == "ssh" {
            environment.extend(env::var_os("SSH_AUTH_SOCK").map(|socket| ("SSH_AUTH_SOCK".into(), socket)));
        }
        let arguments = quiet.into_iter().map(String::from).chain(arguments).collect();
        Ok(Step { name, program, arguments, folder: folder.to_owned(), environment, limit: self.limit })
    }

    /// A step that runs npm in `folder`, with the Node that stands first in `PATH`.
    ///
    /// # Errors
    /// `Unavailable`: Node or npm is not installed.
    pub fn npm(&self, folder: &Path, arguments: &[&str]) -> Result<Step> {
        let node = find_program("node", &self.path)?;
        let program = find_program("npm", &self.path)?;
        let name = format!("npm {}", arguments.iter().take(2).copied().collect::<Vec<_>>().join(" "));
        let before = node.parent().into_iter().map(Path::to_owned);
        let path = env::join_paths(before.chain(env::split_paths(&self.path))).unwrap_or_else(|_| self.path.clone());
        let mut environment = self.environment(&path);
        let is_given = |name: &str| environment.iter().any(|(known, _)| known == name);
        if let Some(headers) = headers_of(&node).filter(|_| !is_given("npm_config_nodedir")) {
            // Node's headers lie beside it: nothing has to be fetched to build against them.
            environment.push(("npm_config_nodedir".into(), headers.into()));
        }
        environment.push(("npm_config_update_notifier".into(), "false".into()));
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Ok(Step { name, program, arguments, folder: folder.to_owned(), environment, limit: self.limit })
    }

    fn environment(&self, path: &OsStr) -> Vec<(OsString, OsString)> {
        let mut environment = self.usual.clone();
        environment.push(("PATH".into(), path.to_owned()));
        environment
    }
}

/// The folder whose `include/node` has the headers of this Node.
fn headers_of(node: &Path) -> Option<PathBuf> {
    let real = node.canonicalize().ok()?;
    let candidates = [node.parent()?.parent()?.to_owned(), real.parent()?.parent()?.to_owned()];
    candidates.into_iter().find(|folder| folder.join("include/node/node.h").is_file())
}

//! `package.json` and what npm put beside it: scripts that would run, and native modules that nobody has built.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::error::{Error, Kind, Result};

/// Makes a folder an npm package.
pub const FILE: &str = "package.json";
/// What npm has resolved, where it is kept.
const LOCK_FILE: &str = "package-lock.json";
/// The largest of these files that is read, in bytes.
const FILE_BYTES: u64 = 32 << 20;
/// How deep packages may lie in one another.
const DEPTH: usize = 12;

/// What an installation has to know of a `package.json`.
#[derive(Debug, Default)]
pub struct Package {
    /// Its scripts, by name.
    pub scripts: BTreeMap<String, String>,
    /// How many packages it asks for.
    pub dependencies: usize,
    /// Packages with scripts of their own to install them, as far as a lock file says.
    pub with_install_scripts: BTreeSet<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    scripts: BTreeMap<String, serde_json::Value>,
    dependencies: BTreeMap<String, serde_json::Value>,
    dev_dependencies: BTreeMap<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Locked {
    has_install_script: bool,
}

/// A package with native code.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NativeModule {
    /// Its name, as npm knows it.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
}

impl Package {
    /// Reads the `package.json` of a folder; `None` when there is none.
    ///
    /// # Errors
    /// `Malformed`: it is not what npm would read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(written) = read::<Written>(&folder.join(FILE))? else { return Ok(None) };
        let lock = read::<Lock>(&folder.join(LOCK_FILE))?.unwrap_or_default();
        let name = |path: &str| path.rsplit_once("node_modules/").map(|(_, name)| name.to_owned());
        let scripts = written.scripts.into_iter();
        Ok(Some(Self {
            scripts: scripts.filter_map(|(name, text)| Some((name, text.as_str()?.to_owned()))).collect(),
            dependencies: written.dependencies.len() + written.dev_dependencies.len(),
            with_install_scripts: lock
                .packages
                .iter()
                .filter(|(_, locked)| locked.has_install_script)
                .filter_map(|(path, _)| name(path))
                .collect(),
        }))
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wrong = |why: String| Error::new(Kind::Malformed, format!("{name} of the plugin cannot be used: {why}"));
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= FILE_BYTES => {}
        Ok(_) => return Err(wrong("it is no file of a usual size".into())),
        Err(_) => return Ok(None),
    }
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
}

/// The native modules below a plugin's folder that are not built for this machine, its own code included, by name.
///
/// A package is native when it has a `binding.gyp`; it is built when it has a `.node` file of its own build or one that
/// was made for this system.
pub fn unbuilt_modules(folder: &Path) -> Vec<NativeModule> {
    let mut found = Vec::new();
    look(folder, String::new(), &mut found, DEPTH);
    found.sort();
    found
}

fn look(folder: &Path, name: String, found: &mut Vec<NativeModule>, depth: usize) {
    if depth == 0 {
        return;
    }
    if folder.join("binding.gyp").is_file() && !is_built(folder) {
        found.push(NativeModule { name, folder: folder.to_owned() });
    }
    for (name, package) in packages(&folder.join("node_modules")) {
        // A linked package lies elsewhere in the plugin, and may link back.
        look(&package, name, found, depth - 1);
    }
}

/// The packages of one `node_modules`, those of scopes included, by name.
fn packages(modules: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for (name, folder) in folders(modules) {
        if name.starts_with('@') {
            found.extend(folders(&folder).into_iter().map(|(inner, folder)| (format!("{name}/{inner}"), folder)));
        } else if !name.starts_with('.') {
            found.push((name, folder));
        }
    }
    found
}

fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

fn is_built(folder: &Path) -> bool {
    let (system, processor) = (system(), processor());
    let ready_made = folders(&folder.join("prebuilds")).into_iter().filter(|(name, _)| {
        let words: Vec<&str> = name.split(['-', '+', '_']).collect();
        words.contains(&system) && words.contains(&processor)
    });
    let own = [folder.join("build/Release"), folder.join("build/Debug")];
    own.into_iter().chain(ready_made.map(|(_, folder)| folder)).any(|folder| has_library(&folder))
}

fn has_library(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|ending| ending == "node"))
}

/// What Node calls this system.
fn system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// What Node calls this processor.
fn processor() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "x86" => "ia32",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, file: &str) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn a_native_module_counts_until_it_is_built_for_this_machine() {
        let home = tempfile::tempdir().unwrap();
        let modules = home.path().join("node_modules");
        for name in ["plain", "pty", "@scope/deep", "pty/node_modules/inner", "ready", "built"] {
            put(&modules, &format!("{name}/package.json"));
        }
        for name in ["pty", "@scope/deep", "pty/node_modules/inner", "ready", "built"] {
            put(&modules, &format!("{name}/binding.gyp"));
        }
        put(&modules, "pty/prebuilds/win32-arm64/pty.node");
        put(&modules, &format!("ready/prebuilds/{}-{}/ready.node", system(), processor()));
        put(&modules, "built/build/Release/built.node");
        let names: Vec<String> = unbuilt_modules(home.path()).into_iter().map(|module| module.name).collect();
        assert_eq!(names, ["@scope/deep", "inner", "pty"]);
    }

    #[test]
    fn a_circle_of_links_ends() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("node_modules")).unwrap();
        std::os::unix::fs::symlink(home.path(), home.path().join("node_modules/self")).unwrap();
        assert!(unbuilt_modules(home.path()).is_empty());
    }

    #[test]
    fn what_a_lock_file_says_of_install_scripts_is_shown() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), r#"{"scripts": {"build": "tsc"}, "dependencies": {"node-pty": "1"}}"#)
            .unwrap();
        let lock = r#"{"packages": {"": {}, "node_modules/node-pty": {"hasInstallScript": true}}}"#;
        fs::write(home.path().join(LOCK_FILE), lock).unwrap();
        let package = Package::read(home.path()).unwrap().unwrap();
        assert_eq!(package.with_install_scripts, BTreeSet::from(["node-pty".to_owned()]));
        assert_eq!(package.scripts["build"], "tsc");
        fs::write(home.path().join(FILE), "[").unwrap();
        assert_eq!(Package::read(home.path()).unwrap_err().kind(), Kind::Malformed);
    }
}

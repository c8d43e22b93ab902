//! From fetched files to a plugin that can run: npm's packages without their scripts, the native modules that the operator
//! allows, the plugin's own build. Plugin code runs here for the first time.

use std::path::Path;

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::command::Watch;
use crate::engine::process::package::{FILE, Package, unbuilt_modules};
use crate::engine::process::staging::blocking;
use crate::engine::process::tools::Tools;

/// Installs and builds what lies in `folder`. Of native modules those named in `allowed` are built.
///
/// # Errors
/// `Denied`: a native module is not built and not allowed; the message has its name and the cure. `Upstream`, `Timeout`,
/// `Unavailable`: as of the commands. `Malformed`: a bad `package.json`.
pub async fn prepare(folder: &Path, allowed: &[String], tools: &Tools, watch: Watch<'_>) -> Result<()> {
    let Some(package) = Package::read(folder)? else {
        watch.log.say(&format!("there is no {FILE}: nothing to install or build"));
        return Ok(());
    };
    // The flags win over a configuration that the plugin brings along.
    let install = ["install", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund"];
    step(folder, &install, tools, watch).await?;
    build_native(folder, allowed, tools, watch).await?;
    if package.scripts.contains_key("build") {
        step(folder, &["run", "build"], tools, watch).await?;
    }
    Ok(())
}

async fn step(folder: &Path, arguments: &[&str], tools: &Tools, watch: Watch<'_>) -> Result<()> {
    watch.log.say(&format!("$ npm {}", arguments.join(" ")));
    tools.npm(folder, arguments)?.run(watch).await
}

/// Builds the native modules that npm left unbuilt because no package's script was run.
async fn build_native(folder: &Path, allowed: &[String], tools: &Tools, watch: Watch<'_>) -> Result<()> {
    let unbuilt = unbuilt(folder).await?;
    let refused: Vec<&str> =
        unbuilt.iter().map(String::as_str).filter(|name| !allowed.iter().any(|each| each == name)).collect();
    if !refused.is_empty() {
        return Err(not_allowed(&refused));
    }
    for name in &unbuilt {
        let rebuild = ["rebuild", "--ignore-scripts=false", "--foreground-scripts", "--", name];
        step(folder, &rebuild, tools, watch).await?;
    }
    let left = self::unbuilt(folder).await?;
    if !left.is_empty() {
        let message =
            format!("npm rebuild made no native module of {}: see the log of the installation", left.join(", "));
        return Err(Error::new(Kind::Upstream, message));
    }
    Ok(())
}

async fn unbuilt(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_owned();
    let mut names: Vec<String> =
        blocking(move || Ok(unbuilt_modules(&folder).into_iter().map(|module| module.name).collect())).await?;
    // The plugin's own native code is built by its own build.
    names.retain(|name| !name.is_empty());
    names.dedup();
    Ok(names)
}

/// What is missing, and the words that allow it.
fn not_allowed(names: &[&str]) -> Error {
    let flags: Vec<String> = names.iter().map(|name| format!("--allow-build {name}")).collect();
    let (what, is) = if names.len() == 1 { ("a native module", "is") } else { ("native modules", "are") };
    let message = format!(
        "{} {is} {what} (binding.gyp) that `npm install --ignore-scripts` leaves unbuilt, and building runs scripts of the \
         package: to let `npm rebuild {}` run, give the same command with {} (over HTTP: \"allow_build\": {names:?})",
        names.join(", "),
        names.join(" "),
        flags.join(" "),
    );
    Error::new(Kind::Denied, message)
}

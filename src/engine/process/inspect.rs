//! What a fetched plugin is, before anything of it is run: its manifest, its scripts, its native modules.

use std::path::Path;

use crate::base::error::{Error, Kind, Result};
use crate::base::name::PluginId;
use crate::engine::process::installed::Record;
use crate::engine::process::jobs::Review;
use crate::engine::process::manifest::{self, ChildManifest};
use crate::engine::process::origin::Origin;
use crate::engine::process::package::{Package, unbuilt_modules};

/// The file that makes a folder a Python plugin.
const PYTHON_FILE: &str = "__init__.py";

/// Looks at what lies in `folder`, as it came from `origin` at `commit`. `before` is what it would replace.
///
/// # Errors
/// `Invalid`: it is no plugin, or not the one that it would replace. `Malformed`, `Invalid`: a bad manifest or
/// `package.json`.
pub fn inspect(
    folder: &Path,
    origin: &Origin,
    commit: Option<&str>,
    before: Option<(&str, &Record)>,
) -> Result<Review> {
    let package = Package::read(folder)?;
    let mut review = if folder.join(manifest::FILE).is_file() {
        of_manifest(&read_manifest(folder)?, folder)
    } else if folder.join(PYTHON_FILE).is_file() {
        of_python(origin)?
    } else {
        let message = format!(
            "{} is no plugin: expected {} of a plugin that is a process of its own, or {PYTHON_FILE} of a Python plugin, at \
             its top",
            origin.shown(),
            manifest::FILE
        );
        return Err(Error::new(Kind::Invalid, message));
    };
    review.source = origin.shown();
    review.reference = origin.reference().map(ToOwned::to_owned);
    review.commit = commit.map(ToOwned::to_owned);
    if let Some((id, record)) = before {
        if review.id != id {
            let message = format!(
                "{} is now plugin {} and no longer {id}: uninstall {id}, then install it under its new name",
                review.source, review.id
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        review.replaces.clone_from(&record.commit);
        review.allow_build.clone_from(&record.allow_build);
    }
    if let Some(package) = package {
        review.dependencies = package.dependencies;
        review.install_scripts = package.with_install_scripts.into_iter().collect();
        review.scripts = package.scripts;
    }
    let native = unbuilt_modules(folder).into_iter().map(|module| module.name);
    review.native_modules = native.map(|name| if name.is_empty() { review.id.clone() } else { name }).collect();
    Ok(review)
}

/// The manifest of a plugin that may not lie where it will lie: messages name the file alone.
///
/// # Errors
/// As `ChildManifest::parse`; `Unavailable`: it cannot be read.
pub fn read_manifest(folder: &Path) -> Result<ChildManifest> {
    let text = std::fs::read(folder.join(manifest::FILE)).map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot read {}: {error}", manifest::FILE)).with_source(error)
    })?;
    ChildManifest::parse(folder, manifest::FILE, &text)
}

/// Says when a build has not made what the manifest names, or has made another plugin than `id`, which was reviewed.
///
/// # Errors
/// `Invalid`: the server's file is not there, or the manifest has another name.
pub fn check_built(folder: &Path, id: &str) -> Result<()> {
    if !folder.join(manifest::FILE).is_file() {
        return Ok(());
    }
    let manifest = read_manifest(folder)?;
    if manifest.id.as_str() != id {
        // It would take the place, and the secrets, of whoever has that name.
        let message = format!("the build has made plugin {} of {id}: let it leave manifest.json as it is", manifest.id);
        return Err(Error::new(Kind::Invalid, message));
    }
    match manifest.server {
        Some(server) if !folder.join(&server).is_file() => {
            let message = format!(
                "manifest.json: field \"server\" names {server}, which is not there after the build: add it to the \
                 repository, or a script \"build\" that makes it to package.json"
            );
            Err(Error::new(Kind::Invalid, message))
        }
        _ => Ok(()),
    }
}

fn of_manifest(manifest: &ChildManifest, folder: &Path) -> Review {
    let mut notes = manifest.notes.clone();
    if folder.join(PYTHON_FILE).is_file() {
        notes.push("it has a Python half, which runs in the host's own process when the host starts next".into());
    }
    Review {
        id: manifest.id.as_str().to_owned(),
        kind: "process",
        name: manifest.display_name.clone(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        author: manifest.author.clone(),
        permissions: manifest.permissions.clone(),
        command: manifest.command.clone(),
        notes,
        ..Review::default()
    }
}

/// A Python plugin says who it is when it is imported: until then it is called as its folder.
fn of_python(origin: &Origin) -> Result<Review> {
    let word = origin.last_word().to_ascii_lowercase();
    let id = PluginId::parse(&word).map_err(|_| {
        let message = format!(
            "a Python plugin is called as its folder, and {word:?} is no name: rename the folder or repository"
        );
        Error::new(Kind::Invalid, message)
    })?;
    let notes = vec![
        "it runs in the host's own process, from the next start of the host on; what it imports is to be installed beside \
         the host"
            .to_owned(),
    ];
    Ok(Review { id: id.as_str().to_owned(), kind: "python", name: word, notes, ..Review::default() })
}

//! Whether a plugin's code is still what was installed: a digest of every file that is run.
//!
//! Data that a plugin keeps in its own folder is none of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::error::{Error, Kind, Result};
use crate::engine::process::manifest::{self, ChildManifest};
use crate::kernel::secret::hex;

/// The endings of files that are run.
const CODE: [&str; 11] = ["js", "mjs", "cjs", "node", "wasm", "py", "so", "dylib", "sh", "ts", "rb"];
/// Files without such an ending that decide what is run.
const DECIDING: [&str; 2] = ["manifest.json", "package.json"];

/// The digest of a plugin's code, with the programs that its manifest names. Reads every such file: takes time.
///
/// # Errors
/// `Unavailable`: a file cannot be read. Those of the manifest.
pub fn digest_of(folder: &Path) -> Result<String> {
    let manifest = match folder.join(manifest::FILE).is_file() {
        true => Some(ChildManifest::read(folder)?),
        false => None,
    };
    let words = manifest.iter().flat_map(|manifest| manifest.command.iter().chain([&manifest.entry]));
    let programs: Vec<&str> = words.map(|word| word.trim_start_matches("./")).collect();
    digest(folder, &programs).map_err(|error| {
        let message = format!("cannot read the code of {}: {error}", folder.display());
        Error::new(Kind::Unavailable, message).with_source(error)
    })
}

/// The digest of all code below a folder, its paths included, as hexadecimal digits. Reads every such file: takes time.
///
/// `programs` are further files that are run, relative to the folder.
///
/// # Errors
/// What the system says of a file that cannot be read.
fn digest(folder: &Path, programs: &[&str]) -> io::Result<String> {
    let mut files = Vec::new();
    collect(folder, folder, programs, &mut files)?;
    files.sort();
    let mut all = Sha256::new();
    for file in files {
        let (path, mut one) = (folder.join(&file), Sha256::new());
        if path.is_symlink() {
            one.update(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
        } else {
            feed(&mut one, File::open(&path)?)?;
        }
        all.update(file.as_os_str().as_encoded_bytes());
        all.update([0]);
        all.update(one.finalize());
    }
    Ok(hex(&all.finalize()))
}

fn feed(digest: &mut Sha256, mut file: File) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => digest.update(&piece[..count]),
        }
    }
}

fn collect(root: &Path, folder: &Path, programs: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        // A link is not followed: where it leads to counts, and what lies there is met there.
        if kind.is_dir() {
            if entry.file_name() != "__pycache__" {
                collect(root, &path, programs, files)?;
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            let named = relative.to_str().is_some_and(|path| DECIDING.contains(&path) || programs.contains(&path));
            if named || kind.is_symlink() || (kind.is_file() && CODE.contains(&ending)) {
                files.push(relative.to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_code_changes_it_and_data_does_not() {
        let home = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let now = || digest(home.path(), &["bin/server"]).unwrap();
        for name in ["manifest.json", "dist/server.js", "node_modules/ws/index.js", "bin/server", "data/notes.txt"] {
            put(name, "one");
        }
        let first = now();
        put("data/notes.txt", "two");
        put("data/state.json", "{}");
        assert_eq!(now(), first);
        for name in ["manifest.json", "dist/server.js", "node_modules/ws/index.js", "bin/server", "dist/new.mjs"] {
            put(name, "two");
            assert_ne!(now(), first, "{name}");
            put(name, "one");
        }
        assert_ne!(now(), first, "a file more");
        fs::remove_file(home.path().join("dist/new.mjs")).unwrap();
        assert_eq!(now(), first);
    }
}

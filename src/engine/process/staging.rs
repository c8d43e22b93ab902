//! A plugin on its way in: fetched or copied into a folder of its own, where nothing of it was run yet.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::SourceKind;
use crate::engine::process::command::{Step, Watch};
use crate::engine::process::origin::{Origin, Repository, is_public};
use crate::engine::process::tools::Tools;

/// What a plugin may have before it is built.
const BYTES: u64 = 1 << 30;
const ENTRIES: u64 = 100_000;

/// Brings the plugin into `folder`, which is made. Gives the commit, of a repository.
///
/// # Errors
/// `Denied`: its server is at a private address. `Invalid`: it is too large, or has a link that leads out of it.
/// `Upstream`, `Timeout`, `Unavailable`: as of the commands.
pub async fn fetch(
    origin: &Origin,
    folder: &Path,
    tools: &Tools,
    allowed: &[SourceKind],
    watch: Watch<'_>,
) -> Result<Option<String>> {
    let commit = match origin {
        Origin::Folder(source) => {
            watch.log.say(&format!("copying {}", source.display()));
            let (source, to) = (source.clone(), folder.to_owned());
            blocking(move || copy(&source, &to)).await?;
            None
        }
        Origin::Git(repository) => {
            watch.log.say(&format!("fetching {}", repository.url));
            Some(clone(repository, folder, tools, allowed, watch).await?)
        }
    };
    let folder = folder.to_owned();
    blocking(move || check_tree(&folder)).await?;
    Ok(commit)
}

/// Only the one commit is fetched, and only its files are kept.
async fn clone(
    repository: &Repository,
    folder: &Path,
    tools: &Tools,
    allowed: &[SourceKind],
    watch: Watch<'_>,
) -> Result<String> {
    let protocol = repository.url.split(':').next().unwrap_or_default().to_owned();
    let pinned = pin(repository, &protocol, allowed).await?;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    fs::create_dir_all(folder).map_err(|error| unusable(folder, error))?;
    let git = |arguments| tools.git(folder, &protocol, arguments);
    git(words(&["init", "--quiet", "--template="]))?.run(watch).await?;
    let mut fetch = pinned.options;
    fetch.extend(words(&["fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules", "--"]));
    fetch.push(repository.url.clone());
    fetch.push(repository.reference.clone().unwrap_or_else(|| "HEAD".into()));
    let mut fetch = git(fetch)?;
    fetch.environment.extend(pinned.environment);
    said_plainly(&fetch, repository, watch).await?;
    git(words(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]))?.run(watch).await?;
    let commit = git(words(&["rev-parse", "HEAD"]))?.output(watch).await?;
    fs::remove_dir_all(folder.join(".git")).map_err(|error| unusable(folder, error))?;
    Ok(commit)
}

async fn said_plainly(fetch: &Step, repository: &Repository, watch: Watch<'_>) -> Result<()> {
    fetch.run(watch).await.map_err(|error| match (&repository.reference, error.kind()) {
        (Some(reference), Kind::Upstream) => {
            let message = format!(
                "{error}; the reference {reference:?} has to be a branch, a tag or a whole commit id of that repository"
            );
            Error::new(Kind::Upstream, message)
        }
        _ => error,
    })
}

/// What keeps git at the address that was checked.
#[derive(Default)]
struct Pinned {
    options: Vec<String>,
    environment: Vec<(OsString, OsString)>,
}

/// Looks the server's name up and refuses private addresses, unless the operator allows them.
async fn pin(repository: &Repository, protocol: &str, allowed: &[SourceKind]) -> Result<Pinned> {
    let mut pinned = Pinned::default();
    let ssh = "ssh -o BatchMode=yes -o ConnectTimeout=20";
    let Some((host, port)) = &repository.server else { return Ok(pinned) };
    if allowed.contains(&SourceKind::Private) {
        pinned.environment.push(("GIT_SSH_COMMAND".into(), ssh.into()));
        return Ok(pinned);
    }
    // A redirect could lead to where the address was not checked.
    pinned.options.extend(["-c", "http.followRedirects=false"].map(String::from));
    let name = host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((name, *port)).await.map_err(|error| {
        Error::new(Kind::Upstream, format!("the server {host} is not found: {error}")).with_source(error)
    })?;
    let addresses: Vec<_> = found.map(|address| address.ip()).collect();
    if let Some(private) = addresses.iter().find(|address| !is_public(**address)) {
        let message = format!(
            "{host} is at the private address {private}: plugins are not fetched from there, unless the operator adds \
             \"private\" to the setting install_sources"
        );
        return Err(Error::new(Kind::Denied, message));
    }
    let Some(address) = addresses.first() else {
        return Err(Error::new(Kind::Upstream, format!("the server {host} has no address")));
    };
    if protocol == "ssh" {
        // Name and address have no character that a shell reads.
        let command = format!("{ssh} -o HostName={address} -o HostKeyAlias={name} -o ProxyCommand=none");
        pinned.environment.push(("GIT_SSH_COMMAND".into(), command.into()));
    } else {
        let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        pinned.options.extend(["-c".into(), format!("http.curloptResolve={name}:{port}:{address}")]);
    }
    Ok(pinned)
}

/// Copies a folder's files and links. What npm installs again and git keeps for itself stays out.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let npm = from.join("package.json").is_file();
    let mut left = (BYTES, ENTRIES);
    copy_folder(from, to, npm, &mut left)
}

fn copy_folder(from: &Path, to: &Path, npm: bool, left: &mut (u64, u64)) -> Result<()> {
    let fail = |error| unusable(from, error);
    fs::create_dir_all(to).map_err(fail)?;
    for entry in fs::read_dir(from).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(fail)?);
        if matches!(name.to_str(), Some(".git" | "__pycache__")) || (npm && name == "node_modules") {
            continue;
        }
        let (path, copy) = (entry.path(), to.join(&name));
        let bytes = if kind.is_file() { entry.metadata().map_err(fail)?.len() } else { 0 };
        let room = left.0.checked_sub(bytes).zip(left.1.checked_sub(1));
        *left = room.ok_or_else(too_large)?;
        if kind.is_dir() {
            copy_folder(&path, &copy, npm, left)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(fail)?;
            std::os::unix::fs::symlink(target, copy).map_err(fail)?;
        } else if kind.is_file() {
            fs::copy(&path, copy).map_err(fail)?;
        }
    }
    Ok(())
}

/// Refuses what is too large and links that lead out: the host follows links in what it serves and runs.
///
/// # Errors
/// `Invalid`: either. `Unavailable`: the folder cannot be read.
pub fn check_tree(root: &Path) -> Result<()> {
    let root = root.canonicalize().map_err(|error| unusable(root, error))?;
    let (mut folders, mut left) = (vec![root.clone()], (BYTES, ENTRIES));
    while let Some(folder) = folders.pop() {
        let fail = |error| unusable(&folder, error);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let (path, found) = (entry.path(), entry.metadata().map_err(fail)?);
            let bytes = if found.is_file() { found.len() } else { 0 };
            let room = left.0.checked_sub(bytes).zip(left.1.checked_sub(1));
            left = room.ok_or_else(too_large)?;
            if found.is_dir() {
                folders.push(path);
            } else if found.is_symlink() && leads_out(&root, &path).map_err(fail)? {
                let shown = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
                let message = format!("the link {shown} leads out of the plugin's folder: it is not installed with it");
                return Err(Error::new(Kind::Invalid, message));
            }
        }
    }
    Ok(())
}

/// By its text and, where it leads to something, by where that lies.
fn leads_out(root: &Path, link: &Path) -> io::Result<bool> {
    let target = fs::read_link(link)?;
    let mut place: PathBuf = link.parent().unwrap_or(root).to_owned();
    for part in target.components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::CurDir => {}
            Component::ParentDir => drop(place.pop()),
            Component::RootDir | Component::Prefix(_) => return Ok(true),
        }
        if !place.starts_with(root) {
            return Ok(true);
        }
    }
    Ok(link.canonicalize().is_ok_and(|real| !real.starts_with(root)))
}

/// Runs what waits for the disk on a thread for it.
///
/// # Errors
/// Those of the work; `Internal`: it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(Kind::Internal, "work on the disk failed").with_source(error)))
}

fn too_large() -> Error {
    Error::new(Kind::Invalid, "the plugin is too large: at most 1 GiB in 100000 files and folders are installed")
}

fn unusable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}: {error}", path.display())).with_source(error)
}

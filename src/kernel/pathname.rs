//! Paths as rules see them: where they lead on this machine now, and what else a program may take them for.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::kernel::told::Told;

/// Links that are followed on the way of one path.
const LINKS: usize = 40;

/// Where a path leads.
struct Way {
    end: String,
    /// Whether every program that goes it now gets there.
    surely: bool,
}

/// What a path may be taken for.
pub fn tell_path(text: &str) -> Told {
    if text.is_empty() || text.contains('\0') {
        return Told::unknown();
    }
    let path = Path::new(text);
    if let Some(name) = text.strip_prefix('~') {
        return tell_home(name, path);
    }
    // Some tools take the URL of a file for that file.
    named_by_url(text).into_iter().fold(tell_name(path), |told, named| {
        [walked(&named, true), walked(&named, false)]
            .into_iter()
            .fold(told.perhaps(), |told, way| told.also(way.map(|way| way.end)))
    })
}

fn tell_name(path: &Path) -> Told {
    let told = match walked(path, true) {
        None => Told::unknown(),
        Some(Way { end, surely: true }) => Told::surely(end),
        // Where it leads another process is another file.
        Some(Way { end, surely: false }) => Told::surely(end).perhaps().also(None),
    };
    told.also(absolute(path, false))
}

/// Some tools take a tilde for the home folder, and some for a name.
fn tell_home(name: &str, path: &Path) -> Told {
    if !name.is_empty() && !name.starts_with('/') {
        return Told::unknown().also(absolute(path, false));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/".into());
    let other = home.join(name.trim_start_matches('/'));
    tell_name(path).perhaps().also(absolute(&other, true)).also(absolute(&other, false))
}

/// The files that a text names where it is the URL of one: whatever host stands there, and as those cut it who only look
/// for `file://`.
fn named_by_url(text: &str) -> Vec<PathBuf> {
    let is_absolute = text.starts_with('/');
    let Some(url) = (!is_absolute).then(|| Url::parse(text).ok()).flatten() else { return Vec::new() };
    if url.scheme() != "file" {
        return Vec::new();
    }
    let cut = text.split_once(':').map_or("", |(_, rest)| rest.strip_prefix("//").unwrap_or(rest));
    let decoded = |text: &str| PathBuf::from(percent_decode_str(text).decode_utf8_lossy().into_owned());
    [decoded(url.path()), decoded(cut)].into_iter().filter(|path| !path.as_os_str().is_empty()).collect()
}

/// The absolute path that this one means now: without `.` and `..`, and with every link followed if that is wished, also
/// where the last parts do not exist yet. `None` when it cannot be told: links in a circle, links of which the end is
/// hidden or another for each process, or no text.
pub fn absolute(path: &Path, follow: bool) -> Option<String> {
    walked(path, follow).filter(|way| way.surely).map(|way| way.end)
}

fn walked(path: &Path, follow: bool) -> Option<Way> {
    let absolute = std::path::absolute(path).ok()?;
    let mut ahead: VecDeque<PathBuf> = absolute.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut found = PathBuf::from("/");
    let (mut links, mut surely) = (0, true);
    while let Some(part) = ahead.pop_front() {
        match part.components().next() {
            Some(Component::Normal(name)) => found.push(name),
            Some(Component::ParentDir) => {
                found.pop();
                continue;
            }
            Some(Component::RootDir) => {
                found = PathBuf::from("/");
                continue;
            }
            _ => continue,
        }
        let Some(target) = follow.then(|| target_of(&found)).flatten() else { continue };
        surely &= !is_of_process(&found);
        links += 1;
        if links > LINKS {
            return None;
        }
        found.pop();
        for step in target?.components().rev() {
            ahead.push_front(PathBuf::from(step.as_os_str()));
        }
    }
    Some(Way { end: found.into_os_string().into_string().ok()?, surely })
}

/// Where a link leads, `Some(None)` where that is hidden; `None` for what is no link or is not there: it stays as it is
/// named.
fn target_of(path: &Path) -> Option<Option<PathBuf>> {
    match std::fs::read_link(path) {
        Ok(target) => Some(Some(target)),
        Err(error) if error.kind() == ErrorKind::InvalidInput => None,
        // Its root is nearly always the one that all have.
        Err(_) if is_of_process(path) && path.file_name() == Some(OsStr::new("root")) => Some(Some("/".into())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) && !is_hidden(path) => {
            None
        }
        Err(_) => Some(None),
    }
}

/// Whether a link belongs to a process, `/proc/1/root` or `/proc/self/fd/3`: it leads each one that asks elsewhere, and
/// need not lead where its text says.
fn is_of_process(link: &Path) -> bool {
    link.strip_prefix("/proc").is_ok_and(|rest| rest.components().count() > 1)
}

/// Whether a link of a process may be there for others, though not for the host.
fn is_hidden(link: &Path) -> bool {
    let is_one =
        |name: Option<&OsStr>, of: &[&str]| name.and_then(OsStr::to_str).is_some_and(|name| of.contains(&name));
    let folder = link.parent().and_then(Path::file_name);
    is_of_process(link) && (is_one(link.file_name(), &["cwd", "exe"]) || is_one(folder, &["fd", "map_files"]))
}

//! Where a plugin may be installed from: a folder of this machine, or a git repository, as a person wrote it.
//!
//! What is parsed here is handed to git as arguments and kept in a file: no option, no credential, no other protocol
//! gets through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use url::{Host, Url};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::SourceKind;

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder of this machine, an absolute path; it is copied.
    Folder(PathBuf),
    /// A git repository.
    Git(Repository),
}

/// A git repository as git is given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `https://…`, `ssh://…`, and `http://…` or `file://…` where those are allowed; without credentials.
    pub url: String,
    /// The host and the port that git will ask; `None` for `file://`.
    pub server: Option<(String, u16)>,
    /// A branch, a tag or a whole commit id; `None` is the repository's own choice.
    pub reference: Option<String>,
}

const EXPECTED: &str =
    "a folder, or a git repository as https://example.com/owner/plugin or git@example.com:owner/plugin";

impl Origin {
    /// Reads what was asked for. `here` is what relative folders are relative to; `None` refuses them.
    ///
    /// # Errors
    /// `Invalid`: it is neither a folder nor a repository that git may be given. `Denied`: a kind of source that the
    /// operator has not allowed.
    pub fn parse(source: &str, reference: Option<&str>, here: Option<&Path>, allowed: &[SourceKind]) -> Result<Self> {
        let source = source.trim();
        if source.is_empty() || source.starts_with('-') || source.contains(char::is_control) {
            return Err(invalid(source, "expected"));
        }
        if let Some(url) = as_url(source) {
            let reference = reference.map(check_reference).transpose()?;
            return repository(&url, source, reference, allowed).map(Self::Git);
        }
        if reference.is_some() {
            let message = "a folder has no branches, tags or commits: leave the reference out, or name a repository";
            return Err(Error::new(Kind::Invalid, message));
        }
        let folder = match (Path::new(source), here) {
            (path, _) if path.is_absolute() => path.to_owned(),
            (path, Some(here)) => here.join(path),
            (_, None) => return Err(invalid(source, "the path of a folder must be absolute here; expected")),
        };
        if !folder.is_dir() {
            return Err(invalid(source, "there is no such folder; expected"));
        }
        Ok(Self::Folder(folder))
    }

    /// The last word of where it comes from, without `.git`: what a plugin without a name of its own is called.
    pub fn last_word(&self) -> &str {
        let word = match self {
            Self::Folder(folder) => folder.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            Self::Git(repository) => repository.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default(),
        };
        word.strip_suffix(".git").unwrap_or(word)
    }

    /// As text, for people and for the registry of what is installed.
    pub fn shown(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Git(repository) => repository.url.clone(),
        }
    }

    /// The branch, tag or commit that was asked for.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Git(repository) => repository.reference.as_deref(),
        }
    }
}

/// Whether an address is one that anybody on the internet means by it: no loopback, no private or special range.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || first == 0
        || first >= 240
        || (first == 100 && (64..128).contains(&second))
        || (first == 198 && (18..20).contains(&second))
        || (first == 192 && second == 0 && third == 0);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = match segments {
        // NAT64 and 6to4 carry an address of the old kind.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        return is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    }
    // Everything that is given out lies in 2000::/3; of it 2001:db8::/32 is for documents.
    (segments[0] & 0xe000) == 0x2000 && !(segments[0] == 0x2001 && segments[1] == 0x0db8)
}

/// A URL, or `user@host:path` as the URL that it stands for; `None` for a path.
fn as_url(source: &str) -> Option<Url> {
    if source.contains("://") {
        return Url::parse(source).ok();
    }
    let (place, path) = source.split_once(':')?;
    let (user, host) = place.split_once('@')?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '@', ' ', '\\']);
    if !plain(user) || !plain(host) || path.is_empty() || path.starts_with('/') {
        return None;
    }
    Url::parse(&format!("ssh://{user}@{host}/{path}")).ok()
}

fn repository(url: &Url, source: &str, reference: Option<String>, allowed: &[SourceKind]) -> Result<Repository> {
    let needed = match url.scheme() {
        "https" | "ssh" => None,
        "http" => Some((SourceKind::Http, "http")),
        "file" => Some((SourceKind::File, "file")),
        _ => return Err(invalid(source, "expected")),
    };
    if let Some((needed, word)) = needed
        && !allowed.contains(&needed)
    {
        let message = format!(
            "{word}:// is no source of plugins here: use https:// or ssh://, or let the operator add {word:?} to the \
             setting install_sources"
        );
        return Err(Error::new(Kind::Denied, message));
    }
    if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
        // It would stand in a file, in the log and in the list of processes.
        let message = "leave the name and the password out of the URL: for a private repository use ssh with a key";
        return Err(Error::new(Kind::Invalid, message));
    }
    let plain =
        |text: &str| !text.starts_with('-') && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    let server = match url.host() {
        None if url.scheme() == "file" => None,
        Some(Host::Domain("")) | None => return Err(invalid(source, "expected")),
        Some(_) if url.scheme() == "file" => return Err(invalid(source, "a file:// URL names no host; expected")),
        // Git hands host and user to ssh as words of its command line.
        Some(Host::Domain(name)) if !plain(name) || !plain(url.username()) => {
            return Err(invalid(source, "expected"));
        }
        Some(host) => {
            let usual = if url.scheme() == "ssh" { 22 } else { 443 };
            Some((host.to_string(), url.port_or_known_default().unwrap_or(usual)))
        }
    };
    if url.path().trim_matches('/').is_empty() || url.path().starts_with("/-") || url.query().is_some() {
        return Err(invalid(source, "expected"));
    }
    let mut url = url.clone();
    url.set_fragment(None);
    Ok(Repository { url: url.into(), server, reference })
}

/// A branch, a tag or a commit; nothing that git reads as an option or as two names.
fn check_reference(reference: &str) -> Result<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-+".contains(&c);
    let good = (1..=200).contains(&reference.len())
        && reference.bytes().all(plain)
        && !reference.starts_with(['-', '+', '/', '.'])
        && !reference.contains("..");
    if good {
        return Ok(reference.to_owned());
    }
    let shown: String = reference.chars().take(80).collect();
    let message =
        format!("reference {shown:?} is not valid: name a branch, a tag or a whole commit id, for example v1.2.0");
    Err(Error::new(Kind::Invalid, message))
}

fn invalid(source: &str, reason: &str) -> Error {
    let shown: String = source.chars().take(200).collect();
    Error::new(Kind::Invalid, format!("cannot install from {shown:?}: {reason} {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(source: &str, allowed: &[SourceKind]) -> Result<Repository> {
        match Origin::parse(source, None, None, allowed)? {
            Origin::Git(repository) => Ok(repository),
            Origin::Folder(_) => Err(Error::new(Kind::Internal, "a folder")),
        }
    }

    #[test]
    fn a_repository_is_written_as_a_url_or_as_ssh_has_it() {
        let https = git("https://example.com/owner/plugin.git", &[]).unwrap();
        assert_eq!(
            (https.url.as_str(), https.server),
            ("https://example.com/owner/plugin.git", Some(("example.com".into(), 443)))
        );
        let ssh = git("git@example.com:owner/plugin", &[]).unwrap();
        assert_eq!(
            (ssh.url.as_str(), ssh.server),
            ("ssh://git@example.com/owner/plugin", Some(("example.com".into(), 22)))
        );
        assert_eq!(Origin::Git(https_of("https://e.com/a/b.git/")).last_word(), "b");
    }

    fn https_of(url: &str) -> Repository {
        Repository { url: url.into(), server: None, reference: None }
    }

    #[test]
    fn nothing_else_reaches_git() {
        for bad in [
            "",
            "-uhttps://x/y",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "ext://sh/x",
            "git://h/x",
            "ftp://h/x",
            "https://user:word@h/x",
            "https://user@h/x",
            "https://h",
            "https://h/",
            "https://h/x?y=1",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x@h:y",
            "git@-oProxyCommand=x:y",
            "https://h/x\ny",
            "owner/plugin",
        ] {
            assert!(git(bad, &SourceKind::ALL).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_protocol_that_is_not_allowed_is_denied() {
        for (url, kind) in [("file:///a/b", SourceKind::File), ("http://h/x", SourceKind::Http)] {
            assert_eq!(git(url, &[]).unwrap_err().kind(), Kind::Denied);
            assert!(git(url, &[kind]).is_ok());
        }
    }

    #[test]
    fn a_reference_is_no_option_and_one_name() {
        for good in ["main", "v1.2.0", "feature/x", "0123456789abcdef0123456789abcdef01234567"] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "--upload-pack=x", "a:b", "a b", "a..b", "+main", "refs/*", "a\0"] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_and_special_addresses_are_not_public() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["140.82.121.3", "2606:50c0:8000::153", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}

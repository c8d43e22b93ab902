//! A value as a source of settings gave it, read as what it should be. An error is the text of what was expected.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use url::Url;

/// A value as a source gave it.
pub struct Given<'a> {
    /// A JSON value; from the environment always a text.
    pub value: &'a Value,
    /// What relative paths are relative to.
    pub folder: &'a Path,
}

impl Given<'_> {
    /// A text that is not empty.
    ///
    /// # Errors
    /// It is none; the text is `expected`.
    pub fn text(&self, expected: &str) -> Result<&str, String> {
        self.value.as_str().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| expected.to_owned())
    }

    /// A list, or a text with commas.
    ///
    /// # Errors
    /// It is neither.
    pub fn list(&self, expected: &str) -> Result<Vec<String>, String> {
        let parts: Option<Vec<&str>> = match self.value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(text.split(',').collect()),
            _ => None,
        };
        let parts = parts.ok_or_else(|| format!("a list of texts, each {expected}"))?;
        Ok(parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }

    /// A path; a relative one is below the folder.
    ///
    /// # Errors
    /// It is none; the text is `expected`.
    pub fn path(&self, expected: &str) -> Result<PathBuf, String> {
        self.text(expected).map(|text| self.folder.join(text))
    }

    /// A path, or a list of them.
    ///
    /// # Errors
    /// It is neither.
    pub fn paths(&self) -> Result<Vec<PathBuf>, String> {
        let expected = "the path of a folder, or a list of them";
        let paths: Option<Vec<&str>> = match self.value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) => Some(vec![text]),
            _ => None,
        };
        let paths = paths.ok_or_else(|| expected.to_owned())?;
        Ok(paths.into_iter().map(|path| self.folder.join(path)).collect())
    }

    /// A whole number, perhaps as a text.
    ///
    /// # Errors
    /// It is none from `least` to `most`; the text is `expected`.
    pub fn number(&self, least: u64, most: u64, expected: &str) -> Result<u64, String> {
        let number = match self.value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| expected.to_owned())
    }

    /// Seconds, perhaps with a fraction; more than none, at most a year.
    ///
    /// # Errors
    /// It is none.
    pub fn seconds(&self) -> Result<Duration, String> {
        let seconds = match self.value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        seconds
            .filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 31_536_000.0)
            .map(Duration::from_secs_f64)
            .ok_or_else(|| "a number of seconds above 0, at most a year, for example 10 or 0.5".to_owned())
    }

    /// On or off, in any of the usual words.
    ///
    /// # Errors
    /// It is neither.
    pub fn truth(&self) -> Result<bool, String> {
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

    /// What one of these words stands for.
    ///
    /// # Errors
    /// It is none of them.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let found = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text.trim()));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("one of {}", words.join(", "))
        })
    }

    /// An address to listen on.
    ///
    /// # Errors
    /// It is none.
    pub fn address(&self) -> Result<IpAddr, String> {
        let expected = "an address to listen on, for example 127.0.0.1 or ::1";
        match self.text(expected)? {
            "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
            text => text.trim_matches(['[', ']']).parse().map_err(|_| expected.to_owned()),
        }
    }

    /// A URL without a path.
    ///
    /// # Errors
    /// It is none; the text is `expected`.
    pub fn origin(&self, expected: &str) -> Result<Url, String> {
        origin(self.text(expected)?).ok_or_else(|| expected.to_owned())
    }
}

/// A URL without a path, as origins are.
pub fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (bare && url.host().is_some()).then_some(url)
}

/// A URL as it may be shown.
pub fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // It fails for URLs that have no host, and those have no password either.
        let _ = url.set_password(Some("…"));
    }
    url.into()
}

/// An address, or a range of them.
pub fn range(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}

/// A path as text.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A URL as text, without a trailing slash.
pub fn url_text(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

//! Why no URL fits a rule's pattern, and what to write instead.

use url::Url;

use crate::kernel::address::{is_special, url_forms};
use crate::kernel::glob::Glob;
use crate::kernel::misfit::Misfit;
use crate::kernel::rule::List;
use crate::kernel::specifier::{Form, Piece, Template};

const SPECIAL: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "file"];

impl Template {
    /// Why no URL, as specifiers of this template write it, fits a rule's pattern, with the form to write.
    pub fn odd_url(&self, pattern: &str, list: List) -> Option<Misfit> {
        let written = match self.pieces() {
            [Piece::Value { form: Form::Url, .. }] => pattern,
            [Piece::Text(text), Piece::Value { form: Form::Url, .. }] => pattern.strip_prefix(&**text)?,
            [.., Piece::Text(text), Piece::Value { form: Form::Url, .. }] => pattern.rsplit_once(&**text)?.1,
            _ => return None,
        };
        let before = &pattern[..pattern.len() - written.len()];
        let written = Written::read(before, written)?;
        written.odd_beginning(list).map(Misfit::certain).or_else(|| written.odd_rest(list))
    }
}

/// A pattern of URLs.
struct Written<'a> {
    /// What stands before it in the rule.
    before: &'a str,
    /// All of it.
    text: &'a str,
    /// Up to `://`; it may have a `*`.
    scheme: &'a str,
    /// User, host and port.
    authority: &'a str,
    /// From the host's end.
    rest: &'a str,
}

impl<'a> Written<'a> {
    fn read(before: &'a str, text: &'a str) -> Option<Self> {
        let (scheme, after) = text.split_once("://")?;
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '*');
        if !scheme.chars().all(is_scheme) {
            return None;
        }
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        Some(Self { before, text, scheme, authority: &after[..end], rest: &after[end..] })
    }

    /// What is wrong before the first `*`: nothing there can be anything else.
    fn odd_beginning(&self, list: List) -> Option<String> {
        let head = &self.text[..self.text.find('*').unwrap_or(self.text.len())];
        let (scheme, rest) = head.split_once("://")?;
        let whole = head.len() == self.text.len();
        if list == List::Allow && self.authority.split('*').next().is_some_and(|known| known.contains('@')) {
            return Some("a URL with a user name is always asked about: write it without".to_owned());
        }
        if !whole && !rest.contains(['/', '?', '#']) {
            // The host goes on behind the `*`, so that it cannot be parsed.
            let known = SPECIAL.iter().any(|known| scheme.eq_ignore_ascii_case(known));
            // A name of a user keeps its letters.
            let host = rest.rsplit('@').next().unwrap_or(rest);
            let is_large = |c: char| c.is_ascii_uppercase();
            let may_be_user = self.authority.contains('@') && !rest.contains('@');
            let odd =
                known && (!rest.is_ascii() || scheme.contains(is_large) || (!may_be_user && host.contains(is_large)));
            return odd.then(|| self.small_host());
        }
        // The last step of a path may go on behind the `*`.
        let fixed = if whole || head.contains('?') { head } else { &head[..=head.rfind('/')?] };
        let Ok(mut url) = Url::parse(fixed) else { return Some(format!("{fixed:?} begins no URL")) };
        url.set_fragment(None);
        let fits = match list {
            List::Allow => url.as_str() == fixed,
            List::Deny | List::Ask => {
                let named = !url.username().is_empty() || url.password().is_some();
                url_forms(&url).iter().any(|form| form == fixed) || (named && url.as_str() == fixed)
            }
        };
        let cure = format!("{}{url}{}", self.before, &self.text[fixed.len()..]);
        (!fits).then(|| format!("URLs are parsed and written anew before they are matched: write {cure:?}"))
    }

    /// What is wrong behind a `*`: the rest of the pattern fits only what that takes from another place of the URL.
    fn odd_rest(&self, list: List) -> Option<Misfit> {
        let likely = |problem: &str, cure: String| Some(Misfit::likely(format!("no {problem}"), cure));
        let host = self.authority.rsplit('@').next().unwrap_or(self.authority);
        if self.is_parsed() && (!host.is_ascii() || host.contains(|c: char| c.is_ascii_uppercase())) {
            return likely("URL has such a host", self.small_host());
        }
        if let Some(authority) = self.without_port() {
            return likely("URL has such a port", self.with(&authority, self.rest));
        }
        if list == List::Allow && self.authority.contains('@') {
            let cure = "a URL with a user name is always asked about: write it without".to_owned();
            return likely("URL with a user name is allowed by a rule", cure);
        }
        if self.is_parsed() && !self.rest.starts_with('/') && !self.authority.ends_with('*') {
            return likely(
                "URL has a host without \"/\" behind it",
                self.with(self.authority, &format!("/{}", self.rest)),
            );
        }
        if let Some((kept, _)) = self.rest.split_once('#') {
            return likely("URL is matched with what stands behind \"#\"", self.with(self.authority, kept));
        }
        if list == List::Allow && self.rest.contains(is_encoded) {
            let encoded: String = self.rest.chars().map(encoded).collect();
            return likely("URL has that as it is written", self.with(self.authority, &encoded));
        }
        let path = self.rest.split('?').next().unwrap_or_default();
        let steps = || path.split('/').skip(1);
        let odd = steps().find(|step| matches!(*step, "." | ".."))?;
        let cure = "URLs are matched without \".\" and \"..\": write the path that it means".to_owned();
        likely(&format!("URL has a step {odd:?}"), cure)
    }

    /// Whether the hosts of the URLs that are meant are parsed and written anew.
    fn is_parsed(&self) -> bool {
        let meant = |scheme: Glob| SPECIAL.iter().any(|known| scheme.matches(known));
        self.scheme != "*" && Glob::parse(&self.scheme.to_ascii_lowercase()).is_some_and(meant)
    }

    /// User and host where the port is the one of the scheme, or no number as it is written.
    fn without_port(&self) -> Option<String> {
        let (host, port) =
            self.authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()))?;
        let url = Url::parse(&format!("{}://h:{port}/", self.scheme)).ok().filter(is_special)?;
        match url.port() {
            None => Some(host.to_owned()),
            Some(number) => (number.to_string() != port).then(|| format!("{host}:{number}")),
        }
    }

    fn small_host(&self) -> String {
        let small = format!("{}://{}", self.scheme, self.authority).to_lowercase();
        let small = format!("{}{small}{}", self.before, self.rest);
        format!("scheme and host are in small letters of ASCII there: write {small:?}, a name of others as xn--…")
    }

    fn with(&self, authority: &str, rest: &str) -> String {
        let written = format!("{}{}://{authority}{rest}", self.before, self.scheme);
        format!("URLs are parsed and written anew before they are matched: write {written:?}")
    }
}

/// Whether a character of a path or query is an escape once the URL is written anew.
fn is_encoded(character: char) -> bool {
    !character.is_ascii() || matches!(character, ' ' | '"' | '<' | '>')
}

fn encoded(character: char) -> String {
    if !is_encoded(character) {
        return character.to_string();
    }
    percent_encoding::utf8_percent_encode(character.encode_utf8(&mut [0; 4]), percent_encoding::NON_ALPHANUMERIC)
        .to_string()
}

//! Rules for lines of a shell, tried on the lines that they look like: what runs others, variables and files are judged
//! by what they come to, so that a rule may fit specifiers that there never are.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::kernel::doubt::RESERVED;
use crate::kernel::glob::Glob;
use crate::kernel::misfit::Misfit;
use crate::kernel::part::Part;
use crate::kernel::rule::List;
use crate::kernel::specifier::{Specifier, Template};

/// Stands for what a `*` stands for.
const ANY: &str = "…";
/// What the first `*` of a pattern may be: some words, a command of `git` with such, or, where more follows, one word. One
/// word alone says nothing: `timeout 5` is allowed by `timeout *`, and nobody means it.
const FIRST: [&str; 3] = ["… … …", "log … …", ANY];
/// What a later one may be; some words want an end.
const LATER: [&str; 3] = ["… … …", "log … …", "… ;"];
/// What begins a part that is a file.
const FILES: [&str; 2] = ["> ", "< "];

impl Template {
    /// Why a rule for lines of a shell does nothing for the lines that its pattern looks like; `None` where it does, or
    /// where that cannot be tried.
    pub fn fails(&self, pattern: &Glob, list: List) -> Option<Misfit> {
        let (name, before, after) = self.shell()?;
        let text = pattern.as_str().strip_prefix(before)?.strip_suffix(after)?;
        if !can_be_tried(text) {
            return None;
        }
        let tried: Vec<Specifier> = lines(text).iter().map(|line| self.tried(name, line)).collect();
        let works = |part: &Part| match list {
            List::Allow => part.is_allowed_by(pattern),
            List::Deny | List::Ask => part.forms.iter().any(|form| pattern.includes(form)),
        };
        if tried.iter().any(|specifier| specifier.parts.iter().any(works)) {
            return None;
        }
        let bare = |part: &Glob| Some(part.as_str().strip_prefix(before)?.strip_suffix(after)?.to_owned());
        tried.first().map(|specifier| told(text, specifier, list, bare))
    }

    fn tried(&self, name: &str, line: &str) -> Specifier {
        self.render(&Value::Object(Map::from_iter([(name.to_owned(), Value::from(line))])))
    }
}

/// Whether a pattern says enough for a line: a `*` that is a part of a word may be any end of it.
fn can_be_tried(text: &str) -> bool {
    let head = text.split('*').next().unwrap_or_default();
    let word = head.rsplit(' ').next().unwrap_or_default();
    let is_whole = head.len() == text.len() || word.is_empty() || is_assignment(word);
    !head.is_empty() && (is_whole || FILES.iter().any(|sign| text.starts_with(sign)))
}

fn is_assignment(word: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    };
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// The lines that a pattern may be meant for.
fn lines(text: &str) -> Vec<String> {
    if FILES.iter().any(|sign| text.starts_with(sign)) {
        let (sign, name) = text.split_at(2);
        return vec![format!("{sign}{}", quoted(&name.replace('*', ANY)))];
    }
    let (sign, words) = text.strip_prefix("<<< ").map_or(("", text), |rest| ("<<< ", rest));
    let ends_open = words.split(' ').next_back() == Some("*");
    let goes_on = !ends_open || words.matches('*').count() > 1;
    let firsts = FIRST.iter().filter(|first| **first != ANY || goes_on);
    let mut found = Vec::new();
    for (first, later) in firsts.flat_map(|first| LATER.iter().map(move |later| (*first, *later))) {
        let mut stars = 0;
        let written: Vec<String> = words.split(' ').map(|word| line_of(word, first, later, &mut stars)).collect();
        // A variable is a part only beside a command that gets it.
        let end = if sign.is_empty() && words.split(' ').all(is_assignment) { " …" } else { "" };
        let line = format!("{sign}{}{end}", written.join(" "));
        if !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

/// One word of a pattern as it stands in a line; a `*` that is all of it may be several.
fn line_of(word: &str, first: &str, later: &str, stars: &mut usize) -> String {
    if word != "*" {
        *stars += word.matches('*').count();
        return quoted(&word.replace('*', ANY));
    }
    *stars += 1;
    let words = if *stars == 1 { first } else { later };
    words.split(' ').map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word of a specifier, so that a shell takes it as it is.
fn quoted(word: &str) -> String {
    let text = percent_decode_str(word).decode_utf8_lossy();
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut written = String::new();
    for character in text.chars() {
        match character {
            '\'' => written.push_str("\"'\""),
            _ if character.is_alphanumeric() || "…_./:=@+,-%".contains(character) => written.push(character),
            _ => written.extend(['\'', character, '\'']),
        }
    }
    written
}

/// What is wrong with a rule that does nothing for a line like its text, which comes to this.
fn told(text: &str, specifier: &Specifier, list: List, bare: impl Fn(&Glob) -> Option<String>) -> Misfit {
    let does = if list == List::Allow { "allows" } else { "matches" };
    let first = text.split(' ').next().unwrap_or_default();
    if first == "time" || RESERVED.contains(&first) {
        let problem = format!("it {does} nothing: {first:?} is no command, but a word of the shell's own");
        return Misfit::likely(problem, "write a rule for each command that stands behind it, \"make *\"".to_owned());
    }
    if specifier.unreadable {
        let problem = format!("it {does} nothing: a line like {text:?} is asked about, whatever rules say");
        return Misfit::likely(problem, "remove it".to_owned());
    }
    let shown = |part: &Glob| Some(bare(part)?.replace(FIRST[0], "*").replace(ANY, "*"));
    let is_bare = is_assignment(text) && !text.contains(' ');
    if is_bare || specifier.parts.iter().any(|part| part.forms.first().and_then(&bare).is_some_and(|form| form == "*"))
    {
        let problem = format!("it {does} nothing: {text:?} has no part that a rule is asked for");
        return Misfit::likely(problem, "remove it".to_owned());
    }
    let problem = format!("it {does} nothing of what a line like {text:?} does");
    let cure = match specifier.parts.iter().find_map(|part| part.spelled.as_ref()) {
        Some(spelled) if spelled.bytes == spelled.form.as_str().len() => {
            "it is not known what that runs: only a rule with a whole line, without \"*\", allows it".to_owned()
        }
        Some(_) => {
            "what is allowed is what is run in the end: write a rule for that, \"make *\", or one that has all up to \
                    its name before the first \"*\", such as \"sudo make *\""
                .to_owned()
        }
        None => cure_of_parts(specifier.parts.iter().filter_map(Part::narrowest).filter_map(shown)),
    };
    Misfit::likely(problem, cure)
}

fn cure_of_parts(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.map(|part| format!("{part:?}")).collect();
    if parts.iter().any(|part| part == "\"*\"") {
        return "what is allowed is what is run in the end: write a rule for each command, \"make *\"".to_owned();
    }
    format!("its parts are judged one by one: write {}", parts.join(" and "))
}

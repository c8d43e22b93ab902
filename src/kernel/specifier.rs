//! The text that rules are matched with, made from a call's arguments by the tool's template.
//!
//! `"{method} {target:url}"` and `{"method": "PUT", "target": "http://h/a"}` make `PUT http://h/a`. Values are escaped, so
//! that no argument can make the text of another call: in a specifier every character between two placeholders, every
//! `*` and every control character is the template's own or stands for an unknown part.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::glob::{Glob, Place, overlap};
use crate::kernel::part::Spelled;
use crate::kernel::shell;

pub use crate::kernel::part::Part;

/// Bytes of a value that is put into a specifier; a longer one is not judged.
const VALUE_BYTES: usize = 64 << 10;
/// Links that are followed on the way of one path.
const LINKS: usize = 40;
/// Between the commands of a shell line, in the specifier as it is shown and kept.
const BETWEEN: &str = "; ";

/// How a placeholder's value becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is, escaped.
    Plain,
    /// An absolute path without `.`, `..` and links.
    Path,
    /// A URL, parsed and written anew.
    Url,
    /// The uri of a resource, decoded.
    Uri,
    /// A line for a shell, taken apart into its simple commands.
    Shell,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Value { name: Box<str>, form: Form },
}

/// How a tool's specifiers are made. Cloning is cheap.
#[derive(Clone)]
pub struct Template {
    shared: Arc<Shared>,
}

struct Shared {
    text: Box<str>,
    pieces: Vec<Piece>,
    /// The first characters of the texts between two placeholders: values have them escaped, and so cannot end early.
    borders: Vec<char>,
}

/// What a call does, as rules see it. A `*` stands where something is not known.
#[derive(Clone, Debug)]
pub struct Specifier {
    /// As it is shown and kept.
    pub text: Arc<str>,
    /// An allow rule must match each of them, a deny or ask rule any.
    pub parts: Vec<Part>,
    /// Whether it is a shell line that could not be taken apart.
    pub unreadable: bool,
}

impl Template {
    /// Reads a template: text and placeholders `{name}`, `{name:path}`, `{name:url}`, `{name:shell}`; `{{` is a brace.
    ///
    /// # Errors
    /// `Invalid`: it has no placeholder, a bad one, two without text between, or a shell line beside others.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            let example = "write it like \"{path:path}\" or \"{method} {target:url}\"";
            Error::new(Kind::Invalid, format!("specifier template {shown:?} is not valid: {why}; {example}"))
        };
        let pieces = read_pieces(text).map_err(|why| bad(&why))?;
        let values = pieces.iter().filter(|piece| matches!(piece, Piece::Value { .. })).count();
        if values == 0 {
            return Err(bad("it has no placeholder, so every call would have one specifier"));
        }
        if pieces.windows(2).any(|pair| matches!(pair, [Piece::Value { .. }, Piece::Value { .. }])) {
            return Err(bad("two placeholders need text between them, for one to end and the other to begin"));
        }
        if values > 1 && pieces.iter().any(|piece| matches!(piece, Piece::Value { form: Form::Shell, .. })) {
            return Err(bad("a shell line is a specifier of its own: it cannot stand beside another placeholder"));
        }
        let borders = pieces.windows(3).filter_map(|three| match three {
            [Piece::Value { .. }, Piece::Text(text), Piece::Value { .. }] => text.chars().next(),
            _ => None,
        });
        let borders = borders.collect();
        Ok(Self { shared: Arc::new(Shared { text: text.into(), pieces, borders }) })
    }

    /// The template of the uri that the argument `name` is.
    pub fn of_uri(name: &str) -> Self {
        Self::of_one(name, Form::Uri)
    }

    /// The template of the text that the argument `name` is.
    pub fn of_text(name: &str) -> Self {
        Self::of_one(name, Form::Plain)
    }

    fn of_one(name: &str, form: Form) -> Self {
        let pieces = vec![Piece::Value { name: name.into(), form }];
        Self { shared: Arc::new(Shared { text: format!("{{{name}}}").into(), pieces, borders: Vec::new() }) }
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.shared.text
    }

    /// The arguments that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shared.pieces.iter().filter_map(|piece| match piece {
            Piece::Value { name, .. } => Some(&**name),
            Piece::Text(_) => None,
        })
    }

    /// Whether making a specifier asks the file system, which may take its time.
    pub fn asks_the_disk(&self) -> bool {
        self.shared.pieces.iter().any(|piece| matches!(piece, Piece::Value { form: Form::Path, .. }))
    }

    /// The specifier of a call with these arguments. What is missing or cannot be judged is a `*` in it.
    pub fn render(&self, arguments: &Value) -> Specifier {
        if let Some((name, before, after)) = self.shell() {
            return render_shell(before, argument(arguments, name).and_then(Value::as_str), after);
        }
        let mut told = String::new();
        let mut surely = true;
        // A value that can be told in two ways is told in both: a deny rule may name either.
        let mut otherwise = None;
        for piece in &self.shared.pieces {
            let Piece::Value { name, form } = piece else {
                let Piece::Text(text) = piece else { continue };
                told.push_str(text);
                otherwise.iter_mut().for_each(|other: &mut String| other.push_str(text));
                continue;
            };
            let value = argument(arguments, name).map_or(Told::Unknown, |value| tell(*form, value));
            let (text, other) = match &value {
                Told::Surely(text) => (text.as_str(), None),
                Told::Perhaps(text, other) => {
                    surely = false;
                    (text.as_str(), Some(other.as_str()))
                }
                Told::Unknown => {
                    surely = false;
                    told.push('*');
                    otherwise.iter_mut().for_each(|other| other.push('*'));
                    continue;
                }
            };
            if other.is_some() && otherwise.is_none() {
                otherwise = Some(told.clone());
            }
            escape(text, *form, &self.shared.borders, &mut told);
            if let Some(kept) = &mut otherwise {
                escape(other.unwrap_or(text), *form, &self.shared.borders, kept);
            }
        }
        let forms: Vec<Glob> =
            [Some(&told), otherwise.as_ref()].into_iter().flatten().filter_map(|text| Glob::parse(text)).collect();
        let allowable = if surely { forms.clone() } else { Vec::new() };
        Specifier { text: told.into(), parts: vec![Part { forms, allowable, spelled: None }], unreadable: false }
    }

    /// The specifier that an earlier call left in a record, as [`Specifier::text`]; `None` when it cannot be judged.
    pub fn recorded(&self, text: &str) -> Option<Specifier> {
        let Some((_, before, after)) = self.shell() else {
            let form = Glob::parse(text)?;
            let allowable = if form.is_plain() { vec![form.clone()] } else { Vec::new() };
            return Some(Specifier {
                text: text.into(),
                parts: vec![Part { forms: vec![form], allowable, spelled: None }],
                unreadable: false,
            });
        };
        let line = text.strip_prefix(before)?.strip_suffix(after)?;
        let commands: Option<Vec<shell::Command>> = line.split(BETWEEN).map(shell::Command::recorded).collect();
        let parts = commands?.iter().map(|command| part_of(before, command, after)).collect::<Option<Vec<_>>>()?;
        (line != "*").then(|| Specifier { text: text.into(), parts, unreadable: false })
    }

    /// Why no specifier of this template ever fits the pattern, with the cure; `None` when one may.
    pub fn excludes(&self, pattern: &Glob) -> Option<String> {
        let mut places = Vec::new();
        let mut forms = Vec::new();
        for piece in &self.shared.pieces {
            match piece {
                Piece::Text(text) => text.chars().for_each(|c| {
                    places.push(Place::Is(c));
                    forms.push(None);
                }),
                Piece::Value { form, .. } => {
                    if *form == Form::Path {
                        places.push(Place::Is('/'));
                        forms.push(None);
                    }
                    places.push(Place::Open);
                    forms.push(Some(*form));
                }
            }
        }
        let borders = &self.shared.borders;
        let may = |index: usize, c: char| forms[index].is_none_or(|form| can_hold(form, borders, c));
        if !overlap(pattern.as_str(), &places, may) {
            return Some(format!("specifiers of this tool look like {:?}: {}", self.as_str(), self.cure()));
        }
        self.odd_path(pattern.as_str()).or_else(|| self.odd_command(pattern.as_str()))
    }

    fn cure(&self) -> &'static str {
        match self.shared.pieces.iter().find_map(|piece| match piece {
            Piece::Value { form, .. } if *form != Form::Plain => Some(*form),
            _ => None,
        }) {
            Some(Form::Path) => "paths are absolute there; begin the pattern with \"/\"",
            Some(Form::Shell) => "write a rule for each simple command, and its words with one space between",
            _ => {
                "write the texts between the values as the template does, and \"*\", \"%\" and borders in values as %2A, %25 …"
            }
        }
    }

    /// What a normalised path never holds.
    fn odd_path(&self, pattern: &str) -> Option<String> {
        let [Piece::Value { form: Form::Path, .. }] = self.shared.pieces[..] else { return None };
        let odd = ["//", "/./", "/../"].into_iter().find(|odd| pattern.contains(odd));
        let end = ["/", "/.", "/.."].into_iter().find(|end| pattern.len() > 1 && pattern.ends_with(end));
        odd.or(end).map(|odd| {
            format!(
                "paths are normalised before they are matched, and none has {odd:?} there: write the path that it means"
            )
        })
    }

    fn odd_command(&self, pattern: &str) -> Option<String> {
        self.shell()?;
        let odd = pattern.contains("  ") || pattern.starts_with(' ') || pattern.ends_with(' ');
        odd.then(|| "the words of a command have one space between them, and none around".to_owned())
    }

    /// The name of the shell line and the texts around it, in a template of one.
    fn shell(&self) -> Option<(&str, &str, &str)> {
        fn text(piece: Option<&Piece>) -> &str {
            match piece {
                Some(Piece::Text(text)) => text,
                _ => "",
            }
        }
        let pieces = &self.shared.pieces;
        let at = pieces.iter().position(|piece| matches!(piece, Piece::Value { form: Form::Shell, .. }))?;
        let Piece::Value { name, .. } = &pieces[at] else { return None };
        let before = at.checked_sub(1).and_then(|at| pieces.get(at));
        Some((name, text(before), text(pieces.get(at + 1))))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

fn read_pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            plain.push(character);
            rest = after;
        } else if character == '{' {
            let (inside, after) = rest[1..].split_once('}').ok_or("a \"{\" is not closed")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(read_placeholder(inside)?);
            rest = after;
        } else if character == '}' {
            return Err("a \"}\" closes nothing; write \"}}\" for a brace".into());
        } else if matches!(character, '*' | '%') || character.is_control() {
            return Err(format!("its text may not hold {character:?}"));
        } else {
            plain.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

fn read_placeholder(inside: &str) -> Result<Piece, String> {
    let (name, form) = inside.split_once(':').unwrap_or((inside, ""));
    let form = match form {
        "" if !inside.ends_with(':') => Form::Plain,
        "path" => Form::Path,
        "url" => Form::Url,
        "shell" => Form::Shell,
        _ => return Err(format!("{{{inside}}} has an unknown form: there are path, url and shell")),
    };
    if name.is_empty() || name.contains('{') {
        return Err(format!("{{{inside}}} names no argument"));
    }
    Ok(Piece::Value { name: name.into(), form })
}

/// The argument of that name; `null` counts as missing.
fn argument<'a>(arguments: &'a Value, name: &str) -> Option<&'a Value> {
    arguments.get(name).filter(|value| !value.is_null())
}

/// What is known of a value.
enum Told {
    /// This, and nothing else.
    Surely(String),
    /// Who reads it may take it for the one or the other.
    Perhaps(String, String),
    /// Nothing.
    Unknown,
}

fn tell(form: Form, value: &Value) -> Told {
    let text = match value {
        Value::String(text) if text.len() <= VALUE_BYTES => text,
        Value::Number(_) | Value::Bool(_) if form == Form::Plain => return Told::Surely(value.to_string()),
        _ => return Told::Unknown,
    };
    match form {
        Form::Plain | Form::Shell => Told::Surely(text.clone()),
        Form::Path => tell_path(text),
        Form::Url => tell_url(text),
        Form::Uri => tell_uri(text),
    }
}

/// What a plugin is given of a uri is decoded; where it goes up and down folders, it is also told where it ends.
fn tell_uri(text: &str) -> Told {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let start = decoded.find("://").map_or(0, |at| at + 3);
    let mut steps: Vec<&str> = Vec::new();
    for step in decoded[start..].split('/').skip(1) {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            _ => steps.push(step),
        }
    }
    let first = decoded[start..].split('/').next().unwrap_or_default();
    let flat = format!("{}{first}/{}", &decoded[..start], steps.join("/"));
    if flat.trim_end_matches('/') == decoded.trim_end_matches('/') {
        return Told::Surely(decoded);
    }
    Told::Perhaps(flat, decoded)
}

fn tell_path(text: &str) -> Told {
    if text.is_empty() || text.contains('\0') {
        return Told::Unknown;
    }
    let Some(path) = resolved(Path::new(text)) else { return Told::Unknown };
    // Some tools take a tilde for the home folder, and some for a name.
    let home = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match (home, text.starts_with('~')) {
        (Some(rest), _) => {
            let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/".into());
            let Some(other) = resolved(&home.join(rest.trim_start_matches('/'))) else { return Told::Unknown };
            Told::Perhaps(path, other)
        }
        (None, true) => Told::Unknown,
        (None, false) => Told::Surely(path),
    }
}

fn tell_url(text: &str) -> Told {
    let Ok(mut url) = Url::parse(text) else { return Told::Unknown };
    url.set_fragment(None);
    if url.username().is_empty() && url.password().is_none() {
        return Told::Surely(url.into());
    }
    // What stands before the host looks like one: no rule is to take it for the host.
    let told = url.to_string();
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return Told::Unknown;
    }
    Told::Perhaps(url.into(), told)
}

/// The absolute path that this one means now: without `.` and `..`, and with every link followed, also where the last
/// parts do not exist yet. `None` when it cannot be told: links in a circle, or no text.
fn resolved(path: &Path) -> Option<String> {
    let absolute = std::path::absolute(path).ok()?;
    let mut ahead: VecDeque<PathBuf> = absolute.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut found = PathBuf::from("/");
    let mut links = 0;
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
        // What is no link, or is not there, stays as it is named.
        let Ok(target) = std::fs::read_link(&found) else { continue };
        links += 1;
        if links > LINKS {
            return None;
        }
        found.pop();
        for step in target.components().rev() {
            ahead.push_front(PathBuf::from(step.as_os_str()));
        }
    }
    found.into_os_string().into_string().ok()
}

/// Puts a value into a specifier: what could be taken for something else is written as `%` and two digits a byte.
fn escape(text: &str, form: Form, borders: &[char], to: &mut String) {
    for character in text.chars() {
        // A URL has percent signs of its own, which mean the same.
        if can_hold(form, borders, character) && (character != '%' || form == Form::Url) {
            to.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                to.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

/// Whether a value in a specifier may hold a character.
fn can_hold(form: Form, borders: &[char], character: char) -> bool {
    match form {
        Form::Shell => shell::can_hold(character),
        _ => character != '*' && !shell::is_unseen(character) && !borders.contains(&character),
    }
}

fn render_shell(before: &str, line: Option<&str>, after: &str) -> Specifier {
    let commands = line.filter(|line| line.len() <= VALUE_BYTES).map(shell::commands);
    let unreadable = matches!(commands, Some(None)) || line.is_some_and(|line| line.len() > VALUE_BYTES);
    let parts = commands.flatten().and_then(|commands| {
        let parts: Option<Vec<Part>> = commands.iter().map(|command| part_of(before, command, after)).collect();
        let texts: Vec<&str> = commands.iter().map(shell::Command::text).collect();
        parts.filter(|parts| !parts.is_empty()).map(|parts| (texts.join(BETWEEN), parts))
    });
    match parts {
        Some((text, parts)) => Specifier { text: format!("{before}{text}{after}").into(), parts, unreadable },
        None => {
            let text = format!("{before}*{after}");
            let forms = Glob::parse(&text).into_iter().collect();
            Specifier { text: text.into(), parts: vec![Part { forms, ..Part::default() }], unreadable }
        }
    }
}

fn part_of(before: &str, command: &shell::Command, after: &str) -> Option<Part> {
    let glob = |text: &String| Glob::parse(&format!("{before}{text}{after}"));
    let globs = |texts: &[String]| texts.iter().map(glob).collect::<Option<Vec<Glob>>>();
    let spelled = match &command.spelled {
        None => None,
        Some((text, bytes)) => Some(Spelled { form: glob(text)?, bytes: before.len() + bytes }),
    };
    Some(Part { forms: globs(&command.forms)?, allowable: globs(&command.allowable)?, spelled })
}

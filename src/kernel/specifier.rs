//! The text that rules are matched with, made from a call's arguments by the tool's template.
//!
//! `"{method} {target:url}"` and `{"method": "PUT", "target": "http://h/a"}` make `PUT http://h/a`. Values are escaped, so
//! that no argument can make the text of another call: in a specifier every character between two placeholders, every
//! `*` and every control character is the template's own or stands for an unknown part.

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::kernel::address::tell_url;
use crate::kernel::flat::flat;
use crate::kernel::glob::Glob;
use crate::kernel::part::Spelled;
use crate::kernel::pathname::tell_path;
use crate::kernel::shell;
use crate::kernel::told::Told;

pub use crate::kernel::part::Part;

/// Bytes of a value that is put into a specifier; a longer one is not judged.
const VALUE_BYTES: usize = 64 << 10;
/// Forms of one call; what has more is left open.
const FORMS: usize = 64;
/// Between the commands of a shell line, in the specifier as it is shown and kept.
const BETWEEN: &str = "; ";

/// How a placeholder's value becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
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

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands in every specifier.
    Text(Box<str>),
    /// A placeholder.
    Value {
        /// Of which argument.
        name: Box<str>,
        /// How its value becomes text.
        form: Form,
    },
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

    /// Its texts and placeholders, in their order.
    pub fn pieces(&self) -> &[Piece] {
        &self.shared.pieces
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
        let mut texts = vec![String::new()];
        // The first of them, and what it must be allowed as, too.
        let mut allowed = texts.clone();
        let (mut surely, mut open) = (true, false);
        for piece in &self.shared.pieces {
            let (name, form) = match piece {
                Piece::Value { name, form } => (name, *form),
                Piece::Text(text) => {
                    texts.iter_mut().chain(&mut allowed).for_each(|begun| begun.push_str(text));
                    continue;
                }
            };
            let mut told = argument(arguments, name).map_or_else(Told::unknown, |value| tell(form, value));
            let needed: Vec<_> = told.readings.iter().take(1).cloned().chain(told.needed.drain(..).map(Some)).collect();
            surely &= told.surely && allowed.len() * needed.len() <= FORMS;
            allowed = if surely { self.longer(&allowed, form, &needed) } else { Vec::new() };
            if texts.len() * told.readings.len() > FORMS {
                texts.truncate(1);
                told.readings.truncate(1);
                open = true;
            }
            // A value that can be told in several ways is told in each: a deny rule may name any.
            texts = self.longer(&texts, form, &told.readings);
        }
        let text: Arc<str> = texts.swap_remove(0).into();
        let shown = Glob::parse(&text);
        let others = texts.iter().map(String::as_str).chain(open.then_some("*")).filter_map(Glob::parse);
        let forms = shown.iter().cloned().chain(others).collect();
        let readings: Vec<Glob> = allowed.iter().skip(1).filter_map(|text| Glob::parse(text)).collect();
        let allowable: Vec<Glob> = shown.filter(|_| surely).into_iter().collect();
        // A person who writes the whole of it means it.
        let exact = allowable.first().filter(|_| !readings.is_empty());
        let spelled = exact.map(|form| Spelled { form: form.clone(), bytes: text.len() });
        Specifier { text, parts: vec![Part { forms, allowable, readings, spelled }], unreadable: false }
    }

    /// Each of the texts with each of the readings of a value behind it.
    fn longer(&self, texts: &[String], form: Form, readings: &[Option<String>]) -> Vec<String> {
        let mut longer = Vec::new();
        for (begun, reading) in texts.iter().flat_map(|begun| readings.iter().map(move |reading| (begun, reading))) {
            let mut text = begun.clone();
            match reading {
                Some(value) => self.escape(value, form, &mut text),
                None => text.push('*'),
            }
            longer.push(text);
        }
        longer
    }

    /// Puts a value into a specifier: what could be taken for something else is written as `%` and two digits a byte.
    fn escape(&self, text: &str, form: Form, to: &mut String) {
        for character in text.chars() {
            // A URL has percent signs of its own, which mean the same.
            if self.can_hold(form, character) && (character != '%' || form == Form::Url) {
                to.push(character);
            } else {
                let mut bytes = [0; 4];
                character.encode_utf8(&mut bytes).bytes().for_each(|byte| to.push_str(&format!("%{byte:02X}")));
            }
        }
    }

    /// Whether a value in a specifier may hold a character.
    pub fn can_hold(&self, form: Form, character: char) -> bool {
        match form {
            Form::Shell => shell::can_hold(character),
            _ => character != '*' && !shell::is_unseen(character) && !self.shared.borders.contains(&character),
        }
    }

    /// The specifier that an earlier call left in a record, as [`Specifier::text`]; `None` where its text does not say all of
    /// it: where a command, a path or a URI is taken apart.
    pub fn recorded(&self, text: &str) -> Option<Specifier> {
        let is_plain = |piece: &Piece| matches!(piece, Piece::Text(_) | Piece::Value { form: Form::Plain, .. });
        let form = Glob::parse(text).filter(|_| self.pieces().iter().all(is_plain))?;
        let allowable = if form.is_plain() { vec![form.clone()] } else { Vec::new() };
        let parts = vec![Part { forms: vec![form], allowable, ..Part::default() }];
        Some(Specifier { text: text.into(), parts, unreadable: false })
    }

    /// The name of the shell line and the texts around it, in a template of one.
    pub fn shell(&self) -> Option<(&str, &str, &str)> {
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

fn tell(form: Form, value: &Value) -> Told {
    let text = match value {
        Value::String(text) if text.len() <= VALUE_BYTES => text,
        Value::Number(_) | Value::Bool(_) if form == Form::Plain => return Told::surely(value.to_string()),
        _ => return Told::unknown(),
    };
    match form {
        Form::Plain | Form::Shell => Told::surely(text.clone()),
        Form::Path => tell_path(text),
        Form::Url => tell_url(text),
        Form::Uri => tell_uri(text),
    }
}

/// What a plugin is given of a uri is decoded; where it goes up and down folders, it is also told where it ends.
fn tell_uri(text: &str) -> Told {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let flattened = |uri: &str| {
        let start = uri.find("://").map_or(0, |at| at + 3);
        let (first, path) = uri[start..].split_once('/').unwrap_or((&uri[start..], ""));
        let flat = format!("{}{first}/{}", &uri[..start], flat(path).trim_matches('/'));
        if flat.trim_end_matches('/') == uri.trim_end_matches('/') { uri.to_owned() } else { flat }
    };
    // One file has many names: whatever host stands there, it may be this one.
    let canonical = match decoded.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
            let path = rest.strip_prefix("//").map_or(rest, |rest| rest.find('/').map_or("", |at| &rest[at..]));
            format!("file:///{}", path.trim_start_matches('/'))
        }
        Some((scheme, rest)) => format!("{}:{rest}", scheme.to_ascii_lowercase()),
        None => decoded.clone(),
    };
    let (flat, last) = (flattened(&decoded), flattened(&canonical));
    let told = Told { surely: flat == decoded, ..Told::surely(flat) };
    [decoded, canonical, last].into_iter().fold(told, |told, form| told.also(Some(form)))
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
    Some(Part { forms: globs(&command.forms)?, allowable: globs(&command.allowable)?, spelled, ..Part::default() })
}

//! Why no specifier of a template fits a rule's pattern, and what to write instead.

use std::path::Path;

use crate::kernel::glob::{Glob, Place, overlap};
use crate::kernel::pathname::absolute;
use crate::kernel::specifier::{Form, Piece, Template};

/// Why a rule does not do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Whether it never does.
    pub certain: bool,
    /// What is wrong, where it is another thing than that no specifier fits.
    pub problem: Option<String>,
    /// What to do.
    pub cure: String,
}

impl Misfit {
    /// No specifier fits.
    pub fn certain(cure: String) -> Self {
        Self { certain: true, problem: None, cure }
    }

    /// It does hardly anything.
    pub fn likely(problem: String, cure: String) -> Self {
        Self { certain: false, problem: Some(problem), cure }
    }
}

/// What a specifier may be made of: its places, and of which form the open ones are.
#[derive(Default)]
struct Shape {
    places: Vec<Place>,
    open: Vec<Option<Open>>,
}

/// What may stand in an open place.
#[derive(Clone, Copy)]
enum Open {
    Value(Form),
    /// The words of a command.
    Words,
    /// The name of a file, or what a command is given to read.
    Word,
}

impl Shape {
    fn write(&mut self, text: &str) {
        self.places.extend(text.chars().map(Place::Is));
        self.open.resize(self.places.len(), None);
    }

    fn leave(&mut self, open: Open) {
        self.places.push(Place::Open);
        self.open.push(Some(open));
    }
}

/// The parts of a line for a shell: commands, files and what they are given to read.
const OF_A_LINE: [(&str, Open); 4] = [("", Open::Words), ("> ", Open::Word), ("< ", Open::Word), ("<<< ", Open::Word)];

impl Template {
    /// Why no specifier of this template ever fits the pattern, with the cure; `None` when one may.
    pub fn excludes(&self, pattern: &Glob) -> Option<String> {
        if !self.shapes().iter().any(|shape| self.fits(pattern, shape)) {
            return Some(match self.shell() {
                Some(_) => cure_of_command(pattern.as_str()),
                None => format!("specifiers of this tool look like {:?}: {}", self.as_str(), self.cure()),
            });
        }
        let pattern = pattern.as_str();
        self.odd_path(pattern).or_else(|| self.odd_escape(pattern))
    }

    fn shapes(&self) -> Vec<Shape> {
        if let Some((_, before, after)) = self.shell() {
            let shape = |(sign, open): (&str, Open)| {
                let mut shape = Shape::default();
                shape.write(before);
                shape.write(sign);
                shape.leave(open);
                shape.write(after);
                shape
            };
            return OF_A_LINE.map(shape).into();
        }
        let mut shape = Shape::default();
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => shape.write(text),
                Piece::Value { form, .. } => {
                    if *form == Form::Path {
                        shape.write("/");
                    }
                    shape.leave(Open::Value(*form));
                }
            }
        }
        vec![shape]
    }

    fn fits(&self, pattern: &Glob, shape: &Shape) -> bool {
        let holds = |c: char| self.can_hold(Form::Shell, c) && !matches!(c, '<' | '>');
        overlap(pattern.as_str(), &shape.places, |index, c| match shape.open[index] {
            None => true,
            Some(Open::Value(form)) => self.can_hold(form, c),
            Some(Open::Words) => holds(c),
            Some(Open::Word) => holds(c) && c != ' ',
        })
    }

    fn cure(&self) -> &'static str {
        match self.pieces().iter().find_map(|piece| match piece {
            Piece::Value { form, .. } if *form != Form::Plain => Some(*form),
            _ => None,
        }) {
            Some(Form::Path) => "paths are absolute there; begin the pattern with \"/\"",
            _ => {
                "write the texts between the values as the template does, and \"*\", \"%\" and borders in values as %2A, %25 …"
            }
        }
    }

    /// What a normalised path never holds.
    fn odd_path(&self, pattern: &str) -> Option<String> {
        let [Piece::Value { form: Form::Path, .. }] = self.pieces() else { return None };
        let odd = ["//", "/./", "/../"].into_iter().find(|odd| pattern.contains(odd));
        let end = ["/", "/.", "/.."].into_iter().find(|end| pattern.len() > 1 && pattern.ends_with(end));
        odd.or(end).map(|odd| {
            format!(
                "paths are normalised before they are matched, and none has {odd:?} there: write the path that it means"
            )
        })
    }

    /// A percent sign that begins no escape: those of values are escaped themselves, but for those of a URL.
    fn odd_escape(&self, pattern: &str) -> Option<String> {
        if self.pieces().iter().any(|piece| matches!(piece, Piece::Value { form: Form::Url, .. })) {
            return None;
        }
        let mut at = 0;
        while let Some(begin) = pattern[at..].find('%').map(|found| at + found) {
            let run = Run::read(pattern, begin);
            if let Some(odd) = run.odd(|c| self.is_escaped(c)) {
                return Some(odd);
            }
            at = run.end;
        }
        None
    }

    /// Whether a character of a value is written as an escape.
    fn is_escaped(&self, character: char) -> bool {
        let form = |piece: &Piece| match piece {
            Piece::Value { form, .. } => Some(*form),
            Piece::Text(_) => None,
        };
        let escapes = |form: Form| match form {
            Form::Shell => matches!(character, ' ' | '<' | '>') || !self.can_hold(form, character),
            _ => !self.can_hold(form, character),
        };
        character == '%' || self.pieces().iter().filter_map(form).any(escapes)
    }

    /// Why no path fits the pattern of an allow rule on this machine, with the cure: a link leads elsewhere.
    pub fn odd_link(&self, pattern: &Glob) -> Option<String> {
        let [Piece::Value { form: Form::Path, .. }] = self.pieces() else { return None };
        // The last name may go on behind the `*`.
        let fixed = if pattern.is_plain() { pattern.as_str() } else { &pattern.head()[..pattern.head().rfind('/')?] };
        let found = absolute(Path::new(fixed), true).filter(|found| found != fixed && !fixed.contains('%'))?;
        let cure = format!("{found}{}", &pattern.as_str()[fixed.len()..]);
        Some(format!("links are followed before an allow rule is matched: write {cure:?}"))
    }
}

/// Escapes that stand side by side in a pattern, and so may be one character.
struct Run<'a> {
    /// `%C3%A9`, without what a `*` may complete.
    text: &'a str,
    /// Where it ends in the pattern.
    end: usize,
    /// Whether a `*` before or behind it may stand for more of the same.
    open: (bool, bool),
    /// What follows a percent sign that begins no escape.
    stray: Option<&'a str>,
}

impl<'a> Run<'a> {
    fn read(pattern: &'a str, begin: usize) -> Self {
        let open_before = pattern[..begin].ends_with('*');
        let mut end = begin;
        while let Some(rest) = pattern[end..].strip_prefix('%') {
            let digits: String = rest.chars().take(2).take_while(char::is_ascii_hexdigit).collect();
            let text = &pattern[begin..end];
            if digits.len() < 2 {
                // A `*` may stand for what is left of it.
                let goes_on = rest[digits.len()..].starts_with('*');
                let stray = (!goes_on).then_some(rest);
                return Self { text, end: end + 1 + digits.len(), open: (open_before, goes_on), stray };
            }
            end += 3;
        }
        let open = (open_before, pattern[end..].starts_with('*'));
        Self { text: &pattern[begin..end], end, open, stray: None }
    }

    /// What is wrong with it, and what to write.
    fn odd(&self, is_escaped: impl Fn(char) -> bool) -> Option<String> {
        if self.stray.is_some() {
            return Some(
                "every \"%\" there is followed by two hexadecimal digits: write a \"%\" as \"%25\"".to_owned(),
            );
        }
        if self.text.contains(|c: char| c.is_ascii_lowercase()) {
            let written = self.text.to_uppercase();
            return Some(format!("escapes have capital letters there: write {:?} as {written:?}", self.text));
        }
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(self.text).collect();
        let Some(known) = self.characters(&bytes) else {
            return Some(format!("{:?} is no character: write a \"%\" as \"%25\"", self.text));
        };
        let plain = known.chars().find(|c| !is_escaped(*c))?;
        let mut buffer = [0; 4];
        let escape: String = plain.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect();
        Some(format!("{:?} stands as it is there: write it instead of {escape:?}", plain.to_string()))
    }

    /// The whole characters of it; `None` where there is something else that no `*` completes.
    fn characters<'b>(&self, bytes: &'b [u8]) -> Option<&'b str> {
        let is_rest = |byte: &&u8| (0x80..0xc0).contains(*byte);
        let cut = if self.open.0 { bytes.iter().take(3).take_while(is_rest).count() } else { 0 };
        match std::str::from_utf8(&bytes[cut..]) {
            Ok(text) => Some(text),
            Err(error) if self.open.1 && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[cut..cut + error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }
}

/// What to write instead of a pattern that no part of a line fits.
fn cure_of_command(pattern: &str) -> String {
    let Some(last) = pattern.rfind(['<', '>']) else {
        return "write a rule for each simple command, and its words with one space between".to_owned();
    };
    let start = pattern[..=last].trim_end_matches(['<', '>']).len();
    let name = pattern[last + 1..].trim_start();
    let word = name.split(' ').next().unwrap_or_default();
    let written = match &pattern[start..=last] {
        "<<" => return "a line with a here-document is asked about, whatever rules say: remove it".to_owned(),
        "<<<" => format!("<<< {}", name.replace(' ', "%20")),
        signs if signs.contains('>') => format!("> {word}"),
        _ => format!("< {word}"),
    };
    format!(
        "a file that is read or written is a part of its own, and \"<\" and \">\" stand only at the beginning of one, as \
         \"> FILE\", \"< FILE\" or \"<<< TEXT\": write {written:?}"
    )
}

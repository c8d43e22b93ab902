//! One word of a shell line as rules see it: unquoted, with a `*` for what the shell alone will know.

use brush_parser::ParserOptions;
use brush_parser::word::{self, TildeExpr, WordPiece, WordPieceWithSource};

pub use crate::kernel::unseen::is_unseen;

/// One word. What the shell puts in for variables, substitutions and file patterns is a `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The word with a tilde for a home folder as it is written.
    pub written: String,
    /// The word with a `*` in place of such a tilde.
    pub open: String,
    /// The word itself where nothing in it is unknown.
    pub known: Option<String>,
    /// The command lines that are run to make it.
    pub substituted: Vec<String>,
    /// Whether the shell may make several words of it, or none.
    pub splits: bool,
}

impl Word {
    /// Reads a word as it stands in a line; `None` when it cannot be told what it does.
    pub fn read(text: &str) -> Option<Self> {
        let pieces = word::parse(text, &ParserOptions::default()).ok()?;
        let mut read = Self { known: Some(String::new()), ..Self::default() };
        read.add_all(text, &pieces, Quoted::No)?;
        // Names of variables with such an index run it, wherever they are evaluated: `printf -v 'a[$(rm x)]'`.
        let index = read.known.as_deref().and_then(|known| known.split_once('['));
        if index.is_some_and(|(_, rest)| runs_commands(rest)) {
            return None;
        }
        // Braces and brackets reach over quotes, which are read apart.
        let is_bare = |mark: char| {
            pieces.iter().any(|piece| matches!(&piece.piece, WordPiece::Text(text) if text.contains(mark)))
        };
        let braces = is_bare('{') && (text.contains(',') || text.contains(".."));
        if pieces.len() > 1 && (braces || (is_bare('[') && is_bare(']'))) {
            read = Self { substituted: read.substituted, splits: true, ..Self::unknown() };
        }
        Some(read)
    }

    /// A word that the shell takes as it is.
    pub fn plain(text: &str) -> Self {
        let mut read = Self { known: Some(String::new()), ..Self::default() };
        read.know(text);
        read
    }

    /// A word of which nothing is known.
    pub fn unknown() -> Self {
        Self { written: "*".into(), open: "*".into(), known: None, substituted: Vec::new(), splits: true }
    }

    fn add_all(&mut self, text: &str, pieces: &[WordPieceWithSource], quoted: Quoted) -> Option<()> {
        pieces.iter().try_for_each(|piece| self.add(text.get(piece.start_index..piece.end_index), &piece.piece, quoted))
    }

    fn add(&mut self, source: Option<&str>, piece: &WordPiece, quoted: Quoted) -> Option<()> {
        match piece {
            // What ends a word is in none without quotes: where it ends was told in two ways.
            WordPiece::Text(text) if quoted == Quoted::No && text.contains(ends_a_word) => return None,
            // The parser hands out as text what it cannot read.
            WordPiece::Text(text) if expands(text) => return None,
            WordPiece::Text(text) if quoted == Quoted::No => self.add_bare(text),
            // A shell that does not know the quotes reads them, and where they end, in another way; in arithmetic the value
            // of a name is evaluated in turn, and may run commands.
            WordPiece::AnsiCQuotedText(_)
            | WordPiece::GettextDoubleQuotedSequence(_)
            | WordPiece::ArithmeticExpression(_) => return None,
            WordPiece::Text(text) | WordPiece::SingleQuotedText(text) => self.know(text),
            WordPiece::EscapeSequence(text) => match text.strip_prefix('\\') {
                // A line that goes on.
                Some("\n") => {}
                Some(text) => self.know(text),
                None => return None,
            },
            WordPiece::DoubleQuotedSequence(pieces) => {
                pieces.iter().try_for_each(|piece| self.add(source, &piece.piece, Quoted::Yes))?;
            }
            WordPiece::TildeExpansion(tilde) => {
                self.written.push_str(&match tilde {
                    TildeExpr::Home => "~".to_owned(),
                    TildeExpr::UserHome(user) => escaped(&format!("~{user}")),
                    _ => "*".to_owned(),
                });
                self.open.push('*');
                self.known = None;
            }
            WordPiece::CommandSubstitution(line) => {
                self.substituted.push(line.clone());
                self.expand(quoted);
            }
            WordPiece::BackquotedCommandSubstitution(line) => {
                // What is quoted in it is unquoted once more.
                (!line.contains('\\')).then_some(())?;
                self.substituted.push(line.clone());
                self.expand(quoted);
            }
            WordPiece::ParameterExpansion(_) => {
                has_plain_parameters(source?).then_some(())?;
                self.expand(quoted);
                // It is as many words as there are arguments, also within quotes.
                self.splits |= source?.contains("$@");
            }
        }
        Some(())
    }

    /// Text without quotes, in which the shell may see a pattern of file names or of braces.
    fn add_bare(&mut self, text: &str) {
        let braces = text.contains('{') && (text.contains(',') || text.contains(".."));
        if braces {
            return self.expand(Quoted::No);
        }
        let pattern = text.find(['*', '?']).or_else(|| text.find('[').filter(|at| text[*at..].contains(']')));
        match pattern {
            None => self.know(text),
            Some(at) => {
                self.know(&text[..at]);
                self.expand(Quoted::No);
                // What follows a bracket belongs to it up to its end, which is not looked for.
                if !text[at..].starts_with('[') {
                    let rest = text[at..].trim_start_matches(['*', '?']);
                    self.add_bare(rest);
                }
            }
        }
    }

    /// What the shell puts in; without quotes it may be several words.
    fn expand(&mut self, quoted: Quoted) {
        self.open();
        self.splits |= quoted == Quoted::No;
    }

    fn know(&mut self, text: &str) {
        let escaped = escaped(text);
        self.written.push_str(&escaped);
        self.open.push_str(&escaped);
        if let Some(known) = &mut self.known {
            known.push_str(text);
        }
    }

    fn open(&mut self) {
        for text in [&mut self.written, &mut self.open] {
            if !text.ends_with('*') {
                text.push('*');
            }
        }
        self.known = None;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Yes,
    No,
}

/// Whether a shell puts something in for a part of a text that is not in single quotes.
fn expands(text: &str) -> bool {
    let begins = |next: char| next.is_ascii_alphanumeric() || "_({[@*#?-$!'\"".contains(next);
    text.contains('`') || text.split('$').skip(1).any(|rest| rest.chars().next().is_some_and(begins))
}

fn ends_a_word(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

/// Whether a piece of a line may hold a command substitution.
fn runs_commands(text: &str) -> bool {
    ["$(", "`", "<(", ">(", "${ ", "${|"].iter().any(|mark| text.contains(mark))
}

/// Whether every `$` of a text is a variable's plain value, and nothing in it is evaluated: no command, no index, no
/// value that is read as code (`${x@P}`, `${!x}`).
fn has_plain_parameters(text: &str) -> bool {
    if text.contains('`') {
        return false;
    }
    text.split('$').skip(1).all(|rest| match rest.chars().next() {
        Some('{') => rest[1..].split_once('}').is_some_and(|(inside, _)| is_plain_parameter(inside)),
        Some(next) => !matches!(next, '(' | '['),
        None => true,
    })
}

/// Whether a parameter in braces is a name, perhaps with a text for when it is not set or what is cut off at an end.
pub fn is_plain_parameter(inside: &str) -> bool {
    let name = inside.strip_prefix('#').filter(|rest| !rest.is_empty()).unwrap_or(inside);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    let (name, rest) = name.split_at(end);
    let rest = rest.strip_prefix(':').filter(|rest| rest.starts_with(['-', '+'])).unwrap_or(rest);
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "_./-*?".contains(c);
    !name.is_empty()
        && (rest.is_empty() || rest.starts_with(['-', '+', '%', '#']))
        && rest.trim_start_matches(['-', '+', '%', '#']).chars().all(is_harmless)
}

/// A known text as it stands in a specifier.
pub fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for character in text.chars() {
        if can_hold(character) && character != '%' {
            written.push(character);
        } else {
            let mut bytes = [0; 4];
            character.encode_utf8(&mut bytes).bytes().for_each(|byte| written.push_str(&format!("%{byte:02X}")));
        }
    }
    written
}

/// Whether a word in a specifier may hold a character: neither what ends a word or a command, nor what is a quote.
pub fn can_hold(character: char) -> bool {
    !(character.is_whitespace()
        || is_unseen(character)
        || matches!(character, '*' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`' | '"' | '\'' | '\\'))
}

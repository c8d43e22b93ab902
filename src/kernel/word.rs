//! One word of a shell line as rules see it: unquoted, with a `*` for what the shell alone will know.

use brush_parser::ParserOptions;
use brush_parser::word::{self, TildeExpr, WordPiece, WordPieceWithSource};

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
            read = Self { substituted: read.substituted, ..Self::unknown() };
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
        Self { written: "*".into(), open: "*".into(), known: None, substituted: Vec::new() }
    }

    fn add_all(&mut self, text: &str, pieces: &[WordPieceWithSource], quoted: Quoted) -> Option<()> {
        pieces.iter().try_for_each(|piece| self.add(text.get(piece.start_index..piece.end_index), &piece.piece, quoted))
    }

    fn add(&mut self, source: Option<&str>, piece: &WordPiece, quoted: Quoted) -> Option<()> {
        match piece {
            WordPiece::Text(text) if quoted == Quoted::No => self.add_bare(text),
            WordPiece::AnsiCQuotedText(text) if text.contains('\\') => self.open(),
            WordPiece::Text(text) | WordPiece::SingleQuotedText(text) | WordPiece::AnsiCQuotedText(text) => {
                self.know(text);
            }
            WordPiece::EscapeSequence(text) => match text.strip_prefix('\\') {
                // A line that goes on.
                Some("\n") => {}
                Some(text) => self.know(text),
                None => return None,
            },
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => {
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
                self.open();
            }
            WordPiece::BackquotedCommandSubstitution(line) => {
                self.substituted.push(line.replace("\\`", "`").replace("\\$", "$").replace("\\\\", "\\"));
                self.open();
            }
            // The value of a name is evaluated in turn, and may run commands.
            WordPiece::ArithmeticExpression(expression) if has_names(&expression.value) => return None,
            WordPiece::ParameterExpansion(_) | WordPiece::ArithmeticExpression(_) => {
                // What stands inside may run commands, at places that are not looked into.
                if runs_commands(source?) {
                    return None;
                }
                self.open();
            }
        }
        Some(())
    }

    /// Text without quotes, in which the shell may see a pattern of file names or of braces.
    fn add_bare(&mut self, text: &str) {
        let braces = text.contains('{') && (text.contains(',') || text.contains(".."));
        if braces {
            return self.open();
        }
        let pattern = text.find(['*', '?']).or_else(|| text.find('[').filter(|at| text[*at..].contains(']')));
        match pattern {
            None => self.know(text),
            Some(at) => {
                self.know(&text[..at]);
                self.open();
                // What follows a bracket belongs to it up to its end, which is not looked for.
                if !text[at..].starts_with('[') {
                    let rest = text[at..].trim_start_matches(['*', '?']);
                    self.add_bare(rest);
                }
            }
        }
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

/// Whether a piece of a line may hold a command substitution.
pub fn runs_commands(text: &str) -> bool {
    ["$(", "`", "<(", ">(", "${ ", "${|"].iter().any(|mark| text.contains(mark))
}

/// Whether an arithmetic expression has names, whose values are evaluated as expressions themselves.
pub fn has_names(expression: &str) -> bool {
    expression.contains(|c: char| c.is_alphabetic() || matches!(c, '_' | '$' | '`'))
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

/// Whether a character cannot be seen, or makes others be seen in another order.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

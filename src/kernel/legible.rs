//! Which lines are read at all: those that every shell, and the parser here, reads in one way.
//!
//! The parser is another's, and shells differ. Rather than to know each difference, a line may use only what is plain:
//! words, quotes, names of variables, substitutions as `$(…)`, lists, pipes, groups and redirections to files. Here-documents,
//! arithmetic, comments within substitutions and their like make the whole line one that is not read.

use crate::kernel::word::is_plain_parameter;

/// How many groups, substitutions and blocks a line may have: the parser's time doubles with some of them.
const LEVELS: usize = 16;
/// Words that open a block.
const BLOCKS: [&str; 6] = ["if", "while", "until", "for", "elif", "do"];

/// How many levels a line of the plain kind may have at most; `None` for any other line.
pub fn levels(line: &str) -> Option<usize> {
    // A comment or the rest of a word; the process's number or what follows a `$`.
    let is_doubtful = [")#", "}#", "`#", "$[", "$$"].iter().any(|mark| line.contains(mark));
    (!is_doubtful).then_some(())?;
    Scanner { rest: line, before: '\n', open: Vec::new(), levels: 0 }.scan()
}

/// What the scanner is within.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Parentheses,
    DoubleQuotes,
}

struct Scanner<'a> {
    rest: &'a str,
    /// The character before, without quotes; a blank where a word may begin.
    before: char,
    open: Vec<Within>,
    levels: usize,
}

impl Scanner<'_> {
    fn scan(mut self) -> Option<usize> {
        while let Some(character) = self.take() {
            match self.open.last() {
                Some(Within::DoubleQuotes) => self.within_quotes(character)?,
                _ => self.bare(character)?,
            }
        }
        self.open.is_empty().then_some(self.levels)
    }

    fn take(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    /// Goes past what is taken as it stands, up to and with `end`; what it was.
    fn pass(&mut self, end: char) -> Option<&str> {
        let (passed, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(passed)
    }

    fn within_quotes(&mut self, character: char) -> Option<()> {
        match character {
            '"' => {
                self.open.pop();
                self.before = '"';
            }
            '\\' => drop(self.take()?),
            // What it holds is unquoted in ways that differ.
            '`' => return None,
            '$' => self.dollar()?,
            _ => {}
        }
        Some(())
    }

    fn bare(&mut self, character: char) -> Option<()> {
        let before = self.before;
        let may_begin = matches!(before, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>');
        self.before = character;
        match character {
            '\'' => drop(self.pass('\'')?),
            '"' => self.open.push(Within::DoubleQuotes),
            // A line that goes on, as if nothing stood there.
            '\\' if self.rest.starts_with('\n') => {
                self.take();
                self.before = before;
            }
            '\\' => drop(self.take()?),
            '`' => self.backquotes()?,
            '$' => self.dollar()?,
            // `((` is arithmetic to some; within a word a function, an array or a pattern begins.
            '(' if !may_begin || self.rest.starts_with('(') => return None,
            '(' => self.enter()?,
            ')' => (self.open.pop()? == Within::Parentheses).then_some(())?,
            // `{name}>` sets a variable, and may evaluate an index in it.
            '<' | '>' if before == '}' => return None,
            '<' if self.rest.starts_with("<<") => {
                self.rest = &self.rest[2..];
                // A document, or what no shell knows.
                (!self.rest.starts_with('<')).then_some(())?;
            }
            '<' if self.rest.starts_with('<') => return None,
            // A blank to some.
            other if other.is_whitespace() && !other.is_ascii() => return None,
            '{' => self.level()?,
            '!' if may_begin => self.level()?,
            // To a shell that does not know it, it is a command with redirections.
            '[' if may_begin && self.rest.starts_with('[') => return None,
            '#' if may_begin => self.comment()?,
            _ if may_begin && character.is_ascii_lowercase() => self.keyword(character)?,
            _ => {}
        }
        Some(())
    }

    fn level(&mut self) -> Option<()> {
        self.levels += 1;
        (self.levels <= LEVELS).then_some(())
    }

    fn enter(&mut self) -> Option<()> {
        self.open.push(Within::Parentheses);
        self.before = '(';
        self.level()
    }

    fn dollar(&mut self) -> Option<()> {
        let is_quoted = self.open.last() == Some(&Within::DoubleQuotes);
        match self.rest.chars().next() {
            Some('(') => {
                self.take();
                // Arithmetic, or a group within.
                (!self.rest.starts_with('(')).then_some(())?;
                self.enter()
            }
            Some('{') => {
                self.take();
                is_plain_parameter(self.pass('}')?).then_some(())
            }
            Some('\'' | '"') if !is_quoted => None,
            _ => Some(()),
        }
    }

    /// A substitution in backquotes: only where nothing in it is quoted once more.
    fn backquotes(&mut self) -> Option<()> {
        let inside = self.pass('`')?;
        (!inside.contains(['\\', '\'', '"', '$'])).then_some(())?;
        self.level()
    }

    /// A comment; where one ends within a substitution is told in different ways.
    fn comment(&mut self) -> Option<()> {
        self.open.is_empty().then_some(())?;
        self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        Some(())
    }

    /// A word that may open a block.
    fn keyword(&mut self, first: char) -> Option<()> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let word = format!("{first}{}", &self.rest[..end]);
        if BLOCKS.contains(&word.as_str()) { self.level() } else { Some(()) }
    }
}

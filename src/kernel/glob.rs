//! Patterns in which `*` stands for any text, matched whole; and what one pattern says of another.

use std::fmt;

use wildmatch::WildMatchPattern;

/// Stands for one unknown text where a pattern is looked at as a text. No pattern holds it.
const HOLE: char = '\u{1}';

/// Would stand for one character; no pattern holds it, so nothing but `*` is special.
const NONE: char = '\u{0}';

/// A pattern: `*` is any text, also none; all else is itself. Anchored at both ends; letters keep their case.
#[derive(Clone)]
pub struct Glob {
    text: Box<str>,
    /// What comes before the first `*`: most texts differ there.
    head: usize,
    /// What comes after the last `*`; none without one.
    tail: usize,
    /// `None` for a pattern without `*`.
    matcher: Option<WildMatchPattern<'*', NONE>>,
}

impl Glob {
    /// Reads a pattern; `None` when it holds a control character, which no pattern does.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(char::is_control) {
            return None;
        }
        let head = text.find('*').unwrap_or(text.len());
        let tail = text.rfind('*').map_or(0, |at| text.len() - at - 1);
        let matcher = text.contains('*').then(|| WildMatchPattern::new(text));
        Some(Self { text: text.into(), head, tail, matcher })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every text that fits begins with.
    pub fn head(&self) -> &str {
        &self.text[..self.head]
    }

    /// Whether it is one text and no more.
    pub fn is_plain(&self) -> bool {
        self.matcher.is_none()
    }

    /// Whether a text fits.
    pub fn matches(&self, text: &str) -> bool {
        let Some(matcher) = &self.matcher else { return *text == *self.text };
        text.len() >= self.head + self.tail
            && text.as_bytes().starts_with(&self.text.as_bytes()[..self.head])
            && text.as_bytes().ends_with(&self.text.as_bytes()[self.text.len() - self.tail..])
            && matcher.matches(text)
    }

    /// Whether every text that fits `other` fits this one, too.
    ///
    /// A text that nobody can spell stands in each place where `other` leaves the text open: only a `*` of this pattern
    /// takes it, and then takes any other text there as well.
    pub fn includes(&self, other: &Self) -> bool {
        if other.is_plain() {
            self.matches(&other.text)
        } else {
            self.matches(&other.text.replace('*', HOLE.encode_utf8(&mut [0; 4])))
        }
    }

    /// Whether some text fits both.
    pub fn meets(&self, other: &Self) -> bool {
        match (self.is_plain(), other.is_plain()) {
            (true, _) => other.matches(&self.text),
            (_, true) => self.matches(&other.text),
            (false, false) => {
                let open = |c: char| if c == '*' { Place::Open } else { Place::Is(c) };
                overlap(&self.text, &other.text.chars().map(open).collect::<Vec<_>>(), |_, _| true)
            }
        }
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// One place of a text that is not wholly known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This character.
    Is(char),
    /// Any text, also none.
    Open,
}

/// Whether some text fits the pattern and the places; `may` says whether the open place at an index may hold a
/// character. Takes a time that grows with the product of both lengths.
pub fn overlap(pattern: &str, places: &[Place], may: impl Fn(usize, char) -> bool) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // For each place of `places`, whether the pattern's first characters so far can stand for all before it.
    let mut reached = vec![false; places.len() + 1];
    reached[0] = true;
    spread(&mut reached, places);
    for character in pattern {
        let mut next = vec![false; places.len() + 1];
        if character == '*' {
            let first = reached.iter().position(|reached| *reached);
            next.iter_mut().skip(first.unwrap_or(usize::MAX)).for_each(|place| *place = true);
        } else {
            for (index, place) in places.iter().enumerate().filter(|(index, _)| reached[*index]) {
                match place {
                    Place::Is(own) => next[index + 1] |= *own == character,
                    Place::Open => next[index] |= may(index, character),
                }
            }
            spread(&mut next, places);
        }
        reached = next;
    }
    reached[places.len()]
}

/// An open place may hold no text: what is reached before it is reached after it.
fn spread(reached: &mut [bool], places: &[Place]) {
    for (index, place) in places.iter().enumerate() {
        if reached[index] && *place == Place::Open {
            reached[index + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_is_matched_whole_and_only_the_star_is_special() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("[ab]", "a", false),
            ("*", "", true),
            ("**", "x", true),
            ("ab*ba", "aba", false),
            ("A", "a", false),
            ("*é*", "xéy", true),
        ] {
            assert_eq!(glob(pattern).matches(text), fits, "{pattern} {text}");
        }
        assert!(Glob::parse("a\nb").is_none() && Glob::parse("\u{1}").is_none());
    }

    #[test]
    fn a_pattern_includes_another_when_it_matches_all_that_it_matches() {
        for (wide, narrow, includes) in [
            ("*", "a*b", true),
            ("a*", "a*b", true),
            ("a*b", "a*", false),
            ("a*b*", "a*b", true),
            ("a", "a*", false),
            ("/data/*", "/data/x/*", true),
            ("/data/*/y", "/data/*y", false),
            ("a*", "a", true),
        ] {
            assert_eq!(glob(wide).includes(&glob(narrow)), includes, "{wide} {narrow}");
        }
    }

    #[test]
    fn two_patterns_meet_when_one_text_fits_both() {
        for (left, right, meet) in [
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("*a*", "*b*", true),
            ("/data/*", "/*", true),
            ("a*c", "a*d", false),
            ("ab*", "*ba", true),
            ("a", "a*", true),
            ("x", "a*", false),
        ] {
            assert_eq!(glob(left).meets(&glob(right)), meet, "{left} {right}");
            assert_eq!(glob(right).meets(&glob(left)), meet, "{right} {left}");
        }
    }
}

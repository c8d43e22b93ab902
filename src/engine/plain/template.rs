//! The routes of a mount in the order in which they are tried, and which of them a path and a method meet.
//!
//! What is not certain here is left to the app: a path that no route has, a method that a path does not have, a redirect.

use std::ops::Range;

use http::Method;

/// What a parameter in a path may be, as Starlette's convertors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One or more characters other than a slash.
    Text,
    /// One or more digits.
    Int,
    /// Digits, with a fraction or without.
    Float,
    /// A UUID, with hyphens or without.
    Uuid,
    /// All the rest, slashes and nothing at all included.
    Rest,
}

impl Kind {
    /// Starlette's word for it; `None` when it is none of Starlette's own.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "str" => Self::Text,
            "int" => Self::Int,
            "float" => Self::Float,
            "uuid" => Self::Uuid,
            "path" => Self::Rest,
            _ => return None,
        })
    }

    fn takes(self, text: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Text => !text.is_empty(),
            Self::Int => digits(text),
            Self::Float => match text.split_once('.') {
                Some((whole, fraction)) => digits(whole) && digits(fraction),
                None => digits(text),
            },
            Self::Uuid => is_uuid(text),
            Self::Rest => true,
        }
    }
}

/// `[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}`.
fn is_uuid(text: &str) -> bool {
    let mut bytes = text.as_bytes();
    for (index, count) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0
            && let Some(rest) = bytes.strip_prefix(b"-")
        {
            bytes = rest;
        }
        let Some((digits, rest)) = bytes.split_at_checked(count) else { return false };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        bytes = rest;
    }
    bytes.is_empty()
}

/// What stands between two slashes: text, or one or two parameters with text around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The text before the parameter, or all of it when there is none.
    pub before: Box<str>,
    /// The parameter.
    pub kind: Option<Kind>,
    /// The text after the last parameter.
    pub after: Box<str>,
    /// The text between two parameters, both [`Kind::Text`]; `None` when there is one at most.
    pub between: Option<Box<str>>,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path below the mount, by segments; `None` when nobody can say which paths it takes.
    pub segments: Option<Vec<Segment>>,
    /// Its methods; `None` means any.
    pub methods: Option<Vec<Method>>,
    /// The number of its compiled handler; `None` leaves it to the app.
    pub compiled: Option<usize>,
}

/// The routes of one mount.
#[derive(Debug, Default)]
pub struct Routes {
    entries: Vec<Entry>,
}

impl Routes {
    /// In the order in which they are tried.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// The compiled handler that answers, with its parameters as ranges of `path`; `None` leaves it to the app.
    ///
    /// `path` is below the mount and percent-decoded, empty or with a slash before it.
    pub fn find(&self, method: &Method, path: &str) -> Option<(usize, Vec<Range<usize>>)> {
        for entry in &self.entries {
            let Some(segments) = &entry.segments else { return None };
            if let Some(parameters) = fits(segments, path)
                && entry.methods.as_ref().is_none_or(|methods| methods.contains(method))
            {
                return entry.compiled.map(|number| (number, parameters));
            }
        }
        None
    }
}

fn fits(segments: &[Segment], path: &str) -> Option<Vec<Range<usize>>> {
    let mut parameters = Vec::new();
    // Where the text after the last slash begins; `None` when all was taken.
    let mut at = path.strip_prefix('/').map(|_| 1);
    for segment in segments {
        let start = at?;
        let rest = &path[start..];
        if segment.kind == Some(Kind::Rest) {
            if !rest.starts_with(&*segment.before) {
                return None;
            }
            parameters.push(start + segment.before.len()..path.len());
            return Some(parameters);
        }
        let end = start + rest.find('/').unwrap_or(rest.len());
        let text = &path[start..end];
        match segment.kind {
            None if *text != *segment.before => return None,
            None => {}
            Some(kind) => {
                let inner = text.strip_prefix(&*segment.before)?.strip_suffix(&*segment.after)?;
                let begin = start + segment.before.len();
                let Some(between) = &segment.between else {
                    if !kind.takes(inner) {
                        return None;
                    }
                    parameters.push(begin..begin + inner.len());
                    at = (end < path.len()).then_some(end + 1);
                    continue;
                };
                let (first, second) = split(inner, between)?;
                parameters.push(begin..begin + first);
                parameters.push(begin + second..begin + inner.len());
            }
        }
        at = (end < path.len()).then_some(end + 1);
    }
    (at.is_none() && (!segments.is_empty() || path.is_empty())).then_some(parameters)
}

/// Where the first of two parameters ends and the second begins. The first takes as much as it can, and each takes
/// something.
fn split(text: &str, between: &str) -> Option<(usize, usize)> {
    let last = text.char_indices().next_back()?.0;
    let first = text[..last].rfind(between).filter(|at| *at > 0)?;
    Some((first, first + between.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(template: &str) -> Vec<Segment> {
        let segment = |text: &str| match text.split_once('{') {
            Some((before, rest)) => {
                let (name, after) = rest.split_once('}').expect("a closed brace");
                let kind = Kind::parse(name.split_once(':').map_or("str", |(_, kind)| kind));
                let (between, after) = match after.split_once('{') {
                    Some((between, rest)) => (Some(between.into()), rest.split_once('}').expect("a closed brace").1),
                    None => (None, after),
                };
                Segment { before: before.into(), kind, after: after.into(), between }
            }
            None => Segment { before: text.into(), kind: None, after: "".into(), between: None },
        };
        template.split('/').skip(1).map(segment).collect()
    }

    fn taken(template: &str, path: &str) -> Option<Vec<String>> {
        let found = fits(&segments(template), path)?;
        Some(found.into_iter().map(|range| path[range].to_owned()).collect())
    }

    #[test]
    fn a_template_takes_the_paths_that_starlette_takes() {
        let none: Vec<String> = Vec::new();
        assert_eq!(taken("", ""), Some(none.clone()));
        assert_eq!(taken("", "/"), None);
        assert_eq!(taken("/", "/"), Some(none.clone()));
        assert_eq!(taken("/", ""), None);
        assert_eq!(taken("/a", "/a"), Some(none));
        assert_eq!(taken("/a", "/a/"), None);
        assert_eq!(taken("/a/", "/a"), None);
        assert_eq!(taken("/a/{x}", "/a/"), None);
        assert_eq!(taken("/a/{x}", "/a/b c"), Some(vec!["b c".to_owned()]));
        assert_eq!(taken("/a/{x}/b", "/a/1/b"), Some(vec!["1".to_owned()]));
        assert_eq!(taken("/a/{x}/b", "/a/1/b/"), None);
        assert_eq!(taken("/{x}.json", "/a.json.json"), Some(vec!["a.json".to_owned()]));
        assert_eq!(taken("/{x}.json", "/.json"), None);
        let two = |first: &str, second: &str| Some(vec![first.to_owned(), second.to_owned()]);
        assert_eq!(taken("/{x}-{y}", "/a-b-c"), two("a-b", "c"));
        assert_eq!(taken("/{x}-{y}", "/a-b-"), two("a", "b-"));
        assert_eq!(taken("/{x}-{y}", "/--a"), two("-", "a"));
        assert_eq!(taken("/{x}-{y}", "/-é"), None);
        assert_eq!(taken("/v{x}.{y}z", "/va.bz"), two("a", "b"));
        assert_eq!(taken("/a/{x:int}", "/a/12"), Some(vec!["12".to_owned()]));
        assert_eq!(taken("/a/{x:int}", "/a/-12"), None);
        assert_eq!(taken("/a/{x:float}", "/a/1."), None);
        assert_eq!(taken("/a/{x:path}", "/a/"), Some(vec![String::new()]));
        assert_eq!(taken("/a/{x:path}", "/a"), None);
        assert_eq!(taken("/a/v{x:path}", "/a/v/b//c"), Some(vec!["/b//c".to_owned()]));
        let id = "01234567-89ab-cdef-0123-456789ABCDEF";
        assert_eq!(taken("/{x:uuid}", &format!("/{id}")), Some(vec![id.to_owned()]));
        assert_eq!(taken("/{x:uuid}", "/01234567-89ab-cdef-0123-456789ABCDE"), None);
    }

    #[test]
    fn the_first_route_that_has_path_and_method_answers() {
        let entry = |path, methods: &[Method], compiled| Entry {
            segments: Some(segments(path)),
            methods: (!methods.is_empty()).then(|| methods.to_vec()),
            compiled,
        };
        let unknown = Entry { segments: None, methods: None, compiled: None };
        let routes = Routes::new(vec![
            entry("/a", &[Method::POST], Some(0)),
            entry("/{x}", &[Method::GET], Some(1)),
            entry("/b", &[Method::GET], Some(2)),
            entry("/c/d", &[], None),
            unknown,
            entry("/e/f", &[Method::GET], Some(3)),
        ]);
        let found = |method: Method, path| routes.find(&method, path).map(|(number, _)| number);
        assert_eq!(found(Method::POST, "/a"), Some(0));
        assert_eq!(found(Method::GET, "/a"), Some(1));
        assert_eq!(found(Method::GET, "/b"), Some(1));
        assert_eq!(found(Method::PUT, "/a"), None);
        assert_eq!(found(Method::GET, "/c/d"), None);
        assert_eq!(found(Method::GET, "/e/f"), None);
    }
}

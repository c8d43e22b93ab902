//! Options of commands that take another command, and where that begins.

use crate::kernel::flat::flat;
use crate::kernel::word::Word;

/// A command that takes another as its last arguments.
pub struct Wrapper {
    /// Its name.
    pub name: &'static str,
    /// Its options without a value: letters, then long names.
    pub flags: (&'static str, &'static [&'static str]),
    /// Its options with a value: letters, then long names.
    pub values: (&'static str, &'static [&'static str]),
    /// How many arguments stand before the command.
    pub arguments: usize,
}

/// One without arguments of its own, and with options of one letter.
pub const fn wrapper(name: &'static str, flags: &'static str, values: &'static str) -> Wrapper {
    Wrapper { name, flags: (flags, &[]), values: (values, &[]), arguments: 0 }
}

impl Wrapper {
    /// Where the inner command begins; `None` when an option is not known.
    pub fn inner(&self, words: &[Word], variables: &mut Vec<String>) -> Option<usize> {
        let mut at = 1;
        while let Some(word) = words.get(at) {
            let known = word.known.as_deref()?;
            if known == "--" {
                at += 1;
                break;
            }
            let Some(option) = known.strip_prefix('-').filter(|option| !option.is_empty()) else { break };
            let taken = match option.strip_prefix('-') {
                Some(long) => self.long(long)?,
                None => self.short(option)?,
            };
            // A value that is not known may be several words, the command's among them.
            words.iter().skip(at + 1).take(taken - 1).all(|value| value.known.is_some()).then_some(())?;
            at += taken;
        }
        if matches!(self.name, "env" | "sudo") {
            while let Some(word) = words.get(at).filter(|word| word.written.contains('=')) {
                variables.push(word.open.clone());
                at += 1;
            }
        }
        for _ in 0..self.arguments {
            words.get(at)?.known.as_deref()?;
            at += 1;
        }
        // The value of the last option may be missing.
        Some(at.min(words.len()))
    }

    /// How many words an option like `-u` or `-nu` takes.
    fn short(&self, letters: &str) -> Option<usize> {
        // nice -10
        if self.name == "nice" && letters.bytes().all(|c| c.is_ascii_digit()) {
            return Some(1);
        }
        for (index, letter) in letters.char_indices() {
            if self.values.0.contains(letter) {
                let attached = index + letter.len_utf8() < letters.len();
                return Some(if attached { 1 } else { 2 });
            }
            if !self.flags.0.contains(letter) {
                return None;
            }
        }
        Some(1)
    }

    /// How many words an option like `--user` or `--user=root` takes.
    fn long(&self, option: &str) -> Option<usize> {
        let (name, attached) = option.split_once('=').map_or((option, false), |(name, _)| (name, true));
        if self.values.1.contains(&name) {
            return Some(if attached { 1 } else { 2 });
        }
        self.flags.1.contains(&name).then_some(1)
    }
}

/// The name of a command that this system has for everybody; a file of another folder is whatever it is.
pub fn name_of(word: &Word) -> Option<&str> {
    let known = word.known.as_deref()?;
    let name = known.rsplit('/').next()?;
    // What loads other programs lies elsewhere.
    if !known.contains('/') || name.starts_with("ld-linux") || name == "ld.so" {
        return Some(name);
    }
    let folders = ["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/"];
    let flat = flat(known);
    let folder = flat.strip_suffix(name).filter(|_| known.starts_with('/'))?;
    folders.contains(&folder).then_some(name)
}

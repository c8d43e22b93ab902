//! Shells that a command line starts in turn: which line they read, where that can be told.

use crate::kernel::flat::flat;
use crate::kernel::word::Word;

/// What a command runs in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Itself.
    #[default]
    Command,
    /// A line that a shell reads; `None` when it is not known.
    Line(Option<String>),
    /// It cannot be told.
    Unknown,
}

/// What takes a line with `-c`, and reads it as it is read here.
pub const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

/// Shells that read a line in ways of their own.
pub const OTHER_SHELLS: [&str; 14] =
    ["zsh", "ksh", "ksh93", "mksh", "lksh", "yash", "rbash", "rksh", "csh", "tcsh", "fish", "nu", "xonsh", "pwsh"];

/// The line that a shell runs later, when it gets a signal or ends.
pub fn line_of_trap(arguments: &[Word]) -> End {
    let begin = usize::from(arguments.first().is_some_and(|word| word.known.as_deref() == Some("--")));
    match arguments.get(begin) {
        None => End::Command,
        Some(word) if begin == 0 && word.known.as_deref().is_some_and(|known| known.starts_with('-')) => End::Command,
        Some(word) => End::Line(word.known.clone()),
    }
}

/// Letters of a shell's options that have no value and read no other file than those of its own kind.
const SHELL_FLAGS: &str = "euxvnfbhmpiltBCEHPT";

/// The line that a shell with these arguments reads. With a file it is a command like others; without, it reads what
/// nobody knows.
pub fn line_of(arguments: &[Word]) -> End {
    let mut is_line = false;
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        at += 1;
        let Some(known) = word.known.as_deref() else { return End::Line(None) };
        match known {
            "--norc" | "--noprofile" | "--posix" | "--login" => {}
            "-o" | "+o" | "-O" | "+O" => {
                let is_known = arguments.get(at).is_some_and(|value| value.known.is_some());
                if !is_known {
                    return End::Unknown;
                }
                at += 1;
            }
            // What it reads then is not said.
            "-" | "--" if !is_line => return if is_file(arguments.get(at)) { End::Command } else { End::Line(None) },
            _ => match known.strip_prefix(['-', '+']) {
                Some(letters) if letters.chars().all(|c| c == 'c' || SHELL_FLAGS.contains(c)) => {
                    is_line |= letters.contains('c') && known.starts_with('-');
                }
                Some(_) => return End::Unknown,
                None if is_line => return End::Line(Some(known.to_owned())),
                None => return if is_file(Some(word)) { End::Command } else { End::Line(None) },
            },
        }
    }
    End::Line(None)
}

/// Whether a word names a file, and not what comes in from somewhere.
fn is_file(word: Option<&Word>) -> bool {
    let Some(name) = word.and_then(|word| word.known.as_deref()) else { return false };
    let flat = flat(name);
    !name.is_empty() && name != "-" && !["/dev/", "/proc/"].iter().any(|folder| flat.starts_with(folder))
}

/// What `.` reads: a file, or what comes in from somewhere.
pub fn read_by_source(arguments: &[Word]) -> End {
    if is_file(arguments.first()) { End::Command } else { End::Line(None) }
}

/// The line that `su` has a shell read; in other words than these it may run a file, or another shell.
pub fn asked_of_su(arguments: &[Word]) -> End {
    let (mut line, mut has_user, mut at) = (None, false, 0);
    while let Some(word) = arguments.get(at) {
        at += 1;
        match word.known.as_deref() {
            // Not as at a login: that begins in another folder.
            Some("-m" | "-p" | "--preserve-environment") => {}
            Some("-c" | "--command") if line.is_none() => {
                line = Some(arguments.get(at).and_then(|line| line.known.clone()));
                at += 1;
            }
            Some(known) if known.starts_with("--command=") && line.is_none() => {
                line = Some(known.strip_prefix("--command=").map(str::to_owned));
            }
            Some(user) if !has_user && !user.starts_with('-') => has_user = true,
            _ => return End::Unknown,
        }
    }
    End::Line(line.flatten())
}

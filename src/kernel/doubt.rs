//! Commands and variables that make a line for a shell one that is not judged, or have to be allowed themselves.

use crate::kernel::word::Word;

/// Variables that say nothing of what the command before which they stand does, by their beginning.
const HARMLESS_VARIABLES: [&str; 10] = [
    "LANG=",
    "LANGUAGE=",
    "LC_",
    "TZ=",
    "TERM=",
    "NO_COLOR=",
    "FORCE_COLOR=",
    "COLUMNS=",
    "LINES=",
    "DEBIAN_FRONTEND=",
];

/// Words that begin something else than a command, to every shell or to some.
pub const RESERVED: [&str; 20] = [
    "!", "[[", "]]", "{", "}", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if",
    "in", "select", "then", "until",
];

/// Variables that change what other commands do or load, also where they are set for the rest of a line, by their
/// beginning.
const TELLING_VARIABLES: [&str; 46] = [
    "CARGO",
    "CLASSPATH",
    "DOCKER_",
    "GO",
    "KUBECONFIG",
    "MAKEFILES",
    "OPENSSL_",
    "RSYNC_",
    "RUSTC",
    "RUSTFLAGS",
    "SUDO_",
    "TAR_OPTIONS",
    "TMPDIR",
    "VIM",
    "XDG_",
    "npm_",
    "PATH",
    "LD_",
    "DYLD_",
    "BASH",
    "ENV",
    "IFS",
    "SHELL",
    "PS4",
    "PROMPT_COMMAND",
    "HOME",
    "PYTHON",
    "PERL",
    "RUBY",
    "NODE_",
    "NPM_",
    "JAVA_",
    "JDK_",
    "_JAVA",
    "GIT_",
    "SSH_",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESS",
    "MANPAGER",
    "CDPATH",
    "GCONV_PATH",
    "GLOBIGNORE",
    "MAKEFLAGS",
    "LUA_",
];

/// Whether an assignment, `NAME=value`, says nothing of what the command before which it stands does.
pub fn is_harmless(assignment: &str) -> bool {
    let value = assignment.split_once('=').map_or("", |(_, value)| value);
    // A value may be a path, or code to what reads it.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.,:@/+-".contains(c);
    HARMLESS_VARIABLES.iter().any(|name| assignment.starts_with(name))
        && value.chars().all(is_plain)
        && !value.starts_with(['/', ':', '.'])
        && !value.contains("..")
}

/// Whether an assignment, `NAME=value`, changes what later commands do or load.
pub fn is_telling(assignment: &str) -> bool {
    TELLING_VARIABLES.iter().any(|name| assignment.starts_with(name))
}

/// Whether the first word of a command is no command to some shells, or no command at all.
pub fn is_reserved(word: &Word) -> bool {
    word.known.as_deref().is_some_and(|name| RESERVED.contains(&name) || name.starts_with('-'))
}

/// Whether the shell evaluates what a variable is set to, in `NAME=value`: as a number, in which names may run commands.
pub fn is_evaluated(assignment: &str) -> bool {
    let numbers = ["RANDOM", "SRANDOM", "OPTIND", "HISTCMD", "SECONDS", "LINENO", "EPOCH", "BASHPID"];
    numbers.iter().any(|name| assignment.starts_with(name))
}

/// Whether a command of the shell's own evaluates words that are not known here: names with an index, which may run
/// commands.
pub fn evaluates(words: &[Word]) -> bool {
    let Some(name) = words.first().and_then(|word| word.known.as_deref()) else { return false };
    let arguments = &words[1..];
    match name {
        // They make names of commands, or run words, now or later.
        "let" | "declare" | "typeset" | "local" | "alias" | "hash" | "compgen" | "complete" | "bind" | "enable"
        | "fc" | "history" => true,
        setter @ ("read" | "mapfile" | "readarray" | "unset" | "export" | "readonly" | "getopts" | "wait") => {
            // Those of `export` are shown as they are.
            let is_shown = matches!(setter, "export" | "readonly");
            let is_odd = |word: &str| {
                // `mapfile -C` runs its value.
                word.contains('[') || word.starts_with("-C") || is_evaluated(word) || (!is_shown && is_telling(word))
            };
            arguments.iter().any(|word| word.known.as_deref().is_none_or(is_odd))
        }
        "printf" => arguments.first().is_some_and(|first| {
            // It sets a variable, which may be one that later commands obey.
            first.splits || first.known.as_deref().is_none_or(|known| known.starts_with("-v") || counts(known))
        }),
        "test" => tests(arguments),
        "[" => tests(arguments.strip_suffix(&[Word::plain("]")]).unwrap_or(arguments)),
        _ => false,
    }
}

/// Whether a test may evaluate one of its words as the name of a variable: one that is not known may be `-v`.
fn tests(arguments: &[Word]) -> bool {
    let names = |word: &str| matches!(word, "-v" | "-R");
    if arguments.iter().any(|word| word.splits || word.known.as_deref().is_some_and(names)) {
        return true;
    }
    if arguments.iter().all(|word| word.known.is_some()) {
        return false;
    }
    match arguments {
        [operator, _] => operator.known.as_deref().is_none_or(|operator| !operator.starts_with('-')),
        [_, operator, _] => {
            let two = ["=", "==", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"];
            operator.known.as_deref().is_none_or(|operator| !two.contains(&operator))
        }
        _ => true,
    }
}

/// Whether a format of `printf` sets a variable to how much was written.
fn counts(format: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_digit() || "-+ #0'.*hlLqjzt".contains(c);
    format.split('%').skip(1).any(|rest| rest.trim_start_matches(is_sign).starts_with('n'))
}

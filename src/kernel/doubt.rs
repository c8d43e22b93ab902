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
const RESERVED: [&str; 20] = [
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

/// Whether a command of the shell's own evaluates words that are not known here: names with an index, which may run
/// commands.
pub fn evaluates(words: &[Word]) -> bool {
    let Some(name) = words.first().and_then(|word| word.known.as_deref()) else { return false };
    let arguments = &words[1..];
    let is_unknown = |word: &Word| word.known.is_none();
    match name {
        // They make names of commands, or run words, now or later.
        "let" | "declare" | "typeset" | "local" | "alias" | "hash" | "compgen" | "complete" | "bind" | "enable"
        | "fc" | "history" => true,
        "mapfile" | "readarray"
            if arguments.iter().any(|word| word.known.as_deref().is_none_or(|word| word.starts_with("-C"))) =>
        {
            true
        }
        "read" | "mapfile" | "readarray" | "unset" | "export" | "readonly" | "getopts" | "wait" => {
            arguments.iter().any(is_unknown)
        }
        "printf" => arguments.first().is_some_and(|first| {
            first.splits
                || first.known.is_none()
                // It sets a variable, which may be one that later commands obey.
                || first.known.as_deref().is_some_and(|known| known.starts_with("-v"))
        }),
        "test" | "[" => {
            let is_two = arguments.get(1).and_then(|word| word.known.as_deref()).is_some_and(|word| {
                ["=", "==", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"].contains(&word)
            });
            arguments.iter().any(|word| word.splits || word.known.as_deref() == Some("-v"))
                || (arguments.first().is_some_and(is_unknown) && !is_two)
        }
        _ => false,
    }
}

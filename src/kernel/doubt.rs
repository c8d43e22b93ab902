//! What makes a line for a shell one that is not judged, because shells or their parsers may read it in another way than it
//! is read here.

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
    HARMLESS_VARIABLES.iter().any(|name| assignment.starts_with(name))
}

/// Whether an assignment, `NAME=value`, changes what later commands do or load.
pub fn is_telling(assignment: &str) -> bool {
    TELLING_VARIABLES.iter().any(|name| assignment.starts_with(name))
}

/// How deep a line may be nested at most: every mark and word that may open a level. What closes one is not counted: it may
/// stand in quotes.
pub fn opening(line: &str) -> usize {
    let blocks = ["if", "while", "until", "for", "case", "select", "function", "coproc", "elif", "time"];
    let words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| blocks.contains(word)).count();
    words + line.matches(['(', '{', '[', '`', '!']).count()
}

/// Whether shells, or this one's parser, read a line in different ways.
pub fn is_ambiguous(line: &str) -> bool {
    // A comment or the rest of a word; the process's number or what follows a `$`.
    [")#", "}#", "`#", "$[", "$$"].iter().any(|mark| line.contains(mark))
}

/// Whether a command of the shell's own evaluates words that are not known here: names with an index, which may run
/// commands.
pub fn evaluates(words: &[Word]) -> bool {
    let Some(name) = words.first().and_then(|word| word.known.as_deref()) else { return false };
    let arguments = &words[1..];
    let is_unknown = |word: &Word| word.known.is_none();
    match name {
        "let" | "declare" | "typeset" | "local" => true,
        "read" | "mapfile" | "readarray" | "unset" | "export" | "readonly" | "getopts" | "wait" => {
            arguments.iter().any(is_unknown)
        }
        "printf" => arguments.first().is_some_and(|first| {
            first.splits
                || first.known.is_none()
                || (first.known.as_deref().is_some_and(|known| known.starts_with("-v"))
                    && arguments.iter().take(2).any(is_unknown))
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

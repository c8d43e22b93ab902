//! `git`, which runs what its words and its settings name: which of its commands do not.

use crate::kernel::options::{Wrapper, name_of, wrapper};
use crate::kernel::shells::End;
use crate::kernel::word::Word;

/// Options of `git` before its own command. Not `-c` and its like, which can name a command.
const GIT: Wrapper = Wrapper {
    flags: ("pPhv", &["no-pager", "paginate", "bare", "no-replace-objects", "literal-pathspecs", "version", "help"]),
    values: ("C", &["git-dir", "work-tree", "namespace"]),
    ..wrapper("git", "", "")
};

/// Commands of `git` that run nothing that their words name, but for what [`done_by_git`] looks for.
const OF_GIT: [&str; 44] = [
    "add",
    "am",
    "apply",
    "archive",
    "blame",
    "branch",
    "cat-file",
    "checkout",
    "cherry-pick",
    "clean",
    "clone",
    "commit",
    "describe",
    "diff",
    "fetch",
    "format-patch",
    "gc",
    "grep",
    "init",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "merge",
    "merge-base",
    "mv",
    "pull",
    "push",
    "rebase",
    "reflog",
    "remote",
    "reset",
    "restore",
    "rev-list",
    "rev-parse",
    "revert",
    "rm",
    "shortlog",
    "show",
    "show-ref",
    "stash",
    "status",
    "switch",
    "tag",
];

/// Options of those commands that name a command, a setting or a file to write, or that lead out of the folder; they may be
/// shortened, and some are the beginning of others.
const NAMING: [&str; 14] = [
    "--upload-pack",
    "--receive-pack",
    "--exec",
    "--extcmd",
    "--open-files-in-pager",
    "--config",
    "--template",
    "--interactive",
    "--strategy",
    "--output",
    "--repo",
    "--unsafe-paths",
    "--separate-git-dir",
    "--git-dir",
];

/// Letters that do the same, also among others: `-yx`.
fn naming_letters(command: &str) -> &'static str {
    match command {
        "clone" => "cu",
        "rebase" => "xis",
        "merge" | "pull" => "s",
        "archive" | "format-patch" => "o",
        "grep" => "O",
        _ => "",
    }
}

/// Whether what follows a word of `git` may be its value.
fn takes_value(command: &str, word: &str) -> bool {
    let alone =
        ["-a", "-q", "-v", "-n", "-s", "--all", "--amend", "--no-verify", "--allow-empty", "--quiet", "--signoff"];
    word.starts_with('-') && !(command == "commit" && alone.contains(&word))
}

/// `git` itself, or what it runs that its settings or its words name: an alias, an editor, a helper.
///
/// A `--` behind an option is looked at like other words: it may be its value.
pub fn done_by_git(words: &[Word]) -> End {
    let Some(inner) = GIT.inner(words, &mut Vec::new()) else { return End::Unknown };
    let Some(command) = words.get(inner) else { return End::Command };
    let Some(command) = command.known.as_deref().filter(|command| OF_GIT.contains(command)) else {
        return End::Unknown;
    };
    let letters = naming_letters(command);
    let names = |text: &str| match text.strip_prefix("--") {
        Some("") | None => {
            let bundle = text.strip_prefix('-').unwrap_or_default();
            text.starts_with('!') || text.starts_with("ext::") || bundle.contains(|letter| letters.contains(letter))
        }
        Some(_) => {
            let name = text.split('=').next().unwrap_or(text);
            NAMING.iter().any(|option| option.starts_with(name) || name.starts_with(option))
        }
    };
    let takes_message = matches!(command, "commit" | "tag" | "merge");
    let (mut is_value, mut before) = (false, command);
    for word in &words[inner + 1..] {
        match word.known.as_deref() {
            Some("--") if !takes_value(command, before) => return End::Command,
            Some("--git-dir") if command == "rev-parse" => {}
            Some(text) if names(text) => return End::Unknown,
            Some(text) => {
                // What follows an option may be its value.
                let is_bundle = command == "commit" && matches!(text, "-am" | "-qm" | "-qam" | "-sm" | "-asm" | "-vm");
                let is_message = is_bundle || matches!(text, "-m" | "--message");
                is_value = takes_message && is_message && !takes_value(command, before);
                before = text;
            }
            // A message in quotes is one word, whatever it says.
            None if is_value && !word.splits => (is_value, before) = (false, ""),
            None => return End::Unknown,
        }
    }
    End::Command
}

/// Where the own command of `git` begins, after the options for all of them; `None` for other commands.
pub fn own_command_of_git(words: &[Word]) -> Option<usize> {
    let is_git = words.first().and_then(name_of) == Some("git");
    is_git.then(|| GIT.inner(words, &mut Vec::new())).flatten().filter(|inner| (2..words.len()).contains(inner))
}

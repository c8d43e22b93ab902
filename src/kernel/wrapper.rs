//! Commands that run another command: `sudo`, `timeout`, `env` and their like, and shells that are given a line.

use crate::kernel::shells::{OTHER_SHELLS, SHELLS, asked_of_su, line_of, line_of_trap, read_by_source};
use crate::kernel::word::Word;

pub use crate::kernel::shells::End;

/// A command that takes another as its last arguments.
struct Wrapper {
    name: &'static str,
    /// Its options without a value: letters, then long names.
    flags: (&'static str, &'static [&'static str]),
    /// Its options with a value: letters, then long names.
    values: (&'static str, &'static [&'static str]),
    /// How many arguments stand before the command.
    arguments: usize,
}

const fn wrapper(name: &'static str, flags: &'static str, values: &'static str) -> Wrapper {
    Wrapper { name, flags: (flags, &[]), values: (values, &[]), arguments: 0 }
}

const WRAPPERS: [Wrapper; 16] = [
    Wrapper {
        flags: ("AbEHnPSkKi", &["preserve-env", "login", "non-interactive", "set-home", "stdin", "background"]),
        // Not `-D` and `-R`: in another folder, or below another root, names are other files.
        values: ("ugphCrtTU", &["user", "group", "prompt", "host"]),
        ..wrapper("sudo", "", "")
    },
    wrapper("doas", "nsL", "uC"),
    Wrapper {
        flags: ("i0v", &["ignore-environment", "null", "debug"]),
        // Not `-u` and `-C`: without a variable, or in another folder, names are other files.
        ..wrapper("env", "", "")
    },
    Wrapper {
        flags: ("v", &["foreground", "preserve-status", "verbose"]),
        values: ("sk", &["signal", "kill-after"]),
        arguments: 1,
        ..wrapper("timeout", "", "")
    },
    Wrapper { values: ("n", &["adjustment"]), ..wrapper("nice", "", "") },
    wrapper("nohup", "", ""),
    Wrapper {
        // Not `-o`, which writes what `-f` says into a file.
        flags: ("pvq", &["portability", "verbose", "quiet"]),
        values: ("f", &["format"]),
        ..wrapper("time", "", "")
    },
    Wrapper { values: ("ioe", &["input", "output", "error"]), ..wrapper("stdbuf", "", "") },
    Wrapper { flags: ("cfw", &["ctty", "fork", "wait"]), ..wrapper("setsid", "", "") },
    Wrapper { flags: ("t", &["ignore"]), values: ("cn", &["class", "classdata"]), ..wrapper("ionice", "", "") },
    wrapper("command", "p", ""),
    wrapper("builtin", "", ""),
    wrapper("exec", "cl", "a"),
    wrapper("busybox", "", ""),
    Wrapper {
        // Not `-I` and its like: with them what is read may stand anywhere, also as the command's name.
        flags: ("0rtpxo", &["null", "no-run-if-empty", "verbose", "interactive", "exit", "open-tty"]),
        values: ("nPLdsaE", &["max-args", "max-procs", "max-lines", "delimiter", "max-chars", "arg-file"]),
        ..wrapper("xargs", "", "")
    },
    wrapper("eval", "", ""),
];

/// Options of `watch`, which has a shell run its words.
const WATCH: Wrapper = Wrapper {
    flags: ("bcdegprtwx", &["beep", "color", "differences", "errexit", "chgexit", "no-title", "precise", "exec"]),
    values: ("nq", &["interval", "equexit"]),
    ..wrapper("watch", "", "")
};

/// Options of `ssh`, up to the host. Not `-o` and `-F`, which can name a command of this machine.
const SSH: Wrapper = Wrapper { arguments: 1, ..wrapper("ssh", "46AaCfGgKkMNnqsTtVvXxYy", "BbcDEeIiLlmpQRWwJ") };

/// Options of `git` before its own command. Not `-c` and its like, which can name a command.
const GIT: Wrapper = Wrapper {
    flags: ("pPhv", &["no-pager", "paginate", "bare", "no-replace-objects", "literal-pathspecs", "version", "help"]),
    values: ("C", &["git-dir", "work-tree", "namespace"]),
    ..wrapper("git", "", "")
};

/// What runs other commands in ways that are not read here: an allow rule for them is for the whole line.
const UNREAD: [&str; 54] = [
    "chroot",
    "flock",
    "setarch",
    "linux32",
    "linux64",
    "i386",
    "x86_64",
    "prlimit",
    "choom",
    "numactl",
    "cgexec",
    "firejail",
    "bwrap",
    "proot",
    "eatmydata",
    "faketime",
    "rlwrap",
    "screen",
    "tmux",
    "at",
    "batch",
    "crontab",
    "gdb",
    "valgrind",
    "perf",
    "xvfb-run",
    "dbus-run-session",
    "ssh-agent",
    "sshpass",
    "expect",
    "gosu",
    "su-exec",
    "tini",
    "dumb-init",
    "ld.so",
    "rsh",
    "parallel",
    "pkexec",
    "runuser",
    "systemd-run",
    "script",
    "strace",
    "ltrace",
    "unshare",
    "nsenter",
    "chrt",
    "taskset",
    "setpriv",
    "entr",
    "fakeroot",
    "start-stop-daemon",
    "run-parts",
    "unbuffer",
    "sg",
];

/// What a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// Where the commands begin that it runs, each inside the one before: indices of words.
    pub starts: Vec<usize>,
    /// Variables that they get, `NAME=value` as in a specifier.
    pub variables: Vec<String>,
    /// Whether the last gets further arguments that do not stand here.
    pub appended: bool,
    /// What the last one is.
    pub end: End,
    /// What runs beside it.
    pub beside: Vec<Beside>,
}

/// What a command runs that is a part of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A command of these words.
    Words(Vec<Word>),
    /// A line that a shell reads, perhaps of another machine; `None` when it is not known.
    Line(Option<String>),
}

/// Whether the first word may be a command that runs others.
pub fn is_wrapper(words: &[Word]) -> bool {
    let name = words.first().and_then(|word| word.known.as_deref());
    name.and_then(|name| name.rsplit('/').next()).is_some_and(|name| {
        SHELLS.contains(&name) || is_read_apart(name) || WRAPPERS.iter().any(|wrapper| wrapper.name == name)
    })
}

/// What a command of these words runs in the end.
pub fn unwrapped(words: &[Word]) -> Unwrapped {
    let mut found = Unwrapped::default();
    let mut start = 0;
    loop {
        let rest = &words[start..];
        let Some(name) = rest.first().and_then(name_of) else { return found };
        if name == "eval" && found.appended {
            found.end = End::Line(None);
            return found;
        }
        if name == "eval" {
            found.end = End::Line(joined(&rest[1..]));
            return found;
        }
        if name == "trap" {
            found.end = line_of_trap(&rest[1..]);
            return found;
        }
        if SHELLS.contains(&name) {
            // Further arguments may be the line, or stand in it.
            found.end = if found.appended { End::Line(None) } else { line_of(&rest[1..]) };
            return found;
        }
        if is_read_apart(name) {
            let (end, beside) = match name {
                "find" => found_by(&rest[1..]),
                "ssh" => asked_of_host(rest),
                "watch" => (watched(rest), Vec::new()),
                "git" => (done_by_git(rest), Vec::new()),
                "su" => (asked_of_su(&rest[1..]), Vec::new()),
                "." | "source" => (read_by_source(&rest[1..]), Vec::new()),
                _ => (End::Unknown, Vec::new()),
            };
            // What is added to its words may be anything of these.
            found.end = if found.appended { End::Line(None) } else { end };
            found.beside = beside;
            return found;
        }
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) else { return found };
        let Some(inner) = wrapper.inner(rest, &mut found.variables) else {
            // `env -S` takes a whole command as one word.
            let is_line = |word: &Word| word.known.as_deref().is_some_and(|known| known.contains([' ', '\t']));
            found.end = if name == "env" && rest.iter().any(is_line) { End::Line(None) } else { End::Unknown };
            return found;
        };
        if inner >= rest.len() {
            // What is appended is the command.
            found.end = if found.appended { End::Unknown } else { End::Command };
            return found;
        }
        found.appended |= name == "xargs";
        start += inner;
        found.starts.push(start);
    }
}

impl Wrapper {
    /// Where the inner command begins; `None` when an option is not known.
    fn inner(&self, words: &[Word], variables: &mut Vec<String>) -> Option<usize> {
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

/// Whether the words of a command are read in a way of their own.
fn is_read_apart(name: &str) -> bool {
    matches!(name, "find" | "ssh" | "watch" | "git" | "su" | "." | "source")
        || UNREAD.contains(&name)
        || OTHER_SHELLS.contains(&name)
        || name.starts_with("ld-linux")
}

/// What `find` runs for what it finds.
fn found_by(arguments: &[Word]) -> (End, Vec<Beside>) {
    let mut commands = Vec::new();
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        at += 1;
        if word.known.is_none() {
            // It may be any of its options, or several.
            return (End::Unknown, Vec::new());
        }
        match word.known.as_deref() {
            Some("-exec" | "-execdir" | "-ok" | "-okdir") => {}
            // It writes into a file that its words name, or takes away what it finds.
            Some("-fprint" | "-fprint0" | "-fprintf" | "-fls" | "-delete") => return (End::Unknown, Vec::new()),
            _ => continue,
        }
        let rest = &arguments[at..];
        let ends = |word: &Word| matches!(word.known.as_deref(), Some(";" | "+"));
        let length = rest.iter().position(ends).filter(|length| *length > 0);
        let Some(length) = length.filter(|length| rest[..*length].iter().all(|word| word.known.is_some())) else {
            return (End::Unknown, Vec::new());
        };
        let is_name = |word: &Word| word.known.as_deref().is_some_and(|known| known.contains("{}"));
        let named = |word: &Word| if is_name(word) { Word::unknown() } else { word.clone() };
        commands.push(Beside::Words(rest[..length].iter().map(named).collect()));
        at += length + 1;
    }
    (End::Command, commands)
}

/// What `ssh` has the other machine run: a line for its shell, of all words after the host.
fn asked_of_host(words: &[Word]) -> (End, Vec<Beside>) {
    let Some(rest) = SSH.inner(words, &mut Vec::new()).map(|inner| &words[inner..]) else {
        return (End::Unknown, Vec::new());
    };
    match rest.first() {
        None => (End::Command, Vec::new()),
        // Options may stand after the host, too.
        Some(word) if word.known.as_deref().is_none_or(|known| known.starts_with('-')) => {
            (End::Command, vec![Beside::Line(None)])
        }
        Some(_) => (End::Command, vec![Beside::Line(joined(rest))]),
    }
}

/// The line that `watch` has a shell run again and again.
fn watched(words: &[Word]) -> End {
    match WATCH.inner(words, &mut Vec::new()).map(|inner| &words[inner..]) {
        None => End::Unknown,
        Some([]) => End::Command,
        Some(rest) => End::Line(joined(rest)),
    }
}

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
        "merge" | "pull" | "cherry-pick" | "revert" => "s",
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
fn done_by_git(words: &[Word]) -> End {
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
            Some(text) if names(text) => return End::Unknown,
            Some(text) => {
                // What follows an option may be its value.
                is_value = takes_message && matches!(text, "-m" | "--message") && !takes_value(command, before);
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

fn joined(words: &[Word]) -> Option<String> {
    let texts: Option<Vec<&str>> = words.iter().map(|word| word.known.as_deref()).collect();
    texts.map(|texts| texts.join(" "))
}

/// The name of a command that this system has for everybody; a file of another folder is whatever it is.
fn name_of(word: &Word) -> Option<&str> {
    let known = word.known.as_deref()?;
    // What loads other programs lies elsewhere.
    if let Some(loader) = known.rsplit('/').next().filter(|name| name.starts_with("ld-linux") || *name == "ld.so") {
        return Some(loader);
    }
    let folders = ["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/"];
    let name = folders.iter().find_map(|folder| known.strip_prefix(folder)).unwrap_or(known);
    (!name.contains('/')).then_some(name)
}

//! A line for a shell, taken apart into its simple commands.
//!
//! What a line does is never guessed: what cannot be read is told as such, and the gate asks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use brush_parser::ast::{
    AndOr, Assignment, AssignmentName, AssignmentValue, Command as Node, CommandPrefixOrSuffixItem as Item,
    CompoundCommand, CompoundList, ElseClause, IoFileRedirectKind, IoFileRedirectTarget, IoRedirect, Pipeline,
    RedirectList, SimpleCommand,
};
use brush_parser::{Parser, ParserOptions};

use crate::kernel::doubt::{evaluates, is_evaluated, is_harmless, is_reserved, is_telling};
use crate::kernel::flat::flat;
use crate::kernel::git::own_command_of_git;
use crate::kernel::legible::levels;
use crate::kernel::shells::End;
use crate::kernel::word::{self, Word, escaped};
use crate::kernel::wrapper::{self, Beside, Unwrapped};

pub use crate::kernel::word::is_unseen;

/// Bytes of a line that is read.
const LINE_BYTES: usize = 16 << 10;
/// How deep a line may be nested: the parser calls itself for each level, and a thread's stack is finite.
const NESTING: usize = 12;
/// The stack that a line of more levels is read on, in bytes: a level takes some KiB, ten times as much without optimization.
const STACK: usize = 16 << 20;
/// How many words a command may have that runs others: each may be where the other begins.
const WORDS: usize = 64;
/// How many commands a line may have.
const COMMANDS: usize = 256;

/// One simple command, or one file that a line reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Every form that a deny or ask rule may name it in; the first is the whole.
    pub forms: Vec<String>,
    /// The forms of which one must be allowed.
    pub allowable: Vec<String>,
    /// The whole of one that runs another, and how much of it an allow rule must write out: to the name of the other.
    pub spelled: Option<(String, usize)>,
}

impl Command {
    /// The whole, as it is shown and kept.
    pub fn text(&self) -> &str {
        self.forms.first().map_or("*", String::as_str)
    }

    fn take_forms(&mut self, more: &[String]) {
        for form in more {
            if !self.forms.contains(form) {
                self.forms.push(form.clone());
            }
        }
    }
}

/// Whether a specifier of commands may hold a character.
pub fn can_hold(character: char) -> bool {
    word::can_hold(character) || matches!(character, ' ' | '<' | '>')
}

/// The simple commands of a line and the files that it reads and writes, in the order in which they stand; `None` when it
/// cannot be read for sure.
pub fn commands(line: &str) -> Option<Vec<Command>> {
    let read = || {
        let mut found = Found { commands: Vec::new(), depth: 0 };
        // The parser is another's: should it fail on a line, that line cannot be read.
        catch_unwind(AssertUnwindSafe(|| found.program(line))).ok()??;
        found.is_where_it_says().then_some(found.commands)
    };
    if readable(line)? <= NESTING {
        return read();
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, read).ok()?;
        reader.join().ok()?
    })
}

/// How many levels a line may have; `None` when it is not read.
fn readable(line: &str) -> Option<usize> {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if line.len() > LINE_BYTES || line.contains(is_odd) { None } else { levels(line) }
}

/// What was found so far.
struct Found {
    commands: Vec<Command>,
    depth: usize,
}

impl Found {
    /// Whether files are what their names say: after a change of the folder a relative name is any file.
    fn is_where_it_says(&self) -> bool {
        let moves = |command: &Command| {
            command.forms.iter().any(|form| {
                let name = form.split(' ').next().unwrap_or_default();
                // A name that is not known may be any of these.
                matches!(name, "cd" | "pushd" | "popd" | "chroot" | "." | "source" | "eval") || name.contains('*')
            })
        };
        let is_relative = |command: &Command| {
            let name = command.text().strip_prefix("> ").or_else(|| command.text().strip_prefix("< "));
            name.is_some_and(|name| !name.starts_with('/'))
        };
        let is_odd = |command: &Command| is_relative(command) && command.text().contains("..");
        let moved = self.commands.iter().any(moves) && self.commands.iter().any(is_relative);
        !(moved || self.commands.iter().any(is_odd))
    }

    fn line(&mut self, line: &str) -> Option<()> {
        readable(line)?;
        self.program(line)
    }

    /// Reads a line that is readable.
    fn program(&mut self, line: &str) -> Option<()> {
        (self.depth <= NESTING).then_some(())?;
        self.depth += 1;
        let program = Parser::new(line.as_bytes(), &ParserOptions::default()).parse_program().ok()?;
        program.complete_commands.iter().try_for_each(|list| self.list(list))?;
        self.depth -= 1;
        Some(())
    }

    fn list(&mut self, list: &CompoundList) -> Option<()> {
        list.0.iter().try_for_each(|item| {
            self.pipeline(&item.0.first)?;
            item.0.additional.iter().try_for_each(|more| match more {
                AndOr::And(pipeline) | AndOr::Or(pipeline) => self.pipeline(pipeline),
            })
        })
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Option<()> {
        // To some shells `time` is a program, and an assignment its argument.
        let is_plain = |command: &Node| matches!(command, Node::Simple(simple) if simple.prefix.is_none());
        (pipeline.timed.is_none() || pipeline.seq.first().is_some_and(is_plain)).then_some(())?;
        pipeline.seq.iter().try_for_each(|command| self.command(command))
    }

    fn command(&mut self, command: &Node) -> Option<()> {
        if self.commands.len() >= COMMANDS {
            return None;
        }
        match command {
            Node::Simple(simple) => self.simple(simple),
            Node::Compound(compound, redirects) => {
                self.compound(compound)?;
                self.redirects(redirects.as_ref())
            }
            // The name of a function may be that of a command which stands elsewhere; words of a test may be evaluated, and
            // to a shell that does not know it, it is a command with redirections.
            Node::Function(_) | Node::ExtendedTest(..) => None,
        }
    }

    fn compound(&mut self, compound: &CompoundCommand) -> Option<()> {
        match compound {
            // Where the patterns of `case` end is told in different ways; a shell that does not know the others reads
            // commands here.
            CompoundCommand::CaseClause(_)
            | CompoundCommand::Arithmetic(_)
            | CompoundCommand::ArithmeticForClause(_)
            | CompoundCommand::Coprocess(_) => None,
            CompoundCommand::BraceGroup(group) => self.list(&group.list),
            CompoundCommand::Subshell(group) => self.list(&group.list),
            CompoundCommand::ForClause(clause) => {
                self.variable(&format!("{}=*", clause.variable_name))?;
                clause.values.iter().flatten().try_for_each(|word| self.word(&word.value).map(drop))?;
                self.list(&clause.body.list)
            }
            CompoundCommand::IfClause(clause) => {
                self.list(&clause.condition)?;
                self.list(&clause.then)?;
                clause.elses.iter().flatten().try_for_each(|ElseClause { condition, body }| {
                    condition.iter().try_for_each(|list| self.list(list))?;
                    self.list(body)
                })
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(&clause.0)?;
                self.list(&clause.1.list)
            }
        }
    }

    fn simple(&mut self, simple: &SimpleCommand) -> Option<()> {
        let mut words = Vec::new();
        let is_command = simple.word_or_name.is_some();
        let prefix = simple.prefix.iter().flat_map(|prefix| &prefix.0);
        let suffix = simple.suffix.iter().flat_map(|suffix| &suffix.0);
        for item in prefix {
            match item {
                Item::AssignmentWord(assignment, _) => self.assignment(assignment, is_command)?,
                other => self.item(other, &mut words)?,
            }
        }
        if let Some(name) = &simple.word_or_name {
            words.push(self.word(&name.value)?);
        }
        for item in suffix {
            match item {
                // An argument of `export` or `env`, say.
                Item::AssignmentWord(_, word) => words.push(self.word(&word.value)?),
                other => self.item(other, &mut words)?,
            }
        }
        if words.is_empty() { Some(()) } else { self.invocation(&words) }
    }

    /// A command with its arguments, and the line that it has a shell run, if it does.
    fn invocation(&mut self, words: &[Word]) -> Option<()> {
        (words.len() <= WORDS || !wrapper::is_wrapper(words)).then_some(())?;
        let (command, unwrapped) = of_words(words);
        // Also behind `command` and `builtin`.
        let mut starts = std::iter::once(&0).chain(&unwrapped.starts);
        (!starts.any(|start| evaluates(&words[*start..]) || is_reserved(&words[*start]))).then_some(())?;
        for variable in &unwrapped.variables {
            self.variable_of_command(variable)?;
        }
        match unwrapped.end {
            End::Command | End::Unknown => self.commands.push(command),
            End::Line(line) => {
                let first = self.commands.len();
                self.line(line.as_ref()?)?;
                // The line's own commands are what is allowed; a rule that forbids the shell itself still holds.
                match self.commands.get_mut(first) {
                    Some(inner) => inner.take_forms(&command.forms),
                    None => self.commands.push(command),
                }
            }
        }
        unwrapped.beside.iter().try_for_each(|beside| match beside {
            Beside::Words(words) => self.beside(words),
            Beside::Line(line) => self.line(line.as_ref()?),
        })
    }

    fn beside(&mut self, words: &[Word]) -> Option<()> {
        // Each is shorter than what it stands in, but a stack is finite.
        (self.depth < NESTING && self.commands.len() < COMMANDS).then_some(())?;
        self.depth += 1;
        self.invocation(words)?;
        self.depth -= 1;
        Some(())
    }

    fn item(&mut self, item: &Item, words: &mut Vec<Word>) -> Option<()> {
        match item {
            Item::IoRedirect(redirect) => self.redirect(redirect)?,
            Item::Word(word) => words.push(self.word(&word.value)?),
            Item::AssignmentWord(assignment, _) => self.assignment(assignment, true)?,
            Item::ProcessSubstitution(_, group) => {
                self.list(&group.list)?;
                words.push(Word::unknown());
            }
        }
        Some(())
    }

    fn word(&mut self, text: &str) -> Option<Word> {
        let mut word = Word::read(text)?;
        for line in std::mem::take(&mut word.substituted) {
            self.line(&line)?;
        }
        Some(word)
    }

    fn assignment(&mut self, assignment: &Assignment, is_of_command: bool) -> Option<()> {
        // To a shell that does not know the others, they are commands.
        let (AssignmentName::VariableName(name), AssignmentValue::Scalar(word), false) =
            (&assignment.name, &assignment.value, assignment.append)
        else {
            return None;
        };
        let value = self.word(&word.value)?;
        let text = format!("{}={}", escaped(name), value.open);
        if is_of_command { self.variable_of_command(&text) } else { self.variable(&text) }
    }

    /// A variable that one command gets: most change what some command does.
    fn variable_of_command(&mut self, assignment: &str) -> Option<()> {
        (!is_evaluated(assignment)).then_some(())?;
        if !is_harmless(assignment) {
            self.commands.push(whole(assignment));
        }
        Some(())
    }

    /// A variable that is set for the rest, `NAME=value` as in a specifier: commands get it only if it was theirs before.
    fn variable(&mut self, assignment: &str) -> Option<()> {
        (!is_evaluated(assignment)).then_some(())?;
        if is_telling(assignment) {
            self.commands.push(whole(assignment));
        }
        Some(())
    }

    fn redirects(&mut self, redirects: Option<&RedirectList>) -> Option<()> {
        redirects.iter().flat_map(|list| &list.0).try_for_each(|redirect| self.redirect(redirect))
    }

    fn redirect(&mut self, redirect: &IoRedirect) -> Option<()> {
        match redirect {
            IoRedirect::File(_, kind, target) => self.redirect_file(kind, target),
            // A shell that does not know `&>` runs what stands before in the background, and empties the file; where a
            // document ends, and what follows on its line, is told in different ways.
            IoRedirect::OutputAndError(..) | IoRedirect::HereDocument(..) => None,
            // What a command reads may be what it does: an interpreter's program.
            IoRedirect::HereString(_, word) => {
                let word = self.word(&word.value)?;
                self.commands.push(whole(&format!("<<< {}", word.open)));
                Some(())
            }
        }
    }

    fn redirect_file(&mut self, kind: &IoFileRedirectKind, target: &IoFileRedirectTarget) -> Option<()> {
        let sign =
            if matches!(kind, IoFileRedirectKind::Read | IoFileRedirectKind::DuplicateInput) { '<' } else { '>' };
        match target {
            IoFileRedirectTarget::Filename(word) => self.file(sign, &word.value),
            IoFileRedirectTarget::Fd(_) => Some(()),
            IoFileRedirectTarget::ProcessSubstitution(_, group) => self.list(&group.list),
            IoFileRedirectTarget::Duplicate(word) => {
                let is_descriptor = word.value.trim_end_matches('-').bytes().all(|c| c.is_ascii_digit());
                if is_descriptor {
                    return Some(());
                }
                // The target is expanded twice, whatever quotes it has.
                (!word.value.contains(['$', '`', '\\'])).then_some(())?;
                self.file(sign, &word.value)
            }
        }
    }

    fn file(&mut self, sign: char, text: &str) -> Option<()> {
        let word = self.word(text)?;
        if matches!(word.known.as_deref(), Some("/dev/null" | "/dev/stdout" | "/dev/stderr")) {
            return Some(());
        }
        let mut command = whole(&format!("{sign} {}", word.written));
        let leads_anywhere = |flat: &str| ["/proc/", "/dev/fd/"].iter().any(|folder| flat.starts_with(folder));
        match word.known.as_deref().map(|path| path.starts_with('/').then(|| flat(path))) {
            // A relative name is what it is.
            Some(None) => {}
            // An absolute name is what it leads to; where a link leads nobody looks.
            Some(Some(flat)) if !leads_anywhere(&flat) => {
                let flat = format!("{sign} {}", escaped(&flat));
                command.allowable = vec![flat.clone()];
                command.take_forms(&[flat]);
            }
            // What is put in, or what a process has open or sees as its root, may be in any folder.
            _ => {
                let any = format!("{sign} *");
                command.allowable = vec![any.clone()];
                command.take_forms(&[format!("{sign} {}", word.open), any]);
            }
        }
        self.commands.push(command);
        Some(())
    }
}

/// What is told in one way only.
fn whole(text: &str) -> Command {
    Command { forms: vec![text.to_owned()], allowable: vec![text.to_owned()], spelled: None }
}

/// A command of these words, and what it runs in turn.
fn of_words(words: &[Word]) -> (Command, Unwrapped) {
    let written = |words: &[Word]| words.iter().map(|word| word.written.as_str()).collect::<Vec<_>>().join(" ");
    let open = |words: &[Word]| words.iter().map(|word| word.open.as_str()).collect::<Vec<_>>().join(" ");
    let mut command = Command { forms: vec![written(words)], allowable: vec![open(words)], spelled: None };
    command.take_forms(&[open(words)]);
    let unwrapped = wrapper::unwrapped(words);
    if wrapper::is_wrapper(words) {
        // Where the inner command begins may be told wrongly by an option that is not known: a rule that forbids it holds
        // wherever it stands.
        for start in 1..words.len() {
            command.take_forms(&[written(&words[start..]), open(&words[start..])]);
        }
    }
    // A rule that forbids `rm` holds for `/bin/rm`, too.
    for start in std::iter::once(&0).chain(&unwrapped.starts) {
        let first = &words[*start];
        let name = first.known.as_deref().and_then(|known| known.rsplit_once('/'));
        if let Some((_, name)) = name.filter(|(_, name)| !name.is_empty()) {
            let named = [&[Word::plain(name)], &words[start + 1..]].concat();
            command.take_forms(&[written(&named), open(&named)]);
        }
        // What is put into a path may be the command's name, or hold it.
        if first.known.is_none() && first.open.contains('/') {
            let named = [&[Word::unknown()], &words[start + 1..]].concat();
            command.take_forms(&[open(&named)]);
        }
        // One that forbids `git push` holds for `git -C . push`.
        if let Some(own) = own_command_of_git(&words[*start..]) {
            let plain = [&[Word::plain("git")], &words[start + own..]].concat();
            command.take_forms(&[written(&plain), open(&plain)]);
        }
    }
    // A rule that forbids something may hold for what cannot be told.
    if unwrapped.end == End::Unknown {
        command.take_forms(&["*".to_owned()]);
    }
    let end = if unwrapped.appended { " *" } else { "" };
    for start in &unwrapped.starts {
        command.take_forms(&[format!("{}{end}", open(&words[*start..]))]);
    }
    // What is allowed is what is run in the end; a rule for what runs it must name that, too.
    let named = match (&unwrapped.end, unwrapped.starts.last()) {
        (End::Unknown, _) => Some(words.len()),
        (End::Command, Some(last)) => Some(last + 1),
        _ => None,
    };
    if let Some(named) = named {
        command.spelled = Some((open(words), open(&words[..named]).len()));
        let inner = unwrapped.starts.last().filter(|_| unwrapped.end == End::Command);
        command.allowable = inner.map(|last| format!("{}{end}", open(&words[*last..]))).into_iter().collect();
    }
    (command, unwrapped)
}

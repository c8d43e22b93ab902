//! One thing that a call does, in the words that rules are matched with.

use crate::kernel::glob::Glob;

/// One thing that a call does, as rules see it.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// What deny and ask rules are matched with: every form that it could be told in.
    pub forms: Vec<Glob>,
    /// What allow rules are matched with; none when no rule of a scope can allow it.
    pub allowable: Vec<Glob>,
    /// What some programs take it for: a rule that allows it by its form must match each of these, too.
    pub readings: Vec<Glob>,
    /// The whole of a command that runs another, for allow rules that name the other as well.
    pub spelled: Option<Spelled>,
}

/// A form that only a rule allows which writes out its beginning: what a `*` stands for is never what is run.
#[derive(Clone, Debug)]
pub struct Spelled {
    /// The form.
    pub form: Glob,
    /// Bytes of it that stand before every `*` of such a rule.
    pub bytes: usize,
}

impl Part {
    /// Whether an allow rule with this pattern allows it.
    pub fn is_allowed_by(&self, pattern: &Glob) -> bool {
        self.allowable.iter().any(|form| pattern.includes(form))
            && self.readings.iter().all(|reading| pattern.includes(reading))
            || self.spelled.as_ref().is_some_and(|spelled| spelled.is_allowed_by(pattern))
    }

    /// The narrowest pattern of an allow rule for it; `None` when there is none.
    pub fn narrowest(&self) -> Option<&Glob> {
        let spelled = self.spelled.as_ref().map(|spelled| &spelled.form);
        spelled.filter(|form| self.is_allowed_by(form)).or_else(|| self.allowable.first())
    }
}

impl Spelled {
    fn is_allowed_by(&self, pattern: &Glob) -> bool {
        (pattern.is_plain() || pattern.head().len() >= self.bytes) && pattern.includes(&self.form)
    }
}

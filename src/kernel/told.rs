//! What is known of a value of a call: what it may be taken for, and whether it is that for sure.

/// What is known of a value.
pub struct Told {
    /// What it may be taken for, first what is shown; `None` is anything.
    pub readings: Vec<Option<String>>,
    /// Whether the first is what it is. The others are for deny and ask rules alone.
    pub surely: bool,
    /// What some programs take it for, though it is the first: an allow rule must match these, too.
    pub needed: Vec<String>,
}

impl Told {
    /// That text and nothing else.
    pub fn surely(text: String) -> Self {
        Self { readings: vec![Some(text)], surely: true, needed: Vec::new() }
    }

    /// Anything.
    pub fn unknown() -> Self {
        Self { readings: vec![None], surely: false, needed: Vec::new() }
    }

    /// The same, and perhaps this.
    #[must_use]
    pub fn also(mut self, reading: Option<String>) -> Self {
        let new = !self.readings.contains(&reading);
        self.readings.extend(new.then_some(reading));
        self
    }

    /// The same, but not for sure.
    #[must_use]
    pub fn perhaps(self) -> Self {
        Self { surely: false, ..self }
    }
}

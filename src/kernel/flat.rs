//! Paths as text, without a look at the disk.

/// An absolute path without `.`, `..` and empty steps; a slash at its end stays.
pub fn flat(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    let mut open = true;
    for step in path.split('/') {
        open = matches!(step, "" | "." | "..");
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            _ => steps.push(step),
        }
    }
    format!("/{}{}", steps.join("/"), if open && !steps.is_empty() { "/" } else { "" })
}

//! Tools by words: for hosts with so many that nobody reads the whole list.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::kernel::contribution::Tool;
use crate::kernel::registry::{Offered, Snapshot};

/// The tools that fit `text`, the best first and equally good ones by name.
///
/// Its words are looked for in names, groups and descriptions, in any case. Where some tools have all the words, only
/// those are given; else those that have the most. Without words all fit.
pub fn search<'a>(snapshot: &'a Snapshot, text: &str) -> Vec<&'a Arc<Offered<Tool>>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    if words.is_empty() {
        return snapshot.tools().collect();
    }
    let mut found: Vec<_> = snapshot.tools().map(|tool| (rate(tool, &words), tool)).collect();
    let most = found.iter().map(|((had, _), _)| *had).max().unwrap_or(0);
    found.retain(|((had, _), _)| *had > 0 && *had == most);
    // The sort is stable, and they came by name.
    found.sort_by_key(|((_, points), _)| Reverse(*points));
    found.into_iter().map(|(_, tool)| tool).collect()
}

/// How many of the words a tool has, and how good their places are.
fn rate(tool: &Tool, words: &[String]) -> (usize, u32) {
    let name = tool.name.as_str().to_lowercase();
    let group = tool.group.as_deref().unwrap_or_default().to_lowercase();
    let description = tool.description.to_lowercase();
    let points = words.iter().map(|word| best_place(word, &name, &group, &description));
    points.filter(|points| *points > 0).fold((0, 0), |(had, sum), points| (had + 1, sum + points))
}

/// The points of the best place in which a word stands; none when it stands nowhere.
fn best_place(word: &str, name: &str, group: &str, description: &str) -> u32 {
    let mut parts = name.split(['.', '_', '-']);
    let mut spoken = description.split(|letter: char| !letter.is_alphanumeric());
    match () {
        () if name == word => 32,
        () if parts.clone().any(|part| part == word) => 16,
        () if parts.any(|part| part.starts_with(word)) => 12,
        () if name.contains(word) => 8,
        () if group.contains(word) => 6,
        () if spoken.clone().any(|spoken| spoken == word) => 4,
        () if spoken.any(|spoken| spoken.starts_with(word)) => 2,
        () if description.contains(word) => 1,
        () => 0,
    }
}

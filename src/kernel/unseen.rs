//! Characters that a person does not see, or that make others be seen elsewhere: what is shown has them written out.

/// Whether a character cannot be seen, looks like a space without being one, or makes others be seen in another order.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        // Those without a glyph, the fillers of alphabets, the empty Braille cell, and what only chooses a variant.
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text in which such characters are written out: `\u{202e}`.
pub fn written_out(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unseen(character) {
            plain.extend(character.escape_unicode());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_written_out_and_what_everybody_sees_is_not() {
        for hidden in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{17b5}',
            '\u{180b}',
            '\u{180e}',
            '\u{180f}',
            '\u{2000}',
            '\u{200a}',
            '\u{200b}',
            '\u{2028}',
            '\u{202e}',
            '\u{202f}',
            '\u{205f}',
            '\u{2060}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{e0001}',
            '\u{e0100}',
            '\u{e01ef}',
        ] {
            assert!(is_unseen(hidden), "{}", hidden.escape_unicode());
        }
        for shown in [' ', 'a', 'é', '\u{301}', 'ㄱ', 'ᄀ', '中', '🙂', '⠁', '…', '%', '\u{fffd}'] {
            assert!(!is_unseen(shown), "{}", shown.escape_unicode());
        }
        assert_eq!(written_out("a b\u{202e}c\u{3164}"), "a b\\u{202e}c\\u{3164}");
    }
}
